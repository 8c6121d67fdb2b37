//! Which prefixes nodes may have, and in which order a node asks for them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// A prefix that is cut into nodes' prefixes of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    prefix: IpNetwork,
    length: u8,
    /// The numbers of the first and the last that may be asked for.
    least: u64,
    most: u64,
}

impl Range {
    /// `None` where bits after the prefix length are set, `length` is less than the prefix's or more than its family has, or there
    /// would be more than 2^32 nodes' prefixes.
    pub fn new(prefix: IpNetwork, length: u8) -> Option<Self> {
        let most = if prefix.is_ipv6() { 128 } else { 32 };
        let bits = length.checked_sub(prefix.prefix())?;
        let sound = prefix.ip() == prefix.network() && length <= most && bits <= 32;
        sound.then_some(Self {
            prefix,
            length,
            least: 0,
            most: u64::MAX,
        })
    }

    /// The same, of which nobody asks for others than those from one number to another.
    #[must_use]
    pub fn between(self, least: u64, most: u64) -> Self {
        Self {
            least,
            most,
            ..self
        }
    }

    /// Whether both are cut in the same way.
    pub fn is_as(&self, other: &Self) -> bool {
        (self.prefix, self.length) == (other.prefix, other.length)
    }

    /// The number of the prefix that begins with an IPv4 address.
    pub fn number_of(&self, address: IpAddr) -> Option<u64> {
        let (IpAddr::V4(base), IpAddr::V4(address)) = (self.prefix.ip(), address) else {
            return None;
        };
        let offset = u64::from(u32::from(address).checked_sub(u32::from(base))?);
        let size = 1_u64 << 32_u8.checked_sub(self.length)?;
        let number = offset / size;
        (offset % size == 0 && number < self.count()).then_some(number)
    }

    /// The whole.
    pub fn prefix(&self) -> IpNetwork {
        self.prefix
    }

    /// How many nodes' prefixes there are: a power of two.
    pub fn count(&self) -> u64 {
        1 << (self.length - self.prefix.prefix())
    }

    /// Whether this is one of them.
    pub fn has(&self, prefix: IpNetwork) -> bool {
        prefix.prefix() == self.length
            && prefix.is_ipv6() == self.prefix.is_ipv6()
            && self.prefix.contains(prefix.ip())
    }

    /// The one that an address is in.
    pub fn around(&self, address: IpAddr) -> Option<IpNetwork> {
        let around = IpNetwork::new(address, self.length).ok()?;
        let prefix = IpNetwork::new(around.network(), self.length).ok()?;
        self.has(prefix).then_some(prefix)
    }

    /// The prefix of a number below [`Range::count`].
    pub fn nth(&self, number: u64) -> Option<IpNetwork> {
        let ip = match self.prefix.ip() {
            IpAddr::V4(base) => {
                let shifted = (number << (32 - self.length)) as u32;
                IpAddr::V4(Ipv4Addr::from(u32::from(base) | shifted))
            }
            IpAddr::V6(base) => {
                // A length of 128 or 0 shifts by less than the width, as `number` has 32 bits at most.
                let shifted = u128::from(number) << (128 - u32::from(self.length)).min(127);
                IpAddr::V6(Ipv6Addr::from(u128::from(base) | shifted))
            }
        };
        IpNetwork::new(ip, self.length).ok()
    }

    /// All prefixes, in the order in which this node asks for them: from a hash of its uid on, in steps of another. As the
    /// number of prefixes is a power of two and the step is odd, each comes once. Nodes that begin at once thereby ask for
    /// different ones nearly always.
    pub fn order(&self, uid: &str) -> impl Iterator<Item = IpNetwork> + use<> {
        let hash = mix(hash(&[
            uid.as_bytes(),
            b"\0",
            self.prefix.to_string().as_bytes(),
        ]));
        let (start, step) = (hash, mix(hash) | 1);
        let (range, mask) = (*self, self.count() - 1);
        (0..self.count()).filter_map(move |number| {
            let number = start.wrapping_add(number.wrapping_mul(step)) & mask;
            let asked = (range.least..=range.most).contains(&number);
            asked.then(|| range.nth(number)).flatten()
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in /{}", self.prefix, self.length)
    }
}

/// FNV-1a: the same on every machine and in every version.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finisher of SplitMix64, which spreads every bit over all.
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn range(prefix: &str, length: u8) -> Range {
        Range::new(prefix.parse().unwrap(), length).unwrap()
    }

    #[test]
    fn every_prefix_comes_once_and_is_one_of_the_range() {
        for (prefix, length) in [
            ("10.244.0.0/16", 24),
            ("fd00:244::/52", 64),
            ("10.0.0.0/24", 24),
        ] {
            let range = range(prefix, length);
            let all: BTreeSet<IpNetwork> = range.order("n1").collect();
            assert_eq!(all.len() as u64, range.count());
            assert!(
                all.iter()
                    .all(|prefix| range.has(*prefix) && prefix.ip() == prefix.network())
            );
        }
    }

    #[test]
    fn nodes_that_begin_at_once_ask_for_different_prefixes_nearly_always() {
        let range = range("10.0.0.0/8", 24);
        let first = |number: u32| range.order(&format!("node-{number}")).next().unwrap();
        let firsts: BTreeSet<IpNetwork> = (0..1000).map(first).collect();
        // By chance alone some 8 of 1,000 in 65,536 meet.
        assert!(firsts.len() > 975, "{}", firsts.len());
    }

    #[test]
    fn the_order_is_the_same_everywhere() {
        let first: Vec<String> = range("10.244.0.0/16", 24)
            .order("n1")
            .take(2)
            .map(|prefix| prefix.to_string())
            .collect();
        let again: Vec<String> = range("10.244.0.0/16", 24)
            .order("n1")
            .take(2)
            .map(|prefix| prefix.to_string())
            .collect();
        assert_eq!(first, again);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (prefix, length) in [
            ("10.244.0.0/16", 15),
            ("10.244.0.1/16", 24),
            ("fd00::/16", 64),
            ("10.0.0.0/8", 33),
        ] {
            assert!(
                Range::new(prefix.parse().unwrap(), length).is_none(),
                "{prefix} {length}"
            );
        }
    }
}
