//! Rules, and their text.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::element::concatenated;
use super::{Family, Value};

/// A rule: what a packet must match, in order, and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must match.
    pub matches: Vec<Match>,
    /// What happens then.
    pub action: Action,
}

/// A packet's property, as rules and set lookups use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// Source address, IPv4 (`ip saddr`).
    Ipv4Source,
    /// Destination address, IPv4 (`ip daddr`).
    Ipv4Destination,
    /// Source address, IPv6 (`ip6 saddr`).
    Ipv6Source,
    /// Destination address, IPv6 (`ip6 daddr`).
    Ipv6Destination,
    /// Source hardware address (`ether saddr`).
    EtherSource,
    /// Name of the incoming interface (`iifname`).
    InputInterface,
    /// Name of the outgoing interface (`oifname`).
    OutputInterface,
    /// Transport protocol (`meta l4proto`).
    Protocol,
    /// Transport destination port (`th dport`).
    DestinationPort,
    /// Packet mark (`meta mark`).
    Mark,
    /// The network of the source address, IPv4, with so many bits (`ip saddr & 255.255.255.0`). A set of networks of few
    /// lengths needs no intervals: one lookup for each length.
    Ipv4SourceNet(u8),
    /// The network of the destination address, IPv4.
    Ipv4DestinationNet(u8),
    /// The network of the source address, IPv6.
    Ipv6SourceNet(u8),
    /// The network of the destination address, IPv6.
    Ipv6DestinationNet(u8),
    /// Bytes behind the beginning of the transport header (`@th,336,32`): what a tunnel carries. Where the packet is shorter
    /// the rule does not match.
    ///
    /// It holds the value type that has as many bytes: 1 protocol, 2 port, 3 VNI, 4 IPv4, 6 hardware address, 16 IPv6.
    /// nft lists a lookup of it in a set of addresses, but its own parser takes one only into a set declared with `typeof`.
    Payload {
        /// Offset in bits, a multiple of 8.
        offset_bits: u16,
        /// How many bytes.
        bytes: u8,
        /// How many bits of them count; the others are taken for zero (`@th,336,32 & 0xffffff00`).
        prefix: u8,
    },
    /// Connection state (`ct state`), bits of [`Field::ESTABLISHED_OR_RELATED`]. Only [`Match::Bits`] reads it.
    ConntrackState,
    /// Connection status (`ct status`), bits such as [`Field::DESTINATION_NAT`]. Only [`Match::Bits`] reads it.
    ConntrackStatus,
    /// Transport destination port of the connection's first packet, before any translation (`ct original proto-dst`). nft's own
    /// parser takes it only behind a condition that names the protocol (`meta l4proto tcp`).
    OriginalPort,
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Match {
    /// The address lies in the prefix, or (`negated`) outside. Implies the family's check in an `inet` table.
    Prefix {
        /// An address field.
        field: Field,
        /// The prefix.
        prefix: IpNetwork,
        /// Outside rather than inside.
        negated: bool,
    },
    /// The field has this value, or (`negated`) another.
    Is {
        /// The field.
        field: Field,
        /// The value.
        value: Value,
        /// Another rather than this.
        negated: bool,
    },
    /// The fields, concatenated, are in the set, or (`negated`) are not.
    InSet {
        /// The fields, in the order of the set's key.
        fields: Vec<Field>,
        /// The set's name.
        set: String,
        /// Not in the set.
        negated: bool,
    },
    /// At least one of these bits of the field is set, or (`all`) each of them. For [`Field::Mark`],
    /// [`Field::ConntrackState`] and [`Field::ConntrackStatus`].
    Bits {
        /// The field.
        field: Field,
        /// The bits.
        bits: u32,
        /// Each of them rather than any.
        all: bool,
    },
    /// The packet is of this network protocol (`meta nfproto ipv4`), in an `inet` table.
    Network(Family),
    /// The destination is an address of this host (`fib daddr type local`): what the routing table `local` says.
    ToThisHost,
    /// The source is no address of this host (`fib saddr type != local`).
    FromElsewhere,
    /// No interface is known that the packet came in by (`iif 0`): it was made here, or passes from one port of a bridge to
    /// another where bridged packets pass these rules, too (`net.bridge.bridge-nf-call-iptables`).
    NoInput,
}

