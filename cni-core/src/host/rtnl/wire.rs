//! Reading attributes of a reply.
//!
//! Requests are built from the typed messages of `netlink-packet-route`; replies are walked attribute by attribute
//! instead. A link's reply carries some sixty attributes of which this crate wants twelve, and a typed decode fails as
//! a whole when a kernel of another age sends one of the others in a shape that the decoder does not know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_core::{NlaBuffer, NlasIterator};

/// The attributes in `bytes`: type without its flag bits, and value. Ends at the first malformed one.
pub(in crate::host) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let buffer: NlaBuffer<&[u8]> = attribute.ok()?;
        let kind = buffer.kind();
        // `value` would borrow from the local buffer; the value is what follows the 4 bytes of header.
        let end = usize::from(buffer.length());
        Some((kind, buffer.into_inner().get(4..end)?))
    })
}

/// The value of the attribute `kind`.
pub(in crate::host) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

pub(in crate::host) fn u8_of(value: &[u8]) -> Option<u8> {
    value.first().copied()
}

pub(in crate::host) fn u16_of(value: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?))
}

pub(in crate::host) fn u32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

pub(in crate::host) fn u64_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?))
}

pub(in crate::host) fn i32_of(value: &[u8]) -> Option<i32> {
    u32_of(value).map(u32::cast_signed)
}

/// A string that may or may not end with a NUL.
pub(in crate::host) fn string_of(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// An address of 4 or 16 bytes.
pub(in crate::host) fn ip_of(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        Some(IpAddr::V4(Ipv4Addr::from(octets)))
    } else {
        let octets = <[u8; 16]>::try_from(value).ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    }
}

/// Field at `offset` of a fixed header.
pub(in crate::host) fn u8_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

/// Field at `offset` of a fixed header.
pub(in crate::host) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    u16_of(bytes.get(offset..)?)
}

/// Field at `offset` of a fixed header.
pub(in crate::host) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    u32_of(bytes.get(offset..)?)
}
