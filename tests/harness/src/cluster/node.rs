//! A node: a network namespace, and a view of the file system with a `/run` and a `/var/lib` of its own.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

use super::layout::Segment;
use super::{Attached, wire};
use crate::pod;
use crate::{Capture, Chain, Pod, Process, Snapshot, namespaces};

/// A node of a [`Cluster`](super::Cluster): its interface `eth0` is in a segment of the underlay, it forwards, and its
/// default routes go through the router. What runs in it sees the node's network, an empty `/run` and `/var/lib` that
/// are the node's own, and the namespaces of all pods in `/run/netns`.
#[derive(Debug)]
pub struct Node {
    pub(super) network: Pod,
    pub(super) view: File,
    pub(super) name: String,
    pub(super) number: u8,
    pub(super) segment: Segment,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) pod_prefixes: Vec<String>,
    pub(super) mac: [u8; 6],
}

impl Node {
    /// `n1` for the first.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// 1 for the first: the last part of its addresses, and the third of its pod prefixes.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Where in the underlay it is.
    pub fn segment(&self) -> Segment {
        self.segment
    }

    /// Its addresses on the underlay, IPv4 before IPv6.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its address of the target's family.
    ///
    /// # Panics
    /// When it has none.
    pub fn address_like(&self, target: IpAddr) -> IpAddr {
        let same = |address: &&IpAddr| address.is_ipv4() == target.is_ipv4();
        let found = self.addresses.iter().find(same);
        *found.unwrap_or_else(|| panic!("{} has no address like {target}", self.name))
    }

    /// The prefixes of its pods, IPv4 before IPv6.
    pub fn pod_prefixes(&self) -> &[String] {
        &self.pod_prefixes
    }

    /// The hardware address of its `eth0`.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Its network namespace, for what takes a [`Pod`].
    pub fn network(&self) -> &Pod {
        &self.network
    }

