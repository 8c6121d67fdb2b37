//! Ranges of addresses, and sets of them: one address is handed out of each set.
//!
//! The rules are the reference `host-local` plugin's (`plugins/ipam/host-local/backend/allocator/range.go`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::error::{Error, ErrorKind, Result};

/// A range as the configuration writes it; what is absent gets the defaults of [`Range::new`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RangeSpec {
    /// The subnet that the addresses belong to, without host bits.
    pub subnet: IpNetwork,
    /// The first address to hand out.
    pub start: Option<IpAddr>,
    /// The last address to hand out.
    pub end: Option<IpAddr>,
    /// The gateway, which is never handed out. It may lie outside the subnet.
    pub gateway: Option<IpAddr>,
}

impl RangeSpec {
    /// All of a subnet.
    pub fn new(subnet: IpNetwork) -> Self {
        Self {
            subnet,
            start: None,
            end: None,
            gateway: None,
        }
    }
}

/// A checked range of addresses of one subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    subnet: IpNetwork,
    start: u128,
    end: u128,
    gateway: IpAddr,
}

/// Ranges of one family that do not overlap, in the order in which they are used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<Range>,
}

impl Range {
    /// Checks a range and fills in what is absent: the gateway is the subnet's first host address, the range begins
    /// there too and ends at the subnet's last address (IPv4: the one before the broadcast address).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`]: host bits, a subnet too small to hand out of, an end outside the subnet or before
    /// the start, a gateway of the other family.
    pub fn new(spec: &RangeSpec) -> Result<Self> {
        let subnet = spec.subnet;
        let bits = if subnet.is_ipv4() { 32 } else { 128 };
        if subnet.prefix() > bits - 2 {
            return Err(invalid(format!(
                "subnet {subnet} is too small to hand addresses out of: the longest prefix is /{}",
                bits - 2
            )));
        }
        if subnet.ip() != subnet.network() {
            return Err(invalid(format!(
                "subnet {subnet} has host bits set: write {}/{}",
                subnet.network(),
                subnet.prefix()
            )));
        }
        let (first, last) = bounds(subnet);
        let start = match spec.start {
            Some(start) => inside(subnet, start, "rangeStart")?,
            None => first.saturating_add(1),
        };
        let end = match spec.end {
            Some(end) => inside(subnet, end, "rangeEnd")?,
            None if subnet.is_ipv4() => last.saturating_sub(1),
            None => last,
        };
        if start > end {
            return Err(invalid(format!(
                "the range {}-{} of subnet {subnet} is empty: rangeStart must not be above rangeEnd",
                address(subnet.is_ipv4(), start),
                address(subnet.is_ipv4(), end)
            )));
        }
        let gateway = spec.gateway.map_or_else(
            || address(subnet.is_ipv4(), first.saturating_add(1)),
            |gateway| gateway.to_canonical(),
        );
        if gateway.is_ipv4() != subnet.is_ipv4() {
            return Err(invalid(format!(
                "gateway {gateway} and subnet {subnet} are of different families"
            )));
        }
        Ok(Self {
            subnet,
            start,
            end,
            gateway,
        })
    }

    /// Whether an address lies between start and end.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.is_ipv4() && (self.start..=self.end).contains(&number(ip))
    }

    /// The gateway, never handed out of this range.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Length of the subnet's prefix.
    pub fn prefix(&self) -> u8 {
        self.subnet.prefix()
    }

    /// Whether this is a range of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.subnet.is_ipv4()
    }

    /// First and last address as numbers.
    pub(crate) fn ends(&self) -> (u128, u128) {
        (self.start, self.end)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.start <= other.end && other.start <= self.end
    }

    /// How many addresses can be handed out.
    fn capacity(&self) -> u128 {
        let gateway = u128::from(self.contains(self.gateway));
        (self.end - self.start)
            .saturating_add(1)
            .saturating_sub(gateway)
    }
}

