//! Who reaches whom across nodes, how fast, and under which address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cni_testkit::cluster::Node;
use cni_testkit::{Ping, Pod, UdpEcho};

use super::pods::{Placed, Pods};
use super::site::Site;
use crate::Result;
use crate::attached::Attached;
use crate::table::{self, Way};

pub(super) struct Reach {
    /// The first packet of every ordered pair of pods.
    grids: Vec<Grid>,
    pub(super) ways: Vec<Way>,
}

/// One family's round trips of first packets: a row for each sender, a column for each target.
struct Grid {
    family: &'static str,
    names: Vec<String>,
    rows: Vec<Vec<Option<Duration>>>,
}

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const PINGS: usize = 3;
const PORT: u16 = 7000;

pub(super) fn measure(site: &Site, pods: &Pods) -> Result<Reach> {
    let mut reach = Reach {
        grids: Vec::new(),
        ways: Vec::new(),
    };
    let _servers = serve(site, pods)?;
    for (family, name) in FAMILIES.iter().enumerate() {
        let mut rows = Rows {
            family: name,
            ways: Vec::new(),
        };
        reach.grids.push(pod_to_pod(pods, family, &mut rows)?);
        for (position, node) in site.nodes().iter().enumerate() {
            for pod in &pods.all {
                node_to_pod(position == pod.node, node, pod, family, &mut rows)?;
                pod_to_node(position == pod.node, pod, node, family, &mut rows)?;
            }
        }
        for pod in &pods.all {
            let node = site.node(pod.node)?;
            pod_to_outside(site, pod, node, family, &mut rows)?;
        }
        reach.ways.append(&mut rows.ways);
    }
    Ok(reach)
}

/// Tells whoever asks under which address it is seen: every pod, every node and the outside host.
fn serve(site: &Site, pods: &Pods) -> Result<Vec<UdpEcho>> {
    let mut servers = Vec::new();
    let mut start = |pod: &Pod, address: IpAddr| {
        let address = SocketAddr::new(address, PORT).to_string();
        servers.push(UdpEcho::start(pod, &address));
    };
    for family in 0..FAMILIES.len() {
        for pod in &pods.all {
            start(&pod.attached.pod, pod.attached.address(family)?);
        }
        for node in site.nodes() {
            start(node.network(), of(node.addresses(), family)?);
        }
        let outside = site.cluster.outside();
        start(&outside.pod, of(&outside.addresses, family)?);
    }
    Ok(servers)
}

fn pod_to_pod(pods: &Pods, family: usize, rows: &mut Rows) -> Result<Grid> {
    let mut grid = Grid {
        family: rows.family,
        names: Vec::new(),
        rows: Vec::new(),
    };
    for from in &pods.all {
        let mut row = Vec::new();
        for to in &pods.all {
            if from.attached.name == to.attached.name {
                row.push(None);
                continue;
            }
            let kind = if from.node == to.node {
                "pod to pod, same node"
            } else {
                "pod to pod, other node"
            };
            let target = to.attached.address(family)?;
            let (times, seen) = from_pod(&from.attached, target)?;
            let own = from.attached.address(family)?;
            same(seen, own, &from.attached.name, &to.attached.name)?;
            row.push(times.first().copied());
            rows.add(kind, times, "its own address");
        }
        grid.names.push(from.attached.name.clone());
        grid.rows.push(row);
    }
    Ok(grid)
}

/// From whatever address the node takes, and from its own on the underlay, as a process does that is bound to it.
fn node_to_pod(own: bool, node: &Node, pod: &Placed, family: usize, rows: &mut Rows) -> Result<()> {
    let kind = if own {
        "node to its pods"
    } else {
        "node to other nodes' pods"
    };
    let target = pod.attached.address(family)?;
    let underlay = of(node.addresses(), family)?;
    let failed =
        |error: std::io::Error| format!("{} does not reach {target}: {error}", node.name());
    let asked = node.network().run(|| {
        let times = pings(target)?;
        let bound = UdpEcho::ask_from(Some(underlay), SocketAddr::new(target, PORT))?;
        Ok((times, bound.ip()))
    });
    let (times, bound) = asked.map_err(failed)?;
    same(bound, underlay, node.name(), &pod.attached.name)?;
    rows.add(kind, times, "the address it sends from");
    Ok(())
}

fn pod_to_node(own: bool, pod: &Placed, node: &Node, family: usize, rows: &mut Rows) -> Result<()> {
    let kind = if own {
        "pod to its node"
    } else {
        "pod to other nodes"
    };
    let (times, seen) = from_pod(&pod.attached, of(node.addresses(), family)?)?;
    let address = pod.attached.address(family)?;
    same(seen, address, &pod.attached.name, node.name())?;
    rows.add(kind, times, "its own address");
    Ok(())
}

fn pod_to_outside(
    site: &Site,
    pod: &Placed,
    node: &Node,
    family: usize,
    rows: &mut Rows,
) -> Result<()> {
    let target = of(&site.cluster.outside().addresses, family)?;
    let (times, seen) = from_pod(&pod.attached, target)?;
    let address = of(node.addresses(), family)?;
    same(seen, address, &pod.attached.name, "the outside host")?;
    let seen = "its node's address (masquerade)";
    rows.add("pod to outside", times, seen);
    Ok(())
}

/// Round trips from a pod, and the address that a server there sees it under.
fn from_pod(pod: &Attached, target: IpAddr) -> Result<(Vec<Duration>, IpAddr)> {
    let asked = pod.pod.run(|| {
        let times = pings(target)?;
        let seen = UdpEcho::ask(&SocketAddr::new(target, PORT).to_string())?;
        Ok((times, seen.ip()))
    });
    asked.map_err(|error: std::io::Error| format!("{} does not reach {target}: {error}", pod.name))
}

fn pings(target: IpAddr) -> std::io::Result<Vec<Duration>> {
    let ping = Ping::to(&target.to_string());
    (0..PINGS).map(|_| ping.send()).collect()
}

fn same(seen: IpAddr, wanted: IpAddr, from: &str, by: &str) -> Result<()> {
    if seen == wanted {
        return Ok(());
    }
    Err(format!("{from} is seen as {seen} by {by}, not as {wanted}"))
}

fn of(addresses: &[IpAddr], family: usize) -> Result<IpAddr> {
    let address = addresses.get(family).copied();
    address.ok_or_else(|| "an address of each family is missing".to_owned())
}

/// The table's rows of one family.
struct Rows {
    family: &'static str,
    ways: Vec<Way>,
}

impl Rows {
    fn add(&mut self, kind: &str, mut times: Vec<Duration>, seen_as: &str) {
        let name = format!("{kind}, {}", self.family);
        match self.ways.iter_mut().find(|way| way.name == name) {
            Some(way) => way.round_trips.append(&mut times),
            None => self.ways.push(Way {
                name,
                round_trips: times,
                seen_as: Some(seen_as.to_owned()),
            }),
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for grid in &self.grids {
            writeln!(f, "{grid}")?;
        }
        table::write(&self.ways, f)
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.family;
        writeln!(f, "The first packet's round trip over {family}, in ms:")?;
        write!(f, "from \\ to")?;
        for name in &self.names {
            write!(f, " {name:>6}")?;
        }
        writeln!(f)?;
        for (name, row) in self.names.iter().zip(&self.rows) {
            write!(f, "{name:<9}")?;
            for time in row {
                let text = time.map(|time| format!("{:.2}", time.as_secs_f64() * 1e3));
                write!(f, " {:>6}", text.as_deref().unwrap_or("·"))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
