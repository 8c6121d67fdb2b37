//! Our commands are nft's: fed to the program they make what our own commits make.

use std::io::Write;
use std::process::{Command, Stdio};

use cni_core::host::firewall::*;

use crate::support::*;

tests!(
    nft_makes_of_our_commands_what_our_commits_make,
    nft_lists_our_rules_as_we_print_them,
    the_printed_commands_run_in_a_shell,
);

/// nft's output; the error is the reason to skip.
pub(crate) fn nft(script: &str) -> Result<String, String> {
    run(Command::new("nft").args(["-f", "-"]), script)
}

pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?} cannot be run: {error}"))?;
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?} failed on:\n{input}");
    Ok(String::from_utf8(output.stdout).unwrap())
}

/// Marks and connections: what is forwarded past another table's rules.
fn marks(family: Family) -> TableSpec {
    let hook = Hook {
        kind: ChainKind::Filter,
        point: HookPoint::Forward,
        priority: -2,
    };
    let bits = |field, bits, all| vec![Match::Bits { field, bits, all }];
    let rules = vec![
        rule(vec![], Action::MarkSet(0x1000)),
        rule(
            bits(Field::ConntrackState, Field::ESTABLISHED_OR_RELATED, false),
            Action::Accept,
        ),
        rule(
            bits(Field::ConntrackStatus, Field::DESTINATION_NAT, false),
            Action::Return,
        ),
        rule(bits(Field::Mark, 0x1000, true), Action::Accept),
        rule(bits(Field::Mark, 0x3000, false), Action::Return),
        rule(vec![], Action::MarkClear(0x1000)),
    ];
    TableSpec {
        table: table(family),
        sets: vec![],
        chains: vec![chain("passing", Some(hook), rules)],
    }
}

fn specs() -> Vec<TableSpec> {
    let families = [Family::Inet, Family::Ip, Family::Ip6, Family::Bridge];
    let mut specs: Vec<TableSpec> = families.into_iter().map(everything).collect();
    specs.extend([masquerade(), spoof_filter()]);
    specs.extend(families.into_iter().map(networks));
    // A bridge's packets have connections only where the kernel tracks them there.
    specs.extend([Family::Inet, Family::Ip, Family::Ip6].map(marks));
    specs
}

pub(crate) fn script(changes: &[FirewallChange]) -> String {
    changes
        .iter()
        .map(|change| change.script() + "\n")
        .collect()
}

/// The state without handles, which count up.
pub(crate) fn comparable(table: &Table) -> Option<TableState> {
    let mut state = state(table)?;
    for chain in &mut state.chains {
        chain.rules.iter_mut().for_each(|rule| rule.handle = 0);
    }
    Some(state)
}

/// Changes of every kind on the masquerade table.
fn steps(t: &Table) -> Vec<FirewallChange> {
    let mut goto = marked(vec![v4(1)], "it's a \"mark\"");
    goto.data = Some(ElementData::Verdict(Verdict::Goto("net1".to_owned())));
    let mut port = marked(vec![Value::Protocol(6), Value::Port(8080)], "a port");
    port.data = Some(ElementData::Values(vec![v4(2), Value::Port(80)]));
    let chain = || "spare".to_owned();
    vec![
        add(t, "nets4", vec![goto]),
        add(t, "ports", vec![port.clone()]),
        del(t, "ports", vec![port]),
        add(
            t,
            "pods4",
            vec![Element::new(vec![v4(1)]), marked(vec![v4(2)], "x")],
        ),
        FirewallChange::ChainAdd {
            table: t.clone(),
            chain: chain(),
            hook: None,
        },
        FirewallChange::RuleAdd {
            table: t.clone(),
            chain: chain(),
            rule: masquerade().chains[0].rules[0].clone(),
        },
        FirewallChange::RuleInsert {
            table: t.clone(),
            chain: chain(),
            rule: masquerade().chains[0].rules[1].clone(),
            comment: "somebody's: the first".to_owned(),
        },
        FirewallChange::ChainFlush {
            table: t.clone(),
            chain: chain(),
        },
        FirewallChange::SetAdd {
            table: t.clone(),
            set: SetSpec {
                name: "spare".to_owned(),
                ..masquerade().sets[0].clone()
            },
        },
        FirewallChange::SetDel {
            table: t.clone(),
            set: "spare".to_owned(),
        },
        FirewallChange::ChainDel {
            table: t.clone(),
            chain: chain(),
        },
    ]
}

fn nft_makes_of_our_commands_what_our_commits_make() -> Result<(), String> {
    for spec in specs() {
        let t = &spec.table;
        nft(&script(&spec.converge()))?;
        let theirs = comparable(t);
        let handle = state(t).unwrap().chains[0].rules[0].handle;
        nft(&script(&[
            FirewallChange::RuleDel {
                table: t.clone(),
                chain: spec.chains[0].name.clone(),
                handle,
            },
            FirewallChange::TableDel(t.clone()),
        ]))?;
        assert_eq!(state(t), None);
        commit(&spec.converge()).unwrap();
        assert_eq!(comparable(t), theirs, "{t}");
        assert_eq!(spec.matches(&theirs.unwrap()), Ok(()));
        commit(&[FirewallChange::TableDel(t.clone())]).unwrap();
    }
    Ok(())
}

/// nft decodes our expressions back into our words, comment included.
fn nft_lists_our_rules_as_we_print_them() -> Result<(), String> {
    let mut specs = specs();
    specs.push(tunnel_filter());
    for spec in specs {
        commit(&spec.converge()).unwrap();
        let listed = run(
            Command::new("nft")
                .args(["-n", "-y", "list", "table"])
                .args([spec.table.family.to_string(), spec.table.name.clone()]),
            "",
        )?;
        let listed = listed
            .replace("counter packets 0 bytes 0", "counter")
            .replace("ct state 0x2,0x4 ", "ct state established,related ")
            .replace("ct status 0x20 ", "ct status dnat ")
            .replace("tcp dport", "@@")
            .replace("udp dport", "@@");
        for rule in spec.chains.iter().flat_map(|chain| &chain.rules) {
            // nft prints a port after `meta l4proto 6` as `tcp dport`.
            let text = rule.text().replace("meta l4proto 6 th dport", "@@");
            let text = text.replace("meta l4proto 17 th dport", "@@");
            assert!(
                listed.contains(&format!("{text} comment ")),
                "{text}\nis not in\n{listed}"
            );
        }
        commit(&[FirewallChange::TableDel(spec.table.clone())]).unwrap();
    }
    Ok(())
}

fn the_printed_commands_run_in_a_shell() -> Result<(), String> {
    nft("")?;
    let spec = masquerade();
    let t = &spec.table;
    let commands = |changes: &[FirewallChange]| -> String {
        changes.iter().map(|change| format!("{change}\n")).collect()
    };
    let mut shell = Command::new("sh");
    run(shell.arg("-e"), &commands(&spec.converge()))?;
    run(shell.arg("-e"), &commands(&steps(t)))?;
    let theirs = (comparable(t), elements(t, "pods4"), elements(t, "ports"));
    assert_eq!(
        elements(t, "nets4")[0].comment.as_deref(),
        Some("it's a 'mark'")
    );
    commit(&[FirewallChange::TableDel(t.clone())]).unwrap();
    commit(&spec.converge()).unwrap();
    commit(&steps(t)).unwrap();
    let ours = (comparable(t), elements(t, "pods4"), elements(t, "ports"));
    assert_eq!(ours, theirs);
    Ok(())
}
