//! The contract of every backend, on a node of a cluster on the fake kernel; and the drifts that CHECK sees.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use backend_bridge::Bridge;
use backend_host_gw::HostGw;
use cni_core::fabric::tables;
use cni_core::host::firewall::FirewallChange;
use cni_core::host::netlink::{LinkSettings, NetlinkChange};
use cni_core::node::NodeBackend;
use cni_core::plan::{Change, Place};
use cni_core::testing::conformance::{self, ClusterFixture, Drift};

fn fixture(directory: &Path, configs: &[&str]) -> ClusterFixture {
    let backend = NodeBackend::new(HostGw).with("bridge", Bridge);
    ClusterFixture::new(directory, backend, "host-gw", configs)
}

#[tokio::test]
async fn a_node_with_plain_routes_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let inline = r#","nextHopObjects":false,"masquerade":false"#;
    conformance::backend(&fixture(directory.path(), &[""])).await;
    conformance::backend(&fixture(directory.path(), &[inline])).await;
}

#[tokio::test]
async fn check_names_every_drift_in_the_nodes_part_and_the_peers_it_concerns() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = fixture(directory.path(), &[""])
        .with_drift(Drift::new(&["node n1", "n2", "n3"], |_, _| {
            // The kernel takes next hops and routes along, and does not bring them back.
            let flap = [false, true].map(|up| {
                let mut settings = LinkSettings::default();
                settings.up = Some(up);
                let link = "eth0".to_owned();
                (
                    Place::Host,
                    NetlinkChange::LinkSet { link, settings }.into(),
                )
            });
            flap.into()
        }))
        .with_drift(Drift::new(&["cni_fabric"], |attachment, _| {
            let table = FirewallChange::TableDel(tables::table(&attachment.network));
            vec![(Place::Host, Change::Firewall(vec![table]))]
        }))
        .with_drift(Drift::new(&["ip_forward"], |_, _| {
            let (key, value) = ("net/ipv4/ip_forward".to_owned(), "0".to_owned());
            vec![(Place::Host, Change::Sysctl { key, value })]
        }));
    conformance::backend(&fixture).await;
}
