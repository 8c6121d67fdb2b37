//! What an agent tells: over HTTP, to the service manager, to plugins; what it is told by signals; and what it uses.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use cni_testkit::cluster::{Forged, Layout, Node, Segment, await_condition};
use cni_testkit::{Process, Test, tests, workspace_plugin};
use serde_json::{Value, json};

use crate::agent::{said, task};
use crate::agent_heal::{comes_back_to, settled};
use crate::agent_restart::crowded;
use crate::world::{
    CLUSTER, Classic, DEVICE, Flow, HostGw, NETWORK, Net, Over, await_ready, metric, page,
};

pub(crate) const TESTS: &[Test] = &tests![
    pages_tell_how_the_agent_is::<Flow>,
    pages_tell_how_the_agent_is::<HostGw>,
    who_holds_the_nodes_lock_keeps_the_agent_from_nothing_else,
    systemd_is_told_when_the_node_is_connected_and_that_the_agent_lives,
    an_idle_agent_uses_no_processor_time::<Flow>,
    an_idle_agent_uses_no_processor_time::<HostGw>,
    a_hangup_has_the_configuration_read_again::<Flow>,
    a_hangup_has_the_configuration_read_again::<Classic>,
    plugins_of_ours_and_flannels_are_told,
    what_the_filter_drops_is_counted_over_repairs::<Flow>,
    what_the_filter_drops_is_counted_over_repairs::<Classic>,
    ten_thousand_peers_take_little_memory::<Flow>,
    ten_thousand_peers_take_little_memory::<Classic>,
    ten_thousand_peers_take_little_memory::<HostGw>,
];

fn body(page: &str) -> &str {
    page.split_once("\r\n\r\n").expect("a head").1
}

fn pages_tell_how_the_agent_is<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    node.sh(&format!("rm {CLUSTER}"));
    let agent = net.start_agent(node);
    await_condition("the agent has looked for the file", || {
        page(node, "/readyz").is_some_and(|page| page.contains("No such file"))
    });
    let get = |path: &str| page(node, path).expect("a page");
    assert!(get("/readyz").starts_with("HTTP/1.1 503 "));
    assert!(
        get("/healthz").starts_with("HTTP/1.1 200 "),
        "{}",
        get("/healthz")
    );
    assert_eq!(metric(node, "cni_agent_ready"), 0.0);
    assert_eq!(metric(node, "cni_agent_in_sync"), 0.0);
    net.tell(&net.cluster.describe([0, 1]));
    await_ready(node, &agent);
    assert_eq!(body(&get("/readyz")), "ready\n");
    let metrics = get("/metrics");
    assert!(
        metrics.contains("\r\nContent-Type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    for (name, value) in [
        ("ready", 1.0),
        ("in_sync", 1.0),
        ("source_connected", 1.0),
        ("peers", 1.0),
        ("peers_unreachable", 0.0),
        ("conflicts", 0.0),
        ("write_errors_total", 0.0),
        ("drift_found_total", 0.0),
    ] {
        assert_eq!(
            metric(node, &format!("cni_agent_{name}")),
            value,
            "{name}\n{metrics}"
        );
    }
    assert!(
        metrics.contains("cni_agent_changes_total{kind=\"route\"}"),
        "{metrics}"
    );
    assert!(get("/").starts_with("HTTP/1.1 404 "));
    // Nobody else's business: the pages are on the loopback interface alone.
    let open = node.sh("cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 0A '");
    assert_eq!(open.trim(), "1");
    assert!(node.sh("cat /proc/net/tcp").contains("0100007F:2501"));
    // A peer comes: seen within an event's time.
    net.tell(&crowded(&net, 1));
    await_condition("the peer is there", || {
        metric(node, "cni_agent_peers") == 2.0
    });
    await_condition("its event has been timed", || {
        metric(node, "cni_agent_event_to_kernel_seconds_count") >= 1.0
    });
}

