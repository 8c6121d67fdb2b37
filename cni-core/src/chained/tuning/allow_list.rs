//! The administrator's list of kernel parameters that configurations may set.

use std::io;
use std::path::Path;

use regex_lite::Regex;

use crate::error::{Error, ErrorKind, Result};

use super::config::Parameter;
use super::parameter::dotted;

/// Where the reference has it.
pub const ALLOW_LIST: &str = "/etc/cni/tuning/allowlist.conf";

/// Regular expressions, one a line, of which one must match a key for it to be set. A match anywhere in the key is a match,
/// so that a list says `^` and `$` where it means them.
#[derive(Debug, Clone)]
pub struct AllowList {
    patterns: Vec<Regex>,
}

impl AllowList {
    /// Reads the list; `None` when there is none, and then everything is allowed.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::InvalidConfig`] when a line is no regular expression: a list that
    /// is not understood allows nothing.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let message = format!(
                    "could not read the list of allowed sysctls {}",
                    path.display()
                );
                return Err(Error::new(ErrorKind::Io, message).with_source(error));
            }
        };
        let lines = text.lines().map(str::trim).enumerate();
        let patterns = lines
            .filter(|(_, line)| !line.is_empty())
            .map(|(index, line)| {
                Regex::new(line).map_err(|error| {
                    let message = format!(
                        "line {} of {} is no regular expression: {line}",
                        index + 1,
                        path.display()
                    );
                    Error::new(ErrorKind::InvalidConfig, message).with_source(error)
                })
            });
        Ok(Some(Self {
            patterns: patterns.collect::<Result<_>>()?,
        }))
    }

    /// Whether a key may be set, as the configuration writes it or as sysctl(8) would print it.
    pub fn allows(&self, key: &str) -> bool {
        let forms = [Some(key.to_owned()), dotted(key)];
        forms
            .iter()
            .flatten()
            .any(|form| self.patterns.iter().any(|pattern| pattern.is_match(form)))
    }

    /// # Errors
    /// [`ErrorKind::InvalidConfig`], naming all that are not allowed and what is.
    pub fn require(&self, parameters: &[Parameter]) -> Result<()> {
        let refused: Vec<&str> = parameters
            .iter()
            .map(|parameter| parameter.key.as_str())
            .filter(|key| !self.allows(key))
            .collect();
        if refused.is_empty() {
            return Ok(());
        }
        let allowed: Vec<&str> = self.patterns.iter().map(Regex::as_str).collect();
        let message = format!(
            "the administrator of this node does not allow to set {}: allowed is what matches {}",
            refused.join(", "),
            allowed.join(" or ")
        );
        Err(Error::new(ErrorKind::InvalidConfig, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Option<AllowList>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("allowlist.conf");
        std::fs::write(&path, text).unwrap();
        AllowList::read(&path)
    }

    #[test]
    fn a_key_is_allowed_in_every_spelling_when_a_line_matches_it() {
        let list = list("\n  ^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$ \r\n^net.core")
            .unwrap()
            .unwrap();
        for key in [
            "net.ipv4.conf.IFNAME.arp_filter",
            "net/ipv4/conf/IFNAME/arp_filter",
            "net.core.somaxconn",
        ] {
            assert!(list.allows(key), "{key}");
        }
        for key in [
            "net.ipv4.conf.all.arp_filter",
            "net.ipv4.ip_forward",
            "anet.core.x",
        ] {
            assert!(!list.allows(key), "{key}");
        }
    }

    #[test]
    fn an_empty_list_allows_nothing_and_a_missing_one_everything() {
        assert!(!list("").unwrap().unwrap().allows("net.core.somaxconn"));
        assert!(
            AllowList::read(Path::new("/nonexistent/list"))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_line_that_is_no_expression_is_an_error_that_names_it() {
        let error = list("^net\n(").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
