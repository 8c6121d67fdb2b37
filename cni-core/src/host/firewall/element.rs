//! Elements of sets and maps, and the values that keys, data and rules are made of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::netlink::MacAddr;

/// What a map's elements hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataType {
    /// A verdict (`vmap`).
    Verdict,
    /// Values, concatenated.
    Values(Vec<ValueType>),
}

/// Type of a value in keys, data and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValueType {
    /// `ipv4_addr`.
    Ipv4,
    /// `ipv6_addr`.
    Ipv6,
    /// `ether_addr`.
    Mac,
    /// `ifname`.
    Interface,
    /// `inet_proto`.
    Protocol,
    /// `inet_service`, a port.
    Port,
    /// `mark`.
    Mark,
    /// A VXLAN network identifier, three bytes. nft has no type for it: it is matched, and never part of a key.
    Vni,
}

/// A value in keys, data and rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Value {
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// A hardware address.
    Mac(MacAddr),
    /// An interface name.
    Interface(String),
    /// An IP protocol number.
    Protocol(u8),
    /// A transport port.
    Port(u16),
    /// A packet mark.
    Mark(u32),
    /// A VXLAN network identifier, below 2^24.
    Vni(u32),
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Element {
    /// Its key, one value for each part.
    pub key: Vec<Value>,
    /// What it maps to.
    pub data: Option<ElementData>,
    /// Comment, up to 127 bytes: our mark.
    pub comment: Option<String>,
}

/// What an element maps to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementData {
    /// A verdict.
    Verdict(Verdict),
    /// Values, concatenated.
    Values(Vec<Value>),
}

/// A verdict of a map's element.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Leave all chains of this hook and type.
    Accept,
    /// Discard.
    Drop,
    /// To a chain, and back.
    Jump(String),
    /// To a chain, not back.
    Goto(String),
}

impl Element {
    /// An element of a set.
    pub fn new(key: Vec<Value>) -> Self {
        Self {
            key,
            data: None,
            comment: None,
        }
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::Ipv4(address),
            IpAddr::V6(address) => Self::Ipv6(address),
        }
    }
}

impl Value {
    /// The type of the value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Ipv4(_) => ValueType::Ipv4,
            Self::Ipv6(_) => ValueType::Ipv6,
            Self::Mac(_) => ValueType::Mac,
            Self::Interface(_) => ValueType::Interface,
            Self::Protocol(_) => ValueType::Protocol,
            Self::Port(_) => ValueType::Port,
            Self::Mark(_) => ValueType::Mark,
            Self::Vni(_) => ValueType::Vni,
        }
    }

    /// The value as nft writes what is compared with a raw payload: a hexadecimal number, first byte first.
    pub(super) fn as_number(&self) -> String {
        let number = match self {
            Self::Ipv4(address) => u128::from(u32::from(*address)),
            Self::Ipv6(address) => u128::from(*address),
            Self::Mac(mac) => mac
                .0
                .iter()
                .fold(0, |all, byte| all << 8 | u128::from(*byte)),
            Self::Protocol(number) => u128::from(*number),
            Self::Port(port) => u128::from(*port),
            Self::Mark(number) | Self::Vni(number) => u128::from(*number),
            Self::Interface(_) => return self.to_string(),
        };
        format!("{number:#x}")
    }
}

/// Writes the parts joined by `" . "`, as nftables writes concatenations.
pub(super) fn concatenated<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    parts: impl IntoIterator<Item = T>,
) -> fmt::Result {
    for (position, part) in parts.into_iter().enumerate() {
        if position > 0 {
            f.write_str(" . ")?;
        }
        part.fmt(f)?;
    }
    Ok(())
}

/// The type's name in nft.
impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Mac => "ether_addr",
            Self::Interface => "ifname",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
            Self::Mark => "mark",
            Self::Vni => "integer",
        })
    }
}

/// The value in nft's syntax; interface names are in double quotes.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv6(address) => address.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
            Self::Interface(name) => write!(f, "\"{name}\""),
            Self::Protocol(number) => number.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::Vni(vni) => write!(f, "{vni:#x}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl fmt::Display for ElementData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Values(values) => concatenated(f, values),
        }
    }
}

/// The element as `nft create element` takes it. nft has no escape for a double quote in a comment, so one is printed
/// as a single quote.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        concatenated(f, &self.key)?;
        if let Some(comment) = &self.comment {
            write!(f, " comment \"{}\"", comment.replace('"', "'"))?;
        }
        match &self.data {
            Some(data) => write!(f, " : {data}"),
            None => Ok(()),
        }
    }
}
