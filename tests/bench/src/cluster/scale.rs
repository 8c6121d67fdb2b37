//! From a file of nodes to the kernel, for thousands of peers: beside the usual tools, and beside messages encoded before.

use std::process::{Command, ExitCode};

use cni_core::cluster::{PeerEvent, View};
use cni_core::fabric::{Engine, Removal, Report};
use cni_testkit::Pod;

use super::messages::{self, datagrams, socket};
use super::peers::{CLASSIC, FLOW, devices, index, underlay, uplink, vtep};
use super::site::{DataPath, moved, view, write_file};
use super::spent::{Spent, ms};
use super::tools::Tools;
use super::wait;

const SIZES: [u32; 3] = [1_000, 10_000, 40_000];
/// Single changes that are made.
const CHANGES: u32 = 1_000;
/// Changes that come at once.
const BURST: u32 = 1_000;

/// The first argument that makes this program a process that connects a node once and says what memory that took.
pub(crate) const HOLD: &str = "--hold";

pub(super) fn run(runs: usize) {
    println!(
        "\n-- Cold start, ms: `ip -batch` and `bridge -batch` with plain routes; messages encoded before, with next hops;\n   \
         ours, from the file, with next hops, rules and nftables. Medians; the tools run once for 40,000 peers"
    );
    println!(
        "{:<14} {:>14} {:>14} {:>14} {:>15} {:>15} {:>14}",
        "", "tools", "encoded before", "ours", "ours/tools", "ours/encoded", "warm restart"
    );
    print!("{:<7} {:>6}", "", "peers");
    for _ in 0..3 {
        print!(" {:>8} {:>5}", "elapsed", "CPU");
    }
    println!("{0:>9} {1:>6}{0:>9} {1:>6} {0:>8} {1:>5}", "elapsed", "CPU");
    for path in DataPath::ALL {
        for peers in SIZES {
            cold(path, peers, runs.min(if peers > 10_000 { 3 } else { 7 }));
        }
    }
    println!(
        "\n-- Resident memory of a process that connects a node from the file, MiB: at its peak, and afterwards"
    );
    for path in DataPath::ALL {
        for peers in SIZES {
            memory(path, peers);
        }
    }
}

pub(super) fn run_changes() {
    println!(
        "\n== Among 10,000 peers, from the event to the end in the kernel, ms: one peer moves ({CHANGES} times); \
         {BURST} peers move at once"
    );
    println!(
        "{:<8} {:>8} {:>8} {:>8} {:>8} {:>12}",
        "", "p50", "p99", "CPU p50", "CPU p99", "burst (CPU)"
    );
    for path in DataPath::ALL {
        changes(path, 10_000);
    }
}

fn cold(path: DataPath, peers: u32, runs: usize) {
    let tools = Tools::new(path, peers);
    let file = write_file(peers);
    let (mut by_tools, mut floor, mut ours, mut warm) = (vec![], vec![], vec![], vec![]);
    for run in 0..runs {
        if run == 0 || peers <= 10_000 {
            by_tools.push(in_namespace(|| {
                uplink();
                devices();
                Spent::on_children(|| tools.run())
            }));
        }
        floor.push(in_namespace(|| {
            uplink();
            devices();
            let (socket, encoded) = (socket(), encoded(path, peers));
            Spent::on(|| messages::send(&socket, &encoded))
        }));
        let (cold, again) = in_namespace(|| {
            uplink();
            let cold = Spent::on(|| {
                let view = view(&file);
                let report = full(&mut path.engine(), &view);
                assert!(report.changes() >= u64::from(2 * peers), "{report:?}");
            });
            let warm = Spent::on(|| {
                let view = view(&file);
                let report = full(&mut path.engine(), &view);
                assert_eq!(report.changes(), 0, "nothing is written again: {report:?}");
            });
            (cold, warm)
        });
        ours.push(cold);
        warm.push(again);
    }
    let [tools, floor, ours, warm] =
        [by_tools, floor, ours, warm].map(|mut series| Spent::median(&mut series));
    print!("{:<7} {peers:>6}", path.name());
    for spent in [tools, floor, ours] {
        print!(" {:>8.0} {:>5.0}", ms(spent.elapsed), ms(spent.cpu));
    }
    for other in [tools, floor] {
        let (elapsed, cpu) = ours.beside(other);
        print!("{elapsed:>9.2} {cpu:>6.2}");
    }
    println!(" {:>8.0} {:>5.0}", ms(warm.elapsed), ms(warm.cpu));
}

