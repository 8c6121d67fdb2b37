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
const COLUMN: usize = 252;
const BOX: usize = COLUMN - 2 * GAP;
const OUTSIDE_Y: usize = 16;
const ROUTER_Y: usize = 124;
const UNDERLAY_Y: usize = 204;
const NODE_Y: usize = 272;
const POD_HEIGHT: usize = 84;

/// Where the way of the packet runs in a column, from its left edge.
const LANE: usize = COLUMN - GAP - 14;

pub(super) fn draw(site: &Site, pods: &Pods, reach: &Reach, ways: &[Way]) -> Page {
    let count = site.nodes().len();
    let width = (count * (COLUMN + GAP) + GAP).max(780);
    let bridge_y = bridge_y();
    let table_y = bridge_y + 84 + site.args.pods * (POD_HEIGHT + GAP) + 48;
    let height = table_y + (reach.ways.len() + 1) * 20 + 20;
    let mut page = Page::new(width, height);
    outside(&mut page, site, width / 2);
    for (position, node) in site.nodes().iter().enumerate() {
        column(&mut page, site, pods, position, node, ways);
    }
    packet(&mut page, site);
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
    page.line((middle, OUTSIDE_Y + 76), (middle, UNDERLAY_Y));
    let corner = (middle - 130, OUTSIDE_Y);
    page.boxed(corner, (260, 76), "#fdebd0", "outside host", addresses);
    let lines: [&str; 0] = [];
    let corner = (middle - 130, ROUTER_Y);
    let title = "router (knows no pod)";
    page.boxed(corner, (260, 36), "#fdebd0", title, &lines);
    for segment in [Segment::A, Segment::B] {
        let positions = site.nodes().iter().enumerate();
        let positions: Vec<usize> = positions
            .filter(|(_, node)| node.segment() == segment)
            .map(|(position, _)| position)
            .collect();
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else {
            continue;
        };
        let (start, end) = (left(*first), left(*last) + COLUMN);
        let corner = (start, UNDERLAY_Y);
        page.boxed(
            corner,
            (end - start, 32),
            "#d5dbdb",
            segment_name(segment),
            &lines,
        );
        let port = middle.clamp(start + GAP, end - GAP);
        page.line((middle, UNDERLAY_Y - 16), (port, UNDERLAY_Y - 16));
        page.line((port, UNDERLAY_Y - 16), (port, UNDERLAY_Y));
    }
}

fn column(page: &mut Page, site: &Site, pods: &Pods, position: usize, node: &Node, ways: &[Way]) {
    let (x, bridge_y) = (left(position), bridge_y());
    let (inner, centre) = (x + GAP, x + COLUMN / 2);
    let height = bridge_y + 72 + GAP - NODE_Y;
    let lines: [&str; 0] = [];
    page.line((centre, UNDERLAY_Y + 32), (centre, NODE_Y + 36));
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
    for (row, pod) in pods.on(position).enumerate() {
        let y = pod_y(row);
        let above = if row == 0 { bridge_y + 72 } else { y - GAP };
        page.line((centre, above), (centre, y));
        let mut lines: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!("port {}", pod.port));
        page.boxed(
            (inner, y),
            (BOX, POD_HEIGHT + 8),
            "#e8daef",
            &pod.name,
            &lines,
        );
    }
}

fn pod_y(row: usize) -> usize {
    bridge_y() + 72 + 2 * GAP + row * (POD_HEIGHT + GAP)
}

/// From the first pod of the first node to the first of the last.
fn packet(page: &mut Page, site: &Site) {
    let last = left(site.nodes().len() - 1) + LANE;
    let first = left(0) + LANE;
    let (pod, underlay) = (pod_y(0) + 20, UNDERLAY_Y + 22);
    let mut points = vec![(first, pod), (first, underlay)];
    if site.args.router {
        let (up, router) = (UNDERLAY_Y - 8, left(site.nodes().len() - 1) - GAP / 2);
        points.extend([
            (router - GAP, underlay),
            (router - GAP, up),
            (router + GAP, up),
        ]);
        points.push((router + GAP, underlay));
    }
    points.extend([(last, underlay), (last, pod)]);
    page.way(&points, "#c0392b");
}
