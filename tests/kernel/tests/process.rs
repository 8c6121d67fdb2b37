//! What every plugin does as a process, whatever it is for.

use cni_testkit::{Invocation, Ping, Pod, Snapshot, Test, sysctl, tests, workspace_plugin};
use serde_json::json;

use crate::plugins::{self, NAMES};

pub(crate) const TESTS: &[Test] = &tests![
    every_plugin_is_built_under_its_name,
    version_lists_what_it_speaks_and_echoes_the_version_it_was_asked_with,
    without_a_command_it_introduces_itself_on_stderr,
    unknown_variables_are_ignored,
    add_and_then_del_leave_the_state_as_it_was,
    del_succeeds_when_nothing_was_added_and_leaves_nothing,
    del_succeeds_twice_without_namespace_and_without_previous_result,
    a_dry_run_prints_a_plan_and_changes_nothing,
    gc_with_an_empty_list_removes_everything_and_without_a_list_nothing,
    status_is_silent_when_an_add_could_work,
];

fn every_plugin_is_built_under_its_name() {
    for name in NAMES {
        workspace_plugin(name);
    }
}

fn version_lists_what_it_speaks_and_echoes_the_version_it_was_asked_with() {
    for name in NAMES {
        let run = Invocation::new(workspace_plugin(name), "VERSION");
        for version in ["0.4.0", "1.0.0", "1.1.0"] {
            let answer = run
                .clone()
                .config(&json!({ "cniVersion": version }))
                .run()
                .result();
            assert_eq!(answer["cniVersion"], version, "{name}");
            let supported = answer["supportedVersions"].as_array().expect("versions");
            for version in [
                "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
            ] {
                assert!(supported.contains(&json!(version)), "{name}: {answer}");
            }
        }
    }
}

fn without_a_command_it_introduces_itself_on_stderr() {
    for name in NAMES {
        let outcome = Invocation::new(workspace_plugin(name), "")
            .without("CNI_COMMAND")
            .run();
        outcome.silent_success();
        let text = String::from_utf8_lossy(&outcome.output.stderr).into_owned();
        assert!(text.contains(name) && text.contains("1.1.0"), "{text}");
    }
}

fn unknown_variables_are_ignored() {
    for plugin in plugins::all() {
        let pod = Pod::new("pod");
        let run = |verb| {
            plugin
                .run(verb, &pod)
                .env(
                    "TRACEPARENT",
                    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                )
                .env("CNI_SOMETHING", "new")
                .run()
        };
        run("ADD").result();
        run("DEL").silent_success();
    }
}

/// What may stay: the forwarding switches, which nobody can tell the owner of, and the store's directory.
fn settled(state: Snapshot) -> Snapshot {
    state
        .without("sysctl ")
        .without(" /var/lib/cni")
        .without(" /run/cni")
}

fn add_and_then_del_leave_the_state_as_it_was() {
    for plugin in plugins::all() {
        let first = Pod::new("pod");
        // What the first attachment of a network brings for all that follow (a bridge) is not an attachment's own.
        plugin.run("ADD", &first).run().result();
        let pod = Pod::new("pod");
        let (node, inside) = (settled(Snapshot::take()), settled(Snapshot::of(&pod)));
        let result = plugin.run("ADD", &pod).run().result();
        assert_eq!(result["cniVersion"], "1.1.0", "{}", plugin.name);
        plugin.run("DEL", &pod).run().silent_success();
        settled(Snapshot::take()).assert_unchanged_since(&node);
        // `loopback` sets lo down.
        let after = settled(Snapshot::of(&pod));
        if plugin.name != "loopback" {
            after.assert_unchanged_since(&inside);
        }
        plugin.clear(&[&first]);
    }
}

fn del_succeeds_when_nothing_was_added_and_leaves_nothing() {
    for plugin in plugins::all() {
        let pod = Pod::new("pod");
        let before = settled(Snapshot::take());
        plugin.run("DEL", &pod).run().silent_success();
        settled(Snapshot::take()).assert_unchanged_since(&before);
    }
}

