//! Replies and notifications into entries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::super::entry::{
    Encap, Entry, FdbEntry, Hop, Key, LinkName, Neighbour, NextHop, PolicyRule, Route, Via,
};
use super::uapi::*;
use crate::host::netlink::MacAddr;
use crate::host::rtnl::wire::{
    attribute, attributes, ip_of, u8_at, u8_of, u16_at, u16_of, u32_at, u32_of, u64_of,
};

/// The link with an index.
pub(in crate::host) type Names<'a> = dyn FnMut(u32) -> Option<LinkName> + 'a;

/// The entry that a message with this type (`RTM_NEW*` or `RTM_DEL*`) bears. `None` where it is none of this crate's
/// entries, or one of a link that is no more.
pub(in crate::host) fn entry(kind: u16, payload: &[u8], names: &mut Names<'_>) -> Option<Entry> {
    match kind {
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => next_hop(payload, names).map(Entry::NextHop),
        RTM_NEWROUTE | RTM_DELROUTE => route(payload, names).map(Entry::Route),
        RTM_NEWNEIGH | RTM_DELNEIGH if u8_at(payload, 0)? == AF_BRIDGE => {
            fdb(payload, names).map(Entry::Fdb)
        }
        RTM_NEWNEIGH | RTM_DELNEIGH => neighbour(payload, names).map(Entry::Neighbour),
        RTM_NEWRULE | RTM_DELRULE => rule(payload).map(Entry::Rule),
        _ => None,
    }
}

/// The key of a next hop, a neighbour or a VXLAN device's forwarding entry, of whatever form.
pub(in crate::host) fn bare_key(kind: u16, payload: &[u8], names: &mut Names<'_>) -> Option<Key> {
    match kind {
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => {
            let id = attribute(payload.get(8..)?, NHA_ID)?;
            Some(Key::NextHop(u32_of(id)?))
        }
        RTM_NEWNEIGH | RTM_DELNEIGH => {
            let link = names(u32_at(payload, 4)?)?;
            let (flags, attributes) = (u8_at(payload, 10)?, payload.get(12..)?);
            if u8_at(payload, 0)? == AF_BRIDGE {
                let mac = attribute(attributes, NDA_LLADDR)?;
                let of_device = flags & NTF_SELF != 0;
                of_device.then_some(Key::Fdb(link, MacAddr(mac.try_into().ok()?)))
            } else {
                let address = ip_of(attribute(attributes, NDA_DST)?)?;
                // The kernel keeps multicast addresses as neighbours, too.
                let counts = flags & NTF_PROXY == 0 && !address.is_multicast();
                counts.then_some(Key::Neighbour(link, address))
            }
        }
        _ => None,
    }
}

/// `struct nhmsg` and `NHA_*`. No groups, blackholes and next hops of forwarding entries.
fn next_hop(payload: &[u8], names: &mut Names<'_>) -> Option<NextHop> {
    let (mut id, mut found) = (0, FoundHop::default());
    found.onlink = u32_at(payload, 4)? & RTNH_F_ONLINK != 0;
    for (kind, value) in attributes(payload.get(8..)?) {
        match kind {
            NHA_ID => id = u32_of(value)?,
            NHA_OIF => found.index = u32_of(value),
            NHA_GATEWAY => found.gateway = ip_of(value),
            NHA_ENCAP_TYPE => found.encap_type = u16_of(value),
            NHA_ENCAP => found.encap = Some(value),
            NHA_GROUP | NHA_BLACKHOLE | NHA_FDB => return None,
            _ => {}
        }
    }
    Some(NextHop {
        id,
        protocol: u8_at(payload, 2)?,
        hop: found.hop(names)?,
    })
}

/// What a message says of a next hop.
#[derive(Default)]
struct FoundHop<'a> {
    index: Option<u32>,
    gateway: Option<IpAddr>,
    onlink: bool,
    encap_type: Option<u16>,
    encap: Option<&'a [u8]>,
}

impl FoundHop<'_> {
    fn hop(self, names: &mut Names<'_>) -> Option<Hop> {
        let encap = match self.encap_type {
            None | Some(0) => None,
            Some(kind) => Some(encap(kind, self.encap?)?),
        };
        Some(Hop {
            link: names(self.index?)?,
            gateway: self.gateway,
            onlink: self.onlink,
            encap,
        })
    }
}

/// An outer header, where it has nothing but what an [`Encap`] tells.
fn encap(kind: u16, payload: &[u8]) -> Option<Encap> {
    if !matches!(kind, LWTUNNEL_ENCAP_IP | LWTUNNEL_ENCAP_IP6) {
        return None;
    }
    let (mut id, mut remote, mut source, mut checksum) = (0, None, None, false);
    for (kind, value) in attributes(payload) {
        match kind {
            LWTUNNEL_IP_ID => id = u32::try_from(u64_of(value)?.to_be()).ok()?,
            LWTUNNEL_IP_DST => remote = ip_of(value),
            LWTUNNEL_IP_SRC => source = ip_of(value).filter(|source| !source.is_unspecified()),
            LWTUNNEL_IP_TTL | LWTUNNEL_IP_TOS if value.iter().all(|byte| *byte == 0) => {}
            LWTUNNEL_IP_FLAGS => match u16_of(value)?.to_be() {
                0 => {}
                TUNNEL_CSUM => checksum = true,
                _ => return None,
            },
            LWTUNNEL_IP_TTL | LWTUNNEL_IP_TOS | LWTUNNEL_IP_OPTS => return None,
            _ => {}
        }
    }
    Some(Encap {
        id,
        remote: remote?,
        source,
        checksum,
    })
}

