//! What others have made or written: a bridge of the operator's, routes that the kernel would refuse, a configuration that
//! has become invalid.

use cni_core::host::netlink::{LinkSettings, MacAddr, NetlinkChange, NewLink, NewLinkKind};
use cni_testkit::{Pod, Snapshot, Test, tests};
use serde_json::json;

use crate::world::{Network, apply, link, mac, port, reaches, routes};

pub(crate) const TESTS: &[Test] = &tests![
    an_operators_empty_bridge_keeps_its_address_and_bears_no_mark,
    an_operators_bridge_keeps_its_address_when_the_port_that_had_it_goes,
    an_operators_bridge_outlives_the_collection_of_everything,
    routes_that_the_kernel_would_refuse_are_sorted_out,
    del_cleans_up_under_a_configuration_that_has_become_invalid,
];

fn operators_bridge() {
    let kind = NewLinkKind::Bridge {
        vlan_filtering: false,
    };
    let mut bridge = NewLink::new("br0", kind);
    bridge.up = true;
    apply(&[NetlinkChange::LinkAdd(bridge)]);
}

fn address() -> Option<MacAddr> {
    link("br0").expect("the bridge").mac
}

fn low(network: &Network, number: u8) -> Network {
    let mac = format!("00:00:00:00:00:{number:02x}");
    let keys = json!({ "runtimeConfig": { "mac": mac } });
    network.clone().with(keys)
}

fn an_operators_empty_bridge_keeps_its_address_and_bears_no_mark() {
    operators_bridge();
    let before = address();
    let network = Network::dual();
    let pods = [Pod::new("a"), Pod::new("b")];
    for (number, pod) in (1..).zip(&pods) {
        let result = low(&network, number).add(pod);
        // The lowest address that a port can have, which a bridge would follow by itself.
        let change = NetlinkChange::LinkSet {
            link: port(&result),
            settings: lowest(number),
        };
        apply(&[change]);
        assert_eq!(address(), before);
        reaches(pod, "10.9.0.1");
    }
    for pod in &pods {
        network.del(pod);
        assert_eq!(address(), before);
    }
    assert_eq!(link("br0").expect("the bridge").alias, None);
}

fn lowest(number: u8) -> LinkSettings {
    let mut settings = LinkSettings::default();
    settings.mac = Some(MacAddr([0, 0, 0, 0, 1, number]));
    settings
}

fn an_operators_bridge_keeps_its_address_when_the_port_that_had_it_goes() {
    operators_bridge();
    let mut tap = NewLink::new(
        "tap0",
        NewLinkKind::Veth {
            peer: "tap1".to_owned(),
            peer_mac: None,
            peer_netns: None,
        },
    );
    tap.mac = Some(mac("00:00:00:00:00:01"));
    tap.master = Some("br0".to_owned());
    tap.up = true;
    apply(&[NetlinkChange::LinkAdd(tap)]);
    let before = address();
    assert_eq!(before, Some(mac("00:00:00:00:00:01")), "it follows");
    let (network, pod) = (Network::dual(), Pod::new("a"));
    network.add(&pod);
    let link = "tap0".to_owned();
    apply(&[NetlinkChange::LinkDel { link }]);
    assert_eq!(address(), before);
}

fn an_operators_bridge_outlives_the_collection_of_everything() {
    operators_bridge();
    let (network, pod) = (Network::dual(), Pod::new("a"));
    let result = network.add(&pod);
    network.gc(json!([])).silent_success();
    assert!(link(&port(&result)).is_none());
    assert!(link("br0").is_some());
}

fn routes_that_the_kernel_would_refuse_are_sorted_out() {
    let network = Network::dual().with(json!({ "ipam": {
        "type": "host-local",
        "ranges": [[{ "subnet": "10.9.0.0/24" }], [{ "subnet": "fd00:9::/64" }]],
        "routes": [
            { "dst": "10.9.0.0/24" },
            { "dst": "fd00:9::/64" },
            { "dst": "0.0.0.0/0" },
            { "dst": "0.0.0.0/0" },
            { "dst": "0.0.0.0/0", "gw": "10.9.0.77" },
            { "dst": "::/0" },
            { "dst": "::/0", "gw": "fd00:9::77" },
        ],
    } }));
    let pod = Pod::new("a");
    let result = network.add(&pod);
    network.check(&pod, &result).silent_success();
    let mut defaults: Vec<String> = pod.run(|| {
        let found = routes("eth0");
        let defaults = found.iter().filter(|route| route.destination.prefix() == 0);
        defaults
            .filter_map(|route| route.gateway.map(|gateway| gateway.to_string()))
            .collect()
    });
    defaults.sort();
    let wanted = ["10.9.0.1", "10.9.0.77", "fd00:9::1", "fd00:9::77"];
    assert_eq!(defaults, wanted);
    let second = network.clone().interface("net1");
    let other = second.add(&pod);
    network.check(&pod, &result).silent_success();
    second.check(&pod, &other).silent_success();
}

fn del_cleans_up_under_a_configuration_that_has_become_invalid() {
    let network = Network::dual();
    let (first, pod) = (Pod::new("first"), Pod::new("pod"));
    network.add(&first);
    // The store remembers which address it gave last.
    let state = || {
        Snapshot::take()
            .without("/.index/")
            .without("last_reserved_ip")
    };
    let before = state();
    network.add(&pod);
    let broken = json!({ "mtu": "large", "vlan": -1, "macspoofchk": true });
    network.clone().with(broken).del(&pod);
    state().assert_unchanged_since(&before);
}
