//! Thousands of nodes that follow one etcd: one real agent with its kernel, and as many watches as there are nodes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cni_testkit::Process;
use cni_testkit::cluster::{Cluster, Families, Layout, Node, Segment, await_condition};
use cni_testkit::etcd::{Etcd, PORT};
use node_agent::etcd::EtcdConfig;
use node_agent::etcd::api::encode;
use node_agent::etcd::client::Client;
use serde_json::{Value, json};

const NETWORK: &str = "/run/cni/net.d/10-net.conflist";
const CHANGES: usize = 50;
/// etcd takes 128 at most.
const OPERATIONS: usize = 120;

pub(crate) fn run(plugins: &Path) {
    println!(
        "{:>6} {:>10} {:>12} {:>11} {:>11} {:>13} {:>13} {:>12} {:>12}",
        "nodes",
        "start, s",
        "agent, MiB",
        "p50, ms",
        "max, ms",
        "to all, ms",
        "CPU/change",
        "etcd, MiB",
        "idle, %"
    );
    for nodes in [1000, 5000] {
        measure(plugins, nodes);
    }
    println!(
        "start: until an agent has all nodes in its kernel; p50, max: from a change's write to its end there; to all: until as many \
         watches as there are nodes have it; CPU/change: etcd's, ms, all of them served; idle: etcd's, of a processor, with all watches"
    );
}

fn measure(plugins: &Path, nodes: usize) {
    let cluster = Cluster::build(&Layout::new(1).pods(Families::V4).underlay(Families::V4));
    let host = cluster.stranger(Segment::A);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    fill(&etcd, nodes);
    let section = json!({
        "endpoints": [format!("http://{}:{PORT}", host.addresses[0])],
        "podNetworks": [{ "prefix": "10.64.0.0/10" }],
    });
    let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [{ "type": "vxlan", "cluster": { "etcd": section } }] });
    let node = cluster.node(0);
    node.write(NETWORK, &list.to_string());
    let begin = Instant::now();
    let mut command = Command::new(plugins.join("node-agent"));
    let agent = node.start(
        command
            .args(["--config", NETWORK, "--node", "n1"])
            .env_clear(),
    );
    await_condition("the agent has made all nodes", || routes(node) >= nodes);
    let start = begin.elapsed();
    let mut times = changes(&etcd, node);
    let memory = resident(agent.id());
    times.sort_unstable();
    let load = watched(&etcd, &host.pod, &section, nodes);
    println!(
        "{nodes:>6} {:>10.2} {memory:>12.1} {:>11.1} {:>11.1} {:>13.1} {:>13.1} {:>12.1} {:>12.2}",
        start.as_secs_f64(),
        milliseconds(times[times.len() / 2]),
        milliseconds(times[times.len() - 1]),
        milliseconds(load.to_all),
        load.cpu,
        etcd.id().map(resident).unwrap_or_default(),
        load.idle,
    );
    drop::<Process>(agent);
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The prefix and the address of a node that is nowhere; `turn` gives it another address.
fn place(number: usize, turn: usize) -> (String, String) {
    let prefix = format!("10.{}.{}.0/24", 64 + number / 256, number % 256);
    (
        prefix,
        format!("100.{}.{}.{}", 64 + turn, number / 256, number % 256),
    )
}

fn entry(number: usize, turn: usize) -> (String, String) {
    let (prefix, address) = place(number, turn);
    let name = format!("far-{number}");
    let entry = json!({ "name": name, "uid": name, "podPrefixes": [prefix], "addresses": [address], "mtu": 1500 });
    (format!("/cni/net/nodes/{name}"), entry.to_string())
}

fn fill(etcd: &Etcd<'_>, nodes: usize) {
    let mut puts: Vec<Value> = Vec::new();
    for number in 0..nodes {
        let (prefix, _) = place(number, 0);
        let name = format!("far-{number}");
        let claim = format!("/cni/net/claims/{}", prefix.replace('/', "-"));
        let owner = json!({ "uid": name, "name": name }).to_string();
        for (key, value) in [(claim, owner), entry(number, 0)] {
            puts.push(json!({ "request_put": { "key": encode(key), "value": encode(value) } }));
        }
    }
    for some in puts.chunks(OPERATIONS) {
        etcd.call("/v3/kv/txn", &json!({ "success": some }));
    }
}

