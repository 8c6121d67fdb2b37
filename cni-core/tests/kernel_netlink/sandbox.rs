//! Namespaces, kernel parameters, the lock.

use std::process::Command;

use cni_core::host::lock::{KernelLock, Sign};
use cni_core::host::netlink::*;
use cni_core::host::netns::KernelNamespaces;
use cni_core::host::sysctl::KernelSysctl;
use cni_core::host::{HostLock, NamespaceOpener, NetnsPath, Sysctl};
use cni_core::{Cancel, ErrorKind};
use nix::sched::CloneFlags;

use crate::support::*;

pub(crate) fn parameters_are_those_of_the_sandbox() {
    let pod = Pod::new();
    let sandbox = pod.open();
    let host = KernelSysctl::new();
    let key = "net/ipv4/ip_forward";
    let before = now(host.read(key)).unwrap().unwrap();
    let inside = now(sandbox.sysctl.read(key)).unwrap().unwrap();
    let other = if inside == "0" { "1" } else { "0" };
    now(sandbox.sysctl.write(key, other)).unwrap();
    assert_eq!(
        now(sandbox.sysctl.read(key)).unwrap().as_deref(),
        Some(other)
    );
    assert_eq!(now(host.read(key)).unwrap(), Some(before));
    assert_eq!(
        now(sandbox.sysctl.read("net/ipv4/conf/nope/forwarding")).unwrap(),
        None
    );
    let error = now(sandbox.sysctl.write("net/../kernel/hostname", "x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

pub(crate) fn what_is_no_namespace_is_refused_by_path() {
    let opener = KernelNamespaces::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mount_namespace = "/proc/thread-self/ns/mnt";
    for (path, expected) in [
        ("/nowhere/pod1", "/nowhere/pod1 does not exist"),
        (file.path().to_str().unwrap(), "is not a network namespace"),
        (
            mount_namespace,
            "/proc/thread-self/ns/mnt is not a network namespace",
        ),
        ("/tmp", "/tmp is not a network namespace"),
    ] {
        let error = now(opener.open(&NetnsPath::new(path))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidNetns, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!now(opener.is_own(&NetnsPath::new(path))));
    }
    assert!(now(
        opener.is_own(&NetnsPath::new("/proc/thread-self/ns/net"))
    ));
    assert!(!now(opener.is_own(&Pod::new().path)));
}

pub(crate) fn a_sandbox_stays_with_its_namespace_when_the_path_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("netns");
    let (first, second) = (Pod::new(), Pod::new());
    std::os::unix::fs::symlink(first.path.as_path(), &path).unwrap();
    let sandbox = now(KernelNamespaces::new().open(&NetnsPath::new(&path))).unwrap();
    assert_eq!(sandbox.path, NetnsPath::new(&path));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(second.path.as_path(), &path).unwrap();
    let host = KernelNetlink::open().unwrap();
    now(host.apply_one(NetlinkChange::LinkAdd(veth(
        "a",
        "eth0",
        Some(&sandbox.path),
    ))))
    .unwrap();
    assert!(now(sandbox.netlink.link("eth0")).unwrap().is_some());
    assert!(now(second.open().netlink.link("eth0")).unwrap().is_none());
}

pub(crate) fn a_veth_into_a_namespace_that_is_gone_is_refused_by_path() {
    let host = KernelNetlink::open().unwrap();
    let gone = NetnsPath::new("/nowhere/pod1");
    let error =
        now(host.apply_one(NetlinkChange::LinkAdd(veth("a", "eth0", Some(&gone))))).unwrap_err();
    assert_eq!(error.errno, errno::ENOENT);
    assert!(error.to_string().contains("/nowhere/pod1"), "{error}");
    assert_eq!(now(host.link("a")).unwrap(), None);
}

pub(crate) const HOLD: &str = "CNI_TEST_HOLD_LOCK";

/// Another process that holds the lock of this thread's namespace until it is let go.
pub(crate) struct Holder(std::process::Child);

impl Holder {
    fn start(mode: &str) -> Self {
        use std::io::{BufRead, BufReader};
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(HOLD, mode)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        assert!(
            output
                .lines()
                .map_while(Result::ok)
                .any(|line| line.contains("lock held")),
            "the other process takes the lock"
        );
        Self(child)
    }

    fn release(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }

    /// In the other process.
    pub(crate) fn hold(mode: &str) {
        let lock = KernelLock::new();
        let _guard = match mode {
            "shared" => now(lock.shared(&Cancel::new())).unwrap(),
            "waiting" => now(lock.show(Sign::Waiting)).unwrap(),
            "working" => now(lock.show(Sign::Working)).unwrap(),
            _ => now(lock.try_exclusive()).unwrap().expect("nobody holds it"),
        };
        println!("lock held");
        let _ = std::io::read_to_string(std::io::stdin());
        // The parent may have stopped reading: nothing more is printed than the test's own verdict.
    }
}

pub(crate) fn the_lock_holds_between_processes() {
    let lock = KernelLock::new();
    let free = || now(lock.try_exclusive()).unwrap().is_some();
    assert!(free());

    let other = Holder::start("shared");
    assert!(!free(), "another process is adding");
    drop(now(lock.shared(&Cancel::new())).unwrap());
    other.release();
    assert!(free(), "a lock ends with its process");

    let other = Holder::start("exclusive");
    assert!(!free());
    let cancelled = Cancel::new();
    cancelled.cancel();
    let shared = || now(KernelLock::new().shared(&cancelled));
    let error = shared().unwrap_err().to_string();
    assert!(error.contains("ns/net, net:["), "{error}");
    let waiting =
        std::thread::spawn(|| drop(now(KernelLock::new().shared(&Cancel::new())).unwrap()));
    assert!(!waiting.is_finished());
    other.release();
    waiting.join().unwrap();

    let other = Holder::start("waiting");
    assert!(free(), "who only waits keeps nobody from removing");
    shared().expect_err("another process waits to be alone");
    other.release();
    shared().expect("a sign ends with its process");

    let other = Holder::start("working");
    assert!(!free(), "another process may have something unfinished");
    now(lock.exclusive(&cancelled)).expect("and is not waited for");
    other.release();
    assert!(free());

    let guard = now(lock.shared(&Cancel::new())).unwrap();
    assert!(!free(), "the own shared lock counts too");
    drop(guard);
    assert!(free());

    let elsewhere = Pod::new();
    let guard = now(lock.try_exclusive()).unwrap().unwrap();
    let path = elsewhere.path.as_path().to_owned();
    std::thread::spawn(move || {
        let namespace = std::fs::File::open(path).unwrap();
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        assert!(now(KernelLock::new().try_exclusive()).unwrap().is_some());
    })
    .join()
    .unwrap();
    drop(guard);
}
