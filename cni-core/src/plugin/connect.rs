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

/// Address management as a configuration's `ipam` asks for it. A delegated plugin inherits this process's environment,
/// the trace context (`TRACEPARENT`, `TRACESTATE`, `BAGGAGE`) in it.
pub(super) fn ipam(config: &NetworkConfig, environment: &Environment) -> Result<Box<dyn Ipam>> {
    crate::ipam::from_config(config, &environment.path, std::env::vars_os())
}
