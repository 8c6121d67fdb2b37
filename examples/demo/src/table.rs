//! Ways that packets went, as a table.

use std::fmt;
use std::time::Duration;

/// A row of the table: a kind of way, in one family.
pub(crate) struct Way {
    pub(crate) name: String,
    pub(crate) round_trips: Vec<Duration>,
    pub(crate) seen_as: Option<String>,
}

impl Way {
    pub(crate) fn median(&self) -> Duration {
        let mut sorted = self.round_trips.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// Writes a row for each way, below a row of headings.
pub(crate) fn write(ways: &[Way], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let width = ways.iter().map(|way| way.name.chars().count()).max();
    let width = width.unwrap_or_default().max(22);
    let heads = ["way", "packets", "first", "median", "slowest"];
    let [way, packets, first, median, slowest] = heads;
    writeln!(
        f,
        "{way:<width$} {packets:>8} {first:>10} {median:>10} {slowest:>10}   seen as"
    )?;
    for way in ways {
        let first = way.round_trips.first().copied().unwrap_or_default();
        let slowest = way.round_trips.iter().max().copied().unwrap_or_default();
        writeln!(
            f,
            "{:<width$} {:>8} {:>10} {:>10} {:>10}   {}",
            way.name,
            format!("{0}/{0}", way.round_trips.len()),
            milliseconds(first),
            milliseconds(way.median()),
            milliseconds(slowest),
            way.seen_as.as_deref().unwrap_or("")
        )?;
    }
    Ok(())
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
