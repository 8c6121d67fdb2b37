//! CHECK names what has changed since ADD, and changes nothing.

use std::fs;

use cni_core::host::Host;
use cni_core::host::firewall::{Element, Family, FirewallChange, Table, Value as Key};
use cni_core::host::netlink::{Address, NetlinkChange, PortSettings, Route};
use cni_core::nat;
use cni_testkit::{Pod, Snapshot, Test, tests};
use serde_json::{Value, json};

use crate::world::{Network, apply, block, ips, link, port, routes, set};

pub(crate) const TESTS: &[Test] = &tests![
    check_passes_when_nothing_has_changed,
    check_sees_a_changed_port,
    check_sees_a_changed_host_end,
    check_sees_a_missing_masquerade,
    check_sees_a_missing_spoof_filter,
    check_sees_a_changed_node,
    check_sees_a_changed_container,
    check_sees_a_lost_reservation,
];

/// An attachment with everything that can drift.
struct Attached {
    network: Network,
    pod: Pod,
    result: Value,
}

impl Attached {
    fn new() -> Self {
        let network = Network::dual().with(json!({
            "hairpinMode": true, "portIsolation": true, "macspoofchk": true, "mtu": 1400,
        }));
        let pod = Pod::new("pod");
        let result = network.add(&pod);
        Self {
            network,
            pod,
            result,
        }
    }

    fn port(&self) -> String {
        port(&self.result)
    }

    /// Asserts that CHECK fails, says `words`, and touches nothing.
    #[track_caller]
    fn drifted(&self, words: &[&str]) {
        // Carrier spreads in the background, unless somebody asks for the link (`linkwatch_sync_dev`, since Linux 6.9).
        for name in [self.port().as_str(), "br0"] {
            link(name);
        }
        self.pod.run(|| link("eth0"));
        let state = || {
            // The bridge loses its carrier a moment after its last port, and link-local addresses come by themselves.
            let node = Snapshot::take().without("link br0 ").without("fe80::");
            (node, Snapshot::of(&self.pod).without("fe80::"))
        };
        // What the kernel completes meanwhile concerns links alone, and does so once.
        let mut links = String::new();
        for _ in 0..5 {
            let before = state();
            let outcome = self.network.check(&self.pod, &self.result);
            let failure = outcome.failure();
            let text = format!("{} {}", failure.msg, failure.details);
            for word in words {
                assert!(text.contains(word), "{word:?} was expected: {outcome}");
            }
            let after = state();
            links.clear();
            for (after, before) in [(after.0, before.0), (after.1, before.1)] {
                links += &after.since(&before);
                let rest = |state: Snapshot| state.without("link ");
                rest(after).assert_unchanged_since(&rest(before));
            }
            if links.is_empty() {
                return;
            }
        }
        panic!("the state of links changed:\n{links}");
    }

    #[track_caller]
    fn passes(&self) {
        let outcome = self.network.check(&self.pod, &self.result);
        outcome.silent_success();
    }
}

fn set_port(link: &str, hairpin: bool, isolated: bool) {
    let settings = PortSettings {
        hairpin,
        isolated,
        ..PortSettings::default()
    };
    let link = link.to_owned();
    apply(&[NetlinkChange::PortSet { link, settings }]);
}

fn commit(changes: &[FirewallChange]) {
    let host = Host::open().expect("the kernel");
    block(host.firewall.commit(changes)).expect("a change to nftables");
}

fn check_passes_when_nothing_has_changed() {
    let attached = Attached::new();
    let before = (Snapshot::take(), Snapshot::of(&attached.pod));
    attached.passes();
    Snapshot::take().assert_unchanged_since(&before.0);
    Snapshot::of(&attached.pod).assert_unchanged_since(&before.1);
}

fn check_sees_a_changed_port() {
    let attached = Attached::new();
    set_port(&attached.port(), false, true);
    attached.drifted(&["hairpin", &attached.port()]);
    set_port(&attached.port(), true, false);
    attached.drifted(&["isolat", &attached.port()]);
    set_port(&attached.port(), true, true);
    attached.passes();
}

fn check_sees_a_changed_host_end() {
    let attached = Attached::new();
    let port = attached.port();
    set(&port, |settings| settings.mtu = Some(1300));
    attached.drifted(&["mtu", &port]);
    set(&port, |settings| settings.mtu = Some(1400));
    attached.passes();
    set(&port, |settings| settings.up = Some(false));
    attached.drifted(&["down", &port]);
    set(&port, |settings| settings.up = Some(true));
    attached.passes();
    set(&port, |settings| settings.master = Some(String::new()));
    attached.drifted(&["br0", &port]);
    apply(&[NetlinkChange::LinkDel { link: port.clone() }]);
    attached.drifted(&[&port]);
}

