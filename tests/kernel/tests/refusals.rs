//! Bad input of every kind: one JSON error with the right code, and nothing touched.

use std::fs;

use cni_testkit::{Invocation, Pod, Snapshot, Test, tests};
use serde_json::{Value, json};

use crate::plugins;

pub(crate) const TESTS: &[Test] = &tests![
    a_wrong_environment_is_refused,
    a_wrong_document_on_stdin_is_refused,
    a_wrong_configuration_is_refused,
    a_wrong_namespace_is_refused,
    a_wrong_bridge_configuration_is_refused_by_its_key,
    a_wrong_address_configuration_is_refused,
    a_missing_delegate_is_named,
];

/// Asserts that a run is refused with one of `codes`, that the error mentions `mention`, and that nothing was touched.
#[track_caller]
fn assert_refused(pod: &Pod, run: &Invocation, codes: &[u64], mention: &str) {
    let (node, inside) = (Snapshot::take(), Snapshot::of(pod));
    let outcome = run.run();
    let failure = outcome.failure();
    assert!(
        codes.contains(&failure.code),
        "code {codes:?} was expected: {outcome}"
    );
    let text = format!("{} {}", failure.msg, failure.details);
    assert!(
        text.contains(mention),
        "{mention:?} was expected in the error: {outcome}"
    );
    assert!(
        failure.cni_version.is_some(),
        "the error carries a version: {outcome}"
    );
    Snapshot::take().assert_unchanged_since(&node);
    Snapshot::of(pod).assert_unchanged_since(&inside);
}

fn a_wrong_environment_is_refused() {
    for plugin in plugins::all() {
        let pod = Pod::new("pod");
        let good = plugin.run("ADD", &pod);
        for verb in ["add", "FOO", "ADD ", "UPDATE"] {
            assert_refused(&pod, &good.clone().env("CNI_COMMAND", verb), &[4], verb);
        }
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            assert_refused(&pod, &good.clone().without(name), &[4], name);
            assert_refused(&pod, &good.clone().env(name, ""), &[4], name);
        }
        for id in ["../x", "a/b", "-a", "a b", "."] {
            assert_refused(&pod, &good.clone().env("CNI_CONTAINERID", id), &[4], id);
        }
        for interface in ["sixteenbyteslong", "a/b", "..", ".", "eth 0", "eth:0"] {
            assert_refused(
                &pod,
                &good.clone().env("CNI_IFNAME", interface),
                &[4],
                interface,
            );
        }
        for args in ["A", "A=1;", "A=1=2", "IgnoreUnknown=maybe"] {
            assert_refused(&pod, &good.clone().env("CNI_ARGS", args), &[4], "");
        }
    }
}

fn a_wrong_document_on_stdin_is_refused() {
    for plugin in plugins::all() {
        let pod = Pod::new("pod");
        let good = plugin.config.to_string();
        let deep = "[".repeat(100_000);
        let cut = good[..good.len() - 2].to_owned();
        let texts = [
            "",
            " \n",
            "{",
            "[]",
            "null",
            "42",
            "\"x\"",
            "nul",
            &deep,
            &cut,
            &format!("{good}x"),
            &format!("{good}{good}"),
            &format!("\u{feff}{good}"),
        ]
        .map(|text| text.as_bytes().to_vec());
        let mut latin = good.clone().into_bytes();
        latin.splice(1..1, *b"\"key\":\"\xe9\",");
        for text in texts.into_iter().chain([latin]) {
            assert_refused(&pod, &plugin.bare("ADD", &pod).stdin(text), &[6], "");
        }
    }
}

fn a_wrong_configuration_is_refused() {
    for plugin in plugins::all() {
        let pod = Pod::new("pod");
        let refused = |config: Value, codes: &[u64], mention: &str| {
            assert_refused(
                &pod,
                &plugin.bare("ADD", &pod).config(&config),
                codes,
                mention,
            );
        };
        for version in ["1.0", "9.9.9", "01.1.0"] {
            refused(plugin.with(json!({ "cniVersion": version })), &[1], version);
        }
        refused(plugin.with(json!({ "cniVersion": "new" })), &[6], "new");
        refused(plugin.with(json!({ "cniVersion": 1 })), &[6], "cniVersion");
        for name in [json!(null), json!(""), json!("a/b"), json!("..")] {
            refused(plugin.with(json!({ "name": name })), &[7], "");
        }
        refused(plugin.with(json!({ "name": 7 })), &[6, 7], "name");
        let mut twice = plugin.config.to_string();
        twice.insert_str(1, "\"name\":\"other\",");
        assert_refused(&pod, &plugin.bare("ADD", &pod).stdin(twice), &[7], "name");
        for previous in [
            json!([]),
            json!({ "cniVersion": "9.9.9" }),
            json!({ "ips": [null] }),
        ] {
            refused(
                plugin.with(json!({ "prevResult": previous })),
                &[6],
                "prevResult",
            );
        }
        if !plugin.is_ipam() {
            let check = plugin.run("CHECK", &pod);
            assert_refused(&pod, &check, &[7], "prevResult");
        }
        let old = plugin.with(json!({ "cniVersion": "1.0.0" }));
        for verb in ["GC", "STATUS"] {
            assert_refused(&pod, &plugin.bare(verb, &pod).config(&old), &[1], verb);
        }
    }
}

