//! The pieces of a CNI plugin.

pub mod attach;
pub mod backend;
mod cancel;
mod error;
pub mod host;
pub mod ipam;
#[cfg(feature = "log")]
pub mod log;
pub mod nat;
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
