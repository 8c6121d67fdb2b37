//! What an attachment's life leaves: everything of the others', nothing of its own.

use cni_testkit::{Invocation, Pod, at_every_moment};
use serde_json::{Value, json};

use super::world::{
    Network, forward_drops, ips, legacy_forward_drops, misses, outside, reaches, run, state,
};

pub(crate) fn the_previous_result_is_passed_on() {
    let network = Network::bridge("net", 21).with(json!({ "ingressPolicy": "isolated" }));
    let pod = Pod::new("pod");
    let result = network.bare().add(&pod, "eth0").expect("an ADD");
    let passed = network.run("ADD", &pod, &result).run().result();
    assert_eq!(passed, result);
    let failure = network.run("ADD", &pod, &Value::Null).run().failure();
    assert_eq!(failure.code, 7, "{failure:?}");
    assert!(failure.msg.contains("prevResult"), "{failure:?}");
}

pub(crate) fn del_of_one_interface_leaves_the_others() {
    let _outside = outside();
    forward_drops();
    let closed = json!({ "ingressPolicy": "isolated" });
    let network = Network::bridge("net", 21).with(closed.clone());
    let second = Network::bridge("second", 22).with(closed);
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    second.add_as(&pod, "eth1");
    network.add_as(&pod, "eth2");
    let before = state();
    second.add_as(&pod, "eth3");
    second.del_as(&pod, "eth3");
    state().assert_unchanged_since(&before);
    second.del_as(&pod, "eth1");
    network.del_as(&pod, "eth2");
    let check = network.check(&pod, &result);
    assert!(check.is_success(), "{check}");
    let left = state();
    assert!(
        left.lines("cni:second")
            .iter()
            .all(|line| !line.contains("elem"))
    );
    network.del(&pod);
    assert!(state().lines("cni_firewall").is_empty());
}

pub(crate) fn gc_removes_what_is_not_valid() {
    forward_drops();
    let network = Network::bridge("net", 21).with(json!({ "ingressPolicy": "isolated" }));
    let other = Network::bridge("other", 22).with(json!({ "ingressPolicy": "same-bridge" }));
    let (a, b, c) = (Pod::new("a"), Pod::new("b"), Pod::new("c"));
    let before = state();
    let kept = network.add(&a);
    network.add(&b);
    let beside = other.add(&c);
    let valid = json!([{ "containerID": a.id(), "ifname": "eth0" }]);
    let key = "cni.dev/valid-attachments";
    network
        .of_network("GC", json!({ key: valid }))
        .silent_success();
    let left = state();
    let marks = |pod: &Pod| left.lines(&format!("cni:net/{}/eth0", pod.id())).len();
    assert!(marks(&a) > 0, "{left:?}");
    // The pair of the main plugin bears its mark, too.
    assert_eq!(marks(&b), 1, "{left:?}");
    for (network, pod, result) in [(&network, &a, &kept), (&other, &c, &beside)] {
        let check = network.check(pod, result);
        assert!(check.is_success(), "{check}");
    }
    network
        .of_network("GC", json!({ key: [] }))
        .silent_success();
    other.of_network("GC", json!({ key: [] })).silent_success();
    let left = state();
    assert!(
        left.lines("cni_firewall").is_empty(),
        "{}",
        left.since(&before)
    );
    assert!(
        left.lines("accepted by").is_empty(),
        "{}",
        left.since(&before)
    );
}

/// A network whose pod has its main plugin's part already.
fn prepared() -> (Network, Pod, Value) {
    let network = Network::bridge("net", 21).with(json!({ "ingressPolicy": "isolated" }));
    let pod = Pod::new("pod");
    forward_drops();
    let result = network.bare().add(&pod, "eth0").expect("an ADD");
    (network, pod, result)
}

fn del_of(network: &Network, pod: &Pod) -> Invocation {
    let config = network.config(json!({}));
    network
        .run("DEL", pod, &Value::Null)
        .config(&config)
        .without("CNI_NETNS")
}

pub(crate) fn an_add_killed_anywhere_is_cleaned_up_by_one_del() {
    let (network, pod, result) = prepared();
    let other = Pod::new("other");
    for first in [true, false] {
        if !first {
            network.add(&other);
        }
        let before = state();
        let add = network.run("ADD", &pod, &result);
        let died = at_every_moment(|number| {
            let fate = add.killed_at(number);
            del_of(&network, &pod).run().silent_success();
            let changes = state().since(&before);
            assert!(changes.is_empty(), "ADD {fate}:\n{changes}");
            fate
        });
        assert!(died > 3, "{died} moments");
    }
}

