//! Netlink where the machine's own kernel may lack the driver: VLANs of bridges, dummy links. What was set is read back
//! by the product and, as an independent witness, by iproute2's `bridge`.

use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};

use cni_core::host::netlink::*;
use cni_testkit::{Test, tests};
use serde_json::Value;

pub(crate) const TESTS: &[Test] = &tests![
    vlans_of_a_port_are_read_as_they_were_set,
    a_trunk_of_all_vlans_is_one_change,
    a_bridge_has_vlans_of_its_own,
    vlan_filtering_is_read_and_switched,
    what_is_refused_bears_the_command_and_the_kernels_reason,
    a_dummy_link_is_made_and_deleted,
];

/// The result of a future that never waits, as those of the kernel implementations.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the kernel implementation waited"),
    }
}

pub(crate) fn vlan(id: u16) -> Vlan {
    Vlan {
        id,
        pvid: false,
        untagged: false,
    }
}

pub(crate) fn native(id: u16) -> Vlan {
    Vlan {
        id,
        pvid: true,
        untagged: true,
    }
}

pub(crate) fn add(link: &str, vlan: Vlan, last: u16) -> NetlinkChange {
    NetlinkChange::VlanAdd {
        link: link.to_owned(),
        vlan,
        last,
        on_bridge: false,
    }
}

pub(crate) fn del(link: &str, first: u16, last: u16) -> NetlinkChange {
    NetlinkChange::VlanDel {
        link: link.to_owned(),
        first,
        last,
        on_bridge: false,
    }
}

/// VLANs as `bridge vlan show` has them, with flags in the order of the text.
pub(crate) fn witness(link: &str) -> Vec<(u64, String)> {
    let output = Command::new("bridge")
        .args(["-json", "vlan", "show", "dev", link])
        .output()
        .expect("iproute2's bridge");
    let text = String::from_utf8_lossy(&output.stdout);
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let vlans = all[0]["vlans"].as_array().cloned().unwrap_or_default();
    let vlans = vlans.iter().flat_map(|vlan| {
        // Releases of iproute2 differ in whether they join ranges.
        let first = vlan["vlan"].as_u64().expect("a number");
        let last = vlan["vlanEnd"].as_u64().unwrap_or(first);
        let flags = vlan["flags"].as_array().cloned().unwrap_or_default();
        let flags: Vec<&str> = flags.iter().filter_map(Value::as_str).collect();
        let flags = flags.join(" ");
        (first..=last).map(move |id| (id, flags.clone()))
    });
    vlans.collect()
}

/// A filtering bridge `br0` with the port `a`.
fn bridge_with_a_port() -> KernelNetlink {
    let netlink = KernelNetlink::open().expect("a socket");
    let bridge = NewLinkKind::Bridge {
        vlan_filtering: true,
    };
    let pair = NewLinkKind::Veth {
        peer: "b".to_owned(),
        peer_mac: None,
        peer_netns: None,
    };
    let mut port = NewLink::new("a", pair);
    port.master = Some("br0".to_owned());
    let made = now(netlink.apply(&[
        NetlinkChange::LinkAdd(NewLink::new("br0", bridge)),
        NetlinkChange::LinkAdd(port),
    ]));
    made.expect("a bridge with a port");
    netlink
}

fn vlans_of_a_port_are_read_as_they_were_set() {
    let netlink = bridge_with_a_port();
    let read = || now(netlink.vlans("a")).expect("the port's VLANs");
    let apply = |change| now(netlink.apply_one(change)).expect("a change of VLANs");
    assert_eq!(read(), [native(1)], "the kernel's default");

    apply(del("a", 1, 1));
    assert_eq!(read(), []);
    apply(add("a", native(100), 100));
    apply(add("a", vlan(10), 13));
    apply(add("a", vlan(200), 200));
    let expected = [10, 11, 12, 13].map(vlan).into_iter();
    let expected: Vec<Vlan> = expected.chain([native(100), vlan(200)]).collect();
    assert_eq!(read(), expected);
    let shown = [10, 11, 12, 13, 100, 200].map(|id| match id {
        100 => (id, "PVID Egress Untagged".to_owned()),
        _ => (id, String::new()),
    });
    assert_eq!(witness("a"), shown);

    apply(del("a", 11, 12));
    assert_eq!(read(), [vlan(10), vlan(13), native(100), vlan(200)]);
    // Another VLAN as PVID: the first stays, without being it.
    apply(add("a", native(300), 300));
    let former = Vlan {
        pvid: false,
        ..native(100)
    };
    let expected = [vlan(10), vlan(13), former, vlan(200), native(300)];
    assert_eq!(read(), expected);
    apply(del("a", 1, 4094));
    assert_eq!(read(), []);
}

