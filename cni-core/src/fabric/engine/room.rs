//! Room in the kernel's tables of neighbours.
//!
//! A peer that is reached through its own address in the segment takes an entry as soon as there is traffic for it, and where the
//! table is full that traffic is lost (`net/core/neighbour.c`, `neigh_alloc`). Permanent entries are exempt (since Linux
//! 5.0), so that those of a VXLAN device do not count.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::Result;
use crate::host::Sysctl;
use crate::host::forwarding::{Entry, Hop, Via};
use crate::plan::Change;

use super::super::diff::Act;
use super::super::items::Item;
use super::super::report::{DifferenceStep, Report, Thing};
use super::Engine;

/// How many neighbours the peers need, and the room that was found for them; IPv4 first.
#[derive(Debug, Clone, Default)]
pub(super) struct Neighbours {
    ipv4: Table,
    ipv6: Table,
}

/// One family's.
#[derive(Debug, Clone, Default)]
struct Table {
    /// Peers with a gateway of this family.
    peers: u32,
    room: Option<Room>,
}

/// What was found when this much was wanted.
#[derive(Debug, Clone)]
struct Room {
    wanted: u32,
    has: u32,
    /// Why there is not more.
    why: String,
}

/// A limit, and what it should be at the least.
#[derive(Debug)]
struct Limit {
    key: String,
    least: u32,
    /// `None` where the kernel shows no such parameter.
    found: Option<u32>,
}

/// What the kernel begins with (`arp_tbl`, `nd_tbl`). The table is one for all network namespaces, and only the first of them
/// shows its limits.
const DEFAULT: u32 = 1024;

impl Neighbours {
    /// Counts what a peer needs.
    pub(super) fn add(&mut self, items: &[Item]) {
        for gateway in gateways(items) {
            let peers = &mut self.table(gateway.is_ipv6()).peers;
            *peers = peers.saturating_add(1);
        }
    }

    /// Takes out what was counted.
    pub(super) fn remove(&mut self, items: &[Item]) {
        for gateway in gateways(items) {
            let peers = &mut self.table(gateway.is_ipv6()).peers;
            *peers = peers.saturating_sub(1);
        }
    }

    fn table(&mut self, ipv6: bool) -> &mut Table {
        match ipv6 {
            false => &mut self.ipv4,
            true => &mut self.ipv6,
        }
    }

    /// Where not all peers fit, in words.
    pub(super) fn short(&self) -> Vec<String> {
        let tables = [(&self.ipv4, false), (&self.ipv6, true)];
        let short = tables.into_iter().filter_map(|(table, ipv6)| {
            let room = table.room.as_ref();
            let room = room.filter(|room| table.peers > room.has)?;
            // Without their number: who tells of it once has to know it again.
            Some(format!(
                "more than {} peers are reached through {} neighbours, and the kernel has room for no more in all network \
                 namespaces together: set {} to at least {} ({})",
                room.has,
                if ipv6 { "IPv6" } else { "IPv4" },
                key(ipv6, 3),
                room.wanted,
                room.why
            ))
        });
        short.collect()
    }
}

impl Table {
    /// Room for all peers and as many others, pods among them. A power of two, so that few changes of the cluster change it; for
    /// up to 512 peers no more than what the kernel begins with.
    fn wanted(&self) -> u32 {
        match self.peers {
            0 => 0,
            peers => peers
                .saturating_mul(2)
                .checked_next_power_of_two()
                .unwrap_or(1 << 31),
        }
    }
}

impl Engine {
    /// Raises the limits where they are too low and this process may; never lowers one. That it may not keeps nobody from
    /// anything until the table is full.
    pub(super) async fn make_room(&mut self, drift: bool, report: &mut Report) {
        let Some(known) = &mut self.known else {
            return;
        };
        for ipv6 in [false, true] {
            let table = known.neighbours.table(ipv6);
            let wanted = table.wanted();
            let is_known = |room: &Room| room.wanted == wanted;
            if wanted == 0 || table.room.as_ref().is_some_and(is_known) {
                continue;
            }
            let room = raise(self.host.sysctl.as_ref(), ipv6, wanted, drift, report).await;
            table.room = Some(room);
        }
    }

