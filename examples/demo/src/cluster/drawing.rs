//! What was built, as a drawing, with the way of a packet in it.

use cni_testkit::cluster::{Node, Segment};

use super::picture::{encapsulation, segment_name, tunnel_addresses};
use super::pods::Pods;
use super::reach::Reach;
use super::site::{BRIDGE, Site, TUNNEL};
use super::trace::Way;
use crate::svg::{GAP, Page};
use crate::table::milliseconds;

/// A node's column, and the boxes in it.
const COLUMN: usize = 276;
const BOX: usize = COLUMN - 2 * GAP;
const OUTSIDE_Y: usize = 16;
const ROUTER_Y: usize = 124;
const UNDERLAY_Y: usize = 204;
const BAR: usize = 48;
const NODE_Y: usize = UNDERLAY_Y + BAR + 36;
const POD_HEIGHT: usize = 92;

/// Where the cables between bridge and pods run in a column, from its left edge, and where the way of the packet does.
const CABLES: usize = GAP / 2;
const LANE: usize = COLUMN - GAP - 14;

pub(super) fn draw(site: &Site, pods: &Pods, reach: &Reach, ways: &[Way]) -> Page {
    let count = site.nodes().len();
    let width = (count * (COLUMN + GAP) + GAP).max(780);
    let bridge_y = bridge_y();
    let table_y = bridge_y + 84 + site.args.pods * (POD_HEIGHT + GAP) + 76;
    let height = table_y + (reach.ways.len() + 1) * 20 + 20;
    let mut page = Page::new(width, height);
    outside(&mut page, site, width / 2);
    for (position, node) in site.nodes().iter().enumerate() {
        column(&mut page, site, pods, position, node, ways);
    }
    packet(&mut page, site, width / 2);
    if let Ok((from, to)) = pods.far() {
        let (from, to) = (&from.attached.name, &to.attached.name);
        let text = format!("In red: the way of a packet from {from} to {to}.");
        page.label((GAP, table_y - 28), text);
    }
    for (row, way) in reach.ways.iter().enumerate() {
        let seen = way.seen_as.as_deref().unwrap_or_default();
        let (name, median) = (&way.name, milliseconds(way.median()));
        let text = format!("{name}: {median} median round trip, seen as {seen}");
        page.label((GAP, table_y + row * 20), text);
    }
    page
}

fn bridge_y() -> usize {
    NODE_Y + 36 + 2 * 92
}

/// The left edge of a node's column.
fn left(position: usize) -> usize {
    GAP + position * (COLUMN + GAP)
}

fn outside(page: &mut Page, site: &Site, middle: usize) {
    let addresses = &site.cluster.outside().addresses;
    page.line((middle, OUTSIDE_Y + 76), (middle, UNDERLAY_Y - 16));
    let corner = (middle - 130, OUTSIDE_Y);
    page.boxed(corner, (260, 76), "#fdebd0", "outside host", addresses);
    let lines: [&str; 0] = [];
    let corner = (middle - 130, ROUTER_Y);
    let title = "router (knows no pod)";
    page.boxed(corner, (260, 48), "#fdebd0", title, &lines);
    for segment in [Segment::A, Segment::B] {
        let Some((start, end)) = bar(site, segment) else {
            continue;
        };
        let (corner, size) = ((start, UNDERLAY_Y), (end - start, BAR));
        let name = segment_name(segment);
        let (v4, v6) = name.split_once("  ").unwrap_or((name, ""));
        page.boxed(corner, size, "#d5dbdb", v4, &[v6]);
        let port = port((start, end), middle);
        page.line((middle, UNDERLAY_Y - 16), (port, UNDERLAY_Y - 16));
        page.line((port, UNDERLAY_Y - 16), (port, UNDERLAY_Y));
    }
}

/// Both ends of what stands for a segment; `None` when no node is in it.
fn bar(site: &Site, segment: Segment) -> Option<(usize, usize)> {
    let nodes = site.nodes().iter().enumerate();
    let mut there = nodes.filter(|(_, node)| node.segment() == segment);
    let first = there.next()?.0;
    let last = there.next_back().map_or(first, |(last, _)| last);
    Some((left(first), left(last) + COLUMN))
}

/// Where the router's cable meets a segment: right of its name.
fn port((start, end): (usize, usize), middle: usize) -> usize {
    middle.clamp(start + 6 * GAP, end - 2 * GAP)
}

fn column(page: &mut Page, site: &Site, pods: &Pods, position: usize, node: &Node, ways: &[Way]) {
    let (x, bridge_y) = (left(position), bridge_y());
    let (inner, centre) = (x + GAP, x + COLUMN / 2);
    let height = bridge_y + 72 + GAP - NODE_Y;
    let lines: [&str; 0] = [];
    page.line((centre, UNDERLAY_Y + BAR), (centre, NODE_Y + 36));
    page.boxed(
        (x, NODE_Y),
        (COLUMN, height),
        "#f4f6f8",
        node.name(),
        &lines,
    );
    let corner = (inner, NODE_Y + 36);
    page.boxed(corner, (BOX, 72), "#d6eaf8", "eth0", node.addresses());
    page.line((centre, NODE_Y + 108), (centre, NODE_Y + 128));
    let (title, lines) = if site.tunnel().is_some() {
        let around = encapsulation(ways).unwrap_or_default();
        (TUNNEL, [tunnel_addresses(node), around])
    } else {
        let via = "via that node's address".to_owned();
        ("routes", ["each other node's pods".to_owned(), via])
    };
    page.boxed((inner, NODE_Y + 128), (BOX, 72), "#fadbd8", title, &lines);
    page.line((centre, NODE_Y + 200), (centre, bridge_y));
    let gateways = pods.on(position).next().map(|pod| pod.gateways.clone());
    let gateways = gateways.unwrap_or_default();
    page.boxed((inner, bridge_y), (BOX, 72), "#d5f5e3", BRIDGE, &gateways);
    let end = pod_y(site.args.pods - 1) + 20;
    page.line((inner, bridge_y + 36), (x + CABLES, bridge_y + 36));
    page.line((x + CABLES, bridge_y + 36), (x + CABLES, end));
    for (row, pod) in pods.on(position).enumerate() {
        let y = pod_y(row);
        page.line((x + CABLES, y + 20), (inner, y + 20));
        let mut lines: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!("port {}", pod.port));
        page.boxed((inner, y), (BOX, POD_HEIGHT), "#e8daef", &pod.name, &lines);
    }
}

fn pod_y(row: usize) -> usize {
    bridge_y() + 72 + 2 * GAP + row * (POD_HEIGHT + GAP)
}

/// From the first pod of the first node to the first of the last.
fn packet(page: &mut Page, site: &Site, middle: usize) {
    let last = left(site.nodes().len() - 1) + LANE;
    let first = left(0) + LANE;
    let (pod, underlay) = (pod_y(0) + 20, UNDERLAY_Y + BAR - 12);
    let mut points = vec![(first, pod), (first, underlay)];
    let bars = [Segment::A, Segment::B].map(|segment| bar(site, segment));
    if let [Some(near), Some(far)] = bars {
        let (router, corner) = (ROUTER_Y + 34, UNDERLAY_Y - 16);
        let (up, down) = (port(near, middle) - 8, port(far, middle) + 8);
        points.extend([(up, underlay), (up, corner), (middle - 8, corner)]);
        points.extend([
            (middle - 8, router),
            (middle + 8, router),
            (middle + 8, corner),
        ]);
        points.extend([(down, corner), (down, underlay)]);
    }
    points.extend([(last, underlay), (last, pod)]);
    page.way(&points, "#c0392b");
}
