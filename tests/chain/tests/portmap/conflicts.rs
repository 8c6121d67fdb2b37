//! One port, two attachments; and the reference plugin beside ours.

use std::path::Path;

use cni_testkit::{
    Chain, Pod, TcpEcho, Test, reference_plugin, require, tests, workspace_plugin_dir,
};
use serde_json::json;

use super::world::*;

pub(crate) const TESTS: &[Test] = &tests![
    a_port_that_is_taken_is_an_error_that_names_the_holder_and_changes_nothing,
    a_port_of_all_addresses_and_of_one_are_the_same_port,
    of_two_adds_at_once_one_gets_the_port,
    another_protocol_another_address_or_another_family_is_another_port,
    an_add_replaces_what_an_earlier_one_of_its_own_has_left,
    both_networks_of_a_container_keep_their_ports,
    the_reference_plugin_works_beside_ours,
];

#[track_caller]
fn refused(network: &Network, pod: &Pod, result: &serde_json::Value, words: &[&str]) {
    let before = snapshot();
    let failure = network.portmap("ADD", pod, result).run().failure();
    assert_eq!(failure.code, 7, "{failure:?}");
    for word in words {
        assert!(failure.msg.contains(word), "{failure:?}");
    }
    snapshot().assert_unchanged_since(&before);
}

fn a_port_that_is_taken_is_an_error_that_names_the_holder_and_changes_nothing() {
    let outside = outside();
    let holder = Network::new().publishing(&["8080:80/tcp", "8081:81/udp"]);
    let second = Network::named("second", 8).publishing(&["8090:90/tcp", "8080:81/tcp"]);
    let (first, other) = (Pod::new("first"), Pod::new("other"));
    holder.add(&first);
    let _server = TcpEcho::start(&first, "[::]:80");
    let result = second.attach(&other);
    let name = format!(
        "host port 8080/tcp is taken by attachment net/{}/eth0",
        first.id()
    );
    refused(&second, &other, &result, &[&name]);
    sees(tcp(&outside, "192.0.2.1:8080"), OUTSIDE4);
    // DEL after the failed ADD, as runtimes ask it, takes nothing from the holder.
    second
        .portmap("DEL", &other, &result)
        .run()
        .silent_success();
    sees(tcp(&outside, "192.0.2.1:8080"), OUTSIDE4);
    holder.del(&first);
    second.portmap("ADD", &other, &result).run().result();
}

fn a_port_of_all_addresses_and_of_one_are_the_same_port() {
    let (first, other) = (Pod::new("first"), Pod::new("other"));
    let all = Network::new().publishing(&["8080:80/tcp"]);
    let one = Network::new().publishing(&["192.0.2.1:8080:80/tcp"]);
    let (of_first, of_other) = (all.attach(&first), all.attach(&other));
    all.portmap("ADD", &first, &of_first).run().result();
    let holder = format!(
        "host port 192.0.2.1:8080/tcp is taken by attachment net/{}/eth0",
        first.id()
    );
    refused(&one, &other, &of_other, &[&holder]);
    all.bare_del(&first).silent_success();
    one.portmap("ADD", &other, &of_other).run().result();
    let holder = format!(
        "host port 8080/tcp is taken by attachment net/{}/eth0",
        other.id()
    );
    refused(&all, &first, &of_first, &[&holder]);
    // The address was known before: it is not in the way once its port is free.
    one.bare_del(&other).silent_success();
    all.portmap("ADD", &first, &of_first).run().result();
    let both = Network::new().publishing(&["8080:80/tcp", "127.0.0.1:8080:81/tcp"]);
    all.bare_del(&first).silent_success();
    both.portmap("ADD", &first, &of_first).run().result();
}

fn of_two_adds_at_once_one_gets_the_port() {
    let all = Network::new().publishing(&["8080:80/tcp"]);
    let one = Network::new().publishing(&["192.0.2.1:8080:80/tcp"]);
    let (first, other) = (Pod::new("first"), Pod::new("other"));
    let (of_first, of_other) = (all.attach(&first), all.attach(&other));
    for round in 0..20 {
        // The same key, and then overlapping ones: those may both fail, and never both succeed.
        let second = if round % 2 == 0 { &all } else { &one };
        let runs = [
            all.portmap("ADD", &first, &of_first).start(),
            second.portmap("ADD", &other, &of_other).start(),
        ];
        let outcomes = runs.map(|run| run.finish());
        let won = outcomes
            .iter()
            .filter(|outcome| outcome.is_success())
            .count();
        assert!(won < 2, "both got the port");
        assert!(won == 1 || round % 2 == 1, "{outcomes:?}");
        for outcome in outcomes.iter().filter(|outcome| !outcome.is_success()) {
            assert!(outcome.failure().msg.contains("is taken by"), "{outcome}");
        }
        assert_eq!(
            elements("records").len(),
            won * if outcomes[0].is_success() || round % 2 == 0 {
                2
            } else {
                1
            }
        );
        for pod in [&first, &other] {
            all.bare_del(pod).silent_success();
        }
    }
}

fn another_protocol_another_address_or_another_family_is_another_port() {
    let (first, other) = (Pod::new("first"), Pod::new("other"));
    let mine = Network::new().publishing(&["8080:80/tcp", "192.0.2.1:8081:80/tcp"]);
    let yours = Network::new().publishing(&[
        "8080:80/udp",
        "192.0.2.2:8081:80/tcp",
        "[2001:db8:1::1]:8081:80/tcp",
    ]);
    mine.add(&first);
    yours.add(&other);
}

