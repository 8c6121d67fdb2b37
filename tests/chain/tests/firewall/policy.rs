//! Who reaches whom.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use cni_testkit::{Pod, TcpEcho, reference_plugin, require};
use serde_json::{Value, json};

use super::world::{Network, OUTSIDE4, OUTSIDE6, ips, misses, outside, reaches, run, state};

const OUTSIDE: [&str; 2] = [OUTSIDE4, OUTSIDE6];

fn closed(name: &'static str, number: u8, policy: &str) -> Network {
    Network::bridge(name, number).with(json!({ "ingressPolicy": policy }))
}

/// Whether bridged packets are shown to the rules for IP, where this kernel can do that at all.
fn bridge_netfilter(on: bool) -> bool {
    ["iptables", "ip6tables"].iter().all(|name| {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{name}");
        fs::write(path, if on { "1" } else { "0" }).is_ok()
    })
}

pub(crate) fn an_open_pod_is_reached_from_everywhere_and_an_admin_drop_comes_first() {
    let outside = outside();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let (one, two) = (Network::bridge("one", 21), Network::bridge("two", 22));
    let first = ips(&one.add(&a));
    let second = ips(&two.add(&b));
    reaches(&a, &second);
    reaches(&b, &first);
    reaches(&a, &OUTSIDE);
    reaches(&outside, &first);
    // The operator's word is the first, also about what a pod sends.
    for (family, address) in [("ip", &first[0]), ("ip6", &first[1])] {
        run(&format!(
            "nft add rule inet cni_firewall CNI-ADMIN {family} saddr {address} drop"
        ));
    }
    misses(&a, &second);
    misses(&a, &OUTSIDE);
    reaches(&b, &OUTSIDE);
    run("nft flush chain inet cni_firewall CNI-ADMIN");
    reaches(&a, &second);
}

pub(crate) fn a_closed_bridge_is_reached_from_itself_and_from_open_ones() {
    let outside = outside();
    let one = closed("one", 21, "same-bridge");
    let two = closed("two", 22, "same-bridge");
    let open = Network::bridge("open", 23);
    let pods: Vec<Pod> = ["a1", "a2", "b", "c"].map(Pod::new).into();
    let networks = [&one, &one, &two, &open];
    let results: Vec<Value> = networks.iter().zip(&pods).map(|(n, p)| n.add(p)).collect();
    let all: Vec<Vec<String>> = results.iter().map(ips).collect();
    for bridged in [false, true] {
        if !bridge_netfilter(bridged) && bridged {
            continue;
        }
        reaches(&pods[0], &all[1]);
        misses(&pods[0], &all[2]);
        misses(&pods[2], &all[0]);
        // Answers of a closed bridge to an open one, and the other way round.
        reaches(&pods[0], &all[3]);
        reaches(&pods[3], &all[0]);
        reaches(&pods[0], &OUTSIDE);
        reaches(&outside, &all[0]);
        for (network, (pod, result)) in networks.iter().zip(pods.iter().zip(&results)) {
            let check = network.check(pod, result);
            assert!(check.is_success(), "{check}");
        }
    }
    // The bridge is closed for as long as somebody on it needs that.
    one.del(&pods[1]);
    misses(&pods[2], &all[0]);
    two.del(&pods[2]);
    let again = Pod::new("again");
    let bare = two.bare().add(&again, "eth0").expect("an ADD");
    reaches(&pods[0], &ips(&bare));
    assert!(
        state()
            .lines("br-two")
            .iter()
            .all(|line| !line.contains("cni_firewall"))
    );
}

pub(crate) fn isolated_pods_reach_everybody_but_each_other() {
    let outside = outside();
    let isolated = closed("iso", 21, "isolated");
    let other = closed("other", 22, "same-bridge");
    let open = Network::bridge("open", 23);
    let before = state();
    let pods: Vec<Pod> = ["a", "b", "c", "d"].map(Pod::new).into();
    let networks = [&isolated, &isolated, &other, &open];
    let results: Vec<Value> = networks.iter().zip(&pods).map(|(n, p)| n.add(p)).collect();
    let all: Vec<Vec<String>> = results.iter().map(ips).collect();
    for bridged in [false, true] {
        if !bridge_netfilter(bridged) && bridged {
            continue;
        }
        misses(&pods[0], &all[1]);
        misses(&pods[1], &all[0]);
        misses(&pods[2], &all[0]);
        reaches(&pods[0], &["10.21.0.1", "fd00:21::1"]);
        reaches(&pods[0], &OUTSIDE);
        reaches(&outside, &all[0]);
        reaches(&pods[0], &all[3]);
    }
    // Through the gateway to the same bridge there is no way either.
    pods[0].run(|| run(&format!("ip route add {}/32 via 10.21.0.1", all[1][0])));
    misses(&pods[0], &all[1][..1]);
    for (network, (pod, result)) in networks.iter().zip(pods.iter().zip(&results)) {
        let check = network.check(pod, result);
        assert!(check.is_success(), "{check}");
        network.del(pod);
    }
    let left = state();
    assert!(
        left.lines("cni_firewall").is_empty(),
        "{}",
        left.since(&before)
    );
}

