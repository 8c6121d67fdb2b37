//! Limits, measured with real flows, and what is left of them.

pub(crate) mod life;

use cni_testkit::{Flow, Pod, Snapshot, Test, reference_plugin, require, tests};
use serde_json::{Value, json};

use crate::net::{GATEWAY, Net, bridge, command, host_end, ip, tc, with};

pub(crate) const TESTS: &[Test] = &tests![
    a_flow_gets_its_limit_both_ways_and_a_neighbour_more,
    the_capability_limits_in_any_case_and_the_configuration_wins,
    two_interfaces_of_a_container_on_one_network_have_limits_each,
    the_kernel_has_what_the_reference_gives_it,
    limits_follow_every_plugin_that_makes_a_veth,
    what_is_no_veth_is_refused,
    without_limits_the_result_is_passed_on_and_nothing_is_made,
    wrong_input_is_one_clear_error_and_changes_nothing,
    a_burst_below_a_packet_lets_packets_through,
    somebody_elses_discipline_is_left_alone,
];

/// 40 Mbit a second both ways, 50 ms of it at once.
const RATE: u64 = 40_000_000;
const BURST: u64 = 2_000_000;

fn limits() -> Value {
    json!({ "ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST })
}

fn bandwidth(limits: Value) -> Value {
    with(json!({ "type": "bandwidth" }), limits)
}

fn net(limits: Value) -> Net {
    Net::of(&[bridge(), bandwidth(limits)])
}

/// The kernel's state. The bridge's link-local address gets its routes some time after the bridge was made.
fn state() -> Snapshot {
    Snapshot::take()
        .without("/var/lib/cni")
        .without("dst fe80::")
}

/// The device through which goes what the container sends.
fn ifb(result: &Value) -> String {
    let name = host_end(result);
    name.replacen("veth", "ifb", 1)
}

/// How often a flow is measured that should be quicker: the machine may be busy elsewhere.
const TRIES: usize = 20;

/// Between nine tenths and all of the limit, of payload, in one of some tries, and clearly more in none: where the receiver stood
/// still, what was under way in the bucket and behind a lost segment counts as come at once.
#[track_caller]
fn assert_limited(what: &str, flow: impl Fn() -> Flow) {
    let limit = RATE as f64;
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        // The first megabyte empties the bucket and fills the queues.
        let rate = flow().rate(1_000_000, 8_000_000);
        assert!(rate <= limit * 1.1, "{what}: {rate} of {limit}");
        if (limit * 0.9..=limit).contains(&rate) {
            return;
        }
        seen.push(rate);
    }
    panic!("{what}: {seen:?} of {limit}");
}

/// Clearly more than the limit, in one of some tries.
#[track_caller]
fn assert_unlimited(what: &str, flow: impl Fn() -> Flow) {
    let least = 1.5 * RATE as f64;
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let rate = flow().rate(1_000_000, 20_000_000);
        if rate > least {
            return;
        }
        seen.push(rate);
    }
    panic!("{what}: {seen:?}, more than {least} expected");
}

fn a_flow_gets_its_limit_both_ways_and_a_neighbour_more() {
    let (net, free) = (net(limits()), Net::of(&[bridge()]));
    let (pod, neighbour) = (Pod::new("pod"), Pod::new("neighbour"));
    let (limited, unlimited) = (ip(&net.add(&pod)), ip(&free.add(&neighbour)));
    assert_limited("into the pod", || Flow::into(&pod, &limited));
    assert_limited("out of the pod", || Flow::out_of(&pod, GATEWAY));
    assert_unlimited("into the neighbour", || Flow::into(&neighbour, &unlimited));
    assert_unlimited("out of the neighbour", || Flow::out_of(&neighbour, GATEWAY));
}

fn shown(link: &str) -> String {
    let text = tc(&format!("qdisc show dev {link}"));
    let line = text.lines().find(|line| line.contains("qdisc tbf"));
    line.unwrap_or_default().to_owned()
}