fn routes(node: &Node) -> usize {
    let read = || fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    node.run(read)
        .lines()
        .filter(|line| line.contains("\tFFFFFF\t") || line.contains("00FFFFFF"))
        .count()
}

/// How long each of some changes takes from its write to the kernel.
fn changes(etcd: &Etcd<'_>, node: &Node) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..CHANGES {
        let (key, value) = entry(number, 1);
        let (_, address) = place(number, 1);
        let begin = Instant::now();
        etcd.put(&key, &value, 0);
        let (prefix, _) = place(number, 1);
        let shown =
            format!("ip route show {prefix}; ip nexthop show proto 167 | grep -F 'dst {address} '");
        while !node.try_sh(&shown).status.success() {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{address} does not come"
            );
        }
        times.push(begin.elapsed());
    }
    times
}

struct Load {
    to_all: Duration,
    /// Milliseconds of a processor for each change.
    cpu: f64,
    /// Percent of a processor.
    idle: f64,
}

/// As many watches as there are nodes, and changes that all of them get.
fn watched(etcd: &Etcd<'_>, pod: &cni_testkit::Pod, section: &Value, nodes: usize) -> Load {
    let config = EtcdConfig::parse(&section.to_string(), "net").expect("a configuration");
    let (ready, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stop = Arc::new(AtomicUsize::new(0));
    let revision = etcd.put("/cni/net/mark", "", 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            pod.run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.expect("a runtime").block_on(watches(
                    &config,
                    nodes,
                    revision,
                    [&ready, &told, &stop],
                ));
            });
        });
        let wait = |what: &str, count: &AtomicUsize, wanted: usize| {
            await_condition(what, || count.load(Ordering::Relaxed) >= wanted);
        };
        wait("all watches have begun", &ready, nodes);
        let id = etcd.id().expect("etcd lives");
        let (quiet, before) = (Instant::now(), cpu(id));
        thread::sleep(Duration::from_secs(5));
        let idle = (cpu(id) - before) / quiet.elapsed().as_secs_f64() * 100.0;
        let (before, mut slowest) = (cpu(id), Vec::new());
        for turn in 0..10 {
            let (key, value) = entry(turn, 2);
            let begin = Instant::now();
            etcd.put(&key, &value, 0);
            wait("all watches have it", &told, nodes * (turn + 1));
            slowest.push(begin.elapsed());
        }
        slowest.sort_unstable();
        let used = (cpu(id) - before) * 1e3 / 10.0;
        stop.store(1, Ordering::Relaxed);
        Load {
            to_all: slowest[slowest.len() / 2],
            cpu: used,
            idle,
        }
    })
}

async fn watches(
    config: &EtcdConfig,
    nodes: usize,
    revision: i64,
    [ready, told, stop]: [&Arc<AtomicUsize>; 3],
) {
    let mut tasks = Vec::new();
    for _ in 0..nodes {
        let (config, ready, told) = (config.clone(), Arc::clone(ready), Arc::clone(told));
        tasks.push(tokio::spawn(async move {
            let mut client = Client::new(config.access.clone());
            let mut watch = loop {
                if let Ok(watch) = client.watch("/cni/net/", revision + 1).await {
                    break watch;
                }
            };
            while let Ok(answer) = watch.next().await {
                match answer.created {
                    true => ready.fetch_add(1, Ordering::Relaxed),
                    false => told.fetch_add(answer.events.len(), Ordering::Relaxed),
                };
            }
        }));
        // A listener's queue is not endless.
        tokio::task::yield_now().await;
    }
    while stop.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for task in tasks {
        task.abort();
    }
}

/// Resident memory, MiB.
fn resident(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: f64 = line
        .and_then(|line| line.trim().split(' ').next()?.parse().ok())
        .unwrap_or_default();
    kilobytes / 1024.0
}

/// Processor time so far, seconds: fields 14 and 15 of `proc_pid_stat(5)`, in hundredths.
fn cpu(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let fields = after.split(' ').skip(11).take(2);
    fields
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}
