//! What a node claims, as blocks that contain one another or do not meet.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::Node;
use crate::host::netlink::MacAddr;

/// What kind of number a block is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
    Mac,
}

/// A prefix; an address or a hardware address is one of full length. The order is by first number, the larger block
/// first: what a block contains follows it without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Block {
    family: Family,
    /// The first number, from the left; bytes, because `u128` would need 16 bytes more in each of very many places.
    first: [u8; 16],
    length: u8,
}

impl Family {
    /// The length of its numbers.
    fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
            Self::Mac => 48,
        }
    }
}

impl Block {
    fn new(family: Family, bits: u128, length: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self {
            family,
            first: (bits & mask).to_be_bytes(),
            length,
        }
    }

    /// The prefix without its host bits.
    pub(super) fn of_prefix(prefix: IpNetwork) -> Self {
        Self::of_address(prefix.ip()).widened(prefix.prefix())
    }

    pub(super) fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::new(Family::V4, u128::from(u32::from(address)) << 96, 32),
            IpAddr::V6(address) => Self::new(Family::V6, u128::from(address), 128),
        }
    }

    pub(super) fn of_mac(mac: MacAddr) -> Self {
        let bits = mac
            .0
            .iter()
            .fold(0, |bits, byte| bits << 8 | u128::from(*byte));
        Self::new(Family::Mac, bits << 80, 48)
    }

    /// The block of this length that contains this one, which is not shorter.
    pub(super) fn widened(self, length: u8) -> Self {
        Self::new(self.family, u128::from_be_bytes(self.first), length)
    }

    pub(super) fn family(self) -> Family {
        self.family
    }

    pub(super) fn length(self) -> u8 {
        self.length
    }

    /// Whether it is a single number: an address, or a hardware address.
    pub(super) fn is_single(self) -> bool {
        self.length == self.family.bits()
    }

    /// The end of the blocks that this one contains: all that are not less than it and not greater than this.
    pub(super) fn last(self) -> Self {
        let rest = u128::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
        Self {
            family: self.family,
            first: (u128::from_be_bytes(self.first) | rest).to_be_bytes(),
            length: u8::MAX,
        }
    }

    pub(super) fn contains(self, other: Self) -> bool {
        self <= other && other <= self.last()
    }
}

impl Ord for Block {
    /// By numbers in registers: what is derived would call `memcmp` for 16 bytes, in the innermost loop of everything here.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |block: &Self| (block.family, u128::from_be_bytes(block.first), block.length);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Block {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.first);
        match self.family {
            Family::V4 => write!(f, "{}", Ipv4Addr::from((bits >> 96) as u32))?,
            Family::V6 => write!(f, "{}", Ipv6Addr::from(bits))?,
            Family::Mac => {
                let [a, b, c, d, e, g, ..] = self.first;
                write!(f, "{}", MacAddr([a, b, c, d, e, g]))?;
            }
        }
        if !self.is_single() {
            write!(f, "/{}", self.length)?;
        }
        Ok(())
    }
}

/// Adds what a node claims, which no other node may have: prefixes and addresses, and the hardware address that it was given.
/// One of its own prefixes that contradicts itself is not claimed.
pub(super) fn claims(node: &Node, into: &mut Vec<Block>) {
    let consistent = |prefix: &&IpNetwork| contradiction(node, **prefix).is_none();
    into.extend(
        node.prefixes
            .iter()
            .filter(consistent)
            .map(|prefix| Block::of_prefix(*prefix)),
    );
    into.extend(node.own_addresses().map(Block::of_address));
    into.extend(node.vtep_mac.map(Block::of_mac));
}

/// The node's own underlay address that a prefix of its own contains: a route for such a prefix would send the tunnel's packets
/// into the tunnel.
pub(super) fn contradiction(node: &Node, prefix: IpNetwork) -> Option<Block> {
    let prefix = Block::of_prefix(prefix);
    underlay(node)
        .map(Block::of_address)
        .find(|address| prefix.contains(*address))
}

/// The node without what it does not hold; `None` when that is the node as it is. Prefixes lose their host bits, of two of its own
/// that overlap the larger stays, and a second underlay address of a family becomes a further address.
pub(super) fn reduced(node: &Node, held: impl Fn(Block) -> bool) -> Option<Node> {
    if is_whole(node, &held) {
        return None;
    }
    let address_held = |address: &IpAddr| held(Block::of_address(*address));
    let mut rest = node.clone();
    rest.underlay = underlay(node).filter(address_held).collect();
    rest.addresses.clear();
    for address in node.own_addresses().filter(address_held) {
        if !rest.own_addresses().any(|have| have == address) {
            rest.addresses.push(address);
        }
    }
    let mut prefixes: Vec<IpNetwork> = node
        .prefixes
        .iter()
        .filter(|prefix| {
            contradiction(node, **prefix).is_none() && held(Block::of_prefix(**prefix))
        })
        .map(|prefix| without_host_bits(*prefix))
        .collect();
    prefixes = prefixes
        .iter()
        .enumerate()
        .filter(|(index, prefix)| !is_redundant(&prefixes, *index, **prefix))
        .map(|(_, prefix)| *prefix)
        .collect();
    rest.prefixes = prefixes;
    rest.vtep_mac = node.vtep_mac.filter(|mac| held(Block::of_mac(*mac)));
    Some(rest)
}

/// Whether nothing has to be taken out: what nearly every node is, so that this allocates nothing.
fn is_whole(node: &Node, held: impl Fn(Block) -> bool) -> bool {
    let prefixes = &node.prefixes;
    let addresses = &node.addresses;
    prefixes.iter().enumerate().all(|(index, prefix)| {
        without_host_bits(*prefix) == *prefix
            && !is_redundant(prefixes, index, *prefix)
            && contradiction(node, *prefix).is_none()
            && held(Block::of_prefix(*prefix))
    }) && underlay(node).count() == node.underlay.len()
        && addresses.iter().enumerate().all(|(index, address)| {
            !addresses
                .iter()
                .take(index)
                .chain(&node.underlay)
                .any(|other| other == address)
        })
        && node
            .own_addresses()
            .all(|address| held(Block::of_address(address)))
        && node.vtep_mac.is_none_or(|mac| held(Block::of_mac(mac)))
}

/// The first underlay address of each family.
fn underlay(node: &Node) -> impl Iterator<Item = IpAddr> {
    let first = node.underlay.first().copied();
    let other = first.and_then(|first| node.underlay(first.is_ipv4()));
    first.into_iter().chain(other)
}

/// Whether another prefix of the list contains the one at this place; of two equal ones the first stays.
fn is_redundant(prefixes: &[IpNetwork], index: usize, prefix: IpNetwork) -> bool {
    let block = Block::of_prefix(prefix);
    prefixes.iter().enumerate().any(|(other, larger)| {
        let larger = Block::of_prefix(*larger);
        other != index && larger.contains(block) && (larger != block || other < index)
    })
}

fn without_host_bits(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).unwrap_or(prefix)
}
