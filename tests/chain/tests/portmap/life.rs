//! CHECK, GC, STATUS, dry runs, and DEL without anything.

use cni_core::host::Host;
use cni_core::host::firewall::{FirewallChange, TableState};
use cni_testkit::{
    Invocation, Pod, Running, TcpEcho, Test, sysctl, tests, workspace_plugin, workspace_plugin_dir,
};
use serde_json::{Value, json};

use super::world::*;

pub(crate) const TESTS: &[Test] = &tests![
    del_without_anything_removes_all_of_its_own,
    del_of_what_is_not_there_succeeds,
    check_passes_and_writes_nothing,
    check_names_what_is_missing,
    gc_removes_what_is_not_valid_and_in_the_end_everything,
    gc_of_one_network_leaves_another,
    status_tells_whether_ports_can_be_published,
    a_dry_run_prints_what_would_be_done_and_does_nothing,
    the_number_of_rules_does_not_depend_on_the_number_of_ports,
    ptp_pods_publish_ports_too,
    many_at_once_get_their_ports_and_leave_nothing,
    every_version_that_has_previous_results_works,
];

const PORTS: [&str; 3] = ["8080:80/tcp", "5353:53/udp", "192.0.2.1:8443:443/tcp"];

fn del_without_anything_removes_all_of_its_own() {
    let network = Network::new()
        .with(json!({ "conditionsV4": ["!", "-s", OTHER4], "markMasqBit": 3 }))
        .publishing(&PORTS);
    let (first, pod) = (Pod::new("first"), Pod::new("pod"));
    network
        .clone()
        .publishing(&["1:1/tcp", "192.0.2.1:2:2/udp"])
        .add(&first);
    let result = network.attach(&pod);
    let before = snapshot();
    network.portmap("ADD", &pod, &result).run().result();
    assert!(!snapshot().since(&before).is_empty());
    network.bare_del(&pod).silent_success();
    snapshot().assert_unchanged_since(&before);
    // Again, and with ports other than those of the ADD.
    network.bare_del(&pod).silent_success();
    network.portmap("ADD", &pod, &result).run().result();
    let other = network.clone().publishing(&["1:1/tcp", "9:9/tcp"]);
    other
        .portmap("DEL", &pod, &Value::Null)
        .run()
        .silent_success();
    snapshot().assert_unchanged_since(&before);
}

fn del_of_what_is_not_there_succeeds() {
    let network = Network::new().publishing(&PORTS);
    let pod = Pod::new("pod");
    let before = snapshot();
    network.bare_del(&pod).silent_success();
    let mut broken = network.config(&Value::Null);
    broken["conditionsV4"] = json!(["what"]);
    broken["backend"] = json!(7);
    let run = network.portmap("DEL", &pod, &Value::Null).config(&broken);
    run.run().silent_success();
    network.gc(&[]).silent_success();
    snapshot().assert_unchanged_since(&before);
}

fn check_passes_and_writes_nothing() {
    let network = Network::new()
        .with(json!({ "conditionsV6": ["-i", "uplink"], "masqAll": true }))
        .publishing(&PORTS);
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    let before = snapshot();
    network
        .portmap("CHECK", &pod, &result)
        .run()
        .silent_success();
    let none = network.clone().publishing(&[]);
    none.portmap("CHECK", &pod, &result).run().silent_success();
    snapshot().assert_unchanged_since(&before);
}

