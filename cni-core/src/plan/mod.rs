//! Declare, diff, apply: the engine that every backend is built on.
//!
//! A backend declares ([`Desired`]) what must exist; [`observe`] reads what does; [`diff`] is a pure function of the
//! two; [`apply`] is the only writer, keeps a journal and unwinds.

mod apply;
mod change;
mod desired;
mod diff;
mod diff_claim;
mod diff_firewall;
mod diff_link;
mod diff_traffic;
mod diff_vlan;
mod diff_vxlan;
mod establish;
mod observe;

pub use apply::{Handles, Journal, apply, remove};
pub use change::{Change, Place, Plan, Step};
pub use desired::{Declared, Desired, LinkSpec, Object, Owner};
pub use diff::diff;
pub(crate) use diff::same_value;
pub(crate) use diff_claim::taken;
pub use establish::{Establishing, converge, establish};
pub(crate) use establish::{Planning, under_lock};
pub use observe::{Observed, PlaceState, Scope, observe};
