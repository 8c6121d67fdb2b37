//! The contracts of the traits, on the doubles of `testing` and on `host-local`. `tests/kernel` runs them on the
//! kernel.

// Helper functions of tests are not `#[test]`s, by which clippy knows what may panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg(feature = "testing")]

use cni_core::ipam::HostLocal;
use cni_core::spec::NetworkConfig;
use cni_core::testing::{FakeIpam, FakeKernel, conformance};

fn config(ipam: &str) -> NetworkConfig {
    let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"x","ipam":{ipam}}}"#);
    NetworkConfig::parse(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn the_fake_keeps_the_contract_of_netlink() {
    conformance::netlink(FakeKernel::new().host().netlink.as_ref()).await;
}

#[tokio::test]
async fn the_fake_keeps_the_contract_of_traffic_control() {
    conformance::traffic_control(FakeKernel::new().host().netlink.as_ref()).await;
}

#[tokio::test]
async fn the_fake_keeps_the_contract_of_forwarding() {
    conformance::forwarding(&FakeKernel::new().host()).await;
}

#[tokio::test]
async fn the_fake_keeps_the_contract_of_nftables() {
    conformance::firewall(FakeKernel::new().host().firewall.as_ref()).await;
}

#[tokio::test]
async fn the_fake_keeps_the_contract_of_parameters() {
    conformance::sysctl(FakeKernel::new().host().sysctl.as_ref()).await;
}

#[tokio::test]
async fn the_fake_keeps_the_contract_of_address_management() {
    let subnets = ["10.1.0.0/28", "fd00::/120"].map(|subnet| subnet.parse().unwrap());
    let config = config(r#"{"type":"fake"}"#);
    conformance::ipam(&FakeIpam::new(subnets), &config).await;
}

#[tokio::test]
async fn host_local_keeps_the_contract_of_address_management() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&format!(
        r#"{{"type":"host-local","dataDir":{:?},"ranges":[[{{"subnet":"10.1.0.0/28"}}],[{{"subnet":"fd00::/120"}}]]}}"#,
        directory.path()
    ));
    conformance::ipam(&HostLocal::new(), &config).await;
}
