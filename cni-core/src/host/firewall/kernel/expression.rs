//! Rules as the kernel runs them: loads into registers, comparisons, lookups, verdicts.

use ipnetwork::IpNetwork;

use super::message::Writer;
use super::uapi::*;
use super::value::{encode_one, family};
use crate::host::firewall::{Action, Family, Field, Match, Rule, ValueType};

/// Writes the rule's expressions (`NFTA_RULE_EXPRESSIONS`).
pub(super) fn write_rule(writer: &mut Writer, table: Family, rule: &Rule) -> Result<(), String> {
    writer.nest(NFTA_RULE_EXPRESSIONS, |writer| {
        let mut rule_writer = RuleWriter {
            writer,
            table,
            network: None,
            ether: table == Family::Bridge,
        };
        for condition in &rule.matches {
            rule_writer.condition(condition)?;
        }
        rule_writer.action(&rule.action)
    })
}

/// Where a field is read.
enum Source {
    Payload {
        base: u32,
        offset: u32,
    },
    Meta(u32),
    Conntrack(u32),
    /// Of the connection's first direction.
    Original(u32),
}

impl Field {
    fn source(self) -> Source {
        let network = |offset| Source::Payload {
            base: NFT_PAYLOAD_NETWORK_HEADER,
            offset,
        };
        match self {
            Self::Ipv4Source | Self::Ipv4SourceNet(_) => network(12),
            Self::Ipv4Destination | Self::Ipv4DestinationNet(_) => network(16),
            Self::Ipv6Source | Self::Ipv6SourceNet(_) => network(8),
            Self::Ipv6Destination | Self::Ipv6DestinationNet(_) => network(24),
            Self::Payload { offset_bits, .. } => Source::Payload {
                base: NFT_PAYLOAD_TRANSPORT_HEADER,
                offset: u32::from(offset_bits / 8),
            },
            Self::EtherSource => Source::Payload {
                base: NFT_PAYLOAD_LL_HEADER,
                offset: 6,
            },
            Self::DestinationPort => Source::Payload {
                base: NFT_PAYLOAD_TRANSPORT_HEADER,
                offset: 2,
            },
            Self::InputInterface => Source::Meta(NFT_META_IIFNAME),
            Self::OutputInterface => Source::Meta(NFT_META_OIFNAME),
            Self::Protocol => Source::Meta(NFT_META_L4PROTO),
            Self::Mark => Source::Meta(NFT_META_MARK),
            Self::ConntrackState => Source::Conntrack(NFT_CT_STATE),
            Self::ConntrackStatus => Source::Conntrack(NFT_CT_STATUS),
            Self::OriginalPort => Source::Original(NFT_CT_PROTO_DST),
        }
    }

    fn value_type(self) -> Result<ValueType, String> {
        Ok(match self {
            Self::Ipv4Source
            | Self::Ipv4Destination
            | Self::Ipv4SourceNet(_)
            | Self::Ipv4DestinationNet(_) => ValueType::Ipv4,
            Self::Ipv6Source
            | Self::Ipv6Destination
            | Self::Ipv6SourceNet(_)
            | Self::Ipv6DestinationNet(_) => ValueType::Ipv6,
            Self::EtherSource => ValueType::Mac,
            Self::InputInterface | Self::OutputInterface => ValueType::Interface,
            Self::Protocol => ValueType::Protocol,
            Self::DestinationPort | Self::OriginalPort => ValueType::Port,
            Self::Mark => ValueType::Mark,
            Self::ConntrackState | Self::ConntrackStatus => {
                return Err(format!("`{self}` is read by its bits alone"));
            }
            Self::Payload { bytes, .. } => match bytes {
                1 => ValueType::Protocol,
                2 => ValueType::Port,
                3 => ValueType::Vni,
                4 => ValueType::Ipv4,
                6 => ValueType::Mac,
                16 => ValueType::Ipv6,
                _ => return Err(format!("no value has the {bytes} bytes of `{self}`")),
            },
        })
    }

    /// The network protocol whose header the field is in.
    fn network(self) -> Option<Family> {
        match self {
            Self::Ipv4Source
            | Self::Ipv4Destination
            | Self::Ipv4SourceNet(_)
            | Self::Ipv4DestinationNet(_) => Some(Family::Ip),
            Self::Ipv6Source
            | Self::Ipv6Destination
            | Self::Ipv6SourceNet(_)
            | Self::Ipv6DestinationNet(_) => Some(Family::Ip6),
            _ => None,
        }
    }