fn who_holds_the_nodes_lock_keeps_the_agent_from_nothing_else() {
    let net = Net::build(&Layout::new(2), Flow::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let netns = node.run(|| File::open("/proc/thread-self/ns/net").expect("a namespace"));
    netns.lock_shared().expect("nobody holds it");
    // A waiting process shows it by a lock on the file's first byte.
    let sign = format!(":{} 0 0", netns.metadata().expect("a file").ino());
    let shows = |line: &str| line.contains("OFDLCK") && line.ends_with(&sign);
    let waits = || fs::read_to_string("/proc/locks").is_ok_and(|all| all.lines().any(shows));
    let agent = net.start_agent(node);
    await_condition("the agent has a device to make", waits);
    let health = page(node, "/healthz").expect("a page");
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    assert!(waits(), "{}", agent.log());
    let end = agent.stop().expect("an end");
    assert!(end.success() && !waits(), "{end}");
    netns.unlock().expect("it is held");
    await_ready(node, &net.start_agent(node));
}

fn systemd_is_told_when_the_node_is_connected_and_that_the_agent_lives() {
    let net = Net::build(&Layout::new(2), Flow::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let manager = node.run(|| UnixDatagram::bind("/run/notify").expect("a socket"));
    let limit = Some(Duration::from_secs(20));
    manager.set_read_timeout(limit).expect("a timeout");
    let heard = |wanted: &str| {
        let mut all = Vec::new();
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < end, "{wanted}: {all:?}");
            let mut buffer = [0; 1024];
            let length = manager
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{wanted}: {error}: {all:?}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.starts_with(wanted) {
                return all;
            }
            all.push(text);
        }
    };
    node.sh(&format!("rm {CLUSTER}"));
    let mut command = Command::new(workspace_plugin("node-agent"));
    command.args(["--config", NETWORK]).env_clear();
    command.env("NOTIFY_SOCKET", "/run/notify");
    // The queue of a socket holds some ten of them: a busy machine has to have taken READY before these fill it.
    command.env("WATCHDOG_USEC", "4000000");
    let agent = node.start(&mut command);
    let mut before = heard("STATUS=not connected, 0 of 0 peers reachable; the source has not told");
    before.extend(heard("WATCHDOG=1"));
    assert!(
        !before.iter().any(|text| text.contains("READY")),
        "{before:?}"
    );
    net.tell(&net.cluster.describe([0, 1]));
    heard("READY=1");
    heard("STATUS=connected, 1 of 1 peers reachable");
    for _ in 0..2 {
        heard("WATCHDOG=1");
    }
    agent.stop().expect("an end");
    heard("STOPPING=1");
}

/// Processor time, in ticks, of all threads of a process.
fn ticks(process: &Process) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("a process");
    let rest = stat.rsplit(')').next().expect("fields");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// How often a process gave up the processor by itself, or was made to: it has not run while this stays the same.
fn switches(process: &Process) -> Vec<String> {
    let mut all = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).expect("threads");
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).expect("a thread");
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        all.extend(lines.map(|line| format!("{:?} {line}", task.file_name())));
    }
    all.sort();
    all
}

fn an_idle_agent_uses_no_processor_time<P: Over>() {
    let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let agent = net.start_agent(node);
    await_ready(node, &agent);
    // The connection for the page ends, and the log says what it has left out.
    std::thread::sleep(Duration::from_millis(1500));
    // The kernel may have an event of its own in one of them: a neighbour of the uplink that has not been heard of for a while.
    let mut windows = Vec::new();
    let quiet = (0..20).any(|_| {
        let before = (ticks(&agent), switches(&agent));
        std::thread::sleep(Duration::from_secs(3));
        let after = (ticks(&agent), switches(&agent));
        let quiet = before == after;
        windows.push((before, after));
        quiet
    });
    assert!(quiet, "{windows:#?}");
}

fn configure(node: &Node, plugin: &Value, name: &str) {
    let list = json!({ "cniVersion": "1.1.0", "name": name, "plugins": [plugin] });
    node.write(NETWORK, &list.to_string());
}

fn a_hangup_has_the_configuration_read_again<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let agent = net.start_agent(node);
    await_ready(node, &agent);
    let first = settled(node);
    let hang_up = |plugin: &Value, name: &str| {
        configure(node, plugin, name);
        node.sh(&format!("kill -HUP {}", agent.id()));
    };
    for (keys, word) in [
        (json!({ "mtu": 1300 }), "mtu 1300"),
        (
            json!({ "vni": 7, "device": DEVICE, "port": 4789 }),
            "dstport 4789",
        ),
        (json!({ "device": "tunnel" }), "tunnel:"),
        (json!({}), "vxlan.1:"),
    ] {
        hang_up(&P::PATH.plugin(&keys), "net");
        await_condition(word, || {
            node.sh("ip -d link show type vxlan").contains(word)
        });
        await_ready(node, &agent);
    }
    comes_back_to(node, &first);
    for (plugin, name, word) in [
        (P::PATH.plugin(&json!({ "vni": "x" })), "net", "`vni`"),
        (
            P::PATH.plugin(&json!({ "routeProtocol": 168 })),
            "net",
            "--cleanup",
        ),
        (P::PATH.plugin(&json!({})), "other", "--cleanup"),
        (json!({ "type": "bridge" }), "net", "vxlan or host-gw"),
    ] {
        let before = agent.log().lines().count();
        hang_up(&plugin, name);
        await_condition(word, || {
            let log = agent.log();
            let mut new = log.lines().skip(before);
            new.any(|line| line.contains("stays as it was") && line.contains(word))
        });
    }
    comes_back_to(node, &first);
}