/// What ours makes of next hops, routes, neighbours and forwarding entries for the pods' prefixes.
fn encoded(path: DataPath, peers: u32) -> Vec<Vec<u8>> {
    let all = 1..=peers;
    let each: Vec<Vec<u8>> = match path {
        DataPath::Classic => {
            let classic = index(CLASSIC);
            let neighbours = all.clone().map(|peer| messages::neighbour(classic, peer));
            let entries = all.clone().map(|peer| messages::fdb(classic, peer));
            let by = all.clone();
            let by = by.map(|peer| messages::gateway(classic, peer, vtep(peer), true));
            neighbours.chain(entries).chain(by).collect()
        }
        DataPath::Flow => {
            let flow = index(FLOW);
            all.clone()
                .map(|peer| messages::tunnel(flow, peer))
                .collect()
        }
        DataPath::HostGw => {
            let eth0 = index("eth0");
            let by = all.clone();
            by.map(|peer| messages::gateway(eth0, peer, underlay(peer), false))
                .collect()
        }
    };
    datagrams(each.into_iter().chain(all.map(messages::route)))
}

fn changes(path: DataPath, peers: u32) {
    let file = write_file(peers);
    let (mut single, burst) = in_namespace(|| {
        uplink();
        let mut view = view(&file);
        let mut engine = path.engine();
        full(&mut engine, &view);
        let mut single = Vec::new();
        for change in 0..CHANGES {
            let peer = 1 + change * 7 % peers;
            let event = PeerEvent::Put(moved(&view, peer, true));
            single.push(Spent::on(|| made(&mut engine, &mut view, vec![event])));
        }
        let moving = |view: &View, away| -> Vec<PeerEvent> {
            let each = (1..=BURST).map(|peer| peer * 9 % peers + 1);
            each.map(|peer| PeerEvent::Put(moved(view, peer, away)))
                .collect()
        };
        let events = moving(&view, false);
        made(&mut engine, &mut view, events);
        let events = moving(&view, true);
        let burst = Spent::on(|| made(&mut engine, &mut view, events));
        (single, burst)
    });
    let at = |percent: usize| (single.len() * percent / 100).min(single.len() - 1);
    let (p50, p99) = (at(50), at(99));
    single.sort_unstable_by_key(|spent| spent.elapsed);
    let elapsed = [p50, p99].map(|place| ms(single[place].elapsed));
    single.sort_unstable_by_key(|spent| spent.cpu);
    let cpu = [p50, p99].map(|place| ms(single[place].cpu));
    println!(
        "{:<8} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>6.0} ({:>3.0})",
        path.name(),
        elapsed[0],
        elapsed[1],
        cpu[0],
        cpu[1],
        ms(burst.elapsed),
        ms(burst.cpu)
    );
}

/// What the events come to, made.
fn made(engine: &mut Engine, view: &mut View, events: Vec<PeerEvent>) {
    let mut changes = Vec::new();
    for event in events {
        changes.extend(view.apply(event));
    }
    let report = wait(engine.update(view, &changes));
    assert!(report.is_complete() && !report.full, "{report:?}");
}

fn full(engine: &mut Engine, view: &View) -> Report {
    let report = wait(engine.full(view, Removal::Allowed));
    assert!(
        report.is_complete() && report.unreachable.is_empty(),
        "{:?} {:?}",
        report.errors.first(),
        report.unreachable.first()
    );
    report
}

fn memory(path: DataPath, peers: u32) {
    let file = write_file(peers);
    let program = std::env::current_exe().expect("this program");
    let output = in_namespace(|| {
        uplink();
        Command::new(program)
            .args([HOLD, path.name()])
            .arg(&file)
            .output()
            .expect("this program again")
    });
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{:<8} {peers:>6} {}", path.name(), text.trim());
}

/// Connects the node of the process's namespace once.
pub(crate) fn hold(mut words: impl Iterator<Item = String>) -> ExitCode {
    let path = words.next().and_then(|name| DataPath::named(&name));
    let (Some(path), Some(file)) = (path, words.next()) else {
        return ExitCode::FAILURE;
    };
    let view = view(file.as_ref());
    let mut engine = path.engine();
    full(&mut engine, &view);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
        kib.and_then(|kib| kib.parse::<f64>().ok())
            .unwrap_or(f64::NAN)
            / 1024.0
    };
    println!("{:>7.1} {:>7.1}", mib("VmHWM"), mib("VmRSS"));
    ExitCode::SUCCESS
}

/// Runs `body` in a namespace of its own, after the kernel has cleaned up the ones before.
fn in_namespace<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    crate::measure::settle();
    Pod::new("scale").run(body)
}
