//! Kernel parameters below `/proc/sys/net`.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;

/// Kernel parameters of one network namespace.
///
/// Keys are paths below `/proc/sys`, with slashes, because interface names may hold dots: `net/ipv4/ip_forward`.
#[async_trait]
pub trait Sysctl: Send + Sync + fmt::Debug {
    /// The value without its final newline; `None` when the kernel has no such parameter.
    async fn read(&self, key: &str) -> Result<Option<String>>;

    /// Writes the value. A missing parameter is an error of kind [`ErrorKind::Io`](crate::ErrorKind::Io).
    async fn write(&self, key: &str, value: &str) -> Result<()>;
}

#[cfg(feature = "kernel")]
pub use kernel::KernelSysctl;
#[cfg(feature = "kernel")]
pub(crate) use kernel::{read_file, write_file};

#[cfg(feature = "kernel")]
mod kernel {
    use std::io;
    use std::path::{Path, PathBuf};

    use async_trait::async_trait;

    use super::Sysctl;
    use crate::error::{Error, ErrorKind, Result};

    /// Where the kernel shows its parameters.
    const ROOT: &str = "/proc/sys";

    /// Kernel parameters of the network namespace of whichever thread calls: the host's.
    #[derive(Debug)]
    pub struct KernelSysctl {
        root: PathBuf,
    }

    impl KernelSysctl {
        /// The calling thread's kernel parameters, as `/proc/sys` shows them.
        pub fn new() -> Self {
            Self::at(ROOT)
        }

        /// The same, by another mount of that directory, of which `net` is all that is needed: container runtimes mount
        /// `/proc/sys` itself read-only. Whatever it was mounted from, it shows the namespace of the thread that looks.
        pub fn at(root: impl Into<PathBuf>) -> Self {
            Self { root: root.into() }
        }
    }

    impl Default for KernelSysctl {
        fn default() -> Self {
            Self::new()
        }
    }

    #[async_trait]
    impl Sysctl for KernelSysctl {
        async fn read(&self, key: &str) -> Result<Option<String>> {
            read_below(&self.root, key)
        }

        async fn write(&self, key: &str, value: &str) -> Result<()> {
            write_below(&self.root, key, value)
        }
    }

    /// The file of a parameter. Keys may stem from a configuration, so that they are held below `net`.
    fn path(root: &Path, key: &str) -> Result<PathBuf> {
        let mut parts = key.split('/');
        let is_below_net = parts.next() == Some("net");
        let mut count = 0;
        let is_plain = parts.all(|part| {
            count += 1;
            !part.is_empty() && part != "." && part != ".." && !part.contains('\0')
        });
        if is_below_net && is_plain && count > 0 {
            Ok(root.join(key))
        } else {
            Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "kernel parameter {key:?} must be a path below net, such as net/ipv4/ip_forward, without empty, \
                     '.' and '..' parts"
                ),
            ))
        }
    }

    /// Reads a parameter of the calling thread's namespace.
    pub(crate) fn read_file(key: &str) -> Result<Option<String>> {
        read_below(Path::new(ROOT), key)
    }

    /// Writes a parameter of the calling thread's namespace.
    pub(crate) fn write_file(key: &str, value: &str) -> Result<()> {
        write_below(Path::new(ROOT), key, value)
    }

    fn read_below(root: &Path, key: &str) -> Result<Option<String>> {
        match std::fs::read_to_string(path(root, key)?) {
            Ok(mut text) => {
                if text.ends_with('\n') {
                    text.pop();
                }
                Ok(Some(text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new(
                ErrorKind::Io,
                format!("could not read kernel parameter {key}"),
            )
            .with_source(error)),
        }
    }

    fn write_below(root: &Path, key: &str, value: &str) -> Result<()> {
        // Never creates: /proc would refuse, and a mount in its place must not be filled with files.
        let outcome = std::fs::OpenOptions::new()
            .write(true)
            .open(path(root, key)?)
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
        outcome.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => ": the kernel has no such parameter",
                io::ErrorKind::ReadOnlyFilesystem => ": the directory is mounted read-only",
                _ => "",
            };
            Error::new(
                ErrorKind::Io,
                format!("could not set kernel parameter {key} to {value:?}{hint}"),
            )
            .with_source(error)
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn keys_outside_net_are_refused_by_name() {
            for key in [
                "kernel/hostname",
                "net",
                "net/",
                "net//ipv4",
                "net/../kernel/hostname",
                "/net/ipv4/ip_forward",
                "net/ipv4/./ip_forward",
                "net/ipv4/ip_forward\0",
                "network/x",
                "",
            ] {
                let error = read_file(key).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{key:?}");
                assert!(error.to_string().contains(&format!("{key:?}")), "{error}");
                assert!(write_file(key, "1").is_err(), "{key:?}");
            }
        }

        #[tokio::test]
        async fn parameters_are_found_below_another_mount_of_the_directory() {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("net/ipv4/ip_forward");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "0\n").unwrap();
            let sysctl = KernelSysctl::at(directory.path());
            let key = "net/ipv4/ip_forward";
            assert_eq!(sysctl.read(key).await.unwrap().unwrap(), "0");
            sysctl.write(key, "1").await.unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "1\n");
            assert_eq!(sysctl.read("net/ipv4/other").await.unwrap(), None);
            assert!(sysctl.read("kernel/hostname").await.is_err());
        }

        #[test]
        fn a_parameter_is_read_without_its_newline() {
            let value = read_file("net/ipv4/ip_forward").unwrap().unwrap();
            assert!(value == "0" || value == "1", "{value:?}");
        }

        #[test]
        fn a_missing_parameter_reads_as_none_and_cannot_be_written() {
            let key = "net/ipv4/conf/no-such.link/arp_notify";
            assert_eq!(read_file(key).unwrap(), None);
            let error = write_file(key, "1").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(
                error.to_string().contains(key) && error.to_string().contains("\"1\""),
                "{error}"
            );
        }
    }
}
