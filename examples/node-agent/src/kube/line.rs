//! What a watch says, line by line.

use super::api::{Any, Event, INITIAL_EVENTS_END, Refusal};
use super::session::End;
use super::table::Table;
use crate::remote::Failure;

/// What a line of a watch was.
pub(super) enum Line {
    /// An object.
    News,
    /// Nothing but up to where all has been told.
    Bookmark,
    /// The list has been streamed.
    Listed,
}

/// Takes in a line of a watch.
pub(super) fn take(
    table: &mut Table,
    version: &mut Option<String>,
    line: &[u8],
) -> Result<Line, End> {
    let broken = |words: String| {
        End::Failed(Failure::Nonsense(format!(
            "the watch tells what makes no sense: {words}"
        )))
    };
    let event: Event<'_> =
        serde_json::from_slice(line).map_err(|error| broken(error.to_string()))?;
    let object = event.object.get();
    match &*event.kind {
        "ADDED" | "MODIFIED" | "DELETED" => {
            let record = table.layout().read(object.as_bytes()).map_err(broken)?;
            if !record.version.is_empty() {
                *version = Some(record.version.clone());
            }
            match &*event.kind {
                "DELETED" => table.delete(&record.uid),
                _ => table.put(record),
            }
            Ok(Line::News)
        }
        "BOOKMARK" => {
            let any: Any =
                serde_json::from_str(object).map_err(|error| broken(error.to_string()))?;
            let meta = any.metadata;
            if !meta.resource_version.is_empty() {
                *version = Some(meta.resource_version);
            }
            let ends = meta.annotations.get(INITIAL_EVENTS_END);
            Ok(match ends.is_some_and(|value| value == "true") {
                true => Line::Listed,
                false => Line::Bookmark,
            })
        }
        "ERROR" => {
            let refusal: Refusal =
                serde_json::from_str(object).map_err(|error| broken(error.to_string()))?;
            Err(match refusal.code {
                410 => End::Behind(refusal.to_string()),
                _ => End::Failed(Failure::Refused(format!("the watch has ended: {refusal}"))),
            })
        }
        other => Err(broken(format!(
            "an event {:?}",
            super::api::plain(other, 40)
        ))),
    }
}

/// A token of the server's as part of a query.
pub(super) fn escaped(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                all.push(byte.into())
            }
            _ => all.push_str(&format!("%{byte:02X}")),
        }
    }
    all
}