fn an_add_replaces_what_an_earlier_one_of_its_own_has_left() {
    let outside = outside();
    let network = Network::new().publishing(&["8080:80/tcp", "8081:80/udp"]);
    let pod = Pod::new("pod");
    let result = network.attach(&pod);
    network.portmap("ADD", &pod, &result).run().result();
    let fresh = network.clone().publishing(&["8080:81/tcp", "8082:80/tcp"]);
    fresh.portmap("ADD", &pod, &result).run().result();
    fresh.portmap("CHECK", &pod, &result).run().silent_success();
    let _servers = (
        TcpEcho::start(&pod, "[::]:80"),
        TcpEcho::start(&pod, "[::]:81"),
    );
    sees(tcp(&outside, "192.0.2.1:8080"), OUTSIDE4);
    sees(tcp(&outside, "192.0.2.1:8082"), OUTSIDE4);
    assert_eq!(elements("records").len(), 4);
    assert_eq!(elements("ports4").len(), 2);
    fresh.bare_del(&pod).silent_success();
    assert_eq!(elements("records"), []);
}

fn both_networks_of_a_container_keep_their_ports() {
    let outside = outside();
    let pod = Pod::new("pod");
    let first = Network::new().publishing(&["8080:80/tcp"]);
    let second = Network::named("second", 8)
        .bridge_with(json!({ "isDefaultGateway": false, "isGateway": true }))
        .publishing(&["8081:80/tcp"]);
    first.add(&pod);
    second.add_as(&pod, "eth1");
    let _server = TcpEcho::start(&pod, "[::]:80");
    sees(tcp(&outside, "192.0.2.1:8080"), OUTSIDE4);
    sees(TcpEcho::ask("10.8.0.1:8081").map(address), "10.8.0.1");
    first.bare_del(&pod).silent_success();
    assert!(tcp(&outside, "192.0.2.1:8080").is_err());
    sees(TcpEcho::ask("10.8.0.1:8081").map(address), "10.8.0.1");
    // The same network twice.
    let third = Network::named("second", 8)
        .bridge_with(json!({ "isDefaultGateway": false, "isGateway": true }))
        .publishing(&["8083:80/tcp"]);
    third.add_as(&pod, "eth2");
    let del = second.portmap("DEL", &pod, &serde_json::Value::Null);
    del.env("CNI_IFNAME", "eth1").run().silent_success();
    assert!(TcpEcho::ask("10.8.0.1:8081").is_err());
    sees(TcpEcho::ask("10.8.0.1:8083").map(address), "10.8.0.1");
}

fn the_reference_plugin_works_beside_ours() {
    let reference = require(reference_plugin("portmap"), "the reference portmap");
    let outside = outside();
    let ours = Network::new().publishing(&["8080:80/tcp"]);
    let (mine, theirs) = (Pod::new("mine"), Pod::new("theirs"));
    ours.add(&mine);
    let directory = reference.parent().unwrap_or(Path::new("/")).to_owned();
    let mut list = Network::named("theirs", 8).list;
    list["cniVersion"] = json!("1.0.0");
    list["plugins"][1]["type"] = json!("portmap");
    let bridge = workspace_plugin_dir();
    let reference_only = tempdir(&directory);
    let chain = Chain::new(list, &[&reference_only, &bridge]).capabilities(
        json!({ "portMappings": [{ "hostPort": 9090, "containerPort": 80, "protocol": "tcp" }] }),
    );
    let result = match chain.add(&theirs, "eth0") {
        Ok(result) => result,
        Err(outcome) => cni_testkit::skip(&format!("the reference portmap here: {outcome}")),
    };
    let _servers = (
        TcpEcho::start(&mine, "[::]:80"),
        TcpEcho::start(&theirs, "[::]:80"),
    );
    for port in [8080, 9090] {
        sees(tcp(&outside, &format!("192.0.2.1:{port}")), OUTSIDE4);
        assert!(TcpEcho::ask(&format!("127.0.0.1:{port}")).is_ok(), "{port}");
        assert!(tcp(&mine, &format!("192.0.2.1:{port}")).is_ok(), "{port}");
    }
    ours.bare_del(&mine).silent_success();
    ours.gc(&[]).silent_success();
    sees(tcp(&outside, "192.0.2.1:9090"), OUTSIDE4);
    ours.portmap("ADD", &mine, &ours_result(&ours, &mine))
        .run()
        .result();
    if let Err(outcome) = chain.del(&theirs, "eth0", &result) {
        panic!("{outcome}");
    }
    sees(tcp(&outside, "192.0.2.1:8080"), OUTSIDE4);
    assert!(tcp(&outside, "192.0.2.1:9090").is_err());
}

/// A directory with the reference portmap alone, so that everything else is ours.
fn tempdir(reference: &Path) -> std::path::PathBuf {
    let path = Path::new("/run/reference");
    std::fs::create_dir_all(path).expect("/run is the test's own");
    let link = path.join("portmap");
    std::os::unix::fs::symlink(reference.join("portmap"), link).expect("a link");
    path.to_owned()
}

/// The result of an attachment that is still there.
fn ours_result(network: &Network, pod: &Pod) -> serde_json::Value {
    let ip = pod.run(|| {
        let host = cni_core::host::Host::open().expect("the kernel");
        block(host.netlink.addresses(Some("eth0"))).expect("addresses")
    });
    let v4 = ip
        .iter()
        .find(|address| address.address.is_ipv4())
        .expect("an address");
    let _ = network;
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "eth0", "sandbox": pod.path() }],
        "ips": [{ "address": v4.address.to_string(), "interface": 0 }],
    })
}