impl RangeSet {
    /// A set of checked ranges.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`]: no range, ranges of both families, overlapping ranges.
    pub fn new(ranges: Vec<Range>) -> Result<Self> {
        let Some(first) = ranges.first() else {
            return Err(invalid(
                "a range set is empty: give it a range or remove it".to_owned(),
            ));
        };
        if let Some(other) = ranges
            .iter()
            .find(|range| range.is_ipv4() != first.is_ipv4())
        {
            return Err(invalid(format!(
                "a range set holds {} and {}: one set must be of one family",
                first.subnet, other.subnet
            )));
        }
        for (index, range) in ranges.iter().enumerate() {
            if let Some(other) = ranges
                .iter()
                .skip(index + 1)
                .find(|other| range.overlaps(other))
            {
                return Err(invalid(format!(
                    "the ranges {range} and {other} of one set overlap"
                )));
            }
        }
        Ok(Self { ranges })
    }

    /// The ranges.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Whether this is a set of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.ranges.first().is_some_and(Range::is_ipv4)
    }

    /// The range that an address lies in.
    pub fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.contains(ip))
    }

    /// How many addresses can be handed out, gateways not counted.
    pub fn capacity(&self) -> u128 {
        self.ranges
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.capacity()))
    }

    pub(crate) fn overlapping<'a>(&'a self, other: &'a Self) -> Option<(&'a Range, &'a Range)> {
        self.ranges.iter().find_map(|range| {
            other
                .ranges
                .iter()
                .find(|other| range.overlaps(other))
                .map(|other| (range, other))
        })
    }

    /// The whole set in the order of the search: from the address after `last` round to `last` itself. Without a
    /// `last` that lies in the set, from the first range's start.
    pub(crate) fn stretches(&self, last: Option<IpAddr>) -> Vec<Stretch<'_>> {
        let whole = |range| Stretch {
            range,
            from: range_start(range),
            to: range.end,
        };
        let found = last.and_then(|last| {
            let index = self.ranges.iter().position(|range| range.contains(last))?;
            Some((index, self.ranges.get(index)?, number(last)))
        });
        let Some((index, range, last)) = found else {
            return self.ranges.iter().map(whole).collect();
        };
        let mut stretches = Vec::with_capacity(self.ranges.len() + 1);
        if last < range.end {
            stretches.push(Stretch {
                range,
                from: last + 1,
                to: range.end,
            });
        }
        stretches.extend(self.ranges.iter().skip(index + 1).map(whole));
        stretches.extend(self.ranges.iter().take(index).map(whole));
        stretches.push(Stretch {
            range,
            from: range.start,
            to: last,
        });
        stretches
    }
}

/// Consecutive addresses of a range, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a> {
    pub(crate) range: &'a Range,
    pub(crate) from: u128,
    pub(crate) to: u128,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 = self.is_ipv4();
        write!(f, "{}-{}", address(v4, self.start), address(v4, self.end))
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{range}")?;
        }
        Ok(())
    }
}

