//! Agents that start, stop and die: nobody notices, and what is left is right in the end.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use cni_testkit::cluster::{Attached, Layout, Matrix, Node, Stream, await_condition};
use cni_testkit::{Process, Test, tests};
use serde_json::{Value, json};

use crate::agent::{said, task};
use crate::agent_heal::{comes_back_to, settled, state};
use crate::world::{
    CLUSTER, Classic, Flow, HostGw, Net, Over, PROTOCOL, await_ready, metric, page,
};

pub(crate) const TESTS: &[Test] = &tests![
    a_warm_restart_writes_nothing_and_loses_no_packet::<Flow>,
    a_warm_restart_writes_nothing_and_loses_no_packet::<Classic>,
    a_warm_restart_writes_nothing_and_loses_no_packet::<HostGw>,
    an_agent_killed_anywhere_leaves_what_the_next_one_completes::<Flow>,
    an_agent_killed_anywhere_leaves_what_the_next_one_completes::<Classic>,
    an_agent_killed_anywhere_leaves_what_the_next_one_completes::<HostGw>,
    a_device_that_was_created_and_no_more_is_completed::<Flow>,
    a_device_that_was_created_and_no_more_is_completed::<Classic>,
    peers_that_left_meanwhile_go_when_the_file_can_be_read::<Flow>,
    peers_that_left_meanwhile_go_when_the_file_can_be_read::<Classic>,
    peers_that_left_meanwhile_go_when_the_file_can_be_read::<HostGw>,
    a_file_that_breaks_or_goes_takes_nothing_along::<Flow>,
    a_file_that_breaks_or_goes_takes_nothing_along::<HostGw>,
    a_node_that_is_taken_out_of_the_file_keeps_its_ways::<Flow>,
    cleanup_removes_what_is_ours_and_nothing_else::<Flow>,
    cleanup_removes_what_is_ours_and_nothing_else::<Classic>,
    cleanup_removes_what_is_ours_and_nothing_else::<HostGw>,
    there_is_one_agent_at_a_time::<Flow>,
];

fn with_pods<P: Over>() -> (Net, Vec<Process>, Vec<Attached>) {
    let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
    let agents = net.start_agents(&[0, 1, 2]);
    let nodes = net.cluster.nodes().iter();
    let pods: Vec<Attached> = nodes.map(|node| node.attach(&net.chain)).collect();
    Matrix::of(&pods).assert_all(12);
    (net, agents, pods)
}

/// What the kernel tells of changes, other than of neighbours that traffic makes.
struct Monitors(Vec<Process>);

impl Monitors {
    fn start(node: &Node) -> Self {
        let mut monitors = Vec::new();
        for command in [
            "exec ip monitor link address route nexthop rule",
            "exec bridge monitor fdb",
            "exec nft monitor",
        ] {
            monitors.push(node.start(Command::new("/bin/sh").args(["-c", command])));
        }
        let all = Self(monitors);
        // They have begun when they tell of a change: one of each kind.
        await_condition("the monitors have begun", || {
            node.sh(
                "ip route add blackhole 203.0.113.200 table 99; ip route del blackhole 203.0.113.200 table 99
                 nft add table inet probe; nft delete table inet probe
                 bridge fdb add 02:00:00:00:00:99 dev cni0 self; bridge fdb del 02:00:00:00:00:99 dev cni0 self",
            );
            all.0.iter().all(|monitor| !monitor.log().is_empty())
        });
        all
    }

