//! What tuning sets, and what DEL restores.

pub(crate) mod life;

use std::fs;

use cni_testkit::{Pod, Snapshot, Test, reference_plugin, require, sysctl, tests};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::net::{GATEWAY, Net, bridge, command, files, host_end, interface, with};

pub(crate) const TESTS: &[Test] = &tests![
    everything_is_set_told_and_checked_and_put_back,
    parameters_are_those_of_the_container_alone,
    check_names_every_drift_and_nothing_that_nobody_asked_for,
    a_lasting_interface_gets_back_what_it_had,
    the_first_backup_is_kept,
    a_parameter_that_somebody_else_has_set_since_stays,
    the_reference_puts_back_what_we_have_changed_and_we_what_it_has,
    an_administrators_list_says_what_may_be_set,
    wrong_input_is_one_clear_error_and_changes_nothing_of_tuning,
];

const MAC: &str = "02:11:22:33:44:55";
const BACKUPS: &str = "/run/cni/tuning";

fn keys() -> Value {
    json!({
        "mac": MAC, "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 77,
        "sysctl": {
            "net.ipv4.conf.IFNAME.arp_filter": "1",
            "net/core/somaxconn": "512",
            "net.ipv4.ip_local_port_range": "20000 30000",
        },
    })
}

fn tuning(keys: Value) -> Value {
    with(json!({ "type": "tuning" }), keys)
}

fn net(keys: Value) -> Net {
    Net::of(&[bridge(), tuning(keys)])
}

/// A pod on the bridge, and what the bridge has said of it.
fn attached() -> (Pod, Value) {
    let pod = Pod::new("pod");
    let previous = Net::of(&[bridge()]).add(&pod);
    (pod, previous)
}

/// What can be tuned of the interface and of the container.
fn tuned(pod: &Pod) -> Vec<String> {
    pod.run(|| {
        let link = command("ip", "link show dev eth0");
        let words: Vec<&str> = link.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name);
            at.and_then(|at| words.get(at + 1))
                .copied()
                .unwrap_or_default()
                .to_owned()
        };
        let flags = words.get(2).copied().unwrap_or_default();
        let parameter = |key: &str| sysctl(key).unwrap_or_default();
        vec![
            after("mtu"),
            after("qlen"),
            after("link/ether"),
            flags.contains("PROMISC").to_string(),
            flags.contains("ALLMULTI").to_string(),
            parameter("net/ipv4/conf/eth0/arp_filter"),
            parameter("net/core/somaxconn"),
            parameter("net/ipv4/ip_local_port_range"),
        ]
    })
}