    /// Runs `body` in a thread that sees the node's network and files. A process started there is on the node.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.network.run(|| {
            // A thread shares root and working directory with the others until it says otherwise.
            unshare(CloneFlags::CLONE_FS).expect("a working directory of the thread's own");
            setns(&self.view, CloneFlags::CLONE_NEWNS).expect("entering the node's mounts");
            body()
        })
    }

    /// Runs a shell script on the node; its stdout.
    ///
    /// # Panics
    /// When it fails, with what it said.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        assert!(
            output.status.success(),
            "{} on {}: {}{}",
            script,
            self.name,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a shell script on the node, which may fail.
    ///
    /// # Panics
    /// When there is no shell.
    pub fn try_sh(&self, script: &str) -> Output {
        self.run(|| {
            Command::new("/bin/sh")
                .args(["-ec", script])
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .output()
                .expect("a shell")
        })
    }

    /// Starts a program on the node, which runs beside the test.
    ///
    /// # Panics
    /// As [`Process::start`].
    pub fn start(&self, command: &mut Command) -> Process {
        self.run(|| Process::start(command))
    }

    /// Puts a file in place on the node, atomically, and the directories above it where missing.
    ///
    /// # Panics
    /// When the path is not below the node's own `/run` or `/var/lib`, or cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let own = ["/run/", "/var/lib/"];
        assert!(
            own.iter().any(|own| path.starts_with(own)),
            "{path} is not the node's own"
        );
        self.run(|| {
            let path = Path::new(path);
            fs::create_dir_all(path.parent().expect("an absolute path")).expect("the node's own");
            let fresh = path.with_extension("new");
            fs::write(&fresh, text).expect("the node's own file system");
            fs::rename(&fresh, path).expect("the node's own file system");
        });
    }

    /// A file of the node, where there is one.
    pub fn read(&self, path: &str) -> Option<String> {
        self.run(|| fs::read_to_string(path).ok())
    }

    /// A capture on one of its interfaces.
    ///
    /// # Panics
    /// As [`Capture::start`].
    pub fn capture(&self, interface: &str) -> Capture {
        Capture::start(&self.network, interface)
    }

    /// The state of its network and its files.
    ///
    /// # Panics
    /// As [`Snapshot::take`].
    pub fn snapshot(&self) -> Snapshot {
        self.run(Snapshot::take)
    }

    /// Attaches a fresh pod as a runtime on this node does, under `eth0`.
    ///
    /// # Panics
    /// When the ADD fails, with its outcome.
    #[track_caller]
    pub fn attach(&self, chain: &Chain) -> Attached {
        self.attach_pod(chain, Pod::new(&format!("{}-pod", self.name)))
    }

    /// As [`Node::attach`], with a namespace that is there already.
    ///
    /// # Panics
    /// As [`Node::attach`].
    #[track_caller]
    pub fn attach_pod(&self, chain: &Chain, pod: Pod) -> Attached {
        let mut added = self.run(|| chain.add(&pod, "eth0"));
        // As a runtime does: on a busy machine the kernel may be late with what an ADD waits for.
        for _ in 0..5 {
            if !added
                .as_ref()
                .is_err_and(crate::Outcome::asks_for_another_try)
            {
                break;
            }
            added = self.run(|| chain.add(&pod, "eth0"));
        }
        let result = added.unwrap_or_else(|outcome| panic!("ADD on {}: {outcome}", self.name));
        Attached::new(self, pod, result)
    }

    /// Detaches a pod; its namespace stays.
    ///
    /// # Panics
    /// When the DEL fails, with its outcome.
    #[track_caller]
    pub fn detach(&self, chain: &Chain, attached: &Attached) {
        let deleted = self.run(|| chain.del(&attached.pod, "eth0", &attached.result));
        deleted.unwrap_or_else(|outcome| panic!("DEL on {}: {outcome}", self.name));
    }

    /// CHECK of a pod.
    ///
    /// # Errors
    /// The outcome of the plugin that found something.
    pub fn check(&self, chain: &Chain, attached: &Attached) -> Result<(), Box<crate::Outcome>> {
        let result: &Value = &attached.result;
        self.run(|| chain.check(&attached.pod, "eth0", result))
            .map_err(Box::new)
    }

    /// `ip link set INTERFACE up` or `down`.
    ///
    /// # Panics
    /// When there is no such interface.
    pub fn set_link(&self, interface: &str, up: bool) {
        self.network
            .run(|| wire::set_up(interface, up))
            .expect("an interface of the node");
    }

    /// `ip link del INTERFACE`.
    ///
    /// # Panics
    /// When there is no such interface.
    pub fn delete_link(&self, interface: &str) {
        self.network
            .run(|| wire::delete(interface))
            .expect("an interface of the node");
    }

    /// `ip route flush protocol PROTOCOL`, of both families and all tables; how many routes there were.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn flush_routes(&self, protocol: u8) -> usize {
        self.network
            .run(|| wire::flush_routes(protocol))
            .expect("routes can be deleted")
    }
}

/// A mount namespace like this process's, but with an empty `/run` and `/var/lib`; `/sys` shows the given network.
pub(super) fn view_of(network: &Pod) -> File {
    network.run(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let keep = namespaces::kept();
        let netns = [Path::new(pod::DIRECTORY)];
        let kept: Vec<&Path> = keep.iter().map(AsRef::as_ref).chain(netns).collect();
        for directory in ["/run", "/var/lib"] {
            namespaces::cover(Path::new(directory), &kept).expect("empty file systems");
        }
        // Refused where the surrounding container hides parts of /sys, as in `enter`.
        let _ = mount(
            Some("sysfs"),
            "/sys",
            Some("sysfs"),
            MsFlags::empty(),
            None::<&str>,
        );
        File::open("/proc/thread-self/ns/mnt").expect("the thread's own mount namespace")
    })
}

/// Makes `/run/netns` a mount of its own that hands on what is mounted in it to the nodes' views. Once is enough.
pub(super) fn share_pod_namespaces() {
    static DONE: std::sync::Once = std::sync::Once::new();
    let mount_with = |flags: MsFlags| {
        mount(
            Some(pod::DIRECTORY),
            pod::DIRECTORY,
            None::<&str>,
            flags,
            None::<&str>,
        )
        .expect("/run/netns is the test's own");
    };
    DONE.call_once(|| {
        fs::create_dir_all(pod::DIRECTORY).expect("/run is the test's own");
        mount_with(MsFlags::MS_BIND | MsFlags::MS_REC);
        mount_with(MsFlags::MS_SHARED);
    });
}
