use cni_core::runtime::{NetworkList, Runtime};
use cni_core::testing::noop;
use cni_core::{Cancel, ErrorKind};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::kit::{Node, Test, stdin, target, tests};

pub const TESTS: &[Test] = tests![
    add_hands_each_result_to_the_next_and_keeps_the_last,
    members_of_a_configuration_reach_the_plugin_unchanged,
    capability_arguments_reach_the_plugins_that_declare_them,
    what_is_the_runtimes_own_cannot_be_set_by_a_configuration,
    the_environment_of_a_call_is_that_of_the_specification,
    an_add_that_fails_is_taken_back_and_nothing_is_kept,
    an_add_that_is_cancelled_is_taken_back,
    an_answer_that_is_no_result_is_taken_back,
    del_runs_in_reverse_order_with_the_kept_result_for_all,
    del_goes_on_past_a_failure_and_reports_all,
    del_at_0_3_1_gets_no_previous_result,
    check_is_refused_before_0_4_0_even_if_it_is_disabled,
    check_can_be_disabled,
    check_runs_in_order_and_stops_at_the_first_failure,
    a_plugins_failure_is_told_as_it_told_it,
];

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn add_hands_each_result_to_the_next_and_keeps_the_last() {
    let node = Node::new();
    let result = r#","result":{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.3/24"}]}"#;
    let plugins = [node.plugin("one", "", result), node.plugin("two", "", "")];
    let list = node.list("1.0.0", &plugins);
    let added = node.runtime.add(&list, &target()).unwrap();
    assert_eq!(added.ips[0].address, "10.1.2.3/24".parse().unwrap());
    let calls = node.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(stdin(&calls[0])["prevResult"], Value::Null);
    assert_eq!(
        stdin(&calls[1])["prevResult"]["ips"][0]["address"],
        "10.1.2.3/24"
    );
    assert_eq!(node.kept(), ["net:c1:eth0"]);
}

