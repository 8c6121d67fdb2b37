//! A node of a cluster on the fake kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;

use crate::backend::{AddRequest, Context, DelRequest, NetworkBackend};
use crate::cancel::Cancel;
use crate::cluster::file::fingerprint;
use crate::fabric::tables;
use crate::host::Host;
use crate::host::firewall::Table;
use crate::host::netlink::{Address, NetlinkChange, NetlinkExt, NewLink, NewLinkKind};
use crate::node::NodeBackend;
use crate::spec::Attachment;
use crate::spec::config::{CniArgs, NetworkConfig};

use super::{Drift, FakeIpam, FakeKernel, Fixture, Node, Pods};

/// A [`Fixture`] for a [`NodeBackend`]: the [`FakeKernel`] with an uplink, as node `n1` of a cluster of three, which is connected
/// already. What an ADD does for the node stays when the ADD fails, so that the contract is about what it does for the pod.
#[derive(Debug)]
pub struct ClusterFixture {
    directory: PathBuf,
    backend: NodeBackend,
    configs: Vec<NetworkConfig>,
    drifts: Vec<Drift>,
}

/// The network's name.
const NETWORK: &str = "n";

/// Of [`FakeIpam`]'s usual subnets; nodes are in one segment, and the last one has no IPv6 underlay address.
const CLUSTER: &str = r#"{"nodes": [
{"name": "n1", "podPrefixes": ["10.244.0.0/24", "fd00:244::/64"], "addresses": ["192.0.2.1", "2001:db8::1"]},
{"name": "n2", "podPrefixes": ["10.244.2.0/24", "fd00:244:2::/64"], "addresses": ["192.0.2.2", "2001:db8::2"]},
{"name": "n3", "podPrefixes": ["10.244.3.0/24"], "addresses": ["192.0.2.3"]}
]}"#;

impl ClusterFixture {
    /// A backend with configurations of this type, each with these further members (`,"key":value`). Files are kept in the
    /// directory, which is the fixture's own.
    pub fn new(directory: &Path, backend: NodeBackend, kind: &str, configs: &[&str]) -> Self {
        let file = directory.join("cluster.json");
        fs::write(&file, CLUSTER).unwrap();
        // A file that has just been written would be read by every ADD.
        while !fingerprint(&file).unwrap().is_settled() {
            thread::sleep(Duration::from_millis(5));
        }
        let config = |more: &&str| {
            let text = format!(
                r#"{{"cniVersion":"1.1.0","name":"{NETWORK}","type":"{kind}","cluster":{{"file":{file:?},"node":"n1"}},"stateDir":{directory:?},"ipam":{{"type":"host-local"}}{more}}}"#,
            );
            NetworkConfig::parse(text.as_bytes()).unwrap()
        };
        Self {
            directory: directory.to_owned(),
            backend,
            configs: configs.iter().map(config).collect(),
            drifts: Vec::new(),
        }
    }

    /// A change that CHECK must notice.
    #[must_use]
    pub fn with_drift(mut self, drift: Drift) -> Self {
        self.drifts.push(drift);
        self
    }

    /// A kernel with an uplink, which no plugin has been on.
    pub async fn kernel() -> FakeKernel {
        let kernel = FakeKernel::new();
        let host = kernel.host();
        let mut uplink = NewLink::new("eth0", NewLinkKind::Dummy);
        uplink.up = true;
        let address =
            |text: &str| NetlinkChange::AddressAdd(Address::new("eth0", text.parse().unwrap()));
        for change in [
            NetlinkChange::LinkAdd(uplink),
            address("192.0.2.1/24"),
            address("2001:db8::1/64"),
        ] {
            host.netlink.apply_one(change).await.unwrap();
        }
        kernel
    }

    /// A pod comes and goes; the node's part stays.
    async fn connect(&self, host: &Host, ipam: &FakeIpam, pods: &FakeKernel) {
        let cx = Context {
            host,
            ipam,
            cancel: &Cancel::new(),
            dry_run: false,
        };
        let sandbox = pods.create("before").await;
        let attachment = Attachment {
            network: NETWORK.parse().unwrap(),
            container: "before".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        };
        let args = CniArgs::default();
        for config in self.configs.iter().take(1) {
            let request = AddRequest {
                attachment: &attachment,
                sandbox: &sandbox,
                config,
                args: &args,
                prev_result: None,
            };
            let added = self.backend.add(&cx, &request).await;
            if let Err(error) = added {
                panic!("the node cannot be connected: {}", error.chain());
            }
            let request = DelRequest {
                attachment: &attachment,
                netns: None,
                config,
                args: &args,
                prev_result: None,
            };
            self.backend.del(&cx, &request).await.unwrap();
        }
        pods.remove(&sandbox.path).await;
    }
}

#[async_trait]
impl Fixture for ClusterFixture {
    fn backend(&self) -> &dyn NetworkBackend {
        &self.backend
    }

    fn configs(&self) -> Vec<NetworkConfig> {
        self.configs.clone()
    }

    async fn node(&self) -> Node {
        // What was written of another node's kernel.
        for entry in fs::read_dir(&self.directory).unwrap().flatten() {
            if entry.path().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        let kernel = Self::kernel().await;
        let host = kernel.host();
        let subnets = ["10.244.0.0/24", "fd00:244::/64"];
        let ipam = FakeIpam::new(subnets.map(|subnet| subnet.parse().unwrap()));
        self.connect(&host, &ipam, &kernel).await;
        Node {
            host,
            ipam: Arc::new(ipam),
            pods: Arc::new(kernel),
        }
    }

    fn tables(&self) -> Vec<Table> {
        vec![tables::table(&NETWORK.parse().unwrap())]
    }

    fn drifts(&self) -> &[Drift] {
        &self.drifts
    }
}