fn wanted() -> Vec<String> {
    [
        "1400",
        "77",
        MAC,
        "true",
        "true",
        "1",
        "512",
        "20000\t30000",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The kernel's state, the pod's as well, and the backups.
fn state(pod: &Pod) -> (Snapshot, Snapshot, Vec<String>, Vec<(String, String)>) {
    let host = Snapshot::take()
        .without("/var/lib/cni")
        .without("dst fe80::");
    let inside = Snapshot::of(pod).without("/var/lib/cni").without("/run");
    (host.without("/run"), inside, tuned(pod), files(BACKUPS))
}

#[track_caller]
fn assert_as_before(
    before: &(Snapshot, Snapshot, Vec<String>, Vec<(String, String)>),
    pod: &Pod,
    what: &str,
) {
    let after = state(pod);
    let changes = format!("{}{}", after.0.since(&before.0), after.1.since(&before.1));
    assert!(changes.is_empty(), "{what}: {changes}");
    assert_eq!(
        (after.2, after.3),
        (before.2.clone(), before.3.clone()),
        "{what}"
    );
}

fn everything_is_set_told_and_checked_and_put_back() {
    for version in ["1.1.0", "1.0.0"] {
        let net = net(keys()).version(version);
        let (pod, previous) = attached();
        let before = state(&pod);
        let plugin = net.plugin("tuning");
        let previous = match version {
            "1.1.0" => previous,
            _ => {
                let mut older = previous;
                older["cniVersion"] = version.into();
                for interface in older["interfaces"].as_array_mut().expect("interfaces") {
                    interface.as_object_mut().expect("an object").remove("mtu");
                }
                older
            }
        };
        let result = net.run(plugin, "ADD", &pod, &previous).run().result();
        assert_eq!(tuned(&pod), wanted());
        let own = interface(&result, "eth0");
        assert_eq!(own["mac"], MAC);
        if version == "1.1.0" {
            assert_eq!(own["mtu"], 1400);
            // The far end keeps its own.
            assert_eq!(interface(&result, &host_end(&result))["mtu"], 1500);
        }
        // Others hear of the new address at once.
        let ping = pod.run(|| cni_testkit::Ping::to(GATEWAY).send());
        assert!(ping.is_ok(), "{ping:?}");
        // The bridge's CHECK, too, takes what this one has made of its interface.
        net.check(&pod, &result);
        net.run(plugin, "DEL", &pod, &result).run().silent_success();
        assert_as_before(&before, &pod, version);
        net.del(&pod);
    }
}

fn parameters_are_those_of_the_container_alone() {
    let (pod, previous) = attached();
    let other = Pod::new("other");
    let host = sysctl("net/core/somaxconn");
    let net = net(keys());
    net.run(net.plugin("tuning"), "ADD", &pod, &previous)
        .run()
        .result();
    assert_eq!(sysctl("net/core/somaxconn"), host);
    assert_eq!(other.run(|| sysctl("net/core/somaxconn")), host);
}

fn check_names_every_drift_and_nothing_that_nobody_asked_for() {
    let net = net(keys());
    let plugin = net.plugin("tuning");
    for (drift, words) in [
        (
            "ip link set dev eth0 mtu 1300",
            "link eth0: mtu is 1300, should be 1400",
        ),
        (
            "ip link set dev eth0 address 02:00:00:00:00:07",
            "hardware address is 02:00:00:00:00:07",
        ),
        (
            "ip link set dev eth0 promisc off",
            "promiscuous mode is off",
        ),
        (
            "ip link set dev eth0 allmulticast off",
            "all-multicast mode is off",
        ),
        (
            "ip link set dev eth0 txqueuelen 5",
            "transmit queue length is 5, should be 77",
        ),
        (
            "sysctl -w net/core/somaxconn=99",
            "net/core/somaxconn is 99, should be 512",
        ),
        (
            "sysctl -w net/ipv4/conf/eth0/arp_filter=0",
            "net/ipv4/conf/eth0/arp_filter is 0, should be 1",
        ),
        (
            "sysctl -w net/ipv4/ip_local_port_range=1025",
            "net/ipv4/ip_local_port_range is",
        ),
    ] {
        let (pod, previous) = attached();
        let result = net.run(plugin, "ADD", &pod, &previous).run().result();
        net.run(plugin, "CHECK", &pod, &result)
            .run()
            .silent_success();
        let (program, arguments) = drift.split_once(' ').expect("a command");
        pod.run(|| {
            match arguments
                .strip_prefix("-w ")
                .and_then(|text| text.split_once('='))
            {
                Some((key, value)) => {
                    let value = value.replace("1025", "1025 2000");
                    fs::write(format!("/proc/sys/{key}"), value).expect("the drift is possible");
                }
                None => {
                    command(program, arguments);
                }
            }
        });
        let before = state(&pod);
        let failure = net.run(plugin, "CHECK", &pod, &result).run().failure();
        assert!(failure.msg.contains(words), "{drift}, {words}: {failure:?}");
        assert_as_before(&before, &pod, drift);
        net.del(&pod);
    }
    // The reference complains here.
    let (pod, previous) = attached();
    pod.run(|| {
        command(
            "ip",
            "link set dev eth0 promisc on allmulticast on mtu 1300 txqueuelen 3",
        )
    });
    let none = tuning(json!({}));
    net.run(&none, "CHECK", &pod, &previous)
        .run()
        .silent_success();
}

/// As a device of the host is, which goes home when the pod ends.
fn a_lasting_interface_gets_back_what_it_had() {
    let (pod, previous) = attached();
    pod.run(|| {
        command(
            "ip",
            "link set dev eth0 mtu 1450 txqueuelen 9 allmulticast on",
        )
    });
    let before = state(&pod);
    let net = net(keys());
    let plugin = net.plugin("tuning");
    let result = net.run(plugin, "ADD", &pod, &previous).run().result();
    assert_eq!(tuned(&pod), wanted());
    // By a runtime that knows only the names, and by one that knows all.
    net.run(plugin, "DEL", &pod, &Value::Null)
        .run()
        .silent_success();
    assert_as_before(&before, &pod, "DEL");
    net.run(plugin, "ADD", &pod, &previous).run().result();
    net.run(plugin, "DEL", &pod, &result).run().silent_success();
    assert_as_before(&before, &pod, "DEL with the result");
    net.run(plugin, "DEL", &pod, &result).run().silent_success();
    assert_as_before(&before, &pod, "another DEL");
}

fn the_first_backup_is_kept() {
    let (pod, previous) = attached();
    let before = state(&pod);
    let (first, second) = (net(json!({ "mtu": 1400 })), net(keys()));
    first
        .run(first.plugin("tuning"), "ADD", &pod, &previous)
        .run()
        .result();
    second
        .run(second.plugin("tuning"), "ADD", &pod, &previous)
        .run()
        .result();
    second
        .run(second.plugin("tuning"), "ADD", &pod, &previous)
        .run()
        .result();
    assert_eq!(tuned(&pod), wanted());
    second
        .run(second.plugin("tuning"), "DEL", &pod, &Value::Null)
        .run()
        .silent_success();
    assert_as_before(&before, &pod, "one DEL after three ADDs");
}

fn a_parameter_that_somebody_else_has_set_since_stays() {
    let (pod, previous) = attached();
    let net = net(json!({ "sysctl": { "net.core.somaxconn": "512" } }));
    let plugin = net.plugin("tuning");
    net.run(plugin, "ADD", &pod, &previous).run().result();
    let write = |value: &str| fs::write("/proc/sys/net/core/somaxconn", value).expect("a write");
    pod.run(|| write("700"));
    net.run(plugin, "DEL", &pod, &Value::Null)
        .run()
        .silent_success();
    assert_eq!(
        pod.run(|| sysctl("net/core/somaxconn")).as_deref(),
        Some("700")
    );
}

/// A node is changed over while pods run.
fn the_reference_puts_back_what_we_have_changed_and_we_what_it_has() {
    let reference = require(reference_plugin("tuning"), "the reference tuning plugin");
    let directory = reference.parent().expect("a directory");
    // Debian's knows neither 1.1.0 nor the last two keys.
    let keys = json!({ "mac": MAC, "mtu": 1400, "promisc": true });
    let ours = net(keys).version("1.0.0");
    let theirs = ours.clone().by(directory);
    let plugin = ours.plugin("tuning");
    let (pod, _) = attached();
    let previous = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "eth0", "sandbox": pod.path() }],
        "ips": [{ "address": "10.9.0.2/24", "interface": 0 }],
    });
    let before = tuned(&pod);
    for (add, del) in [(&ours, &theirs), (&theirs, &ours)] {
        add.run(plugin, "ADD", &pod, &previous).run().result();
        assert_ne!(tuned(&pod), before);
        del.run(plugin, "DEL", &pod, &previous).run();
        assert_eq!(tuned(&pod), before);
        assert_eq!(files(BACKUPS), []);
    }
}

