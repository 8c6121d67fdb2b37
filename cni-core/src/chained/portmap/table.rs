//! The table's names, and what in it does not depend on how many ports are published.

use std::net::IpAddr;

use crate::host::firewall::{
    Action, ChainKind, ChainSpec, DataType, Family, Field, Hook, HookPoint, Match, Rule, SetSpec,
    Table, TableSpec, Value, ValueType,
};
use crate::spec::Attachment;
use crate::spec::names::{base32, hash128};

/// What each attachment publishes: how DEL finds it.
pub(super) const RECORDS: &str = "records";
/// Interfaces that lead to pods, each twice: what comes in by one and leaves by it again is masqueraded.
pub(super) const HAIRPIN: &str = "hairpin";
/// Interfaces whose `route_localnet` was opened.
pub(super) const LOCALNET: &str = "localnet";

/// Ports of bridges whose hairpin mode was turned on.
pub(super) const HAIRPIN_PORTS: &str = "hairpin_ports";

/// The chain of what was translated.
const ANSWERS: &str = "answers";
/// TCP, UDP and SCTP.
pub(super) const PROTOCOLS: [u8; 3] = [6, 17, 132];

/// NF_IP_PRI_RAW.
const RAW: i32 = -300;
/// NF_IP_PRI_NAT_DST, `dstnat`.
const DSTNAT: i32 = -100;
/// NF_IP_PRI_NAT_SRC, `srcnat`.
const SRCNAT: i32 = 100;

/// The sets, maps and chains of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    /// Whose they are.
    pub(super) family: Family,
    /// Ports of all of the host's addresses: protocol . port : pod . port.
    pub(super) ports: &'static str,
    /// Ports of one address: address . protocol . port : pod . port.
    pub(super) host_ports: &'static str,
    /// Those of `ports` that have conditions: protocol . port : chain.
    pub(super) rules: &'static str,
    /// Those of `host_ports` that have conditions: address . protocol . port : chain.
    pub(super) host_rules: &'static str,
    /// Addresses that stand in `host_ports`, or did.
    pub(super) addresses: &'static str,
    /// Where the source is masqueraded if need be: pod . protocol . port . port on the host.
    pub(super) published: &'static str,
    /// Where the source is always masqueraded (`masqAll`).
    pub(super) masqueraded: &'static str,
    /// The lookups.
    translate: &'static str,
}

/// IPv4's.
pub(super) const V4: Names = Names {
    family: Family::Ip,
    ports: "ports4",
    host_ports: "host_ports4",
    rules: "rules4",
    host_rules: "host_rules4",
    addresses: "addresses4",
    published: "published4",
    masqueraded: "masqueraded4",
    translate: "translate4",
};

/// IPv6's.
pub(super) const V6: Names = Names {
    family: Family::Ip6,
    ports: "ports6",
    host_ports: "host_ports6",
    rules: "rules6",
    host_rules: "host_rules6",
    addresses: "addresses6",
    published: "published6",
    masqueraded: "masqueraded6",
    translate: "translate6",
};

