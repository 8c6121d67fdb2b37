//! 32 at once, as when a node's pods all start.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cni_testkit::{Invocation, Pod};
use serde_json::Value;

use crate::contestants::{Contestant, Contestants};
use crate::measure::Series;
use crate::verbs::bridge_config;

const AT_ONCE: usize = 32;
const PODS: usize = 64;
const ROUNDS: usize = 2;

pub(crate) fn run(contestants: &Contestants) {
    for masquerade in [false, true] {
        println!(
            "\n== {AT_ONCE} at once, bridge + host-local{}",
            if masquerade { ", ipMasq" } else { "" }
        );
        println!(
            "{:<16} {:>10} {:>12} {:>12}",
            "", "per second", "p50 ms", "p99 ms"
        );
        let mut rates = Vec::new();
        for (number, who) in contestants.all.iter().enumerate() {
            let config = bridge_config(who.name, 10 + number, masquerade, "parallel");
            rates.push(one(who, &config));
        }
        if let [ours, reference] = rates.as_slice() {
            println!(
                "ADD: ours / reference = {:.2}   DEL: {:.2}",
                ours.0 / reference.0,
                ours.1 / reference.1
            );
        }
    }
}

/// ADDs and DELs per second.
fn one(who: &Contestant, config: &Value) -> (f64, f64) {
    let pods: Vec<Pod> = (0..PODS)
        .map(|number| Pod::new(&format!("p{number}")))
        .collect();
    let (mut add, mut del) = (Series::default(), Series::default());
    let (mut add_wall, mut del_wall) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        let (wall, addresses) = all(who, config, &pods, "ADD", &mut add);
        add_wall += wall;
        let mut distinct = addresses.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(
            distinct.len(),
            PODS,
            "{}: an address was given twice",
            who.name
        );
        del_wall += all(who, config, &pods, "DEL", &mut del).0;
    }
    let rate = |wall: Duration| (PODS * ROUNDS) as f64 / wall.as_secs_f64();
    for (verb, series, wall) in [("ADD", &add, add_wall), ("DEL", &del, del_wall)] {
        println!(
            "{:<16} {:>10.0} {:>12.1} {:>12.1}",
            format!("{verb} {}", who.name),
            rate(wall),
            series.percentile(50),
            series.percentile(99)
        );
    }
    (rate(add_wall), rate(del_wall))
}

/// Runs a verb for all pods, so many at once; the whole time, and the addresses of the results.
fn all(
    who: &Contestant,
    config: &Value,
    pods: &[Pod],
    verb: &str,
    series: &mut Series,
) -> (Duration, Vec<String>) {
    let next = AtomicUsize::new(0);
    let worker = || {
        let (mut times, mut addresses) = (Vec::new(), Vec::new());
        while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
            let program = who.directory.join("bridge");
            let invocation = Invocation::attachment(program, verb, pod).config(config);
            let start = Instant::now();
            let outcome = invocation.run();
            times.push(start.elapsed());
            assert!(outcome.is_success(), "{}: {outcome}", who.name);
            if verb == "ADD" {
                addresses.push(outcome.result()["ips"][0]["address"].to_string());
            }
        }
        (times, addresses)
    };
    let start = Instant::now();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("every run succeeds"))
            .collect()
    });
    let wall = start.elapsed();
    let mut addresses = Vec::new();
    for (times, more) in outcomes {
        series.wall.extend(times);
        addresses.extend(more);
    }
    (wall, addresses)
}
