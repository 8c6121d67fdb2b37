//! Traffic control as values: a token bucket, and the way from what comes in by one link to what goes out by another.

use std::fmt;

/// A queueing discipline that is made by this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Qdisc {
    /// A token bucket at the root: what goes out by the link is held to a rate (tc-tbf(8)).
    Tbf(Tbf),
    /// The place for filters of what comes in by the link. It holds nothing back.
    Ingress,
}

/// A token bucket filter: `rate` bytes a second, of which `burst` bytes at once; what would have to wait longer than the
/// queue holds, `limit` bytes with those of the bucket, is dropped (tc-tbf(8), `net/sched/sch_tbf.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tbf {
    /// Bytes a second, of whole frames.
    pub rate: u64,
    /// The bucket's size in bytes. A packet that is larger is dropped, or cut where it can be segmented.
    pub burst: u32,
    /// Bytes that may wait.
    pub limit: u32,
}

/// What the kernel tells of a token bucket: the bucket's size not in bytes, but in the time that it takes to fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TbfState {
    /// Bytes a second.
    pub rate: u64,
    /// Time to fill the bucket in ticks of 64 ns, modulo 2³² (`PSCHED_NS2TICKS`).
    pub ticks: u32,
    /// Bytes that may wait.
    pub limit: u32,
}

/// What controls a link's traffic (`tc qdisc show dev LINK`, `tc filter show dev LINK ingress`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
    /// The token bucket at the root, when it is one that this crate has made.
    pub tbf: Option<TbfState>,
    /// The kind of another root discipline that somebody has set. The kernel's own choice is none.
    pub foreign_root: Option<String>,
    /// The kind of the discipline that holds filters of what comes in: `ingress` or `clsact`.
    pub ingress: Option<String>,
    /// The index of the link to which what comes in is led by a filter of this crate; 0 when that link is gone.
    pub redirect: Option<u32>,
    /// Whether others have filters there.
    pub other_filters: bool,
    /// The indexes of the links to which filters of others lead what comes in.
    pub led_by_others: Vec<u32>,
}

/// The handle of our token buckets, `c41:`. By it they are told from those of others.
pub(in crate::host) const TBF_HANDLE: u32 = 0x0c41_0000;
/// The preference of our filters; by it they are told from those of others.
pub(in crate::host) const PREFERENCE: u16 = 0xc41;

const NANOSECONDS: u64 = 1_000_000_000;
/// `PSCHED_SHIFT` (include/net/pkt_sched.h): a tick has 64 ns.
const TICK_SHIFT: u32 = 6;

impl Tbf {
    /// The time to fill the bucket, as the kernel tells it.
    pub fn ticks(&self) -> u32 {
        let nanoseconds = u128::from(self.burst) * u128::from(NANOSECONDS);
        let nanoseconds = nanoseconds / u128::from(self.rate.max(1));
        // The kernel's field has 32 bits, and it keeps the low ones.
        (nanoseconds >> TICK_SHIFT) as u32
    }

    /// Whether this is what the kernel has. The kernel calculates by a multiplication and a shift
    /// (`psched_ratecfg_precompute`), so that its time may differ in the last digits.
    pub fn is(&self, found: &TbfState) -> bool {
        let ticks = self.ticks();
        let apart = ticks
            .wrapping_sub(found.ticks)
            .min(found.ticks.wrapping_sub(ticks));
        self.rate == found.rate && self.limit == found.limit && apart <= ticks / 100_000 + 1
    }
}

impl TbfState {
    /// The bucket's size in bytes, as exactly as the kernel tells it.
    pub fn burst(&self) -> u32 {
        let nanoseconds = u128::from(self.ticks) << TICK_SHIFT;
        let bytes = (nanoseconds * u128::from(self.rate)).div_ceil(u128::from(NANOSECONDS));
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// A token bucket like this one.
    pub fn to_tbf(self) -> Tbf {
        Tbf {
            rate: self.rate,
            burst: self.burst(),
            limit: self.limit,
        }
    }
}

/// Words of `tc`: bits a second and bytes.
impl fmt::Display for Tbf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rate {}bit burst {}b limit {}b",
            u128::from(self.rate) * 8,
            self.burst,
            self.limit
        )
    }
}

impl fmt::Display for TbfState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_tbf().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tbf(rate: u64, burst: u32) -> Tbf {
        Tbf {
            rate,
            burst,
            limit: 1,
        }
    }

    #[test]
    fn a_bucket_is_the_same_when_it_is_read_back() {
        for (rate, burst) in [
            (1, 1514),
            (125_000, 15_000),
            (12_500_000, 125_000),
            (125_000_000, 64),
            (12_500_000_000, u32::MAX),
        ] {
            let made = tbf(rate, burst);
            let read = TbfState {
                rate,
                ticks: made.ticks(),
                limit: 1,
            };
            assert!(made.is(&read), "{made}");
            // Where the time fits into its field.
            if u64::from(burst) * NANOSECONDS / rate < u64::from(u32::MAX) << TICK_SHIFT {
                let exact = (rate * 64).div_ceil(NANOSECONDS) as u32;
                assert!(burst.abs_diff(read.burst()) <= exact, "{made}: {read}");
            }
        }
    }

    #[test]
    fn another_rate_burst_or_limit_is_another_bucket() {
        let made = tbf(125_000, 15_000);
        let read = TbfState {
            rate: made.rate,
            ticks: made.ticks(),
            limit: made.limit,
        };
        for other in [
            TbfState {
                rate: 124_999,
                ..read
            },
            TbfState { limit: 2, ..read },
            TbfState {
                ticks: tbf(125_000, 15_001).ticks(),
                ..read
            },
        ] {
            assert!(!made.is(&other), "{other}");
        }
    }
}
