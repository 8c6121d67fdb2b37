//! The Kubernetes API as the source of nodes, and as the place where a node tells the others of itself.
//!
//! ```text
//!                          ┌── Client: two connections, HTTP and JSON ──► API server
//!   KubernetesSource ──► Session ──► Table (pure): what is there, what of it may be told
//!        │                 └── Member: this node's Node, its NodeNetwork, its conditions
//!        ▼                        └──► Tenure: may new pods be attached? ──► agent ──► plugins
//!      events
//! ```
//!
//! What operators have to know is in [`cni_core::manual::kubernetes`].

pub mod access;
pub mod api;
pub mod client;
pub mod config;
mod items;
pub mod layout;
mod line;
pub mod member;
mod patches;
mod session;
mod source;
pub mod table;
pub mod time;
mod yaml;

pub use config::KubernetesConfig;
pub use source::KubernetesSource;