    /// That the field can be read at all.
    fn check(self) -> Result<(), String> {
        let (bits, of) = match self {
            Self::Ipv4SourceNet(bits) | Self::Ipv4DestinationNet(bits) => (bits, 32),
            Self::Ipv6SourceNet(bits) | Self::Ipv6DestinationNet(bits) => (bits, 128),
            Self::Payload {
                offset_bits,
                bytes,
                prefix,
            } => {
                if !offset_bits.is_multiple_of(8) {
                    return Err(format!("`{self}` does not begin with a whole byte"));
                }
                (prefix, u16::from(bytes) * 8)
            }
            _ => return Ok(()),
        };
        if u16::from(bits) > of {
            return Err(format!("`{self}` has {of} bits, and {bits} are to count"));
        }
        Ok(())
    }
}

struct RuleWriter<'a> {
    writer: &'a mut Writer,
    table: Family,
    /// The network protocol that the rule has been narrowed to.
    network: Option<Family>,
    /// Whether packets are known to have an Ethernet header.
    ether: bool,
}

impl RuleWriter<'_> {
    fn condition(&mut self, condition: &Match) -> Result<(), String> {
        match condition {
            Match::Prefix {
                field,
                prefix,
                negated,
            } => self.prefix(*field, *prefix, *negated),
            Match::Is {
                field,
                value,
                negated,
            } => {
                if value.value_type() != field.value_type()? {
                    return Err(format!("{value} is no value of `{field}`"));
                }
                let bytes = encode_one(value)?;
                self.load_guarded(*field)?;
                self.compare(&bytes, *negated);
                Ok(())
            }
            Match::InSet {
                fields,
                set,
                negated,
            } => {
                self.load_all(fields)?;
                let flags = if *negated { NFT_LOOKUP_F_INV } else { 0 };
                self.expression("lookup", |w| {
                    w.text(NFTA_LOOKUP_SET, set);
                    w.be32(NFTA_LOOKUP_SREG, NFT_REG32_00);
                    w.be32(NFTA_LOOKUP_FLAGS, flags);
                });
                Ok(())
            }
            Match::Bits { field, bits, all } => self.bits(*field, *bits, *all),
            Match::Network(network) => self.only(*network),
            Match::ToThisHost => {
                self.address_type(NFTA_FIB_F_DADDR);
                self.compare(&RTN_LOCAL.to_ne_bytes(), false);
                Ok(())
            }
            Match::FromElsewhere => {
                self.address_type(NFTA_FIB_F_SADDR);
                self.compare(&RTN_LOCAL.to_ne_bytes(), true);
                Ok(())
            }
            Match::NoInput => {
                self.meta(NFT_META_IIF, NFT_REG32_00);
                self.compare(&0_u32.to_ne_bytes(), false);
                Ok(())
            }
        }
    }

    /// All three fields are numbers of 32 bits in the host's order.
    fn bits(&mut self, field: Field, bits: u32, all: bool) -> Result<(), String> {
        let numbers = [Field::Mark, Field::ConntrackState, Field::ConntrackStatus];
        if !numbers.contains(&field) || bits == 0 {
            return Err(format!("`{field}` has no bits {bits:#x} to look at"));
        }
        self.load(field, 4, NFT_REG32_00);
        self.mask(&bits.to_ne_bytes(), NFT_REG32_00);
        let value = if all { bits } else { 0 };
        self.compare(&value.to_ne_bytes(), !all);
        Ok(())
    }

    /// `mark = (mark & !clear) ^ set`
    fn change_mark(&mut self, clear: u32, set: u32) {
        self.meta(NFT_META_MARK, NFT_REG32_00);
        let (mask, xor) = ((!clear).to_ne_bytes(), set.to_ne_bytes());
        self.bitwise(&mask, &xor, NFT_REG32_00);
        self.expression("meta", |w| {
            w.be32(NFTA_META_KEY, NFT_META_MARK);
            w.be32(NFTA_META_SREG, NFT_REG32_00);
        });
    }

    /// What the routing tables say of an address (`RTN_*`).
    fn address_type(&mut self, of: u32) {
        self.expression("fib", |w| {
            w.be32(NFTA_FIB_DREG, NFT_REG32_00);
            w.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
            w.be32(NFTA_FIB_FLAGS, of);
        });
    }

    /// Narrows a rule of an `inet` table to one network protocol.
    fn only(&mut self, network: Family) -> Result<(), String> {
        if self.table != Family::Inet || !matches!(network, Family::Ip | Family::Ip6) {
            return Err(format!(
                "a rule of an {} table cannot be narrowed to {network}",
                self.table
            ));
        }
        self.meta(NFT_META_NFPROTO, NFT_REG32_00);
        self.compare(&[family(network)], false);
        self.network = Some(network);
        Ok(())
    }

    /// Whole bytes are compared as they are; other lengths need a mask.
    fn prefix(&mut self, field: Field, prefix: IpNetwork, negated: bool) -> Result<(), String> {
        let network = match prefix {
            IpNetwork::V4(_) => Family::Ip,
            IpNetwork::V6(_) => Family::Ip6,
        };
        if field.network() != Some(network) || field.mask().is_some() {
            return Err(format!("{prefix} is no prefix of `{field}`"));
        }
        self.guard(field)?;
        let bytes = |address| match address {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        };
        let (mut value, mask) = (bytes(prefix.network()), bytes(prefix.mask()));
        let bits = usize::from(prefix.prefix());
        if bits > 0 && bits.is_multiple_of(8) {
            value.truncate(bits / 8);
            self.load(field, value.len(), NFT_REG32_00);
        } else {
            self.load(field, value.len(), NFT_REG32_00);
            self.mask(&mask, NFT_REG32_00);
        }
        self.compare(&value, negated);
        Ok(())
    }

    fn action(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Accept => self.verdict(NF_ACCEPT, None),
            Action::Drop { counter } => {
                if *counter {
                    self.expression("counter", |_| {});
                }
                self.verdict(NF_DROP, None);
            }
            Action::Count => self.expression("counter", |_| {}),
            Action::Return => self.verdict(NFT_RETURN, None),
            Action::Jump(chain) => self.verdict(NFT_JUMP, Some(chain)),
            Action::Goto(chain) => self.verdict(NFT_GOTO, Some(chain)),
            Action::VerdictMap { fields, map } => {
                self.load_all(fields)?;
                self.expression("lookup", |w| {
                    w.text(NFTA_LOOKUP_SET, map);
                    w.be32(NFTA_LOOKUP_SREG, NFT_REG32_00);
                    w.be32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT);
                });
            }
            Action::Masquerade => self.expression("masq", |_| {}),
            Action::Notrack => self.expression("notrack", |_| {}),
            Action::MarkSet(bits) => self.change_mark(*bits, *bits),
            Action::MarkClear(bits) => self.change_mark(*bits, 0),
            Action::DestinationNat {
                family,
                fields,
                map,
            } => self.destination_nat(*family, fields, map)?,
        }
        Ok(())
    }

    /// The map's data lies in the registers as it does in a concatenation: the address, then the port.
    fn destination_nat(
        &mut self,
        network: Family,
        fields: &[Field],
        map: &str,
    ) -> Result<(), String> {
        let words = match network {
            Family::Ip => 1,
            Family::Ip6 => 4,
            other => return Err(format!("there is no destination NAT to {other} addresses")),
        };
        self.load_all(fields)?;
        self.expression("lookup", |w| {
            w.text(NFTA_LOOKUP_SET, map);
            w.be32(NFTA_LOOKUP_SREG, NFT_REG32_00);
            w.be32(NFTA_LOOKUP_DREG, NFT_REG32_00);
        });
        self.expression("nat", |w| {
            w.be32(NFTA_NAT_TYPE, NFT_NAT_DNAT);
            w.be32(NFTA_NAT_FAMILY, u32::from(family(network)));
            w.be32(NFTA_NAT_REG_ADDR_MIN, NFT_REG32_00);
            w.be32(NFTA_NAT_REG_PROTO_MIN, NFT_REG32_00 + words);
        });
        Ok(())
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.expression("immediate", |w| {
            w.be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            w.nest(NFTA_IMMEDIATE_DATA, |w| write_verdict(w, code, chain));
        });
    }

    /// Loads the fields side by side, as the key of a concatenation.
    fn load_all(&mut self, fields: &[Field]) -> Result<(), String> {
        if fields.is_empty() {
            return Err("a lookup needs at least one field".to_owned());
        }
        for field in fields {
            self.guard(*field)?;
        }
        let mut register = NFT_REG32_00;
        for field in fields {
            let size = self.load_masked(*field, register)?;
            register += size.div_ceil(4) as u32;
        }
        Ok(())
    }

    fn load_guarded(&mut self, field: Field) -> Result<(), String> {
        self.guard(field)?;
        self.load_masked(field, NFT_REG32_00).map(|_| ())
    }

    /// Loads a field with its mask, and returns its bytes.
    fn load_masked(&mut self, field: Field, register: u32) -> Result<usize, String> {
        field.check()?;
        let size = field.value_type()?.size();
        self.load(field, size, register);
        if let Some((bits, _)) = field.mask() {
            let bits = u32::from(bits);
            let byte = |n: usize| match bits.saturating_sub(8 * n as u32) {
                0 => 0,
                ones @ 1..=7 => 0xff_u8 << (8 - ones),
                _ => 0xff,
            };
            let mask: Vec<u8> = (0..size).map(byte).collect();
            self.mask(&mask, register);
        }
        Ok(size)
    }

    /// Makes sure that the header is there which the field is read from, as nft does: once a rule.
    fn guard(&mut self, field: Field) -> Result<(), String> {
        if field == Field::EtherSource && !self.ether {
            self.ether = true;
            let ethernet = 1_u16; // ARPHRD_ETHER
            self.meta(NFT_META_IIFTYPE, NFT_REG32_00);
            self.compare(&ethernet.to_ne_bytes(), false);
        }
        let Some(network) = field.network() else {
            return Ok(());
        };
        if let Some(other) = self.network {
            return if other == network {
                Ok(())
            } else {
                Err(format!("`{field}` cannot be read in a rule for {other}"))
            };
        }
        match self.table {
            Family::Inet => {
                self.meta(NFT_META_NFPROTO, NFT_REG32_00);
                self.compare(&[family(network)], false);
            }
            Family::Bridge => {
                let ethertype: u16 = if network == Family::Ip6 {
                    0x86dd
                } else {
                    0x0800
                };
                self.meta(NFT_META_PROTOCOL, NFT_REG32_00);
                self.compare(&ethertype.to_be_bytes(), false);
            }
            Family::Ip | Family::Ip6 if self.table != network => {
                return Err(format!(
                    "`{field}` cannot be read in an {} table",
                    self.table
                ));
            }
            Family::Ip | Family::Ip6 => {}
        }
        self.network = Some(network);
        Ok(())
    }

    fn load(&mut self, field: Field, size: usize, register: u32) {
        match field.source() {
            Source::Meta(key) => self.meta(key, register),
            Source::Conntrack(key) => self.expression("ct", |w| {
                w.be32(NFTA_CT_DREG, register);
                w.be32(NFTA_CT_KEY, key);
            }),
            Source::Original(key) => self.expression("ct", |w| {
                w.be32(NFTA_CT_DREG, register);
                w.be32(NFTA_CT_KEY, key);
                w.attribute(NFTA_CT_DIRECTION, &[IP_CT_DIR_ORIGINAL]);
            }),
            Source::Payload { base, offset } => self.expression("payload", |w| {
                w.be32(NFTA_PAYLOAD_DREG, register);
                w.be32(NFTA_PAYLOAD_BASE, base);
                w.be32(NFTA_PAYLOAD_OFFSET, offset);
                w.be32(NFTA_PAYLOAD_LEN, size as u32);
            }),
        }
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.expression("meta", |w| {
            w.be32(NFTA_META_DREG, register);
            w.be32(NFTA_META_KEY, key);
        });
    }

    fn mask(&mut self, mask: &[u8], register: u32) {
        self.bitwise(mask, &vec![0; mask.len()], register);
    }

    /// Keeps the bits of `mask`, and then turns those of `xor` over.
    fn bitwise(&mut self, mask: &[u8], xor: &[u8], register: u32) {
        self.expression("bitwise", |w| {
            w.be32(NFTA_BITWISE_SREG, register);
            w.be32(NFTA_BITWISE_DREG, register);
            w.be32(NFTA_BITWISE_LEN, mask.len() as u32);
            w.nest(NFTA_BITWISE_MASK, |w| w.attribute(NFTA_DATA_VALUE, mask));
            w.nest(NFTA_BITWISE_XOR, |w| w.attribute(NFTA_DATA_VALUE, xor));
        });
    }

    fn compare(&mut self, value: &[u8], negated: bool) {
        self.expression("cmp", |w| {
            w.be32(NFTA_CMP_SREG, NFT_REG32_00);
            w.be32(NFTA_CMP_OP, if negated { NFT_CMP_NEQ } else { NFT_CMP_EQ });
            w.nest(NFTA_CMP_DATA, |w| w.attribute(NFTA_DATA_VALUE, value));
        });
    }

    fn expression(&mut self, name: &str, body: impl FnOnce(&mut Writer)) {
        self.writer.nest(NFTA_LIST_ELEM, |w| {
            w.text(NFTA_EXPR_NAME, name);
            w.nest(NFTA_EXPR_DATA, body);
        });
    }
}

/// A verdict as data (`NFTA_DATA_VERDICT`).
pub(super) fn write_verdict(writer: &mut Writer, code: i32, chain: Option<&str>) {
    writer.nest(NFTA_DATA_VERDICT, |w| {
        w.attribute(NFTA_VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            w.text(NFTA_VERDICT_CHAIN, chain);
        }
    });
}
