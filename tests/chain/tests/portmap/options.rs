//! The configuration's keys.

use cni_core::host::Host;
use cni_core::host::firewall::*;
use cni_testkit::{Pod, TcpEcho, Test, sysctl, tests};
use serde_json::json;

use super::world::*;

pub(crate) const TESTS: &[Test] = &tests![
    a_host_address_is_the_only_one_that_leads_to_the_pod,
    conditions_hold_for_their_own_attachment_alone,
    conditions_of_nft_and_of_several_addresses_hold,
    without_snat_nobody_is_masqueraded,
    with_masq_all_everybody_is_masqueraded,
    mark_masq_bit_marks_what_is_masqueraded_and_nothing_else,
    an_operators_route_localnet_is_left_alone,
    a_runtimes_go_field_names_are_understood,
    wrong_input_is_one_error_and_changes_nothing,
    an_empty_path_will_do,
];

/// A pod that serves TCP on port 80 of both families.
fn serving(network: &Network, name: &str) -> (Pod, TcpEcho) {
    let pod = Pod::new(name);
    network.add(&pod);
    let server = TcpEcho::start(&pod, "[::]:80");
    (pod, server)
}

fn from(outside: &Pod, source: &str, target: &str) -> std::io::Result<String> {
    let source = source.parse().ok();
    let target = target.parse().expect("an address");
    outside
        .run(|| TcpEcho::ask_from(source, target))
        .map(address)
}

fn a_host_address_is_the_only_one_that_leads_to_the_pod() {
    let outside = outside();
    raise("uplink", &["192.0.2.2/24", "2001:db8:1::2/64"]);
    let ports = [
        "192.0.2.2:8080:80/tcp",
        "[2001:db8:1::2]:8080:80/tcp",
        "127.0.0.1:8090:80/tcp",
    ];
    let _pod = serving(&Network::new().publishing(&ports), "pod");
    sees(tcp(&outside, "192.0.2.2:8080"), OUTSIDE4);
    assert!(tcp(&outside, "192.0.2.1:8080").is_err());
    wait_until(|| tcp(&outside, "[2001:db8:1::2]:8080").is_ok());
    sees(tcp(&outside, "[2001:db8:1::2]:8080"), OUTSIDE6);
    assert!(tcp(&outside, "[2001:db8:1::1]:8080").is_err());
    sees(TcpEcho::ask("127.0.0.1:8090").map(address), "10.9.0.1");
    assert!(tcp(&outside, "192.0.2.2:8090").is_err());
}

fn conditions_hold_for_their_own_attachment_alone() {
    let outside = outside();
    let closed = Network::new()
        .with(json!({ "conditionsV4": ["!", "-s", OTHER4], "conditionsV6": ["-s", "2001:db8:2::/64"] }))
        .publishing(&["8080:80/tcp"]);
    let open = Network::new().publishing(&["8081:80/tcp"]);
    let inside = Network::new()
        .with(json!({ "conditionsV4": ["-i", "lo"] }))
        .publishing(&["8082:80/tcp", "192.0.2.1:8083:80/tcp"]);
    let first = serving(&closed, "closed");
    let _second = serving(&open, "open");
    let _third = serving(&inside, "inside");
    sees(from(&outside, OUTSIDE4, "192.0.2.1:8080"), OUTSIDE4);
    assert!(from(&outside, OTHER4, "192.0.2.1:8080").is_err());
    assert!(tcp(&outside, "[2001:db8:1::1]:8080").is_err());
    for source in [OUTSIDE4, OTHER4] {
        sees(from(&outside, source, "192.0.2.1:8081"), source);
        assert!(from(&outside, source, "192.0.2.1:8082").is_err());
        assert!(from(&outside, source, "192.0.2.1:8083").is_err());
    }
    sees(tcp(&outside, "[2001:db8:1::1]:8081"), OUTSIDE6);
    // Of this attachment IPv6 has none.
    sees(tcp(&outside, "[2001:db8:1::1]:8082"), OUTSIDE6);
    let with = rules();
    closed.del(&first.0);
    assert_eq!(
        with - rules(),
        2,
        "a rule of each family went with its attachment"
    );
    assert!(from(&outside, OUTSIDE4, "192.0.2.1:8080").is_err());
    sees(from(&outside, OTHER4, "192.0.2.1:8081"), OTHER4);
}

