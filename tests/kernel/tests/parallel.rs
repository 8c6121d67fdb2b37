//! Many runs at once.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use cni_testkit::{Ping, Pod, Running, Snapshot, Test, tests};
use serde_json::{Value, json};

use crate::crash::{NETNS, wait_until};
use crate::world::{Network, ips, link, reaches};

pub(crate) const TESTS: &[Test] = &tests![
    thirty_two_adds_at_once_on_a_fresh_node_and_their_dels,
    adds_and_dels_of_two_networks_at_once_do_not_meet,
    adds_at_once_on_a_fresh_node_wait_for_the_first_one_and_then_for_nobody,
];

const COUNT: usize = 32;

fn all_at_once(network: &Network, verb: &str, pods: &[Pod]) -> Vec<Value> {
    let running: Vec<Running> = pods
        .iter()
        .map(|pod| network.run(verb, pod).start())
        .collect();
    let outcomes = running.into_iter().map(Running::finish_or_try_again);
    outcomes
        .map(|outcome| match verb {
            "ADD" => outcome.result(),
            _ => {
                outcome.silent_success();
                Value::Null
            }
        })
        .collect()
}

fn thirty_two_adds_at_once_on_a_fresh_node_and_their_dels() {
    let network = Network::dual();
    let before = Snapshot::take();
    let pods: Vec<Pod> = (0..COUNT).map(|_| Pod::new("pod")).collect();
    let results = all_at_once(&network, "ADD", &pods);
    let addresses: BTreeSet<String> = results.iter().flat_map(ips).collect();
    assert_eq!(addresses.len(), 2 * COUNT, "{addresses:?}");
    let bridges: BTreeSet<&str> = results
        .iter()
        .filter_map(|result| result["interfaces"][0]["mac"].as_str())
        .collect();
    assert_eq!(bridges.len(), 1, "{bridges:?}");
    for (pod, result) in pods.iter().zip(&results) {
        reaches(pod, "fd00:9::1");
        for ip in ips(result) {
            let outcome = Ping::to(&ip).send();
            assert!(outcome.is_ok(), "node to {ip}: {outcome:?}");
        }
        let check = network.check(pod, result);
        assert!(check.is_success(), "{check}");
    }
    all_at_once(&network, "DEL", &pods);
    let state = Snapshot::take();
    assert_eq!(state.lines("link veth").len(), 0, "{state:?}");
    for pod in &pods {
        assert_eq!(state.lines(pod.id()).len(), 0, "{state:?}");
    }
    network.gc(json!([])).silent_success();
    let settled = |state: Snapshot| state.without("sysctl ").without("/var/lib/cni");
    settled(Snapshot::take()).assert_unchanged_since(&settled(before));
    let reserved = fs::read_dir("/var/lib/cni/networks/net").unwrap().flatten();
    for entry in reserved {
        let name = entry.file_name().into_string().unwrap();
        assert!(name.parse::<std::net::IpAddr>().is_err(), "{name} is held");
    }
}

fn adds_and_dels_of_two_networks_at_once_do_not_meet() {
    let one = Network::dual();
    let other = Network::of(&["10.8.0.0/24"]).with(json!({ "name": "other", "bridge": "br1" }));
    let leaving: Vec<Pod> = (0..8).map(|_| Pod::new("leaving")).collect();
    let coming: Vec<Pod> = (0..8).map(|_| Pod::new("coming")).collect();
    all_at_once(&one, "ADD", &leaving);
    let dels: Vec<Running> = leaving
        .iter()
        .map(|pod| one.run("DEL", pod).start())
        .collect();
    let results = all_at_once(&other, "ADD", &coming);
    for del in dels {
        del.finish_or_try_again().silent_success();
    }
    for pod in &coming {
        reaches(pod, "10.8.0.1");
    }
    // Collecting one network leaves the other alone.
    one.gc(json!([])).silent_success();
    assert!(link("br0").is_none() && link("br1").is_some());
    for (pod, result) in coming.iter().zip(&results) {
        let check = other.check(pod, result);
        assert!(check.is_success(), "{check}");
    }
}

fn adds_at_once_on_a_fresh_node_wait_for_the_first_one_and_then_for_nobody() {
    let network = Network::dual().with(json!({ "enabledad": true }));
    let netns = fs::File::open(NETNS).unwrap();
    // All of them find that there is no bridge.
    netns.lock_shared().unwrap();
    let pods: Vec<Pod> = (0..4).map(|_| Pod::new("pod")).collect();
    let start = |pod| network.run("ADD", pod).start();
    let running: Vec<Running> = pods.iter().map(start).collect();
    wait_until(|| waiting(&netns) == pods.len());
    netns.unlock().unwrap();
    wait_until(|| link("br0").is_some());
    // One has made it, alone until it is finished; from then on the lock is shared by others all the time.
    netns.lock_shared().unwrap();
    for add in running {
        add.finish().result();
    }
    for pod in &pods {
        reaches(pod, "fd00:9::1");
    }
}

/// How many processes show that they wait to have the namespace's lock alone: by a lock on its first byte.
fn waiting(netns: &fs::File) -> usize {
    let sign = format!(":{} 0 0", netns.metadata().unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let shows = |line: &&str| line.contains("OFDLCK") && line.ends_with(&sign);
    locks.lines().filter(shows).count()
}