#[track_caller]
fn assert_shown(link: &str, words: &[&str]) {
    let text = shown(link);
    for word in words {
        assert!(text.contains(word), "{link}, {word}: {text}");
    }
}

fn the_capability_limits_in_any_case_and_the_configuration_wins() {
    let pod = Pod::new("pod");
    let asked = json!({
        "IngressRate": 16_000_000, "ingressburst": 800_000, "egressRate": 8_000_000, "EgressBurst": 400_000,
    });
    let by_capability = net(json!({})).capabilities(json!({ "bandWidth": asked }));
    let result = by_capability.add(&pod);
    assert_shown(
        &host_end(&result),
        &["rate 16Mbit", "burst 100000b", "lat 25ms"],
    );
    assert_shown(&ifb(&result), &["rate 8Mbit", "burst 50000b", "lat 25ms"]);
    by_capability.check(&pod, &result);
    by_capability.del(&pod);

    let own = json!({ "ingressRate": 1_000_000, "ingressBurst": 160_000 });
    let both = net(own).capabilities(json!({ "bandwidth": limits() }));
    let result = both.add(&pod);
    assert_shown(&host_end(&result), &["rate 1Mbit", "burst 20000b"]);
    assert_eq!(Snapshot::take().lines("link ifb"), Vec::<&str>::new());
    both.check(&pod, &result);
}

fn two_interfaces_of_a_container_on_one_network_have_limits_each() {
    let (net, pod) = (net(limits()), Pod::new("pod"));
    // The bridge keeps its carrier.
    let kept = Pod::new("kept");
    net.add(&kept);
    let before = state();
    let second = net.clone().env("CNI_IFNAME", "net1");
    let results = [net.add(&pod), second.add(&pod)];
    assert_ne!(ifb(&results[0]), ifb(&results[1]));
    for result in &results {
        for link in [host_end(result), ifb(result)] {
            assert_shown(&link, &["rate 40Mbit", "burst 250000b"]);
        }
    }
    net.check(&pod, &results[0]);
    second.check(&pod, &results[1]);
    net.del(&pod);
    second.check(&pod, &results[1]);
    second.del(&pod);
    state().assert_unchanged_since(&before);
}

/// What `tc` tells of the two limits and of the filter, without what is ours to choose: names, handles, the order.
fn told(result: &Value, ifb: &str) -> String {
    let port = host_end(result);
    let limits = [&port, ifb].map(|link| {
        let text = shown(link);
        let at = text.find("rate").expect("a limit");
        text[at..].trim().to_owned()
    });
    let filter = tc(&format!("filter show dev {port} parent ffff:"));
    let leads = filter.contains(&format!("Egress Redirect to device {ifb}"));
    assert!(leads, "{filter}");
    format!("{limits:?}")
}

fn the_kernel_has_what_the_reference_gives_it() {
    let reference = require(
        reference_plugin("bandwidth"),
        "the reference bandwidth plugin",
    );
    let directory = reference.parent().expect("a directory");
    for limits in [
        limits(),
        json!({
            "ingressRate": 100_000_000, "ingressBurst": 1_000_000, "egressRate": 1_000_000, "egressBurst": 120_000,
        }),
        json!({
            "ingressRate": 50_000_000, "ingressBurst": 5_000_000, "egressRate": 8_000_000_000_u64, "egressBurst": 80_000_000,
        }),
    ] {
        // Debian's knows no 1.1.0.
        let ours = net(limits.clone()).version("1.0.0");
        let pod = Pod::new("pod");
        let result = ours.add(&pod);
        let made = told(&result, &ifb(&result));
        ours.del(&pod);
        let theirs = ours.clone().by(directory);
        let other = Pod::new("pod");
        let result = theirs.add(&other);
        let ifb = result["interfaces"][3]["name"].as_str().expect("an ifb");
        assert_eq!(made, told(&result, ifb), "{limits}");
        // A node that has changed over while the pod ran.
        ours.del_with(&other, &Value::Null);
        let left = Snapshot::take();
        assert_eq!(left.lines("link bwp"), Vec::<&str>::new());
    }
}