fn check_names_what_is_missing() {
    let network = Network::new()
        .with(json!({ "conditionsV4": ["!", "-s", OTHER4] }))
        .publishing(&PORTS);
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    let host = Host::open().expect("the kernel");
    let commit =
        |changes: &[FirewallChange]| block(host.firewall.commit(changes)).expect("a change");
    let del = |set: &str| FirewallChange::ElementDel {
        table: table(),
        set: set.to_owned(),
        elements: elements(set),
    };
    let flush = |chain: &str| FirewallChange::ChainFlush {
        table: table(),
        chain: chain.to_owned(),
    };
    let state: TableState = block(host.firewall.table(&table()))
        .expect("a look")
        .expect("the table");
    let own = state
        .chains
        .iter()
        .find(|chain| chain.name.starts_with("pod4-"))
        .expect("a chain of its own");
    let own = own.name.clone();
    let closed =
        || std::fs::write("/proc/sys/net/ipv4/conf/br9/route_localnet", "0").expect("a parameter");
    type Case<'a> = (Box<dyn Fn() + 'a>, Vec<&'a str>);
    let cases: Vec<Case<'_>> = vec![
        (
            Box::new(|| commit(&[del("ports4")])),
            vec!["6 . 8080", "17 . 5353", "ports4", "is missing"],
        ),
        (Box::new(|| commit(&[del("ports6")])), vec!["ports6"]),
        (
            Box::new(|| commit(&[del("host_ports4")])),
            vec!["192.0.2.1 . 6 . 8443", "host_ports4"],
        ),
        (
            Box::new(|| commit(&[del("published4")])),
            vec!["published4"],
        ),
        (Box::new(|| commit(&[del("records")])), vec!["records"]),
        (
            Box::new(|| commit(&[flush("translate4")])),
            vec!["chain translate4", "lacks rule 1"],
        ),
        (
            Box::new(|| commit(&[flush(&own)])),
            vec!["pod4-", "lacks rule 1"],
        ),
        (
            Box::new(|| commit(&[flush("answers")])),
            vec!["chain answers"],
        ),
        (Box::new(closed), vec!["route_localnet is 0, should be 1"]),
        (
            Box::new(|| commit(&[FirewallChange::TableDel(table())])),
            vec!["table inet cni_portmap is missing"],
        ),
    ];
    for (damage, words) in cases {
        network
            .portmap("CHECK", &pod, &result)
            .run()
            .silent_success();
        damage();
        let failure = network.portmap("CHECK", &pod, &result).run().failure();
        for word in &words {
            assert!(failure.msg.contains(word), "{words:?}: {}", failure.msg);
        }
        // DEL and ADD mend it.
        network.bare_del(&pod).silent_success();
        network.gc(&[]).silent_success();
        network.portmap("ADD", &pod, &result).run().result();
    }
}

fn gc_removes_what_is_not_valid_and_in_the_end_everything() {
    let outside = outside();
    let network = Network::new()
        .with(json!({ "conditionsV4": ["!", "-s", OTHER4] }))
        .publishing(&["8080:80/tcp", "5353:53/udp", "192.0.2.1:8443:443/tcp"]);
    let kept = network
        .clone()
        .publishing(&["8081:80/tcp", "192.0.2.1:9443:443/tcp"]);
    let (pod, valid) = (Pod::new("pod"), Pod::new("valid"));
    let (of_pod, of_valid) = (network.attach(&pod), network.attach(&valid));
    let untouched = snapshot();
    kept.portmap("ADD", &valid, &of_valid).run().result();
    let before = snapshot();
    network.portmap("ADD", &pod, &of_pod).run().result();
    let client = Client::of(&outside, "192.0.2.1:5353");
    let _pod = pod.run(|| Named::here("[::]:53", "pod"));
    let _server = TcpEcho::start(&valid, "[::]:80");
    assert_eq!(client.ask().expect("an answer"), "pod");
    network.gc(&[&valid]).silent_success();
    snapshot().assert_unchanged_since(&before);
    sees(tcp(&outside, "192.0.2.1:8081"), OUTSIDE4);
    let _host = Named::here("192.0.2.1:5353", "host");
    assert_eq!(client.ask().expect("an answer"), "host");
    network.gc(&[]).silent_success();
    snapshot().assert_unchanged_since(&untouched);
    assert_eq!(
        sysctl("net/ipv4/conf/br9/route_localnet").as_deref(),
        Some("0")
    );
}

fn gc_of_one_network_leaves_another() {
    let outside = outside();
    let (mine, other) = (Network::new(), Network::named("other", 8));
    let (mine, other) = (
        mine.publishing(&["8080:80/tcp"]),
        other.publishing(&["8081:80/tcp"]),
    );
    let (first, second) = (Pod::new("first"), Pod::new("second"));
    mine.add(&first);
    other.add(&second);
    let _server = TcpEcho::start(&second, "[::]:80");
    mine.gc(&[]).silent_success();
    assert!(tcp(&outside, "192.0.2.1:8080").is_err());
    sees(tcp(&outside, "192.0.2.1:8081"), OUTSIDE4);
}

fn status_tells_whether_ports_can_be_published() {
    let network = Network::new();
    let status = |config: &Value| {
        Invocation::new(workspace_plugin("portmap"), "STATUS")
            .env("CNI_PATH", workspace_plugin_dir())
            .config(config)
    };
    let config = network.config(&Value::Null);
    let before = snapshot();
    status(&config).run().silent_success();
    snapshot().assert_unchanged_since(&before);
    let wrong = network.with(json!({ "conditionsV4": ["-m"] }));
    assert_eq!(status(&wrong.config(&Value::Null)).run().failure().code, 7);
}

