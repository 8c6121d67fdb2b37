//! Limits of an attachment's traffic, by token buckets both ways, as the reference's `bandwidth` plugin has them.
//!
//! What goes into the container is held back where it leaves the host: at the root of the host's end of the pair. What comes
//! out of it cannot be held back where it arrives, for what has arrived has been sent. It is led through a device of its own, an
//! `ifb`, and held back on its way out of that, before it goes on as if it had just come in:
//!
//! ```text
//! container eth0 ── vethrnnixnsgtcl ── bridge
//!                    root: tbf c41:            into the container (`ingressRate`)
//!                    ingress: all to ─┐
//!                    ifbrnnixnsgtcl ──┘
//!                    root: tbf c41:            out of the container (`egressRate`)
//! ```
//!
//! Both are on the host's side, where a container with all capabilities in its own namespace cannot reach them.
//!
//! The `ifb` has a name that follows from network, container and interface, and the attachment's mark as its alias. Disciplines
//! and filters are known by a handle and a preference of ours.

mod backend;
mod config;
mod desired;

pub use backend::BandwidthPlugin;
pub use config::{BandwidthConfig, Limit};
pub use desired::{desired, limits_to_remove, probe};
