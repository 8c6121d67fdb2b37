//! Pods on a Linux bridge: what the reference `bridge` plugin does, under the same keys.
//!
//! ```text
//!   container            host
//!  ┌─────────┐    veth   ┌────────────────────────────┐
//!  │  eth0 ──┼───────────┼── vethXXXXXXXXXXX ┐        │
//!  └─────────┘           │                  cni0 ─────┼── routes, masquerade ── uplink
//!  ┌─────────┐           │   (the gateway's  │        │
//!  │  eth0 ──┼───────────┼── address)  ──────┘        │
//!  └─────────┘           └────────────────────────────┘
//! ```
//!
//! [`Bridge`] is the backend; [`BridgeConfig`] is what it reads; [`desired`] is what it declares, as pure functions.
//!
//! # What it keeps on the host
//!
//! * the bridge, with an explicit hardware address that never moves, and the alias `cni:NETWORK` where this backend made
//!   it; a bridge that was there before keeps its alias, and has its own hardware address written back where that would
//!   move with its ports, which pins it;
//! * one end of a pair per attachment, by a name that is derived from the attachment, its alias the attachment's mark;
//! * elements of nftables sets in the tables `inet cni_masquerade` ([`cni_core::nat`]) and `bridge cni_spoof`, the mark
//!   as their comment; the number of rules does not grow with the number of attachments.

mod backend;
mod config;
pub mod desired;
mod facts;
mod spoof;

pub use backend::Bridge;
pub use config::{BridgeConfig, VlanRange};
