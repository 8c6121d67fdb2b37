//! What each key of the bridge's configuration does.

use std::time::Duration;

use cni_core::host::netlink::{MacAddr, OperState};
use cni_testkit::{Capture, Frame, Pod, Snapshot, TcpEcho, Test, counted, sysctl, tests};
use serde_json::{Value, json};

use crate::crash::wait_until;
use crate::world::{
    Network, addresses, apply, ips, link, mac, misses, outside, port, reaches, routes, set,
};

pub(crate) const TESTS: &[Test] = &tests![
    hairpin_lets_a_pod_reach_itself_by_the_bridge,
    isolated_pods_reach_the_gateway_and_not_each_other,
    a_spoofed_source_address_is_dropped_and_counted,
    an_address_that_a_later_plugin_gave_leaves_no_spoof_check_behind,
    promiscuous_mode_is_the_bridges,
    the_mtu_is_the_configured_one_or_the_uplinks,
    the_hardware_address_is_the_capabilitys_then_of_args_then_of_cni_args,
    without_address_management_there_is_a_bare_layer_two,
    a_disabled_container_interface_is_down,
    another_gateway_address_is_an_error_unless_forced,
    duplicate_address_detection_has_ended_when_add_returns,
    dns_is_in_the_result,
    routes_are_made_with_their_metrics,
    the_mtu_is_in_the_result_since_1_1_0,
    nothing_else_is_known_in_an_old_result,
];

fn hairpin_lets_a_pod_reach_itself_by_the_bridge() {
    for hairpin in [true, false] {
        let name = if hairpin { "br0" } else { "br1" };
        let network = Network::bare().with(json!({
            "hairpinMode": hairpin, "bridge": name, "name": name,
        }));
        let pod = Pod::new("pod");
        let result = network.add(&pod);
        assert_eq!(link(&port(&result)).unwrap().port.unwrap().hairpin, hairpin);
        // A broadcast frame comes back by the port that it left by, or does not: the bridge has sent it to its ports when
        // it takes it itself (`br_handle_frame_finish`).
        let [at_port, at_bridge] = [&port(&result), name].map(Capture::here);
        let capture = Capture::start(&pod, "eth0");
        capture.send(&probe(container_mac(&result))).unwrap();
        let is_probe = |frame: &Frame| frame.ethertype() == Some(PROBE);
        assert!(at_bridge.find(SOON, is_probe).is_some());
        let frames = at_port.drain().into_iter().filter(is_probe);
        let ways: Vec<bool> = frames.map(|frame| frame.outgoing).collect();
        assert_eq!(ways, [false, true][..1 + usize::from(hairpin)]);
        if hairpin {
            let back = capture.find(SOON, |frame| !frame.outgoing && is_probe(frame));
            assert!(back.is_some());
        }
    }
}

/// What takes longer does not come at all.
const SOON: Duration = Duration::from_secs(20);

/// An EtherType for experiments (IEEE 802).
const PROBE: u16 = 0x88b5;

/// A broadcast frame with this source address.
fn probe(MacAddr(source): MacAddr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(source);
    frame.extend(PROBE.to_be_bytes());
    frame.extend([0x55; 46]);
    frame
}

fn container_mac(result: &Value) -> MacAddr {
    mac(result["interfaces"][2]["mac"].as_str().expect("a mac"))
}

fn isolated_pods_reach_the_gateway_and_not_each_other() {
    let network = Network::dual();
    let isolated = network.clone().with(json!({ "portIsolation": true }));
    let pods = [Pod::new("a"), Pod::new("b")];
    let open = Pod::new("open");
    let results = pods.each_ref().map(|pod| isolated.add(pod));
    let third = network.add(&open);
    for (from, to) in [(0, 1), (1, 0)] {
        let targets: [Vec<String>; 1] = [ips(&results[to])];
        for target in targets.concat() {
            misses(&pods[from], &target);
        }
        for target in ips(&third) {
            reaches(&pods[from], &target);
        }
        reaches(&pods[from], "10.9.0.1");
        reaches(&pods[from], "fd00:9::1");
    }
}

fn a_spoofed_source_address_is_dropped_and_counted() {
    let network = Network::dual().with(json!({ "macspoofchk": true }));
    let plain = Network::dual();
    let (pod, peer) = (Pod::new("pod"), Pod::new("peer"));
    let result = network.add(&pod);
    plain.add(&peer);
    reaches(&pod, "10.9.0.1");
    let (out, seen) = (Capture::start(&pod, "eth0"), Capture::start(&peer, "eth0"));
    let own = container_mac(&result);
    // The next that comes, so that no other has come before it.
    let arrives = || {
        out.send(&probe(own)).unwrap();
        let found = seen.find(SOON, |frame| frame.ethertype() == Some(PROBE));
        assert_eq!(found.and_then(|frame| frame.source_mac()), Some(own.0));
    };
    let is_dropped = |source| {
        let before = dropped();
        out.send(&probe(source)).unwrap();
        wait_until(|| dropped() > before);
        assert_eq!(dropped(), before + 1);
    };
    arrives();
    is_dropped(mac("02:00:00:00:00:99"));
    arrives();
    // The whole address counts, and another pod's is another one.
    let MacAddr(mut similar) = own;
    similar[5] ^= 1;
    is_dropped(MacAddr(similar));
    arrives();
    network.del(&pod);
    let left = Snapshot::take();
    assert_eq!(left.lines(pod.id()).len(), 0, "{left:?}");
}

