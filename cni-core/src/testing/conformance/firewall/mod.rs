//! What every [`Firewall`] must do and refuse.

mod parts;

use std::net::Ipv4Addr;

use crate::host::firewall::{
    Action, ChainSpec, DataType, Element, ElementData, Firewall, FirewallChange, TableSpec,
    TableState, Value, ValueType, Verdict,
};
use crate::host::netlink::errno::{EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP};

use parts::*;

/// Success, where an errno is expected.
const DONE: i32 = 0;

/// Runs the contract of [`Firewall`] in a namespace without tables. All that it makes is gone at the end.
///
/// # Panics
/// Where the implementation differs, saying in what.
pub async fn firewall(firewall: &dyn Firewall) {
    refusals(firewall).await;
    what_is_missing_is_empty(firewall).await;
    a_transaction_is_whole_or_nothing(firewall).await;
    a_table_converges(firewall).await;
    elements_are_read_as_written(firewall).await;
    a_rule_is_inserted_ahead_of_others(firewall).await;
}

async fn refusals(firewall: &dyn Firewall) {
    let mut differences = Vec::new();
    for (rule, changes, wanted) in cases() {
        let (last, given) = changes.split_last().expect("a case has a change");
        make(firewall, &[table_add()]).await;
        if let Err(error) = firewall.commit(given).await {
            differences.push(format!("{rule}: beforehand, {error}"));
        }
        let outcome = firewall.commit(std::slice::from_ref(last)).await;
        let errno = outcome.as_ref().map_or_else(|error| error.errno, |()| DONE);
        if errno != wanted {
            differences.push(format!(
                "{rule}: `{last}` gave errno {errno} instead of {wanted}: {outcome:?}"
            ));
        }
        clear(firewall).await;
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn cases() -> Vec<(&'static str, Vec<FirewallChange>, i32)> {
    let twice = |change: FirewallChange| vec![change.clone(), change];
    let on_set = |changes: &[FirewallChange]| [&[set_add("s", None)], changes].concat();
    let on_map = |changes: &[FirewallChange]| {
        let map = set_add("m", Some(DataType::Verdict));
        [&[map, chain_add("to", None)], changes].concat()
    };
    let goto = |chain: &str| leading(1, Verdict::Goto(chain.to_owned()));
    let action = |action| rule_add("c", rule(Vec::new(), action));
    vec![
        (
            "a table is added any number of times",
            twice(table_add()),
            DONE,
        ),
        (
            "a missing table cannot be deleted",
            vec![FirewallChange::TableDel(other())],
            ENOENT,
        ),
        (
            "a missing table has no sets",
            vec![in_other(set_add("s", None))],
            ENOENT,
        ),
        (
            "a missing table has no chains",
            vec![in_other(chain_add("c", None))],
            ENOENT,
        ),
        (
            "a set is added any number of times",
            twice(set_add("s", None)),
            DONE,
        ),
        (
            "a missing set cannot be deleted",
            vec![set_del("s")],
            ENOENT,
        ),
        (
            "a set is deleted with its elements",
            on_set(&[element_add("s", &[key(1)]), set_del("s")]),
            DONE,
        ),
        (
            "a map is deleted as a set",
            on_map(&[element_add("m", &[goto("to")]), set_del("m")]),
            DONE,
        ),
        (
            "a set that a rule looks into stays",
            on_set(&[
                chain_add("c", None),
                rule_add("c", in_set("s")),
                set_del("s"),
            ]),
            EBUSY,
        ),
        (
            "a map that a rule asks stays",
            on_map(&[
                chain_add("c", None),
                rule_add("c", by_map("m")),
                set_del("m"),
            ]),
            EBUSY,
        ),
        (
            "a chain is added any number of times",
            twice(chain_add("c", None)),
            DONE,
        ),
        (
            "a base chain is added any number of times",
            twice(chain_add("c", Some(hook()))),
            DONE,
        ),
        (
            "a chain does not become a base chain",
            vec![chain_add("c", None), chain_add("c", Some(hook()))],
            EOPNOTSUPP,
        ),
        (
            "a missing chain cannot be deleted",
            vec![chain_del("c")],
            ENOENT,
        ),
        (
            "a missing chain cannot be flushed",
            vec![chain_flush("c")],
            ENOENT,
        ),
        (
            "a missing chain has no rules",
            vec![action(Action::Accept)],
            ENOENT,
        ),
        (
            "a chain is deleted",
            vec![chain_add("c", None), chain_del("c")],
            DONE,
        ),
        (
            "a chain that a rule leads to stays",
            vec![
                chain_add("to", None),
                chain_add("c", None),
                action(Action::Jump("to".to_owned())),
                chain_del("to"),
            ],
            EBUSY,
        ),
        (
            "a chain that an element leads to stays",
            on_map(&[element_add("m", &[goto("to")]), chain_del("to")]),
            EBUSY,
        ),
        (
            "a rule leads to a chain",
            vec![chain_add("c", None), action(Action::Goto("to".to_owned()))],
            ENOENT,
        ),
        (
            "a rule looks into a set",
            vec![chain_add("c", None), rule_add("c", in_set("s"))],
            ENOENT,
        ),
        (
            "an element needs its set",
            vec![element_add("s", &[key(1)])],
            ENOENT,
        ),
        (
            "an element is added once",
            on_set(&[element_add("s", &[key(1)]), element_add("s", &[key(1)])]),
            EEXIST,
        ),
        (
            "an element that is not there cannot be deleted",
            on_set(&[element_del("s", &[key(1)])]),
            ENOENT,
        ),
        (
            "an element is deleted",
            on_set(&[element_add("s", &[key(1)]), element_del("s", &[key(1)])]),
            DONE,
        ),
        (
            "a missing set has no elements to delete",
            vec![element_del("s", &[key(1)])],
            ENOENT,
        ),
        (
            "an element leads to a chain",
            on_map(&[element_add("m", &[goto("missing")])]),
            ENOENT,
        ),
        (
            "an element of a set has no data",
            on_set(&[chain_add("to", None), element_add("s", &[goto("to")])]),
            EINVAL,
        ),
        (
            "an element of a map has data",
            on_map(&[element_add("m", &[key(1)])]),
            EINVAL,
        ),
        (
            "a missing rule cannot be deleted",
            vec![
                chain_add("c", None),
                FirewallChange::RuleDel {
                    table: table(),
                    chain: "c".to_owned(),
                    handle: 77_777,
                },
            ],
            ENOENT,
        ),
    ]
}

async fn what_is_missing_is_empty(firewall: &dyn Firewall) {
    assert_eq!(firewall.table(&table()).await, Ok(None), "a missing table");
    assert_eq!(firewall.commit(&[]).await, Ok(()), "nothing is no failure");
    for _ in ["without the table", "without the set"] {
        let mut each = |element: Element| panic!("{element}");
        let streamed = firewall.each_element(&table(), "s", &mut each).await;
        assert_eq!(streamed, Ok(()), "elements of a missing set");
        let all = firewall.elements(&table(), "s").await;
        assert_eq!(all, Ok(Vec::new()), "elements of a missing set");
        let one = firewall.element(&table(), "s", &key(1).key).await;
        assert_eq!(one, Ok(None), "an element of a missing set");
        make(firewall, &[table_add()]).await;
    }
    make(firewall, &[set_add("s", None)]).await;
    let one = firewall.element(&table(), "s", &key(1).key).await;
    assert_eq!(one, Ok(None), "a missing element");
    clear(firewall).await;
}

async fn a_transaction_is_whole_or_nothing(firewall: &dyn Firewall) {
    let begun = [table_add(), set_add("s", None)];
    make(firewall, &begun).await;
    make(firewall, &[element_add("s", &[key(1)])]).await;
    let failing = [
        chain_add("c", None),
        element_add("s", &[key(2)]),
        element_del("s", &[key(1)]),
        element_del("s", &[key(3)]),
    ];
    let errno = firewall.commit(&failing).await.map_err(|error| error.errno);
    assert_eq!(errno, Err(ENOENT), "the last change fails");
    assert_eq!(
        keys(firewall, "s").await,
        [key(1).key],
        "no element changed"
    );
    let state = firewall.table(&table()).await.expect("the table");
    let chains = state.map(|state| state.chains.len());
    assert_eq!(chains, Some(0), "no chain was made");
    // Deleting and adding again is one step for whoever looks.
    let again = [
        element_del("s", &[key(1)]),
        element_add("s", &[key(1), key(2)]),
    ];
    make(firewall, &again).await;
    assert_eq!(keys(firewall, "s").await, [key(1).key, key(2).key]);
    // A set may go with the last rule that looks into it, and what only it led to right behind.
    let chain = [
        set_add("m", Some(DataType::Verdict)),
        chain_add("to", None),
        element_add("m", &[leading(1, Verdict::Goto("to".to_owned()))]),
        chain_add("c", None),
        rule_add("c", in_set("s")),
        rule_add("c", by_map("m")),
    ];
    make(firewall, &chain).await;
    let end = [
        chain_flush("c"),
        set_del("s"),
        set_del("m"),
        chain_del("to"),
        chain_del("c"),
    ];
    make(firewall, &end).await;
    let state = firewall.table(&table()).await.expect("the table");
    assert_eq!(state, Some(TableState::default()), "nothing is left");
    clear(firewall).await;
}

async fn a_table_converges(firewall: &dyn Firewall) {
    let accept = rule(Vec::new(), Action::Accept);
    let spec = TableSpec {
        table: table(),
        sets: vec![set("s", None), set("m", Some(DataType::Verdict))],
        chains: vec![
            ChainSpec {
                name: "to".to_owned(),
                hook: None,
                rules: vec![rule(Vec::new(), Action::Masquerade)],
            },
            ChainSpec {
                name: "c".to_owned(),
                hook: Some(hook()),
                rules: vec![in_set("s"), by_map("m"), accept.clone()],
            },
        ],
    };
    for time in ["first", "second"] {
        make(firewall, &spec.converge()).await;
        let state = firewall.table(&table()).await.expect("the table");
        let state = state.expect("the table");
        assert_eq!(spec.matches(&state), Ok(()), "after the {time} time");
        assert_eq!(state.sets.len(), 2, "sets after the {time} time");
    }
    // A rule goes by its handle.
    let state = firewall.table(&table()).await.expect("the table");
    let chains = state.expect("the table").chains;
    let chain = chains.into_iter().find(|chain| chain.name == "c");
    let last = chain.and_then(|chain| chain.rules.into_iter().last());
    let last = last.expect("the chain has rules");
    assert_eq!(
        last.comment,
        Some(accept.comment()),
        "a rule bears its text"
    );
    let change = FirewallChange::RuleDel {
        table: table(),
        chain: "c".to_owned(),
        handle: last.handle,
    };
    make(firewall, &[change]).await;
    let state = firewall.table(&table()).await.expect("the table");
    let drift = spec.matches(&state.expect("the table"));
    assert!(drift.is_err(), "a missing rule is drift");
    clear(firewall).await;
}

async fn elements_are_read_as_written(firewall: &dyn Firewall) {
    let values = DataType::Values(vec![ValueType::Ipv4]);
    let mut plain = key(1);
    plain.comment = Some("cni:n/c/eth0".to_owned());
    let mut bare = leading(2, Verdict::Goto("to".to_owned()));
    let mut marked = leading(3, Verdict::Jump("to".to_owned()));
    marked.comment = Some("x".repeat(127));
    let mut mapped = key(4);
    mapped.data = Some(ElementData::Values(vec![Value::Ipv4(Ipv4Addr::LOCALHOST)]));
    bare.comment = None;
    let sets = [
        ("s", None, vec![plain, key(9)]),
        ("m", Some(DataType::Verdict), vec![bare, marked]),
        ("v", Some(values), vec![mapped]),
    ];
    make(firewall, &[table_add(), chain_add("to", None)]).await;
    for (name, data, elements) in sets {
        make(
            firewall,
            &[set_add(name, data), element_add(name, &elements)],
        )
        .await;
        let mut found = firewall.elements(&table(), name).await.expect("elements");
        found.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(found, elements, "all elements of {name}");
        let mut streamed = Vec::new();
        let mut each = |element| streamed.push(element);
        let outcome = firewall.each_element(&table(), name, &mut each).await;
        assert_eq!(outcome, Ok(()), "elements of {name} one after another");
        streamed.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(streamed, elements, "elements of {name} one after another");
        for element in elements {
            let one = firewall.element(&table(), name, &element.key).await;
            assert_eq!(one, Ok(Some(element)), "one element of {name}");
        }
    }
    clear(firewall).await;
}

async fn a_rule_is_inserted_ahead_of_others(firewall: &dyn Firewall) {
    let missing = firewall.chain_rules(&other(), "c").await;
    assert_eq!(missing, Ok(None), "a missing table has no chain");
    make(firewall, &[table_add(), chain_add("c", Some(hook()))]).await;
    let missing = firewall.chain_rules(&table(), "other").await;
    assert_eq!(missing, Ok(None), "a missing chain has no rules");
    let behind = rule(Vec::new(), Action::Return);
    let ahead = |comment: &str| FirewallChange::RuleInsert {
        table: table(),
        chain: "c".to_owned(),
        rule: rule(Vec::new(), Action::MarkSet(1)),
        comment: comment.to_owned(),
    };
    let changes = [
        rule_add("c", behind.clone()),
        ahead("second"),
        ahead("first"),
    ];
    make(firewall, &changes).await;
    let comments = [
        Some("first".to_owned()),
        Some("second".to_owned()),
        Some(behind.comment()),
    ];
    let found = firewall.chain_rules(&table(), "c").await;
    let found = found.expect("the chain").expect("the chain");
    assert!(found.is_base && !found.drops, "a base chain that accepts");
    let told: Vec<Option<String>> = found
        .rules
        .iter()
        .map(|rule| rule.comment.clone())
        .collect();
    assert_eq!(told, comments, "rules in their order");
    let deletions = found
        .rules
        .iter()
        .take(1)
        .map(|rule| FirewallChange::RuleDel {
            table: table(),
            chain: "c".to_owned(),
            handle: rule.handle,
        });
    make(firewall, &deletions.collect::<Vec<_>>()).await;
    let left = firewall
        .chain_rules(&table(), "c")
        .await
        .expect("the chain");
    let left = left.expect("the chain").rules;
    assert_eq!(left.len(), 2, "one is deleted by its handle");
    assert_eq!(
        left.first().map(|rule| rule.comment.as_deref()),
        Some(Some("second")),
        "the first"
    );
    clear(firewall).await;
}

async fn make(firewall: &dyn Firewall, changes: &[FirewallChange]) {
    if let Err(error) = firewall.commit(changes).await {
        panic!("{error}");
    }
}

async fn clear(firewall: &dyn Firewall) {
    make(firewall, &[FirewallChange::TableDel(table())]).await;
}

async fn keys(firewall: &dyn Firewall, set: &str) -> Vec<Vec<Value>> {
    let found = firewall.elements(&table(), set).await.expect("elements");
    let mut keys: Vec<Vec<Value>> = found.into_iter().map(|element| element.key).collect();
    keys.sort();
    keys
}