pub(crate) fn a_del_killed_anywhere_can_be_repeated() {
    let (network, pod, result) = prepared();
    let before = state();
    let add = network.run("ADD", &pod, &result);
    let del = del_of(&network, &pod);
    let died = at_every_moment(|number| {
        add.run().result();
        let fate = del.killed_at(number);
        del.run().silent_success();
        let changes = state().since(&before);
        assert!(changes.is_empty(), "DEL {fate}:\n{changes}");
        fate
    });
    assert!(died > 3, "{died} moments");
}

/// Only the plugin is killed, before it starts a program and when that has begun, as a runtime would kill it: the program goes on.
pub(crate) fn beside_legacy_tables_whatever_is_killed_is_gone_after_del_and_gc() {
    let (network, pod, result) = prepared();
    if !legacy_forward_drops() {
        return;
    }
    let before = state();
    let add = network.run("ADD", &pod, &result);
    let del = del_of(&network, &pod);
    for verb in ["ADD", "DEL"] {
        let died = at_every_moment(|number| {
            let fate = if verb == "ADD" {
                add.killed_at(number)
            } else {
                add.run().result();
                del.killed_at(number)
            };
            del.run().silent_success();
            // A program that the plugin had started may outlive it for a moment.
            let clean = || {
                let valid = json!({ "cni.dev/valid-attachments": [] });
                network.of_network("GC", valid).silent_success();
                !run("iptables-legacy -w 5 -S").contains("cni:")
            };
            assert!((0..20).any(|_| clean()), "{verb} {fate}");
            let changes = state().since(&before);
            assert!(changes.is_empty(), "{verb} {fate}:\n{changes}");
            fate
        });
        assert!(died > 3, "{died} moments");
    }
}

pub(crate) fn an_operators_chain_stays_and_is_used_again() {
    let outside = outside();
    run("nft add table inet cni_firewall");
    run("nft add chain inet cni_firewall CNI-ADMIN");
    run("nft add rule inet cni_firewall CNI-ADMIN ip daddr 192.0.2.254 counter drop");
    let network = Network::bridge("net", 21).with(json!({ "ingressPolicy": "same-bridge" }));
    let pod = Pod::new("pod");
    let result = network.bare().add(&pod, "eth0").expect("an ADD");
    let before = state();
    for _ in 0..2 {
        network.run("ADD", &pod, &result).run().result();
        misses(&pod, &[super::world::OUTSIDE4]);
        reaches(&pod, &[super::world::OUTSIDE6]);
        del_of(&network, &pod).run().silent_success();
        state().assert_unchanged_since(&before);
    }
    reaches(&outside, &ips(&result));
}

pub(crate) fn networks_have_admin_chains_of_their_own() {
    let _outside = outside();
    let chain = |name: &str| json!({ "iptablesAdminChainName": name });
    let one = Network::bridge("one", 21).with(chain("FIRST"));
    let two = Network::bridge("two", 22).with(chain("SECOND"));
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let first = one.add(&a);
    let second = two.add(&b);
    for (network, pod, result) in [(&one, &a, &first), (&two, &b, &second)] {
        let check = network.check(pod, result);
        assert!(check.is_success(), "{check}");
    }
    for (chain, address) in [
        ("FIRST", super::world::OUTSIDE4),
        ("SECOND", super::world::OUTSIDE6),
    ] {
        let family = if address.contains(':') { "ip6" } else { "ip" };
        run(&format!(
            "nft add rule inet cni_firewall {chain} {family} daddr {address} drop"
        ));
    }
    for pod in [&a, &b] {
        misses(pod, &[super::world::OUTSIDE4, super::world::OUTSIDE6]);
    }
    one.del(&a);
    two.del(&b);
    let kept = run("nft list table inet cni_firewall");
    assert!(kept.contains("FIRST") && kept.contains("SECOND"), "{kept}");
    assert!(!kept.contains("hook"), "{kept}");
}

