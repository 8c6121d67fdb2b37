//! What the tests on the real kernel stand on.
//!
//! A test binary that uses this crate has `harness = false` and this `main`:
//!
//! ```no_run
//! fn a_fresh_namespace_has_no_route() {
//!     let pod = cni_testkit::Pod::new("pod");
//!     assert!(!cni_testkit::ping(&pod, "192.0.2.1").is_ok());
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     cni_testkit::run(&cni_testkit::tests![a_fresh_namespace_has_no_route])
//! }
//! ```
//!
//! [`run`] understands libtest's arguments. Every test runs in a process of its own, inside network and mount namespaces
//! of its own (and, for an ordinary user, a user namespace in which it is root), with empty file systems over `/run` and
//! `/var/lib`. It may therefore do to the kernel what it likes, use any names, and leave anything behind: all of it
//! ends with the process, and tests run beside each other without meeting. A function that is not listed in [`tests!`]
//! is dead code, which clippy reports.
//!
//! A test asserts by panicking. One that needs what the machine lacks calls [`skip`] or [`require`]: it is then reported
//! as skipped, and as failed when the environment says `CI=true`.

mod base64;
mod binaries;
mod capture;
pub mod cluster;
mod counters;
mod echo;
pub mod etcd;
pub mod firewalld;
mod flow;
mod killed;
pub mod kube;
mod namespaces;
mod netlink;
mod ping;
mod plugin;
mod pod;
mod process;
mod runner;
mod snapshot;
mod turns;

pub use binaries::{cargo, reference_plugin, workspace_plugin, workspace_plugin_dir};
pub use capture::{Capture, Frame, NeighbourNews};
pub use counters::{counted, counters};
pub use echo::{TcpEcho, UdpEcho};
pub use flow::Flow;
pub use killed::{Fate, Moment, at_every_moment};
pub use namespaces::{Refused, enter};
pub use ping::{Ping, ping};
pub use plugin::{Chain, Failure, Invocation, Outcome, Running};
pub use pod::Pod;
pub use process::Process;
pub use runner::{Test, is_test_of_its_own, require, run, run_with_plugins, skip};
pub use snapshot::{Snapshot, sysctl};
pub use turns::Turns;