fn plugins_of_ours_and_flannels_are_told() {
    let net = Net::build(&Layout::new(2), Flow::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let mut file = net.cluster.describe([0, 1]);
    file["clusterPrefixes"] = json!(["10.244.0.0/16", "fd00:244::/32"]);
    net.tell(&file);
    let mut command = Command::new(workspace_plugin("node-agent"));
    command.args([
        "--config",
        NETWORK,
        "--subnet-env",
        "/run/flannel/subnet.env",
    ]);
    let agent = node.start(command.env_clear());
    await_ready(node, &agent);
    let told = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00:244::/32\n\
                FLANNEL_IPV6_SUBNET=fd00:244:1::1/64\nFLANNEL_MTU=1464\nFLANNEL_IPMASQ=true\n";
    assert_eq!(node.read("/run/flannel/subnet.env").as_deref(), Some(told));
    let text = node
        .read("/run/cni-fabric/167/state.json")
        .expect("a state");
    let state: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(state["ready"], true);
    assert_eq!(state["mtu"], 1464);
    assert_eq!(state["node"], "n1");
    agent.stop().expect("an end");
    let flannel = ["--cleanup", "--subnet-env", "/run/flannel/subnet.env"];
    said(&task(&net, 0, &flannel));
    assert_eq!(node.read("/run/flannel/subnet.env"), None);
}

fn what_the_filter_drops_is_counted_over_repairs<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let agents = net.start_agents(&[0, 1]);
    let node = net.cluster.node(0);
    let stranger = net.cluster.stranger(Segment::A);
    let port = P::PATH.port();
    let drops = |reason: &str| {
        let page = page(node, "/metrics").expect("metrics");
        let name = format!("cni_agent_filter_drops_total{{reason=\"{reason}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse::<u64>().expect("a number"))
    };
    let target = node.address_like("192.0.2.1".parse().expect("an address"));
    let send = |vni: u32, from: &cni_testkit::Pod, source: &str| {
        let inner = (source.parse().unwrap(), "10.244.1.9".parse().unwrap());
        Forged::flow(vni, inner.0, inner.1).send(from, None, (target, port).into());
    };
    let peer = net.cluster.node(1).network();
    // A busy machine may lose a packet on its way to the node.
    let arrive = |reason: &str, vni: u32, from: &cni_testkit::Pod, source: &str| {
        let before = drops(reason);
        let (start, mut sent) = (Instant::now(), 0);
        await_condition(reason, || {
            if start.elapsed() >= Duration::from_secs(1) * sent {
                send(vni, from, source);
                sent += 1;
            }
            (before + 1..=before + u64::from(sent)).contains(&drops(reason))
        });
    };
    for _ in 0..3 {
        let counted = || ["stranger", "vni", "source"].map(drops);
        arrive("stranger", 1, &stranger.pod, "10.244.2.9");
        arrive("vni", 2, peer, "10.244.2.9");
        arrive("source", 1, peer, "10.244.77.9");
        let before = counted();
        // A repair begins the counters anew.
        let repaired = metric(node, "cni_agent_drift_repaired_total");
        node.sh("nft flush chain inet $(nft list tables | grep -o 'cni_fabric_.*') input");
        await_condition("the chain is filled again", || {
            metric(node, "cni_agent_drift_repaired_total") > repaired
        });
        let after = counted();
        let kept = before.iter().zip(&after);
        assert!(
            kept.clone().all(|(before, after)| after >= before),
            "{kept:?}"
        );
    }
    drop(agents);
}

fn ten_thousand_peers_take_little_memory<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    node.write(CLUSTER, &crowded(&net, 10_000).to_string());
    let used = |agent: &Process| {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        };
        // A build for debugging has many times the code, whose pages are the file's.
        let resident = if cfg!(debug_assertions) {
            "RssAnon:"
        } else {
            "VmRSS:"
        };
        (field(resident).unwrap(), field("VmHWM:").unwrap())
    };
    let passes = || metric(node, "cni_agent_full_passes_total");
    let await_passes = |agent: &Process, more_than: f64| {
        let end = Instant::now() + Duration::from_secs(240);
        while passes() <= more_than {
            assert!(Instant::now() < end, "{}", agent.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for start in ["cold", "warm"] {
        let agent = net.start_agent(node);
        await_passes(&agent, 0.0);
        await_condition("all peers", || metric(node, "cni_agent_peers") == 10_001.0);
        let (after, most) = used(&agent);
        let took = metric(node, "cni_agent_last_full_pass_seconds");
        println!("{start}: {took:.3} s; {after} KiB resident, {most} KiB at most");
        let before = passes();
        node.sh("ip route add 10.244.200.0/24 dev eth0 proto 167");
        await_passes(&agent, before);
        let (after, most) = used(&agent);
        let took = metric(node, "cni_agent_last_full_pass_seconds");
        println!("{start}, compared again: {took:.3} s; {after} KiB resident, {most} KiB at most");
        let limit = if cfg!(debug_assertions) { 10 } else { 15 };
        assert!(after < limit * 1024, "{after} KiB");
    }
}