fn conditions_of_nft_and_of_several_addresses_hold() {
    let outside = outside();
    let some = json!({ "conditionsV4": ["ip", "saddr", "{", "192.0.2.253,", "198.51.100.0/24", "}", "iifname", "uplink"] });
    let none = json!({ "conditionsV4": ["ip", "saddr", "!=", "{ 192.0.2.253, 198.51.100.0/24 }"] });
    let _some = serving(
        &Network::new().with(some).publishing(&["8080:80/tcp"]),
        "some",
    );
    let _none = serving(
        &Network::new().with(none).publishing(&["8081:80/tcp"]),
        "none",
    );
    sees(from(&outside, OTHER4, "192.0.2.1:8080"), OTHER4);
    assert!(from(&outside, OUTSIDE4, "192.0.2.1:8080").is_err());
    assert!(from(&outside, OTHER4, "192.0.2.1:8081").is_err());
    sees(from(&outside, OUTSIDE4, "192.0.2.1:8081"), OUTSIDE4);
}

fn without_snat_nobody_is_masqueraded() {
    let outside = outside();
    let network = Network::new()
        .with(json!({ "snat": false, "masqAll": true }))
        .publishing(&["8080:80/tcp"]);
    let (pod, _server) = serving(&network, "pod");
    sees(tcp(&outside, "192.0.2.1:8080"), OUTSIDE4);
    sees(TcpEcho::ask("192.0.2.1:8080").map(address), NODE4);
    assert!(tcp(&pod, "192.0.2.1:8080").is_err());
    assert!(TcpEcho::ask("127.0.0.1:8080").is_err());
    assert_eq!(
        sysctl("net/ipv4/conf/br9/route_localnet").as_deref(),
        Some("0")
    );
}

fn with_masq_all_everybody_is_masqueraded() {
    let outside = outside();
    let network = Network::new()
        .with(json!({ "masqAll": true }))
        .publishing(&["8080:80/tcp"]);
    let (pod, _server) = serving(&network, "pod");
    let _other = serving(&Network::new().publishing(&["8081:80/tcp"]), "other");
    sees(tcp(&outside, "192.0.2.1:8080"), "10.9.0.1");
    sees(tcp(&outside, "[2001:db8:1::1]:8080"), "fd00:9::1");
    sees(tcp(&pod, "192.0.2.1:8080"), "10.9.0.1");
    sees(tcp(&outside, "192.0.2.1:8081"), OUTSIDE4);
}

/// What bears the bit is dropped by another table.
fn mark_masq_bit_marks_what_is_masqueraded_and_nothing_else() {
    let outside = outside();
    let network = Network::new()
        .with(json!({ "markMasqBit": 7 }))
        .publishing(&["8080:80/tcp"]);
    let (pod, _server) = serving(&network, "pod");
    sees(tcp(&pod, "192.0.2.1:8080"), "10.9.0.1");
    let spec = TableSpec {
        table: Table {
            family: Family::Inet,
            name: "operator".to_owned(),
        },
        sets: Vec::new(),
        chains: vec![ChainSpec {
            name: "forward".to_owned(),
            hook: Some(Hook {
                kind: ChainKind::Filter,
                point: HookPoint::Forward,
                priority: 0,
            }),
            rules: vec![Rule {
                matches: vec![Match::Is {
                    field: Field::Mark,
                    value: Value::Mark(1 << 7),
                    negated: false,
                }],
                action: Action::Drop { counter: false },
            }],
        }],
    };
    let host = Host::open().expect("the kernel");
    block(host.firewall.commit(&spec.converge())).expect("an operator's table");
    assert!(tcp(&pod, "192.0.2.1:8080").is_err());
    assert!(tcp(&pod, "[2001:db8:1::1]:8080").is_err());
    sees(tcp(&outside, "192.0.2.1:8080"), OUTSIDE4);
}

fn an_operators_route_localnet_is_left_alone() {
    let network = Network::new().publishing(&["8080:80/tcp"]);
    let pod = Pod::new("pod");
    let result = network.attach(&pod);
    let path = "/proc/sys/net/ipv4/conf/br9/route_localnet";
    std::fs::write(path, "1").expect("a parameter");
    network.portmap("ADD", &pod, &result).run().result();
    assert_eq!(elements("localnet"), []);
    let _server = TcpEcho::start(&pod, "[::]:80");
    sees(TcpEcho::ask("127.0.0.1:8080").map(address), "10.9.0.1");
    network.bare_del(&pod).silent_success();
    network.gc(&[]).silent_success();
    assert_eq!(
        sysctl("net/ipv4/conf/br9/route_localnet").as_deref(),
        Some("1")
    );
}