    /// What they have told beside the probes.
    fn told(&self) -> Vec<String> {
        let lines = |monitor: &Process| {
            let log = monitor.log();
            log.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let probe = |line: &String| {
            [
                "203.0.113.200",
                "probe",
                "02:00:00:00:00:99",
                "# new generation",
            ]
            .iter()
            .any(|word| line.contains(word))
        };
        let learnt = |line: &String| line.contains("dev veth") || line.contains("master cni0");
        let all = self.0.iter().flat_map(lines);
        all.filter(|line| !probe(line) && !learnt(line)).collect()
    }
}

fn a_warm_restart_writes_nothing_and_loses_no_packet<P: Over>() {
    let (net, mut agents, pods) = with_pods::<P>();
    let node = net.cluster.node(0);
    let before = settled(node);
    let monitors = Monitors::start(node);
    let targets = pods[1].addresses.iter();
    let streams: Vec<Stream> = targets
        .map(|target| Stream::start(&pods[0].pod, *target, Duration::from_millis(5)))
        .collect();
    for number in 0..12 {
        let agent = agents.remove(0);
        match number % 2 == 0 {
            true => agent.kill(),
            false => {
                let status = agent.stop().expect("an end");
                assert!(status.success(), "{status}");
            }
        }
        let agent = net.start_agent(node);
        await_ready(node, &agent);
        await_condition("everything has been compared", || {
            metric(node, "cni_agent_full_passes_total") > 0.0
        });
        assert_eq!(changes(node), 0.0);
        agents.insert(0, agent);
    }
    for stream in streams {
        stream.await_sent(21);
        let tally = stream.finish();
        assert!(tally.sent > 20 && tally.lost == 0, "{tally:?}");
    }
    comes_back_to(node, &before);
    let told = monitors.told();
    assert!(told.is_empty(), "{told:#?}");
    // They would have told: of the repair of a next hop, of a route, and of an element.
    agents[0].freeze(true);
    node.flush_routes(PROTOCOL);
    node.sh("ip nexthop flush proto 167; nft flush ruleset");
    agents[0].freeze(false);
    for word in ["Deleted id", "unreachable 10.244.1.0/24", "create element"] {
        await_condition(word, || {
            monitors.told().iter().any(|line| line.contains(word))
        });
    }
}

/// How many changes an agent has made.
fn changes(node: &Node) -> f64 {
    let page = page(node, "/metrics").expect("metrics");
    let counts = page
        .lines()
        .filter(|line| line.starts_with("cni_agent_changes_total{"));
    counts
        .filter_map(|line| line.split(' ').nth(1)?.parse::<f64>().ok())
        .sum()
}

/// The cluster's nodes and so many that are nowhere.
pub(crate) fn crowded(net: &Net, more: usize) -> Value {
    let mut file = net.cluster.describe(0..net.cluster.nodes().len());
    let nodes = file["nodes"].as_array_mut().expect("nodes");
    for number in 0..more {
        let (high, low) = (number / 250, number % 250 + 1);
        nodes.push(json!({
            "name": format!("far{number}"),
            "podPrefixes": [format!("10.{}.{low}.0/24", 100 + high), format!("fd00:100:{number:x}::/64")],
            "addresses": [format!("192.0.2.{}", 10 + number % 200), format!("2001:db8:a::{:x}", 0x1000 + number)],
        }));
        if number >= 200 {
            // The segment has no more IPv4 addresses.
            let last = nodes.last_mut().expect("the node");
            last["addresses"] = json!([
                format!("198.51.{}.{low}", 101 + high),
                format!("2001:db8:a::{:x}", 0x1000 + number)
            ]);
        }
    }
    file
}

fn an_agent_killed_anywhere_leaves_what_the_next_one_completes<P: Over>() {
    let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    node.write(CLUSTER, &crowded(&net, 200).to_string());
    let empty = settled(node);
    let begin = Instant::now();
    let agent = net.start_agent(node);
    await_ready(node, &agent);
    let whole = begin.elapsed();
    let complete = settled(node);
    let routes = node.run(routes_of_the_main_table);
    agent.kill();
    let mut seen = BTreeSet::new();
    let all = complete.since(&empty).lines().count();
    let is_partly = |missing: &&usize| (1..all / 2 + 1).contains(*missing);
    // More than these where a machine is so busy that it was at work in none of them.
    let tries = 20;
    for number in 0..10 * tries {
        if number >= tries && seen.iter().filter(is_partly).count() > 1 {
            break;
        }
        let number = number % tries;
        said(&task(&net, 0, &["--cleanup"]));
        let agent = net.start_agent(node);
        // By time, which ends anywhere, and by the routes that are there, which is in the middle of it.
        match number % 2 {
            0 => std::thread::sleep(whole * number / tries),
            _ => await_routes(node, routes * number as usize / tries as usize),
        }
        agent.kill();
        let left = state(node);
        seen.insert(complete.since(&left).lines().count());
        let agent = net.start_agent(node);
        await_ready(node, &agent);
        comes_back_to(node, &complete);
        agent.kill();
    }
    println!("{whole:?}; lines missing when it was killed: {seen:?}");
    assert!(
        seen.iter().filter(is_partly).count() > 1,
        "it was killed while it was at work: {seen:?} of {all}"
    );
}

/// IPv4 routes, without a dump over netlink: quick enough to see them come.
fn routes_of_the_main_table() -> usize {
    let table = fs::read_to_string("/proc/thread-self/net/route").expect("routes");
    table.lines().count()
}

fn await_routes(node: &Node, count: usize) {
    node.run(|| {
        let end = Instant::now() + Duration::from_secs(20);
        while routes_of_the_main_table() < count && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(50));
        }
    });
}

