//! The status as Prometheus reads it (text format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use crate::process::Usage;
use crate::status::Status;

/// The format's `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics. `drops` are packets that the filter refused, by reason, where there is a filter.
pub fn render(status: &Status, drops: &BTreeMap<&'static str, u64>, usage: &Usage) -> String {
    let mut text = Text(String::new());
    let readiness = status.readiness();
    text.info(
        "cni_agent_build_info",
        "The agent's version.",
        &[("version", env!("CARGO_PKG_VERSION"))],
    );
    let gauges: [(&str, &str, f64); 10] = [
        (
            "ready",
            "Whether this node is connected.",
            flag(readiness.is_ready()),
        ),
        (
            "in_sync",
            "Whether the source has told of all nodes.",
            flag(status.in_sync),
        ),
        (
            "source_connected",
            "Whether the source can be reached.",
            flag(status.away.is_none()),
        ),
        (
            "source_rejected",
            "Whether the source holds what cannot be used.",
            flag(status.rejected.is_some()),
        ),
        ("peers", "Other nodes.", count(status.peers)),
        (
            "peers_unreachable",
            "Other nodes that cannot be reached.",
            count(status.unreachable.len()),
        ),
        (
            "conflicts",
            "What two nodes claim.",
            count(status.conflicts.len()),
        ),
        (
            "clashes",
            "Routes of others in the way of ours.",
            count(status.clashes.len()),
        ),
        (
            "mtu_bytes",
            "The largest packet of a pod.",
            f64::from(mtu(status)),
        ),
        (
            "last_full_pass_seconds",
            "Duration of the last comparison of everything.",
            status.counts.last_full.as_secs_f64(),
        ),
    ];
    for (name, help, value) in gauges {
        text.gauge(&format!("cni_agent_{name}"), help, value);
    }
    let counts = &status.counts;
    text.counters(
        "cni_agent_changes_total",
        "Changes made in the kernel.",
        "kind",
        &counts.changes,
    );
    text.counters(
        "cni_agent_filter_drops_total",
        "Packets that the tunnel's filter refused.",
        "reason",
        drops,
    );
    for (name, help, value) in [
        (
            "drift_found",
            "What had been changed by others.",
            counts.drift_found,
        ),
        (
            "drift_repaired",
            "What of it was put right.",
            counts.drift_repaired,
        ),
        (
            "write_errors",
            "Changes that the kernel refused.",
            counts.write_errors,
        ),
        (
            "full_passes",
            "Comparisons of everything.",
            counts.full_passes,
        ),
        ("updates", "Batches of changed nodes.", counts.updates),
        (
            "file_errors",
            "Files for plugins that could not be written.",
            counts.file_errors,
        ),
    ] {
        text.counter(&format!("cni_agent_{name}_total"), help, value);
    }
    text.0.push_str(&counts.lag.render(
        "cni_agent_event_to_kernel_seconds",
        "From a node's change, as the source told of it, to its end in the kernel.",
    ));
    text.0.push_str(&counts.repair.render(
        "cni_agent_repair_seconds",
        "From the first sign that something had been changed to the end of the repair.",
    ));
    process(&mut text, usage);
    text.0
}

/// Under the names that all exporters use.
fn process(text: &mut Text, usage: &Usage) {
    text.gauge(
        "process_resident_memory_bytes",
        "Memory in use.",
        bytes(usage.resident_kib),
    );
    text.gauge(
        "process_resident_memory_max_bytes",
        "The most memory that was in use.",
        bytes(usage.peak_kib),
    );
    text.counter(
        "process_cpu_seconds_total",
        "Processor time.",
        usage.cpu.as_secs_f64(),
    );
    text.gauge(
        "process_open_fds",
        "Open file descriptors.",
        count(usage.descriptors),
    );
}

fn mtu(status: &Status) -> u32 {
    status
        .connection
        .as_ref()
        .map_or(0, |connection| connection.mtu)
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn count(value: usize) -> f64 {
    u32::try_from(value).map_or(f64::MAX, f64::from)
}

fn bytes(kib: u64) -> f64 {
    u32::try_from(kib).map_or(f64::MAX, |kib| f64::from(kib) * 1024.0)
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string never fails.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter");
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &BTreeMap<&'static str, u64>,
    ) {
        self.head(name, help, "counter");
        for (value, count) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{}\"}} {count}", escaped(value));
        }
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.head(name, help, "gauge");
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let _ = writeln!(self.0, "{name}{{{}}} 1", labels.join(","));
    }
}

/// A label's value.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_sample_has_its_type_before_it_and_a_number_behind_it() {
        let mut status = Status {
            peers: 9_999,
            in_sync: true,
            ..Status::default()
        };
        status.counts.changes.insert("route", 12);
        status.counts.lag.observe(Duration::from_millis(1));
        let drops = BTreeMap::from([("no peer \"x\"", 3)]);
        let usage = Usage {
            resident_kib: 5000,
            peak_kib: 6000,
            cpu: Duration::from_millis(120),
            descriptors: 11,
        };
        let text = render(&status, &drops, &usage);
        for line in [
            "cni_agent_peers 9999",
            "cni_agent_in_sync 1",
            "cni_agent_ready 0",
            "cni_agent_source_connected 1",
            "cni_agent_changes_total{kind=\"route\"} 12",
            "cni_agent_filter_drops_total{reason=\"no peer \\\"x\\\"\"} 3",
            "cni_agent_event_to_kernel_seconds_count 1",
            "process_resident_memory_bytes 5120000",
            "process_cpu_seconds_total 0.12",
            &format!(
                "cni_agent_build_info{{version=\"{}\"}} 1",
                env!("CARGO_PKG_VERSION")
            ),
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is missing in\n{text}"
            );
        }
        let mut known = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                known = rest.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(known), "{line} stands below {known}");
                assert!(
                    line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(),
                    "{line}"
                );
            }
        }
    }
}
