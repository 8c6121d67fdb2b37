//! Replies into this crate's values (`include/uapi/linux/{if_link,if_addr,rtnetlink,neighbour,if_bridge}.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::super::link::{Link, LinkKind, MacAddr, OperState, PortSettings, Vlan};
use super::super::route::{Address, Neighbour, Route};
use super::vxlan;
use crate::host::rtnl::wire::{
    attribute, attributes, ip_of, string_of, u8_at, u8_of, u16_at, u16_of, u32_at, u32_of,
};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_BRIDGE: u8 = 7;

/// A link (`struct ifinfomsg` and `IFLA_*`), without the name of a VXLAN device's lower link. `None` for what is no whole link: a bridge-family notification.
pub(super) fn link(payload: &[u8]) -> Option<Link> {
    const IFF_UP: u32 = 1;
    const IFF_PROMISC: u32 = 0x100;
    const IFF_ALLMULTI: u32 = 0x200;
    const IFF_LOWER_UP: u32 = 0x1_0000;
    let flags = u32_at(payload, 8)?;
    let mut link = Link::new(u32_at(payload, 4)?, String::new(), LinkKind::Physical);
    link.up = flags & IFF_UP != 0;
    link.carrier = flags & IFF_LOWER_UP != 0;
    link.promiscuous = flags & IFF_PROMISC != 0;
    link.all_multicast = flags & IFF_ALLMULTI != 0;
    link.tx_queue_len = 0;
    for (kind, value) in attributes(payload.get(16..)?) {
        match kind {
            1 => link.mac = <[u8; 6]>::try_from(value).ok().map(MacAddr),
            3 => link.name = string_of(value),
            4 => link.mtu = u32_of(value)?,
            5 => link.peer = u32_of(value).filter(|index| *index != 0),
            10 => link.master = u32_of(value).filter(|index| *index != 0),
            13 => link.tx_queue_len = u32_of(value)?,
            16 => link.oper_state = oper_state(u8_of(value)?),
            18 => link_info(&mut link, value),
            20 => link.alias = Some(string_of(value)).filter(|alias| !alias.is_empty()),
            27 => link.group = u32_of(value)?,
            37 => link.peer_elsewhere = true,
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn oper_state(state: u8) -> OperState {
    match state {
        0 => OperState::Unknown,
        6 => OperState::Up,
        _ => OperState::Down,
    }
}

/// `IFLA_LINKINFO`: what the link is, and what it is set to as a port of its master.
fn link_info(link: &mut Link, info: &[u8]) {
    const KIND: u16 = 1;
    const DATA: u16 = 2;
    const PORT_KIND: u16 = 4;
    const PORT_DATA: u16 = 5;
    const BR_VLAN_FILTERING: u16 = 7;
    if let Some(kind) = attribute(info, KIND) {
        link.kind = match string_of(kind).as_str() {
            "bridge" => LinkKind::Bridge {
                vlan_filtering: attribute(info, DATA)
                    .and_then(|data| attribute(data, BR_VLAN_FILTERING))
                    .and_then(u8_of)
                    .is_some_and(|value| value != 0),
            },
            "veth" => LinkKind::Veth,
            "vxlan" => {
                let (vxlan, lower) = vxlan::decode(attribute(info, DATA).unwrap_or_default());
                link.peer = lower;
                LinkKind::Vxlan(vxlan)
            }
            other => LinkKind::Other(other.to_owned()),
        };
    }
    if attribute(info, PORT_KIND).is_some_and(|kind| string_of(kind) == "bridge") {
        link.port = attribute(info, PORT_DATA).map(port);
    }
}

/// `IFLA_BRPORT_*`.
fn port(data: &[u8]) -> PortSettings {
    const STATE: u16 = 1;
    const MODE: u16 = 4;
    const ISOLATED: u16 = 33;
    const FORWARDING: u8 = 3;
    let byte = |kind| attribute(data, kind).and_then(u8_of);
    PortSettings {
        hairpin: byte(MODE).is_some_and(|value| value != 0),
        isolated: byte(ISOLATED).is_some_and(|value| value != 0),
        forwarding: byte(STATE) == Some(FORWARDING),
    }
}

/// VLANs of the link `index` out of a bridge-family link message (`IFLA_BRIDGE_VLAN_INFO`, ranges expanded).
pub(super) fn vlans(payload: &[u8], index: u32, found: &mut Vec<Vlan>) {
    const AF_SPEC: u16 = 26;
    const VLAN_INFO: u16 = 2;
    const PVID: u16 = 2;
    const UNTAGGED: u16 = 4;
    const RANGE_BEGIN: u16 = 8;
    const RANGE_END: u16 = 16;
    if u8_at(payload, 0) != Some(AF_BRIDGE) || u32_at(payload, 4) != Some(index) {
        return;
    }
    let Some(spec) = payload.get(16..).and_then(|rest| attribute(rest, AF_SPEC)) else {
        return;
    };
    let mut begin = None;
    for (kind, value) in attributes(spec) {
        let (VLAN_INFO, Some(flags), Some(id)) = (kind, u16_at(value, 0), u16_at(value, 2)) else {
            continue;
        };
        if flags & RANGE_BEGIN != 0 {
            begin = Some(id);
            continue;
        }
        let first = begin
            .take()
            .filter(|_| flags & RANGE_END != 0)
            .unwrap_or(id);
        found.extend((first..=id).map(|id| Vlan {
            id,
            pvid: flags & PVID != 0,
            untagged: flags & UNTAGGED != 0,
        }));
    }
}

/// An address (`struct ifaddrmsg` and `IFA_*`) of the link with the returned index; its name is left empty.
pub(super) fn address(payload: &[u8]) -> Option<(u32, Address)> {
    const NODAD: u32 = 0x02;
    const DADFAILED: u32 = 0x08;
    const TEMPORARY: u32 = 0x01;
    const DEPRECATED: u32 = 0x20;
    const TENTATIVE: u32 = 0x40;
    const NOPREFIXROUTE: u32 = 0x200;
    let family = u8_at(payload, 0)?;
    let prefix = u8_at(payload, 1)?;
    let mut flags = u32::from(u8_at(payload, 2)?);
    let scope = u8_at(payload, 3)?;
    let index = u32_at(payload, 4)?;
    if family != AF_INET && family != AF_INET6 {
        return None;
    }
    let (mut local, mut other) = (None, None);
    for (kind, value) in attributes(payload.get(8..)?) {
        match kind {
            1 => other = ip_of(value),
            2 => local = ip_of(value),
            8 => flags = u32_of(value)?,
            _ => {}
        }
    }
    // IFA_ADDRESS is the far end on a point-to-point link, and the address itself where there is no IFA_LOCAL.
    let network = IpNetwork::new(local.or(other)?, prefix).ok()?;
    let mut address = Address::new(String::new(), network);
    address.tentative = flags & TENTATIVE != 0;
    address.dad_failed = flags & DADFAILED != 0;
    address.temporary = family == AF_INET6 && flags & TEMPORARY != 0;
    address.deprecated = family == AF_INET6 && flags & DEPRECATED != 0;
    address.no_dad = flags & NODAD != 0;
    address.no_prefix_route = flags & NOPREFIXROUTE != 0;
    address.scope = scope;
    Some((index, address))
}

/// A unicast route (`struct rtmsg` and `RTA_*`), once for each next hop, with the index of its link.
pub(super) fn routes(payload: &[u8], family: u8) -> Vec<(Option<u32>, Route)> {
    route_of(payload, family).unwrap_or_default()
}

/// Whether a route delivers to its own namespace (`RTN_LOCAL`).
pub(super) fn is_local_route(payload: &[u8]) -> bool {
    const LOCAL: u8 = 2;
    u8_at(payload, 7) == Some(LOCAL)
}

/// The index of the link that a route leads to (`RTA_OIF`).
pub(super) fn route_link(payload: &[u8]) -> Option<u32> {
    let mut all = attributes(payload.get(12..)?);
    all.find_map(|(kind, value)| (kind == 4).then(|| u32_of(value))?)
}

fn route_of(payload: &[u8], family: u8) -> Option<Vec<(Option<u32>, Route)>> {
    const UNICAST: u8 = 1;
    const LOCAL_TABLE: u32 = 255;
    const CLONED: u32 = 0x200;
    let flags = u32_at(payload, 8)?;
    if u8_at(payload, 0)? != family || u8_at(payload, 7)? != UNICAST || flags & CLONED != 0 {
        return None;
    }
    let unspecified = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut destination, mut index, mut hops) = (unspecified, None, None);
    let mut route = Route::new(IpNetwork::new(unspecified, 0).ok()?, "");
    route.link = None;
    route.table = u32::from(u8_at(payload, 4)?);
    route.protocol = u8_at(payload, 5)?;
    route.scope = u8_at(payload, 6)?;
    route.onlink = flags & u32::from(ONLINK) != 0;
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            1 => destination = ip_of(value)?,
            4 => index = u32_of(value),
            5 | 18 => route.gateway = gateway(kind, value),
            6 => route.metric = u32_of(value)?,
            7 => route.source = ip_of(value),
            8 => metrics(&mut route, value),
            9 => hops = Some(value),
            15 => route.table = u32_of(value)?,
            _ => {}
        }
    }
    route.destination = IpNetwork::new(destination, u8_at(payload, 1)?).ok()?;
    if route.table == LOCAL_TABLE {
        return None;
    }
    Some(match hops {
        None => vec![(index, route)],
        Some(hops) => next_hops(hops, &route),
    })
}