fn an_address_that_a_later_plugin_gave_leaves_no_spoof_check_behind() {
    let mac_of_ours =
        json!({ "macspoofchk": true, "runtimeConfig": { "mac": "02:00:00:00:00:77" } });
    for keys in [json!({ "macspoofchk": true }), mac_of_ours] {
        let network = Network::dual().with(keys);
        let [stays, goes] = ["stays", "goes"].map(Pod::new);
        network.add(&stays);
        let before = Snapshot::take().without("/var/lib/cni");
        let mut result = network.add(&goes);
        for interface in result["interfaces"].as_array_mut().unwrap() {
            if interface["sandbox"].is_string() {
                interface["mac"] = json!("02:00:00:00:00:88");
            }
        }
        let network = network.with(json!({ "prevResult": result }));
        network.del(&goes);
        let after = Snapshot::take().without("/var/lib/cni");
        after.assert_unchanged_since(&before);
        network.del(&stays);
    }
}

/// What the spoof check has counted.
fn dropped() -> u64 {
    counted("cni_spoof", "prerouting")
}

fn promiscuous_mode_is_the_bridges() {
    let network = Network::bare().with(json!({ "promiscMode": true }));
    network.add(&Pod::new("pod"));
    assert!(link("br0").unwrap().promiscuous);
}

fn the_mtu_is_the_configured_one_or_the_uplinks() {
    let _outside = outside(1380);
    let mtu_of = |network: &Network, wanted: u32| {
        let pod = Pod::new("pod");
        let result = network.add(&pod);
        let bridge = network.config["bridge"].as_str().unwrap();
        let inside = pod.run(|| link("eth0").unwrap().mtu);
        let all = [
            link(bridge).unwrap().mtu,
            link(&port(&result)).unwrap().mtu,
            inside,
        ];
        assert_eq!(all, [wanted; 3], "{}", network.config);
        pod
    };
    let _one = mtu_of(&Network::bare(), 1380);
    // The second pod gets what the first one's network has, whatever the uplink is by now.
    set("uplink", |settings| settings.mtu = Some(1300));
    let _two = mtu_of(&Network::bare(), 1380);
    let explicit = json!({ "mtu": 1444, "bridge": "br1", "name": "other" });
    let _three = mtu_of(&Network::bare().with(explicit), 1444);
}

fn the_hardware_address_is_the_capabilitys_then_of_args_then_of_cni_args() {
    let [low, middle, high] = [
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
        "02:00:00:00:00:03",
    ];
    let by_cni_args = Network::bare().env("CNI_ARGS", &format!("IgnoreUnknown=1;MAC={low}"));
    let by_args = by_cni_args
        .clone()
        .with(json!({ "args": { "cni": { "mac": middle } } }));
    let by_capability = by_args
        .clone()
        .with(json!({ "runtimeConfig": { "mac": high } }));
    for (network, wanted) in [(by_cni_args, low), (by_args, middle), (by_capability, high)] {
        let pod = Pod::new("pod");
        let result = network.add(&pod);
        assert_eq!(container_mac(&result), mac(wanted));
        assert_eq!(pod.run(|| link("eth0").unwrap().mac), Some(mac(wanted)));
        network.del(&pod);
    }
}

fn without_address_management_there_is_a_bare_layer_two() {
    let network = Network::bare();
    let pods = [Pod::new("a"), Pod::new("b")];
    for (pod, address) in pods.iter().zip(["10.7.0.1/24", "10.7.0.2/24"]) {
        let result = network.add(pod);
        assert!(result.get("ips").is_none(), "{result}");
        let eth0 = pod.run(|| link("eth0").unwrap());
        assert_eq!(eth0.oper_state, OperState::Up);
        pod.run(|| {
            let address = address.parse().unwrap();
            let address = cni_core::host::netlink::Address::new("eth0", address);
            apply(&[cni_core::host::netlink::NetlinkChange::AddressAdd(address)]);
        });
    }
    reaches(&pods[0], "10.7.0.2");
    assert_eq!(sysctl("net/ipv4/ip_forward").as_deref(), Some("0"));
    assert!(addresses("br0").iter().all(|known| known.address.is_ipv6()));
}