fn limits_follow_every_plugin_that_makes_a_veth() {
    let ptp = json!({
        "type": "ptp", "ipMasq": true,
        "ipam": { "type": "host-local", "subnet": "10.9.1.0/24" },
    });
    let reference = require(reference_plugin("bridge"), "the reference bridge plugin");
    let directory = reference.parent().expect("a directory");
    for (main, directory) in [
        (bridge(), None),
        (ptp.clone(), None),
        (bridge(), Some(directory)),
        (ptp, Some(directory)),
    ] {
        let pod = Pod::new("pod");
        let mut main = Net::of(&[main]).version("1.0.0");
        if let Some(directory) = directory {
            main = main.by(directory);
        }
        let previous = main.add(&pod);
        let limits = net(limits()).version("1.0.0");
        let plugin = limits.plugin("bandwidth");
        let result = limits.run(plugin, "ADD", &pod, &previous).run().result();
        let port = host_end(&result);
        let added = result["interfaces"].as_array().expect("interfaces").last();
        let ifb = added.expect("an ifb")["name"].as_str().expect("a name");
        for link in [port.as_str(), ifb] {
            assert_shown(link, &["rate 40Mbit", "burst 250000b", "lat 25ms"]);
        }
        limits
            .run(plugin, "CHECK", &pod, &result)
            .run()
            .silent_success();
        // Whatever it is called: by way of the container.
        limits
            .run(plugin, "DEL", &pod, &Value::Null)
            .run()
            .silent_success();
        let left = Snapshot::take();
        assert_eq!(left.lines("qdisc "), Vec::<&str>::new(), "{port}");
        assert_eq!(left.lines("link ifb"), Vec::<&str>::new(), "{port}");
        main.del_with(&pod, &previous);
    }
}

fn what_is_no_veth_is_refused() {
    let pod = Pod::new("pod");
    pod.run(|| command("ip", "link add eth0 type ifb"));
    let previous = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "eth0", "sandbox": pod.path() }],
        "ips": [{ "address": "10.9.0.7/24", "interface": 0 }],
    });
    let net = net(limits());
    let before = state();
    let run = net.run(net.plugin("bandwidth"), "ADD", &pod, &previous);
    let failure = run.run().failure();
    assert_eq!(failure.code, 7, "{failure:?}");
    assert!(
        failure.msg.contains("eth0 is no veth, but: ifb"),
        "{failure:?}"
    );
    let failure = run.env("CNI_IFNAME", "net1").run().failure();
    assert_eq!(failure.code, 7, "{failure:?}");
    assert!(failure.msg.contains("no interface net1"), "{failure:?}");
    state().assert_unchanged_since(&before);
}

fn without_limits_the_result_is_passed_on_and_nothing_is_made() {
    let net = net(json!({ "ingressRate": 0, "ingressBurst": 0 }));
    let pod = Pod::new("pod");
    let (previous, outcome) = net.add_last(&pod);
    assert_eq!(outcome.result(), previous);
    net.check(&pod, &previous);
    let left = Snapshot::take();
    assert_eq!(left.lines("qdisc "), Vec::<&str>::new());
    net.del(&pod);
}

