//! What the tunnel's filter has refused, as its rules count it.

use crate::host::firewall::TableState;

/// Why a packet was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DropReason {
    /// It came from an address that is no peer's.
    Stranger,
    /// It is of another network: its VNI is not ours. Counted by us and dropped by the kernel where the tunnel is classic, as long
    /// as no other device of this node has that VNI and port: what is for such a device is counted, too, and let through.
    Vni,
    /// What it carries does not come from the peer that sent it, or its pods.
    Source,
}

/// What one rule has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropCount {
    /// The rule's handle: another rule, one that was made anew included, has another for as long as the table exists.
    pub handle: u64,
    /// Why it drops.
    pub reason: DropReason,
    /// How many packets it dropped.
    pub packets: u64,
    /// How many bytes these had, from the outer IP header on.
    pub bytes: u64,
}

impl DropReason {
    /// One word for it, for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Vni => "vni",
            Self::Source => "source",
        }
    }

    /// Of a rule by its comment, which is its text. `None` for one that does not count.
    fn of_rule(comment: &str) -> Option<Self> {
        let counts = comment.strip_suffix(" drop").unwrap_or(comment);
        Some(match counts.strip_suffix("counter")? {
            "" => Self::Source,
            address if address.contains("saddr") => Self::Stranger,
            _ => Self::Vni,
        })
    }
}

impl DropCount {
    /// Those of a network's table.
    pub fn of(table: &TableState) -> Vec<Self> {
        let rules = table.chains.iter().flat_map(|chain| &chain.rules);
        rules
            .filter_map(|rule| {
                let counter = rule.counter?;
                Some(Self {
                    handle: rule.handle,
                    reason: DropReason::of_rule(rule.comment.as_deref()?)?,
                    packets: counter.packets,
                    bytes: counter.bytes,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::Census;
    use crate::fabric::tables::{Inner, Purpose, Tunnel};
    use crate::host::firewall::Action;

    #[test]
    fn every_rule_that_counts_what_it_drops_has_its_reason() {
        let tunnel = Tunnel {
            port: 8472,
            vni: 7,
            inner: Inner::Ethernet,
        };
        let purpose = Purpose {
            masquerade: true,
            filter: Some(tunnel),
        };
        let own = ["10.244.1.0/24".parse().unwrap()];
        let mut census = Census::default();
        census.lengths4.insert(24);
        let network = "net".parse().unwrap();
        let spec = purpose
            .spec(&network, &own, Some("vxlan.7"), &census)
            .unwrap();
        let mut reasons = Vec::new();
        for rule in spec.chains.iter().flat_map(|chain| &chain.rules) {
            let reason = DropReason::of_rule(&rule.comment());
            let counts = matches!(rule.action, Action::Drop { counter: true } | Action::Count);
            assert_eq!(reason.is_some(), counts, "{rule}");
            reasons.extend(reason);
        }
        use DropReason::{Source, Stranger, Vni};
        assert_eq!(reasons, [Vni, Stranger, Stranger, Source]);
    }
}
