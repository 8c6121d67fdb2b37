//! The plan engine on the fake kernel: declare, diff, apply, unwind.

// Helper functions of tests are not `#[test]`s, by which clippy knows what may panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg(feature = "testing")]

use std::net::Ipv4Addr;

use cni_core::Cancel;
use cni_core::host::firewall::{
    Action, ChainKind, ChainSpec, Element, Family, Field, Hook, HookPoint, Match, Rule, SetSpec,
    Table, TableSpec, Value, ValueType,
};
use cni_core::host::netlink::{Address, LinkFilter, NewLinkKind, PortSettings, Route};
use cni_core::host::{Host, Sandbox};
use cni_core::ipnetwork::IpNetwork;
use cni_core::plan::{
    Change, Desired, Establishing, Handles, LinkSpec, Object, Observed, Place, Plan, Scope, Step,
    diff, establish, observe, remove,
};
use cni_core::testing::FakeKernel;

const POD: &str = "/run/netns/pod";

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn table() -> TableSpec {
    let spec = |name: &str| SetSpec::new(name, [ValueType::Ipv4]);
    TableSpec {
        table: Table {
            family: Family::Inet,
            name: "t".to_owned(),
        },
        sets: vec![spec("pods")],
        chains: vec![ChainSpec {
            name: "post".to_owned(),
            hook: Some(Hook {
                kind: ChainKind::Nat,
                point: HookPoint::Postrouting,
                priority: 100,
            }),
            rules: vec![Rule {
                matches: vec![Match::InSet {
                    fields: vec![Field::Ipv4Source],
                    set: "pods".to_owned(),
                    negated: false,
                }],
                action: Action::Masquerade,
            }],
        }],
    }
}

fn element(mark: &str) -> Element {
    let mut element = Element::new(vec![Value::Ipv4(Ipv4Addr::new(10, 0, 0, 2))]);
    element.comment = Some(mark.to_owned());
    element
}

/// A bridge with a gateway, a pair with an address and a route, a parameter, a table and an element.
fn desired(mark: &str) -> Desired {
    let mut desired = Desired::new();
    let mut bridge = LinkSpec::new(
        "br0",
        Some(NewLinkKind::Bridge {
            vlan_filtering: false,
        }),
    );
    bridge.alias = Some("shared".to_owned());
    desired.share(Place::Host, Object::Link(bridge));
    let gateway = Address::new("br0", net("10.0.0.1/24"));
    desired.share(
        Place::Host,
        Object::Gateway {
            address: gateway,
            replace: false,
            beside_others: false,
        },
    );
    let forward = Object::Sysctl {
        key: "net/ipv4/ip_forward".to_owned(),
        value: "1".to_owned(),
    };
    desired.share(Place::Host, forward);
    let veth = NewLinkKind::Veth {
        peer: "eth0".to_owned(),
        peer_mac: None,
        peer_netns: Some(cni_core::host::NetnsPath::new(POD)),
    };
    let mut port = LinkSpec::new("veth0", Some(veth));
    port.master = Some("br0".to_owned());
    desired.own(Place::Host, Object::Link(port));
    let settings = PortSettings {
        hairpin: true,
        ..PortSettings::default()
    };
    desired.own(
        Place::Host,
        Object::Port {
            link: "veth0".to_owned(),
            settings,
        },
    );
    desired.own(Place::Container, Object::Link(LinkSpec::new("eth0", None)));
    desired.own(
        Place::Container,
        Object::Address(Address::new("eth0", net("10.0.0.2/24"))),
    );
    let mut route = Route::new(net("0.0.0.0/0"), "eth0");
    route.gateway = Some("10.0.0.1".parse().unwrap());
    desired.own(Place::Container, Object::Route(route));
    desired.share(Place::Host, Object::Table(table()));
    let (table, set) = (table().table, "pods".to_owned());
    desired.own(
        Place::Host,
        Object::Element {
            table,
            set,
            element: element(mark),
        },
    );
    desired
}

struct Setup {
    kernel: FakeKernel,
    host: Host,
    sandbox: Sandbox,
}

impl Setup {
    fn new() -> Self {
        let kernel = FakeKernel::new();
        kernel.namespace(POD);
        let (host, sandbox) = (kernel.host(), kernel.sandbox(POD));
        Self {
            kernel,
            host,
            sandbox,
        }
    }

