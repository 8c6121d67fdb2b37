//! What is read is what was written.

use cni_core::host::Firewall;
use cni_core::host::firewall::*;
use cni_core::host::netlink::MacAddr;

use crate::support::*;

tests!(
    what_does_not_exist_reads_as_nothing,
    elements_of_every_kind_survive_with_their_comments,
    one_element_is_found_by_its_key,
    rules_are_deleted_by_the_handles_that_are_read,
    a_table_is_read_without_its_neighbours,
);

fn what_does_not_exist_reads_as_nothing() -> Result<(), String> {
    let firewall = KernelFirewall::new();
    let t = table(Family::Inet);
    assert_eq!(wait(firewall.table(&t)).unwrap(), None);
    assert_eq!(wait(firewall.elements(&t, "pods4")).unwrap(), []);
    assert_eq!(wait(firewall.element(&t, "pods4", &[v4(1)])).unwrap(), None);
    commit(&[FirewallChange::TableAdd(t.clone())]).unwrap();
    assert_eq!(
        wait(firewall.table(&t)).unwrap(),
        Some(TableState::default())
    );
    assert_eq!(wait(firewall.elements(&t, "pods4")).unwrap(), []);
    assert_eq!(wait(firewall.element(&t, "pods4", &[v4(1)])).unwrap(), None);
    Ok(())
}

/// One element for each set of the two tables.
fn samples() -> Vec<(Table, &'static str, Element)> {
    let (inet, bridge) = (table(Family::Inet), table(Family::Bridge));
    let pair = || {
        vec![
            Value::Interface("veth0123456789a".to_owned()),
            Value::Mac(MacAddr([2, 1, 2, 3, 4, 5])),
        ]
    };
    let mut goto = marked(vec![v4(1)], "network one");
    goto.data = Some(ElementData::Verdict(Verdict::Goto("net1".to_owned())));
    let mut dropped = marked(pair(), "");
    dropped.data = Some(ElementData::Verdict(Verdict::Drop));
    let mut port = marked(vec![Value::Protocol(6), Value::Port(8080)], "a port");
    port.data = Some(ElementData::Values(vec![v4(2), Value::Port(80)]));
    let v6 = Value::Ipv6("fd00:1::2".parse().unwrap());
    vec![
        (inet.clone(), "pods4", marked(vec![v4(1)], &"m".repeat(127))),
        (inet.clone(), "pods6", Element::new(vec![v6])),
        (inet.clone(), "nets4", goto),
        (inet, "ports", port),
        (bridge.clone(), "guarded", marked(pair()[..1].to_vec(), "é")),
        (bridge.clone(), "allowed", marked(pair(), "x")),
        (bridge, "verdicts", dropped),
    ]
}

fn elements_of_every_kind_survive_with_their_comments() -> Result<(), String> {
    commit(&[masquerade().converge(), spoof_filter().converge()].concat()).unwrap();
    for (table, set, element) in samples() {
        commit(&[add(&table, set, vec![element.clone()])]).unwrap();
        assert_eq!(elements(&table, set), [element], "{set}");
    }
    Ok(())
}

fn one_element_is_found_by_its_key() -> Result<(), String> {
    commit(&[masquerade().converge(), spoof_filter().converge()].concat()).unwrap();
    let firewall = KernelFirewall::new();
    for (table, set, element) in samples() {
        let get = || wait(firewall.element(&table, set, &element.key)).unwrap();
        assert_eq!(get(), None, "{set}");
        commit(&[add(&table, set, vec![element.clone()])]).unwrap();
        assert_eq!(get().as_ref(), Some(&element), "{set}");
    }
    Ok(())
}

fn rules_are_deleted_by_the_handles_that_are_read() -> Result<(), String> {
    let spec = masquerade();
    commit(&spec.converge()).unwrap();
    let before = state(&spec.table).unwrap();
    let chain = before.chains.iter().find(|c| c.name == "post").unwrap();
    commit(&[FirewallChange::RuleDel {
        table: spec.table.clone(),
        chain: "post".to_owned(),
        handle: chain.rules[1].handle,
    }])
    .unwrap();
    let after = state(&spec.table).unwrap();
    let left = after.chains.iter().find(|c| c.name == "post").unwrap();
    assert_eq!(left.rules, [chain.rules[0].clone(), chain.rules[2].clone()]);
    Ok(())
}

fn a_table_is_read_without_its_neighbours() -> Result<(), String> {
    let spec = masquerade();
    let mut other = masquerade();
    other.table.name = "cni_test2".to_owned();
    commit(&spec.converge()).unwrap();
    let alone = state(&spec.table);
    commit(&other.converge()).unwrap();
    assert_eq!(state(&spec.table), alone);
    Ok(())
}
