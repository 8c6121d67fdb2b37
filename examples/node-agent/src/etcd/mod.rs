//! etcd as the source of nodes, and as the place where a node gets its prefix.
//!
//! ```text
//!                    ┌── Client: two connections, HTTP and JSON ──► etcd
//!   EtcdSource ──► Session ──► Table (pure): what is there, what of it may be told
//!        │           └── Member: this node's claims, its entry, its leases
//!        ▼                  └──► Tenure: may new pods be attached? ──► agent ──► plugins
//!      events
//! ```
//!
//! What operators have to know is in [`cni_core::manual::etcd`].

pub mod api;
pub mod client;
pub mod config;
pub mod flannel;
mod join;
pub mod layout;
mod lease;
pub mod leave;
pub mod list;
pub mod member;
pub mod ranges;
mod session;
mod source;
pub mod table;

pub use config::EtcdConfig;
pub use source::EtcdSource;
