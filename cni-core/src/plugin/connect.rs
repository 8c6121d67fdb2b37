//! What a real process is connected to.

use std::sync::Arc;

use crate::error::Result;
use crate::host::Host;
use crate::host::firewall::KernelFirewall;
use crate::ipam::Ipam;
use crate::spec::{Environment, NetworkConfig};

/// The host's side of the kernel.
pub(super) fn host() -> Result<Host> {
    Host::open_with_firewall(Arc::new(KernelFirewall::new()))
}

/// Address management as a configuration's `ipam` asks for it. A delegated plugin inherits this process's environment;
/// a trace context in it (`TRACEPARENT`) names this request as the parent.
pub(super) fn ipam(config: &NetworkConfig, environment: &Environment) -> Result<Box<dyn Ipam>> {
    let variables = super::trace::environment(std::env::vars_os());
    crate::ipam::from_config(config, &environment.path, variables)
}