    /// What [`Engine::make_room`] would do.
    pub(super) async fn room_lacking(&self, neighbours: &mut Neighbours) -> Vec<DifferenceStep> {
        let mut steps = Vec::new();
        for ipv6 in [false, true] {
            let wanted = neighbours.table(ipv6).wanted();
            let Ok(limits) = limits(self.host.sysctl.as_ref(), ipv6, wanted).await else {
                continue;
            };
            steps.extend(limits.iter().filter(|limit| limit.is_low()).map(|limit| {
                DifferenceStep {
                    command: limit.change().to_string(),
                    reason: limit.reason(),
                    surplus: false,
                }
            }));
        }
        steps
    }
}

async fn raise(
    sysctl: &dyn Sysctl,
    ipv6: bool,
    wanted: u32,
    drift: bool,
    report: &mut Report,
) -> Room {
    let mut room = Room {
        wanted,
        has: DEFAULT,
        why: "this network namespace does not show it, the first one does".to_owned(),
    };
    let limits = match limits(sysctl, ipv6, wanted).await {
        Ok(limits) => limits,
        Err(error) => {
            room.why = error.chain();
            return room;
        }
    };
    for (place, limit) in limits.iter().enumerate() {
        let mut has = limit.found;
        if limit.is_low() {
            match sysctl.write(&limit.key, &limit.least.to_string()).await {
                Ok(()) => {
                    has = Some(limit.least);
                    report.count(Thing::Base, Act::Replace);
                    tracing::info!("raised: {}", limit.reason());
                    if drift {
                        report.drift(|| limit.reason());
                    }
                }
                Err(error) => room.why = error.chain(),
            }
        }
        if let (0, Some(has)) = (place, has) {
            room.has = has;
        }
    }
    room
}

/// First how many entries there may be; then from how many on a new one throws out those that have not been used for five
/// seconds, which must come again at once.
async fn limits(sysctl: &dyn Sysctl, ipv6: bool, wanted: u32) -> Result<Vec<Limit>> {
    let mut limits = Vec::new();
    for (number, least) in [(3, wanted), (2, wanted / 2)] {
        let key = key(ipv6, number);
        let found = sysctl.read(&key).await?;
        limits.push(Limit {
            found: found.and_then(|text| text.trim().parse().ok()),
            key,
            least,
        });
    }
    Ok(limits)
}

impl Limit {
    fn is_low(&self) -> bool {
        self.found.is_some_and(|found| found < self.least)
    }

    fn reason(&self) -> String {
        let found = self.found.unwrap_or_default();
        format!("{} is {found}, should be at least {}", self.key, self.least)
    }

    fn change(&self) -> Change {
        Change::Sysctl {
            key: self.key.clone(),
            value: self.least.to_string(),
        }
    }
}

fn key(ipv6: bool, number: u8) -> String {
    let family = if ipv6 { "ipv6" } else { "ipv4" };
    format!("net/{family}/neigh/default/gc_thresh{number}")
}

/// Gateways that the kernel asks for their hardware address.
fn gateways(items: &[Item]) -> BTreeSet<IpAddr> {
    let hops = items.iter().filter_map(|item| match item {
        Item::Entry(Entry::NextHop(hop)) => Some(&hop.hop),
        Item::Entry(Entry::Route(route)) => match &route.via {
            Via::Hop(hop) => Some(&**hop),
            _ => None,
        },
        _ => None,
    });
    let mut gateways: BTreeSet<IpAddr> = hops.filter_map(|hop: &Hop| hop.gateway).collect();
    for item in items {
        if let Item::Entry(Entry::Neighbour(permanent)) = item {
            gateways.remove(&permanent.address);
        }
    }
    gateways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_twice_the_peers_and_never_less_than_the_kernel_begins_with() {
        let wanted = |peers| {
            let table = Table { peers, room: None };
            table.wanted()
        };
        assert_eq!((wanted(0), wanted(1), wanted(512)), (0, 2, DEFAULT));
        assert_eq!((wanted(513), wanted(40_000)), (2048, 131_072));
        assert_eq!(wanted(u32::MAX), 1 << 31);
    }
}
