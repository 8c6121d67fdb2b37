//! `runtimeConfig`: what the runtime passes for the capabilities that a plugin declares (CONVENTIONS.md, "Dynamic
//! plugin specific fields").

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::json::{Object, kind_of, parse_prefix};
use crate::spec::{Dns, NetworkName};

/// `runtimeConfig`: what the runtime passes for the capabilities that a plugin declares.
///
/// Only the well-known capabilities; a plugin's own are in [`NetworkConfig::object`](super::NetworkConfig::object).
/// Absent and `null` are the empty value everywhere.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RuntimeConfig {
    /// `portMappings`: host ports to forward.
    pub port_mappings: Vec<PortMapping>,
    /// `ipRanges`: range sets; one address is wanted from each.
    pub ip_ranges: Vec<Vec<AddressRange>>,
    /// `bandwidth`: limits of the attachment's traffic.
    pub bandwidth: Option<Bandwidth>,
    /// `dns`: `servers`, `searches` and `options`; the domain is not part of it.
    pub dns: Option<Dns>,
    /// `ips`: addresses wanted.
    pub ips: Vec<RequestedAddress>,
    /// `mac`: the hardware address wanted, as text.
    pub mac: Option<String>,
    /// `infinibandGUID`, as text.
    pub infiniband_guid: Option<String>,
    /// `deviceID`: a device of the host, such as a PCI address.
    pub device_id: Option<String>,
    /// `aliases`: further names of the container.
    pub aliases: Vec<String>,
    /// `cgroupPath`: the pod's cgroup.
    pub cgroup_path: Option<String>,
}

/// One forwarded port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortMapping {
    /// Port on the host, 1 to 65535.
    pub host_port: u16,
    /// Port in the container, 1 to 65535.
    pub container_port: u16,
    /// Transport; TCP when not given.
    pub protocol: Protocol,
    /// The host's address to listen on; `None` for all (absent or empty).
    pub host_ip: Option<IpAddr>,
}

/// Transport protocols of port mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A part of a subnet that addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressRange {
    /// The subnet.
    pub subnet: IpNetwork,
    /// The first address to hand out.
    pub range_start: Option<IpAddr>,
    /// The last address to hand out.
    pub range_end: Option<IpAddr>,
    /// The gateway.
    pub gateway: Option<IpAddr>,
}

/// Limits of an attachment's traffic, as seen by the container. 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bandwidth {
    /// Rate into the container, in bits per second.
    pub ingress_rate: u64,
    /// Burst into the container, in bits.
    pub ingress_burst: u64,
    /// Rate out of the container, in bits per second.
    pub egress_rate: u64,
    /// Burst out of the container, in bits.
    pub egress_burst: u64,
}

/// An address that is asked for by value, with or without its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestedAddress {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length, when given.
    pub prefix: Option<u8>,
}

impl RequestedAddress {
    /// Reads `10.1.0.7` or `10.1.0.7/16`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(network) = parse_prefix(text) {
            return Some(Self {
                address: network.ip(),
                prefix: Some(network.prefix()),
            });
        }
        Some(Self {
            address: text.parse().ok()?,
            prefix: None,
        })
    }

    /// Reads a list of addresses, such as `runtimeConfig.ips` and `args.cni.ips`.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for a wrong JSON type, [`ErrorKind::InvalidConfig`] for what is no address.
    pub fn list(object: &Object<'_>, name: &str) -> Result<Vec<Self>> {
        let read = |text: &String| {
            Self::parse(text).ok_or_else(|| {
                object.broken(
                    name,
                    text,
                    "must hold IP addresses only, each with or without its prefix length",
                )
            })
        };
        object.strings(name)?.iter().map(read).collect()
    }
}

impl Protocol {
    /// The protocol's name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl RuntimeConfig {
    pub(super) fn read(object: &Object<'_>, network: &NetworkName) -> Result<Self> {
        let text = |name: &str| -> Result<Option<String>> {
            Ok(object.string(name)?.filter(|text| !text.is_empty()))
        };
        Ok(Self {
            port_mappings: object
                .objects("portMappings")?
                .iter()
                .map(port_mapping)
                .collect::<Result<_>>()?,
            ip_ranges: ip_ranges(object)?,
            bandwidth: object
                .object("bandwidth")?
                .map(|o| bandwidth(&o))
                .transpose()?,
            dns: object.object("dns")?.map(|o| dns(&o)).transpose()?,
            ips: RequestedAddress::list(object, "ips")?,
            mac: text("mac")?,
            infiniband_guid: text("infinibandGUID")?,
            device_id: text("deviceID")?,
            aliases: aliases(object, network)?,
            cgroup_path: text("cgroupPath")?,
        })
    }
}

fn port_mapping(object: &Object<'_>) -> Result<PortMapping> {
    let port = |name: &str| -> Result<u16> {
        let port = object.u32_in(name, 1, 65535)?;
        port.and_then(|port| u16::try_from(port).ok())
            .ok_or_else(|| object.missing(name))
    };
    let protocol = object.string("protocol")?.unwrap_or_default();
    Ok(PortMapping {
        host_port: port("hostPort")?,
        container_port: port("containerPort")?,
        protocol: match protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(object.broken("protocol", protocol, "must be tcp, udp or sctp")),
        },
        host_ip: object.ip("hostIP")?,
    })
}

fn ip_ranges(object: &Object<'_>) -> Result<Vec<Vec<AddressRange>>> {
    let mut sets = Vec::new();
    for (index, set) in object.elements("ipRanges")?.into_iter().enumerate() {
        let path = format!("{}[{index}]", object.path_of("ipRanges"));
        let ranges: Vec<&serde_json::value::RawValue> =
            serde_json::from_str(set.get()).map_err(|_| {
                Error::new(
                    ErrorKind::Decode,
                    format!(
                        "`{path}` must be an array of ranges, and is of type {}",
                        kind_of(set)
                    ),
                )
            })?;
        let ranges = ranges.into_iter().enumerate().map(|(index, range)| {
            address_range(&Object::read(range.get(), format!("{path}[{index}]"))?)
        });
        sets.push(ranges.collect::<Result<_>>()?);
    }
    Ok(sets)
}

fn address_range(object: &Object<'_>) -> Result<AddressRange> {
    Ok(AddressRange {
        subnet: object
            .prefix("subnet")?
            .ok_or_else(|| object.missing("subnet"))?,
        range_start: object.ip("rangeStart")?,
        range_end: object.ip("rangeEnd")?,
        gateway: object.ip("gateway")?,
    })
}

fn bandwidth(object: &Object<'_>) -> Result<Bandwidth> {
    let rate = |name: &str| -> Result<u64> { Ok(object.u64(name)?.unwrap_or_default()) };
    Ok(Bandwidth {
        ingress_rate: rate("ingressRate")?,
        ingress_burst: rate("ingressBurst")?,
        egress_rate: rate("egressRate")?,
        egress_burst: rate("egressBurst")?,
    })
}

fn dns(object: &Object<'_>) -> Result<Dns> {
    Ok(Dns {
        nameservers: object.strings("servers")?,
        search: object.strings("searches")?,
        options: object.strings("options")?,
        ..Dns::default()
    })
}

/// A list of names, or, as podman's dnsname plugin had it, lists by network.
fn aliases(object: &Object<'_>, network: &NetworkName) -> Result<Vec<String>> {
    match object.member("aliases") {
        Some(value) if kind_of(value) == "object" => {
            let by_network = object.object("aliases")?.unwrap_or_default();
            by_network.strings(network.as_str())
        }
        _ => object.strings("aliases"),
    }
}