fn an_administrators_list_says_what_may_be_set() {
    // This machine's own is not the test's.
    let none = None::<&str>;
    mount(Some("tmpfs"), "/etc", Some("tmpfs"), MsFlags::empty(), none).expect("an empty /etc");
    fs::create_dir_all("/etc/cni/tuning").expect("a directory");
    let write = |text: &str| fs::write("/etc/cni/tuning/allowlist.conf", text).expect("a list");
    let (pod, previous) = attached();
    let before = state(&pod);
    let net = net(keys());
    let plugin = net.plugin("tuning");

    write("^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n\n^net\\.core\\.somaxconn$\n");
    let failure = net.run(plugin, "ADD", &pod, &previous).run().failure();
    assert_eq!(failure.code, 7, "{failure:?}");
    assert!(
        failure.msg.contains("net.ipv4.ip_local_port_range"),
        "{failure:?}"
    );
    assert!(!failure.msg.contains("set net.core"), "{failure:?}");
    assert_as_before(&before, &pod, "refused");

    write("^net\\.(core|ipv4)\\.");
    net.status(plugin).silent_success();
    net.run(plugin, "ADD", &pod, &previous).run().result();
    assert_eq!(tuned(&pod), wanted());
    net.run(plugin, "DEL", &pod, &Value::Null)
        .run()
        .silent_success();

    write("(");
    let failure = net.run(plugin, "ADD", &pod, &previous).run().failure();
    assert!(
        failure
            .msg
            .contains("line 1 of /etc/cni/tuning/allowlist.conf"),
        "{failure:?}"
    );
    assert_eq!(net.status(plugin).failure().code, 50);
    assert_as_before(&before, &pod, "a broken list");
}