fn a_runtimes_go_field_names_are_understood() {
    let outside = outside();
    let network = Network::new();
    let pod = Pod::new("pod");
    let result = network.attach(&pod);
    let mut config = network.config(&result);
    config["runtimeConfig"] = json!({ "portMappings": [
        { "HostPort": 18080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": "" }
    ], "dns": { "Servers": null } });
    let added = network
        .portmap("ADD", &pod, &result)
        .config(&config)
        .run()
        .result();
    assert_eq!(added["ips"], result["ips"], "the result is passed on");
    let _server = TcpEcho::start(&pod, "[::]:80");
    sees(tcp(&outside, "192.0.2.1:18080"), OUTSIDE4);
    config["runtimeConfig"] = json!({ "portMappings": null });
    let other = Pod::new("other");
    let bare = network.attach(&other);
    config["prevResult"] = bare;
    network
        .portmap("ADD", &other, &result)
        .config(&config)
        .run()
        .result();
}

fn wrong_input_is_one_error_and_changes_nothing() {
    let network = Network::new().publishing(&["8080:80/tcp"]);
    let pod = Pod::new("pod");
    let result = network.attach(&pod);
    let before = snapshot();
    for (keys, code, words) in [
        (
            json!({ "externalSetMarkChain": "KUBE-MARK-MASQ" }),
            2,
            "`markMasqBit`",
        ),
        (json!({ "markMasqBit": 32 }), 7, "markMasqBit"),
        (json!({ "backend": "ipvs" }), 7, "`backend` is \"ipvs\""),
        (json!({ "snat": "yes" }), 6, "snat"),
        (
            json!({ "conditionsV4": ["-m", "mark"] }),
            7,
            "\"-m\" is not understood",
        ),
        (
            json!({ "conditionsV6": ["ip", "saddr", "10.0.0.0/8"] }),
            7,
            "other family",
        ),
        (
            json!({ "runtimeConfig": { "portMappings": [{ "hostPort": 1 }] } }),
            7,
            "containerPort",
        ),
        (
            json!({ "runtimeConfig": { "portMappings": [
            { "hostPort": 1, "containerPort": 1, "protocol": "icmp" }] } }),
            7,
            "protocol",
        ),
        (
            json!({ "runtimeConfig": { "portMappings": [
            { "hostPort": 1, "containerPort": 1 }, { "hostPort": 1, "containerPort": 2 }] } }),
            7,
            "twice",
        ),
        (json!({ "prevResult": null }), 7, "prevResult"),
        (
            json!({ "prevResult": { "cniVersion": "1.1.0" } }),
            7,
            "no address",
        ),
    ] {
        let mut config = network.config(&result);
        for (key, value) in keys.as_object().expect("an object") {
            config[key] = value.clone();
        }
        let failure = network
            .portmap("ADD", &pod, &result)
            .config(&config)
            .run()
            .failure();
        assert_eq!(failure.code, code, "{keys}: {failure:?}");
        let text = format!("{} {}", failure.msg, failure.details);
        assert!(text.contains(words), "{keys}: {text}");
        snapshot().assert_unchanged_since(&before);
        // What is wrong for ADD does not keep DEL from cleaning up.
        let del = network.portmap("DEL", &pod, &result).config(&config).run();
        del.silent_success();
    }
}

fn an_empty_path_will_do() {
    let outside = outside();
    let network = Network::new()
        .with(json!({ "backend": "iptables" }))
        .publishing(&["8080:80/tcp", "8081:80/udp"]);
    let pod = Pod::new("pod");
    let result = network.attach(&pod);
    network
        .portmap("ADD", &pod, &result)
        .env("PATH", "")
        .run()
        .result();
    let _server = TcpEcho::start(&pod, "[::]:80");
    sees(tcp(&outside, "192.0.2.1:8080"), OUTSIDE4);
    network
        .portmap("CHECK", &pod, &result)
        .env("PATH", "")
        .run()
        .silent_success();
    network
        .portmap("DEL", &pod, &result)
        .env("PATH", "")
        .run()
        .silent_success();
    assert!(tcp(&outside, "192.0.2.1:8080").is_err());
}
