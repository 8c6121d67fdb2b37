//! Namespaces, a runner, and what the tests build from.

use std::net::Ipv4Addr;

use cni_core::host::Firewall;
use cni_core::host::firewall::*;
use cni_core::host::netlink::{MacAddr, NetlinkError};
use nix::sched::{CloneFlags, unshare};

/// A test: name and body. The body skips by returning why.
pub type Test = (&'static str, fn() -> Result<(), String>);

/// How a test ended.
pub enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

impl Outcome {
    pub fn report(&self, name: &str) {
        match self {
            Self::Passed => println!("test {name} ... ok"),
            Self::Skipped(why) => println!("test {name} ... ignored, SKIPPED: {why}"),
            Self::Failed(why) => println!("test {name} ... FAILED\n    {why}"),
        }
    }
}

/// `tests!(a, b)`: the functions with their names.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[crate::support::Test] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use tests;

/// Without root: a user namespace in which this process is root. Must run before any thread exists.
pub fn enter_user_namespace() -> std::io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let ids = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(2)?.parse::<u32>().ok())
            .unwrap_or(0)
    };
    let (user, group) = (ids("Uid:"), ids("Gid:"));
    if user == 0 && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Runs the test on a thread in a network namespace of its own.
pub fn run(test: fn() -> Result<(), String>) -> Outcome {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        test()
    };
    match std::thread::spawn(body).join() {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(why)) => Outcome::Skipped(why),
        Err(panic) => Outcome::Failed(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "panicked".to_owned()),
        ),
    }
}

/// Polls a future to its end on this thread.
pub fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

pub fn commit(changes: &[FirewallChange]) -> Result<(), NetlinkError> {
    wait(KernelFirewall::new().commit(changes))
}

pub fn state(table: &Table) -> Option<TableState> {
    wait(KernelFirewall::new().table(table)).expect("the table can be read")
}