fn a_wrong_namespace_is_refused() {
    let file = "/run/file";
    for plugin in plugins::all() {
        let pod = Pod::new("pod");
        let result = json!({ "cniVersion": "1.1.0" });
        for verb in ["ADD", "CHECK"] {
            let own = plugin
                .bare(verb, &pod)
                .config(&plugin.with(json!({ "prevResult": result })))
                .env("CNI_NETNS", "/proc/self/ns/net");
            assert_refused(&pod, &own, &[8], "CNI_NETNS_OVERRIDE");
        }
        if plugin.is_ipam() {
            continue;
        }
        fs::write(file, "no namespace").expect("/run is the test's own");
        for path in ["/run/netns/gone", file, "/proc/self/ns/mnt", "/run"] {
            assert_refused(
                &pod,
                &plugin.run("ADD", &pod).env("CNI_NETNS", path),
                &[8],
                path,
            );
        }
    }
}

fn a_wrong_bridge_configuration_is_refused_by_its_key() {
    let plugin = plugins::example("bridge");
    let pod = Pod::new("pod");
    for (key, value) in [
        ("mtu", json!("1400")),
        ("mtu", json!(-1)),
        ("isGateway", json!("yes")),
        ("bridge", json!("a-bridge-with-a-long-name")),
        ("bridge", json!("a/b")),
        ("vlan", json!(4095)),
        ("vlan", json!(-1)),
        ("vlanTrunk", json!([{ "minID": 20, "maxID": 10 }])),
        ("ipam", json!("host-local")),
        ("dns", json!([])),
        ("runtimeConfig", json!({ "mac": "not a mac" })),
    ] {
        let config = plugin.with(json!({ key: value }));
        assert_refused(
            &pod,
            &plugin.bare("ADD", &pod).config(&config),
            &[6, 7],
            key_name(key),
        );
    }
    let both = plugin.with(json!({ "hairpinMode": true, "promiscMode": true }));
    assert_refused(
        &pod,
        &plugin.bare("ADD", &pod).config(&both),
        &[7],
        "promiscMode",
    );
}

/// What the error calls a key: the innermost.
fn key_name(key: &str) -> &str {
    if key == "runtimeConfig" { "mac" } else { key }
}

fn a_wrong_address_configuration_is_refused() {
    let plugin = plugins::example("host-local");
    let pod = Pod::new("pod");
    for ipam in [
        json!({ "type": "host-local" }),
        json!({ "type": "host-local", "subnet": "10.9.0.0" }),
        json!({ "type": "host-local", "subnet": "10.9.0.0/33" }),
        json!({ "type": "host-local", "subnet": "10.9.0.0/24", "rangeStart": "10.8.0.1" }),
        json!({ "type": "host-local", "subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9", "rangeEnd": "10.9.0.5" }),
        json!({ "type": "host-local", "subnet": "10.9.0.0/31" }),
        json!({ "type": "host-local", "ranges": [[{ "subnet": "10.9.0.0/24" }], [{ "subnet": "10.9.0.0/25" }]] }),
        json!({ "type": "host-local", "ranges": [[{ "subnet": "10.9.0.0/24" }, { "subnet": "fd00::/64" }]] }),
    ] {
        let config = plugin.with(json!({ "ipam": ipam }));
        assert_refused(&pod, &plugin.bare("ADD", &pod).config(&config), &[6, 7], "");
    }
}

fn a_missing_delegate_is_named() {
    for plugin in ["bridge", "ptp"].map(plugins::example) {
        let pod = Pod::new("pod");
        let config = plugin.with(json!({ "ipam": { "type": "no-such-plugin" } }));
        let run = plugin.bare("ADD", &pod).config(&config);
        assert_refused(&pod, &run, &[4, 5, 7], "no-such-plugin");
        let outside = plugin.with(json!({ "ipam": { "type": "../bridge" } }));
        assert_refused(
            &pod,
            &plugin.bare("ADD", &pod).config(&outside),
            &[4, 5, 7],
            "../bridge",
        );
    }
}
