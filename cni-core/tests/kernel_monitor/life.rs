//! Overruns, waiting, and the end.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use cni_core::host::KernelEvent;
use cni_testkit::cluster::await_condition;
use nix::sched::{CloneFlags, unshare};

use super::support::*;

/// More than wait in this process and in the kernel.
const MANY: u32 = 60_000;

fn routes(verb: &str, count: u32) -> String {
    (0..count)
        .map(|number| {
            let [_, a, b, c] = number.to_be_bytes();
            format!("route {verb} 10.{a}.{b}.{c}/32 dev eth0 proto 167\n")
        })
        .collect()
}

/// Has another program make changes. `script` is a shell's, which passes its input on.
fn batch(script: &str, input: &str) {
    let mut child = Command::new("sh")
        .args(["-ec", script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

pub(crate) fn events_that_nobody_takes_become_an_overrun() {
    node();
    let mut watch = Watch::open();
    batch("exec ip -batch -", &routes("add", 10_000));
    // None waits for a monitor that the machine has kept from reading.
    await_condition("all notifications are read", || unread() == 0);
    until_overrun(&mut watch);
    watch.taken();
    // And then they are told one by one again.
    let events = watch.after("ip rule add priority 100 from 10.244.1.0/24 lookup 167 protocol 167");
    assert_eq!(events, [made(rule(100, "10.244.1.0/24", 167))]);
}

/// This process stands still while they are made.
pub(crate) fn events_that_the_kernel_drops_are_an_overrun() {
    node();
    let mut watch = Watch::open();
    let file = "/run/changes";
    fs::write(file, routes("add", MANY)).unwrap();
    let stopped = format!("kill -STOP $PPID; ip -batch {file} || true; kill -CONT $PPID");
    batch(&stopped, "");
    assert!(dropped() > 0, "the kernel kept everything");
    until_overrun(&mut watch);
    watch.taken();
    let events = watch.after("ip rule add priority 100 from 10.244.1.0/24 lookup 167 protocol 167");
    assert_eq!(events, [made(rule(100, "10.244.1.0/24", 167))]);
}

/// Up to the overrun: the monitor may have told of some before it read on.
fn until_overrun(watch: &mut Watch) {
    while watch.next() != KernelEvent::Overrun {}
}

/// Notifications that the kernel could not deliver to any socket of this namespace.
fn dropped() -> u32 {
    of_sockets(8)
}

/// Bytes that wait in the sockets of this namespace.
fn unread() -> u32 {
    of_sockets(4)
}

/// The sum of a column of the table of netlink sockets.
fn of_sockets(column: usize) -> u32 {
    let table = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let sockets = table.lines().skip(1);
    let number = |line: &str| line.split_whitespace().nth(column)?.parse::<u32>().ok();
    sockets.filter_map(number).sum()
}

pub(crate) fn a_wait_that_is_given_up_loses_nothing() {
    node();
    let mut watch = Watch::open();
    assert_eq!(watch.waiting(), []);
    let events = watch.after("ip rule add priority 100 from 10.244.1.0/24 lookup 167 protocol 167");
    assert_eq!(events, [made(rule(100, "10.244.1.0/24", 167))]);
}

pub(crate) fn dropping_the_monitor_ends_its_thread() {
    node();
    assert_eq!(threads().len(), 0);
    let first = Watch::open();
    let second = Watch::open();
    // A thread names itself, and is listed for a moment after it has ended.
    await_condition("both threads run", || threads().len() == 2);
    let sockets = sockets();
    drop(first);
    await_condition("one thread is left", || threads().len() == 1);
    assert_eq!(self::sockets(), sockets - 2);
    drop(second);
    await_condition("no thread is left", || threads().is_empty());
    assert_eq!(self::sockets(), sockets - 4);
}

/// The directories of the monitors' threads.
fn threads() -> Vec<std::path::PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let paths = tasks.map(|task| task.unwrap().path());
    let named = |path: &std::path::PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "kernel-monitor")
    };
    paths.filter(named).collect()
}

fn sockets() -> usize {
    let table = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    table.lines().count()
}

pub(crate) fn an_idle_monitor_uses_no_cpu() {
    node();
    // The kernel has completed all addresses, which is the last that happens by itself.
    let mut watch = Watch::open();
    let thread = loop {
        let events = watch.all_taken();
        if events.is_empty() {
            break threads().pop().unwrap();
        }
    };
    // Time on the processor in nanoseconds, time in the queue, and how often it was given the processor.
    let used = || fs::read_to_string(thread.join("schedstat")).unwrap();
    let asleep = || {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        status.lines().any(|line| line.starts_with("State:\tS"))
    };
    let mut seen = Vec::new();
    // The kernel may find time for something of its own in one of them.
    for _ in 0..20 {
        await_condition("the thread sleeps", asleep);
        let before = used();
        // This is not for something to happen: nothing does.
        thread::sleep(Duration::from_secs(1));
        let after = used();
        if after == before {
            return;
        }
        seen.push((before, after));
    }
    panic!("{seen:#?}");
}

pub(crate) fn a_monitor_stays_in_its_namespace() {
    node();
    let mut watch = Watch::open();
    let add = "ip rule add priority 100 from 10.244.1.0/24 lookup 167 protocol 167";
    let elsewhere = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        shell("ip link set lo up");
        let mut there = Watch::open();
        assert_eq!(there.after(add), [made(rule(100, "10.244.1.0/24", 167))]);
        there
    });
    let mut there = elsewhere.join().unwrap();
    // A monitor is read by another thread here, and neither tells of the other's namespace.
    assert_eq!(watch.taken(), []);
    assert_eq!(watch.after(add), [made(rule(100, "10.244.1.0/24", 167))]);
    assert_eq!(there.waiting(), []);
}
