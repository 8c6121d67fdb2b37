//! Notifications into events.

use std::collections::HashMap;
use std::io;

use super::super::KernelEvent;
use crate::host::firewall::{self, Table};
use crate::host::forwarding::kernel::decode;
use crate::host::forwarding::{Entry, Key, LinkName};
use crate::host::own_writes::{self, OwnWrites, Watching};
use crate::host::port;
use crate::host::rtnl::wire::{attribute, string_of, u8_at, u16_at, u32_at};
use crate::host::rtnl::{Connection, Failure, Writer, Written};

/// `include/uapi/linux/rtnetlink.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
/// `include/uapi/linux/if_link.h`.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
/// `NFT_MSG_NEWGEN`: what ends each transaction.
const NEW_GENERATION: u16 = NFTABLES << 8 | 15;
/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_SET_ELEM_LIST_TABLE` and so on: the same number in all messages.
const NFTA_TABLE: u16 = 1;
/// `struct nfgenmsg`, which begins with the family.
const NFTABLES_HEADER: usize = 4;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// Reads notifications, for which it has to know the links' names.
#[derive(Debug)]
pub(super) struct Messages {
    links: HashMap<u32, Link>,
    /// By the nftables transaction whose messages are coming in.
    touched: Vec<Table>,
    own_writes: Watching,
}

#[derive(Debug, PartialEq, Eq)]
struct Link {
    name: LinkName,
    is_vxlan: bool,
}

impl Messages {
    /// Reads the links there are.
    pub(super) fn read() -> io::Result<Self> {
        let request = Written(RTM_GETLINK, |to: &mut Writer<'_>| {
            to.header(&[0; LINK_HEADER]);
            to.attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        });
        let read = |(_, payload): (u16, &[u8]), links: &mut Vec<(u32, Link)>| {
            links.extend(link(payload));
        };
        let links = Connection::open()?.dump(&request, read);
        let failed = |failure: Failure| io::Error::other(failure.named("ip link show"));
        Ok(Self {
            links: links.map_err(failed)?.into_iter().collect(),
            touched: Vec::new(),
            own_writes: OwnWrites::here().watch(),
        })
    }

    /// Goes through one datagram.
    pub(super) fn each(&mut self, datagram: &[u8], tell: &mut dyn FnMut(KernelEvent)) {
        let mut rest = datagram;
        while let Some(length) = u32_at(rest, 0) {
            let length = length as usize;
            let kind = u16_at(rest, 4);
            let sender = u32_at(rest, 12);
            let (Some(kind), Some(sender), Some(payload)) =
                (kind, sender, rest.get(HEADER..length))
            else {
                return;
            };
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            let ours = port::is_ours(sender);
            self.message(kind, payload, &mut |event| {
                if !ours {
                    tell(event);
                }
            });
        }
    }

    fn message(&mut self, kind: u16, payload: &[u8], tell: &mut dyn FnMut(KernelEvent)) {
        match kind {
            RTM_NEWLINK => self.new_link(payload, tell),
            RTM_DELLINK => self.removed_link(payload, tell),
            RTM_NEWADDR | RTM_DELADDR => {
                // `struct ifaddrmsg`.
                if let Some(index) = u32_at(payload, 4)
                    && let Some(link) = self.links.get(&index)
                {
                    let name = link.name.to_string();
                    tell(KernelEvent::Address { index, name });
                }
            }
            NEW_GENERATION => {
                let tables = self.touched.drain(..);
                tables.for_each(|table| tell(KernelEvent::Firewall { table }));
            }
            _ if kind >> 8 == NFTABLES => self.touch(payload),
            RTM_NEWNEIGH | RTM_DELNEIGH => self.neighbour(kind, payload, tell),
            _ => self.entry(kind, payload).into_iter().for_each(tell),
        }
    }

    /// Something in a table of nftables.
    fn touch(&mut self, payload: &[u8]) {
        let family = u8_at(payload, 0).and_then(firewall::family_of);
        let attributes = payload.get(NFTABLES_HEADER..).unwrap_or_default();
        // Of other families there is no table that could be meant.
        let (Some(family), Some(name)) = (family, attribute(attributes, NFTA_TABLE)) else {
            return;
        };
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        let mut touched = self.touched.iter();
        if !touched.any(|table| table.family == family && table.name.as_bytes() == name) {
            let name = string_of(name);
            self.touched.push(Table { family, name });
        }
    }

    /// A neighbour or a forwarding entry: `struct ndmsg`.
    fn neighbour(&self, kind: u16, payload: &[u8], tell: &mut dyn FnMut(KernelEvent)) {
        let index = u32_at(payload, 4).unwrap_or(0);
        if !self.links.get(&index).is_some_and(|link| link.is_vxlan) {
            return;
        }
        let Some(event) = self.entry(kind, payload) else {
            return;
        };
        let own = match &event {
            KernelEvent::Entry {
                entry: Entry::Fdb(entry),
                removed,
            } => {
                let remote = (!removed).then_some(entry.remote);
                self.own_writes
                    .is_so(own_writes::Key::Fdb(index, entry.mac), remote)
            }
            KernelEvent::Gone {
                key: Key::Neighbour(_, address),
            } => {
                let key = own_writes::Key::Neighbour(index, *address);
                is_removal(kind) && self.own_writes.is_so(key, None)
            }
            _ => false,
        };
        if !own {
            tell(event);
        }
    }

    fn new_link(&mut self, payload: &[u8], tell: &mut dyn FnMut(KernelEvent)) {
        let Some((index, new)) = link(payload) else {
            return;
        };
        let event = |link: &Link, removed| KernelEvent::Link {
            index,
            name: link.name.to_string(),
            removed,
        };
        let made = event(&new, false);
        match self.links.get_mut(&index) {
            Some(known) if known.name != new.name => {
                tell(event(known, true));
                known.name = new.name;
            }
            // What a bridge tells of its ports has no kind.
            Some(_) => {}
            None => {
                self.links.insert(index, new);
            }
        }
        tell(made);
    }

    fn removed_link(&mut self, payload: &[u8], tell: &mut dyn FnMut(KernelEvent)) {
        let Some((index, link)) = link(payload) else {
            return;
        };
        // A bridge tells in its own family that it has one port less; the link is still there.
        let removed = u8_at(payload, 0) == Some(0);
        if removed {
            self.links.remove(&index);
        }
        tell(KernelEvent::Link {
            index,
            name: link.name.to_string(),
            removed,
        });
    }

    fn entry(&self, kind: u16, payload: &[u8]) -> Option<KernelEvent> {
        let mut names = |index| Some(self.links.get(&index)?.name.clone());
        if let Some(entry) = decode::entry(kind, payload, &mut names) {
            let removed = is_removal(kind);
            return Some(KernelEvent::Entry { entry, removed });
        }
        let key = decode::bare_key(kind, payload, &mut names)?;
        Some(KernelEvent::Gone { key })
    }
}

/// Messages come in fours: new, delete, get, set.
fn is_removal(kind: u16) -> bool {
    kind & 3 == 1
}

/// `struct ifinfomsg` and `IFLA_*`.
fn link(payload: &[u8]) -> Option<(u32, Link)> {
    let attributes = payload.get(LINK_HEADER..)?;
    let name = attribute(attributes, IFLA_IFNAME)?;
    let info = attribute(attributes, IFLA_LINKINFO).unwrap_or_default();
    let is_vxlan = attribute(info, IFLA_INFO_KIND).map(string_of);
    let link = Link {
        name: string_of(name).into(),
        is_vxlan: is_vxlan.as_deref() == Some("vxlan"),
    };
    Some((u32_at(payload, 4)?, link))
}
