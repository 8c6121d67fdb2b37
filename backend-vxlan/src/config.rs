//! The configuration's own keys.

use std::fmt;

use cni_core::cluster::Capability;
use cni_core::node::{self, NodeConfig};
use cni_core::spec::config::NetworkConfig;
use cni_core::spec::json::Object;
use cni_core::{Error, Result};

/// What a configuration asks of this backend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VxlanConfig {
    /// What does not depend on how the nodes are connected.
    pub node: NodeConfig,
    /// `dataPath`; `None` (absent or `auto`) is [`Capability::Flow`] where this kernel and every node that tells of itself can do
    /// it, else [`Capability::Classic`].
    pub data_path: Option<Capability>,
    /// `vni`: VXLAN network identifier, 1 to 16777215. Default 1, Flannel's.
    pub vni: u32,
    /// `port`: UDP port of the tunnel's end. The default is the data path's ([`VxlanConfig::port`]).
    pub port: Option<u16>,
    /// `device`: name of the VXLAN device. Default `vxlan.VNI`.
    pub device: String,
    /// `directRouting`: peers in a segment of this node are routed to without a tunnel.
    pub direct_routing: bool,
    /// `sourcePorts`: lowest and highest outer UDP source port; `None` leaves them to the kernel.
    pub source_ports: Option<(u16, u16)>,
    /// `underlay`: the family of outer packets.
    pub underlay: Underlay,
    /// `filter`: only peers' packets, and with their own pods' addresses, come in by the tunnel. Default true.
    pub filter: bool,
}

/// The family of outer packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underlay {
    /// IPv4 where both ends have it, else IPv6.
    #[default]
    Auto,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// VXLAN identifiers have 24 bits (RFC 7348). 0 is left out: an external device has none of its own, and says 0.
const VNI_MAX: u32 = 0xff_ffff;

/// Linux's port for VXLAN from before there was an assigned one; Flannel's, too.
const CLASSIC_PORT: u16 = 8472;

/// The port that IANA assigned to VXLAN-GPE.
const FLOW_PORT: u16 = 4790;

impl VxlanConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`](cni_core::ErrorKind::Decode) for a member of the wrong type,
    /// [`ErrorKind::InvalidConfig`](cni_core::ErrorKind::InvalidConfig) for a value that breaks a rule; both name key, value
    /// and rule.
    pub fn parse(config: &NetworkConfig) -> Result<Self> {
        let object = config.object()?;
        let vni = object.u32_in("vni", 1, VNI_MAX)?.unwrap_or(1);
        let device = node::interface_name(&object, "device")?;
        Ok(Self {
            node: NodeConfig::parse(config)?,
            data_path: data_path(&object)?,
            vni,
            port: port(&object)?,
            device: device.unwrap_or_else(|| default_device(vni)),
            direct_routing: object.bool("directRouting")?.unwrap_or_default(),
            source_ports: source_ports(&object)?,
            underlay: underlay(&object)?,
            filter: object.bool("filter")?.unwrap_or(true),
        })
    }

    /// The UDP port of a data path: 8472 for the classic one, as Flannel has it, 4790 for the flow.
    pub fn port(&self, data_path: Capability) -> u16 {
        self.port.unwrap_or(match data_path {
            Capability::Flow => FLOW_PORT,
            _ => CLASSIC_PORT,
        })
    }
}

/// The name of the device when the configuration gives none.
pub(crate) fn default_device(vni: u32) -> String {
    format!("vxlan.{vni}")
}

fn data_path(object: &Object<'_>) -> Result<Option<Capability>> {
    let name = object.string("dataPath")?.unwrap_or_default();
    match name.as_str() {
        "" | "auto" => Ok(None),
        "classic" => Ok(Some(Capability::Classic)),
        "flow" => Ok(Some(Capability::Flow)),
        _ => Err(object.broken(
            "dataPath",
            name,
            "must be \"auto\", \"classic\" or \"flow\"",
        )),
    }
}

fn underlay(object: &Object<'_>) -> Result<Underlay> {
    let name = object.string("underlay")?.unwrap_or_default();
    match name.as_str() {
        "" | "auto" => Ok(Underlay::Auto),
        "ipv4" => Ok(Underlay::Ipv4),
        "ipv6" => Ok(Underlay::Ipv6),
        _ => Err(object.broken("underlay", name, "must be \"auto\", \"ipv4\" or \"ipv6\"")),
    }
}

fn port(object: &Object<'_>) -> Result<Option<u16>> {
    let port = object.u32_in("port", 1, u32::from(u16::MAX))?;
    Ok(port.and_then(|port| u16::try_from(port).ok()))
}

fn source_ports(object: &Object<'_>) -> Result<Option<(u16, u16)>> {
    const KEY: &str = "sourcePorts";
    const RULE: &str = "must be two ports from 1 to 65535, the lower first, as [32768, 60999]";
    let wrong = |object: &Object<'_>| -> Error {
        match object.member(KEY) {
            Some(value) => object.invalid(KEY, value, RULE),
            None => object.missing(KEY),
        }
    };
    if object.member(KEY).is_none() {
        return Ok(None);
    }
    let ports: Vec<u16> = object
        .decode(KEY, "an array of two ports")
        .map_err(|_| wrong(object))?
        .unwrap_or_default();
    match ports.as_slice() {
        &[low, high] if low >= 1 && low <= high => Ok(Some((low, high))),
        _ => Err(object.broken(KEY, ports, RULE)),
    }
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
