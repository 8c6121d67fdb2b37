//! Decisions that hinge on one errno, and the order of writes, by mocked netlink.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use backend_bridge::Bridge;
use cni_core::backend::{AddRequest, Added, Context, DelRequest};
use cni_core::host::netlink::{
    ApplyError, Link, LinkFilter, LinkKind, MacAddr, Netlink, NetlinkChange, NetlinkError, errno,
};
use cni_core::host::{Host, Sandbox};
use cni_core::spec::{AddResult, Attachment, CniArgs, NetworkConfig};
use cni_core::testing::{FakeKernel, MockIpam, MockNetlink};
use cni_core::{Cancel, ErrorKind, NetworkBackend, Result};

/// What was written, in order, by whom.
type Log = Arc<Mutex<Vec<String>>>;

/// A bare layer 2 on a bridge that is ours: one veth pair, and nothing to wait for.
const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"n","type":"bridge","disableContainerInterface":true,"mtu":1500}"#;

fn attachment() -> Attachment {
    Attachment {
        network: "n".parse().unwrap(),
        container: "c".parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    }
}

fn bridge() -> Link {
    let kind = LinkKind::Bridge {
        vlan_filtering: false,
    };
    let mut link = Link::new(5, "cni0", kind);
    link.up = true;
    link.mac = Some(MacAddr([2, 0, 0, 0, 0, 5]));
    link.alias = Some("cni:n".to_owned());
    link
}

fn host_end(alias: Option<&str>) -> Link {
    let mut link = Link::new(6, attachment().host_name().to_string(), LinkKind::Veth);
    link.alias = alias.map(str::to_owned);
    link
}

/// A namespace that holds `links`, and answers writes with `errnos` in turn (0 and after their end: success). A write of
/// several changes is logged change by change; an errno is the first one's.
fn netlink(who: &'static str, links: Vec<Link>, errnos: &[i32], log: &Log) -> MockNetlink {
    let mut mock = MockNetlink::new();
    mock.expect_links().returning(move |filter| {
        let named = |link: &&Link| filter == LinkFilter::Name(&link.name);
        Ok(links.iter().filter(named).cloned().collect())
    });
    let (errnos, log) = (Mutex::new(VecDeque::from(errnos.to_vec())), log.clone());
    mock.expect_apply().returning(move |changes| {
        let errno = errnos.lock().unwrap().pop_front().unwrap_or(0);
        let mut log = log.lock().unwrap();
        for change in changes {
            log.push(format!("{who}: {}", summary(change)));
            if errno != 0 {
                let error = NetlinkError::new(change.to_string(), errno);
                return Err(ApplyError::new(0, error));
            }
        }
        Ok(())
    });
    mock
}

fn summary(change: &NetlinkChange) -> String {
    match change {
        NetlinkChange::LinkAdd(new) => format!("add {}", new.name),
        NetlinkChange::LinkDel { link } => format!("delete {link}"),
        NetlinkChange::LinkSet { link, .. } => format!("set {link}"),
        other => other.to_string(),
    }
}

fn host(netlink: MockNetlink) -> Host {
    Host {
        netlink: Arc::new(netlink),
        ..FakeKernel::new().without_ipv6().host()
    }
}

async fn add(host: MockNetlink, inside: MockNetlink) -> Result<Added> {
    let config = NetworkConfig::parse(CONFIG.as_bytes()).unwrap();
    let host = self::host(host);
    let inside: Arc<dyn Netlink> = Arc::new(inside);
    let sandbox = Sandbox {
        netlink: inside,
        ..FakeKernel::new().sandbox("/run/netns/c")
    };
    let cx = Context {
        host: &host,
        ipam: &MockIpam::new(),
        cancel: &Cancel::new(),
        dry_run: false,
    };
    let request = AddRequest {
        attachment: &attachment(),
        sandbox: &sandbox,
        config: &config,
        args: &CniArgs::default(),
        prev_result: None,
    };
    Bridge.add(&cx, &request).await
}

fn written(log: &Log) -> Vec<String> {
    let name = attachment().host_name().to_string();
    let lines = log.lock().unwrap();
    let lines = lines.iter().map(|line| line.replace(&name, "PORT"));
    lines.collect()
}

#[tokio::test]
async fn eexist_of_a_port_that_is_not_sealed_clears_it_away_and_tries_again() {
    let log = Log::default();
    let links = vec![bridge(), host_end(None)];
    let outside = netlink("host", links, &[errno::EEXIST], &log);
    let inside = netlink("container", Vec::new(), &[], &log);
    add(outside, inside).await.unwrap();
    let wanted = [
        "host: add PORT",
        "host: delete PORT",
        "host: add PORT",
        "container: set eth0",
    ];
    assert_eq!(written(&log), wanted);
}

#[tokio::test]
async fn eexist_of_a_sealed_port_says_that_the_container_is_attached_and_touches_nothing() {
    let log = Log::default();
    let mark = attachment().mark().to_string();
    let links = vec![bridge(), host_end(Some(&mark))];
    let outside = netlink("host", links, &[errno::EEXIST], &log);
    let inside = netlink("container", Vec::new(), &[], &log);
    let error = add(outside, inside).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("attached already"), "{error}");
    assert_eq!(written(&log), ["host: add PORT"]);
}

#[tokio::test]
async fn eexist_of_a_strangers_link_of_that_name_is_an_error_that_touches_nothing() {
    let log = Log::default();
    let links = vec![bridge(), host_end(Some("uplink of the rack"))];
    let outside = netlink("host", links, &[errno::EEXIST], &log);
    let inside = netlink("container", Vec::new(), &[], &log);
    let error = add(outside, inside).await.unwrap_err();
    assert_eq!(error.errno(), Some(errno::EEXIST));
    assert_eq!(written(&log), ["host: add PORT"]);
}

