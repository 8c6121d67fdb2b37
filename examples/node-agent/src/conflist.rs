//! The container runtime is told of the network when pods can be attached to it, not before: a runtime takes a node for ready
//! as soon as there is a configuration.

use std::fs;
use std::io;
use std::path::PathBuf;

use cni_core::runtime::NetworkList;
use cni_core::spec::NetworkName;
use cni_core::{Error, ErrorKind, Result};

use crate::durable;

/// Runtimes read it as root, and it says where secrets are.
const MODE: u32 = 0o600;

/// The network's configuration, for the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflist {
    /// Where the runtime looks for it, such as `/etc/cni/net.d/10-pods.conflist`.
    pub path: PathBuf,
    /// The network.
    pub network: NetworkName,
    /// The configuration, as the agent has read it.
    pub text: String,
}

impl Conflist {
    /// Puts it in place as a whole, unless it is there; the value tells whether it was written.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be written.
    pub fn publish(&self) -> Result<bool> {
        if fs::read(&self.path).is_ok_and(|old| old == self.text.as_bytes()) {
            return Ok(false);
        }
        durable::put(&self.path, self.text.as_bytes(), MODE)
            .map_err(|error| self.failed("write", error))?;
        tracing::info!(file = %self.path.display(), "the runtime may attach pods to the network");
        Ok(true)
    }

    /// Removes it; the value tells whether it was there.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when the file is not this network's: it stays. [`ErrorKind::Io`] when it cannot be removed.
    pub fn withdraw(&self) -> Result<bool> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.failed("read", error)),
            Ok(text) if self.is_ours(&text) => {}
            Ok(_) => {
                let message = format!(
                    "{} is not a configuration of network `{}`: it was left as it is; remove it if it is not wanted",
                    self.path.display(),
                    self.network
                );
                return Err(Error::new(ErrorKind::InvalidConfig, message));
            }
        }
        durable::remove(&self.path).map_err(|error| self.failed("remove", error))
    }

    fn is_ours(&self, text: &str) -> bool {
        let list = NetworkList::parse(text).or_else(|_| NetworkList::parse_single(text));
        list.is_ok_and(|list| list.name == self.network)
    }

    fn failed(&self, verb: &str, error: io::Error) -> Error {
        Error::new(
            ErrorKind::Io,
            format!("could not {verb} {}", self.path.display()),
        )
        .with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn it_is_written_when_it_says_something_else_and_only_ours_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let text = r#"{"cniVersion":"1.1.0","name":"pods","plugins":[{"type":"vxlan"}]}"#;
        let mut conflist = Conflist {
            path: directory.path().join("10-pods.conflist"),
            network: "pods".parse().unwrap(),
            text: text.to_owned(),
        };
        let inode = || {
            fs::metadata(directory.path().join("10-pods.conflist"))
                .unwrap()
                .ino()
        };
        assert!(!conflist.withdraw().unwrap());
        assert!(conflist.publish().unwrap());
        let first = inode();
        assert!(!conflist.publish().unwrap());
        assert_eq!(inode(), first);
        conflist.text = text.replace("vxlan", "host-gw");
        assert!(conflist.publish().unwrap());
        assert!(conflist.withdraw().unwrap());
        for other in [&text.replace("pods", "others"), "{", ""] {
            fs::write(&conflist.path, other).unwrap();
            let error = conflist.withdraw().unwrap_err();
            assert!(error.to_string().contains("left as it is"), "{error}");
            assert_eq!(&fs::read_to_string(&conflist.path).unwrap(), other);
        }
    }

    #[test]
    fn a_directory_that_is_missing_is_told_and_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let conflist = Conflist {
            path: directory.path().join("net.d/10-pods.conflist"),
            network: "pods".parse().unwrap(),
            text: String::new(),
        };
        let error = conflist.publish().unwrap_err();
        assert!(error.chain().contains("net.d/10-pods.conflist"), "{error}");
        assert!(!conflist.withdraw().unwrap());
    }
}
