//! Elements whose time is over, rather than deleted ones.
//!
//! What a transaction has deleted is freed when no reader has it any more, and whoever closes a socket of nfnetlink waits for
//! that with the transactions of the whole namespace locked out (`nft_rcv_nl_event`): one process after another, some 12 ms
//! each. An element that is given an end frees nothing now. From the next tick of the kernel's clock on, a hundredth of a second at
//! most, no packet and no reader finds it, and the kernel frees it by itself.

use std::thread::sleep;
use std::time::Duration;

use super::batch::Batch;
use super::message::{Attributes, Writer};
use super::read_raw_element;
use super::socket::{Connection, Failure};
use super::uapi::*;
use crate::host::firewall::{Element, FirewallChange, Table};

/// More elements than this are deleted: to look at each of them costs more than one wait.
const MOST: usize = 64;
const END_MS: u64 = 1;
const BETWEEN_LOOKS: Duration = Duration::from_micros(500);
/// Ten ticks of the slowest clock that there is.
const LOOKS: usize = 200;

/// An element as the kernel has it.
pub(super) struct Lapsing<'a> {
    pub(super) table: &'a Table,
    pub(super) set: &'a str,
    wanted: &'a Element,
    attributes: Vec<u8>,
}

/// Lets the elements lapse that the changes delete, and waits until they have. `false`: this is not possible, and they have to be
/// deleted: something else is to be deleted with them, one leads to a chain, which it would hold until it is freed, one is
/// not there, their set has no timeouts, or the kernel (before 6.12) does not give an element another end than it had.
pub(super) fn instead(
    connection: &mut Connection,
    changes: &[FirewallChange],
) -> Result<bool, Failure> {
    let Some(wanted) = all_elements(changes) else {
        return Ok(false);
    };
    let mut ends = Vec::new();
    for (table, set, wanted) in wanted {
        match read_raw_element(connection, table, set, wanted)? {
            Some(attributes) if !leads_to_a_chain(&attributes) => ends.push(Lapsing {
                table,
                set,
                wanted,
                attributes,
            }),
            _ => return Ok(false),
        }
    }
    match connection.commit(&Batch::ends(&ends)) {
        Ok(()) => {}
        Err(failure) if failure.sequence == 0 => return Err(failure),
        Err(_) => return Ok(false),
    }
    for _ in 0..LOOKS {
        let mut there = Vec::new();
        for end in ends {
            match read_raw_element(connection, end.table, end.set, end.wanted)? {
                None => {}
                Some(now) if Attributes(&now).find(NFTA_SET_ELEM_TIMEOUT).is_none() => {
                    return Ok(false);
                }
                Some(_) => there.push(end),
            }
        }
        if there.is_empty() {
            return Ok(true);
        }
        ends = there;
        sleep(BETWEEN_LOOKS);
    }
    Ok(false)
}

/// The elements; `None` where something else is changed, or too many are.
fn all_elements(changes: &[FirewallChange]) -> Option<Vec<(&Table, &str, &Element)>> {
    let mut all = Vec::new();
    for change in changes {
        let FirewallChange::ElementDel {
            table,
            set,
            elements,
        } = change
        else {
            return None;
        };
        all.extend(
            elements
                .iter()
                .map(|element| (table, set.as_str(), element)),
        );
    }
    (all.len() <= MOST).then_some(all)
}

fn leads_to_a_chain(attributes: &[u8]) -> bool {
    let data = Attributes(attributes).nested(NFTA_SET_ELEM_DATA);
    data.nested(NFTA_DATA_VERDICT)
        .find(NFTA_VERDICT_CHAIN)
        .is_some()
}

impl Lapsing<'_> {
    /// The element as it is, with an end: what differs in anything else is refused by the kernel.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.nest(NFTA_LIST_ELEM, |writer| {
            for (kind, value) in Attributes(&self.attributes) {
                match kind {
                    NFTA_SET_ELEM_KEY | NFTA_SET_ELEM_DATA => {
                        writer.attribute(kind | NLA_F_NESTED, value);
                    }
                    NFTA_SET_ELEM_USERDATA => writer.attribute(kind, value),
                    _ => {}
                }
            }
            writer.be64(NFTA_SET_ELEM_TIMEOUT, END_MS);
        });
    }
}