/// What happens to a packet that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Leave all chains of this hook and type.
    Accept,
    /// Discard; counted when `counter`.
    Drop {
        /// Whether packets and bytes are counted.
        counter: bool,
    },
    /// Count packets and bytes, and go on.
    Count,
    /// Back to the calling chain.
    Return,
    /// To a chain, and back.
    Jump(String),
    /// To a chain, not back.
    Goto(String),
    /// Look the fields up in a verdict map and do what it says; go on when there is no element.
    VerdictMap {
        /// The fields, in the order of the map's key.
        fields: Vec<Field>,
        /// The map's name.
        map: String,
    },
    /// Source NAT to the outgoing interface's address.
    Masquerade,
    /// Connection tracking leaves the packet alone: it is looked at before that, in a chain of priority -300 (`raw`).
    Notrack,
    /// Set these bits of the packet's mark, and go on.
    MarkSet(u32),
    /// Clear these bits of the packet's mark, and go on.
    MarkClear(u32),
    /// Destination NAT to the address and port that the map has for the fields; go on when there is no element, and where
    /// the packet is of another network protocol (`dnat ip to FIELDS map @MAP`).
    DestinationNat {
        /// IPv4 or IPv6: whose addresses the map holds.
        family: Family,
        /// The fields, in the order of the map's key.
        fields: Vec<Field>,
        /// The map's name; its data is an address and a port.
        map: String,
    },
}

/// Longest comment in bytes that nft writes and shows (`NFTNL_UDATA_COMMENT_MAXLEN` less the NUL).
pub(super) const COMMENT_MAX: usize = 127;

impl Match {
    /// The field has this value.
    pub fn is(field: Field, value: Value) -> Self {
        Self::Is {
            field,
            value,
            negated: false,
        }
    }

    /// The address lies in the prefix.
    pub fn within(field: Field, prefix: IpNetwork) -> Self {
        Self::Prefix {
            field,
            prefix,
            negated: false,
        }
    }

    /// The fields, concatenated, are in the set.
    pub fn in_set(fields: Vec<Field>, set: impl Into<String>) -> Self {
        Self::InSet {
            fields,
            set: set.into(),
            negated: false,
        }
    }
}

impl Rule {
    /// What happens to a packet that matches all of these.
    pub fn new(matches: impl Into<Vec<Match>>, action: Action) -> Self {
        Self {
            matches: matches.into(),
            action,
        }
    }

    /// The rule in nft's syntax, without its comment: what follows table and chain in `nft add rule`.
    pub fn text(&self) -> String {
        self.to_string()
    }

    /// The comment that the rule bears in the kernel, so that drift is seen without decoding expressions: its text
    /// without quotes where that fits into 127 bytes, else the first bytes of it and a hash of the whole.
    pub fn comment(&self) -> String {
        let mut text = self.text().replace('"', "");
        if text.len() > COMMENT_MAX {
            let hash = format!(" #{:016x}", fnv1a(text.as_bytes()));
            let mut end = COMMENT_MAX - hash.len();
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str(&hash);
        }
        text
    }
}

/// FNV-1a, 64 bits: stable over releases of the standard library, whose own hashes are not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The rule in nft's syntax, without its comment.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(f, "{condition} ")?;
        }
        self.action.fmt(f)
    }
}

impl Field {
    /// States of [`Field::ConntrackState`]: `established`, and `related` (`include/net/netfilter/nf_conntrack.h`,
    /// NF_CT_STATE_BIT).
    pub const ESTABLISHED_OR_RELATED: u32 = 0x2 | 0x4;
    /// Bit of [`Field::ConntrackStatus`]: the connection's destination is translated (IPS_DST_NAT in
    /// `linux/netfilter/nf_conntrack_common.h`).
    pub const DESTINATION_NAT: u32 = 0x20;

    /// How many bits of how many count, where the field is masked.
    pub(super) fn mask(self) -> Option<(u8, u16)> {
        let (bits, of) = match self {
            Self::Ipv4SourceNet(bits) | Self::Ipv4DestinationNet(bits) => (bits, 32),
            Self::Ipv6SourceNet(bits) | Self::Ipv6DestinationNet(bits) => (bits, 128),
            Self::Payload { bytes, prefix, .. } => (prefix, u16::from(bytes) * 8),
            _ => return None,
        };
        (u16::from(bits) < of).then_some((bits, of))
    }

    fn is_payload(self) -> bool {
        matches!(self, Self::Payload { .. })
    }
}