pub(crate) fn check_names_each_drift_and_creates_nothing() {
    forward_drops();
    let network = Network::bridge("net", 21).with(json!({ "ingressPolicy": "isolated" }));
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    let table = "inet cni_firewall";
    let address = &ips(&result)[0];
    let drifts = [
        (
            format!("delete element {table} pods4 {{ {address} }}"),
            address.as_str(),
        ),
        (
            format!("delete element {table} closed {{ \"br-net\" }}"),
            "closed",
        ),
        (format!("flush set {table} isolated"), "isolated"),
        (format!("flush map {table} members"), "members"),
        (
            format!("flush chain {table} forward"),
            "chain forward of table inet cni_firewall",
        ),
        (format!("flush chain {table} pods"), "chain pods"),
        (format!("flush chain {table} admin"), "chain admin"),
        (format!("flush chain {table} forwarded"), "chain forwarded"),
        (
            "flush set bridge cni_firewall isolated".to_owned(),
            "bridge cni_firewall",
        ),
        (
            "delete table bridge cni_firewall".to_owned(),
            "bridge cni_firewall is missing",
        ),
        (
            "flush chain ip6 filter FORWARD".to_owned(),
            "chain FORWARD of table ip6 filter",
        ),
        (
            format!("delete table {table}"),
            "table inet cni_firewall is missing",
        ),
    ];
    for (command, words) in drifts {
        run(&format!("nft {command}"));
        let before = state();
        let failure = network.check(&pod, &result).failure();
        assert!(failure.msg.contains(words), "after {command}: {failure:?}");
        state().assert_unchanged_since(&before);
        // DEL and ADD of the firewall's part mend it.
        del_of(&network, &pod).run().silent_success();
        network.run("ADD", &pod, &result).run().result();
        let check = network.check(&pod, &result);
        assert!(check.is_success(), "after {command}: {check}");
    }
}

pub(crate) fn wrong_input_changes_nothing() {
    forward_drops();
    let network = Network::bridge("net", 21);
    let pod = Pod::new("pod");
    let result = network.bare().add(&pod, "eth0").expect("an ADD");
    let before = state();
    for (keys, code, words) in [
        (json!({ "backend": "pf" }), 7, "backend"),
        (json!({ "ingressPolicy": "shut" }), 7, "ingressPolicy"),
        (
            json!({ "iptablesAdminChainName": "a b" }),
            7,
            "iptablesAdminChainName",
        ),
        (json!({ "firewalldZone": 7 }), 6, "firewalldZone"),
        (
            json!({ "prevResult": { "ips": [{ "address": "x" }] } }),
            6,
            "prevResult",
        ),
    ] {
        let wrong = network.clone().with(keys);
        let mut config = wrong.config(json!({}));
        if config.get("prevResult").is_none() {
            config["prevResult"] = result.clone();
        }
        let failure = network
            .run("ADD", &pod, &result)
            .config(&config)
            .run()
            .failure();
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.msg.contains(words), "{failure:?}");
        state().assert_unchanged_since(&before);
    }
    // What was accepted once is cleaned up whatever the configuration says later.
    network.run("ADD", &pod, &result).run().result();
    let wrong = network.clone().with(json!({ "ingressPolicy": "shut" }));
    del_of(&wrong, &pod).run().silent_success();
    state().assert_unchanged_since(&before);
}

pub(crate) fn a_dry_run_prints_and_changes_nothing() {
    let (network, pod, result) = prepared();
    let before = state();
    let add = network.run("ADD", &pod, &result);
    let plan = add.clone().env("CNI_DRY_RUN", "1").run();
    assert!(plan.is_success(), "{plan}");
    let text = String::from_utf8_lossy(&plan.output.stderr).into_owned();
    for words in [
        "insert rule ip filter FORWARD",
        "add chain inet cni_firewall forward",
    ] {
        assert!(text.contains(words), "{text}");
    }
    state().assert_unchanged_since(&before);
    add.run().result();
    let made = state();
    let plan = del_of(&network, &pod).env("CNI_DRY_RUN", "1").run();
    let text = String::from_utf8_lossy(&plan.output.stderr).into_owned();
    assert!(text.contains("delete table inet cni_firewall"), "{text}");
    state().assert_unchanged_since(&made);
    let status = network.of_network("STATUS", json!({}));
    status.silent_success();
}

pub(crate) fn many_at_once_leave_nothing() {
    forward_drops();
    let network = Network::bridge("net", 21).with(json!({ "ingressPolicy": "isolated" }));
    let pods: Vec<Pod> = (0..20).map(|_| Pod::new("pod")).collect();
    let results: Vec<Value> = pods
        .iter()
        .map(|pod| network.bare().add(pod, "eth0").expect("an ADD"))
        .collect();
    let before = state();
    for _ in 0..3 {
        let adds: Vec<_> = pods
            .iter()
            .zip(&results)
            .map(|(pod, result)| network.run("ADD", pod, result).start())
            .collect();
        for add in adds {
            add.finish_or_try_again().result();
        }
        let check = network.check(&pods[7], &results[7]);
        assert!(check.is_success(), "{check}");
        // With the result, and without.
        let half = pods.iter().zip(&results).enumerate();
        let mixed: Vec<_> = half
            .map(|(number, (pod, result))| match number % 2 {
                0 => network.run("DEL", pod, result).start(),
                _ => del_of(&network, pod).start(),
            })
            .collect();
        for one in mixed {
            one.finish_or_try_again().silent_success();
        }
        let changes = state().since(&before);
        assert!(changes.is_empty(), "{changes}");
    }
}
