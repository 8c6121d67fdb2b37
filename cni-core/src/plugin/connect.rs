//! What a real process is connected to.

use super::NoIpam;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::ipam::Ipam;
use crate::spec::{Environment, NetworkConfig};

/// The host's side of the kernel.
pub(super) fn host() -> Result<Host> {
    Err(Error::new(
        ErrorKind::Io,
        "the kernel cannot be reached by this build",
    ))
}

/// Address management as a configuration's `ipam` asks for it.
pub(super) fn ipam(config: &NetworkConfig, _: &Environment) -> Result<Box<dyn Ipam>> {
    match config.ipam_type()? {
        None => Ok(Box::new(NoIpam)),
        Some(name) => Err(Error::new(
            ErrorKind::UnsupportedField,
            format!("`ipam.type` {name:?} is not supported"),
        )),
    }
}
