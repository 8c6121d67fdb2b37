//! GC and STATUS, and what a node may be like.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cni_testkit::{Pod, Snapshot, Test, require, tests};
use serde_json::{Value, json};

use crate::world::{Network, OUTSIDE4, ips, link, outside, port, reaches};

pub(crate) const TESTS: &[Test] = &tests![
    collecting_removes_exactly_what_is_not_listed,
    collecting_without_a_list_removes_nothing,
    collecting_frees_the_addresses_of_a_crash,
    status_tells_when_no_address_is_left,
    status_tells_when_the_bridge_is_no_bridge,
    no_program_is_needed,
    a_dry_run_changes_nothing_and_names_every_part,
    an_iptables_policy_stands_beside_ours,
    every_change_is_logged_in_a_span_of_its_request,
];

fn valid(pods: &[&Pod]) -> Value {
    let attachments: Vec<Value> = pods
        .iter()
        .map(|pod| json!({ "containerID": pod.id(), "ifname": "eth0" }))
        .collect();
    json!(attachments)
}

fn collecting_removes_exactly_what_is_not_listed() {
    let network = Network::dual().with(json!({ "macspoofchk": true }));
    let other = Network::of(&["10.8.0.0/24"]).with(json!({ "name": "other", "bridge": "br1" }));
    let pods: Vec<Pod> = (0..6).map(|_| Pod::new("pod")).collect();
    let foreign = Pod::new("foreign");
    let fresh = Snapshot::take();
    let kept = other.add(&foreign);
    let before = Snapshot::take();
    let results: Vec<Value> = pods.iter().map(|pod| network.add(pod)).collect();
    network.gc(valid(&[&pods[0], &pods[3]])).silent_success();
    let state = Snapshot::take();
    for (number, (pod, result)) in pods.iter().zip(&results).enumerate() {
        let stays = number == 0 || number == 3;
        assert_eq!(link(&port(result)).is_some(), stays, "{number}");
        assert_eq!(
            !state.lines(pod.id()).is_empty(),
            stays,
            "{number}: {state:?}"
        );
        if stays {
            network.check(pod, result).silent_success();
        }
    }
    network.gc(valid(&[])).silent_success();
    let settled = |state: Snapshot| {
        let state = state.without("/var/lib/cni").without("dst fe80::");
        state.without("sysctl net/ipv6").without("sysctl net/ipv4")
    };
    settled(Snapshot::take()).assert_unchanged_since(&settled(before));
    other.check(&foreign, &kept).silent_success();
    other.gc(valid(&[])).silent_success();
    settled(Snapshot::take()).assert_unchanged_since(&settled(fresh));
}

fn collecting_without_a_list_removes_nothing() {
    let network = Network::dual();
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    let before = Snapshot::take();
    let gc = network
        .run("GC", &pod)
        .without("CNI_CONTAINERID")
        .without("CNI_NETNS");
    gc.run().silent_success();
    Snapshot::take().assert_unchanged_since(&before);
    network.check(&pod, &result).silent_success();
}

fn collecting_frees_the_addresses_of_a_crash() {
    let network = small();
    let pods: Vec<Pod> = (0..5).map(|_| Pod::new("pod")).collect();
    let results: Vec<Value> = pods.iter().map(|pod| network.add(pod)).collect();
    let late = Pod::new("late");
    let failure = network.run("ADD", &late).run().failure();
    assert_eq!(failure.code, 110, "{failure:?}");
    // The pods are gone without a DEL: a node that lost power.
    network.gc(valid(&[&pods[1]])).silent_success();
    let result = network.add(&late);
    assert_ne!(ips(&result), ips(&results[1]));
    reaches(&late, "10.9.0.1");
}

/// Five addresses beside the gateway's.
fn small() -> Network {
    Network::of(&["10.9.0.0/29"])
}

fn status_tells_when_no_address_is_left() {
    let network = small();
    let pods: Vec<Pod> = (0..5).map(|_| Pod::new("pod")).collect();
    let status = || network.run("STATUS", &pods[0]).run();
    for pod in &pods {
        let start = Instant::now();
        status().silent_success();
        // It waits for nothing.
        assert!(start.elapsed() < Duration::from_secs(20));
        network.add(pod);
    }
    let before = Snapshot::take();
    let failure = status().failure();
    assert_eq!(failure.code, 50, "{failure:?}");
    Snapshot::take().assert_unchanged_since(&before);
    network.del(&pods[2]);
    status().silent_success();
}