fn del_succeeds_twice_without_namespace_and_without_previous_result() {
    for plugin in plugins::all() {
        let before = settled(Snapshot::take());
        let pod = Pod::new("pod");
        plugin.run("ADD", &pod).run().result();
        for _ in 0..2 {
            plugin
                .run("DEL", &pod)
                .without("CNI_NETNS")
                .run()
                .silent_success();
        }
        plugin
            .run("DEL", &pod)
            .env("CNI_NETNS", "/run/netns/gone")
            .run()
            .silent_success();
        plugin.clear(&[]);
        settled(Snapshot::take()).assert_unchanged_since(&before);
    }
}

fn a_dry_run_prints_a_plan_and_changes_nothing() {
    for plugin in plugins::all() {
        let pod = Pod::new("pod");
        let (node, inside) = (Snapshot::take(), Snapshot::of(&pod));
        let outcome = plugin.run("ADD", &pod).env("CNI_DRY_RUN", "1").run();
        outcome.silent_success();
        Snapshot::take().assert_unchanged_since(&node);
        Snapshot::of(&pod).assert_unchanged_since(&inside);
        if matches!(plugin.name, "bridge" | "ptp") {
            let plan = String::from_utf8_lossy(&outcome.output.stderr).into_owned();
            assert!(plan.contains("ip link add"), "{}: {plan}", plugin.name);
            plugin.run("ADD", &pod).run().result();
            let (node, inside) = (Snapshot::take(), Snapshot::of(&pod));
            let outcome = plugin.run("DEL", &pod).env("CNI_DRY_RUN", "1").run();
            outcome.silent_success();
            Snapshot::take().assert_unchanged_since(&node);
            Snapshot::of(&pod).assert_unchanged_since(&inside);
            let plan = String::from_utf8_lossy(&outcome.output.stderr).into_owned();
            for words in ["ip link delete dev veth", "delete element inet"] {
                assert!(plan.contains(words), "{}: {plan}", plugin.name);
            }
            plugin.run("DEL", &pod).run().silent_success();
        }
    }
}

fn gc_with_an_empty_list_removes_everything_and_without_a_list_nothing() {
    for plugin in ["bridge", "ptp"].map(plugins::example) {
        let (one, other) = (Pod::new("pod"), Pod::new("pod"));
        for pod in [&one, &other] {
            plugin.run("ADD", pod).run().result();
            let gateway = pod.run(|| Ping::to("fd00:9::1").send());
            assert!(gateway.is_ok(), "{}: {gateway:?}", plugin.name);
        }
        let both = Snapshot::take();
        let gc = |config| {
            Invocation::attachment(workspace_plugin(plugin.name), "GC", &one)
                .without("CNI_CONTAINERID")
                .without("CNI_NETNS")
                .without("CNI_IFNAME")
                .config(&config)
                .run()
                .silent_success();
        };
        gc(plugin.config.clone());
        Snapshot::take().assert_unchanged_since(&both);
        gc(plugin.with(json!({ "cni.dev/valid-attachments": [
            { "containerID": one.id(), "ifname": "eth0" },
        ] })));
        let state = Snapshot::take();
        assert_eq!(state.lines("link veth").len(), 1, "{state:?}");
        assert_eq!(state.lines(other.id()).len(), 0, "{state:?}");
        assert!(one.run(|| Snapshot::take().lines("link eth0").len() == 1));
        gc(plugin.with(json!({ "cni.dev/valid-attachments": [] })));
        let state = Snapshot::take();
        assert_eq!(state.lines("link veth").len(), 0, "{state:?}");
        assert_eq!(state.lines(one.id()).len(), 0, "{state:?}");
    }
}

fn status_is_silent_when_an_add_could_work() {
    for plugin in plugins::all() {
        let pod = Pod::new("pod");
        let before = Snapshot::take();
        plugin.run("STATUS", &pod).run().silent_success();
        Snapshot::take().assert_unchanged_since(&before);
        assert_eq!(sysctl("net/ipv4/ip_forward").as_deref(), Some("0"));
    }
}
