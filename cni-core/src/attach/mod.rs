//! The life of an attachment, for any backend that attaches containers by a veth pair: reserve addresses, establish,
//! wait, seal; detach; compare; collect.
//!
//! A backend says what must exist ([`Wiring::declare`], pure) and what is left to do once it does ([`Wiring::finish`]);
//! everything that makes a failed ADD a no-op, a repeated DEL a success and a CHECK complete is here, once.
//!
//! The host's end of the pair must be named [`Attachment::host_name`](crate::spec::Attachment::host_name), elements of
//! nftables sets must bear [`Attachment::mark`](crate::spec::Attachment::mark) as their comment.

mod add;
mod check;
mod del;
mod gc;
pub mod inside;
pub mod ready;

pub use add::{add, seal};
pub(crate) use check::of_own_interface;
pub use check::{check, of_prev_result};
pub(crate) use del::elements_in;
pub use del::{Elements, del, del_plan};
pub use gc::gc;
pub(crate) use gc::{deletion_of_links, is_stale, stale_in};

use async_trait::async_trait;

use crate::backend::Context;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::MacAddr;
use crate::plan::{Desired, Handles};
use crate::spec::AddResult;
use crate::spec::names::hash128;

/// How a backend wires one attachment.
#[async_trait]
pub trait Wiring: Send + Sync {
    /// Whether addresses are reserved; a bare layer 2 has none.
    fn uses_ipam(&self) -> bool {
        true
    }

    /// What must exist, and the result that says so, given what address management answered. Pure.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when addresses and configuration do not go together.
    fn declare(&self, addresses: AddResult) -> Result<Declaration>;

    /// Called once everything exists: waits until it works, announces it, and fills in what only the kernel knows. On
    /// an error everything is taken back.
    ///
    /// # Errors
    /// Whatever keeps the attachment from being usable.
    async fn finish(
        &self,
        handles: &Handles<'_>,
        result: &mut AddResult,
        cancel: &Cancel,
    ) -> Result<()>;
}

/// A hardware address that is a pure function of the parts: unicast and locally administered (IEEE 802).
///
/// It is as unique as the parts are: container IDs are unique, so that containers' addresses are; and a plan that names
/// it is the same each time it is made.
pub fn derived_mac(parts: &[&str]) -> MacAddr {
    let [a, b, c, d, e, f, ..] = hash128(parts).to_le_bytes();
    MacAddr([(a & 0xfc) | 0x02, b, c, d, e, f])
}

/// What must exist, and the result that says so.
#[derive(Debug, Clone)]
pub struct Declaration {
    /// What must exist.
    pub desired: Desired,
    /// The result for the runtime.
    pub result: AddResult,
}

pub(crate) fn host_handles<'a>(cx: &Context<'a>) -> Handles<'a> {
    Handles {
        host: cx.host,
        sandbox: None,
    }
}

/// A caller's mistake that must not pass for something done: DEL has a plan of its own, GC has none.
pub(crate) fn not_in_a_dry_run(verb: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("{verb} was asked to act in a dry run, which must change nothing"),
    )
}
