//! What must exist, as pure functions.

use ipnetwork::IpNetwork;

use crate::accept;
use crate::host::firewall::{
    Action, ChainKind, ChainSpec, DataType, Element, ElementData, Family, Field, Hook, HookPoint,
    Match, Rule, SetSpec, Table, TableSpec, Value, ValueType, Verdict,
};
use crate::plan::{Desired, Object, Place};
use crate::spec::Attachment;

use super::{FirewallConfig, IngressPolicy};

/// The set of IPv4 addresses of attachments.
pub(super) const PODS4: &str = "pods4";
/// The set of IPv6 addresses of attachments.
pub(super) const PODS6: &str = "pods6";
/// The set of interfaces that closed networks are routed by.
pub(super) const CLOSED: &str = "closed";
/// The set of pairs of one interface: within these a packet may pass.
pub(super) const SAME: &str = "same";
/// The set of pairs of one interface: within these a packet must not pass. Also the bridge table's set of ports.
pub(super) const ISOLATED: &str = "isolated";
/// The map of attachments that need a shared element: interface and attachment, and its policy as the verdict.
pub(super) const MEMBERS: &str = "members";

/// Names of our own chains in the table.
pub(super) const ADMIN: &str = "admin";
const FORWARD: &str = "forward";
const PODS: &str = "pods";
const TRANSLATED: &str = "translated";

/// The comment of elements that attachments share.
pub(super) const SHARED: &str = "while the map members names it";

/// Behind `NF_IP_PRI_NAT_DST`, where destinations are translated.
const BEHIND_DSTNAT: i32 = -99;
/// `NF_BR_PRI_FILTER_BRIDGED`: ahead of `br_netfilter`.
const BRIDGE_FILTER: i32 = -200;

/// What the kernel and the previous result say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The host's interfaces that the attachment's packets are routed by: the bridge, or the host's end of the pair where
    /// there is none.
    pub routed: Vec<Routed>,
    /// The attachment's port of a bridge.
    pub port: Option<String>,
    /// Admin chains that are led to already.
    pub admins: Vec<String>,
}

/// An interface of the host that packets are routed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// Its name.
    pub name: String,
    /// Whether it is this attachment's alone.
    pub own: bool,
}

/// What a declaration is made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Whose.
    pub attachment: &'a Attachment,
    /// The configuration.
    pub config: &'a FirewallConfig,
    /// The attachment's addresses.
    pub addresses: &'a [IpNetwork],
    /// What is known of the host.
    pub facts: &'a Facts,
}

/// The table that all networks share.
pub fn table() -> Table {
    Table {
        family: Family::Inet,
        name: "cni_firewall".to_owned(),
    }
}

/// The table for frames that cross a bridge, where a network is isolated.
pub fn bridge_table() -> Table {
    Table {
        family: Family::Bridge,
        name: "cni_firewall".to_owned(),
    }
}

/// Declares what the attachment needs; nothing, where there is nothing to accept and nothing to keep apart.
pub fn declare(input: &Input<'_>) -> Desired {
    let mut desired = Desired::new();
    let config = input.config;
    if input.addresses.is_empty() && config.ingress == IngressPolicy::Open {
        return desired;
    }
    desired.share(
        Place::Host,
        Object::Chain {
            table: table(),
            chain: config.admin_chain.clone(),
        },
    );
    let mut admins = input.facts.admins.clone();
    if !admins.contains(&config.admin_chain) {
        admins.push(config.admin_chain.clone());
    }
    desired.share(Place::Host, Object::Table(table_spec(&admins)));
    for address in input.addresses {
        let (set, value) = match address {
            IpNetwork::V4(address) => (PODS4, Value::Ipv4(address.ip())),
            IpNetwork::V6(address) => (PODS6, Value::Ipv6(address.ip())),
        };
        own(&mut desired, input, table(), set, vec![value], None);
    }
    ingress(&mut desired, input);
    let of_family = |ipv6: bool, family| {
        let mut addresses = input.addresses.iter();
        addresses
            .any(|found| found.is_ipv6() == ipv6)
            .then_some(family)
    };
    let families = [of_family(false, Family::Ip), of_family(true, Family::Ip6)];
    let families: Vec<Family> = families.into_iter().flatten().collect();
    accept::declare(&mut desired, &table(), &families);
    desired
}

fn ingress(desired: &mut Desired, input: &Input<'_>) {
    let (pairs, verdict) = match input.config.ingress {
        IngressPolicy::Open => return,
        IngressPolicy::SameBridge => (SAME, Verdict::Accept),
        IngressPolicy::Isolated => (ISOLATED, Verdict::Drop),
    };
    let name = |text: &str| Value::Interface(text.to_owned());
    for Routed {
        name: routed,
        own: alone,
    } in &input.facts.routed
    {
        if *alone {
            own(desired, input, table(), CLOSED, vec![name(routed)], None);
            continue;
        }
        share(desired, CLOSED, vec![name(routed)]);
        share(desired, pairs, vec![name(routed), name(routed)]);
        let member = vec![name(routed), name(input.attachment.host_name().as_str())];
        let policy = Some(ElementData::Verdict(verdict.clone()));
        own(desired, input, table(), MEMBERS, member, policy);
    }
    if let (IngressPolicy::Isolated, Some(port)) = (input.config.ingress, &input.facts.port) {
        desired.share(Place::Host, Object::Table(bridge_spec()));
        own(
            desired,
            input,
            bridge_table(),
            ISOLATED,
            vec![name(port)],
            None,
        );
    }
}

