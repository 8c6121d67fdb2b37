//! What a peer needs is items: one of very many things.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::host::firewall::{Element, Value};
use crate::host::forwarding::{Entry, Hop, Via};

/// One of very many things.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Item {
    /// A next hop, route, neighbour, forwarding entry or rule.
    Entry(Entry),
    /// A member of a set of our nftables table.
    Member(Member),
}

/// A member of a set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// The set's name.
    pub set: Arc<str>,
    /// First part of the key.
    pub first: IpAddr,
    /// Second part, where the key has two.
    pub second: Option<IpAddr>,
}

/// Where an item stands in the order of making: what others lead to comes first. What is removed goes the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// A packet that may not pass a rule is lost, one that has no route as well: the sets come before both.
    Member,
    Fdb,
    /// After the forwarding entry: an address that moves to another VTEP must not lead to one that is behind nothing.
    Neighbour,
    NextHop,
    Route,
    /// A policy rule leads to a table, which must be full by then.
    Rule,
}

impl Item {
    pub(super) fn stage(&self) -> Stage {
        match self {
            Self::Member(_) => Stage::Member,
            Self::Entry(Entry::Fdb(_)) => Stage::Fdb,
            Self::Entry(Entry::Neighbour(_)) => Stage::Neighbour,
            Self::Entry(Entry::NextHop(_)) => Stage::NextHop,
            Self::Entry(Entry::Route(_)) => Stage::Route,
            Self::Entry(Entry::Rule(_)) => Stage::Rule,
        }
    }

    /// How it is told from others, in words.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Member(member) => format!("element {member} of set {}", member.set),
            Self::Entry(Entry::Fdb(entry)) => {
                format!("forwarding entry {} of {}", entry.mac, entry.link)
            }
            Self::Entry(Entry::Neighbour(neighbour)) => {
                format!("neighbour {} of {}", neighbour.address, neighbour.link)
            }
            Self::Entry(Entry::NextHop(hop)) => format!("next hop {}", hop.id),
            Self::Entry(Entry::Route(route)) if route.table == Self::MAIN => {
                format!("route to {}", route.destination)
            }
            Self::Entry(Entry::Route(route)) => {
                format!("route to {} in table {}", route.destination, route.table)
            }
            Self::Entry(Entry::Rule(rule)) => {
                format!("rule from {} to table {}", rule.source, rule.table)
            }
        }
    }

    /// Where it leads, in words.
    pub(super) fn whither(&self) -> String {
        match self {
            Self::Member(_) | Self::Entry(Entry::Rule(_)) => String::new(),
            Self::Entry(Entry::Fdb(entry)) => format!("behind {}", entry.remote),
            Self::Entry(Entry::Neighbour(neighbour)) => format!("at {}", neighbour.mac),
            Self::Entry(Entry::NextHop(hop)) => words(&hop.hop),
            Self::Entry(Entry::Route(route)) => match &route.via {
                Via::NextHop(id) => format!("by next hop {id}"),
                Via::Hop(hop) => words(hop),
                Via::Unreachable => "unreachable".to_owned(),
                Via::Other => "something else".to_owned(),
            },
        }
    }

    /// `RT_TABLE_MAIN`.
    const MAIN: u32 = 254;
}

impl Member {
    /// The element of the nftables set.
    pub(super) fn element(&self) -> Element {
        let key = std::iter::once(self.first).chain(self.second);
        Element::new(key.map(value).collect())
    }

    /// What an element of a set stands for; `None` for one whose key is not one or two addresses.
    pub(super) fn of_element(set: &Arc<str>, element: &Element) -> Option<Self> {
        let mut key = element.key.iter().map(address);
        let first = key.next()??;
        let second = match key.next() {
            Some(second) => Some(second?),
            None => None,
        };
        key.next().is_none().then(|| Self {
            set: set.clone(),
            first,
            second,
        })
    }
}

/// The key as nftables writes it.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        match self.second {
            Some(second) => write!(f, " . {second}"),
            None => Ok(()),
        }
    }
}

fn value(address: IpAddr) -> Value {
    match address {
        IpAddr::V4(address) => Value::Ipv4(address),
        IpAddr::V6(address) => Value::Ipv6(address),
    }
}

fn address(value: &Value) -> Option<IpAddr> {
    match value {
        Value::Ipv4(address) => Some(IpAddr::V4(*address)),
        Value::Ipv6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn words(hop: &Hop) -> String {
    let mut text = format!("through {}", hop.link);
    if let Some(gateway) = hop.gateway {
        text.push_str(&format!(" by {gateway}"));
    }
    if hop.onlink {
        text.push_str(" (onlink)");
    }
    if let Some(encap) = &hop.encap {
        text.push_str(&format!(" to {} with VNI {}", encap.remote, encap.id));
        if let Some(source) = encap.source {
            text.push_str(&format!(" from {source}"));
        }
        if !encap.checksum {
            text.push_str(", without checksum");
        }
    }
    text
}