fn check_sees_a_missing_masquerade() {
    let attached = Attached::new();
    let address = ips(&attached.result)[0].parse().unwrap();
    let (set, key) = nat::key(address);
    let host = Host::open().unwrap();
    let element = block(host.firewall.element(&nat::table(), set, &key));
    let element = element.unwrap().expect("ADD made an element");
    commit(&[FirewallChange::ElementDel {
        table: nat::table(),
        set: set.to_owned(),
        elements: vec![Element::new(key)],
    }]);
    attached.drifted(&["cni_masquerade", &ips(&attached.result)[0]]);
    commit(&[FirewallChange::ElementAdd {
        table: nat::table(),
        set: set.to_owned(),
        elements: vec![element],
    }]);
    attached.passes();
    let state = block(host.firewall.table(&nat::table())).unwrap().unwrap();
    let chain = state
        .chains
        .iter()
        .find(|chain| chain.name == "postrouting")
        .expect("a chain");
    commit(&[FirewallChange::RuleDel {
        table: nat::table(),
        chain: chain.name.clone(),
        handle: chain.rules[0].handle,
    }]);
    attached.drifted(&["cni_masquerade", "postrouting"]);
    commit(&[FirewallChange::TableDel(nat::table())]);
    attached.drifted(&["cni_masquerade"]);
}

fn check_sees_a_missing_spoof_filter() {
    let attached = Attached::new();
    let table = Table {
        family: Family::Bridge,
        name: "cni_spoof".to_owned(),
    };
    let key = vec![Key::Interface(attached.port())];
    commit(&[FirewallChange::ElementDel {
        table: table.clone(),
        set: "guarded".to_owned(),
        elements: vec![Element::new(key)],
    }]);
    attached.drifted(&["cni_spoof", "guarded"]);
    commit(&[FirewallChange::TableDel(table)]);
    attached.drifted(&["cni_spoof"]);
}

fn check_sees_a_changed_node() {
    let attached = Attached::new();
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/{key}"), "0").unwrap();
        attached.drifted(&[key.rsplit('/').next().unwrap()]);
        fs::write(format!("/proc/sys/{key}"), "1").unwrap();
    }
    attached.passes();
    for gateway in ["10.9.0.1/24", "fd00:9::1/64"] {
        let gateway = Address::new("br0", gateway.parse().unwrap());
        apply(&[NetlinkChange::AddressDel(gateway.clone())]);
        attached.drifted(&[&gateway.address.to_string(), "br0"]);
        apply(&[NetlinkChange::AddressAdd(gateway)]);
    }
    attached.passes();
    set("br0", |settings| settings.up = Some(false));
    attached.drifted(&["br0"]);
}

fn check_sees_a_changed_container() {
    let attached = Attached::new();
    let inside = |change: NetlinkChange| attached.pod.run(|| apply(std::slice::from_ref(&change)));
    let all = attached.pod.run(|| routes("eth0"));
    for prefix in ["0.0.0.0/0", "::/0"] {
        let prefix = prefix.parse().unwrap();
        let route: &Route = all
            .iter()
            .find(|route| route.destination == prefix)
            .expect("a default route");
        inside(NetlinkChange::RouteDel(route.clone()));
        attached.drifted(&["route"]);
        inside(NetlinkChange::RouteAdd(route.clone()));
    }
    attached.passes();
    for ip in attached.result["ips"].as_array().unwrap() {
        let text = ip["address"].as_str().unwrap();
        let address = Address::new("eth0", text.parse().unwrap());
        inside(NetlinkChange::AddressDel(address));
        attached.drifted(&[text, "eth0"]);
    }
    attached.pod.run(|| {
        apply(&[NetlinkChange::LinkDel {
            link: "eth0".to_owned(),
        }]);
    });
    attached.drifted(&["eth0"]);
    assert!(link(&attached.port()).is_none());
}

fn check_sees_a_lost_reservation() {
    let attached = Attached::new();
    for ip in ips(&attached.result) {
        fs::remove_file(format!("/var/lib/cni/networks/net/{ip}")).unwrap();
    }
    attached.drifted(&["host-local"]);
}
