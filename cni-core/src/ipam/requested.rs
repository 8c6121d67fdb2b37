//! Addresses that are asked for by value.

use crate::error::{Error, ErrorKind, Result};
use crate::spec::config::{NetworkConfig, RequestedAddress};

/// `args.cni.ips`, then the capability `ips`.
pub(super) fn of_config(config: &NetworkConfig) -> Result<Vec<RequestedAddress>> {
    let mut all = RequestedAddress::list(&config.cni_args()?, "ips")?;
    all.extend(of_runtime(config)?);
    Ok(all)
}

/// The capability `ips`.
pub(super) fn of_runtime(config: &NetworkConfig) -> Result<Vec<RequestedAddress>> {
    match config.object()?.object("runtimeConfig")? {
        Some(runtime) => RequestedAddress::list(&runtime, "ips"),
        None => Ok(Vec::new()),
    }
}

/// An address in `CNI_ARGS`.
pub(super) fn parse(text: &str) -> Result<RequestedAddress> {
    RequestedAddress::parse(text.trim()).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidEnvironment,
            format!(
                "CNI_ARGS holds IP={text}, which is no IP address with or without a prefix length"
            ),
        )
    })
}