fn members_of_a_configuration_reach_the_plugin_unchanged() {
    let node = Node::new();
    let members = r#","zebra":9007199254740993,"apple":[1.10,1e400,{"b":1,"a":2}],"html":"<&>","name":"other","cniVersion":"0.1.0""#;
    let result = r#","result":{"cniVersion":"1.0.0","ips":[],"x.y/z":9007199254740993}"#;
    let plugins = [
        node.plugin("one", members, result),
        node.plugin("two", "", ""),
    ];
    let list = node.list("1.0.0", &plugins);
    node.runtime.add(&list, &target()).unwrap();
    let calls = node.calls();
    let text = &calls[0].stdin;
    assert!(
        text.contains(
            r#""zebra":9007199254740993,"apple":[1.10,1e400,{"b":1,"a":2}],"html":"<&>""#
        ),
        "{text}"
    );
    assert!(
        text.starts_with(r#"{"cniVersion":"1.0.0","name":"net","type":"one","#),
        "{text}"
    );
    assert!(!text.contains("other"), "{text}");
    // The result as well, on its way to the next plugin and through the cache.
    assert!(
        calls[1].stdin.contains(r#""x.y/z":9007199254740993"#),
        "{}",
        calls[1].stdin
    );
    node.runtime.del(&list, &target()).unwrap();
    for call in node.calls() {
        assert!(
            call.stdin.contains(r#""x.y/z":9007199254740993"#),
            "{}",
            call.stdin
        );
    }
}

fn capability_arguments_reach_the_plugins_that_declare_them() {
    let node = Node::new();
    let plugins = [
        node.plugin("one", r#","capabilities":{"mac":true,"ips":false}"#, ""),
        node.plugin("two", r#","capabilities":{"portMappings":true}"#, ""),
        node.plugin("three", "", ""),
    ];
    let list = node.list("1.0.0", &plugins);
    let target = target()
        .capability("mac", raw(r#""c2:11:22:33:44:55""#))
        .capability("ips", raw(r#"["10.0.0.1/24"]"#))
        .capability("portMappings", raw(r#"[{"hostPort":8080}]"#));
    node.runtime.add(&list, &target).unwrap();
    node.runtime.del(&list, &target).unwrap();
    let calls = node.calls();
    assert_eq!(calls.len(), 6);
    for call in calls {
        let expected = match call.plugin.as_str() {
            "one" => serde_json::json!({"mac": "c2:11:22:33:44:55"}),
            "two" => serde_json::json!({"portMappings": [{"hostPort": 8080}]}),
            _ => Value::Null,
        };
        assert_eq!(stdin(&call)["runtimeConfig"], expected, "{}", call.plugin);
        assert_eq!(stdin(&call)["capabilities"], Value::Null);
    }
}

fn what_is_the_runtimes_own_cannot_be_set_by_a_configuration() {
    let node = Node::new();
    let members =
        r#","prevResult":{"ips":[]},"runtimeConfig":{"mac":"x"},"capabilities":{"mac":true}"#;
    let list = node.list("1.0.0", &[node.plugin("one", members, "")]);
    let with = target().capability("mac", raw(r#""y""#));
    node.runtime.add(&list, &with).unwrap();
    let call = stdin(&node.calls()[0]);
    assert_eq!(call["prevResult"], Value::Null);
    assert_eq!(call["runtimeConfig"]["mac"], "y");
}

fn the_environment_of_a_call_is_that_of_the_specification() {
    let node = Node::new();
    let path = node.dir.path().join("bin");
    let runtime = Runtime::new([path.clone()])
        .cache_dir(node.dir.path().join("cache"))
        .environment([
            ("CNI_IFNAME".into(), "stale".into()),
            ("KEPT".into(), "1".into()),
        ]);
    let list = node.list("1.1.0", &[node.plugin("one", "", "")]);
    runtime.add(&list, &target().args("A=1;B=2")).unwrap();
    runtime.status(&list).unwrap();
    let calls = node.calls();
    let variable = |call: usize, name: &str| calls[call].environment.get(name).cloned();
    for (name, value) in [
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "A=1;B=2"),
        ("CNI_PATH", path.to_str().unwrap()),
        ("KEPT", "1"),
    ] {
        assert_eq!(variable(0, name).as_deref(), Some(value), "{name}");
    }
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
        assert_eq!(variable(1, name).as_deref(), Some(""), "{name}");
    }
}

fn an_add_that_fails_is_taken_back_and_nothing_is_kept() {
    let node = Node::new();
    let fail = r#","fail":{"ADD":{"code":11,"msg":"later","details":"the daemon sleeps"}}"#;
    let plugins = [
        node.plugin("one", "", ""),
        node.plugin("two", "", fail),
        node.plugin("three", "", ""),
    ];
    let list = node.list("1.0.0", &plugins);
    let error = node.runtime.add(&list, &target()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    let text = error.chain();
    for word in ["two", "later", "the daemon sleeps"] {
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(
        node.order(),
        ["ADD one", "ADD two", "DEL three", "DEL two", "DEL one"]
    );
    assert!(node.kept().is_empty());
}

fn an_add_that_is_cancelled_is_taken_back() {
    let node = Node::new();
    let fifo = node.dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let block = format!(r#","block":{{"ADD":"{}"}}"#, fifo.display());
    let plugins = [node.plugin("one", "", ""), node.plugin("two", "", &block)];
    let list = node.list("1.0.0", &plugins);
    let cancel = Cancel::new();
    let runtime = node.runtime.clone().cancelled_by(cancel.clone());
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| runtime.add(&list, &target()));
        while noop::calls(&node.record()).unwrap_or_default().len() < 2 {
            std::thread::yield_now();
        }
        cancel.cancel();
        let error = adding.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TryAgain, "{}", error.chain());
    });
    assert_eq!(node.order(), ["ADD one", "ADD two", "DEL two", "DEL one"]);
}

fn an_answer_that_is_no_result_is_taken_back() {
    for answer in [
        r#""text""#,
        r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1"}]}"#,
    ] {
        let node = Node::new();
        let script = format!(r#","result":{answer}"#);
        let list = node.list("1.0.0", &[node.plugin("one", "", &script)]);
        let error = node.runtime.add(&list, &target()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{}", error.chain());
        assert_eq!(node.order(), ["ADD one", "DEL one"]);
        assert!(node.kept().is_empty());
    }
}

fn del_runs_in_reverse_order_with_the_kept_result_for_all() {
    let node = Node::new();
    let list = node.plain("0.4.0");
    node.runtime.add(&list, &target()).unwrap();
    assert_eq!(node.order(), ["ADD one", "ADD two"]);
    node.runtime.del(&list, &target()).unwrap();
    let calls = node.calls();
    assert_eq!(
        (calls[0].plugin.as_str(), calls[1].plugin.as_str()),
        ("two", "one")
    );
    for call in &calls {
        assert_eq!(stdin(call)["prevResult"]["cniVersion"], "0.4.0");
    }
    assert!(node.kept().is_empty());
    // Again: without anything kept, and successfully.
    node.runtime.del(&list, &target()).unwrap();
    assert_eq!(stdin(&node.calls()[0])["prevResult"], Value::Null);
}

fn del_goes_on_past_a_failure_and_reports_all() {
    let node = Node::new();
    let fail = |code: u32| format!(r#","fail":{{"DEL":{{"code":{code},"msg":"no {code}"}}}}"#);
    let plugins = [
        node.plugin("one", "", &fail(101)),
        node.plugin("two", "", ""),
        node.plugin("three", "", &fail(103)),
    ];
    let list = node.list("1.0.0", &plugins);
    node.runtime.add(&list, &target()).unwrap();
    node.order();
    let error = node.runtime.del(&list, &target()).unwrap_err();
    assert_eq!(node.order(), ["DEL three", "DEL two", "DEL one"]);
    assert_eq!(error.kind(), ErrorKind::Plugin(103));
    assert!(error.chain().contains("no 101") && error.chain().contains("no 103"));
    // So that it can be tried again with what is known.
    assert_eq!(node.kept().len(), 1);
}

fn del_at_0_3_1_gets_no_previous_result() {
    let node = Node::new();
    let list = node.plain("0.3.1");
    node.runtime.add(&list, &target()).unwrap();
    let adds = node.calls();
    assert_ne!(stdin(&adds[1])["prevResult"], Value::Null);
    node.runtime.del(&list, &target()).unwrap();
    for call in node.calls() {
        assert_eq!(stdin(&call)["prevResult"], Value::Null);
    }
}

fn check_is_refused_before_0_4_0_even_if_it_is_disabled() {
    let node = Node::new();
    let plugins = [node.plugin("one", "", "")];
    let list = node.list_with("0.3.1", r#","disableCheck":true"#, &plugins);
    let error = node.runtime.check(&list, &target()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompatibleVersion);
    assert!(node.calls().is_empty());
}

fn check_can_be_disabled() {
    let node = Node::new();
    let plugins = [node.plugin("one", "", "")];
    let list = node.list_with("1.0.0", r#","disableCheck":true"#, &plugins);
    node.runtime.check(&list, &target()).unwrap();
    assert!(node.calls().is_empty());
}

fn check_runs_in_order_and_stops_at_the_first_failure() {
    let node = Node::new();
    let fail = r#","fail":{"CHECK":{"code":100,"msg":"gone"}}"#;
    let plugins = [
        node.plugin("one", "", ""),
        node.plugin("two", "", fail),
        node.plugin("three", "", ""),
    ];
    let list = node.list("1.0.0", &plugins);
    node.runtime.add(&list, &target()).unwrap();
    node.order();
    let error = node.runtime.check(&list, &target()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Plugin(100));
    let calls = node.calls();
    assert_eq!(calls.len(), 2);
    assert_eq!(stdin(&calls[0])["prevResult"]["cniVersion"], "1.0.0");
}

fn a_plugins_failure_is_told_as_it_told_it() {
    for (script, word) in [
        (r#","print":{"DEL":"segfault"}"#, "segfault"),
        (r#","print":{"DEL":""}"#, "said nothing"),
        (r#","print":{"DEL":""},"stderr":"oh no""#, "oh no"),
    ] {
        let node = Node::new();
        let list = node.list("1.0.0", &[node.plugin("one", "", script)]);
        let error = node.runtime.del(&list, &target()).unwrap_err();
        assert!(error.chain().contains(word), "{}", error.chain());
        assert!(error.chain().contains("one"), "{}", error.chain());
    }
    let node = Node::new();
    let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"absent"}]}"#;
    let list = NetworkList::parse(text).unwrap();
    let error = node.runtime.add(&list, &target()).unwrap_err();
    assert!(error.chain().contains("absent"), "{}", error.chain());
}
