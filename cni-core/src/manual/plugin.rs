//! Write a plugin.
//!
//! A plugin is a program that a runtime starts once for each request: the verb is in the environment, the configuration
//! on stdin, the answer on stdout. [`Plugin::run`] is all of that; `main` is one line.
//!
//! ```no_run
//! # use cni_core::{NetworkBackend, Result, backend::*, plugin::Plugin};
//! # #[derive(Debug)] struct Wires;
//! # #[async_trait::async_trait] impl NetworkBackend for Wires {
//! #   async fn add(&self, _: &Context<'_>, _: &AddRequest<'_>) -> Result<Added> { unimplemented!() }
//! #   async fn del(&self, _: &Context<'_>, _: &DelRequest<'_>) -> Result<()> { Ok(()) }
//! #   async fn check(&self, _: &Context<'_>, _: &CheckRequest<'_>) -> Result<()> { Ok(()) }
//! # }
//! fn main() -> std::process::ExitCode {
//!     Plugin::new("wires", env!("CARGO_PKG_VERSION"))
//!         .about("Connects pods by wires.")
//!         .capabilities(["mac"])
//!         .run(Wires)
//! }
//! ```
//!
//! # A request, step by step
//!
//! 1. Without `CNI_COMMAND` it introduces itself on stderr and ends with 0.
//! 2. The verb and the variables that it needs are checked; all that are missing are named at once (code 4). VERSION is
//!    answered here.
//! 3. Stdin is read and parsed (codes 5, 6, 7); SIGTERM and SIGINT from now on ask the request to stop.
//! 4. Versions are compared as exact strings (code 1). Keys that stand twice are refused, except by DEL and GC.
//! 5. For ADD: `CNI_NETNS` must not be the plugin's own namespace (code 8), and is opened. Nothing has been touched.
//! 6. The backend's part.
//! 7. The result goes to stdout in one write. If that fails, the ADD is undone.
//! 8. The backend is told to [`seal`](crate::NetworkBackend::seal) the attachment. What is not sealed is the leftover of
//!    an ADD that died, and the next ADD clears it away.
//!
//! # What is yours
//!
//! * The `add`, `del` and `check` of a [`NetworkBackend`](crate::NetworkBackend); `gc` and `status` where there is
//!   something to do. See [`backend`](super::backend).
//! * Your keys: [`NetworkConfig::object`] gives a view on the configuration's JSON that names the path of a wrong value
//!   in its error. Do not parse with a struct of `serde`: numbers of foreign keys would be changed on their way to a
//!   delegate.
//! * Your errors: an [`Error`](crate::Error) of the [`ErrorKind`](crate::ErrorKind) that tells the runtime what to do;
//!   [`ErrorKind::TryAgain`](crate::ErrorKind::TryAgain) if waiting helps, 100 and above for your own.
//!
//! # Address management plugins
//!
//! [`Plugin::run_ipam`] serves an [`Ipam`](crate::ipam::Ipam) instead. It opens neither the kernel nor a namespace, and
//! needs no privilege.
//!
//! # Executor
//!
//! Requests run on a bare single-threaded executor without timers and sockets, because nothing in this crate needs them
//! and setting them up costs some 50 microseconds. A backend that talks to a daemon enables the feature `io` and calls
//! [`Plugin::with_io`].
//!
//! # Panics
//!
//! A panic is answered with code 999. In ADD the backend's `del` runs before that. It is a safety net and no way of
//! reporting errors; build with unwinding on (`panic = "abort"` would turn the answer into an empty stdout).
//!
//! [`Plugin::run`]: crate::plugin::Plugin::run
//! [`Plugin::run_ipam`]: crate::plugin::Plugin::run_ipam
//! [`Plugin::with_io`]: crate::plugin::Plugin::with_io
//! [`NetworkConfig::object`]: crate::spec::NetworkConfig::object