/// The number whose first `bits` of `of` bits are one.
fn mask_number(bits: u8, of: u16) -> u128 {
    let zeros = u32::from(of).saturating_sub(bits.into());
    let all = u128::MAX.checked_shr(128_u32.saturating_sub(of.into()));
    all.unwrap_or(0) & u128::MAX.checked_shl(zeros).unwrap_or(0)
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Payload {
            offset_bits, bytes, ..
        } = self
        {
            write!(f, "@th,{offset_bits},{}", u16::from(*bytes) * 8)?;
        }
        f.write_str(match self {
            Self::Payload { .. } => "",
            Self::Ipv4Source | Self::Ipv4SourceNet(_) => "ip saddr",
            Self::Ipv4Destination | Self::Ipv4DestinationNet(_) => "ip daddr",
            Self::Ipv6Source | Self::Ipv6SourceNet(_) => "ip6 saddr",
            Self::Ipv6Destination | Self::Ipv6DestinationNet(_) => "ip6 daddr",
            Self::EtherSource => "ether saddr",
            Self::InputInterface => "iifname",
            Self::OutputInterface => "oifname",
            Self::Protocol => "meta l4proto",
            Self::DestinationPort => "th dport",
            Self::Mark => "meta mark",
            Self::ConntrackState => "ct state",
            Self::ConntrackStatus => "ct status",
            Self::OriginalPort => "ct original proto-dst",
        })?;
        match self.mask() {
            None => Ok(()),
            Some((bits, of)) => {
                let mask = mask_number(bits, of);
                match (self.is_payload(), of) {
                    (true, _) => write!(f, " & {mask:#x}"),
                    (false, 32) => write!(f, " & {}", Ipv4Addr::from(mask as u32)),
                    (false, _) => write!(f, " & {}", Ipv6Addr::from(mask)),
                }
            }
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: &bool| if *negated { "!= " } else { "" };
        // A comparison behind a mask is written out.
        let relation = |fields: &[Field], negated: &bool| match fields {
            [only] if only.mask().is_some() && !negated => "== ",
            _ => not(negated),
        };
        match self {
            Self::Prefix {
                field,
                prefix,
                negated,
            } => write!(
                f,
                "{field} {}{}/{}",
                not(negated),
                prefix.network(),
                prefix.prefix()
            ),
            Self::Is {
                field,
                value,
                negated,
            } => {
                write!(f, "{field} {}", relation(&[*field], negated))?;
                match field.is_payload() {
                    true => f.write_str(&value.as_number()),
                    false => value.fmt(f),
                }
            }
            Self::InSet {
                fields,
                set,
                negated,
            } => {
                concatenated(f, fields)?;
                write!(f, " {}@{set}", relation(fields, negated))
            }
            Self::Bits { field, bits, all } => match (*field, *bits, *all) {
                (Field::ConntrackState, Field::ESTABLISHED_OR_RELATED, false) => {
                    write!(f, "{field} established,related")
                }
                (Field::ConntrackStatus, Field::DESTINATION_NAT, false) => {
                    write!(f, "{field} dnat")
                }
                (_, _, true) => write!(f, "{field} & {bits:#010x} == {bits:#010x}"),
                (_, _, false) => write!(f, "{field} & {bits:#010x} != 0x00000000"),
            },
            Self::Network(family) => write!(f, "meta nfproto {}", network_word(*family)),
            Self::ToThisHost => f.write_str("fib daddr type local"),
            Self::FromElsewhere => f.write_str("fib saddr type != local"),
            Self::NoInput => f.write_str("iif 0"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop { counter: false } => f.write_str("drop"),
            Self::Drop { counter: true } => f.write_str("counter drop"),
            Self::Count => f.write_str("counter"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::VerdictMap { fields, map } => {
                concatenated(f, fields)?;
                write!(f, " vmap @{map}")
            }
            Self::Masquerade => f.write_str("masquerade"),
            Self::Notrack => f.write_str("notrack"),
            Self::MarkSet(bits) => write!(f, "meta mark set meta mark | {bits:#010x}"),
            Self::MarkClear(bits) => write!(f, "meta mark set meta mark & {:#010x}", !bits),
            Self::DestinationNat {
                family,
                fields,
                map,
            } => {
                write!(f, "dnat {family} to ")?;
                concatenated(f, fields)?;
                write!(f, " map @{map}")
            }
        }
    }
}

/// The network protocol as `meta nfproto` has it.
fn network_word(family: Family) -> &'static str {
    match family {
        Family::Ip6 => "ipv6",
        _ => "ipv4",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(chain: &str) -> Rule {
        Rule {
            matches: vec![Match::Is {
                field: Field::InputInterface,
                value: Value::Interface("veth0".to_owned()),
                negated: true,
            }],
            action: Action::Jump(chain.to_owned()),
        }
    }

    #[test]
    fn a_short_rule_is_its_own_comment_without_quotes() {
        assert_eq!(jump("a").text(), r#"iifname != "veth0" jump a"#);
        assert_eq!(jump("a").comment(), "iifname != veth0 jump a");
    }

    #[test]
    fn long_rules_that_differ_at_the_end_have_different_comments_of_127_bytes() {
        let (one, two) = ("c".repeat(200) + "1", "c".repeat(200) + "2");
        let (one, two) = (jump(&one).comment(), jump(&two).comment());
        assert_eq!((one.len(), two.len()), (127, 127));
        assert_ne!(one, two);
    }
}