fn a_dry_run_prints_what_would_be_done_and_does_nothing() {
    let network = Network::new().publishing(&["8080:80/tcp"]);
    let pod = Pod::new("pod");
    let result = network.attach(&pod);
    let before = snapshot();
    let run = network
        .portmap("ADD", &pod, &result)
        .env("CNI_DRY_RUN", "1")
        .run();
    let text = String::from_utf8_lossy(&run.output.stderr).into_owned();
    let (own, _) = ips(&result);
    for line in [
        "nft add table inet cni_portmap".to_owned(),
        "dnat ip to meta l4proto . th dport map @ports4".to_owned(),
        format!(
            "create element inet cni_portmap ports4 {{ 6 . 8080 comment \"cni:net/{}/eth0\" : {own} . 80 }}",
            pod.id()
        ),
        "sysctl -w net/ipv4/conf/br9/route_localnet=1".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}\nis not in\n{run}");
    }
    snapshot().assert_unchanged_since(&before);
    network.portmap("ADD", &pod, &result).run().result();
    let after = snapshot();
    let run = network
        .portmap("DEL", &pod, &result)
        .env("CNI_DRY_RUN", "1")
        .run();
    let text = String::from_utf8_lossy(&run.output.stderr).into_owned();
    assert!(
        text.contains("delete element inet cni_portmap ports4 { 6 . 8080 }"),
        "{text}"
    );
    snapshot().assert_unchanged_since(&after);
}

fn the_number_of_rules_does_not_depend_on_the_number_of_ports() {
    let network = Network::new();
    let pod = Pod::new("pod");
    let result = network.attach(&pod);
    network
        .clone()
        .publishing(&["1:1/tcp"])
        .portmap("ADD", &pod, &result)
        .run()
        .result();
    let few = rules();
    let many: Vec<String> = (1..=50).map(|port| format!("{port}:{port}/tcp")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    network
        .publishing(&many)
        .portmap("ADD", &pod, &result)
        .run()
        .result();
    assert_eq!((rules(), elements("ports4").len()), (few, 50));
}

fn ptp_pods_publish_ports_too() {
    let outside = outside();
    let mut network = Network::new().publishing(&["8080:80/tcp"]);
    network.list["plugins"][0] = json!({
        "type": "ptp",
        "ipMasq": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.9.0.0/24" }]],
                  "routes": [{ "dst": "0.0.0.0/0" }] },
    });
    let (pod, neighbour) = (Pod::new("pod"), Pod::new("neighbour"));
    network.clone().publishing(&["8081:81/tcp"]).add(&neighbour);
    let before = snapshot().without("/var/lib");
    let result = network.add(&pod);
    let _server = TcpEcho::start(&pod, "0.0.0.0:80");
    sees(tcp(&outside, "192.0.2.1:8080"), OUTSIDE4);
    assert!(TcpEcho::ask("127.0.0.1:8080").is_ok());
    assert!(tcp(&pod, "192.0.2.1:8080").is_ok(), "itself");
    assert!(tcp(&neighbour, "192.0.2.1:8080").is_ok(), "its neighbour");
    let own = result["ips"][0]["address"]
        .as_str()
        .expect("an address")
        .to_owned();
    assert!(own.starts_with("10.9.0."), "{own}");
    network.del(&pod);
    // The interface was the attachment's alone, and so was what opened it.
    snapshot()
        .without("/var/lib")
        .assert_unchanged_since(&before);
}

fn many_at_once_get_their_ports_and_leave_nothing() {
    let network = Network::new();
    let pods: Vec<Pod> = (0..16).map(|_| Pod::new("pod")).collect();
    let results: Vec<Value> = pods.iter().map(|pod| network.attach(pod)).collect();
    let before = snapshot();
    let each = |verb: &str| {
        let runs: Vec<_> = (0..)
            .zip(pods.iter().zip(&results))
            .map(|(number, (pod, result))| {
                let (tcp, udp) = (8000 + number, 9000 + number);
                let ports = [format!("{tcp}:80/tcp"), format!("192.0.2.1:{udp}:53/udp")];
                let network = network.clone().publishing(&[&ports[0], &ports[1]]);
                network.portmap(verb, pod, result).start()
            })
            .collect();
        for outcome in runs.into_iter().map(Running::finish_or_try_again) {
            assert!(outcome.is_success(), "{outcome}");
        }
    };
    // The first ones make the table while the others wait.
    each("ADD");
    assert_eq!(elements("records").len(), 16 * 3);
    each("CHECK");
    each("DEL");
    network.gc(&[]).silent_success();
    snapshot().assert_unchanged_since(&before);
}

fn every_version_that_has_previous_results_works() {
    let outside = outside();
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut network = Network::new().publishing(&["8080:80/tcp"]);
        network.list["cniVersion"] = json!(version);
        let pod = Pod::new("pod");
        let result = network.add(&pod);
        assert_eq!(result["cniVersion"], version);
        let server = TcpEcho::start(&pod, "[::]:80");
        sees(tcp(&outside, "192.0.2.1:8080"), OUTSIDE4);
        drop(server);
        network.del(&pod);
        assert_eq!(elements("records"), [], "{version}");
    }
}
