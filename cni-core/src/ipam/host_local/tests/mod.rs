mod records;
mod rules;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::ipam::{ADDRESS_TAKEN, ALREADY_HELD, EXHAUSTED};

const SMALL: &str = r#""ranges":[[{"subnet":"10.1.0.0/29"}],[{"subnet":"fd00::/120"}]]"#;

/// A store in a directory of its own.
struct Node {
    dir: TempDir,
    ipam: String,
    rest: String,
    args: String,
    version: &'static str,
}

impl Node {
    fn new(ipam: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            ipam: ipam.to_owned(),
            rest: String::new(),
            args: String::new(),
            version: "1.1.0",
        }
    }

    fn config(&self) -> NetworkConfig {
        let json = format!(
            r#"{{"cniVersion":"{}","name":"net","type":"t",{}"ipam":{{"type":"host-local","dataDir":"{}",{}}}}}"#,
            self.version,
            self.rest,
            self.dir.path().display(),
            self.ipam
        );
        NetworkConfig::parse(json.as_bytes()).unwrap()
    }

    fn with<T>(&self, name: &str, ask: impl FnOnce(&IpamRequest<'_>) -> T) -> T {
        let (container, interface) = name.split_once('/').unwrap_or((name, "eth0"));
        let attachment = attachment(container, interface);
        ask(&IpamRequest {
            attachment: &attachment,
            netns: None,
            config: &self.config(),
            args: &CniArgs::parse(&self.args).unwrap(),
            cancel: &Cancel::new(),
        })
    }

    fn try_add(&self, name: &str) -> Result<Vec<String>> {
        let result = self.with(name, |request| now(HostLocal::new().allocate(request)))?;
        Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
    }

    fn add(&self, name: &str) -> Vec<String> {
        self.try_add(name).unwrap()
    }

    fn add_first(&self, name: &str) -> String {
        self.add(name).remove(0)
    }

    fn del(&self, name: &str) {
        self.with(name, |request| now(HostLocal::new().release(request)))
            .unwrap();
    }

    fn held(&self, name: &str) -> Vec<String> {
        let held = self
            .with(name, |request| now(HostLocal::new().held(request)))
            .unwrap();
        held.unwrap().iter().map(IpNetwork::to_string).collect()
    }

    fn check(&self, name: &str) -> Result<()> {
        self.with(name, |request| now(HostLocal::new().check(request)))
    }

    fn preview(&self, name: &str) -> Result<Vec<String>> {
        let result = self
            .with(name, |request| now(HostLocal::new().preview(request)))?
            .unwrap();
        Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
    }

    fn gc(&self, valid: &[&str]) {
        let pairs = valid.iter().map(|name| {
            let (container, interface) = name.split_once('/').unwrap_or((name, "eth0"));
            (container.parse().unwrap(), interface.parse().unwrap())
        });
        let valid = ValidAttachments::new(pairs);
        let network = "net".parse().unwrap();
        now(HostLocal::new().gc(&network, &self.config(), &valid)).unwrap();
    }

    fn status(&self) -> Result<()> {
        now(HostLocal::new().status(&"net".parse().unwrap(), &self.config()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("net").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path("")).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    /// The record files, sorted.
    fn records(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(""))
            .map(|entries| {
                entries
                    .map(|e| e.unwrap().file_name().into_string().unwrap())
                    .collect()
            })
            .unwrap_or_default();
        names.retain(|name| name.parse::<IpAddr>().is_ok());
        names.sort();
        names
    }
}

fn attachment(container: &str, interface: &str) -> Attachment {
    Attachment {
        network: "net".parse().unwrap(),
        container: container.parse().unwrap(),
        interface: interface.parse().unwrap(),
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn kind(node: &Node, name: &str) -> ErrorKind {
    node.try_add(name).unwrap_err().kind()
}