fn a_device_that_was_created_and_no_more_is_completed<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let plan = said(&task(&net, 0, &["--dry-run"]));
    let create = plan.lines().find(|line| line.starts_with("ip link add"));
    let create = create.expect("the device is made");
    said(&task(&net, 0, &["--once"]));
    let complete = settled(node);
    said(&task(&net, 0, &["--cleanup"]));
    node.sh(create);
    said(&task(&net, 0, &["--once"]));
    comes_back_to(node, &complete);
}

fn peers_that_left_meanwhile_go_when_the_file_can_be_read<P: Over>() {
    let (net, mut agents, pods) = with_pods::<P>();
    let node = net.cluster.node(0);
    let before = settled(node);
    agents.remove(0).kill();
    node.write(CLUSTER, "{ \"nodes\": [ { \"name\": \"n1\", } ] }");
    let agent = net.start_agent(node);
    await_condition("the agent has looked at the file", || {
        page(node, "/readyz").is_some_and(|page| page.contains("line 1, column 28"))
    });
    let text = page(node, "/readyz").expect("a page");
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    comes_back_to(node, &before);
    Matrix::of(&pods).assert_all(12);
    let file = net.cluster.describe([0, 1]);
    node.write(CLUSTER, &file.to_string());
    await_ready(node, &agent);
    let left = settled(node);
    for trace in ["10.244.3.0", "fd00:244:3::", "c0000203"] {
        let lines = left.lines(trace);
        assert!(lines.is_empty(), "{lines:?}");
    }
    Matrix::of(&pods[..2]).assert_all(4);
    // Nothing but a fresh start's state is left.
    drop(agent);
    said(&task(&net, 0, &["--cleanup"]));
    said(&task(&net, 0, &["--once"]));
    comes_back_to(node, &left);
}

fn a_file_that_breaks_or_goes_takes_nothing_along<P: Over>() {
    let (net, _agents, pods) = with_pods::<P>();
    let node = net.cluster.node(0);
    let before = settled(node);
    let good = net.cluster.describe([0, 1, 2]).to_string();
    let twice = good.replace("10.244.3.0/24", "10.244.2.0/24");
    let in_place = |text: &str| node.sh(&format!("printf %s '{text}' > {CLUSTER}"));
    in_place("{ \"nodes\": [ nothing ] }");
    let says = |word: &str| {
        await_condition(word, || {
            page(node, "/readyz")
                .is_some_and(|page| page.starts_with("HTTP/1.1 200") && page.contains(word))
        });
    };
    says("line 1, column 14");
    assert_eq!(metric(node, "cni_agent_source_rejected"), 1.0);
    node.write(CLUSTER, &twice);
    says("10.244.2.0/24");
    node.sh(&format!("rm {CLUSTER}"));
    says("the source is away");
    assert_eq!(metric(node, "cni_agent_source_connected"), 0.0);
    // What is known is repaired meanwhile.
    node.sh("ip nexthop flush proto 167");
    await_condition("what was flushed is there again", || {
        state(node).since(&before).is_empty()
    });
    Matrix::of(&pods).assert_all(12);
    node.write(CLUSTER, &good);
    await_condition("nothing is amiss", || {
        page(node, "/readyz").is_some_and(|page| page.ends_with("\r\n\r\nready\n"))
    });
    comes_back_to(node, &before);
}

