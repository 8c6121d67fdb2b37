//! How the API server is reached, and who this node says it is: from a kubeconfig, or from a pod's service account. Both are read
//! anew with each connection, so that what has been renewed counts; no text of theirs is ever told.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::yaml;
use crate::remote::body::secret;
use crate::remote::tls::Pem;

/// Where a pod finds what its service account is given.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The largest kubeconfig that is read: one of a hundred clusters has half of it.
const MOST_BYTES: u64 = 1 << 20;

/// Where it is said how the server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file or the directory.
    pub place: Place,
    /// The server's address, instead of the one that is said there.
    pub server: Option<ServerUrl>,
}

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A kubeconfig.
    Kubeconfig(PathBuf),
    /// A pod's service account.
    Account {
        /// The directory with `token` and `ca.crt`.
        directory: PathBuf,
        /// What a pod's environment says of the server.
        server: Option<ServerUrl>,
    },
}

/// An API server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What its paths begin with: empty, or a path without a slash at its end.
    pub path: String,
}

/// How the server is reached, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The server.
    pub server: ServerUrl,
    /// The name that its certificate bears; `None`: `server.host`.
    pub name: Option<String>,
    /// Who may have signed it.
    pub roots: Option<Pem>,
    /// This node's certificate and its key.
    pub identity: Option<(Pem, Pem)>,
    /// This node's token.
    pub token: Option<Token>,
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// Itself.
    Text(Arc<str>),
    /// A file that holds it, and that somebody else keeps fresh.
    File(PathBuf),
}

impl Place {
    /// A pod's service account; the arguments are `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT` of the environment.
    pub fn account(host: Option<String>, port: Option<String>) -> Self {
        let port = port.map_or(Some(443), |port| port.parse().ok());
        let server = host.zip(port).map(|(host, port)| ServerUrl {
            tls: true,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            path: String::new(),
        });
        Self::Account {
            directory: ACCOUNT.into(),
            server,
        }
    }
}

impl Origin {
    /// Reads what is there now.
    ///
    /// # Errors
    /// A sentence that says what is missing or not understood, and what to do; with no secret in it.
    pub fn read(&self) -> Result<Access, String> {
        let mut access = match &self.place {
            Place::Kubeconfig(path) => kubeconfig(path, self.server.as_ref())
                .map_err(|error| format!("{}: {error}", path.display()))?,
            Place::Account { directory, server } => {
                account(directory, self.server.as_ref().or(server.as_ref()))?
            }
        };
        if let Some(server) = &self.server {
            access.server = server.clone();
        }
        let secret = access.token.is_some() || access.identity.is_some();
        if secret && !access.server.tls {
            return Err(format!(
                "{} is not https, and this node's token or certificate would be sent to whoever listens on the way",
                access.server
            ));
        }
        if access.server.tls && access.roots.is_none() {
            return Err("it is not said who may have signed the server's certificate: name `certificate-authority`, which can be \
                        what the host trusts for the web, /etc/ssl/certs/ca-certificates.crt"
                .to_owned());
        }
        Ok(access)
    }
}

impl Access {
    /// The token as it is now.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(super) fn token(&self) -> crate::remote::Result<Option<Arc<str>>> {
        match &self.token {
            None => Ok(None),
            Some(Token::Text(text)) => Ok(Some(Arc::clone(text))),
            Some(Token::File(path)) => Ok(Some(secret(path)?.into())),
        }
    }
}

fn account(directory: &Path, server: Option<&ServerUrl>) -> Result<Access, String> {
    let server = server.ok_or(
        "nothing says where the API server is: this is no pod of Kubernetes (KUBERNETES_SERVICE_HOST is not set), so \
         `cluster.kubernetes.kubeconfig` has to name a kubeconfig",
    )?;
    Ok(Access {
        server: server.clone(),
        name: None,
        roots: Some(Pem::File(directory.join("ca.crt"))),
        identity: None,
        token: Some(Token::File(directory.join("token"))),
    })
}

/// A kubeconfig, as far as it is understood.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    current_context: String,
    clusters: Vec<Named>,
    contexts: Vec<Named>,
    users: Vec<Named>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    cluster: serde_json::Value,
    context: serde_json::Value,
    user: serde_json::Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    proxy_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    username: Option<serde::de::IgnoredAny>,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
    #[serde(rename = "as")]
    other: Option<serde::de::IgnoredAny>,
}

fn kubeconfig(path: &Path, server: Option<&ServerUrl>) -> Result<Access, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MOST_BYTES {
        return Err(format!(
            "it has {length} bytes, and at most {MOST_BYTES} are read"
        ));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let base = path.parent().unwrap_or(Path::new("/"));
    understood(&text, base, server)
}

