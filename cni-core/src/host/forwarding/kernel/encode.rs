//! Changes into messages, as iproute2 sends them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};

use super::super::change::Change;
use super::super::entry::{Encap, Entry, Hop, NextHop, PolicyRule, Route, Via};
use super::uapi::*;
use crate::host::netlink::{MacAddr, errno};
use crate::host::rtnl::{Batch, Failure, Writer};

/// What encoding needs to know of the kernel.
pub(super) struct Facts<'a> {
    /// The index of a link.
    pub(super) index: &'a mut dyn FnMut(&str) -> Result<u32, Failure>,
    /// A next hop without gateway is one of IPv6.
    pub(super) ipv6: bool,
}

/// Appends one change.
///
/// # Errors
/// What the kernel would take for something else than was meant, and links that are not there. Nothing is appended.
pub(super) fn change(
    change: &Change,
    facts: &mut Facts<'_>,
    batch: &mut Batch,
) -> Result<(), Failure> {
    if let Some((errno, message)) = change.fault() {
        return Err(Failure::refused(errno, message));
    }
    let entry = change.entry();
    let making = match change {
        Change::Add(_) => Some(NLM_F_CREATE | NLM_F_EXCL),
        // The kernel replaces no rule, it makes a second one. A rule is its key, so that one which is there is the one
        // that was meant; see `harmless`.
        Change::Replace(Entry::Rule(_)) => Some(NLM_F_CREATE | NLM_F_EXCL),
        Change::Replace(_) => Some(NLM_F_CREATE | NLM_F_REPLACE),
        Change::Prepend(_) => Some(NLM_F_CREATE),
        Change::Del(_) => None,
    };
    let making = making.map(|flags| flags | NLM_F_REQUEST);
    let head = |new: u16, old: u16| match making {
        Some(flags) => (new, flags),
        None => (old, NLM_F_REQUEST),
    };
    let made = making.is_some();
    match entry {
        Entry::NextHop(next_hop) => batch.push(head(RTM_NEWNEXTHOP, RTM_DELNEXTHOP), |to| {
            if made {
                self::next_hop(next_hop, facts, to)
            } else {
                to.header(&[0; 8]);
                to.attribute(NHA_ID, &next_hop.id.to_ne_bytes());
                Ok(())
            }
        }),
        Entry::Route(route) => batch.push(head(RTM_NEWROUTE, RTM_DELROUTE), |to| {
            self::route(route, made, facts, to)
        }),
        Entry::Neighbour(neighbour) => batch.push(head(RTM_NEWNEIGH, RTM_DELNEIGH), |to| {
            let index = (facts.index)(&neighbour.link)?;
            neighbour_header(family(neighbour.address), index, 0, to);
            address(NDA_DST, neighbour.address, to);
            if made {
                to.attribute(NDA_LLADDR, &neighbour.mac.0);
            }
            Ok(())
        }),
        Entry::Fdb(entry) => batch.push(head(RTM_NEWNEIGH, RTM_DELNEIGH), |to| {
            let index = (facts.index)(&entry.link)?;
            neighbour_header(AF_BRIDGE, index, NTF_SELF, to);
            let MacAddr(mac) = entry.mac;
            to.attribute(NDA_LLADDR, &mac);
            if made {
                address(NDA_DST, entry.remote, to);
            }
            Ok(())
        }),
        Entry::Rule(rule) => batch.push(head(RTM_NEWRULE, RTM_DELRULE), |to| {
            self::rule(rule, to);
            Ok(())
        }),
    }
}

/// Whether the failure means that all is as it was to be.
pub(super) fn harmless(change: &Change, failure: &Failure) -> bool {
    matches!(change, Change::Replace(Entry::Rule(_))) && failure.errno == errno::EEXIST
}

/// `struct nhmsg` and `NHA_*`.
fn next_hop(next_hop: &NextHop, facts: &mut Facts<'_>, to: &mut Writer<'_>) -> Result<(), Failure> {
    let hop = &next_hop.hop;
    let family = match hop.gateway {
        Some(gateway) => family(gateway),
        None if facts.ipv6 => AF_INET6,
        None => AF_INET,
    };
    let index = (facts.index)(&hop.link)?;
    to.header(&[family, RT_SCOPE_UNIVERSE, next_hop.protocol, 0]);
    to.header(&flags(hop).to_ne_bytes());
    to.attribute(NHA_ID, &next_hop.id.to_ne_bytes());
    to.attribute(NHA_OIF, &index.to_ne_bytes());
    if let Some(gateway) = hop.gateway {
        address(NHA_GATEWAY, gateway, to);
    }
    if let Some(encap) = &hop.encap {
        self::encap(encap, NHA_ENCAP_TYPE, NHA_ENCAP, to);
    }
    Ok(())
}