fn status_tells_when_the_bridge_is_no_bridge() {
    let network = Network::dual().with(json!({ "bridge": "lo" }));
    let failure = network.run("STATUS", &Pod::new("pod")).run().failure();
    assert_eq!(failure.code, 50, "{failure:?}");
    assert!(failure.msg.contains("lo "), "{failure:?}");
}

fn no_program_is_needed() {
    let network = Network::dual().with(json!({ "macspoofchk": true }));
    let pod = Pod::new("pod");
    let run = |verb: &str, config: &Value| {
        let run = network.run(verb, &pod).config(config);
        run.env("PATH", "").run()
    };
    let result = run("ADD", &network.config).result();
    reaches(&pod, "10.9.0.1");
    let checked = network.clone().with(json!({ "prevResult": result })).config;
    run("CHECK", &checked).silent_success();
    run("STATUS", &network.config).silent_success();
    run("DEL", &network.config).silent_success();
    assert!(link(&port(&result)).is_none());
}

fn a_dry_run_changes_nothing_and_names_every_part() {
    let network = Network::dual().with(json!({ "macspoofchk": true, "hairpinMode": true }));
    let pod = Pod::new("pod");
    let before = (Snapshot::take(), Snapshot::of(&pod));
    let outcome = network.run("ADD", &pod).env("CNI_DRY_RUN", "1").run();
    outcome.silent_success();
    let plan = String::from_utf8_lossy(&outcome.output.stderr).into_owned();
    for part in [
        "br0",
        "eth0",
        "10.9.0.1/24",
        "fd00:9::1/64",
        "10.9.0.2/24",
        "hairpin",
        "cni_masquerade",
        "cni_spoof",
        "ip_forward",
    ] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    Snapshot::take().assert_unchanged_since(&before.0);
    Snapshot::of(&pod).assert_unchanged_since(&before.1);
    // What it said is what it does.
    let result = network.add(&pod);
    assert_eq!(ips(&result)[0], "10.9.0.2");
}

fn an_iptables_policy_stands_beside_ours() {
    let program = ["/usr/sbin/iptables", "/sbin/iptables"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.is_file());
    let program = require(program, "iptables");
    let iptables = |arguments: &str| {
        let output = Command::new(program)
            .args(arguments.split(' '))
            .output()
            .expect("iptables runs");
        assert!(output.status.success(), "iptables {arguments}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    iptables("-P FORWARD DROP");
    iptables("-A FORWARD -i br0 -j ACCEPT");
    iptables("-A FORWARD -o br0 -j ACCEPT");
    let rules = iptables("-S");
    let _outside = outside(1500);
    let network = Network::of(&["10.9.0.0/24"]).with(json!({ "ipMasqBackend": "iptables" }));
    let pod = Pod::new("pod");
    network.add(&pod);
    reaches(&pod, OUTSIDE4);
    network.del(&pod);
    network.gc(valid(&[])).silent_success();
    assert_eq!(iptables("-S"), rules);
}

fn every_change_is_logged_in_a_span_of_its_request() {
    let pod = Pod::new("pod");
    let run = Network::dual().run("ADD", &pod);
    let outcome = run
        .env("CNI_LOG", "debug")
        .env("CNI_LOG_FORMAT", "json")
        .run();
    outcome.result();
    let log = String::from_utf8_lossy(&outcome.output.stderr).into_owned();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line["spans"][0]["container"] == pod.id()),
        "{log}"
    );
    let changes: Vec<&str> = lines
        .iter()
        .filter(|line| line["spans"][1]["name"] == "change")
        .filter_map(|line| line["spans"][1]["change"].as_str())
        .collect();
    for part in [
        "ip link add br0",
        "ip address add 10.9.0.2/24 dev eth0",
        "nft",
    ] {
        assert!(
            changes.iter().any(|change| change.contains(part)),
            "{part}: {log}"
        );
    }
}