impl Names {
    /// The names of the family of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { V4 } else { V6 }
    }

    /// Every set and map whose elements bear the marks of attachments, but the records.
    pub(super) fn owned(&self) -> [&'static str; 6] {
        [
            self.ports,
            self.host_ports,
            self.rules,
            self.host_rules,
            self.published,
            self.masqueraded,
        ]
    }

    fn address(&self) -> ValueType {
        match self.family {
            Family::Ip6 => ValueType::Ipv6,
            _ => ValueType::Ipv4,
        }
    }

    fn destination(&self) -> Field {
        match self.family {
            Family::Ip6 => Field::Ipv6Destination,
            _ => Field::Ipv4Destination,
        }
    }

    fn port_fields(&self) -> Vec<Field> {
        vec![Field::Protocol, Field::DestinationPort]
    }

    fn host_port_fields(&self) -> Vec<Field> {
        vec![self.destination(), Field::Protocol, Field::DestinationPort]
    }

    /// Leads a port to its pod; the packet goes on where the port is not published.
    pub(super) fn lead(&self, one_address: bool) -> Action {
        let (fields, map) = match one_address {
            true => (self.host_port_fields(), self.host_ports),
            false => (self.port_fields(), self.ports),
        };
        Action::DestinationNat {
            family: self.family,
            fields,
            map: map.to_owned(),
        }
    }

    fn sets(&self) -> Vec<SetSpec> {
        let (address, protocol, port) = (self.address(), ValueType::Protocol, ValueType::Port);
        let set = |name: &str, key: &[ValueType]| SetSpec::new(name, key).lapsing();
        // Their elements lead to chains, which they would hold until they are freed.
        let rules = |name: &str, key: &[ValueType]| SetSpec::new(name, key).to(DataType::Verdict);
        let pod = || DataType::Values(vec![address, port]);
        let connection = [address, protocol, port, port];
        vec![
            set(self.ports, &[protocol, port]).to(pod()),
            set(self.host_ports, &[address, protocol, port]).to(pod()),
            rules(self.rules, &[protocol, port]),
            rules(self.host_rules, &[address, protocol, port]),
            set(self.addresses, &[address]),
            set(self.published, &connection),
            set(self.masqueraded, &connection),
        ]
    }

    /// The most specific first. What has conditions never falls through to what has none: its chain ends the search.
    fn translation(&self) -> ChainSpec {
        let by_rules = |fields, map: &str| Action::VerdictMap {
            fields,
            map: map.to_owned(),
        };
        let actions = [
            by_rules(self.host_port_fields(), self.host_rules),
            self.lead(true),
            by_rules(self.port_fields(), self.rules),
            self.lead(false),
        ];
        let mut rules: Vec<Rule> = Vec::new();
        if self.family == Family::Ip6 {
            // An answer to ::1 is taken on `lo` alone (`rt6_need_strict`): refused at once is better than never answered.
            let localhost = Value::Ipv6(std::net::Ipv6Addr::LOCALHOST);
            let to_itself = Match::is(Field::Ipv6Destination, localhost);
            rules.push(Rule::new([to_itself], Action::Return));
        }
        rules.extend(actions.map(|action| Rule::new([], action)));
        ChainSpec::regular(self.translate, rules)
    }

    /// To the lookups, where this host is meant.
    fn entry(&self) -> Rule {
        Rule::new(
            [Match::Network(self.family), Match::ToThisHost],
            Action::Goto(self.translate.to_owned()),
        )
    }

    /// What was translated by a port that is published, and by nobody else. Each protocol has a rule: nft takes the port of the
    /// first packet only where the rule has named the protocol.
    fn masquerade(&self, set: &str, action: &Action) -> Vec<Rule> {
        let rule = |protocol| {
            let fields = vec![
                self.destination(),
                Field::Protocol,
                Field::DestinationPort,
                Field::OriginalPort,
            ];
            let by_protocol = Match::is(Field::Protocol, Value::Protocol(protocol));
            Rule::new([by_protocol, Match::in_set(fields, set)], action.clone())
        };
        PROTOCOLS.map(rule).into()
    }
}

/// The table that all networks share.
pub fn table() -> Table {
    Table {
        family: Family::Inet,
        name: "cni_portmap".to_owned(),
    }
}

/// All of the table but elements and the chains of attachments with conditions.
pub(super) fn table_spec() -> TableSpec {
    let interfaces =
        |name: &str, count| SetSpec::new(name, vec![ValueType::Interface; count]).lapsing();
    let (address, port) = (ValueType::Ipv6, ValueType::Port);
    let record = vec![address, ValueType::Protocol, port, address, port];
    let records = SetSpec::new(RECORDS, [address, ValueType::Mark])
        .to(DataType::Values(record))
        .lapsing();
    let mut sets = [V4.sets(), V6.sets()].concat();
    sets.extend([
        records,
        interfaces(HAIRPIN, 2),
        interfaces(HAIRPIN_PORTS, 1),
        interfaces(LOCALNET, 1),
    ]);
    TableSpec {
        table: table(),
        sets,
        chains: vec![
            V4.translation(),
            V6.translation(),
            answers(),
            hairpin(),
            base(
                "guard",
                ChainKind::Filter,
                HookPoint::Prerouting,
                RAW,
                guard(),
            ),
            base(
                "prerouting",
                ChainKind::Nat,
                HookPoint::Prerouting,
                DSTNAT,
                vec![V4.entry(), V6.entry()],
            ),
            base(
                "output",
                ChainKind::Nat,
                HookPoint::Output,
                DSTNAT,
                vec![V4.entry(), V6.entry()],
            ),
            base(
                "postrouting",
                ChainKind::Nat,
                HookPoint::Postrouting,
                SRCNAT,
                vec![Rule {
                    matches: vec![Match::Bits {
                        field: Field::ConntrackStatus,
                        bits: Field::DESTINATION_NAT,
                        all: false,
                    }],
                    action: Action::Goto(ANSWERS.to_owned()),
                }],
            ),
        ],
    }
}