fn wrong_input_is_one_clear_error_and_changes_nothing_of_tuning() {
    let (pod, previous) = attached();
    let before = state(&pod);
    for (keys, code, words) in [
        (
            json!({ "sysctl": { "kernel.hostname": "x" } }),
            7,
            "must be below net",
        ),
        (
            json!({ "sysctl": { "net.core.somaxconn": "1", "net/core/somaxconn": "2" } }),
            7,
            "names the same parameter",
        ),
        (
            json!({ "sysctl": { "net.core.somaxconn": 1 } }),
            6,
            "must be a string",
        ),
        (
            json!({ "sysctl": { "net.core.no_such": "1" } }),
            5,
            "the kernel has no such parameter",
        ),
        (json!({ "mac": MAC, "mtu": 1_000_000 }), 5, "mtu 1000000"),
        (
            json!({ "mac": MAC, "sysctl": { "net.core.somaxconn": "512", "net.ipv4.ip_forward": "x" } }),
            5,
            "ip_forward",
        ),
        (json!({ "mac": "ff:ff:ff:ff:ff:ff" }), 7, "unicast"),
        (json!({ "mtu": 67 }), 7, "`mtu` is 67"),
        (json!({ "txQLen": -1 }), 7, "`txQLen`"),
        (
            json!({ "promisc": 1 }),
            6,
            "`promisc` must be true or false",
        ),
        (json!({ "dataDir": 1 }), 6, "`dataDir` must be a string"),
    ] {
        let net = net(keys.clone());
        let failure = net
            .run(net.plugin("tuning"), "ADD", &pod, &previous)
            .run()
            .failure();
        let text = format!("{} {}", failure.msg, failure.details);
        assert_eq!(failure.code, code, "{keys}: {failure:?}");
        assert!(text.contains(words), "{keys}, {words}: {failure:?}");
        assert_as_before(&before, &pod, &keys.to_string());
    }
    let net = net(json!({ "mtu": 1400 }));
    let run = net.run(net.plugin("tuning"), "ADD", &pod, &previous);
    for (run, code, words) in [
        (run.clone().env("CNI_ARGS", "MAC=x"), 4, "MAC of CNI_ARGS"),
        (run.clone().env("CNI_ARGS", "IP=10.0.0.1"), 4, "IP=10.0.0.1"),
        (
            run.clone().env("CNI_IFNAME", "net7"),
            7,
            "no interface net7",
        ),
        (
            net.run(net.plugin("tuning"), "ADD", &pod, &Value::Null),
            7,
            "prevResult",
        ),
    ] {
        let failure = run.run().failure();
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.msg.contains(words), "{words}: {failure:?}");
        assert_as_before(&before, &pod, words);
    }
    // Two times the same key, which no JSON library would write.
    let text = net.config(net.plugin("tuning"), &previous).to_string();
    let text = text.replacen('{', r#"{"sysctl":{"net.core.a":"1","net.core.a":"2"},"#, 1);
    let failure = run.stdin(text).run().failure();
    assert_eq!(failure.code, 7, "{failure:?}");
    assert!(failure.msg.contains("sysctl.net.core.a"), "{failure:?}");
}