fn a_disabled_container_interface_is_down() {
    let network = Network::bare().with(json!({ "disableContainerInterface": true }));
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    assert!(!pod.run(|| link("eth0").unwrap().up));
    let check = network.check(&pod, &result);
    assert!(check.is_success(), "{check}");
    network.del(&pod);
    assert!(link(&port(&result)).is_none());
}

fn another_gateway_address_is_an_error_unless_forced() {
    let network = |subnet: &str| Network::of(&[subnet]).with(json!({ "ipMasq": false }));
    let first = Pod::new("first");
    network("10.9.0.0/24").add(&first);
    // The same network with another prefix: `forceAddress` says which of the two counts.
    let wider = network("10.9.0.0/16").with(json!({ "name": "wider" }));
    let pod = Pod::new("pod");
    let before = Snapshot::take().without("/var/lib/cni");
    let failure = wider.run("ADD", &pod).run().failure();
    let text = format!("{} {}", failure.msg, failure.details);
    assert!(text.contains("forceAddress"), "{failure:?}");
    Snapshot::take()
        .without("/var/lib/cni")
        .assert_unchanged_since(&before);
    wider.with(json!({ "forceAddress": true })).add(&pod);
    let found = addresses("br0");
    let v4: Vec<String> = found
        .iter()
        .filter(|known| known.address.is_ipv4())
        .map(|known| known.address.to_string())
        .collect();
    assert_eq!(v4, ["10.9.0.1/16"]);
}

fn duplicate_address_detection_has_ended_when_add_returns() {
    let network = Network::dual().with(json!({ "enabledad": true }));
    let pod = Pod::new("pod");
    network.add(&pod);
    let all = pod.run(|| addresses("eth0"));
    assert!(all.iter().any(|known| known.address.is_ipv6()));
    for known in all {
        assert!(!known.tentative && !known.no_dad, "{known:?}");
    }
    reaches(&pod, "fd00:9::1");
}

fn dns_is_in_the_result() {
    let dns = json!({ "nameservers": ["10.9.0.53"], "domain": "a.example", "search": ["b.example"], "options": ["ndots:5"] });
    let result = Network::dual()
        .with(json!({ "dns": dns }))
        .add(&Pod::new("pod"));
    assert_eq!(result["dns"], dns);
}

fn routes_are_made_with_their_metrics() {
    let network = Network::of(&["10.9.0.0/24"]).with(json!({ "ipam": {
        "type": "host-local",
        "ranges": [[{ "subnet": "10.9.0.0/24" }]],
        "routes": [
            { "dst": "10.50.0.0/16", "mtu": 1400, "advmss": 1340, "priority": 77 },
            { "dst": "10.51.0.0/16", "table": 100, "gw": "10.9.0.9" },
            { "dst": "10.52.0.0/16", "scope": 253 },
        ],
    } }));
    let pod = Pod::new("pod");
    network.add(&pod);
    let all = pod.run(|| routes("eth0"));
    let to = |dst: &str| {
        let dst = dst.parse().unwrap();
        all.iter()
            .find(|route| route.destination == dst)
            .unwrap_or_else(|| panic!("{dst}: {all:?}"))
    };
    let route = to("10.50.0.0/16");
    assert_eq!(
        (route.mtu, route.advmss, route.metric, route.table),
        (Some(1400), Some(1340), 77, 254)
    );
    assert_eq!(route.gateway, Some("10.9.0.1".parse().unwrap()));
    let route = to("10.51.0.0/16");
    assert_eq!(
        (route.table, route.gateway),
        (100, Some("10.9.0.9".parse().unwrap()))
    );
    let route = to("10.52.0.0/16");
    assert_eq!((route.scope, route.gateway), (253, None));
    assert_eq!(to("0.0.0.0/0").gateway, Some("10.9.0.1".parse().unwrap()));
}

fn the_mtu_is_in_the_result_since_1_1_0() {
    for (version, present) in [("1.1.0", true), ("1.0.0", false)] {
        let network = Network::dual().with(json!({ "cniVersion": version, "mtu": 1400 }));
        let pod = Pod::new("pod");
        let result = network.add(&pod);
        assert_eq!(result["cniVersion"], version);
        for interface in result["interfaces"].as_array().unwrap() {
            let mtu = interface.get("mtu");
            assert_eq!(mtu, present.then_some(&json!(1400)), "{result}");
        }
        let check = network.check(&pod, &result);
        assert!(check.is_success(), "{check}");
        network.del(&pod);
    }
}

fn nothing_else_is_known_in_an_old_result() {
    let network = Network::dual().with(json!({ "cniVersion": "0.2.0" }));
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    assert!(result["ip4"]["ip"].as_str().unwrap().ends_with("/24"));
    assert!(result["ip6"]["ip"].as_str().unwrap().ends_with("/64"));
    assert!(result.get("interfaces").is_none(), "{result}");
    let _echo = TcpEcho::here("0.0.0.0:4242");
    pod.run(|| TcpEcho::ask("10.9.0.1:4242"))
        .expect("an answer");
    network.del(&pod);
}
