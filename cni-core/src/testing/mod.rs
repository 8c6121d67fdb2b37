//! Test doubles, fault injection and the contracts of this crate's traits as functions that anyone can call.
//!
//! * [`MockNetlink`], [`MockFirewall`], [`MockSysctl`] and [`MockIpam`] answer call by call: "this errno at this call",
//!   and order.
//! * [`FakeKernel`] is a stateful model of several network namespaces with the kernel's own errnos: for everything
//!   else. [`FakeIpam`] is the same for addresses.
//! * [`ScriptedPeers`] tells of a cluster's nodes what a test wants it to.
//! * [`Faults`] and [`Faulty`] make the n-th write fail, or kill the process at it, on the fake and on the real kernel.
//! * [`Impatient`] makes waits for the host's lock end at once.
//! * [`snapshot`] is what a namespace holds, as text: "the state afterwards is the state before" is one `assert_eq!`.
//! * [`noop`] is a plugin that does what its configuration says, for tests of what runs plugins.
//! * [`conformance`] holds the contracts.

pub mod conformance;
mod fake;
mod faults;
mod faulty;
mod impatient;
mod ipam;
mod mock;
pub mod noop;
mod peers;
mod snapshot;

pub use fake::FakeKernel;
pub use faults::{Fault, Faults};
pub use faulty::Faulty;
pub use impatient::Impatient;
pub use ipam::FakeIpam;
pub use mock::{MockFirewall, MockIpam, MockNetlink, MockSysctl};
pub use peers::{PeerScript, ScriptedPeers};
pub use snapshot::{snapshot, snapshot_sandbox};
