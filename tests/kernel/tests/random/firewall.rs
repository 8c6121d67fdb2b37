//! Random nftables transactions on a small world: two tables, a few sets, maps and chains.

use std::net::Ipv4Addr;

use cni_core::host::Host;
use cni_core::host::firewall::{
    Action, ChainKind, DataType, Element, ElementData, Family, Field, FirewallChange, Hook,
    HookPoint, Match, Rule, SetSpec, Table, Value, ValueType, Verdict,
};

use super::{Random, Step};

const SETS: [&str; 3] = ["s", "m", "p"];
const CHAINS: [&str; 3] = ["c1", "c2", "base"];

pub(super) fn tables() -> [Table; 2] {
    [(Family::Inet, "one"), (Family::Bridge, "two")].map(|(family, name)| Table {
        family,
        name: name.to_owned(),
    })
}

pub(super) async fn step(host: &Host, random: &mut Random) -> Step {
    let changes: Vec<FirewallChange> = (0..=random.below(3)).map(|_| change(random)).collect();
    let lines: Vec<String> = changes.iter().map(FirewallChange::to_string).collect();
    (lines.join("; "), host.firewall.commit(&changes).await)
}

fn change(random: &mut Random) -> FirewallChange {
    let table = if random.chance(4) { 1 } else { 0 };
    let table = tables()[table].clone();
    let chain = random.one_of(&CHAINS).to_owned();
    let set = random.one_of(&SETS).to_owned();
    match random.below(21) {
        0..=2 => FirewallChange::TableAdd(table),
        3 if random.chance(3) => FirewallChange::TableDel(table),
        3..=5 => FirewallChange::SetAdd {
            table,
            set: spec(&set),
        },
        6..=8 => FirewallChange::ChainAdd {
            table,
            hook: (chain == "base").then(|| hook(random)),
            chain,
        },
        9 => FirewallChange::ChainFlush { table, chain },
        10 => FirewallChange::ChainDel { table, chain },
        11..=13 => FirewallChange::RuleAdd {
            table,
            chain,
            rule: rule(random),
        },
        14..=17 => FirewallChange::ElementAdd {
            table,
            elements: (0..=random.below(2))
                .map(|_| element(&set, random))
                .collect(),
            set,
        },
        18 => FirewallChange::SetDel { table, set },
        _ => FirewallChange::ElementDel {
            table,
            elements: vec![element(&set, random)],
            set,
        },
    }
}

fn spec(set: &str) -> SetSpec {
    let (key, data) = match set {
        "s" => (vec![ValueType::Ipv4], None),
        "m" => (vec![ValueType::Ipv4], Some(DataType::Verdict)),
        _ => (vec![ValueType::Protocol, ValueType::Port], None),
    };
    SetSpec {
        data,
        ..SetSpec::new(set, key)
    }
}

fn hook(random: &mut Random) -> Hook {
    Hook {
        kind: ChainKind::Filter,
        point: random.one_of(&[HookPoint::Forward, HookPoint::Forward, HookPoint::Input]),
        priority: random.one_of(&[0, 0, 0, 10]),
    }
}

fn rule(random: &mut Random) -> Rule {
    let mut matches = Vec::new();
    if random.chance(3) {
        matches.push(Match::InSet {
            fields: vec![Field::Ipv4Source],
            set: "s".to_owned(),
            negated: random.chance(2),
        });
    }
    let action = match random.below(6) {
        0 => Action::Accept,
        1 => Action::Return,
        2 => Action::Drop {
            counter: random.chance(2),
        },
        3 => Action::Jump(random.one_of(&CHAINS).to_owned()),
        4 => Action::Goto(random.one_of(&CHAINS).to_owned()),
        _ => Action::VerdictMap {
            fields: vec![Field::Ipv4Source],
            map: "m".to_owned(),
        },
    };
    Rule { matches, action }
}

fn element(set: &str, random: &mut Random) -> Element {
    let number = u8::try_from(random.below(3)).expect("a small number");
    let key = match set {
        "p" => vec![Value::Protocol(6), Value::Port(number.into())],
        _ => vec![Value::Ipv4(Ipv4Addr::new(10, 0, 0, number))],
    };
    let mut element = Element::new(key);
    if set == "m" {
        let verdict = match random.below(3) {
            0 => Verdict::Accept,
            1 => Verdict::Jump(random.one_of(&CHAINS).to_owned()),
            _ => Verdict::Goto(random.one_of(&CHAINS).to_owned()),
        };
        element.data = Some(ElementData::Verdict(verdict));
    }
    element.comment = random.one_of(&[None, Some("mark".to_owned())]);
    element
}
