//! What the tests share.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use cni_core::cluster::{Identity, Node, NodeUid, PeerEvent, View};
use cni_core::fabric::{Difference, Engine, Removal, Report, tables};
use cni_core::host::Host;
use cni_core::host::firewall::{Element, Table};
use cni_core::host::forwarding::*;
use cni_core::testing::{Faults, Faulty};
use cni_testkit::{Pod, Snapshot};

use crate::tiny::{NETWORK, Tiny, fabric};

/// The peers, by uid.
pub(crate) type Cluster = BTreeMap<NodeUid, Node>;

/// A node with an uplink, whose other end takes whatever is sent to `192.0.2.1` to `192.0.2.9`, and to the IPv6 addresses alike.
pub(crate) struct World {
    pub(crate) host: Host,
    /// Of the writes of engines that this world makes.
    pub(crate) faults: Faults,
    /// Where the other end is.
    pub(crate) far: Pod,
}

impl World {
    pub(crate) fn new() -> Self {
        cni_testkit::require(Command::new("ip").arg("-V").output().ok(), "iproute2");
        let far = Pod::new("far");
        let mac = "02:00:00:00:00:ff";
        shell(&format!(
            "ip link set lo up
            ip link add eth0 type veth peer name eth0 address {mac} netns {}
            ip address add 192.0.2.100/24 dev eth0
            ip address add 2001:db8::100/64 dev eth0 nodad
            ip link set eth0 addrgenmode none
            ip link set eth0 up",
            far.path().display()
        ));
        far.run(|| shell("ip link set eth0 up"));
        // The kernel tells of that a moment later.
        shell("until ip link show eth0 | grep -q 'state UP'; do sleep 0.01; done");
        for n in 1..=9 {
            for address in [format!("192.0.2.{n}"), format!("2001:db8::{n}")] {
                shell(&format!(
                    "ip neigh add {address} lladdr {mac} dev eth0 nud permanent"
                ));
            }
        }
        Self {
            host: Host::open().unwrap(),
            faults: Faults::new(),
            far,
        }
    }

    /// A new process.
    pub(crate) fn engine(&self, tiny: Tiny) -> Engine {
        Engine::new(Faulty::host(&self.host, &self.faults), fabric(tiny))
    }

    /// Everything that is there, but for the routes to the node itself, which come when an address is no longer tentative.
    pub(crate) fn state(&self) -> Snapshot {
        Snapshot::take().without(" table 255 ")
    }

    /// All entries that engines make.
    pub(crate) fn entries(&self, tiny: Tiny) -> Vec<Entry> {
        let device = Some(tiny.device);
        let kinds = [
            Kind::Fdb,
            Kind::Neighbour,
            Kind::NextHop,
            Kind::Route,
            Kind::Rule,
        ];
        let mut entries = Vec::new();
        for kind in kinds {
            let scope = Scope {
                kind,
                protocol: Some(crate::tiny::PROTOCOL),
                link: device,
            };
            let mut each = |entry| entries.push(entry);
            wait(self.host.forwarding.read(&scope, &mut each)).unwrap();
        }
        entries
    }

    /// All elements of the table's sets.
    pub(crate) fn elements(&self) -> Vec<(String, Element)> {
        let table = table();
        let state = wait(self.host.firewall.table(&table)).unwrap().unwrap();
        let mut all = Vec::new();
        for set in state.sets {
            let found = wait(self.host.firewall.elements(&table, &set.name)).unwrap();
            all.extend(found.into_iter().map(|element| (set.name.clone(), element)));
        }
        all
    }
}

pub(crate) fn table() -> Table {
    tables::table(&NETWORK.parse().unwrap())
}

/// The result of a future, some of which wait for threads.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

/// Runs commands; their output.
pub(crate) fn shell(commands: &str) -> String {
    let output = Command::new("sh").args(["-ec", commands]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}: {error}");
    text
}

pub(crate) fn me() -> Node {
    let mut me = Node::new(NodeUid::new("uid-me"), "me");
    me.prefixes = vec![parsed("10.244.100.0/24"), parsed("fd00:244:100::/64")];
    me.underlay = vec![parsed("192.0.2.100"), parsed("2001:db8::100")];
    me
}

/// Peers `n1` to `n{count}`.
pub(crate) fn peers(count: u8) -> Cluster {
    let peer = |n: u8| {
        let mut peer = Node::new(NodeUid::new(&format!("uid-{n}")), &format!("n{n}"));
        let prefixes = [format!("10.244.{n}.0/24"), format!("fd00:244:{n}::/64")];
        peer.prefixes = prefixes.iter().map(|prefix| parsed(prefix)).collect();
        peer.underlay = underlay(n);
        (peer.uid.clone(), peer)
    };
    (1..=count).map(peer).collect()
}

pub(crate) fn underlay(n: u8) -> Vec<IpAddr> {
    vec![
        parsed(&format!("192.0.2.{n}")),
        parsed(&format!("2001:db8::{n}")),
    ]
}

pub(crate) fn peer(cluster: &mut Cluster, n: u8) -> &mut Node {
    cluster.get_mut(&NodeUid::new(&format!("uid-{n}"))).unwrap()
}

pub(crate) fn remove(cluster: &mut Cluster, n: u8) {
    cluster.remove(&NodeUid::new(&format!("uid-{n}")));
}

pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn reset(cluster: &Cluster) -> PeerEvent {
    let all = std::iter::once(me()).chain(cluster.values().cloned());
    PeerEvent::Reset(all.collect())
}

pub(crate) fn view(cluster: &Cluster) -> View {
    let mut view = View::new(Identity {
        name: Some("me".to_owned()),
        ..Identity::default()
    });
    view.apply(reset(cluster));
    view.apply(PeerEvent::InSync);
    view
}

/// A full pass that does everything.
pub(crate) fn full(engine: &mut Engine, cluster: &Cluster) -> Report {
    let report = wait(engine.full(&view(cluster), Removal::Allowed));
    assert!(report.is_complete(), "{:#?}", report.errors);
    report
}

pub(crate) fn compare(engine: &Engine, cluster: &Cluster) -> Difference {
    wait(engine.compare(&view(cluster))).unwrap()
}

/// Sends to pods all the time; a packet that has no route is an error at once.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

impl Stream {
    pub(crate) fn to(destinations: &[&str]) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let destinations: Vec<IpAddr> = destinations.iter().map(|to| parsed(to)).collect();
        let (stopped, counted) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let v4 = UdpSocket::bind("0.0.0.0:0").unwrap();
            let v6 = UdpSocket::bind("[::]:0").unwrap();
            let mut errors = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                for to in &destinations {
                    let socket = if to.is_ipv4() { &v4 } else { &v6 };
                    if let Err(error) = socket.send_to(b"x", (*to, 9)) {
                        errors.push(format!("{to}: {error}"));
                    }
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            errors
        });
        Self { stop, sent, thread }
    }

    /// Waits until every destination has been sent to again.
    pub(crate) fn round(&self) {
        let before = self.sent.load(Ordering::Relaxed);
        while self.sent.load(Ordering::Relaxed) < before + 2 {
            std::thread::yield_now();
        }
    }

    /// Ends; every packet had a route.
    pub(crate) fn end(self) {
        self.round();
        self.stop.store(true, Ordering::Relaxed);
        let errors = self.thread.join().unwrap();
        assert!(
            errors.is_empty(),
            "{} errors: {:?}",
            errors.len(),
            errors.first()
        );
    }
}
