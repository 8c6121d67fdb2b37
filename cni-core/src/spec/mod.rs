//! The wire format of CNI 0.1.0 to 1.1.0: names, versions, environment, configuration, results, errors. No I/O.

pub mod config;
pub mod env;
pub mod json;
pub mod names;
pub mod result;
mod valid;
pub mod version;
pub mod wire_error;

pub use config::{CniArgs, NetworkConfig, RuntimeConfig};
pub use env::{Command, Environment, Verb};
pub use names::{Attachment, ContainerId, InterfaceName, Mark, NetworkName};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use valid::ValidAttachments;
pub use version::{SpecVersion, VersionReply};