/// An address as a number; the family is told apart by its side.
pub(crate) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The address that a number stands for.
pub(crate) fn address(v4: bool, number: u128) -> IpAddr {
    if v4 {
        IpAddr::V4(Ipv4Addr::from(number as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from(number))
    }
}

fn range_start(range: &Range) -> u128 {
    range.start
}

fn bounds(subnet: IpNetwork) -> (u128, u128) {
    let last = match subnet {
        IpNetwork::V4(subnet) => IpAddr::V4(subnet.broadcast()),
        IpNetwork::V6(subnet) => IpAddr::V6(subnet.broadcast()),
    };
    (number(subnet.network()), number(last))
}

fn inside(subnet: IpNetwork, ip: IpAddr, what: &str) -> Result<u128> {
    let ip = ip.to_canonical();
    if subnet.contains(ip) {
        Ok(number(ip))
    } else {
        Err(invalid(format!("{what} {ip} is not in subnet {subnet}")))
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(subnet: &str, start: &str, end: &str, gateway: &str) -> RangeSpec {
        RangeSpec {
            subnet: subnet.parse().unwrap(),
            start: start.parse().ok(),
            end: end.parse().ok(),
            gateway: gateway.parse().ok(),
        }
    }

    fn range(subnet: &str) -> Range {
        Range::new(&spec(subnet, "", "", "")).unwrap()
    }

    fn refused(subnet: &str, start: &str, end: &str, gateway: &str) -> String {
        let error = Range::new(&spec(subnet, start, end, gateway)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        error.to_string()
    }

    #[test]
    fn the_defaults_are_the_references() {
        let four = range("10.1.0.0/24");
        assert_eq!(four.to_string(), "10.1.0.1-10.1.0.254");
        assert_eq!(four.gateway().to_string(), "10.1.0.1");
        assert_eq!(four.capacity(), 253);
        let six = range("fd00::/120");
        assert_eq!(six.to_string(), "fd00::1-fd00::ff");
        assert_eq!(six.gateway().to_string(), "fd00::1");
        assert_eq!(range("::/0").capacity(), u128::MAX - 1);
    }

    #[test]
    fn both_ends_of_the_subnet_may_be_named() {
        let range = Range::new(&spec("10.1.0.0/24", "10.1.0.0", "10.1.0.255", "")).unwrap();
        assert_eq!(range.to_string(), "10.1.0.0-10.1.0.255");
    }

    #[test]
    fn a_gateway_outside_the_subnet_is_allowed() {
        let range = Range::new(&spec("10.1.0.0/24", "", "", "10.2.0.1")).unwrap();
        assert_eq!(range.capacity(), 254);
    }

    #[test]
    fn bad_ranges_are_refused_with_the_rule() {
        assert!(refused("10.1.0.5/24", "", "", "").contains("write 10.1.0.0/24"));
        assert!(refused("10.1.0.0/31", "", "", "").contains("/30"));
        assert!(refused("fd00::/127", "", "", "").contains("/126"));
        assert!(refused("10.1.0.0/24", "10.2.0.1", "", "").contains("rangeStart 10.2.0.1"));
        assert!(refused("10.1.0.0/24", "", "fd00::1", "").contains("rangeEnd fd00::1"));
        assert!(refused("10.1.0.0/24", "10.1.0.9", "10.1.0.3", "").contains("empty"));
        assert!(refused("10.1.0.0/24", "", "", "fd00::1").contains("families"));
    }

    #[test]
    fn bad_sets_are_refused() {
        assert!(RangeSet::new(vec![]).is_err());
        assert!(RangeSet::new(vec![range("10.1.0.0/24"), range("fd00::/64")]).is_err());
        assert!(RangeSet::new(vec![range("10.1.0.0/24"), range("10.1.0.0/25")]).is_err());
        assert!(RangeSet::new(vec![range("10.1.0.0/24"), range("10.1.1.0/24")]).is_ok());
    }

    #[test]
    fn the_search_goes_round_and_ends_with_the_last_address() {
        let set = RangeSet::new(vec![range("10.1.0.0/29"), range("10.2.0.0/29")]).unwrap();
        let text = |last: Option<&str>| {
            let stretches = set.stretches(last.map(|last| last.parse().unwrap()));
            let show =
                |s: &Stretch<'_>| format!("{}-{}", address(true, s.from), address(true, s.to));
            stretches.iter().map(show).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(None), "10.1.0.1-10.1.0.6 10.2.0.1-10.2.0.6");
        assert_eq!(text(Some("9.9.9.9")), "10.1.0.1-10.1.0.6 10.2.0.1-10.2.0.6");
        assert_eq!(
            text(Some("10.2.0.3")),
            "10.2.0.4-10.2.0.6 10.1.0.1-10.1.0.6 10.2.0.1-10.2.0.3"
        );
        assert_eq!(
            text(Some("10.1.0.6")),
            "10.2.0.1-10.2.0.6 10.1.0.1-10.1.0.6"
        );
    }
}
