//! The pieces of a CNI plugin.

pub mod backend;
mod cancel;
mod error;
pub mod host;
pub mod ipam;
pub mod plan;
#[cfg(feature = "plugin")]
pub mod runtime;
pub mod spec;

pub use backend::NetworkBackend;
pub use cancel::Cancel;
pub use error::{Error, ErrorKind, Result};
pub use ipnetwork;
