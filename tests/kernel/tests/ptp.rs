//! The routed pair of `ptp`, by its data path.

use cni_testkit::{Pod, Snapshot, Test, tests};
use serde_json::json;

use crate::world::{Network, OUTSIDE4, ips, outside, reaches};

pub(crate) const TESTS: &[Test] = &tests![
    pods_reach_each_other_the_node_and_the_outside,
    two_addresses_may_share_a_gateway,
];

fn routed(subnets: &[&str]) -> Network {
    let network = Network::of(subnets).with(json!({ "type": "ptp" }));
    network.with(json!({ "isDefaultGateway": null, "bridge": null }))
}

fn with_default_routes(network: Network) -> Network {
    let mut ipam = network.config["ipam"].clone();
    ipam["routes"] = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
    network.with(json!({ "ipam": ipam }))
}

fn pods_reach_each_other_the_node_and_the_outside() {
    let _outside = outside(1500);
    let before = Snapshot::take();
    let network = with_default_routes(routed(&["10.9.0.0/24", "fd00:9::/64"]));
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let first = network.add(&a);
    let second = network.add(&b);
    for address in ips(&second) {
        reaches(&a, &address);
    }
    for target in ["10.9.0.1", "fd00:9::1", OUTSIDE4] {
        reaches(&a, target);
        reaches(&b, target);
    }
    assert!(network.check(&a, &first).is_success());
    network.del(&a);
    network.del(&b);
    let changes = Snapshot::take().since(&before);
    assert!(!changes.contains("veth"), "{changes}");
}

fn two_addresses_may_share_a_gateway() {
    let network = routed(&[]).with(json!({ "ipMasq": false, "ipam": {
        "type": "static",
        "addresses": [
            { "address": "10.9.0.5/24", "gateway": "10.9.0.1" },
            { "address": "10.9.0.6/24", "gateway": "10.9.0.1" },
        ],
    } }));
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    assert_eq!(ips(&result), ["10.9.0.5", "10.9.0.6"]);
    reaches(&pod, "10.9.0.1");
    let outcome = network.check(&pod, &result);
    assert!(outcome.is_success(), "{outcome}");
    network.del(&pod);
}
