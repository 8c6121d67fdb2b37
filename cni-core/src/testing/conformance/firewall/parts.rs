//! What the contract is tried with.

use std::net::Ipv4Addr;

use crate::host::firewall::{
    Action, ChainKind, DataType, Element, ElementData, Family, Field, FirewallChange, Hook,
    HookPoint, Match, Rule, SetSpec, Table, Value, ValueType, Verdict,
};

pub(super) fn table() -> Table {
    Table {
        family: Family::Inet,
        name: "cni_conformance".to_owned(),
    }
}

pub(super) fn other() -> Table {
    Table {
        family: Family::Inet,
        name: "cni_missing".to_owned(),
    }
}

pub(super) fn in_other(change: FirewallChange) -> FirewallChange {
    match change {
        FirewallChange::SetAdd { set, .. } => FirewallChange::SetAdd {
            table: other(),
            set,
        },
        FirewallChange::ChainAdd { chain, hook, .. } => FirewallChange::ChainAdd {
            table: other(),
            chain,
            hook,
        },
        change => change,
    }
}

pub(super) fn hook() -> Hook {
    Hook {
        kind: ChainKind::Nat,
        point: HookPoint::Postrouting,
        priority: 100,
    }
}

pub(super) fn table_add() -> FirewallChange {
    FirewallChange::TableAdd(table())
}

pub(super) fn set(name: &str, data: Option<DataType>) -> SetSpec {
    SetSpec {
        data,
        ..SetSpec::new(name, [ValueType::Ipv4])
    }
}

pub(super) fn set_add(name: &str, data: Option<DataType>) -> FirewallChange {
    FirewallChange::SetAdd {
        table: table(),
        set: set(name, data),
    }
}

pub(super) fn set_del(name: &str) -> FirewallChange {
    FirewallChange::SetDel {
        table: table(),
        set: name.to_owned(),
    }
}

pub(super) fn chain_add(name: &str, hook: Option<Hook>) -> FirewallChange {
    FirewallChange::ChainAdd {
        table: table(),
        chain: name.to_owned(),
        hook,
    }
}

pub(super) fn chain_del(name: &str) -> FirewallChange {
    FirewallChange::ChainDel {
        table: table(),
        chain: name.to_owned(),
    }
}

pub(super) fn chain_flush(name: &str) -> FirewallChange {
    FirewallChange::ChainFlush {
        table: table(),
        chain: name.to_owned(),
    }
}

pub(super) fn rule(matches: Vec<Match>, action: Action) -> Rule {
    Rule { matches, action }
}

pub(super) fn in_set(set: &str) -> Rule {
    let condition = Match::InSet {
        fields: vec![Field::Ipv4Source],
        set: set.to_owned(),
        negated: false,
    };
    rule(vec![condition], Action::Return)
}

pub(super) fn by_map(map: &str) -> Rule {
    let action = Action::VerdictMap {
        fields: vec![Field::Ipv4Source],
        map: map.to_owned(),
    };
    rule(Vec::new(), action)
}

pub(super) fn rule_add(chain: &str, rule: Rule) -> FirewallChange {
    FirewallChange::RuleAdd {
        table: table(),
        chain: chain.to_owned(),
        rule,
    }
}

pub(super) fn key(n: u8) -> Element {
    Element::new(vec![Value::Ipv4(Ipv4Addr::new(10, 0, 0, n))])
}

pub(super) fn leading(n: u8, verdict: Verdict) -> Element {
    let mut element = key(n);
    element.data = Some(ElementData::Verdict(verdict));
    element
}

pub(super) fn element_add(set: &str, elements: &[Element]) -> FirewallChange {
    FirewallChange::ElementAdd {
        table: table(),
        set: set.to_owned(),
        elements: elements.to_vec(),
    }
}

pub(super) fn element_del(set: &str, elements: &[Element]) -> FirewallChange {
    FirewallChange::ElementDel {
        table: table(),
        set: set.to_owned(),
        elements: elements.to_vec(),
    }
}
