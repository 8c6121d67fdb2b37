//! What is left of an ADD or a DEL that fails or dies half-way: nothing, after one DEL.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use backend_bridge::Bridge;
use cni_core::backend::{AddRequest, Context};
use cni_core::host::Host;
use cni_core::host::netns::NetnsPath;
use cni_core::ipam::{HostLocal, Ipam};
use cni_core::spec::{Attachment, CniArgs, NetworkConfig};
use cni_core::testing::{Faults, Faulty};
use cni_core::{Cancel, NetworkBackend};
use cni_testkit::{Pod, Snapshot, Test, at_every_moment, tests};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::world::{Network, block, reaches};

pub(crate) const TESTS: &[Test] = &tests![
    an_add_killed_anywhere_is_cleaned_up_by_one_del,
    an_add_killed_anywhere_can_be_repeated,
    a_del_killed_anywhere_can_be_repeated,
    an_add_that_fails_at_any_write_changes_nothing_on_a_fresh_node,
    an_add_that_fails_at_any_write_changes_nothing_on_a_used_node,
    a_terminated_add_takes_everything_back,
    an_add_that_waits_for_the_lock_ends_at_its_deadline,
];

const STORE: &str = "/var/lib/cni/networks/net";
pub(crate) const NETNS: &str = "/proc/thread-self/ns/net";

fn network() -> Network {
    Network::dual().with(json!({ "macspoofchk": true, "hairpinMode": true }))
}

/// The kernel's state, and who holds addresses. What the store remembers besides (the last address, its index) is
/// nobody's, and the bridge's link-local address gets its routes two seconds after the bridge was made.
fn state() -> (Snapshot, Vec<String>) {
    let kernel = Snapshot::take().without("/var/lib/cni");
    (kernel.without("dst fe80::"), held())
}

/// Addresses that are reserved, and for whom.
fn held() -> Vec<String> {
    let Ok(entries) = fs::read_dir(STORE) else {
        return Vec::new();
    };
    let mut all: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.parse::<std::net::IpAddr>().ok()?;
            Some(format!("{name} {}", fs::read_to_string(entry.path()).ok()?))
        })
        .collect();
    all.sort();
    all
}

#[track_caller]
fn assert_as_before(before: &(Snapshot, Vec<String>), what: &str) {
    let after = state();
    let changes = after.0.since(&before.0);
    assert!(changes.is_empty(), "{what}: the state changed:\n{changes}");
    assert_eq!(after.1, before.1, "{what}: addresses");
}

fn an_add_killed_anywhere_is_cleaned_up_by_one_del() {
    let network = network();
    let (first, pod) = (Pod::new("first"), Pod::new("pod"));
    network.add(&first);
    let (before, inside) = (state(), Snapshot::of(&pod).without("/var/lib"));
    let died = at_every_moment(|number| {
        let fate = network.run("ADD", &pod).killed_at(number);
        network.del(&pod);
        assert_as_before(&before, &format!("ADD {fate}"));
        Snapshot::of(&pod)
            .without("/var/lib")
            .assert_unchanged_since(&inside);
        fate
    });
    assert!(died > 15, "{died} moments");
}

fn an_add_killed_anywhere_can_be_repeated() {
    let network = network();
    let (first, pod) = (Pod::new("first"), Pod::new("pod"));
    network.add(&first);
    let before = state();
    let died = at_every_moment(|number| {
        let fate = network.run("ADD", &pod).killed_at(number);
        // A runtime that has the result does not ask again.
        if !fate.has_answered() {
            let result = network.add(&pod);
            let check = network.check(&pod, &result);
            assert!(check.is_success(), "ADD {fate}: {check}");
            reaches(&pod, "fd00:9::1");
        }
        network.del(&pod);
        assert_as_before(&before, &format!("ADD {fate}"));
        fate
    });
    assert!(died > 15, "{died} moments");
}

fn a_del_killed_anywhere_can_be_repeated() {
    let network = network();
    let (first, pod) = (Pod::new("first"), Pod::new("pod"));
    network.add(&first);
    let before = state();
    let died = at_every_moment(|number| {
        network.add(&pod);
        let fate = network.run("DEL", &pod).killed_at(number);
        network.del(&pod);
        assert_as_before(&before, &format!("DEL {fate}"));
        fate
    });
    assert!(died > 5, "{died} moments");
}

