//! How soon an agent has mended what others do to its node.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cni_testkit::cluster::{Attached, Cluster, Damage, Layout, Node, await_condition};
use cni_testkit::{Chain, Process, Snapshot};
use serde_json::{Value, json};

use crate::contestants::Contestants;

const FILE: &str = "/run/cni/cluster.json";
const NETWORK: &str = "/run/cni/net.d/10-net.conflist";
/// Beyond this it is the sweep's doing.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(contestants: &Contestants, runs: usize) {
    let Some(ours) = contestants.all.first() else {
        return;
    };
    let runs = runs.min(10);
    println!(
        "\n== From damage to repair by the agent, nodes of a cluster of three, ms: {runs} times each damage"
    );
    println!(
        "{:<10} {:>8} {:>8} {:>8} {:>8} {:>12}  the slowest",
        "", "damages", "p50", "p99", "max", "over 250 ms"
    );
    for data_path in ["flow", "classic", "host-gw"] {
        let mut site = Site::new(data_path, &ours.directory);
        let damages = Damage::all(data_path);
        let mut times = Vec::new();
        for _ in 0..runs {
            for damage in &damages {
                times.push((site.heals(damage), damage));
            }
        }
        times.sort_by_key(|(time, _)| *time);
        let at = |percent: usize| {
            let place = (times.len() * percent / 100).min(times.len() - 1);
            times[place].0.as_secs_f64() * 1e3
        };
        let late = times
            .iter()
            .filter(|(time, _)| *time > Duration::from_millis(250));
        println!(
            "{data_path:<10} {:>8} {:>8.1} {:>8.1} {:>8.1} {:>5} of {:>4}  {}",
            damages.len(),
            at(50),
            at(99),
            at(100),
            late.count(),
            times.len(),
            times
                .last()
                .map_or(String::new(), |(_, damage)| damage.to_string())
        );
    }
}

/// A cluster with agents, and pods.
struct Site {
    cluster: Cluster,
    agents: Vec<Process>,
    _pods: Vec<Attached>,
    healthy: Snapshot,
}

impl Site {
    fn new(data_path: &str, plugins: &Path) -> Self {
        let mut plugin = json!({ "cluster": { "file": FILE }, "ipam": { "type": "host-local" } });
        plugin["type"] = if data_path == "host-gw" {
            "host-gw"
        } else {
            "vxlan"
        }
        .into();
        if data_path != "host-gw" {
            plugin["dataPath"] = data_path.into();
        }
        let list: Value = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [plugin] });
        let chain = Chain::new(list.clone(), &[plugins]);
        let cluster = Cluster::build(&Layout::new(3));
        let (mut agents, mut pods) = (Vec::new(), Vec::new());
        for node in cluster.nodes() {
            node.write(NETWORK, &list.to_string());
            node.write(FILE, &cluster.describe(0..3).to_string());
            let mut command = Command::new(plugins.join("node-agent"));
            agents.push(node.start(command.args(["--config", NETWORK]).env_clear()));
            await_condition("the agent has made the node", || {
                node.try_sh("ip route show proto 167 | grep -q 10.244")
                    .status
                    .success()
            });
            pods.push(node.attach(&chain));
        }
        let healthy = settled(cluster.node(0));
        Self {
            cluster,
            agents,
            _pods: pods,
            healthy,
        }
    }

    /// Does it, and waits for the state to be as before. The agent does not mend between one command and the next.
    fn heals(&mut self, damage: &Damage) -> Duration {
        let node = self.cluster.node(0);
        self.agents[0].freeze(true);
        damage.inflict(node);
        self.agents[0].freeze(false);
        let start = Instant::now();
        let took = loop {
            let took = start.elapsed();
            let wrong = state(node).since(&self.healthy);
            if wrong.is_empty() {
                break took;
            }
            assert!(took < PATIENCE, "{damage}: after {took:?}\n{wrong}");
        };
        assert!(settled(node).since(&self.healthy).is_empty(), "{damage}");
        took
    }
}

fn state(node: &Node) -> Snapshot {
    node.snapshot().without("/run/").without("/var/lib/")
}

/// The state once the kernel has done what it does a moment later by itself.
fn settled(node: &Node) -> Snapshot {
    let mut last = state(node);
    await_condition("the node's state stays as it is", || {
        std::thread::sleep(Duration::from_millis(50));
        let before = std::mem::replace(&mut last, state(node));
        last.since(&before).is_empty()
    });
    last
}
