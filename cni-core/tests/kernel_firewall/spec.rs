//! Convergence, and seeing drift.

use std::sync::Barrier;

use cni_core::host::firewall::*;

use crate::support::*;

tests!(
    every_rule_of_the_vocabulary_is_accepted_in_every_family,
    converging_twice_gives_the_same_rules,
    two_that_race_to_converge_end_with_single_rules,
    a_deleted_rule_is_seen_and_mended,
    a_foreign_rule_is_seen_and_mended,
    a_missing_chain_or_set_or_hook_is_named,
    deleting_a_table_leaves_nothing,
);

fn every_rule_of_the_vocabulary_is_accepted_in_every_family() -> Result<(), String> {
    let families = [Family::Inet, Family::Ip, Family::Ip6, Family::Bridge];
    let mut specs: Vec<TableSpec> = families.into_iter().map(everything).collect();
    specs.push(masquerade());
    specs.last_mut().unwrap().table.name = "masquerade".to_owned();
    specs.push(spoof_filter());
    specs.last_mut().unwrap().table.name = "spoof".to_owned();
    for spec in specs {
        commit(&spec.converge()).unwrap();
        assert_eq!(spec.matches(&state(&spec.table).unwrap()), Ok(()));
    }
    Ok(())
}

fn converging_twice_gives_the_same_rules() -> Result<(), String> {
    let spec = masquerade();
    commit(&spec.converge()).unwrap();
    let kept = marked(vec![v4(1)], "a pod");
    commit(&[add(&spec.table, "pods4", vec![kept.clone()])]).unwrap();
    commit(&spec.converge()).unwrap();
    assert_eq!(spec.matches(&state(&spec.table).unwrap()), Ok(()));
    assert_eq!(elements(&spec.table, "pods4"), [kept]);
    Ok(())
}

fn two_that_race_to_converge_end_with_single_rules() -> Result<(), String> {
    let spec = masquerade();
    for _ in 0..20 {
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    barrier.wait();
                    commit(&spec.converge()).unwrap();
                });
            }
        });
        assert_eq!(spec.matches(&state(&spec.table).unwrap()), Ok(()));
        commit(&[FirewallChange::TableDel(spec.table.clone())]).unwrap();
    }
    Ok(())
}

fn a_deleted_rule_is_seen_and_mended() -> Result<(), String> {
    let spec = masquerade();
    commit(&spec.converge()).unwrap();
    let handle = state(&spec.table).unwrap().chains[0].rules[0].handle;
    commit(&[FirewallChange::RuleDel {
        table: spec.table.clone(),
        chain: "post".to_owned(),
        handle,
    }])
    .unwrap();
    let words = spec.matches(&state(&spec.table).unwrap()).unwrap_err();
    assert!(
        words.starts_with("chain post of table inet cni_test has \"ip6 saddr @pods6"),
        "{words}"
    );
    commit(&spec.converge()).unwrap();
    assert_eq!(spec.matches(&state(&spec.table).unwrap()), Ok(()));
    Ok(())
}

fn a_foreign_rule_is_seen_and_mended() -> Result<(), String> {
    let spec = masquerade();
    commit(&spec.converge()).unwrap();
    commit(&[FirewallChange::RuleAdd {
        table: spec.table.clone(),
        chain: "post".to_owned(),
        rule: Rule {
            matches: vec![],
            action: Action::Return,
        },
    }])
    .unwrap();
    assert_eq!(
        spec.matches(&state(&spec.table).unwrap()),
        Err("chain post of table inet cni_test has 1 more rule than it should".to_owned())
    );
    commit(&spec.converge()).unwrap();
    assert_eq!(spec.matches(&state(&spec.table).unwrap()), Ok(()));
    Ok(())
}

fn a_missing_chain_or_set_or_hook_is_named() -> Result<(), String> {
    let spec = masquerade();
    let words = |other: &TableSpec| {
        commit(&other.converge()).unwrap();
        let words = spec.matches(&state(&spec.table).unwrap()).unwrap_err();
        commit(&[FirewallChange::TableDel(spec.table.clone())]).unwrap();
        words
    };
    let mut other = spec.clone();
    other.chains.pop();
    assert_eq!(
        words(&other),
        "chain net1 of table inet cni_test is missing"
    );
    let mut other = spec.clone();
    other.sets.pop();
    assert_eq!(words(&other), "set ports of table inet cni_test is missing");
    let mut other = spec.clone();
    other.chains[0].hook.as_mut().unwrap().priority = 101;
    assert_eq!(
        words(&other),
        "chain post of table inet cni_test is attached as \"type nat hook postrouting priority \
         101\" instead of \"type nat hook postrouting priority 100\""
    );
    Ok(())
}

fn deleting_a_table_leaves_nothing() -> Result<(), String> {
    let spec = spoof_filter();
    commit(&spec.converge()).unwrap();
    assert!(state(&spec.table).is_some());
    commit(&[FirewallChange::TableDel(spec.table.clone())]).unwrap();
    assert_eq!(state(&spec.table), None);
    Ok(())
}