fn a_node_that_is_taken_out_of_the_file_keeps_its_ways<P: Over>() {
    let (net, _agents, pods) = with_pods::<P>();
    let node = net.cluster.node(0);
    let before = settled(node);
    node.write(CLUSTER, &net.cluster.describe([1, 2]).to_string());
    await_condition("the agent misses its node", || {
        page(node, "/readyz").is_some_and(|page| {
            page.starts_with("HTTP/1.1 503") && page.contains("not among the nodes")
        })
    });
    comes_back_to(node, &before);
    Matrix::of(&pods).assert_all(12);
    let outcome = net.call(node, "STATUS").failure();
    assert!(outcome.msg.contains("not among the nodes"), "{outcome:?}");
}

/// What an operator and other programs have beside ours.
const FOREIGN: &str = "
    ip route add 10.250.0.0/16 via 192.0.2.254 proto static
    ip route add 10.251.0.0/16 via 192.0.2.254 proto 168
    ip -6 route add fd00:250::/32 via 2001:db8:a::fe
    ip rule add priority 31001 from 10.250.0.0/16 lookup 166
    ip route add blackhole default table 166
    ip nexthop add id 77 via 192.0.2.254 dev eth0 proto 168
    ip link add stray type vxlan id 4711 dstport 4711 local 192.0.2.1 nolearning
    ip link set stray up
    ip address add 10.252.0.1/24 dev stray
    bridge fdb append 02:00:00:00:00:07 dev stray dst 192.0.2.7
    ip neigh add 10.252.0.7 lladdr 02:00:00:00:00:07 dev stray nud permanent
    nft add table inet cni_fabric_aaaaaaaa
    nft add chain inet cni_fabric_aaaaaaaa forward '{ type filter hook forward priority 0; }'
    nft add rule inet cni_fabric_aaaaaaaa forward ip saddr 10.250.0.0/16 accept
    nft add table ip nat";

fn cleanup_removes_what_is_ours_and_nothing_else<P: Over>() {
    let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    node.sh(FOREIGN);
    let before = settled(node);
    let agent = net.start_agent(node);
    await_ready(node, &agent);
    assert_ne!(settled(node), before);
    let while_one_runs = task(&net, 0, &["--cleanup"]);
    assert!(!while_one_runs.status.success());
    let words = String::from_utf8_lossy(&while_one_runs.stderr).into_owned();
    assert!(words.contains("another agent runs"), "{words}");
    agent.stop().expect("an end");
    let text = said(&task(&net, 0, &["--cleanup"]));
    assert!(text.contains("route"), "{text}");
    comes_back_to(node, &before);
    assert_eq!(node.read("/run/cni-fabric/167/state.json"), None);
    assert_eq!(said(&task(&net, 0, &["--cleanup"])), "nothing to do\n");
}

fn there_is_one_agent_at_a_time<P: Over>() {
    let net = Net::build(&Layout::new(1), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let agent = net.start_agent(node);
    await_ready(node, &agent);
    let mut second = net.start_agent(node);
    let status = second.wait(Duration::from_secs(20)).expect("an end");
    assert!(!status.success());
    assert!(
        second.log().contains("route protocol 167"),
        "{}",
        second.log()
    );
    drop(agent);
    let third = net.start_agent(node);
    await_ready(node, &third);
}
