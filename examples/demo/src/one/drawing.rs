//! What was built, as a drawing.

use super::node::{Node, UPLINK};
use super::pods::{BRIDGE, Pods};
use super::reach::Reach;
use crate::svg::{GAP, Page};
use crate::table::milliseconds;

const PER_ROW: usize = 4;
const POD_WIDTH: usize = 200;
const POD_HEIGHT: usize = 96;

pub(crate) fn draw(node: &Node, pods: &Pods, reach: &Reach) -> Page {
    let columns = pods.pods.len().clamp(2, PER_ROW);
    let rows = pods.pods.len().div_ceil(PER_ROW);
    let width = columns * (POD_WIDTH + GAP) + 3 * GAP;
    let bridge_y = 296;
    let pods_y = bridge_y + 88;
    let table_y = pods_y + rows * (POD_HEIGHT + GAP) + 40;
    let height = table_y + reach.ways.len() * 20 + 30;

    let mut page = Page::new(width, height);
    let middle = width / 2;
    let outside: Vec<String> = node
        .outside_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let inside: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
    let gateways = pods
        .pods
        .first()
        .map(|pod| pod.gateways.clone())
        .unwrap_or_default();

    page.boxed(
        (GAP, 132),
        (width - 2 * GAP, table_y - 132 - 30),
        "#f4f6f8",
        "node",
        &[] as &[&str],
    );
    page.line((middle, 92), (middle, 168));
    page.boxed(
        (middle - 130, 16),
        (260, 76),
        "#fdebd0",
        "outside host",
        &outside,
    );
    page.boxed((middle - 130, 168), (260, 76), "#d6eaf8", UPLINK, &inside);
    page.line((middle, 244), (middle, bridge_y));
    page.label((middle + 8, 274), "routed, masqueraded on the way out");
    let bridge_width = width - 4 * GAP;
    page.boxed(
        (2 * GAP, bridge_y),
        (bridge_width, 52),
        "#d5f5e3",
        BRIDGE,
        &[gateways.join("   ")],
    );

    for (position, pod) in pods.pods.iter().enumerate() {
        let x = 2 * GAP + (position % PER_ROW) * (POD_WIDTH + GAP);
        let y = pods_y + (position / PER_ROW) * (POD_HEIGHT + GAP);
        page.line((x + POD_WIDTH / 2, bridge_y + 52), (x + POD_WIDTH / 2, y));
        let mut lines: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!("port {}", pod.port));
        page.boxed(
            (x, y),
            (POD_WIDTH, POD_HEIGHT),
            "#e8daef",
            &pod.name,
            &lines,
        );
    }
    for (position, way) in reach.ways.iter().enumerate() {
        let seen = way
            .seen_as
            .as_ref()
            .map(|seen| format!(", seen as {seen}"))
            .unwrap_or_default();
        let text = format!(
            "{}: {} median round trip{seen}",
            way.name,
            milliseconds(way.median())
        );
        page.label((2 * GAP, table_y + position * 20), &text);
    }
    page
}
