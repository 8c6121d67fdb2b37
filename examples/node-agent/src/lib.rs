//! The node agent: keeps a node connected with its cluster.
//!
//! ```text
//!   source of nodes ──► View ──────► changes ─┐
//!                                             ├─► Pace: when? ──► Programmer: the engine of cni_core::fabric ──► kernel
//!   kernel events ────► does it concern us? ──┘                        │
//!   signals, sweep, retries ──► ┘                                      └──► Status ──► log, /readyz, /metrics, state files
//! ```
//!
//! * Nothing is changed before the source has told of all nodes, and nothing is changed by stopping: starting, stopping and
//!   being killed are not noticed by traffic.
//! * While the source is away, or holds what cannot be used, what was known stays in force, and is repaired.
//! * A node that is not in the cluster any more keeps what it has; `--cleanup` removes it.
//! * Idle, the agent waits for the next sweep and uses no processor time.
//!
//! All runs on one thread. What is decided when ([`pace`]) is pure; who does it are traits ([`programmer`], and the sources
//! and monitors of `cni_core`).

pub mod agent;
pub mod args;
pub mod connector;
pub mod drops;
pub mod files;
pub mod histogram;
pub mod http;
mod limit;
mod luck;
pub mod metrics;
pub mod news;
pub mod notify;
pub mod pace;
mod pending;
pub mod process;
pub mod programmer;
pub mod publish;
pub mod run;
pub mod setup;
pub mod signals;
pub mod site;
pub mod status;
pub mod subnet_env;
