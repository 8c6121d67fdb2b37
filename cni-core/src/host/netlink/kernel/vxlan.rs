//! VXLAN devices as messages (`IFLA_VXLAN_*`, include/uapi/linux/if_link.h).

use std::net::IpAddr;

use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkInfo, LinkMessage};

use super::super::vxlan::{Vxlan, VxlanSettings};
use super::encode::named;
use crate::host::rtnl::wire::{attributes, ip_of, u8_of, u16_at, u32_of};

/// What a VXLAN device to create is. `lower` is the index of its lower link.
pub(super) fn info(vxlan: &Vxlan, lower: Option<u32>) -> Vec<LinkInfo> {
    let mut data = Vec::new();
    if !vxlan.external {
        data.push(InfoVxlan::Id(vxlan.vni));
    }
    data.push(InfoVxlan::Port(vxlan.port));
    data.extend(vxlan.local.map(local));
    data.extend(vxlan.remote.map(remote));
    data.extend(lower.map(InfoVxlan::Link));
    // Without it a new device learns.
    data.push(InfoVxlan::Learning(vxlan.learning));
    data.extend(vxlan.external.then_some(InfoVxlan::CollectMetadata(true)));
    data.extend(vxlan.gpe.then_some(InfoVxlan::Gpe));
    data.extend(vxlan.source_ports.map(InfoVxlan::PortRange));
    vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(data)),
    ]
}

/// A change to the VXLAN device with this name. It mentions nothing else: what cannot be changed is refused even where it
/// stays as it is, and so is an MTU in the same message.
pub(super) fn change(name: &str, settings: &VxlanSettings, lower: Option<u32>) -> LinkMessage {
    let mut data = Vec::new();
    data.extend(settings.local.map(local));
    data.extend(settings.remote.map(remote));
    data.extend(lower.map(InfoVxlan::Link));
    data.extend(settings.learning.map(InfoVxlan::Learning));
    let mut message = named(name);
    message
        .attributes
        .push(rtnetlink::packet_route::link::LinkAttribute::LinkInfo(
            vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(data)),
            ],
        ));
    message
}

fn local(address: IpAddr) -> InfoVxlan {
    match address {
        IpAddr::V4(address) => InfoVxlan::Local(address),
        IpAddr::V6(address) => InfoVxlan::Local6(address),
    }
}

fn remote(address: IpAddr) -> InfoVxlan {
    match address {
        IpAddr::V4(address) => InfoVxlan::Group(address),
        IpAddr::V6(address) => InfoVxlan::Group6(address),
    }
}

/// `IFLA_INFO_DATA` of a VXLAN device, without the lower link's name, and that link's index.
pub(super) fn decode(data: &[u8]) -> (Vxlan, Option<u32>) {
    let mut vxlan = Vxlan::new(0, 0);
    let mut lower = None;
    let is_set = |value| u8_of(value).is_some_and(|value| value != 0);
    for (kind, value) in attributes(data) {
        match kind {
            1 => vxlan.vni = u32_of(value).unwrap_or(0),
            2 | 16 => vxlan.remote = ip_of(value),
            3 => lower = u32_of(value).filter(|index| *index != 0),
            4 | 17 => vxlan.local = ip_of(value),
            7 => vxlan.learning = is_set(value),
            10 => {
                // Network byte order; two zeros are the kernel's default range.
                let number = |at| u16_at(value, at).map(u16::from_be);
                vxlan.source_ports = number(0).zip(number(2)).filter(|range| *range != (0, 0));
            }
            15 => vxlan.port = u16_at(value, 0).map_or(0, u16::from_be),
            25 => vxlan.external = is_set(value),
            27 => vxlan.gpe = true,
            _ => {}
        }
    }
    (vxlan, lower)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{Emitable, Nla};

    use super::*;

    /// The data part of a description, as bytes.
    fn data(info: &[LinkInfo]) -> Vec<u8> {
        let LinkInfo::Data(data) = &info[1] else {
            panic!("{info:?}");
        };
        let mut bytes = vec![0; data.buffer_len()];
        data.emit(&mut bytes);
        assert_eq!(data.kind(), 2);
        bytes[4..].to_vec()
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let mut classic = Vxlan::new(7, 8472);
        classic.local = "192.0.2.1".parse().ok();
        classic.remote = "192.0.2.2".parse().ok();
        classic.learning = true;
        classic.source_ports = Some((1000, 2000));
        let mut six = classic.clone();
        six.local = "2001:db8::1".parse().ok();
        six.remote = "ff02::1".parse().ok();
        for (vxlan, lower) in [
            (classic, Some(3)),
            (six, Some(9)),
            (Vxlan::flow(4790), None),
        ] {
            assert_eq!(decode(&data(&info(&vxlan, lower))), (vxlan, lower));
        }
    }

    #[test]
    fn ports_are_in_network_byte_order() {
        let mut vxlan = Vxlan::new(7, 0x1234);
        vxlan.source_ports = Some((0x0102, 0x0304));
        let bytes = data(&info(&vxlan, None));
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(has(&[15, 0, 0x12, 0x34]), "{bytes:x?}");
        assert!(has(&[10, 0, 1, 2, 3, 4]), "{bytes:x?}");
    }
}
