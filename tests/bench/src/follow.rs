//! One node among thousands that are nowhere, whatever service tells of them.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cni_testkit::cluster::{Node, await_condition};

pub(crate) const NETWORK: &str = "/run/cni/net.d/10-net.conflist";
/// How many changes are made, one after another.
pub(crate) const CHANGES: usize = 200;

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The prefix and the address of a node that is nowhere; `turn` gives it another address.
pub(crate) fn place(number: usize, turn: usize) -> (String, String) {
    let prefix = format!("10.{}.{}.0/24", 64 + number / 256, number % 256);
    (
        prefix,
        format!("100.{}.{}.{}", 64 + turn, number / 256, number % 256),
    )
}

/// Bytes that have gone over the node's wire so far, received and sent (`proc_pid_net(5)`).
pub(crate) fn wire(node: &Node) -> u64 {
    let read = || fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let all = node.run(read);
    let line = all
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("eth0:"));
    let fields: Vec<u64> = line
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    let sent = fields.get(8);
    fields
        .first()
        .zip(sent)
        .map_or(0, |(received, sent)| received + sent)
}

/// How many routes to the pods of nodes there are.
pub(crate) fn routes(node: &Node) -> usize {
    let read = || fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    node.run(read)
        .lines()
        .filter(|line| line.contains("\tFFFFFF\t") || line.contains("00FFFFFF"))
        .count()
}

/// How long each of some changes takes from its write to the kernel's word that it is made. `change` gives the node of a number the
/// address of turn 1.
pub(crate) fn changes(node: &Node, change: impl Fn(usize)) -> Vec<Duration> {
    let monitor = node.start(Command::new("ip").args(["monitor", "nexthop"]));
    await_condition("the monitor tells", || {
        node.sh("ip nexthop add id 999999999 blackhole; ip nexthop del id 999999999");
        !monitor.log().is_empty()
    });
    let mut times = Vec::new();
    for number in 0..CHANGES {
        let (_, address) = place(number, 1);
        let told = format!("{address} ");
        let begin = Instant::now();
        change(number);
        while !monitor.log().contains(&told) {
            let late = begin.elapsed() > Duration::from_secs(20);
            assert!(!late, "{address} does not come");
            thread::sleep(Duration::from_micros(100));
        }
        times.push(begin.elapsed());
    }
    times
}

/// Resident memory, MiB.
pub(crate) fn resident(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: f64 = line
        .and_then(|line| line.trim().split(' ').next()?.parse().ok())
        .unwrap_or_default();
    kilobytes / 1024.0
}
