//! A whole chain as libcni runs it: a process for each plugin, each with the result of the one before.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cni_testkit::{Invocation, Pod, Snapshot};
use serde_json::{Value, json};

use crate::contestants::{Contestant, Contestants};
use crate::measure::{Series, settle};

const AT_ONCE: usize = 30;
const PODS: usize = 60;
const ROUNDS: usize = 2;

/// The chain, for both contestants alike. What one of them has not is left out for both.
fn plugins(port: u16) -> Vec<Value> {
    vec![
        json!({
            "type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": "host-local", "ranges": [[{ "subnet": "10.80.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }],
                "dataDir": "/run/bench/chain",
            },
        }),
        json!({
            "type": "portmap", "snat": true,
            "runtimeConfig": {
                "portMappings": [{ "hostPort": port, "containerPort": 80, "protocol": "tcp" }],
            },
        }),
        json!({ "type": "firewall" }),
        json!({
            "type": "bandwidth",
            "ingressRate": 100_000_000, "ingressBurst": 1_000_000, "egressRate": 100_000_000, "egressBurst": 1_000_000,
        }),
    ]
}

/// The first port that is published.
const PORT: u16 = 20_000;

pub(crate) fn run(contestants: &Contestants, runs: usize) {
    let has = |one: &Contestant, plugin: &Value| {
        let name = plugin["type"].as_str().unwrap_or_default();
        one.directory.join(name).is_file()
    };
    let everybody_has = |plugin: &Value| contestants.all.iter().all(|one| has(one, plugin));
    let names: Vec<String> = plugins(PORT)
        .iter()
        .filter(|plugin| everybody_has(plugin))
        .filter_map(|plugin| plugin["type"].as_str().map(str::to_owned))
        .collect();
    println!("\n== A chain as a whole: {}", names.join(" + "));
    let lanes = contestants.all.iter().enumerate();
    let mut lanes: Vec<Lane<'_>> = lanes
        .map(|(number, who)| Lane::new(who, number, &names))
        .collect();
    for _ in 0..runs {
        lanes.iter_mut().for_each(Lane::round);
    }
    println!(
        "{:<16} {:>10} {:>10} {:>10} {:>10}",
        "one at a time", "ADD p50", "ADD p99", "DEL p50", "DEL p99"
    );
    for lane in &lanes {
        println!(
            "{:<16} {:>10.2} {:>10.2} {:>10.2} {:>10.2}",
            lane.who.name,
            lane.add.percentile(50),
            lane.add.percentile(99),
            lane.del.percentile(50),
            lane.del.percentile(99)
        );
    }
    if let [ours, reference] = lanes.as_slice() {
        println!(
            "ours / reference at p50: ADD {:.3}, DEL {:.3}",
            ours.add.percentile(50) / reference.add.percentile(50),
            ours.del.percentile(50) / reference.del.percentile(50)
        );
    }
    println!(
        "\n{:<16} {:>12} {:>12} {:>8} {:>11}",
        format!("{AT_ONCE} at once"),
        "ADD/s",
        "DEL/s",
        "errors",
        "left behind"
    );
    let rates: Vec<(f64, f64)> = lanes.iter().map(Lane::at_once).collect();
    if let [ours, reference] = rates.as_slice() {
        println!(
            "ours / reference: ADD {:.2}, DEL {:.2}",
            ours.0 / reference.0,
            ours.1 / reference.1
        );
    }
}

/// A contestant's node, a namespace of its own.
struct Lane<'a> {
    who: &'a Contestant,
    names: &'a [String],
    network: String,
    node: Pod,
    pod: Pod,
    add: Series,
    del: Series,
}

impl<'a> Lane<'a> {
    fn new(who: &'a Contestant, number: usize, names: &'a [String]) -> Self {
        let lane = Self {
            who,
            names,
            network: format!("chain{number}"),
            node: Pod::new("node"),
            pod: Pod::new("pod"),
            add: Series::default(),
            del: Series::default(),
        };
        // What all pods share is there.
        let warm = || {
            let result = lane.add_all(&lane.pod, PORT).expect("a first ADD");
            lane.del_all(&lane.pod, PORT, &result).expect("a first DEL");
        };
        lane.node.run(warm);
        lane
    }

    fn round(&mut self) {
        let start = || {
            settle();
            Instant::now()
        };
        let (add, del) = self.node.run(|| {
            let begin = start();
            let result = self.add_all(&self.pod, PORT);
            let add = begin.elapsed();
            let result = result.expect("every ADD succeeds");
            let begin = start();
            let outcome = self.del_all(&self.pod, PORT, &result);
            let del = begin.elapsed();
            outcome.expect("every DEL succeeds");
            (add, del)
        });
        self.add.wall.push(add);
        self.del.wall.push(del);
    }

    fn list(&self, port: u16) -> Vec<Value> {
        let mut all = plugins(port);
        all.retain(|plugin| {
            self.names
                .iter()
                .any(|name| plugin["type"] == name.as_str())
        });
        all
    }

    fn one(&self, plugin: &Value, verb: &str, pod: &Pod, result: &Value) -> Result<Value, String> {
        let mut config = plugin.clone();
        // The reference plugins of Debian 12 know no 1.1.0.
        config["cniVersion"] = "1.0.0".into();
        config["name"] = self.network.as_str().into();
        if !result.is_null() {
            config["prevResult"] = result.clone();
        }
        let name = plugin["type"].as_str().unwrap_or_default();
        let program = Path::new(&self.who.directory).join(name);
        let outcome = Invocation::attachment(program, verb, pod)
            .config(&config)
            .run();
        match outcome.is_success() {
            true => Ok(serde_json::from_slice(&outcome.output.stdout).unwrap_or(Value::Null)),
            false => Err(outcome.to_string()),
        }
    }

    fn add_all(&self, pod: &Pod, port: u16) -> Result<Value, String> {
        let mut result = Value::Null;
        for plugin in self.list(port) {
            result = self.one(&plugin, "ADD", pod, &result)?;
        }
        Ok(result)
    }

    fn del_all(&self, pod: &Pod, port: u16, result: &Value) -> Result<(), String> {
        for plugin in self.list(port).iter().rev() {
            self.one(plugin, "DEL", pod, result)?;
        }
        Ok(())
    }

    /// Chains a second, ADDs and DELs. Ours must neither fail nor leave anything.
    fn at_once(&self) -> (f64, f64) {
        let pods: Vec<(Pod, u16)> = (0..PODS)
            .map(|number| (Pod::new("p"), PORT + 1 + number as u16))
            .collect();
        let (mut adding, mut deleting) = (Duration::ZERO, Duration::ZERO);
        let mut errors = Vec::new();
        let state = || {
            // The bridge, which stays, loses its carrier a moment after its last port.
            Snapshot::of(&self.node)
                .without("/run/bench")
                .without("dst fe80::")
                .without("link bench0 ")
        };
        let before = state();
        for _ in 0..ROUNDS {
            let (wall, added) = self.all(&pods, |pod, port, _| self.add_all(pod, port));
            adding += wall;
            let results: Vec<Value> = added
                .into_iter()
                .map(|outcome| {
                    outcome.unwrap_or_else(|error| {
                        errors.push(error);
                        Value::Null
                    })
                })
                .collect();
            let (wall, deleted) = self.all(&pods, |pod, port, index| {
                let result = results.get(index).unwrap_or(&Value::Null);
                self.del_all(pod, port, result).map(|()| Value::Null)
            });
            deleting += wall;
            errors.extend(deleted.into_iter().filter_map(Result::err));
        }
        let changes = state().since(&before);
        let rate = |wall: Duration| (PODS * ROUNDS) as f64 / wall.as_secs_f64();
        println!(
            "{:<16} {:>12.1} {:>12.1} {:>8} {:>11}",
            self.who.name,
            rate(adding),
            rate(deleting),
            errors.len(),
            changes.lines().count()
        );
        if self.who.name == "ours" {
            assert!(errors.is_empty(), "{}", errors.join("\n"));
            assert!(changes.is_empty(), "left behind:\n{changes}");
        }
        (rate(adding), rate(deleting))
    }

    /// Runs something for all pods, so many at once: the whole time, and the outcomes in the pods' order.
    fn all(
        &self,
        pods: &[(Pod, u16)],
        run: impl Fn(&Pod, u16, usize) -> Result<Value, String> + Sync,
    ) -> (Duration, Vec<Result<Value, String>>) {
        settle();
        let next = AtomicUsize::new(0);
        let worker = || {
            self.node.run(|| {
                let mut outcomes = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((pod, port)) = pods.get(index) else {
                        return outcomes;
                    };
                    outcomes.push((index, run(pod, *port, index)));
                }
            })
        };
        let start = Instant::now();
        let mut outcomes: Vec<(usize, Result<Value, String>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined
                .flat_map(|outcomes| outcomes.expect("a worker's end"))
                .collect()
        });
        let wall = start.elapsed();
        outcomes.sort_by_key(|(index, _)| *index);
        (
            wall,
            outcomes.into_iter().map(|(_, outcome)| outcome).collect(),
        )
    }
}
