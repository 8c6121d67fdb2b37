//! What this backend does beyond the contract, on the fake kernel.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use backend_bridge::Bridge;
use cni_core::backend::{
    AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest, StatusRequest,
};
use cni_core::host::netlink::{
    Address, Link, LinkFilter, MacAddr, NetlinkChange, NetlinkExt, NewLink, NewLinkKind, Route,
};
use cni_core::host::{Host, Sandbox};
use cni_core::ipam::Ipam;
use cni_core::ipnetwork::IpNetwork;
use cni_core::spec::ValidAttachments;
use cni_core::spec::{AddResult, Attachment, CniArgs, IpConfig, NetworkConfig, result};
use cni_core::testing::{FakeIpam, FakeKernel, MockIpam, snapshot};
use cni_core::{Cancel, ErrorKind, NetworkBackend, Result, nat};

/// One node.
struct Node {
    kernel: FakeKernel,
    host: Host,
    ipam: Arc<dyn Ipam>,
    cancel: Cancel,
    args: CniArgs,
}

/// One attachment, and its container.
struct Pod {
    attachment: Attachment,
    sandbox: Sandbox,
}

impl Node {
    fn new() -> Self {
        let subnets = ["10.1.0.0/24", "fd00:1::/64"].map(|subnet| subnet.parse().unwrap());
        Self::with(FakeIpam::new(subnets))
    }

    fn with(ipam: impl Ipam + 'static) -> Self {
        let kernel = FakeKernel::new();
        Self {
            host: kernel.host(),
            kernel,
            ipam: Arc::new(ipam),
            cancel: Cancel::new(),
            args: CniArgs::default(),
        }
    }

    fn cx(&self, dry_run: bool) -> Context<'_> {
        Context {
            host: &self.host,
            ipam: self.ipam.as_ref(),
            cancel: &self.cancel,
            dry_run,
        }
    }

    fn pod(&self, container: &str, interface: &str) -> Pod {
        Pod {
            attachment: Attachment {
                network: "n".parse().unwrap(),
                container: container.parse().unwrap(),
                interface: interface.parse().unwrap(),
            },
            sandbox: self.kernel.sandbox(format!("/run/netns/{container}")),
        }
    }

    async fn try_add(&self, config: &NetworkConfig, pod: &Pod) -> Result<Added> {
        let request = AddRequest {
            attachment: &pod.attachment,
            sandbox: &pod.sandbox,
            config,
            args: &self.args,
            prev_result: None,
        };
        let added = Bridge.add(&self.cx(false), &request).await?;
        Bridge.seal(&self.cx(false), &request).await?;
        Ok(added)
    }

    async fn add(&self, config: &NetworkConfig, pod: &Pod) -> Added {
        self.try_add(config, pod).await.unwrap()
    }

    fn del_request<'a>(&'a self, config: &'a NetworkConfig, pod: &'a Pod) -> DelRequest<'a> {
        DelRequest {
            attachment: &pod.attachment,
            netns: Some(&pod.sandbox.path),
            config,
            args: &self.args,
            prev_result: None,
        }
    }

    async fn del(&self, config: &NetworkConfig, pod: &Pod) -> Result<()> {
        let request = self.del_request(config, pod);
        Bridge.del(&self.cx(false), &request).await
    }

    async fn check(&self, config: &NetworkConfig, pod: &Pod, result: &AddResult) -> Result<()> {
        let request = CheckRequest {
            attachment: &pod.attachment,
            sandbox: &pod.sandbox,
            config,
            args: &self.args,
            prev_result: result,
        };
        Bridge.check(&self.cx(false), &request).await
    }

    async fn collect_all(&self, config: &NetworkConfig) {
        let request = GcRequest {
            network: config.name(),
            config,
            valid: &ValidAttachments::default(),
        };
        Bridge.gc(&self.cx(false), &request).await.unwrap();
    }

    async fn link(&self, name: &str) -> Option<Link> {
        self.host.netlink.link(name).await.unwrap()
    }

    async fn change(&self, change: NetlinkChange) {
        self.host.netlink.apply_one(change).await.unwrap();
    }

    /// A bridge as an operator makes it, whose hardware address follows its ports.
    async fn foreign_bridge(&self) {
        let mut new = NewLink::new("cni0", bridge());
        new.up = true;
        self.change(NetlinkChange::LinkAdd(new)).await;
    }

    /// A port of somebody else's, with the lowest hardware address.
    async fn foreign_port(&self) {
        let mut new = NewLink::new("tap0", NewLinkKind::Dummy);
        new.mac = Some(MacAddr([2, 0, 0, 0, 0, 1]));
        new.master = Some("cni0".to_owned());
        new.up = true;
        self.change(NetlinkChange::LinkAdd(new)).await;
    }

    async fn state(&self) -> String {
        snapshot(&self.host, &[nat::table()]).await.unwrap()
    }
}

