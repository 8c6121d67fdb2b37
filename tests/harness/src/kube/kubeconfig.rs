//! Kubeconfigs, written as `kubectl config` writes them.

use std::fmt::Write as _;

use crate::base64;

/// What one says.
#[derive(Debug, Clone, Default)]
pub(super) struct Kubeconfig<'a> {
    pub(super) server: String,
    pub(super) server_name: Option<&'a str>,
    pub(super) ca: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) token_file: Option<&'a str>,
    pub(super) certificate: Option<(&'a str, &'a str)>,
}

impl Kubeconfig<'_> {
    pub(super) fn to_text(&self) -> String {
        let mut text = "apiVersion: v1\nclusters:\n- cluster:\n".to_owned();
        let mut line = |indent: &str, key: &str, value: &str| {
            let _ = writeln!(text, "{indent}{key}: {value}");
        };
        if let Some(ca) = self.ca {
            line(
                "    ",
                "certificate-authority-data",
                &base64::encode(ca.as_bytes()),
            );
        }
        line("    ", "server", &self.server);
        if let Some(name) = self.server_name {
            line("    ", "tls-server-name", name);
        }
        text.push_str(
            "  name: test\ncontexts:\n- context:\n    cluster: test\n    user: test\n  name: test\ncurrent-context: test\n\
             kind: Config\npreferences: {}\nusers:\n- name: test\n  user:\n",
        );
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(text, "    {key}: {value}");
        };
        if let Some((certificate, key)) = self.certificate {
            line(
                "client-certificate-data",
                &base64::encode(certificate.as_bytes()),
            );
            line("client-key-data", &base64::encode(key.as_bytes()));
        }
        if let Some(token) = self.token {
            line("token", token);
        }
        if let Some(path) = self.token_file {
            line("tokenFile", path);
        }
        text
    }
}
