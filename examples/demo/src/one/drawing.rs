//! What was built, as a drawing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use crate::Result;
use crate::node::{Node, UPLINK};
use crate::pods::{BRIDGE, Pods, milliseconds};
use crate::reach::Reach;

/// A file that was opened while the host's file system was still in view.
pub(crate) struct File {
    path: PathBuf,
    file: std::fs::File,
}

impl File {
    pub(crate) fn create(path: &PathBuf) -> Result<Self> {
        let file = std::fs::File::create(path)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self {
            path: path.clone(),
            file,
        })
    }

    pub(crate) fn write(mut self, text: &str) -> Result<()> {
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        println!("drawn in {}", self.path.display());
        Ok(())
    }
}

const PER_ROW: usize = 4;
const POD_WIDTH: usize = 200;
const POD_HEIGHT: usize = 96;
const GAP: usize = 24;

pub(crate) fn draw(node: &Node, pods: &Pods, reach: &Reach) -> String {
    let columns = pods.pods.len().clamp(2, PER_ROW);
    let rows = pods.pods.len().div_ceil(PER_ROW);
    let width = columns * (POD_WIDTH + GAP) + 3 * GAP;
    let bridge_y = 296;
    let pods_y = bridge_y + 88;
    let table_y = pods_y + rows * (POD_HEIGHT + GAP) + 40;
    let height = table_y + reach.ways.len() * 20 + 30;

    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
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

    boxed(
        &mut svg,
        (GAP, 132),
        (width - 2 * GAP, table_y - 132 - 30),
        "#f4f6f8",
        "node",
        &[],
    );
    line(&mut svg, (middle, 92), (middle, 168));
    boxed(
        &mut svg,
        (middle - 130, 16),
        (260, 76),
        "#fdebd0",
        "outside host",
        &outside,
    );
    boxed(
        &mut svg,
        (middle - 130, 168),
        (260, 76),
        "#d6eaf8",
        UPLINK,
        &inside,
    );
    line(&mut svg, (middle, 244), (middle, bridge_y));
    label(
        &mut svg,
        (middle + 8, 274),
        "routed, masqueraded on the way out",
    );
    let bridge_width = width - 4 * GAP;
    boxed(
        &mut svg,
        (2 * GAP, bridge_y),
        (bridge_width, 52),
        "#d5f5e3",
        BRIDGE,
        &[gateways.join("   ")],
    );

    for (position, pod) in pods.pods.iter().enumerate() {
        let x = 2 * GAP + (position % PER_ROW) * (POD_WIDTH + GAP);
        let y = pods_y + (position / PER_ROW) * (POD_HEIGHT + GAP);
        line(
            &mut svg,
            (x + POD_WIDTH / 2, bridge_y + 52),
            (x + POD_WIDTH / 2, y),
        );
        let mut lines: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!("port {}", pod.port));
        boxed(
            &mut svg,
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
        label(&mut svg, (2 * GAP, table_y + position * 20), &text);
    }
    svg.push_str("</svg>\n");
    svg
}

fn boxed(
    svg: &mut String,
    (x, y): (usize, usize),
    (width, height): (usize, usize),
    fill: &str,
    title: &str,
    lines: &[String],
) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{fill}\" stroke=\"#566573\"/>\n\
         <text x=\"{}\" y=\"{}\" font-weight=\"bold\">{title}</text>",
        x + 12,
        y + 22
    );
    for (position, text) in lines.iter().enumerate() {
        label(svg, (x + 12, y + 42 + position * 18), text);
    }
}

fn label(svg: &mut String, (x, y): (usize, usize), text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" fill=\"#212f3d\">{text}</text>"
    );
}

fn line(svg: &mut String, (x1, y1): (usize, usize), (x2, y2): (usize, usize)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"#566573\" stroke-width=\"2\"/>"
    );
}
