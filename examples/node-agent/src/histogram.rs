//! Durations, counted by how long they were.

use std::time::Duration;

/// Upper bounds in microseconds, with their text in seconds.
const BOUNDS: [(u64, &str); 13] = [
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
];

/// Durations, counted by how long they were.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// How many were at most as long as each bound and longer than the one before.
    counts: [u64; BOUNDS.len()],
    all: u64,
    sum: Duration,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&mut self, duration: Duration) {
        let bucket = BOUNDS
            .iter()
            .zip(&mut self.counts)
            .find(|((bound, _), _)| duration <= Duration::from_micros(*bound));
        if let Some((_, count)) = bucket {
            *count += 1;
        }
        self.all += 1;
        self.sum += duration;
    }

    /// Lines of a Prometheus histogram, in seconds.
    pub fn render(&self, name: &str, help: &str) -> String {
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
        let mut sum = 0;
        for ((_, bound), count) in BOUNDS.iter().zip(self.counts) {
            sum += count;
            text.push_str(&format!("{name}_bucket{{le=\"{bound}\"}} {sum}\n"));
        }
        let (all, seconds) = (self.all, self.sum.as_secs_f64());
        text.push_str(&format!(
            "{name}_bucket{{le=\"+Inf\"}} {all}\n{name}_sum {seconds}\n{name}_count {all}\n"
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_last_holds_all() {
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_micros(250));
        histogram.observe(Duration::from_millis(3));
        histogram.observe(Duration::from_millis(3));
        histogram.observe(Duration::from_secs(9));
        let text = histogram.render("lag", "Time.");
        for line in [
            "# TYPE lag histogram",
            "lag_bucket{le=\"0.00025\"} 1",
            "lag_bucket{le=\"0.0025\"} 1",
            "lag_bucket{le=\"0.005\"} 3",
            "lag_bucket{le=\"5\"} 3",
            "lag_bucket{le=\"+Inf\"} 4",
            "lag_sum 9.00625",
            "lag_count 4",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