pub(crate) fn closed_pods_behind_ptp_do_not_reach_each_other() {
    let _outside = outside();
    for policy in ["same-bridge", "isolated"] {
        let network = Network::ptp("net", 21).with(json!({ "ingressPolicy": policy }));
        let open = Network::ptp("open", 22);
        let pods: Vec<Pod> = ["a", "b", "c"].map(Pod::new).into();
        let before = state();
        let first = network.add(&pods[0]);
        let second = ips(&network.add(&pods[1]));
        let third = ips(&open.add(&pods[2]));
        misses(&pods[0], &second);
        misses(&pods[1], &ips(&first));
        reaches(&pods[0], &third);
        reaches(&pods[2], &second);
        reaches(&pods[0], &OUTSIDE);
        let check = network.check(&pods[0], &first);
        assert!(check.is_success(), "{check}");
        network.del(&pods[0]);
        network.del(&pods[1]);
        open.del(&pods[2]);
        let left = state();
        assert!(
            left.lines("cni_firewall").is_empty(),
            "{}",
            left.since(&before)
        );
        assert!(
            left.lines("link veth").is_empty(),
            "{}",
            left.since(&before)
        );
    }
}

pub(crate) fn a_published_port_passes_isolation() {
    let outside = outside();
    let network = closed("iso", 21, "isolated");
    let (server, client) = (Pod::new("server"), Pod::new("client"));
    let address = ips(&network.add(&server)).swap_remove(0);
    network.add(&client);
    let _echo = TcpEcho::start(&server, "0.0.0.0:80");
    run("nft add table ip published");
    run("nft add chain ip published pre { type nat hook prerouting priority dstnat ; }");
    run("nft add chain ip published post { type nat hook postrouting priority srcnat ; }");
    run(&format!(
        "nft add rule ip published pre fib daddr type local tcp dport 8080 dnat to {address}:80"
    ));
    run("nft add rule ip published post ct status dnat masquerade");
    super::world::forward_drops();
    let published = || TcpEcho::ask("192.0.2.1:8080");
    let direct = || TcpEcho::ask(&format!("{address}:80"));
    assert!(client.run(direct).is_err(), "an isolated pod is reached");
    // A node that publishes a port accepts what goes to it, whatever FORWARD says: the rule for that is there once the next
    // pod is added.
    let third = Pod::new("third");
    network.add(&third);
    for bridged in [true, false] {
        if !bridge_netfilter(bridged) && bridged {
            continue;
        }
        let seen = client.run(published);
        assert!(seen.is_ok(), "bridged {bridged}: {seen:?}");
        let seen = outside.run(published);
        assert!(seen.is_ok(), "bridged {bridged}: {seen:?}");
        assert!(client.run(direct).is_err(), "an isolated pod is reached");
    }
}

pub(crate) fn behind_the_reference_bridge_pods_are_isolated_as_well() {
    let bridge = require(reference_plugin("bridge"), "the reference plugin bridge");
    let outside = outside();
    // Not with the reference firewall beside it.
    let directory = Path::new("/run/reference");
    fs::create_dir(directory).expect("/run is the test's own");
    symlink(bridge, directory.join("bridge")).expect("/run is the test's own");
    let network = closed("iso", 21, "isolated").v4().main_from(directory);
    // This one's version 1.1.1 has no newer results.
    let network = network.version("1.0.0");
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let first = network.add(&a);
    let second = network.add(&b);
    misses(&a, &ips(&second));
    reaches(&b, &OUTSIDE[..1]);
    reaches(&outside, &ips(&first));
    network.del(&a);
    network.del(&b);
    assert!(state().lines("cni_firewall").is_empty());
}

pub(crate) fn a_policy_needs_an_interface_of_the_host() {
    let before = state();
    let pod = Pod::new("pod");
    let result = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "eth0", "sandbox": pod.path() }],
        "ips": [{ "address": "10.21.0.2/24", "interface": 0 }],
    });
    for policy in ["same-bridge", "isolated"] {
        let network = closed("net", 21, policy);
        let failure = network.run("ADD", &pod, &result).run().failure();
        assert_eq!(failure.code, 7, "{failure:?}");
        assert!(failure.msg.contains("ingressPolicy"), "{failure:?}");
    }
    state().assert_unchanged_since(&before);
}
