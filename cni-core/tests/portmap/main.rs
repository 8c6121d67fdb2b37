//! Published ports on the fake kernel: one verb at a time, and at every write a failure.

// Helper functions of tests are not `#[test]`s, by which clippy knows what may panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg(feature = "testing")]

mod faults;
mod scene;

use cni_core::backend::{AddRequest, StatusRequest};
use cni_core::chained::portmap::Portmap;
use cni_core::host::netlink::NetlinkError;
use cni_core::host::{Host, NetlinkExt};
use cni_core::spec::CniArgs;
use cni_core::testing::{FakeIpam, MockFirewall};
use cni_core::{Cancel, ErrorKind, NetworkBackend};

use crate::scene::*;

#[tokio::test]
async fn ports_are_made_checked_and_removed_without_a_trace() {
    let scene = Scene::warm(KEYS, PORTS).await;
    let before = scene.state().await;
    let added = scene.add().await.unwrap();
    assert_eq!(added.result.ips.len(), 2, "the result is passed on");
    assert_ne!(scene.state().await, before);
    let writes = scene.kernel.writes();
    scene.check().await.unwrap();
    assert_eq!(scene.kernel.writes(), writes, "CHECK writes nothing");
    scene.del().await.unwrap();
    assert_eq!(scene.state().await, before);
    scene.del().await.unwrap();
    assert_eq!(scene.state().await, before);
}

#[tokio::test]
async fn flows_of_exactly_the_port_are_forgotten() {
    let scene = Scene::new("", PORTS).await;
    let host = scene.flow("192.0.2.9:4000", "192.0.2.1:53", "192.0.2.1:53");
    let old = scene.flow("192.0.2.9:4001", "192.0.2.1:53", "10.88.0.77:5353");
    let kept = [
        scene.flow("192.0.2.9:4002", "192.0.2.1:54", "192.0.2.1:54"),
        scene.flow("10.88.0.7:4003", "203.0.113.1:53", "203.0.113.1:53"),
        scene.flow("192.0.2.9:4004", "10.88.0.5:5353", "10.88.0.5:5353"),
    ];
    scene.add().await.unwrap();
    let left = scene.flows().await;
    assert!(!left.contains(&host) && !left.contains(&old), "{left:?}");
    assert_eq!(left, kept);
    let ours = scene.flow("192.0.2.9:4005", "192.0.2.1:53", "10.88.0.5:5353");
    scene.del().await.unwrap();
    let left = scene.flows().await;
    assert!(!left.contains(&ours));
    assert_eq!(left, kept);
}