#[tokio::test]
async fn eexist_of_the_containers_interface_names_it() {
    let log = Log::default();
    let outside = netlink("host", vec![bridge()], &[errno::EEXIST], &log);
    let taken = vec![Link::new(2, "eth0", LinkKind::Veth)];
    let inside = netlink("container", taken, &[], &log);
    let error = add(outside, inside).await.unwrap_err();
    assert!(
        error.to_string().contains("has an interface eth0"),
        "{error}"
    );
    assert_eq!(written(&log), ["host: add PORT"]);
}

#[tokio::test]
async fn a_bridge_that_vanishes_meanwhile_is_the_kernels_error_and_leaves_nothing() {
    let log = Log::default();
    let outside = netlink("host", vec![bridge()], &[errno::ENODEV], &log);
    let inside = netlink("container", Vec::new(), &[], &log);
    let error = add(outside, inside).await.unwrap_err();
    assert_eq!(error.errno(), Some(errno::ENODEV));
    assert!(error.chain().contains("master cni0"), "{}", error.chain());
    assert_eq!(written(&log), ["host: add PORT"]);
}

#[tokio::test]
async fn eperm_is_told_with_the_command_that_was_refused() {
    let log = Log::default();
    let outside = netlink("host", vec![bridge()], &[errno::EPERM], &log);
    let inside = netlink("container", Vec::new(), &[], &log);
    let error = add(outside, inside).await.unwrap_err().chain();
    assert!(error.contains("ip link add"), "{error}");
    assert!(error.contains("Operation not permitted"), "{error}");
}

#[tokio::test]
async fn what_fails_inside_the_container_takes_the_pair_back() {
    let log = Log::default();
    let outside = netlink("host", vec![bridge()], &[], &log);
    let inside = netlink("container", Vec::new(), &[errno::ENOMEM], &log);
    let error = add(outside, inside).await.unwrap_err();
    assert_eq!(error.errno(), Some(errno::ENOMEM));
    let wanted = ["host: add PORT", "container: set eth0", "host: delete PORT"];
    assert_eq!(written(&log), wanted);
}

/// DEL of a port that exists, with address management in the same log.
async fn del(errnos: &[i32], log: &Log) -> Result<()> {
    let text = CONFIG.replace(
        r#""disableContainerInterface":true"#,
        r#""ipam":{"type":"x"}"#,
    );
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    let links = vec![bridge(), host_end(None)];
    let host = host(netlink("host", links, errnos, log));
    let mut ipam = MockIpam::new();
    ipam.expect_held().returning(|_| Ok(Some(Vec::new())));
    let releases = log.clone();
    ipam.expect_release().returning(move |_| {
        releases.lock().unwrap().push("ipam: release".to_owned());
        Ok(())
    });
    let cx = Context {
        host: &host,
        ipam: &ipam,
        cancel: &Cancel::new(),
        dry_run: false,
    };
    let request = DelRequest {
        attachment: &attachment(),
        netns: None,
        config: &config,
        args: &CniArgs::default(),
        prev_result: None,
    };
    Bridge.del(&cx, &request).await
}

#[tokio::test]
async fn del_releases_the_addresses_after_the_port_is_gone() {
    for raced in [0, errno::ENODEV] {
        let log = Log::default();
        del(&[raced], &log).await.unwrap();
        assert_eq!(written(&log), ["host: delete PORT", "ipam: release"]);
    }
}

#[tokio::test]
async fn del_keeps_the_addresses_while_the_port_stands() {
    let log = Log::default();
    let error = del(&[errno::EPERM], &log).await.unwrap_err();
    assert_eq!(error.errno(), Some(errno::EPERM));
    assert_eq!(written(&log), ["host: delete PORT"]);
}

#[tokio::test]
async fn a_failed_add_releases_the_addresses_after_the_pair_is_gone() {
    let log = Log::default();
    let text = CONFIG.replace(
        r#""disableContainerInterface":true"#,
        r#""ipam":{"type":"x"}"#,
    );
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    let host = host(netlink("host", vec![bridge()], &[], &log));
    let inside = netlink("container", Vec::new(), &[errno::ENOMEM], &log);
    let sandbox = Sandbox {
        netlink: Arc::new(inside),
        ..FakeKernel::new().sandbox("/run/netns/c")
    };
    let mut ipam = MockIpam::new();
    ipam.expect_allocate().returning(|_| {
        let mut result = AddResult::default();
        let address = "10.1.0.2/24".parse().unwrap();
        result.ips = vec![cni_core::spec::IpConfig::new(address)];
        Ok(result)
    });
    let releases = log.clone();
    ipam.expect_release().times(1).returning(move |_| {
        releases.lock().unwrap().push("ipam: release".to_owned());
        Ok(())
    });
    let cx = Context {
        host: &host,
        ipam: &ipam,
        cancel: &Cancel::new(),
        dry_run: false,
    };
    let request = AddRequest {
        attachment: &attachment(),
        sandbox: &sandbox,
        config: &config,
        args: &CniArgs::default(),
        prev_result: None,
    };
    let error = Bridge.add(&cx, &request).await.unwrap_err();
    assert_eq!(error.errno(), Some(errno::ENOMEM));
    let lines = written(&log);
    let end: Vec<&str> = lines.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(end, ["ipam: release", "host: delete PORT"]);
}