/// Elements in the order of their keys; the kernel's order is that of its hash.
pub fn elements(table: &Table, set: &str) -> Vec<Element> {
    let found = wait(KernelFirewall::new().elements(table, set));
    let mut found = found.expect("the set can be read");
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

pub fn table(family: Family) -> Table {
    Table {
        family,
        name: "cni_test".to_owned(),
    }
}

pub fn v4(number: u32) -> Value {
    Value::Ipv4(Ipv4Addr::from(0x0a01_0000 + number))
}

pub fn marked(key: Vec<Value>, comment: &str) -> Element {
    let mut element = Element::new(key);
    element.comment = Some(comment.to_owned());
    element
}

pub fn add(table: &Table, set: &str, elements: Vec<Element>) -> FirewallChange {
    FirewallChange::ElementAdd {
        table: table.clone(),
        set: set.to_owned(),
        elements,
    }
}

pub fn del(table: &Table, set: &str, elements: Vec<Element>) -> FirewallChange {
    FirewallChange::ElementDel {
        table: table.clone(),
        set: set.to_owned(),
        elements,
    }
}

pub fn rule(matches: Vec<Match>, action: Action) -> Rule {
    Rule { matches, action }
}

fn set(name: &str, key: &[ValueType], data: Option<DataType>) -> SetSpec {
    SetSpec {
        data,
        ..SetSpec::new(name, key)
    }
}

fn in_set(fields: &[Field], set: &str) -> Match {
    Match::InSet {
        fields: fields.to_vec(),
        set: set.to_owned(),
        negated: false,
    }
}

pub fn chain(name: &str, hook: Option<Hook>, rules: Vec<Rule>) -> ChainSpec {
    ChainSpec {
        name: name.to_owned(),
        hook,
        rules,
    }
}

/// Masquerade as a bridge network has it: sets of pod addresses, a constant number of rules.
pub fn masquerade() -> TableSpec {
    let not_in = |field, prefix: &str| Match::Prefix {
        field,
        prefix: prefix.parse().expect("a prefix"),
        negated: true,
    };
    let hook = Hook {
        kind: ChainKind::Nat,
        point: HookPoint::Postrouting,
        priority: 100,
    };
    let raw = Hook {
        kind: ChainKind::Filter,
        point: HookPoint::Prerouting,
        priority: -300,
    };
    let is = |field, value| Match::Is {
        field,
        value,
        negated: false,
    };
    let tunnel = vec![
        is(Field::Protocol, Value::Protocol(17)),
        is(Field::DestinationPort, Value::Port(8472)),
    ];
    let rules = vec![
        rule(
            vec![
                in_set(&[Field::Ipv4Source], "pods4"),
                not_in(Field::Ipv4Destination, "224.0.0.0/4"),
                not_in(Field::Ipv4Destination, "10.1.0.0/16"),
            ],
            Action::Masquerade,
        ),
        rule(
            vec![
                in_set(&[Field::Ipv6Source], "pods6"),
                not_in(Field::Ipv6Destination, "ff00::/8"),
                not_in(Field::Ipv6Destination, "fd00:1::/61"),
            ],
            Action::Masquerade,
        ),
        rule(
            vec![],
            Action::VerdictMap {
                fields: vec![Field::Ipv4Source],
                map: "nets4".to_owned(),
            },
        ),
    ];
    TableSpec {
        table: table(Family::Inet),
        sets: vec![
            set("pods4", &[ValueType::Ipv4], None),
            set("pods6", &[ValueType::Ipv6], None),
            set("nets4", &[ValueType::Ipv4], Some(DataType::Verdict)),
            set(
                "ports",
                &[ValueType::Protocol, ValueType::Port],
                Some(DataType::Values(vec![ValueType::Ipv4, ValueType::Port])),
            ),
        ],
        chains: vec![
            chain("post", Some(hook), rules),
            chain("raw", Some(raw), vec![rule(tunnel, Action::Notrack)]),
            chain("counted", None, vec![rule(vec![], Action::Count)]),
            chain("net1", None, vec![rule(vec![], Action::Masquerade)]),
        ],
    }
}

/// A spoof filter: who sends with another hardware address than its port's is dropped.
pub fn spoof_filter() -> TableSpec {
    let hook = Hook {
        kind: ChainKind::Filter,
        point: HookPoint::Prerouting,
        priority: -300,
    };
    let matches = vec![
        Match::InSet {
            fields: vec![Field::InputInterface],
            set: "guarded".to_owned(),
            negated: false,
        },
        Match::InSet {
            fields: vec![Field::InputInterface, Field::EtherSource],
            set: "allowed".to_owned(),
            negated: true,
        },
    ];
    let pair = [ValueType::Interface, ValueType::Mac];
    TableSpec {
        table: table(Family::Bridge),
        sets: vec![
            set("guarded", &[ValueType::Interface], None),
            set("allowed", &pair, None),
            set("verdicts", &pair, Some(DataType::Verdict)),
        ],
        chains: vec![
            chain(
                "pre",
                Some(hook),
                vec![rule(matches, Action::Drop { counter: true })],
            ),
            chain("checked", None, vec![rule(vec![], Action::Return)]),
        ],
    }
}

/// Network of the source address and what a VXLAN packet carries, in 24 bits. The set's fields in the order of its key.
pub fn net24() -> Vec<Field> {
    vec![Field::Ipv4Source, inner4(24)]
}

/// Source address of the IPv4 packet in a VXLAN packet: behind UDP (8), VXLAN (8), Ethernet (14), 12 bytes into IPv4.
pub fn inner4(prefix: u8) -> Field {
    Field::Payload {
        offset_bits: 336,
        bytes: 4,
        prefix,
    }
}

/// Source address of the IPv6 packet in a VXLAN packet.
pub fn inner6(prefix: u8) -> Field {
    Field::Payload {
        offset_bits: 304,
        bytes: 16,
        prefix,
    }
}

/// The network identifier of a VXLAN packet.
pub fn vni() -> Field {
    Field::Payload {
        offset_bits: 96,
        bytes: 3,
        prefix: 24,
    }
}

/// A tunnel's filter: only its port and network identifier, only from whom the inner source belongs to.
pub fn tunnel_filter() -> TableSpec {
    let hook = Hook {
        kind: ChainKind::Filter,
        point: HookPoint::Input,
        priority: -150,
    };
    let is = |field, value, negated| Match::Is {
        field,
        value,
        negated,
    };
    let tunnel = |more: Vec<Match>| {
        let mut all = vec![
            is(Field::Protocol, Value::Protocol(17), false),
            is(Field::DestinationPort, Value::Port(8472), false),
        ];
        all.extend(more);
        all
    };
    let rules = vec![
        rule(
            tunnel(vec![is(vni(), Value::Vni(0x123), true)]),
            Action::Drop { counter: true },
        ),
        rule(tunnel(vec![in_set(&net24(), "from44_24")]), Action::Accept),
        rule(
            tunnel(vec![in_set(&[Field::Ipv4Source, inner6(48)], "from46_48")]),
            Action::Accept,
        ),
        rule(
            tunnel(vec![Match::InSet {
                fields: vec![Field::Ipv4Source, inner4(32)],
                set: "own44".to_owned(),
                negated: true,
            }]),
            Action::Drop { counter: true },
        ),
    ];
    let (v4, v6) = (ValueType::Ipv4, ValueType::Ipv6);
    TableSpec {
        table: table(Family::Inet),
        sets: vec![
            set("from44_24", &[v4, v4], None),
            set("from46_48", &[v4, v6], None),
            set("own44", &[v4, v4], None),
        ],
        chains: vec![chain("in", Some(hook), rules)],
    }
}

/// Networks in sets, and bytes of a packet compared: what nft's own parser takes.
pub fn networks(family: Family) -> TableSpec {
    let is = |field, value, negated| Match::Is {
        field,
        value,
        negated,
    };
    let not_in = |fields: &[Field], set: &str| Match::InSet {
        fields: fields.to_vec(),
        set: set.to_owned(),
        negated: true,
    };
    let v6 = |text: &str| Value::Ipv6(text.parse().expect("an address"));
    let mut rules = vec![
        rule(vec![is(vni(), Value::Vni(1), true)], Action::Accept),
        rule(vec![is(inner4(24), v4(0), false)], Action::Accept),
        rule(vec![is(inner4(32), v4(7), true)], Action::Accept),
        rule(
            vec![is(inner6(62), v6("fd00:1:2:4::"), true)],
            Action::Accept,
        ),
    ];
    if family != Family::Ip6 {
        let (source, destination) = (Field::Ipv4SourceNet(20), Field::Ipv4DestinationNet(24));
        rules.extend([
            rule(vec![in_set(&[source], "net4")], Action::Accept),
            rule(vec![not_in(&[destination], "net4")], Action::Accept),
            rule(
                vec![in_set(&[source, destination], "nets4")],
                Action::Accept,
            ),
            rule(
                vec![not_in(&[Field::Ipv4Source, destination], "nets4")],
                Action::Accept,
            ),
            rule(
                vec![in_set(&[Field::Ipv4SourceNet(32)], "net4")],
                Action::Accept,
            ),
        ]);
    }
    if family != Family::Ip {
        let (source, destination) = (Field::Ipv6SourceNet(62), Field::Ipv6DestinationNet(48));
        rules.extend([
            rule(vec![not_in(&[source], "net6")], Action::Accept),
            rule(
                vec![in_set(&[source, destination], "nets6")],
                Action::Accept,
            ),
        ]);
    }
    let hook = Hook {
        kind: ChainKind::Filter,
        point: HookPoint::Input,
        priority: 0,
    };
    let (four, six) = (ValueType::Ipv4, ValueType::Ipv6);
    TableSpec {
        table: table(family),
        sets: vec![
            set("net4", &[four], None),
            set("nets4", &[four, four], None),
            set("net6", &[six], None),
            set("nets6", &[six, six], None),
        ],
        chains: vec![chain("main", Some(hook), rules)],
    }
}

/// Every match and action there is, in a table of this family.
pub fn everything(family: Family) -> TableSpec {
    let is = |field, value, negated| Match::Is {
        field,
        value,
        negated,
    };
    let mac = MacAddr([2, 0, 0, 0, 0, 7]);
    let prefix = |field, prefix: &str| Match::Prefix {
        field,
        prefix: prefix.parse().expect("a prefix"),
        negated: false,
    };
    let mut rules = vec![
        rule(
            vec![is(Field::EtherSource, Value::Mac(mac), true)],
            Action::Drop { counter: false },
        ),
        rule(
            vec![
                is(
                    Field::InputInterface,
                    Value::Interface("eth0".into()),
                    false,
                ),
                is(
                    Field::OutputInterface,
                    Value::Interface("eth1".into()),
                    true,
                ),
                is(Field::Protocol, Value::Protocol(6), false),
                is(Field::DestinationPort, Value::Port(80), false),
                is(Field::Mark, Value::Mark(0x2000), true),
            ],
            Action::Jump("sub".to_owned()),
        ),
        rule(vec![], Action::Goto("sub".to_owned())),
        rule(vec![], Action::Accept),
    ];
    if family != Family::Ip6 {
        rules.push(rule(
            vec![
                prefix(Field::Ipv4Source, "10.1.2.3/13"),
                prefix(Field::Ipv4Destination, "10.0.0.0/8"),
                is(Field::Ipv4Source, v4(9), true),
            ],
            Action::Drop { counter: true },
        ));
        rules.push(rule(
            vec![prefix(Field::Ipv4Source, "0.0.0.0/0")],
            Action::Accept,
        ));
    }
    if family != Family::Ip {
        rules.push(rule(
            vec![
                prefix(Field::Ipv6Source, "fd00:1234:5678:9abc::/62"),
                prefix(Field::Ipv6Destination, "fd00:ffff:ffff:ffff:ffff::/80"),
                is(
                    Field::Ipv6Source,
                    Value::Ipv6("fd00::1".parse().expect("an address")),
                    true,
                ),
            ],
            Action::Return,
        ));
    }
    let hook = Hook {
        kind: ChainKind::Filter,
        point: HookPoint::Forward,
        priority: -1,
    };
    TableSpec {
        table: table(family),
        sets: vec![],
        chains: vec![chain("main", Some(hook), rules), chain("sub", None, vec![])],
    }
}