/// The loopback network, 127.0.0.0/8.
pub(super) fn loopback(field: Field) -> Option<Match> {
    let network = ipnetwork::Ipv4Network::new(std::net::Ipv4Addr::new(127, 0, 0, 0), 8).ok()?;
    Some(Match::within(field, network.into()))
}

/// The chain of an attachment that has conditions.
pub(super) fn own_chain(attachment: &Attachment, names: &Names) -> String {
    let mark = attachment.mark();
    let hash = hash128(&[mark.as_str()]);
    let mut name = own_prefix(names).to_owned();
    base32(hash as u64, 12, &mut name);
    base32((hash >> 64) as u64, 12, &mut name);
    name
}

/// Whether a chain is one of [`own_chain`].
pub(super) fn is_own_chain(name: &str) -> bool {
    [V4, V6]
        .iter()
        .any(|names| name.starts_with(own_prefix(names)))
}

fn own_prefix(names: &Names) -> &'static str {
    match names.family {
        Family::Ip6 => "pod6-",
        _ => "pod4-",
    }
}

fn base(
    name: &str,
    kind: ChainKind,
    point: HookPoint,
    priority: i32,
    rules: Vec<Rule>,
) -> ChainSpec {
    let hook = Hook {
        kind,
        point,
        priority,
    };
    ChainSpec::base(name, hook, rules)
}

/// Connections that a published port has translated.
fn answers() -> ChainSpec {
    let always = |names: Names| names.masquerade(names.masqueraded, &Action::Masquerade);
    let hairpin = Action::Goto(HAIRPIN.to_owned());
    let if_need_be = |names: Names| names.masquerade(names.published, &hairpin);
    let rules = [always(V4), always(V6), if_need_be(V4), if_need_be(V6)];
    ChainSpec::regular(ANSWERS, rules.concat())
}

/// Whose answer would not come back by this host: what goes back to where it came from, and what has no address but a
/// loopback one.
///
/// Where bridged packets pass the host's rules, too, a packet from one port to another has no incoming interface here, as
/// those that are made on the host have; but those have the host's address.
fn hairpin() -> ChainSpec {
    let pair = |first| Match::in_set(vec![first, Field::OutputInterface], HAIRPIN);
    let mut cases = vec![
        vec![pair(Field::InputInterface)],
        vec![
            Match::NoInput,
            pair(Field::OutputInterface),
            Match::FromElsewhere,
        ],
    ];
    cases.extend(loopback(Field::Ipv4Source).map(|condition| vec![condition]));
    let masquerade = |matches: Vec<Match>| Rule::new(matches, Action::Masquerade);
    let rules = cases.into_iter().map(masquerade);
    ChainSpec::regular(HAIRPIN, rules.collect())
}

/// What `route_localnet` opens besides: loopback addresses on the wire, which the kernel otherwise drops as martians.
fn guard() -> Vec<Rule> {
    let drop = |field| {
        let opened = Match::in_set(vec![Field::InputInterface], LOCALNET);
        let drop = Action::Drop { counter: true };
        Some(Rule::new([opened, loopback(field)?], drop))
    };
    [Field::Ipv4Destination, Field::Ipv4Source]
        .into_iter()
        .filter_map(drop)
        .collect()
}
