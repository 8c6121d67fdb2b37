use std::fs;
use std::os::unix::fs::PermissionsExt;

use cni_core::ErrorKind;
use serde_json::{Value, json};

use crate::kit::{Node, Test, stdin, target, target_of, tests};

pub const TESTS: &[Test] = tests![
    a_kept_result_has_the_reference_librarys_members_and_is_private,
    attachments_whose_joined_names_are_equal_do_not_meet,
    a_result_under_the_reference_librarys_name_is_used_and_removed,
    a_result_under_an_ambiguous_name_that_is_anothers_is_left_alone,
    the_bare_result_of_an_old_runtime_is_used,
    a_kept_result_is_converted_to_the_lists_version,
    a_broken_result_fails_check_and_not_del,
    an_add_replaces_what_was_kept_and_leaves_no_other_file,
];

fn a_kept_result_has_the_reference_librarys_members_and_is_private() {
    let node = Node::new();
    let list = node.plain("1.0.0");
    node.runtime.add(&list, &target().args("A=1")).unwrap();
    let path = node.results().join("net:c1:eth0");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(node.results()), mode(path.clone())), (0o700, 0o600));
    let kept: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(kept["kind"], "cniCacheV1");
    assert_eq!(kept["networkName"], "net");
    assert_eq!(kept["containerId"], "c1");
    assert_eq!(kept["ifName"], "eth0");
    assert_eq!(kept["netns"], "/run/netns/c1");
    assert_eq!(kept["cniArgs"], json!([["A", "1"]]));
    assert_eq!(kept["result"]["cniVersion"], "1.0.0");
    // {"cniVersion":"1.0.0", ...
    assert!(
        kept["config"]
            .as_str()
            .unwrap()
            .starts_with("eyJjbmlWZXJzaW9uIjoiMS4wLjAi")
    );
}

fn attachments_whose_joined_names_are_equal_do_not_meet() {
    let node = Node::new();
    let list = node.plain("1.0.0");
    let (one, two) = (target_of("a", "b-c"), target_of("a-b", "c"));
    node.runtime.add(&list, &one).unwrap();
    node.runtime.add(&list, &two).unwrap();
    assert_eq!(node.kept(), ["net:a-b:c", "net:a:b-c"]);
    node.runtime.del(&list, &one).unwrap();
    assert_eq!(node.kept(), ["net:a-b:c"]);
    node.order();
    node.runtime.check(&list, &two).unwrap();
    assert_ne!(stdin(&node.calls()[0])["prevResult"], Value::Null);
}

fn entry(container: &str, interface: &str, address: &str) -> String {
    let result = json!({"cniVersion": "1.0.0", "ips": [{"address": address}]});
    json!({"kind": "cniCacheV1", "containerId": container, "ifName": interface, "networkName": "net", "result": result})
        .to_string()
}

fn a_result_under_the_reference_librarys_name_is_used_and_removed() {
    let node = Node::new();
    let list = node.plain("1.0.0");
    node.keep("net-c1-eth0", &entry("c1", "eth0", "10.9.9.9/24"));
    node.runtime.del(&list, &target()).unwrap();
    for call in node.calls() {
        assert_eq!(
            stdin(&call)["prevResult"]["ips"][0]["address"],
            "10.9.9.9/24"
        );
    }
    assert!(node.kept().is_empty());
}

fn a_result_under_an_ambiguous_name_that_is_anothers_is_left_alone() {
    let node = Node::new();
    let list = node.plain("1.0.0");
    node.keep("net-a-b-c", &entry("a-b", "c", "10.9.9.9/24"));
    node.runtime.del(&list, &target_of("a", "b-c")).unwrap();
    assert_eq!(stdin(&node.calls()[0])["prevResult"], Value::Null);
    assert_eq!(node.kept(), ["net-a-b-c"]);
}

fn the_bare_result_of_an_old_runtime_is_used() {
    let node = Node::new();
    let list = node.plain("1.0.0");
    node.keep(
        "net-c1-eth0",
        r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.9.9.9/24"}]}"#,
    );
    node.runtime.check(&list, &target()).unwrap();
    let call = stdin(&node.calls()[0]);
    assert_eq!(call["prevResult"]["ips"][0]["address"], "10.9.9.9/24");
    node.runtime.del(&list, &target()).unwrap();
    assert!(node.kept().is_empty());
}

fn a_kept_result_is_converted_to_the_lists_version() {
    let node = Node::new();
    let result =
        r#","result":{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.2.3/24"}]}"#;
    let plugins = [node.plugin("one", "", result)];
    node.runtime
        .add(&node.list("0.4.0", &plugins), &target())
        .unwrap();
    node.calls();
    node.runtime
        .check(&node.list("1.1.0", &plugins), &target())
        .unwrap();
    let call = stdin(&node.calls()[0]);
    assert_eq!(call["prevResult"]["cniVersion"], "1.1.0");
    assert_eq!(
        call["prevResult"]["ips"][0],
        json!({"address": "10.1.2.3/24"})
    );
}

fn a_broken_result_fails_check_and_not_del() {
    for (name, text) in [
        ("net:c1:eth0", ""),
        (
            "net:c1:eth0",
            r#"{"kind":"cniCacheV1","networkName":"net"}"#,
        ),
        ("net-c1-eth0", "{ half a fil"),
        ("net-c1-eth0", ""),
    ] {
        let node = Node::new();
        let list = node.plain("1.0.0");
        node.keep(name, text);
        let error = node.runtime.check(&list, &target()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{name} {text:?}");
        assert!(error.chain().contains(name), "{}", error.chain());
        assert!(node.calls().is_empty());
        node.runtime.del(&list, &target()).unwrap();
        assert_eq!(stdin(&node.calls()[0])["prevResult"], Value::Null);
        assert!(node.kept().is_empty(), "{name} {text:?}");
    }
}

fn an_add_replaces_what_was_kept_and_leaves_no_other_file() {
    let node = Node::new();
    let list = node.plain("1.0.0");
    node.keep("net:c1:eth0", "old and broken");
    node.runtime.add(&list, &target()).unwrap();
    assert_eq!(node.kept(), ["net:c1:eth0"]);
    node.runtime.check(&list, &target()).unwrap();

    // Where it cannot be kept, the ADD is taken back: its DEL and CHECK would lack the result.
    let node = Node::new();
    fs::create_dir_all(node.results().join("net:c1:eth0/in the way")).unwrap();
    let list = node.plain("1.0.0");
    let error = node.runtime.add(&list, &target()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(node.order(), ["ADD one", "ADD two", "DEL two", "DEL one"]);
    assert_eq!(node.kept(), ["net:c1:eth0"]);
}
