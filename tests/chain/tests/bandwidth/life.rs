//! What becomes of limits: compared, removed, repeated, collected, killed.

use std::process::Command;

use cni_testkit::{Flow, Pod, Snapshot, Test, at_every_moment, tests};
use serde_json::{Value, json};

use super::{assert_limited, assert_shown, assert_unlimited, bandwidth, ifb, limits, net, state};
use crate::net::{GATEWAY, Net, bridge, command, host_end, interface, ip, tc};

pub(crate) const TESTS: &[Test] = &tests![
    check_names_every_drift_and_changes_nothing,
    del_alone_removes_the_limits_and_leaves_the_pair,
    del_needs_nothing_but_the_names,
    an_add_can_be_repeated,
    gc_removes_what_is_not_valid,
    status_tells_whether_the_kernel_can,
    a_dry_run_prints_the_commands,
    a_verb_killed_anywhere_leaves_nothing_after_one_del,
];

fn check_names_every_drift_and_changes_nothing() {
    let (net, pod) = (net(limits()), Pod::new("pod"));
    let plugin = net.plugin("bandwidth");
    let other_rate = "tbf rate 50mbit burst 250000b limit 375000b";
    let other_burst = "tbf rate 40mbit burst 200000b limit 375000b";
    let other_limit = "tbf rate 40mbit burst 250000b limit 400000b";
    for (drift, words) in [
        (
            format!("tc qdisc replace dev PORT root handle c41: {other_rate}"),
            "limit of PORT is rate 50000000bit",
        ),
        (
            format!("tc qdisc replace dev PORT root handle c41: {other_burst}"),
            "burst 200000b",
        ),
        (
            format!("tc qdisc replace dev IFB root handle c41: {other_limit}"),
            "limit of IFB is rate 40000000bit",
        ),
        (
            "tc qdisc delete dev PORT root".to_owned(),
            "limit of PORT, rate 40000000bit burst 250000b limit 375000b, is missing",
        ),
        (
            "tc qdisc delete dev IFB root".to_owned(),
            "limit of IFB, rate 40000000bit",
        ),
        (
            "tc qdisc delete dev PORT ingress".to_owned(),
            "what comes in by PORT should be led to IFB",
        ),
        (
            "tc filter delete dev PORT ingress".to_owned(),
            "what comes in by PORT should be led to IFB",
        ),
        ("ip link delete dev IFB".to_owned(), "link IFB is missing"),
        ("ip link set dev IFB down".to_owned(), "link IFB: is down"),
        (
            "ip link set dev IFB mtu 1400".to_owned(),
            "link IFB: mtu is 1400, should be 1500",
        ),
        (
            "ip link set dev IFB alias mine".to_owned(),
            "alias is \"mine\"",
        ),
    ] {
        let result = net.add(&pod);
        let (port, ifb) = (host_end(&result), ifb(&result));
        let placed = |text: &str| text.replace("PORT", &port).replace("IFB", &ifb);
        net.check(&pod, &result);
        let text = placed(&drift);
        let (program, arguments) = text.split_once(' ').expect("a command");
        command(program, arguments);
        let before = state();
        let failure = net.run(plugin, "CHECK", &pod, &result).run().failure();
        let words = placed(words);
        assert!(
            failure.msg.contains(&words),
            "{drift}, {words}: {failure:?}"
        );
        assert!(failure.msg.contains("is not as ADD made it"), "{failure:?}");
        state().assert_unchanged_since(&before);
        net.del(&pod);
    }
}

fn del_alone_removes_the_limits_and_leaves_the_pair() {
    let (net, pod) = (net(limits()), Pod::new("pod"));
    let plugin = net.plugin("bandwidth");
    let previous = Net::of(&[bridge()]).add(&pod);
    let before = state();
    let result = net.run(plugin, "ADD", &pod, &previous).run().result();
    let device = interface(&result, &ifb(&result));
    assert_eq!(device["mtu"], 1500, "{device}");
    let shown = command("ip", &format!("-d link show dev {}", ifb(&result)));
    assert!(
        shown.contains(device["mac"].as_str().expect("an address")),
        "{shown}"
    );
    assert!(shown.contains("alias cni:net/"), "{shown}");
    net.run(plugin, "DEL", &pod, &result).run().silent_success();
    state().assert_unchanged_since(&before);
    // The pod is on the network, without a limit.
    assert_unlimited("out of the pod", || Flow::out_of(&pod, GATEWAY));
}

fn del_needs_nothing_but_the_names() {
    let (net, pod) = (net(limits()), Pod::new("pod"));
    let plugin = net.plugin("bandwidth");
    let previous = Net::of(&[bridge()]).add(&pod);
    let before = state();
    let broken = bandwidth(json!({ "ingressRate": "many", "runtimeConfig": 7, "prevResult": 8 }));
    for config in [plugin, &bandwidth(json!({})), &broken] {
        net.run(plugin, "ADD", &pod, &previous).run().result();
        for _ in 0..2 {
            let run = net.run(config, "DEL", &pod, &Value::Null);
            run.without("CNI_NETNS").run().silent_success();
            state().assert_unchanged_since(&before);
        }
    }
    // A pod that is gone takes its pair with it, but not what was made for it on the host.
    net.run(plugin, "ADD", &pod, &previous).run().result();
    assert_eq!(Snapshot::take().lines("link ifb").len(), 1);
    let run = net.run(plugin, "DEL", &pod, &Value::Null);
    drop(pod);
    run.run().silent_success();
    assert_eq!(Snapshot::take().lines("link ifb").len(), 0);
}