fn own(
    desired: &mut Desired,
    input: &Input<'_>,
    table: Table,
    set: &str,
    key: Vec<Value>,
    data: Option<ElementData>,
) {
    let mut element = Element::new(key);
    element.comment = Some(input.attachment.mark().to_string());
    element.data = data;
    let set = set.to_owned();
    desired.own(
        Place::Host,
        Object::Element {
            table,
            set,
            element,
        },
    );
}

fn share(desired: &mut Desired, set: &str, key: Vec<Value>) {
    let mut element = Element::new(key);
    element.comment = Some(SHARED.to_owned());
    let (table, set) = (table(), set.to_owned());
    desired.share(
        Place::Host,
        Object::Element {
            table,
            set,
            element,
        },
    );
}

fn set(name: &str, key: &[ValueType]) -> SetSpec {
    SetSpec::new(name, key).lapsing()
}

/// The table, whose first rules lead to these chains of the operator.
pub(super) fn table_spec(admins: &[String]) -> TableSpec {
    let pair = [ValueType::Interface; 2];
    let members = set(MEMBERS, &pair).to(DataType::Verdict);
    let jumps = admins
        .iter()
        .map(|admin| Rule::new([], Action::Jump(admin.clone())));
    TableSpec {
        table: table(),
        sets: vec![
            set(PODS4, &[ValueType::Ipv4]),
            set(PODS6, &[ValueType::Ipv6]),
            set(CLOSED, &[ValueType::Interface]),
            set(SAME, &pair),
            set(ISOLATED, &pair),
            members,
        ],
        chains: vec![
            ChainSpec {
                name: ADMIN.to_owned(),
                hook: None,
                rules: jumps.collect(),
            },
            pods(),
            prerouting(),
            forward(),
            accept::cleared(),
        ],
    }
}

/// With `br_netfilter` a packet whose destination is translated to a pod on the bridge that it came by is bridged, not routed
/// (`br_nf_pre_routing_finish`). The bridge's rules cannot ask for that; so they are told.
fn prerouting() -> ChainSpec {
    ChainSpec {
        name: TRANSLATED.to_owned(),
        hook: Some(Hook {
            kind: ChainKind::Filter,
            point: HookPoint::Prerouting,
            priority: BEHIND_DSTNAT,
        }),
        rules: vec![Rule::new(
            [
                translated(),
                Match::in_set(vec![Field::InputInterface], CLOSED),
            ],
            Action::MarkSet(accept::ACCEPTED),
        )],
    }
}

fn forward() -> ChainSpec {
    let pair = || vec![Field::InputInterface, Field::OutputInterface];
    let drop = || Action::Drop { counter: true };
    let pods = || Action::Goto(PODS.to_owned());
    ChainSpec {
        name: FORWARD.to_owned(),
        hook: Some(accept::hook(accept::ATTACHMENTS)),
        rules: vec![
            // Set from the beginning, so that what an operator accepts is accepted by the host's own rules, too.
            Rule::new([], Action::MarkSet(accept::ACCEPTED)),
            Rule::new([], Action::Jump(ADMIN.to_owned())),
            Rule::new([translated()], pods()),
            Rule::new([Match::in_set(pair(), ISOLATED)], drop()),
            Rule::new([Match::in_set(pair(), SAME)], pods()),
            Rule::new(
                [
                    Match::in_set(vec![Field::InputInterface], CLOSED),
                    Match::in_set(vec![Field::OutputInterface], CLOSED),
                ],
                drop(),
            ),
            Rule::new([], pods()),
        ],
    }
}

fn pods() -> ChainSpec {
    let families = [
        (Field::Ipv4Source, Field::Ipv4Destination, PODS4),
        (Field::Ipv6Source, Field::Ipv6Destination, PODS6),
    ];
    let mut rules = Vec::new();
    for (source, destination, set) in families {
        let answers = Match::Bits {
            field: Field::ConntrackState,
            bits: Field::ESTABLISHED_OR_RELATED,
            all: false,
        };
        let to = || Match::in_set(vec![destination], set);
        rules.extend([
            Rule::new([answers, to()], Action::Accept),
            Rule::new([Match::in_set(vec![source], set)], Action::Accept),
            Rule::new([translated(), to()], Action::Accept),
        ]);
    }
    rules.push(Rule::new([], Action::MarkClear(accept::ACCEPTED)));
    ChainSpec {
        name: PODS.to_owned(),
        hook: None,
        rules,
    }
}

/// The bridge's table.
pub(super) fn bridge_spec() -> TableSpec {
    let both = [Field::InputInterface, Field::OutputInterface];
    let ports = both.map(|field| Match::in_set(vec![field], ISOLATED));
    TableSpec {
        table: bridge_table(),
        sets: vec![set(ISOLATED, &[ValueType::Interface])],
        chains: vec![ChainSpec {
            name: FORWARD.to_owned(),
            hook: Some(Hook {
                kind: ChainKind::Filter,
                point: HookPoint::Forward,
                priority: BRIDGE_FILTER,
            }),
            rules: vec![
                Rule::new([accepted()], Action::Return),
                Rule::new(ports, Action::Drop { counter: true }),
            ],
        }],
    }
}

fn accepted() -> Match {
    Match::Bits {
        field: Field::Mark,
        bits: accept::ACCEPTED,
        all: true,
    }
}

/// The packet belongs to a connection whose destination somebody translates: a published port.
fn translated() -> Match {
    Match::Bits {
        field: Field::ConntrackStatus,
        bits: Field::DESTINATION_NAT,
        all: false,
    }
}