/// What a kubeconfig's text says; its relative paths begin at `base`.
fn understood(text: &str, base: &Path, server: Option<&ServerUrl>) -> Result<Access, String> {
    let file: File = typed(yaml::parse(text)?, "the file")?;
    if file.current_context.is_empty() {
        return Err("`current-context` is missing or empty".to_owned());
    }
    let context = find(&file.contexts, &file.current_context, "context")?;
    let context: Context = typed(context.context.clone(), "the context")?;
    let cluster = find(&file.clusters, &context.cluster, "cluster")?;
    let cluster: Cluster = typed(cluster.cluster.clone(), "the cluster")?;
    let mut user: User = match context.user.is_empty() {
        true => User::default(),
        false => typed(
            find(&file.users, &context.user, "user")?.user.clone(),
            "the user",
        )?,
    };
    supported(&cluster, &user)?;
    let url = match server {
        Some(server) => server.clone(),
        // Not quoted: some write a password into it.
        None => cluster.server.parse().map_err(|()| {
            "the cluster's `server` must be https://HOST[:PORT], without a user".to_owned()
        })?,
    };
    let roots = pem(
        base,
        cluster.certificate_authority,
        cluster.certificate_authority_data,
        "certificate-authority-data",
    )?;
    let token = token(base, user.token_file.take(), user.token.take());
    let identity = identity(base, user)?;
    Ok(Access {
        server: url,
        name: cluster.tls_server_name,
        roots,
        identity,
        token,
    })
}

/// The user's certificate and key.
fn identity(base: &Path, user: User) -> Result<Option<(Pem, Pem)>, String> {
    let certificate = pem(
        base,
        user.client_certificate,
        user.client_certificate_data,
        "client-certificate-data",
    )?;
    let key = pem(
        base,
        user.client_key,
        user.client_key_data,
        "client-key-data",
    )?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err("`client-key` is missing beside `client-certificate`".to_owned()),
        (None, Some(_)) => Err("`client-certificate` is missing beside `client-key`".to_owned()),
    }
}

/// As kubectl: the file, where there is one.
fn token(base: &Path, file: Option<PathBuf>, text: Option<String>) -> Option<Token> {
    let file = file.filter(|file| !file.as_os_str().is_empty());
    let text = text.filter(|text| !text.is_empty());
    let file = file.map(|file| Token::File(base.join(file)));
    file.or_else(|| text.map(|text| Token::Text(text.into())))
}

/// What a kubeconfig may say that is not done here.
fn supported(cluster: &Cluster, user: &User) -> Result<(), String> {
    let refused = |what: &str, instead: &str| Err(format!("{what}: {instead}"));
    if cluster.insecure_skip_tls_verify == Some(true) {
        let instead =
            "whoever is on the way could move any node's traffic; name `certificate-authority`";
        return refused("`insecure-skip-tls-verify` is not done", instead);
    }
    if cluster.proxy_url.is_some() {
        return refused(
            "`proxy-url` is not done",
            "name a server that is reached without",
        );
    }
    let instead = "use `token`, `tokenFile` or `client-certificate` with `client-key`, as those of a service account";
    if user.exec.is_some() {
        return refused(
            "`exec` is not done, as an agent runs no programs for credentials",
            instead,
        );
    }
    if user.auth_provider.is_some() {
        return refused("`auth-provider` is not done", instead);
    }
    if user.username.is_some() {
        return refused(
            "`username` is not done, as no server takes it since 1.19",
            instead,
        );
    }
    if user.other.is_some() {
        return refused("`as` is not done", "name the user who has the rights");
    }
    Ok(())
}

fn find<'a>(all: &'a [Named], name: &str, kind: &str) -> Result<&'a Named, String> {
    let found = all.iter().find(|entry| entry.name == name);
    found.ok_or_else(|| format!("there is no {kind} {name:?}"))
}

/// What the types are not met by is told without a word of it.
fn typed<T: DeserializeOwned + Default>(value: serde_json::Value, what: &str) -> Result<T, String> {
    let read: Result<Option<T>, _> = serde_json::from_value(value);
    let read =
        read.map_err(|_| format!("{what} has a member of another type than a kubeconfig's"))?;
    Ok(read.unwrap_or_default())
}

/// The data, where there is some, else the file.
fn pem(
    base: &Path,
    file: Option<PathBuf>,
    data: Option<String>,
    name: &'static str,
) -> Result<Option<Pem>, String> {
    match (data.filter(|data| !data.is_empty()), file) {
        (Some(data), _) => {
            let bytes = STANDARD.decode(data.trim());
            let bytes = bytes.map_err(|_| format!("`{name}` is not base64"))?;
            Ok(Some(Pem::Text {
                name,
                bytes: bytes.into(),
            }))
        }
        (None, file) => Ok(file.map(|file| Pem::File(base.join(file)))),
    }
}

impl FromStr for ServerUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => {
                let (host, port) = inner.split_once(']').ok_or(())?;
                (host, port.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        let path = path.trim_end_matches('/');
        let clean = |c: char| c.is_ascii_alphanumeric() || "/.-_~%:".contains(c);
        if host.is_empty() || !host.chars().all(plain) || !path.chars().all(clean) {
            return Err(());
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| ())?,
            None if tls => 443,
            None => 80,
        };
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let Self {
            host, port, path, ..
        } = self;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}{path}"),
            false => write!(f, "{scheme}://{host}:{port}{path}"),
        }
    }
}

impl fmt::Debug for Token {
    /// Not the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
