//! Values as the kernel holds them: bytes in registers, keys and data.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::message::text;
use super::uapi::*;
use crate::host::firewall::{Family, Value, ValueType};
use crate::host::netlink::MacAddr;

/// `NFPROTO_*`.
pub(super) fn family(family: Family) -> u8 {
    match family {
        Family::Inet => NFPROTO_INET,
        Family::Ip => NFPROTO_IPV4,
        Family::Ip6 => NFPROTO_IPV6,
        Family::Bridge => NFPROTO_BRIDGE,
    }
}

/// The family of a `NFPROTO_*` that tables of ours may have.
pub(in crate::host) fn family_of(number: u8) -> Option<Family> {
    let families = [Family::Inet, Family::Ip, Family::Ip6, Family::Bridge];
    families
        .into_iter()
        .find(|candidate| family(*candidate) == number)
}

impl ValueType {
    /// Every type that nft has.
    const ALL: [Self; 7] = [
        Self::Ipv4,
        Self::Ipv6,
        Self::Mac,
        Self::Interface,
        Self::Protocol,
        Self::Port,
        Self::Mark,
    ];

    /// Bytes of a value, without padding.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Ipv4 | Self::Mark => 4,
            Self::Ipv6 | Self::Interface => 16,
            Self::Mac => 6,
            Self::Vni => 3,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// nft's number of the type: the kernel only stores it, for `nft list`.
    fn number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Mac => 9,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Mark => 19,
            Self::Interface => 41,
            // `integer`; no key is made of it.
            Self::Vni => 4,
        }
    }

    /// nft's `enum byteorder`, by which `nft list` reads a value: 1 is the host's, 2 the network's.
    fn byte_order(self) -> u32 {
        match self {
            Self::Interface | Self::Mark => 1,
            _ => 2,
        }
    }
}

/// nft's number of a concatenation: six bits for each part.
pub(super) fn type_number(types: &[ValueType]) -> u32 {
    types.iter().fold(0, |all, part| all << 6 | part.number())
}

/// The parts that nft's number stands for; `None` when one is not in our vocabulary.
pub(super) fn types_of(mut number: u32) -> Option<Vec<ValueType>> {
    let mut types = Vec::new();
    while number != 0 {
        let part = number & 0x3f;
        types.push(ValueType::ALL.into_iter().find(|t| t.number() == part)?);
        number >>= 6;
    }
    types.reverse();
    (!types.is_empty()).then_some(types)
}

/// Byte order of a key or of data, as nft stores it: 0 for a concatenation, whose parts know.
pub(super) fn byte_order(types: &[ValueType]) -> u32 {
    match types {
        [one] => one.byte_order(),
        _ => 0,
    }
}

/// Bytes of a key or of data: the parts of a concatenation are padded to four each.
pub(super) fn size(types: &[ValueType]) -> usize {
    match types {
        [one] => one.size(),
        many => many.iter().map(|t| t.size().next_multiple_of(4)).sum(),
    }
}

/// A key or data.
pub(super) fn encode(values: &[Value]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for value in values {
        bytes.extend(encode_one(value)?);
        if values.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    Ok(bytes)
}

/// A single value, without padding.
pub(super) fn encode_one(value: &Value) -> Result<Vec<u8>, String> {
    Ok(match value {
        Value::Ipv4(address) => address.octets().to_vec(),
        Value::Ipv6(address) => address.octets().to_vec(),
        Value::Mac(mac) => mac.0.to_vec(),
        Value::Interface(name) => {
            let mut bytes = name.as_bytes().to_vec();
            if bytes.is_empty() || bytes.len() > 15 || bytes.contains(&0) {
                return Err(format!("{name:?} is no interface name of 1 to 15 bytes"));
            }
            bytes.resize(16, 0);
            bytes
        }
        Value::Protocol(number) => vec![*number],
        Value::Port(port) => port.to_be_bytes().to_vec(),
        Value::Mark(mark) => mark.to_ne_bytes().to_vec(),
        Value::Vni(vni) => match vni.to_be_bytes() {
            [0, bytes @ ..] => bytes.to_vec(),
            _ => return Err(format!("VNI {vni} is not below 16777216")),
        },
    })
}

/// A key or data read back; `None` when it is too short.
pub(super) fn decode(types: &[ValueType], mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::with_capacity(types.len());
    for part in types {
        values.push(decode_one(*part, bytes.get(..part.size())?)?);
        let step = part.size().next_multiple_of(4);
        bytes = bytes.get(step..).unwrap_or_default();
    }
    Some(values)
}

fn decode_one(part: ValueType, bytes: &[u8]) -> Option<Value> {
    Some(match part {
        ValueType::Ipv4 => Value::Ipv4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        ValueType::Ipv6 => Value::Ipv6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        ValueType::Mac => Value::Mac(MacAddr(bytes.try_into().ok()?)),
        ValueType::Interface => Value::Interface(text(bytes)),
        ValueType::Protocol => Value::Protocol(*bytes.first()?),
        ValueType::Port => Value::Port(u16::from_be_bytes(bytes.try_into().ok()?)),
        ValueType::Mark => Value::Mark(u32::from_ne_bytes(bytes.try_into().ok()?)),
        ValueType::Vni => {
            let [a, b, c] = bytes.try_into().ok()?;
            Value::Vni(u32::from_be_bytes([0, a, b, c]))
        }
    })
}

/// nft's user data with a comment.
pub(super) fn comment_data(comment: &str) -> Result<Vec<u8>, String> {
    if comment.len() > 127 || comment.contains('\0') {
        return Err(format!(
            "comment {comment:?} is longer than 127 bytes or holds a NUL"
        ));
    }
    let mut data = vec![UDATA_COMMENT, comment.len() as u8 + 1];
    data.extend(comment.as_bytes());
    data.push(0);
    Ok(data)
}

/// The comment in nft's user data.
pub(super) fn comment_of(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            return Some(text(value));
        }
        data = rest.get(usize::from(*length)..)?;
    }
    None
}