/// By a runtime that does not know how far the first one came.
fn an_add_can_be_repeated() {
    let (net, pod) = (net(limits()), Pod::new("pod"));
    let plugin = net.plugin("bandwidth");
    let previous = Net::of(&[bridge()]).add(&pod);
    let before = state();
    let first = net.run(plugin, "ADD", &pod, &previous).run().result();
    let (port, ifb) = (host_end(&first), ifb(&first));
    let made = state();
    for undone in [
        None,
        Some(format!("qdisc delete dev {port} root")),
        Some(format!("qdisc delete dev {port} ingress")),
        Some(format!("filter delete dev {port} ingress")),
        Some(format!("qdisc delete dev {ifb} root")),
    ] {
        if let Some(arguments) = &undone {
            tc(arguments);
        }
        let again = net.run(plugin, "ADD", &pod, &previous).run().result();
        assert_eq!(again, first, "{undone:?}");
        state().assert_unchanged_since(&made);
    }
    // With another configuration it is that one that holds.
    let other = bandwidth(json!({ "ingressRate": 8_000_000, "ingressBurst": 800_000 }));
    net.run(&other, "ADD", &pod, &previous).run().result();
    assert_shown(&port, &["rate 8Mbit", "burst 100000b"]);
    net.run(plugin, "DEL", &pod, &Value::Null)
        .run()
        .silent_success();
    state().assert_unchanged_since(&before);
}

fn gc_removes_what_is_not_valid() {
    let net = net(limits());
    let (kept, lost, gone) = (Pod::new("kept"), Pod::new("lost"), Pod::new("gone"));
    let result = net.add(&kept);
    let before = state();
    net.add(&lost);
    net.add(&gone);
    // What was never finished has no alias.
    let lost_ifb = Snapshot::take();
    let line = lost_ifb.lines(&format!("cni:net/{}/eth0", lost.id()));
    let name = line
        .iter()
        .find_map(|line| line.strip_prefix("link ifb"))
        .expect("an ifb");
    let name = format!("ifb{}", name.split(' ').next().unwrap_or_default());
    let no_alias = ["link", "set", "dev", &name, "alias", ""];
    let status = Command::new("ip").args(no_alias).status();
    assert!(status.expect("ip runs").success(), "{name}");
    // Somebody else's.
    command("ip", "link add ifb7 type ifb");
    net.gc(&json!([{ "containerID": kept.id(), "ifname": "eth0" }]));
    command("ip", "link delete ifb7");
    state().assert_unchanged_since(&before);
    net.check(&kept, &result);
    assert_limited("into the pod", || Flow::into(&kept, &ip(&result)));
}

fn status_tells_whether_the_kernel_can() {
    let net = net(limits());
    let before = state();
    net.status(net.plugin("bandwidth")).silent_success();
    state().assert_unchanged_since(&before);
    let failure = net
        .status(&bandwidth(json!({ "ingressRate": 1000 })))
        .failure();
    assert_eq!(failure.code, 7, "{failure:?}");
}

fn a_dry_run_prints_the_commands() {
    let (net, pod) = (net(limits()), Pod::new("pod"));
    let plugin = net.plugin("bandwidth");
    let previous = Net::of(&[bridge()]).add(&pod);
    let (port, before) = (host_end(&previous), state());
    let ifb = ifb(&previous);
    let dry = |verb| {
        net.run(plugin, verb, &pod, &previous)
            .env("CNI_DRY_RUN", "1")
            .run()
    };
    let text = |outcome: cni_testkit::Outcome| {
        assert!(outcome.is_success(), "{outcome}");
        String::from_utf8(outcome.output.stderr).expect("text")
    };
    let printed = text(dry("ADD"));
    for line in [
        format!(
            "tc qdisc add dev {port} root handle c41: tbf rate 40000000bit burst 250000b limit 375000b"
        ),
        format!(
            "tc qdisc add dev {ifb} root handle c41: tbf rate 40000000bit burst 250000b limit 375000b"
        ),
        format!("tc qdisc add dev {port} ingress"),
        format!(
            "tc filter add dev {port} ingress pref 3137 protocol all u32 match u32 0 0 action mirred egress redirect dev {ifb}"
        ),
    ] {
        assert!(printed.contains(&line), "{line}: {printed}");
    }
    state().assert_unchanged_since(&before);

    // What it prints, done by hand, is what CHECK wants.
    let output = Command::new("sh")
        .args(["-ec", &printed])
        .output()
        .expect("sh runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    command(
        "ip",
        &format!("link set dev {ifb} alias cni:net/{}/eth0", pod.id()),
    );
    net.run(plugin, "CHECK", &pod, &previous)
        .run()
        .silent_success();

    let made = state();
    let printed = text(dry("DEL"));
    for line in [
        format!("tc qdisc delete dev {port} ingress"),
        format!("tc qdisc delete dev {port} root"),
        format!("ip link delete dev {ifb}"),
    ] {
        assert!(printed.contains(&line), "{line}: {printed}");
    }
    state().assert_unchanged_since(&made);
}

fn a_verb_killed_anywhere_leaves_nothing_after_one_del() {
    let (net, pod) = (net(limits()), Pod::new("pod"));
    let plugin = net.plugin("bandwidth");
    let previous = Net::of(&[bridge()]).add(&pod);
    let before = state();
    let run = |verb| net.run(plugin, verb, &pod, &previous);
    for verb in ["ADD", "DEL"] {
        let died = at_every_moment(|number| {
            if verb == "DEL" {
                run("ADD").run().result();
            }
            let fate = run(verb).killed_at(number);
            let del = net.run(plugin, "DEL", &pod, &Value::Null);
            del.without("CNI_NETNS").run().silent_success();
            let changes = state().since(&before);
            assert!(changes.is_empty(), "{verb} {fate}: {changes}");
            fate
        });
        assert!(died > 3, "{died} moments");
    }
}