fn wrong_input_is_one_clear_error_and_changes_nothing() {
    let pod = Pod::new("pod");
    let previous = Net::of(&[bridge()]).add(&pod);
    let before = state();
    for (limits, code, words) in [
        (
            json!({ "ingressRate": 1000 }),
            7,
            "`ingressRate` is 1000, and needs ingressBurst",
        ),
        (
            json!({ "egressBurst": 1000 }),
            7,
            "`egressBurst` is 1000, and needs egressRate",
        ),
        (
            json!({ "ingressRate": 7, "ingressBurst": 8 }),
            7,
            "`ingressRate` is 7, and must be 0 or at least 8",
        ),
        (
            json!({ "egressRate": 8, "egressBurst": 7 }),
            7,
            "`egressBurst` is 7, and must be 0 or at least 8",
        ),
        (
            json!({ "egressRate": 8, "egressBurst": 34_359_738_360_u64 }),
            7,
            "`egressBurst` is 34359738360, and must be at most 34359738359",
        ),
        (
            json!({ "ingressRate": -1, "ingressBurst": 8 }),
            7,
            "`ingressRate`",
        ),
        (
            json!({ "ingressRate": "1M", "ingressBurst": 8 }),
            6,
            "`ingressRate` must be an integer",
        ),
    ] {
        let net = net(limits.clone());
        let failure = net
            .run(net.plugin("bandwidth"), "ADD", &pod, &previous)
            .run()
            .failure();
        assert_eq!(failure.code, code, "{limits}: {failure:?}");
        assert!(failure.msg.contains(words), "{limits}: {failure:?}");
        let capability =
            Net::of(&[bandwidth(json!({}))]).capabilities(json!({ "bandwidth": limits }));
        let run = capability.run(capability.plugin("bandwidth"), "ADD", &pod, &previous);
        let failure = run.run().failure();
        assert!(
            failure.msg.contains("`runtimeConfig.bandwidth."),
            "{failure:?}"
        );
        state().assert_unchanged_since(&before);
    }
    let net = net(limits());
    let failure = net
        .run(net.plugin("bandwidth"), "ADD", &pod, &Value::Null)
        .run()
        .failure();
    assert_eq!(failure.code, 7, "{failure:?}");
    assert!(failure.msg.contains("prevResult"), "{failure:?}");
    state().assert_unchanged_since(&before);
}

/// The reference's own example has such bursts, and there lets nothing through.
fn a_burst_below_a_packet_lets_packets_through() {
    let net = net(json!({ "egressRate": 8_000_000, "egressBurst": 456 }));
    let pod = Pod::new("pod");
    let result = net.add(&pod);
    assert_shown(&ifb(&result), &["rate 8Mbit", "burst 151"]);
    net.check(&pod, &result);
    // So much that what waits in the queue, and may come behind the moment from which it is counted, is less than the headers.
    let rate = Flow::out_of(&pod, GATEWAY).rate(10_000, 2_000_000);
    assert!(rate <= 8_000_000.0, "{rate}");
}

fn somebody_elses_discipline_is_left_alone() {
    let (net, pod) = (net(limits()), Pod::new("pod"));
    let previous = Net::of(&[bridge()]).add(&pod);
    let port = host_end(&previous);
    let plugin = net.plugin("bandwidth");
    tc(&format!(
        "qdisc add dev {port} root handle 1: tbf rate 1mbit burst 15000b latency 25ms"
    ));
    let before = state();
    let failure = net.run(plugin, "ADD", &pod, &previous).run().failure();
    assert_eq!(failure.code, 7, "{failure:?}");
    assert!(
        failure.msg.contains("tbf qdisc that somebody else has set"),
        "{failure:?}"
    );
    state().assert_unchanged_since(&before);
    net.run(plugin, "DEL", &pod, &previous)
        .run()
        .silent_success();
    state().assert_unchanged_since(&before);
    tc(&format!("qdisc delete dev {port} root"));

    // A place for filters with one of somebody else's: ours comes beside it, and goes alone.
    tc(&format!("qdisc add dev {port} ingress"));
    tc(&format!(
        "filter add dev {port} ingress pref 9999 protocol ip u32 match ip dst 192.0.2.9 flowid 1:7"
    ));
    let before = state();
    let result = net.run(plugin, "ADD", &pod, &previous).run().result();
    assert_limited("out of the pod", || Flow::out_of(&pod, GATEWAY));
    net.run(plugin, "CHECK", &pod, &result)
        .run()
        .silent_success();
    net.run(plugin, "DEL", &pod, &previous)
        .run()
        .silent_success();
    state().assert_unchanged_since(&before);
}
