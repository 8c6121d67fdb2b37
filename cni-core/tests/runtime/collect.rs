use std::fs;
use std::os::unix::fs::PermissionsExt;

use cni_core::ErrorKind;
use cni_core::spec::ValidAttachments;
use serde_json::json;

use crate::kit::{Node, Test, stdin, target, target_of, tests};

pub const TESTS: &[Test] = tests![
    gc_detaches_what_is_kept_and_not_valid_and_then_asks_the_plugins,
    gc_before_1_1_0_only_detaches,
    gc_can_be_disabled,
    gc_goes_on_past_failures,
    gc_hands_a_dels_arguments_back,
    status_stops_at_the_first_that_says_no_and_keeps_its_code,
    status_before_1_1_0_is_silent,
    validation_finds_missing_plugins_and_versions,
    a_plugin_of_0_1_0_is_recognised,
];

fn valid(pairs: &[(&str, &str)]) -> ValidAttachments {
    let parsed = pairs
        .iter()
        .map(|(container, interface)| (container.parse().unwrap(), interface.parse().unwrap()));
    ValidAttachments::new(parsed)
}

fn gc_detaches_what_is_kept_and_not_valid_and_then_asks_the_plugins() {
    let node = Node::new();
    let list = node.plain("1.1.0");
    for (container, interface) in [("c1", "eth0"), ("c1", "eth1"), ("c2", "eth0")] {
        node.runtime
            .add(&list, &target_of(container, interface))
            .unwrap();
    }
    node.calls();
    node.runtime.gc(&list, &valid(&[("c1", "eth1")])).unwrap();
    let calls = node.calls();
    let order: Vec<String> = calls
        .iter()
        .map(|call| {
            let of = |name: &str| call.environment[name].clone();
            format!(
                "{} {} {}/{}",
                call.command,
                call.plugin,
                of("CNI_CONTAINERID"),
                of("CNI_IFNAME")
            )
        })
        .collect();
    assert_eq!(
        order,
        [
            "DEL two c1/eth0",
            "DEL one c1/eth0",
            "DEL two c2/eth0",
            "DEL one c2/eth0",
            "GC one /",
            "GC two /"
        ]
    );
    for call in &calls[4..] {
        let expected = json!([{"containerID": "c1", "ifname": "eth1"}]);
        assert_eq!(stdin(call)["cni.dev/valid-attachments"], expected);
        assert_eq!(stdin(call)["cni.dev/attachments"], expected);
    }
    assert_eq!(node.kept(), ["net:c1:eth1"]);
}

fn gc_before_1_1_0_only_detaches() {
    let node = Node::new();
    let list = node.plain("1.0.0");
    node.runtime.add(&list, &target()).unwrap();
    node.order();
    node.runtime.gc(&list, &valid(&[])).unwrap();
    assert_eq!(node.order(), ["DEL two", "DEL one"]);
}

fn gc_can_be_disabled() {
    let node = Node::new();
    let plugins = [node.plugin("one", "", "")];
    let list = node.list_with("1.1.0", r#","disableGC":true"#, &plugins);
    node.runtime.add(&list, &target()).unwrap();
    node.order();
    node.runtime.gc(&list, &valid(&[])).unwrap();
    assert!(node.order().is_empty());
    assert_eq!(node.kept().len(), 1);
}

fn gc_goes_on_past_failures() {
    let node = Node::new();
    let fail = r#","fail":{"DEL":{"code":101,"msg":"no del"},"GC":{"code":102,"msg":"no gc"}}"#;
    let plugins = [node.plugin("one", "", fail), node.plugin("two", "", "")];
    let list = node.list("1.1.0", &plugins);
    for container in ["c1", "c2"] {
        node.runtime
            .add(&list, &target_of(container, "eth0"))
            .unwrap();
    }
    // A file that nobody can read is passed over.
    node.keep("net-x-eth0", "{");
    node.order();
    let error = node.runtime.gc(&list, &valid(&[])).unwrap_err();
    assert_eq!(
        node.order(),
        [
            "DEL two", "DEL one", "DEL two", "DEL one", "GC one", "GC two"
        ]
    );
    assert_eq!(error.kind(), ErrorKind::Plugin(101));
    assert!(error.chain().contains("no gc"), "{}", error.chain());
}

fn gc_hands_a_dels_arguments_back() {
    let node = Node::new();
    let members = r#","capabilities":{"mac":true}"#;
    let list = node.list("1.1.0", &[node.plugin("one", members, "")]);
    let mac = serde_json::value::to_raw_value("c2:11:22:33:44:55").unwrap();
    let target = target().args("A=1;B=2").capability("mac", mac);
    node.runtime.add(&list, &target).unwrap();
    node.calls();
    node.runtime.gc(&list, &valid(&[])).unwrap();
    let call = &node.calls()[0];
    assert_eq!(call.command, "DEL");
    assert_eq!(call.environment["CNI_ARGS"], "A=1;B=2");
    assert_eq!(call.environment["CNI_NETNS"], "/run/netns/c1");
    assert_eq!(stdin(call)["runtimeConfig"]["mac"], "c2:11:22:33:44:55");
}

fn status_stops_at_the_first_that_says_no_and_keeps_its_code() {
    let node = Node::new();
    let fail = r#","fail":{"STATUS":{"code":50,"msg":"no daemon"}}"#;
    let plugins = [
        node.plugin("one", "", ""),
        node.plugin("two", "", fail),
        node.plugin("three", "", ""),
    ];
    let error = node
        .runtime
        .status(&node.list("1.1.0", &plugins))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAvailable);
    assert_eq!(node.order(), ["STATUS one", "STATUS two"]);
}

fn status_before_1_1_0_is_silent() {
    let node = Node::new();
    node.runtime.status(&node.plain("1.0.0")).unwrap();
    assert!(node.calls().is_empty());
}

fn validation_finds_missing_plugins_and_versions() {
    let node = Node::new();
    let bin = node.dir.path().join("bin");
    let reply = r#"{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}"#;
    fs::write(bin.join("two.versions"), reply).unwrap();
    fs::write(bin.join("three.versions"), "not JSON").unwrap();
    let plugins = [
        node.plugin("one", r#","capabilities":{"mac":true,"ips":false}"#, ""),
        node.plugin("two", "", ""),
        node.plugin("three", "", ""),
        node.plugin("absent", "", ""),
    ];
    let report = node.runtime.validate(&node.list("1.1.0", &plugins));
    assert_eq!(report.capabilities.iter().collect::<Vec<_>>(), ["mac"]);
    let kinds: Vec<ErrorKind> = report.problems.iter().map(|error| error.kind()).collect();
    assert_eq!(
        kinds,
        [
            ErrorKind::IncompatibleVersion,
            ErrorKind::Decode,
            ErrorKind::InvalidConfig
        ]
    );
    let text = report.problems[0].chain();
    assert!(
        text.contains("two") && text.contains("0.3.1, 0.4.0"),
        "{text}"
    );
    assert!(
        node.runtime
            .validate(&node.plain("0.4.0"))
            .problems
            .is_empty()
    );
}

fn a_plugin_of_0_1_0_is_recognised() {
    let node = Node::new();
    let old = node.dir.path().join("bin/old");
    let script =
        "#!/bin/sh\necho '{\"code\":100,\"msg\":\"unknown CNI_COMMAND: VERSION\"}'; exit 1\n";
    fs::write(&old, script).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(node.runtime.version("old").unwrap().supported, ["0.1.0"]);
}
