//! What was built, in characters, and the way of a packet in it.

use std::fmt::Write;
use std::net::IpAddr;

use cni_testkit::cluster::{Node, Segment};
use ipnetwork::IpNetwork;

use super::pods::Pods;
use super::site::{BRIDGE, Site, TUNNEL, join};
use super::trace::{Hop, Way};
use crate::attached;

pub(super) fn draw(site: &Site, pods: &Pods, ways: &[Way]) -> String {
    let mut picture = Picture::default();
    let outside = join(&site.cluster.outside().addresses);
    picture.line(&format!("  outside host  eth0  {outside}"));
    picture.line("    │");
    picture.line("  router");
    let marks = Marks::of(site, pods);
    for segment in [Segment::A, Segment::B] {
        let nodes = site.nodes().iter().enumerate();
        let nodes: Vec<(usize, &Node)> = nodes
            .filter(|(_, node)| node.segment() == segment)
            .collect();
        if nodes.is_empty() {
            continue;
        }
        picture.line("    ┃");
        picture.mark(
            &format!("    ┣━━ underlay  {}", segment_name(segment)),
            marks.underlay(segment),
        );
        for (position, node) in nodes {
            picture.line("    ┃");
            picture.node(site, pods, node, marks.on(position), ways);
            let there: Vec<_> = pods.on(position).collect();
            for (row, pod) in there.iter().enumerate() {
                let corner = if row + 1 == there.len() { '└' } else { '├' };
                let addresses = attached::join(&pod.addresses);
                let (port, name) = (&pod.port, &pod.name);
                let text =
                    format!("    ┃       {corner}── {port} ═══ eth0  {addresses:<32} {name}");
                let step = marks.on(position).filter(|_| row == 0);
                picture.mark(&text, step.map(|on| on.pod));
            }
        }
    }
    picture.line(&format!("\n(1) to ({}): {}", marks.end(), marks.what));
    picture.text
}

/// A segment's addresses.
pub(super) fn segment_name(segment: Segment) -> &'static str {
    match segment {
        Segment::A => "192.0.2.0/24  2001:db8:a::/64",
        Segment::B => "198.51.100.0/24  2001:db8:b::/64",
    }
}

/// The addresses of a node's end of the tunnel: the base addresses of its pod prefixes.
pub(super) fn tunnel_addresses(node: &Node) -> String {
    let networks = node.pod_prefixes().iter();
    let networks = networks.filter_map(|prefix| prefix.parse::<IpNetwork>().ok());
    let bases: Vec<IpAddr> = networks.map(|network| network.network()).collect();
    join(&bases)
}

/// What the tunnel adds to a packet, in words.
pub(super) fn encapsulation(ways: &[Way]) -> Option<String> {
    let hops = &ways.first()?.hops;
    let plain = hops.first()?.length;
    let wrapped = hops.iter().find(|hop| hop.packet.inside.is_some())?;
    let Hop { packet, length, .. } = wrapped;
    let (port, vni, _) = packet.inside.as_ref()?;
    let more = length.saturating_sub(plain);
    Some(format!("UDP {port}, VNI {vni}, +{more} bytes"))
}

#[derive(Default)]
struct Picture {
    text: String,
}

impl Picture {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "{text}");
    }

    /// A line with the number of a step behind it.
    fn mark(&mut self, text: &str, step: Option<usize>) {
        match step {
            Some(step) => self.line(&format!("{text:<88} ({step})")),
            None => self.line(text),
        }
    }

    fn node(&mut self, site: &Site, pods: &Pods, node: &Node, marks: Option<On>, ways: &[Way]) {
        let eth0 = format!("eth0     {}", join(node.addresses()));
        self.mark(
            &format!("    ┣━━ {}  {eth0}", node.name()),
            marks.map(|on| on.uplink),
        );
        let way = if site.tunnel().is_some() {
            let around = encapsulation(ways).unwrap_or_default();
            format!("{TUNNEL}  {}   {around}", tunnel_addresses(node))
        } else {
            "routes   each other node's pods via that node's address".to_owned()
        };
        self.mark(&format!("    ┃   │   {way}"), marks.map(|on| on.way));
        let own = pods.all.iter().find(|pod| {
            let position = usize::from(node.number()).checked_sub(1);
            Some(pod.node) == position
        });
        let gateways = own.map(|pod| pod.attached.gateways.join("  "));
        let bridge = format!("{BRIDGE}     {}", gateways.unwrap_or_default());
        self.mark(&format!("    ┃   └── {bridge}"), marks.map(|on| on.bridge));
    }
}

/// The steps of a packet from the first node's first pod to the last node's.
struct Marks {
    last: usize,
    crossed: usize,
    /// Whose way it is.
    what: String,
}

/// The numbers of the steps on one node.
#[derive(Clone, Copy)]
struct On {
    pod: usize,
    bridge: usize,
    way: usize,
    uplink: usize,
}

impl Marks {
    fn of(site: &Site, pods: &Pods) -> Self {
        Self {
            last: pods.all.last().map_or(0, |pod| pod.node),
            crossed: if site.args.router { 2 } else { 1 },
            what: match pods.far() {
                Ok((from, to)) => {
                    let (from, to) = (&from.attached.name, &to.attached.name);
                    format!("the way of a packet from {from} to {to}")
                }
                Err(error) => error,
            },
        }
    }

    fn end(&self) -> usize {
        8 + self.crossed
    }

    fn underlay(&self, segment: Segment) -> Option<usize> {
        Some(if segment == Segment::A { 5 } else { 6 })
    }

    fn on(&self, node: usize) -> Option<On> {
        if node == 0 {
            return Some(On {
                pod: 1,
                bridge: 2,
                way: 3,
                uplink: 4,
            });
        }
        let uplink = 5 + self.crossed;
        (node == self.last).then_some(On {
            uplink,
            way: uplink + 1,
            bridge: uplink + 2,
            pod: uplink + 3,
        })
    }
}
