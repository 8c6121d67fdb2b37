//! Beside the reference plugins (Debian's `containernetworking-plugins`): mixed on one node, and in one list.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cni_testkit::{
    Chain, Invocation, Pod, Snapshot, Test, reference_plugin, require, tests, workspace_plugin_dir,
};
use serde_json::{Value, json};

use crate::world::{Network, ips, link, port, reaches};

pub(crate) const TESTS: &[Test] = &tests![
    what_the_reference_attached_is_detached_by_ours,
    what_ours_attached_is_detached_by_the_reference,
    both_attach_to_one_bridge_without_a_duplicate,
    the_reference_plugins_run_in_a_list_behind_ours,
    a_list_of_the_reference_runs_unchanged_with_ours,
];

/// A network that the reference plugin, too, attaches to without further programs.
fn network() -> Network {
    Network::of(&["10.9.0.0/24"]).with(json!({ "ipMasq": false, "cniVersion": "1.0.0" }))
}

/// The same verb by the reference plugin.
fn reference(verb: &str, pod: &Pod, config: &Value) -> Invocation {
    let bridge = require(reference_plugin("bridge"), "the reference bridge plugin");
    require(reference_plugin("host-local"), "the reference host-local");
    Invocation::attachment(bridge, verb, pod).config(config)
}

fn held() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/var/lib/cni/networks/net") else {
        return BTreeSet::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
        .collect()
}

fn what_the_reference_attached_is_detached_by_ours() {
    let network = network();
    let pod = Pod::new("pod");
    let result = reference("ADD", &pod, &network.config).run().result();
    reaches(&pod, "10.9.0.1");
    // Its host-side name is random, so the namespace has to be given.
    network.run("DEL", &pod).run().silent_success();
    assert!(link(&port(&result)).is_none());
    assert!(pod.run(|| link("eth0").is_none()));
    assert_eq!(held(), BTreeSet::new());
    network.run("DEL", &pod).run().silent_success();
}

fn what_ours_attached_is_detached_by_the_reference() {
    let network = network();
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    let config = network.clone().with(json!({ "prevResult": result })).config;
    let del = reference("DEL", &pod, &config).run();
    assert!(del.is_success(), "{del}");
    assert!(link(&port(&result)).is_none());
    assert_eq!(held(), BTreeSet::new());
}

fn both_attach_to_one_bridge_without_a_duplicate() {
    let network = network();
    let pods: Vec<Pod> = (0..8).map(|_| Pod::new("pod")).collect();
    let mut addresses = BTreeSet::new();
    for (number, pod) in pods.iter().enumerate() {
        let result = match number % 2 {
            0 => reference("ADD", pod, &network.config).run().result(),
            _ => network.add(pod),
        };
        for ip in ips(&result) {
            assert!(addresses.insert(ip.clone()), "{ip} twice");
            if number > 0 {
                reaches(&pods[0], &ip);
            }
        }
    }
    assert_eq!(held(), addresses);
    // Ours are checked by ours, whoever made the bridge, and each is detached by the other.
    for (number, pod) in pods.iter().enumerate() {
        match number % 2 {
            0 => network.run("DEL", pod).run().silent_success(),
            _ => {
                let del = reference("DEL", pod, &network.config).run();
                assert!(del.is_success(), "{del}");
            }
        }
    }
    assert_eq!(held(), BTreeSet::new());
    assert_eq!(Snapshot::take().lines("link veth").len(), 0);
}

fn list() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "net",
        "plugins": [
            {
                "type": "bridge", "bridge": "br0", "isDefaultGateway": true, "ipMasq": true,
                "hairpinMode": true, "mtu": 1400,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.9.0.0/24" }]] },
            },
            { "type": "tuning", "sysctl": { "net.core.somaxconn": "500" }, "mtu": 1350 },
        ],
    })
}

fn the_reference_plugins_run_in_a_list_behind_ours() {
    let tuning = require(reference_plugin("tuning"), "the reference tuning plugin");
    let (ours, mixed) = (workspace_plugin_dir(), Path::new("/run/mixed"));
    std::fs::create_dir(mixed).expect("/run is the test's own");
    for (name, program) in [("bridge", ours.join("bridge")), ("tuning", tuning)] {
        std::os::unix::fs::symlink(program, mixed.join(name)).expect("a link");
    }
    let chain = Chain::new(list(), &[mixed]);
    let pod = Pod::new("pod");
    let result = chain
        .add(&pod, "eth0")
        .unwrap_or_else(|outcome| panic!("{outcome}"));
    reaches(&pod, "10.9.0.1");
    let tuned = pod.run(|| cni_testkit::sysctl("net/core/somaxconn"));
    assert_eq!(tuned.as_deref(), Some("500"));
    chain
        .del(&pod, "eth0", &result)
        .unwrap_or_else(|outcome| panic!("{outcome}"));
    assert!(link(&port(&result)).is_none());
    assert_eq!(held(), BTreeSet::new());
}

fn a_list_of_the_reference_runs_unchanged_with_ours() {
    let directory = require(reference_plugin("bridge"), "the reference bridge plugin");
    let directory = directory.parent().unwrap_or(Path::new("/"));
    let mut list = list();
    // The reference's masquerade needs iptables.
    list["plugins"][0]["ipMasq"] = json!(false);
    let ours = workspace_plugin_dir();
    let chains = [
        Chain::new(list.clone(), &[directory]),
        Chain::new(list, &[&ours, directory]),
    ];
    // The reference of that time prints an empty `dns`, too.
    let keys = |value: &Value| -> BTreeSet<String> {
        let members = value.as_object().expect("an object").iter();
        let told = members.filter(|(name, value)| *name != "dns" || **value != json!({}));
        told.map(|(name, _)| name.clone()).collect()
    };
    let pods = [Pod::new("a"), Pod::new("b")];
    let [theirs, ours] = [0, 1].map(|number: usize| {
        let result = chains[number].add(&pods[number], "eth0");
        result.unwrap_or_else(|outcome| panic!("{outcome}"))
    });
    assert_eq!(keys(&theirs), keys(&ours));
    assert_eq!(theirs["routes"], ours["routes"]);
    assert_eq!(theirs["ips"][0]["gateway"], ours["ips"][0]["gateway"]);
    assert_eq!(theirs["ips"][0]["interface"], ours["ips"][0]["interface"]);
    reaches(&pods[0], &ips(&ours)[0]);
    for (number, result) in [&theirs, &ours].into_iter().enumerate() {
        let del = chains[1].del(&pods[number], "eth0", result);
        del.unwrap_or_else(|outcome| panic!("{outcome}"));
    }
    assert_eq!(held(), BTreeSet::new());
}
