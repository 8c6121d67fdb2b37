//! A CNI plugin's pieces: the wire format, the kernel over netlink and nftables, address management, and an engine that
//! makes an ADD all or nothing.
//!
//! Container runtimes start a CNI plugin for every pod: verb in the environment, JSON on stdin, one JSON document back.
//! Around that contract this crate puts what every plugin needs and most get wrong: validation before the first change,
//! unwinding of whatever fails, DEL that always cleans up, GC, CHECK that sees drift, and tests without root.
//!
//! # A first plugin
//!
//! ```no_run
//! # #[cfg(feature = "plugin")]
//! # mod example {
//! use cni_core::{ipam::HostLocal, plugin::Plugin};
//!
//! # pub
//! fn main() -> std::process::ExitCode {
//!     Plugin::new("host-local", env!("CARGO_PKG_VERSION")).run_ipam(HostLocal::new())
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! This is a whole `host-local`: all verbs, all versions of the specification, the reference plugin's store. Instead of
//! [`HostLocal`](ipam::HostLocal) it could serve an [`Ipam`](ipam::Ipam) of your own.
//!
//! A way of connecting pods is a [`NetworkBackend`]; its plugin's `main` says `run(MyBackend)`. The backend declares what
//! must exist, and [`attach`] makes it: see [`manual::backend`].
//!
//! # Then
//!
//! 1. [`manual::plugin`]: what happens around your code.
//! 2. [`manual::backend`]: declare links, addresses, routes and nftables elements; the engine ([`plan`]) creates, unwinds,
//!    compares and removes them.
//! 3. [`manual::testing`]: prove it on a fake kernel that fails at every write.
//! 4. [`manual::configuration`] and [`manual::pitfalls`] for those who run it.
//!
//! # Features
//!
//! A feature adds API and never changes behaviour.
//!
//! | feature | default | adds | costs |
//! |---|---|---|---|
//! | `kernel` | yes | the real kernel behind the traits of [`host`] | the rust-netlink crates, nix |
//! | `plugin` | yes | the modules `plugin` and `runtime` | a bare tokio executor, signal-hook |
//! | `io` | | `Plugin::with_io`: tokio's sockets and timers for backends | tokio's drivers (mio); 50 µs of a request that uses it |
//! | `log` | | the module `log`: `CNI_LOG` | tracing-subscriber |
//! | `testing` | | the module `testing`: fake kernel, faults, contracts | mockall |
//!
//! Without any, the wire format, the plan engine, address management and the backend trait remain: pure code, for tools.
//!
//! # Map
//!
//! | module | |
//! |---|---|
//! | [`spec`] | the wire: environment, configuration, results of all versions, errors, names |
//! | [`backend`] | the trait, and what it is asked |
//! | [`attach`] | the life of an attachment by a veth pair |
//! | [`chained`] | plugins that follow another one in a chain: published ports, firewall, bandwidth, tuning |
//! | [`plan`] | declare, diff, apply, unwind |
//! | [`cluster`] | who the other nodes are |
//! | [`fabric`] | what connects this node with them |
//! | [`node`] | what plugins that attach pods to such a node have in common |
//! | [`host`] | the kernel: one small trait for each facility, with value types of our own |
//! | [`ipam`] | addresses: `host-local` and `static` in process, any other plugin executed |
//! | [`nat`] | masquerade in nftables |
//! | [`accept`] | passing a host's own rules for forwarded packets |
//! | [`chained`] | plugins that follow another one: their whole logic |
//! | `plugin` | the process: from environment and stdin to a backend, and back |
//! | `runtime` | the other side: find configurations, run chains, keep results |
//! | `log`, `testing` | see the features |
//! | [`manual`] | the book |

pub mod accept;
pub mod attach;
pub mod backend;
mod cancel;
pub mod chained;
#[cfg(any(test, feature = "kernel", feature = "testing"))]
mod channel;
pub mod cluster;
mod error;
pub mod fabric;
pub mod host;
pub mod ipam;
#[cfg(feature = "log")]
pub mod log;
pub mod manual;
pub mod nat;
pub mod node;
pub mod plan;
#[cfg(feature = "plugin")]
pub mod plugin;
#[cfg(feature = "plugin")]
pub mod runtime;
pub mod spec;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use backend::NetworkBackend;
pub use cancel::Cancel;
pub use error::{Error, ErrorKind, Result};
pub use ipnetwork;