fn a_trunk_of_all_vlans_is_one_change() {
    let netlink = bridge_with_a_port();
    now(netlink.apply_one(add("a", vlan(2), 4094))).expect("a range");
    let expected: Vec<Vlan> = [native(1)]
        .into_iter()
        .chain((2..=4094).map(vlan))
        .collect();
    assert_eq!(now(netlink.vlans("a")).expect("VLANs"), expected);
    now(netlink.apply_one(del("a", 2, 4094))).expect("a range");
    assert_eq!(now(netlink.vlans("a")).expect("VLANs"), [native(1)]);
}

fn a_bridge_has_vlans_of_its_own() {
    let netlink = bridge_with_a_port();
    let read = |link| now(netlink.vlans(link)).expect("VLANs");
    assert_eq!(read("br0"), [native(1)]);
    let change = NetlinkChange::VlanAdd {
        link: "br0".to_owned(),
        vlan: vlan(7),
        last: 9,
        on_bridge: true,
    };
    now(netlink.apply_one(change)).expect("VLANs on the bridge");
    assert_eq!(read("br0"), [native(1), vlan(7), vlan(8), vlan(9)]);
    assert_eq!(read("a"), [native(1)], "the port keeps its own");
    let change = NetlinkChange::VlanDel {
        link: "br0".to_owned(),
        first: 1,
        last: 8,
        on_bridge: true,
    };
    now(netlink.apply_one(change)).expect("VLANs off the bridge");
    assert_eq!(read("br0"), [vlan(9)]);
}

fn vlan_filtering_is_read_and_switched() {
    let netlink = bridge_with_a_port();
    let kind = || {
        let link = now(netlink.link("br0")).expect("a link").expect("br0");
        link.kind
    };
    for vlan_filtering in [true, false, true] {
        let mut settings = LinkSettings::default();
        settings.vlan_filtering = Some(vlan_filtering);
        let link = "br0".to_owned();
        now(netlink.apply_one(NetlinkChange::LinkSet { link, settings })).expect("a switch");
        assert_eq!(kind(), LinkKind::Bridge { vlan_filtering });
    }
}

fn what_is_refused_bears_the_command_and_the_kernels_reason() {
    let netlink = bridge_with_a_port();
    let error = now(netlink.apply_one(del("a", 77, 77)));
    // What is not there is removed: the kernel does not tell the difference.
    assert!(error.is_ok(), "{error:?}");
    // `b` is no port.
    let error = now(netlink.apply_one(add("b", vlan(5), 5))).expect_err("no port");
    assert!(
        error.to_string().contains("bridge vlan add dev b vid 5"),
        "{error}"
    );
    assert_eq!(error.errno, errno::EOPNOTSUPP, "{error}");
    let error = now(netlink.apply_one(add("a", vlan(4095), 4095))).expect_err("no VLAN");
    assert!(error.to_string().contains("4095"), "{error}");
    let error = now(netlink.vlans("nope")).expect_err("no link");
    assert_eq!(error.errno, errno::ENODEV);
}

fn a_dummy_link_is_made_and_deleted() {
    let netlink = KernelNetlink::open().expect("a socket");
    let mut new = NewLink::new("dummy7", NewLinkKind::Dummy);
    new.mtu = Some(1400);
    new.up = true;
    new.ipv6_link_local = false;
    now(netlink.apply_one(NetlinkChange::LinkAdd(new))).expect("a dummy link");
    let link = now(netlink.link("dummy7"))
        .expect("a link")
        .expect("dummy7");
    assert_eq!(link.kind, LinkKind::Other("dummy".to_owned()));
    assert!(link.up && link.mtu == 1400, "{link:?}");
    assert_eq!(
        now(netlink.addresses(Some("dummy7"))).expect("addresses"),
        []
    );
    let link = "dummy7".to_owned();
    now(netlink.apply_one(NetlinkChange::LinkDel { link })).expect("a deletion");
    assert_eq!(now(netlink.link("dummy7")).expect("no link"), None);
}