/// ADD with the `n`-th write failing; whether there was such a write.
fn add_with_fault(network: &Network, pod: &Pod, n: u64) -> bool {
    const ENOBUFS: i32 = 105;
    let config = NetworkConfig::parse(network.config.to_string().as_bytes()).unwrap();
    let faults = Faults::new();
    faults.fail_write(n, ENOBUFS);
    let real = Host::open().unwrap();
    let host = Faulty::host(&real, &faults);
    let ipam: Arc<dyn Ipam> = Arc::new(HostLocal::new());
    let ipam = Faulty::ipam(&ipam, &faults);
    let (args, cancel) = (CniArgs::default(), Cancel::new());
    let attachment = Attachment {
        network: config.name().clone(),
        container: pod.id().parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    };
    block(async {
        let sandbox = host.namespaces.open(&NetnsPath::new(pod.path())).await;
        let sandbox = sandbox.unwrap();
        let cx = Context {
            host: &host,
            ipam: ipam.as_ref(),
            cancel: &cancel,
            dry_run: false,
        };
        let request = AddRequest {
            attachment: &attachment,
            sandbox: &sandbox,
            config: &config,
            args: &args,
            prev_result: None,
        };
        let outcome = Bridge.add(&cx, &request).await;
        let struck = faults.fired() > 0;
        assert_eq!(outcome.is_err(), struck, "write {n}: {outcome:?}");
        struck
    })
}

fn fail_at_every_write(before_each: impl Fn(&Network), least: u64) {
    let network = network();
    let pod = Pod::new("pod");
    before_each(&network);
    let (before, inside) = (state(), Snapshot::of(&pod).without("/var/lib"));
    let mut n = 1;
    while add_with_fault(&network, &pod, n) {
        assert_as_before(&before, &format!("write {n} failed"));
        Snapshot::of(&pod)
            .without("/var/lib")
            .assert_unchanged_since(&inside);
        n += 1;
    }
    assert!(n > least, "{n} writes");
    reaches(&pod, "10.9.0.1");
}

fn an_add_that_fails_at_any_write_changes_nothing_on_a_fresh_node() {
    fail_at_every_write(|_| {}, 15);
}

fn an_add_that_fails_at_any_write_changes_nothing_on_a_used_node() {
    let first = Pod::new("first");
    fail_at_every_write(
        |network| {
            network.add(&first);
        },
        8,
    );
}

fn a_terminated_add_takes_everything_back() {
    let network = network();
    let (first, pod) = (Pod::new("first"), Pod::new("pod"));
    network.add(&first);
    let (before, inside) = (state(), Snapshot::of(&pod).without("/var/lib"));
    // ADD waits for the store, or for the namespace's lock, which somebody else holds.
    for lock in [&*format!("{STORE}/lock"), NETNS] {
        let file = fs::File::open(lock).unwrap();
        file.lock().unwrap();
        let running = network.run("ADD", &pod).start();
        let process = running.id();
        wait_until(|| handles_sigterm(process));
        kill(Pid::from_raw(process.cast_signed()), Signal::SIGTERM).unwrap();
        let failure = running.finish().failure();
        assert_eq!(failure.code, 11, "{lock}: {failure:?}");
        assert_as_before(&before, &format!("SIGTERM beside {lock}"));
        Snapshot::of(&pod)
            .without("/var/lib")
            .assert_unchanged_since(&inside);
    }
    network.add(&pod);
}

fn an_add_that_waits_for_the_lock_ends_at_its_deadline() {
    let network = network();
    let pod = Pod::new("pod");
    let lock = fs::File::open(NETNS).unwrap();
    lock.lock().unwrap();
    let before = state();
    // On a busy machine the time may be up before it gets there. All are shorter than a lock is waited for anyway.
    let mut last = None;
    for time in ["100", "400", "1600", "6400"] {
        let add = network.run("ADD", &pod).env("CNI_TIMEOUT_MS", time);
        let failure = add.run().failure();
        assert_eq!(failure.code, 11, "{failure:?}");
        assert_as_before(&before, "the deadline");
        if failure.msg.contains("net:[") {
            return;
        }
        last = Some(failure);
    }
    panic!("which lock: {last:?}");
}

/// Whether a process has a handler for SIGTERM (`SigCgt` in proc_pid_status(5)).
fn handles_sigterm(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (Signal::SIGTERM as i32 - 1)) != 0)
}

pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(
            Instant::now() < end,
            "it did not come to pass within a minute"
        );
        thread::sleep(Duration::from_millis(1));
    }
}