/// `struct rtmsg` and `RTA_*`. A route to remove is its key, its protocol and its type: several IPv4 routes may have one
/// key, and the kernel takes metric 0 in a removal for any.
fn route(
    route: &Route,
    made: bool,
    facts: &mut Facts<'_>,
    to: &mut Writer<'_>,
) -> Result<(), Failure> {
    let (kind, hop) = match &route.via {
        Via::Unreachable => (RTN_UNREACHABLE, None),
        Via::NextHop(_) => (RTN_UNICAST, None),
        Via::Hop(hop) => (RTN_UNICAST, Some(hop)),
        Via::Other => (0, None),
    };
    let hop = hop.filter(|_| made);
    let scope = match hop {
        _ if !made => RT_SCOPE_NOWHERE,
        Some(hop) if route.destination.is_ipv4() && hop.gateway.is_none() => RT_SCOPE_LINK,
        _ => RT_SCOPE_UNIVERSE,
    };
    let prefix = route.destination.prefix();
    let table = u8::try_from(route.table).unwrap_or(0);
    let family = family(route.destination.ip());
    to.header(&[family, prefix, 0, 0, table, route.protocol, scope, kind]);
    to.header(&hop.map_or(0, |hop| flags(hop)).to_ne_bytes());
    if table == 0 {
        to.attribute(RTA_TABLE, &route.table.to_ne_bytes());
    }
    if prefix > 0 {
        address(RTA_DST, route.destination.network(), to);
    }
    if route.metric != 0 {
        to.attribute(RTA_PRIORITY, &route.metric.to_ne_bytes());
    }
    if let (Via::NextHop(id), true) = (&route.via, made) {
        to.attribute(RTA_NH_ID, &id.to_ne_bytes());
    }
    if let Some(hop) = hop {
        let index = (facts.index)(&hop.link)?;
        to.attribute(RTA_OIF, &index.to_ne_bytes());
        match (hop.gateway, route.destination) {
            (None, _) => {}
            (Some(IpAddr::V6(gateway)), IpNetwork::V4(_)) => via(AF_INET6, &gateway.octets(), to),
            (Some(IpAddr::V4(gateway)), IpNetwork::V6(_)) => via(AF_INET, &gateway.octets(), to),
            (Some(gateway), _) => address(RTA_GATEWAY, gateway, to),
        }
        if let Some(encap) = &hop.encap {
            self::encap(encap, RTA_ENCAP_TYPE, RTA_ENCAP, to);
        }
    }
    Ok(())
}

/// `struct rtvia`: a gateway of the other family.
fn via(family: u8, octets: &[u8], to: &mut Writer<'_>) {
    let mut value = u16::from(family).to_ne_bytes().to_vec();
    value.extend_from_slice(octets);
    to.attribute(RTA_VIA, &value);
}

fn flags(hop: &Hop) -> u32 {
    if hop.onlink { RTNH_F_ONLINK } else { 0 }
}

/// An outer header (`enum lwtunnel_ip_t`).
fn encap(encap: &Encap, kind_attribute: u16, attribute: u16, to: &mut Writer<'_>) {
    let kind = match encap.remote {
        IpAddr::V4(_) => LWTUNNEL_ENCAP_IP,
        IpAddr::V6(_) => LWTUNNEL_ENCAP_IP6,
    };
    to.attribute(kind_attribute, &kind.to_ne_bytes());
    to.nested(attribute, |to| {
        to.attribute(LWTUNNEL_IP_ID, &u64::from(encap.id).to_be_bytes());
        address(LWTUNNEL_IP_DST, encap.remote, to);
        if let Some(source) = encap.source {
            address(LWTUNNEL_IP_SRC, source, to);
        }
        if encap.checksum {
            to.attribute(LWTUNNEL_IP_FLAGS, &TUNNEL_CSUM.to_be_bytes());
        }
    });
}

/// `struct ndmsg`.
fn neighbour_header(family: u8, index: u32, flags: u8, to: &mut Writer<'_>) {
    to.header(&[family, 0, 0, 0]);
    to.header(&index.to_ne_bytes());
    to.header(&NUD_PERMANENT.to_ne_bytes());
    to.header(&[flags, 0]);
}

/// `struct fib_rule_hdr` and `FRA_*`.
fn rule(rule: &PolicyRule, to: &mut Writer<'_>) {
    let prefix = rule.source.prefix();
    let table = u8::try_from(rule.table).unwrap_or(0);
    let family = family(rule.source.ip());
    to.header(&[family, 0, prefix, 0, table, 0, 0, FR_ACT_TO_TBL]);
    to.header(&[0; 4]);
    if prefix > 0 {
        address(FRA_SRC, rule.source.network(), to);
    }
    to.attribute(FRA_PRIORITY, &rule.priority.to_ne_bytes());
    to.attribute(FRA_PROTOCOL, &[rule.protocol]);
    if table == 0 {
        to.attribute(FRA_TABLE, &rule.table.to_ne_bytes());
    }
}

fn address(kind: u16, address: IpAddr, to: &mut Writer<'_>) {
    match address {
        IpAddr::V4(address) => to.attribute(kind, &address.octets()),
        IpAddr::V6(address) => to.attribute(kind, &address.octets()),
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}
