//! Elements that one attachment alone may have.

use crate::error::{Error, ErrorKind, Result};
use crate::host::firewall::{Element, Table};
use crate::spec::Mark;

use super::PlaceState;
use super::diff::Output;

/// The claim as it must be: what bears the same mark is replaced, what bears another is in the way.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] when somebody else has it, naming the holder.
pub(super) fn claim(
    table: &Table,
    set: &str,
    element: &Element,
    (what, state): (&str, &PlaceState),
    out: &mut Output<'_>,
) -> Result<()> {
    let key = (table.clone(), set.to_owned(), element.key.clone());
    match state.elements.get(&key) {
        Some(found) if found == element => {}
        Some(found) if found.comment != element.comment => return Err(taken(what, found)),
        Some(found) => {
            let reason = "has another value";
            out.element(table, set, element, Some(found), reason);
        }
        None => out.element(table, set, element, None, "is missing"),
    }
    Ok(())
}

/// Says who has what was asked for.
pub(crate) fn taken(what: &str, found: &Element) -> Error {
    let mark = found.comment.as_deref().and_then(Mark::parse);
    let holder = match &mark {
        Some(mark) => format!("attachment {}", mark.as_str().trim_start_matches("cni:")),
        None => "an element without a mark".to_owned(),
    };
    Error::new(
        ErrorKind::InvalidConfig,
        format!("{what} is taken by {holder} already"),
    )
}