#[tokio::test]
async fn a_port_that_is_taken_names_its_holder() {
    let scene = Scene::new("", PORTS).await;
    scene.add().await.unwrap();
    let before = scene.state().await;
    let second = result("10.88.0.6", "fd00::6");
    for (port, what) in [
        (r#"{"hostPort":8080,"containerPort":1}"#, "8080/tcp"),
        (
            r#"{"hostPort":8080,"containerPort":1,"hostIP":"127.0.0.1"}"#,
            "127.0.0.1:8080/tcp",
        ),
        (
            r#"{"hostPort":8443,"containerPort":1,"hostIP":"192.0.2.1"}"#,
            "192.0.2.1:8443/tcp",
        ),
        (r#"{"hostPort":8443,"containerPort":1}"#, "8443/tcp"),
    ] {
        let other = config("", port);
        let error = scene
            .add_as(&other, &attachment("c2"), Some(&second))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let words = format!("host port {what} is taken by attachment n/c1/eth0 already");
        assert_eq!(error.to_string(), words);
        assert_eq!(scene.state().await, before, "{what}");
    }
}

#[tokio::test]
async fn gc_removes_what_is_not_valid_and_closes_what_was_opened() {
    let scene = Scene::new(KEYS, PORTS).await;
    let before = scene.state().await;
    scene.add().await.unwrap();
    let other = config("", r#"{"hostPort":1,"containerPort":1}"#);
    let (valid, of_valid) = (attachment("valid"), result("10.88.0.9", "fd00::9"));
    let with_first = scene.state().await;
    scene.add_as(&other, &valid, Some(&of_valid)).await.unwrap();
    scene.gc(&[&scene.attachment, &valid]).await.unwrap();
    scene.check().await.unwrap();
    scene.gc(&[&scene.attachment]).await.unwrap();
    assert_eq!(scene.state().await, with_first);
    scene.gc(&[]).await.unwrap();
    assert_eq!(scene.state().await, before);
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_no_previous_result_is_an_error() {
    let scene = Scene::new(KEYS, PORTS).await;
    let error = scene
        .add_as(&scene.config, &scene.attachment, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("prevResult"));
    let (cancel, ipam) = (Cancel::new(), FakeIpam::new([]));
    let cx = scene.cx(&cancel, &ipam, true);
    let (args, before) = (CniArgs::default(), scene.state().await);
    let request = AddRequest {
        attachment: &scene.attachment,
        sandbox: &scene.sandbox,
        config: &scene.config,
        args: &args,
        prev_result: Some(&scene.result),
    };
    let plan = Portmap.add(&cx, &request).await.unwrap().plan.to_string();
    assert!(
        plan.contains("create element inet cni_portmap ports4 { 6 . 8080"),
        "{plan}"
    );
    let request = StatusRequest {
        network: scene.config.name(),
        config: &scene.config,
    };
    Portmap.status(&cx, &request).await.unwrap();
    assert_eq!(scene.state().await, before);
    assert_eq!(scene.kernel.faults().fired(), 0);
}

#[tokio::test]
async fn a_link_is_found_by_the_longest_prefix() {
    let scene = Scene::new("", "").await;
    let link = |address: &str| {
        let address = address.parse().unwrap();
        let netlink = scene.host.netlink.clone();
        async move { netlink.link_to(address).await.unwrap() }
    };
    assert_eq!(link("10.88.0.5").await.as_deref(), Some("cni0"));
    assert_eq!(link("fd00::5").await.as_deref(), Some("cni0"));
    assert_eq!(link("192.0.2.9").await.as_deref(), Some("up0"));
    assert_eq!(link("203.0.113.1").await, None);
    assert!(scene.host.netlink.link("cni0").await.unwrap().is_some());
}

#[tokio::test]
async fn the_fake_keeps_the_contract_of_connection_tracking() {
    let scene = Scene::new("", "").await;
    let flows = [
        scene.flow("192.0.2.9:4000", "192.0.2.1:53", "10.88.0.5:5353"),
        scene.flow("192.0.2.9:4001", "192.0.2.2:54", "192.0.2.2:54"),
        scene.flow("[fd00::9]:4000", "[fd00::1]:53", "[fd00::5]:5353"),
        scene.flow("[fd00::9]:4001", "[fd00::1]:54", "[fd00::1]:54"),
    ];
    cni_core::testing::conformance::conntrack(scene.host.conntrack.as_ref(), &flows).await;
}

/// A kernel that answers as one without nftables does.
fn without_nftables(host: &Host) -> Host {
    const EPROTONOSUPPORT: i32 = 93;
    let refused = || NetlinkError::new("nft", EPROTONOSUPPORT);
    let mut firewall = MockFirewall::new();
    firewall.expect_table().returning(move |_| Err(refused()));
    firewall
        .expect_element()
        .returning(move |_, _, _| Err(refused()));
    firewall
        .expect_elements()
        .returning(move |_, _| Err(refused()));
    firewall.expect_commit().returning(move |_| Err(refused()));
    Host {
        firewall: std::sync::Arc::new(firewall),
        ..host.clone()
    }
}

#[tokio::test]
async fn without_nftables_nothing_is_published_and_everything_else_succeeds() {
    let mut scene = Scene::new("", PORTS).await;
    scene.host = without_nftables(&scene.host);
    scene.del().await.unwrap();
    scene.gc(&[]).await.unwrap();
    let none = config("", "");
    scene
        .add_as(&none, &scene.attachment, Some(&scene.result))
        .await
        .unwrap();
    let error = scene.add().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let (cancel, ipam) = (Cancel::new(), FakeIpam::new([]));
    let request = StatusRequest {
        network: scene.config.name(),
        config: &scene.config,
    };
    let error = Portmap
        .status(&scene.cx(&cancel, &ipam, false), &request)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAvailable);
}
