//! The contract of every backend, on a node of a cluster on the fake kernel; and the drifts that CHECK sees.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use backend_bridge::Bridge;
use backend_vxlan::Vxlan;
use cni_core::fabric::tables;
use cni_core::host::firewall::FirewallChange;
use cni_core::host::netlink::{Address, LinkSettings, NetlinkChange};
use cni_core::node::NodeBackend;
use cni_core::plan::{Change, Place};
use cni_core::testing::conformance::{self, ClusterFixture, Drift};

fn fixture(directory: &Path, configs: &[&str]) -> ClusterFixture {
    let backend = NodeBackend::new(Vxlan).with("bridge", Bridge);
    ClusterFixture::new(directory, backend, "vxlan", configs)
}

fn host(change: NetlinkChange) -> (Place, Change) {
    (Place::Host, change.into())
}

#[tokio::test]
async fn a_node_in_a_flow_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    conformance::backend(&fixture(directory.path(), &[r#","dataPath":"flow""#])).await;
}

#[tokio::test]
async fn a_node_in_a_classic_network_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    conformance::backend(&fixture(directory.path(), &[r#","dataPath":"classic""#])).await;
}

#[tokio::test]
async fn check_names_every_drift_in_the_nodes_part_and_the_peers_it_concerns() {
    let directory = tempfile::tempdir().unwrap();
    let device = || "vxlan.1".to_owned();
    let fixture = fixture(directory.path(), &[""])
        .with_drift(Drift::new(&["vxlan.1 is missing"], move |_, _| {
            vec![host(NetlinkChange::LinkDel { link: device() })]
        }))
        .with_drift(Drift::new(&["node n1", "n2", "n3"], move |_, _| {
            vec![host(NetlinkChange::LinkDel { link: device() })]
        }))
        .with_drift(Drift::new(&["mtu"], move |_, _| {
            let mut settings = LinkSettings::default();
            settings.mtu = Some(1300);
            let link = device();
            vec![host(NetlinkChange::LinkSet { link, settings })]
        }))
        .with_drift(Drift::new(&["cni_fabric"], |attachment, _| {
            let table = FirewallChange::TableDel(tables::table(&attachment.network));
            vec![(Place::Host, Change::Firewall(vec![table]))]
        }))
        .with_drift(Drift::new(&["10.244.0.0"], move |_, _| {
            let address = Address::new("vxlan.1", "10.244.0.0/32".parse().unwrap());
            vec![host(NetlinkChange::AddressDel(address))]
        }))
        .with_drift(Drift::new(&["ip_forward"], |_, _| {
            let (key, value) = ("net/ipv4/ip_forward".to_owned(), "0".to_owned());
            vec![(Place::Host, Change::Sysctl { key, value })]
        }));
    conformance::backend(&fixture).await;
}