fn bridge() -> NewLinkKind {
    NewLinkKind::Bridge {
        vlan_filtering: false,
    }
}

fn config(more: &str) -> NetworkConfig {
    let text = format!(
        r#"{{"cniVersion":"1.1.0","name":"n","type":"bridge","ipam":{{"type":"fake"}}{more}}}"#
    );
    NetworkConfig::parse(text.as_bytes()).unwrap()
}

/// Address management that answers 10.1.0.2/24 with these routes: destination, gateway.
fn ipam_with(routes: &'static [(&str, Option<&str>)]) -> MockIpam {
    let mut ipam = MockIpam::new();
    ipam.expect_allocate().returning(move |_| {
        let mut result = AddResult::default();
        result.ips = vec![IpConfig::new("10.1.0.2/24".parse().unwrap())];
        result.routes = routes
            .iter()
            .map(|(to, via)| {
                let mut route = result::Route::new(to.parse().unwrap());
                route.gw = via.map(|via| via.parse().unwrap());
                route
            })
            .collect();
        Ok(result)
    });
    ipam.expect_check().returning(|_| Ok(()));
    ipam
}

async fn routes_of(pod: &Pod) -> Vec<String> {
    let routes = pod.sandbox.netlink.routes(Some("eth0")).await.unwrap();
    let via = |route: &Route| route.gateway.map_or("-".to_owned(), |via| via.to_string());
    let texts = routes
        .iter()
        .map(|route| format!("{} {}", route.destination, via(route)));
    let mut texts: Vec<String> = texts.collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn routes_that_the_kernel_would_refuse_are_sorted_out() {
    let node = Node::with(ipam_with(&[
        ("10.1.0.0/24", None),
        ("10.9.0.0/16", None),
        ("10.9.0.0/16", None),
        ("10.9.0.0/16", Some("10.1.0.1")),
        ("0.0.0.0/0", None),
    ]));
    let config = config(r#","isDefaultGateway":true"#);
    let pod = node.pod("a", "eth0");
    let result = node.add(&config, &pod).await.result;
    let wanted = [
        "0.0.0.0/0 10.1.0.1",
        "10.1.0.0/24 -",
        "10.9.0.0/16 10.1.0.1",
    ];
    assert_eq!(routes_of(&pod).await, wanted);
    node.check(&config, &pod, &result).await.unwrap();
}

#[tokio::test]
async fn an_explicit_default_route_takes_the_place_of_the_default_gateways() {
    let node = Node::with(ipam_with(&[("0.0.0.0/0", Some("10.1.0.9"))]));
    let config = config(r#","isDefaultGateway":true"#);
    let pod = node.pod("a", "eth0");
    node.add(&config, &pod).await;
    let wanted = ["0.0.0.0/0 10.1.0.9", "10.1.0.0/24 -"];
    assert_eq!(routes_of(&pod).await, wanted);
}

#[tokio::test]
async fn default_routes_by_several_gateways_stand_beside_each_other() {
    let node = Node::with(ipam_with(&[
        ("0.0.0.0/0", Some("10.1.0.8")),
        ("0.0.0.0/0", Some("10.1.0.9")),
    ]));
    let (config, pod) = (config(""), node.pod("a", "eth0"));
    let result = node.add(&config, &pod).await.result;
    let wanted = ["0.0.0.0/0 10.1.0.8", "0.0.0.0/0 10.1.0.9", "10.1.0.0/24 -"];
    assert_eq!(routes_of(&pod).await, wanted);
    node.check(&config, &pod, &result).await.unwrap();
    for via in ["10.1.0.8", "10.1.0.9"] {
        let mut route = Route::new("0.0.0.0/0".parse().unwrap(), "eth0");
        route.gateway = Some(via.parse().unwrap());
        let netlink = &pod.sandbox.netlink;
        netlink
            .apply_one(NetlinkChange::RouteDel(route.clone()))
            .await
            .unwrap();
        assert!(node.check(&config, &pod, &result).await.is_err(), "{via}");
        netlink
            .apply_one(NetlinkChange::RouteAdd({
                route.beside_others = true;
                route
            }))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_foreign_bridges_address_stays_and_it_bears_no_mark() {
    for ported in [false, true] {
        let node = Node::new();
        node.foreign_bridge().await;
        if ported {
            node.foreign_port().await;
        }
        let before = node.link("cni0").await.unwrap();
        let (config, pods) = (config(""), ["a", "b"].map(|name| node.pod(name, "eth0")));
        for pod in &pods {
            node.add(&config, pod).await;
        }
        if ported {
            let link = "tap0".to_owned();
            node.change(NetlinkChange::LinkDel { link }).await;
        }
        node.del(&config, &pods[0]).await.unwrap();
        let after = node.link("cni0").await.unwrap();
        assert_eq!(after.mac, before.mac);
        assert_eq!(after.alias, None);
        node.del(&config, &pods[1]).await.unwrap();
        assert_eq!(node.link("cni0").await.unwrap().mac, before.mac);
    }
}

#[tokio::test]
async fn a_foreign_bridge_is_pinned_once() {
    let node = Node::new();
    node.foreign_bridge().await;
    node.foreign_port().await;
    let config = config("");
    let pins = |added: &Added| added.plan.to_string().contains("ip link set dev cni0");
    let first = node.add(&config, &node.pod("a", "eth0")).await;
    assert!(pins(&first), "{}", first.plan);
    let second = node.add(&config, &node.pod("b", "eth0")).await;
    assert!(!pins(&second), "{}", second.plan);
}

#[tokio::test]
async fn our_own_bridges_address_stays_as_pods_come_and_go() {
    let node = Node::new();
    let config = config("");
    let (a, b) = (node.pod("a", "eth0"), node.pod("b", "eth0"));
    node.add(&config, &a).await;
    let before = node.link("cni0").await.unwrap().mac;
    node.add(&config, &b).await;
    node.del(&config, &a).await.unwrap();
    node.del(&config, &b).await.unwrap();
    assert_eq!(node.link("cni0").await.unwrap().mac, before);
}

#[tokio::test]
async fn collecting_everything_removes_our_bridge_and_leaves_a_foreign_one() {
    for foreign in [false, true] {
        let node = Node::new();
        if foreign {
            node.foreign_bridge().await;
        }
        let config = config(r#","isGateway":true"#);
        let pod = node.pod("a", "eth0");
        node.add(&config, &pod).await;
        node.collect_all(&config).await;
        let host_end = node.link(pod.attachment.host_name().as_str()).await;
        assert!(host_end.is_none());
        assert_eq!(node.link("cni0").await.is_some(), foreign);
    }
}

#[tokio::test]
async fn del_and_gc_clean_up_even_when_the_bridges_own_keys_are_invalid() {
    for broken in [r#","mtu":"x""#, r#","vlan":5000"#, r#","bridge":7"#] {
        let node = Node::new();
        let good = config(r#","ipMasq":true"#);
        let (a, b) = (node.pod("a", "eth0"), node.pod("b", "eth0"));
        node.add(&good, &a).await;
        let before = node.state().await;
        node.add(&good, &b).await;
        let broken = config(&format!(r#","ipMasq":true,"macspoofchk":true{broken}"#));
        node.del(&broken, &b).await.unwrap();
        assert_eq!(node.state().await, before);
        node.collect_all(&broken).await;
        let left = node.state().await;
        assert!(!left.contains("cni:n/"), "{left}");
    }
}

#[tokio::test]
async fn a_dry_del_prints_what_del_removes_and_changes_nothing() {
    let node = Node::new();
    let config = config(r#","ipMasq":true"#);
    let pod = node.pod("a", "eth0");
    node.add(&config, &pod).await;
    let before = node.state().await;
    let request = node.del_request(&config, &pod);
    let plan = Bridge.del_plan(&node.cx(true), &request).await;
    let plan = plan.unwrap().unwrap().to_string();
    let delete = format!("ip link delete dev {}", pod.attachment.host_name());
    assert!(plan.contains(&delete), "{plan}");
    assert!(
        plan.contains("delete element inet cni_masquerade"),
        "{plan}"
    );
    assert_eq!(node.state().await, before);
    node.del(&config, &pod).await.unwrap();
    let plan = Bridge.del_plan(&node.cx(true), &request).await;
    assert_eq!(plan.unwrap().unwrap().to_string(), "");
}

#[tokio::test]
async fn the_number_of_masquerade_rules_does_not_grow_with_the_pods() {
    let node = Node::new();
    let config = config(r#","ipMasq":true"#);
    let mut counts = Vec::new();
    for name in ["a", "b", "c"] {
        node.add(&config, &node.pod(name, "eth0")).await;
        let table = node.host.firewall.table(&nat::table()).await.unwrap();
        let chains = table.unwrap().chains;
        counts.push(chains.iter().map(|chain| chain.rules.len()).sum::<usize>());
    }
    assert!(counts[0] > 0 && counts.iter().all(|count| *count == counts[0]));
}

#[tokio::test]
async fn one_container_has_several_interfaces_on_one_network() {
    let node = Node::new();
    let config = config(r#","ipMasq":true"#);
    let (first, second) = (node.pod("a", "eth0"), node.pod("a", "net1"));
    let before = node.add(&config, &first).await.result;
    // Both bring a default route.
    let result = node.add(&config, &second).await.result;
    node.check(&config, &first, &before).await.unwrap();
    node.check(&config, &second, &result).await.unwrap();
    node.del(&config, &first).await.unwrap();
    node.check(&config, &second, &result).await.unwrap();
    node.del(&config, &second).await.unwrap();
    assert!(!node.state().await.contains("cni:n/"));
}

#[tokio::test]
async fn the_result_names_the_mtu_and_the_hardware_address_of_every_interface() {
    let node = Node::new();
    let pod = node.pod("a", "eth0");
    let added = node
        .add(&config(r#","mtu":1400,"isGateway":true"#), &pod)
        .await;
    let interfaces = &added.result.interfaces;
    assert_eq!(interfaces.len(), 3);
    for interface in interfaces {
        assert_eq!(interface.mtu, 1400, "{interface:?}");
        assert_eq!(interface.mac.len(), 17, "{interface:?}");
    }
}

#[tokio::test]
async fn a_gateway_is_usable_at_once_in_both_families() {
    let node = Node::new();
    let added = node
        .add(&config(r#","isGateway":true"#), &node.pod("a", "eth0"))
        .await;
    let plan = added.plan.to_string();
    for line in [
        "ip address add 10.1.0.1/24 dev cni0",
        "ip address add fd00:1::1/64 dev cni0 nodad",
    ] {
        assert!(plan.contains(line), "{plan}");
    }
}

#[tokio::test]
async fn another_address_in_the_gateways_place_is_an_error_unless_it_may_be_replaced() {
    let node = Node::new();
    node.foreign_bridge().await;
    let other: IpNetwork = "10.7.0.1/24".parse().unwrap();
    node.change(NetlinkChange::AddressAdd(Address::new("cni0", other)))
        .await;
    let before = node.state().await;
    let pod = node.pod("a", "eth0");
    let refused = node.try_add(&config(r#","isGateway":true"#), &pod).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("forceAddress"), "{error}");
    assert_eq!(node.state().await, before);
    node.add(&config(r#","isGateway":true,"forceAddress":true"#), &pod)
        .await;
    let addresses = node.host.netlink.addresses(Some("cni0")).await.unwrap();
    assert!(addresses.iter().all(|address| address.address != other));
}

#[tokio::test]
async fn status_says_that_the_bridges_name_is_taken() {
    let node = Node::new();
    node.change(NetlinkChange::LinkAdd(NewLink::new(
        "cni0",
        NewLinkKind::Dummy,
    )))
    .await;
    let config = config("");
    let request = StatusRequest {
        network: config.name(),
        config: &config,
    };
    let error = Bridge.status(&node.cx(false), &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAvailable);
    assert!(error.to_string().contains("cni0"), "{error}");
}

#[tokio::test]
async fn without_masquerade_no_table_is_made_and_no_port_has_an_address() {
    let node = Node::new();
    let pod = node.pod("a", "eth0");
    node.add(&config(""), &pod).await;
    assert!(
        node.host
            .firewall
            .table(&nat::table())
            .await
            .unwrap()
            .is_none()
    );
    let ports = node.host.netlink.links(LinkFilter::Master("cni0")).await;
    assert_eq!(ports.unwrap().len(), 1);
    let name = pod.attachment.host_name();
    let addresses = node.host.netlink.addresses(Some(name.as_str())).await;
    assert!(addresses.unwrap().is_empty());
}