/// `RTNH_F_ONLINK`.
const ONLINK: u8 = 4;

fn gateway(kind: u16, value: &[u8]) -> Option<IpAddr> {
    const VIA: u16 = 18;
    // `struct rtvia`: family of 2 bytes, then the address.
    ip_of(if kind == VIA { value.get(2..)? } else { value })
}

fn metrics(route: &mut Route, value: &[u8]) {
    const MTU: u16 = 2;
    const ADVMSS: u16 = 8;
    route.mtu = attribute(value, MTU).and_then(u32_of);
    route.advmss = attribute(value, ADVMSS).and_then(u32_of);
}

/// `struct rtnexthop`s: length of 2 bytes, flags, hops, index, attributes.
fn next_hops(mut rest: &[u8], route: &Route) -> Vec<(Option<u32>, Route)> {
    let mut found = Vec::new();
    while let (Some(length), Some(flags), Some(index)) =
        (u16_at(rest, 0), u8_at(rest, 2), u32_at(rest, 4))
    {
        let length = usize::from(length);
        let Some(data) = rest.get(8..length) else {
            break;
        };
        let mut hop = route.clone();
        hop.onlink = flags & ONLINK != 0;
        hop.gateway = attributes(data)
            .find(|(kind, _)| matches!(kind, 5 | 18))
            .and_then(|(kind, value)| gateway(kind, value));
        found.push((Some(index), hop));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// A neighbour or forwarding entry (`struct ndmsg` and `NDA_*`) of the link with the returned index.
pub(super) fn neighbour(payload: &[u8], family: u8) -> Option<(u32, Neighbour)> {
    if u8_at(payload, 0)? != family {
        return None;
    }
    let mut neighbour = Neighbour {
        link: String::new(),
        address: None,
        mac: None,
        state: u16_at(payload, 8)?,
        vlan: None,
    };
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            1 if family != AF_BRIDGE => neighbour.address = ip_of(value),
            2 => neighbour.mac = <[u8; 6]>::try_from(value).ok().map(MacAddr),
            5 => neighbour.vlan = u16_of(value).filter(|vlan| *vlan != 0),
            _ => {}
        }
    }
    Some((u32_at(payload, 4)?, neighbour))
}

#[cfg(test)]
mod tests;