    fn handles(&self) -> Handles<'_> {
        Handles {
            host: &self.host,
            sandbox: Some(&self.sandbox),
        }
    }

    async fn establish(&self, desired: &Desired) -> cni_core::Result<Plan> {
        let done = establish(
            desired,
            &self.handles(),
            &Cancel::new(),
            Establishing::Apply,
        )
        .await;
        done.map(|(plan, _)| plan)
    }

    async fn observe(&self, desired: &Desired) -> Observed {
        observe(&self.handles(), desired, Scope::All).await.unwrap()
    }
}

#[tokio::test]
async fn what_is_established_has_no_difference_left() {
    let setup = Setup::new();
    let desired = desired("m");
    setup.establish(&desired).await.unwrap();
    let observed = setup.observe(&desired).await;
    let left = diff(&desired, &observed).unwrap();
    assert!(left.is_empty(), "{:?}", left.reasons().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_failure_at_any_write_leaves_everything_as_it_was() {
    let total = {
        let setup = Setup::new();
        setup.establish(&desired("m")).await.unwrap();
        setup.kernel.writes()
    };
    assert!(total >= 9, "{total} writes");
    for n in 1..=total {
        let setup = Setup::new();
        let desired = desired("m");
        let before = setup.observe(&desired).await;
        setup.kernel.fail_write(n, 5);
        let error = setup.establish(&desired).await.unwrap_err();
        assert_eq!(error.errno().unwrap_or(5), 5, "write {n}: {error:?}");
        assert_eq!(setup.observe(&desired).await, before, "write {n}");
    }
}

#[tokio::test]
async fn a_shared_object_is_only_made_once_and_stays() {
    let setup = Setup::new();
    let first = setup.establish(&desired("m")).await.unwrap();
    assert!(first.touches_shared());
    let gone = Plan::from_iter([Step::new(
        Place::Host,
        Change::Netlink(cni_core::host::netlink::NetlinkChange::LinkDel {
            link: "veth0".to_owned(),
        }),
        "",
    )]);
    assert!(remove(&gone, &setup.handles()).await.is_empty());
    assert!(
        remove(&gone, &setup.handles()).await.is_empty(),
        "what is missing is removed"
    );
    let second = setup.establish(&desired("m")).await.unwrap();
    assert!(!second.touches_shared(), "{second}");
    assert!(
        setup
            .host
            .netlink
            .links(LinkFilter::Name("br0"))
            .await
            .unwrap()
            .len()
            == 1
    );
}

#[tokio::test]
async fn an_element_that_an_earlier_attachment_left_is_replaced() {
    let setup = Setup::new();
    setup.establish(&desired("old")).await.unwrap();
    let gone = cni_core::host::netlink::NetlinkChange::LinkDel {
        link: "veth0".to_owned(),
    };
    setup.host.netlink.apply(&[gone]).await.unwrap();
    setup.establish(&desired("new")).await.unwrap();
    let elements = setup
        .host
        .firewall
        .elements(&table().table, "pods")
        .await
        .unwrap();
    assert_eq!(elements, [element("new")]);
}

#[tokio::test]
async fn every_drift_is_named() {
    use cni_core::host::firewall::FirewallChange as F;
    use cni_core::host::netlink::{LinkSettings, NetlinkChange as N};
    let setting = |change: fn(&mut LinkSettings)| {
        let mut settings = LinkSettings::default();
        change(&mut settings);
        settings
    };
    let set = |link: &str, settings| N::LinkSet {
        link: link.to_owned(),
        settings,
    };
    let host_side = [
        (
            set("veth0", setting(|s| s.up = Some(false))),
            "veth0: is down",
        ),
        (
            set("veth0", setting(|s| s.master = Some(String::new()))),
            "not a port of br0",
        ),
        (
            N::PortSet {
                link: "veth0".to_owned(),
                settings: PortSettings::default(),
            },
            "hairpin off",
        ),
        (
            N::AddressDel(Address::new("br0", net("10.0.0.1/24"))),
            "10.0.0.1/24 of br0 is missing",
        ),
    ];
    for (change, words) in host_side {
        let setup = Setup::new();
        let desired = desired("m");
        setup.establish(&desired).await.unwrap();
        setup
            .host
            .netlink
            .apply(std::slice::from_ref(&change))
            .await
            .unwrap();
        assert_drift(&setup, &desired, words).await;
    }
    let setup = Setup::new();
    let desired = desired("m");
    setup.establish(&desired).await.unwrap();
    let gone = N::AddressDel(Address::new("eth0", net("10.0.0.2/24")));
    setup.sandbox.netlink.apply(&[gone]).await.unwrap();
    assert_drift(&setup, &desired, "10.0.0.2/24 of eth0 is missing").await;
    setup
        .host
        .sysctl
        .write("net/ipv4/ip_forward", "0")
        .await
        .unwrap();
    assert_drift(&setup, &desired, "net/ipv4/ip_forward is 0, should be 1").await;
    let flush = F::ChainFlush {
        table: table().table,
        chain: "post".to_owned(),
    };
    setup.host.firewall.commit(&[flush]).await.unwrap();
    assert_drift(&setup, &desired, "post").await;
}

async fn assert_drift(setup: &Setup, desired: &Desired, words: &str) {
    let left = diff(desired, &setup.observe(desired).await).unwrap();
    let reasons = left.reasons().collect::<Vec<_>>().join("; ");
    assert!(reasons.contains(words), "{words:?} is not in {reasons:?}");
}

#[tokio::test]
async fn a_foreign_gateway_is_an_error_unless_it_may_be_replaced() {
    let setup = Setup::new();
    setup.establish(&desired("m")).await.unwrap();
    let mut other = Desired::new();
    let address = Address::new("br0", net("10.9.0.1/24"));
    other.share(
        Place::Host,
        Object::Gateway {
            address: address.clone(),
            replace: false,
            beside_others: false,
        },
    );
    let error = setup.establish(&other).await.unwrap_err();
    assert!(error.to_string().contains("forceAddress"), "{error}");
    let mut forced = Desired::new();
    forced.share(
        Place::Host,
        Object::Gateway {
            address,
            replace: true,
            beside_others: false,
        },
    );
    setup.establish(&forced).await.unwrap();
    let found = setup.host.netlink.addresses(Some("br0")).await.unwrap();
    assert_eq!(
        found.iter().map(|found| found.address).collect::<Vec<_>>(),
        [net("10.9.0.1/24")]
    );
}

#[tokio::test]
async fn gateways_of_several_prefixes_stand_beside_each_other() {
    let setup = Setup::new();
    setup.establish(&desired("m")).await.unwrap();
    let gateway = |text: &str, replace| {
        let mut desired = Desired::new();
        let object = Object::Gateway {
            address: Address::new("br0", net(text)),
            replace,
            beside_others: true,
        };
        desired.share(Place::Host, object);
        desired
    };
    setup
        .establish(&gateway("10.9.0.1/24", false))
        .await
        .unwrap();
    let overlapping = gateway("10.9.0.1/16", false);
    let error = setup.establish(&overlapping).await.unwrap_err();
    assert!(error.to_string().contains("10.9.0.1/24"), "{error}");
    setup
        .establish(&gateway("10.9.0.1/16", true))
        .await
        .unwrap();
    let found = setup.host.netlink.addresses(Some("br0")).await.unwrap();
    assert_eq!(
        found.iter().map(|found| found.address).collect::<Vec<_>>(),
        [net("10.0.0.1/24"), net("10.9.0.1/16")]
    );
}

#[tokio::test]
async fn a_link_of_another_kind_is_not_touched() {
    let setup = Setup::new();
    let kind = NewLinkKind::Veth {
        peer: "x".to_owned(),
        peer_mac: None,
        peer_netns: None,
    };
    let new = cni_core::host::netlink::NewLink::new("br0", kind);
    setup
        .host
        .netlink
        .apply(&[cni_core::host::netlink::NetlinkChange::LinkAdd(new)])
        .await
        .unwrap();
    let writes = setup.kernel.writes();
    let error = setup.establish(&desired("m")).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("br0 exists and is one end of a veth pair"),
        "{error}"
    );
    assert_eq!(setup.kernel.writes(), writes, "nothing was written");
}

#[tokio::test]
async fn a_cancelled_plan_changes_nothing() {
    let setup = Setup::new();
    let desired = desired("m");
    let before = setup.observe(&desired).await;
    let cancel = Cancel::new();
    cancel.cancel();
    establish(&desired, &setup.handles(), &cancel, Establishing::Apply)
        .await
        .unwrap_err();
    assert_eq!(setup.observe(&desired).await, before);
}

#[tokio::test]
async fn a_dry_run_writes_nothing_and_tells_the_plan_of_the_real_one() {
    let setup = Setup::new();
    let desired = desired("m");
    let dry = establish(
        &desired,
        &setup.handles(),
        &Cancel::new(),
        Establishing::DryRun,
    )
    .await;
    let (dry, _) = dry.unwrap();
    assert_eq!(setup.kernel.writes(), 0);
    let real = setup.establish(&desired).await.unwrap();
    assert_eq!(dry, real);
}
