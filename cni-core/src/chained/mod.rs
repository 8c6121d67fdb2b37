//! Plugins that follow another one in a chain: they add to an attachment what its main plugin has made.
//!
//! Each gets the result of the plugin before it (`prevResult`) and passes it on. What it makes bears the attachment's mark,
//! so that DEL needs neither `prevResult` nor `runtimeConfig`, and GC finds what a lost DEL has left.

pub mod bandwidth;
pub mod firewall;
mod flow;
pub mod portmap;
pub mod tuning;

pub use flow::{add, addresses, elements_of, previous, stale};
