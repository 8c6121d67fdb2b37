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

use crate::follow::{CHANGES, NETWORK, changes, milliseconds, place, resident, routes, wire};

/// etcd takes 128 at most.
const OPERATIONS: usize = 120;
/// For thousands of watches on a machine that does all of it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Signs of life, to see what one costs.
const LIVES: u32 = 2000;

/// What one number of nodes came to.
struct Found {
    nodes: usize,
    start: Duration,
    memory: f64,
    /// Sorted.
    times: Vec<Duration>,
    at_start: Spent,
    /// For all changes.
    at_changes: Spent,
    load: Load,
    server: f64,
}

/// What a node has taken from the server.
struct Spent {
    bytes: u64,
    requests: f64,
}

pub(crate) fn run(plugins: &Path) {
    let all: Vec<Found> = [500, 1000, 5000]
        .map(|nodes| measure(plugins, nodes))
        .into();
    println!("\nOne node among so many, a real agent with its kernel:");
    println!(
        "{:>6} {:>9} {:>11} {:>8} {:>8} {:>8} {:>12} {:>15} {:>13}",
        "nodes",
        "start, s",
        "agent, MiB",
        "p50, ms",
        "p99, ms",
        "max, ms",
        "start, KiB",
        "start, requests",
        "change, bytes"
    );
    for found in &all {
        let at = |share: f64| {
            let last = found.times.len() - 1;
            milliseconds(found.times[(last as f64 * share).round() as usize])
        };
        println!(
            "{:>6} {:>9.2} {:>11.1} {:>8.1} {:>8.1} {:>8.1} {:>12.1} {:>15} {:>13.0}",
            found.nodes,
            found.start.as_secs_f64(),
            found.memory,
            at(0.5),
            at(0.99),
            at(1.0),
            found.at_start.bytes as f64 / 1024.0,
            found.at_start.requests,
            found.at_changes.bytes as f64 / CHANGES as f64,
        );
    }
    println!("The server, with as many watches as there are nodes:");
    println!(
        "{:>6} {:>14} {:>11} {:>14} {:>14} {:>16} {:>8} {:>10}",
        "nodes",
        "change: all, ms",
        "CPU, ms",
        "MiB to all",
        "life: CPU, us",
        "all lives: /s, %",
        "idle, %",
        "etcd, MiB"
    );
    for found in &all {
        // Two leases, every 30 seconds.
        let lives = found.nodes as f64 * 2.0 / 30.0;
        let change = found.at_changes.bytes as f64 / CHANGES as f64;
        println!(
            "{:>6} {:>14.1} {:>11.1} {:>14.2} {:>14.0} {:>10.0} {:>5.1} {:>8.2} {:>10.1}",
            found.nodes,
            milliseconds(found.load.to_all),
            found.load.cpu,
            change * found.nodes as f64 / f64::from(1 << 20),
            found.load.life * 1e6,
            lives,
            lives * found.load.life * 100.0,
            found.load.idle,
            found.server,
        );
    }
    println!(
        "start: until the agent has all nodes in its kernel, and what it has sent and received on the wire for it; p50, p99, max: from a \
         change's write to its event in the node's kernel ({CHANGES} changes, one after the other); change, bytes: on the node's wire for \
         each. change, all: until all watches have it; CPU: etcd's, for all of them; MiB to all: the node's bytes times the nodes; life: \
         etcd's CPU for one sign of life ({LIVES} in a row); all lives: how many in a second, and what of a processor that is; idle: \
         etcd's, of a processor, while nothing changes and nobody gives a sign of life"
    );
}

fn measure(plugins: &Path, nodes: usize) -> Found {
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
    let before = spent(&etcd, node);
    let begin = Instant::now();
    let mut command = Command::new(plugins.join("node-agent"));
    let agent = node.start(
        command
            .args(["--config", NETWORK, "--node", "n1"])
            .env_clear(),
    );
    await_condition("the agent has made all nodes", || routes(node) >= nodes);
    let start = begin.elapsed();
    let started = spent(&etcd, node);
    let mut times = changes(node, |number| {
        let (key, value) = entry(number, 1);
        etcd.put(&key, &value, 0);
    });
    let changed = spent(&etcd, node);
    times.sort_unstable();
    let memory = resident(agent.id());
    drop::<Process>(agent);
    let load = watched(&etcd, &host.pod, &section, nodes);
    Found {
        nodes,
        start,
        memory,
        times,
        at_start: since(&started, &before),
        at_changes: since(&changed, &started),
        load,
        server: etcd.id().map(resident).unwrap_or_default(),
    }
}

/// What has gone over the node's wire so far, and how many requests the server has had; those of this benchmark itself go another way, or
/// are writes.
fn spent(etcd: &Etcd<'_>, node: &Node) -> Spent {
    Spent {
        bytes: wire(node),
        requests: etcd.metric("grpc_server_started_total"),
    }
}

fn since(now: &Spent, before: &Spent) -> Spent {
    Spent {
        bytes: now.bytes - before.bytes,
        requests: now.requests - before.requests,
    }
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

struct Load {
    to_all: Duration,
    /// Milliseconds of a processor for each change.
    cpu: f64,
    /// Percent of a processor.
    idle: f64,
    /// Seconds of a processor for a sign of life.
    life: f64,
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
            let begin = Instant::now();
            while count.load(Ordering::Relaxed) < wanted {
                assert!(
                    begin.elapsed() < PATIENCE,
                    "{what}: not within {PATIENCE:?}"
                );
                thread::sleep(Duration::from_micros(200));
            }
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
        let granted = etcd.call("/v3/lease/grant", &json!({ "TTL": "300" }));
        let before = cpu(id);
        for _ in 0..LIVES {
            etcd.call("/v3/lease/keepalive", &json!({ "ID": granted["ID"] }));
        }
        let life = (cpu(id) - before) / f64::from(LIVES);
        stop.store(1, Ordering::Relaxed);
        Load {
            life,
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
