//! GC: 2,000 stale among 4,000 attachments, and the kernel's own time for deleting as many links.

use std::time::Instant;

use cni_testkit::{Invocation, Pod, Snapshot};
use serde_json::{Value, json};

use crate::contestants::Contestants;
use crate::verbs::bridge_config;

const ATTACHMENTS: usize = 4_000;
/// As many interfaces in each pod, so that the namespaces themselves do not dominate.
const PER_POD: usize = 100;
/// A bridge holds 1,023 ports (`BR_MAX_PORTS`): so many pods share one.
const PODS_PER_BRIDGE: usize = 8;

pub(crate) fn run(contestants: &Contestants) {
    println!(
        "\n== GC of {} stale among {ATTACHMENTS} attachments (ours: the reference has none)",
        ATTACHMENTS / 2
    );
    let Some(ours) = contestants.all.first() else {
        return;
    };
    let mut config = bridge_config(ours.name, 20, true, "gc");
    config["cniVersion"] = json!("1.1.0");
    config["isGateway"] = json!(false);
    let program = ours.directory.join("bridge");
    let pods: Vec<Pod> = (0..ATTACHMENTS / PER_POD)
        .map(|number| Pod::new(&format!("gc{number}")))
        .collect();

    let mut valid: Vec<Value> = Vec::new();
    let start = Instant::now();
    for (number, pod) in pods.iter().enumerate() {
        config["bridge"] = json!(format!("gc{}", number / PODS_PER_BRIDGE));
        for interface in 0..PER_POD {
            let name = format!("eth{interface}");
            let add = Invocation::attachment(&program, "ADD", pod)
                .env("CNI_IFNAME", &name)
                .config(&config);
            let outcome = add.run();
            assert!(outcome.is_success(), "{outcome}");
            if interface % 2 == 0 {
                valid.push(json!({ "containerID": pod.id(), "ifname": name }));
            }
        }
    }
    let each = start.elapsed() / u32::try_from(ATTACHMENTS).unwrap_or(1);
    println!(
        "{ATTACHMENTS} ADDs                {:>10.2} ms each",
        each.as_secs_f64() * 1e3
    );
    for (what, list) in [
        ("GC, half stale", json!(valid)),
        ("GC, none stale", json!(valid)),
        ("GC, all stale", json!([])),
    ] {
        config["cni.dev/valid-attachments"] = list;
        let gc = Invocation::new(&program, "GC")
            .env("CNI_PATH", &ours.directory)
            .config(&config);
        let start = Instant::now();
        let outcome = gc.run();
        let took = start.elapsed();
        assert!(outcome.is_success(), "{outcome}");
        let left = Snapshot::take().lines("veth").len();
        println!(
            "{what:<24} {:>10.2} ms   lines of veth left on the host: {left}",
            took.as_secs_f64() * 1e3
        );
    }
}