/// `struct rtmsg` and `RTA_*`. No routes of table `local`, no cached ones, and none that have a source prefix or type of
/// service in their key.
fn route(payload: &[u8], names: &mut Names<'_>) -> Option<Route> {
    let [_, prefix, source, tos, table, protocol, _, kind] = *payload.first_chunk::<8>()?;
    let flags = u32_at(payload, 8)?;
    if source != 0 || tos != 0 || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let mut destination = unspecified(u8_at(payload, 0)?)?;
    let (mut table, mut metric) = (u32::from(table), 0);
    let (mut next_hop, mut several, mut other, mut has_source) = (None, false, false, false);
    let mut found = FoundHop {
        onlink: flags & RTNH_F_ONLINK != 0,
        ..FoundHop::default()
    };
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            RTA_DST => destination = ip_of(value)?,
            RTA_OIF => found.index = u32_of(value),
            RTA_GATEWAY => found.gateway = ip_of(value),
            // `struct rtvia`: family of 2 bytes, then the address.
            RTA_VIA => found.gateway = ip_of(value.get(2..)?),
            RTA_PRIORITY => metric = u32_of(value)?,
            RTA_PREFSRC => has_source = true,
            RTA_METRICS | RTA_FLOW => other = true,
            // Of a group of next hops, too, for those who do not know groups.
            RTA_MULTIPATH => several = true,
            RTA_TABLE => table = u32_of(value)?,
            RTA_ENCAP_TYPE => found.encap_type = u16_of(value),
            RTA_ENCAP => found.encap = Some(value),
            RTA_NH_ID => next_hop = u32_of(value),
            _ => {}
        }
    }
    if table == RT_TABLE_LOCAL {
        return None;
    }
    // What an address brings along says the address, and what is on the link.
    let direct = next_hop.is_none() && found.gateway.is_none() && found.encap.is_none();
    let via = match (kind, next_hop) {
        _ if other || (has_source && !direct) => Via::Other,
        (RTN_UNICAST, Some(id)) => Via::NextHop(id),
        (RTN_UNICAST, None) if !several => match found.hop(names) {
            Some(hop) => Via::Hop(Box::new(hop)),
            None => Via::Other,
        },
        (RTN_UNREACHABLE, _) => Via::Unreachable,
        _ => Via::Other,
    };
    Some(Route {
        destination: IpNetwork::new(destination, prefix).ok()?,
        table,
        metric,
        protocol,
        via,
    })
}

/// `struct ndmsg` and `NDA_*` of a permanent neighbour.
fn neighbour(payload: &[u8], names: &mut Names<'_>) -> Option<Neighbour> {
    unspecified(u8_at(payload, 0)?)?;
    if u16_at(payload, 8)? != NUD_PERMANENT || u8_at(payload, 10)? & NTF_PROXY != 0 {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            NDA_DST => address = ip_of(value),
            NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok().map(MacAddr),
            _ => {}
        }
    }
    Some(Neighbour {
        link: names(u32_at(payload, 4)?)?,
        address: address?,
        mac: mac?,
    })
}

/// `struct ndmsg` and `NDA_*` of a permanent forwarding entry of a VXLAN device, where it goes by the device's own port and
/// VNI.
fn fdb(payload: &[u8], names: &mut Names<'_>) -> Option<FdbEntry> {
    if u16_at(payload, 8)? & NUD_PERMANENT == 0 || u8_at(payload, 10)? & NTF_SELF == 0 {
        return None;
    }
    let (mut remote, mut mac) = (None, None);
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            NDA_DST => remote = ip_of(value),
            NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok().map(MacAddr),
            NDA_PORT | NDA_VNI | NDA_IFINDEX | NDA_SRC_VNI | NDA_NH_ID => return None,
            _ => {}
        }
    }
    Some(FdbEntry {
        link: names(u32_at(payload, 4)?)?,
        mac: mac?,
        remote: remote?,
    })
}

/// `struct fib_rule_hdr` and `FRA_*`, where they say nothing but a source prefix and a table.
fn rule(payload: &[u8]) -> Option<PolicyRule> {
    let [family, to, prefix, tos, table, _, _, action] = *payload.first_chunk::<8>()?;
    let inverted = u32_at(payload, 8)? & FIB_RULE_INVERT != 0;
    if to != 0 || tos != 0 || action != FR_ACT_TO_TBL || inverted {
        return None;
    }
    let mut source = unspecified(family)?;
    let (mut table, mut priority, mut protocol) = (u32::from(table), 0, 0);
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            FRA_SRC => source = ip_of(value)?,
            FRA_PRIORITY => priority = u32_of(value)?,
            FRA_TABLE => table = u32_of(value)?,
            FRA_PROTOCOL => protocol = u8_of(value)?,
            // The kernel says of every rule that it suppresses nothing.
            FRA_SUPPRESS_PREFIXLEN | FRA_SUPPRESS_IFGROUP if u32_of(value)? == u32::MAX => {}
            FRA_DST | FRA_IIFNAME | FRA_GOTO | FRA_FWMARK..=FRA_SUPPRESS_PREFIXLEN => return None,
            FRA_FWMASK | FRA_OIFNAME | FRA_L3MDEV | FRA_UID_RANGE => return None,
            FRA_IP_PROTO..=FRA_DSCP_MASK => return None,
            _ => {}
        }
    }
    Some(PolicyRule {
        priority,
        source: IpNetwork::new(source, prefix).ok()?,
        table,
        protocol,
    })
}

fn unspecified(family: u8) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        AF_INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}
