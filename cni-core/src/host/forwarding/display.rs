//! How changes and reads print: as iproute2 commands.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::Scope;
use super::change::Change;
use super::entry::{Encap, Entry, Hop, Kind, NextHop, PolicyRule, Route, Via};
use crate::host::netlink::Word;

/// Table `main`, which `ip` takes where none is named.
const MAIN: u32 = 254;

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = !matches!(self, Self::Del(_));
        let verb = match self {
            Self::Add(_) => "add",
            // There is no `ip rule replace`.
            Self::Replace(Entry::Rule(_)) => "add",
            Self::Replace(_) => "replace",
            Self::Prepend(_) => "prepend",
            Self::Del(_) => "del",
        };
        match self.entry() {
            Entry::NextHop(next_hop) if made => self::next_hop(f, verb, next_hop),
            Entry::NextHop(next_hop) => write!(f, "ip nexthop {verb} id {}", next_hop.id),
            Entry::Route(route) => self::route(f, verb, route, made),
            Entry::Neighbour(neighbour) => {
                write!(f, "ip neigh {verb} {}", neighbour.address)?;
                if made {
                    write!(f, " lladdr {}", neighbour.mac)?;
                }
                write!(f, " dev {}", Word(&neighbour.link))?;
                f.write_str(if made { " nud permanent" } else { "" })
            }
            Entry::Fdb(entry) => {
                let link = Word(&entry.link);
                write!(f, "bridge fdb {verb} {} dev {link}", entry.mac)?;
                if made {
                    write!(f, " dst {} self permanent", entry.remote)
                } else {
                    f.write_str(" self")
                }
            }
            Entry::Rule(rule) => self::rule(f, verb, rule),
        }
    }
}

impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::NextHop => "ip nexthop show",
            Kind::Route => "ip route show table all",
            Kind::Neighbour => "ip neigh show nud permanent",
            Kind::Fdb => "bridge fdb show",
            Kind::Rule => "ip rule show",
        })?;
        match (self.kind, self.protocol, self.link) {
            (Kind::NextHop | Kind::Route | Kind::Rule, Some(protocol), _) => {
                write!(f, " proto {protocol}")
            }
            (Kind::Neighbour | Kind::Fdb, _, Some(link)) => write!(f, " dev {}", Word(link)),
            _ => Ok(()),
        }
    }
}

fn next_hop(f: &mut fmt::Formatter<'_>, verb: &str, next_hop: &NextHop) -> fmt::Result {
    let family = if next_hop.hop.gateway.is_none() {
        "-6 "
    } else {
        ""
    };
    write!(f, "ip {family}nexthop {verb} id {}", next_hop.id)?;
    hop(f, &next_hop.hop, None)?;
    write!(f, " proto {}", next_hop.protocol)
}

fn hop(f: &mut fmt::Formatter<'_>, hop: &Hop, destination: Option<IpNetwork>) -> fmt::Result {
    if let Some(Encap {
        id,
        remote,
        source,
        checksum,
    }) = &hop.encap
    {
        let family = if remote.is_ipv6() { "ip6" } else { "ip" };
        write!(f, " encap {family} id {id}")?;
        if let Some(source) = source {
            write!(f, " src {source}")?;
        }
        write!(f, " dst {remote}")?;
        f.write_str(if *checksum { " csum" } else { "" })?;
    }
    match (hop.gateway, destination) {
        (None, _) => {}
        (Some(IpAddr::V6(gateway)), Some(IpNetwork::V4(_))) => write!(f, " via inet6 {gateway}")?,
        (Some(IpAddr::V4(gateway)), Some(IpNetwork::V6(_))) => write!(f, " via inet {gateway}")?,
        (Some(gateway), _) => write!(f, " via {gateway}")?,
    }
    write!(f, " dev {}", Word(&hop.link))?;
    f.write_str(if hop.onlink { " onlink" } else { "" })
}

fn route(f: &mut fmt::Formatter<'_>, verb: &str, route: &Route, made: bool) -> fmt::Result {
    f.write_str(match route.destination {
        IpNetwork::V4(_) => "ip route ",
        IpNetwork::V6(_) => "ip -6 route ",
    })?;
    f.write_str(verb)?;
    f.write_char(' ')?;
    match &route.via {
        Via::Unreachable => f.write_str("unreachable ")?,
        // A removal without a type would be one of any type.
        Via::NextHop(_) | Via::Hop(_) if !made => f.write_str("unicast ")?,
        _ => {}
    }
    prefix(f, route.destination)?;
    match &route.via {
        Via::NextHop(id) if made => write!(f, " nhid {id}")?,
        Via::Hop(hop) if made => self::hop(f, hop, Some(route.destination))?,
        _ => {}
    }
    if route.metric != 0 {
        write!(f, " metric {}", route.metric)?;
    }
    if route.table != MAIN {
        write!(f, " table {}", route.table)?;
    }
    write!(f, " proto {}", route.protocol)
}

fn rule(f: &mut fmt::Formatter<'_>, verb: &str, rule: &PolicyRule) -> fmt::Result {
    f.write_str(match rule.source {
        IpNetwork::V4(_) => "ip rule ",
        IpNetwork::V6(_) => "ip -6 rule ",
    })?;
    write!(f, "{verb} priority {} from ", rule.priority)?;
    match rule.source.prefix() {
        0 => f.write_str("all")?,
        _ => prefix(f, rule.source)?,
    }
    write!(f, " lookup {} proto {}", rule.table, rule.protocol)
}

fn prefix(f: &mut fmt::Formatter<'_>, prefix: IpNetwork) -> fmt::Result {
    match prefix.prefix() {
        0 => f.write_str("default"),
        length => write!(f, "{}/{length}", prefix.network()),
    }
}
