//! The table of published ports: taken by the kernel, made alike by nft, and listed as we print it.

use std::process::Command;

use cni_core::chained::portmap::{Facts, Input, PortmapConfig, declare, publications};
use cni_core::host::firewall::*;
use cni_core::plan::{Change, Desired, Observed, diff};
use cni_core::spec::{Attachment, NetworkConfig};

use crate::nft::{comparable, nft, run, script};
use crate::support::*;

tests!(
    published_ports_are_taken_and_read_back,
    nft_makes_of_published_ports_what_our_commits_make,
    nft_lists_published_ports_as_we_print_them,
    translation_and_masquerade_have_their_hooks,
);

/// Ports of every kind, with conditions and a mark.
fn desired() -> Desired {
    let text = r#"{"cniVersion":"1.1.0","name":"n","type":"portmap","markMasqBit":7,
        "conditionsV4":["ip","saddr","!=","{192.0.2.0/24,198.51.100.0/24}","iifname","eth0"],
        "runtimeConfig":{"portMappings":[
            {"hostPort":8080,"containerPort":80},{"hostPort":53,"containerPort":5353,"protocol":"udp"},
            {"hostPort":9,"containerPort":9,"protocol":"sctp","hostIP":"192.0.2.1"},
            {"hostPort":9,"containerPort":9,"protocol":"sctp","hostIP":"2001:db8::1"}]}}"#;
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    let config = PortmapConfig::parse(&config).unwrap();
    let pods = ["10.88.0.5", "fd00::5"].map(|ip| ip.parse().unwrap());
    let mut facts = Facts::default();
    facts.link4 = Some("cni0".to_owned());
    facts.link6 = Some("cni0".to_owned());
    facts.hairpin_port = Some("veth0".to_owned());
    declare(&Input {
        attachment: &Attachment {
            network: "n".parse().unwrap(),
            container: "c".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        },
        config: &config,
        publications: &publications(&config, &pods).unwrap(),
        facts: &facts,
    })
}

fn changes() -> Vec<FirewallChange> {
    let plan = diff(&desired(), &Observed::default()).unwrap();
    let changes = plan.steps().iter().filter_map(|step| match &step.change {
        Change::Firewall(changes) => Some(changes.clone()),
        _ => None,
    });
    changes.flatten().collect()
}

fn specs() -> Vec<TableSpec> {
    let items = desired().items.into_iter();
    let specs = items.filter_map(|item| match item.object {
        cni_core::plan::Object::Table(spec) => Some(spec),
        _ => None,
    });
    specs.collect()
}

fn table() -> Table {
    cni_core::chained::portmap::table()
}

const SETS: [&str; 17] = [
    "ports4",
    "ports6",
    "host_ports4",
    "host_ports6",
    "rules4",
    "rules6",
    "host_rules4",
    "host_rules6",
    "addresses4",
    "addresses6",
    "published4",
    "published6",
    "masqueraded4",
    "records",
    "hairpin",
    "hairpin_ports",
    "localnet",
];

fn all_elements() -> Vec<Vec<Element>> {
    SETS.iter().map(|set| elements(&table(), set)).collect()
}

fn published_ports_are_taken_and_read_back() -> Result<(), String> {
    commit(&changes()).unwrap();
    let state = state(&table()).unwrap();
    for spec in specs() {
        assert_eq!(spec.matches(&state), Ok(()));
    }
    for change in changes() {
        if let FirewallChange::ElementAdd {
            set,
            elements: wanted,
            ..
        } = change
        {
            let found = elements(&table(), &set);
            for element in wanted {
                assert!(found.contains(&element), "{element} of {set}: {found:?}");
            }
        }
    }
    Ok(())
}

fn nft_makes_of_published_ports_what_our_commits_make() -> Result<(), String> {
    nft(&script(&changes()))?;
    let theirs = (comparable(&table()), all_elements());
    commit(&[FirewallChange::TableDel(table())]).unwrap();
    commit(&changes()).unwrap();
    assert_eq!((comparable(&table()), all_elements()), theirs);
    Ok(())
}

fn nft_lists_published_ports_as_we_print_them() -> Result<(), String> {
    commit(&changes()).unwrap();
    let mut command = Command::new("nft");
    command.args(["-p", "-y", "list", "table", "inet", &table().name]);
    let listed = run(&mut command, "")?;
    let listed = listed
        .replace("counter packets 0 bytes 0", "counter")
        .replace("tcp dport", "th dport")
        .replace("udp dport", "th dport")
        .replace("sctp dport", "th dport");
    for rule in specs()
        .iter()
        .flat_map(|spec| &spec.chains)
        .flat_map(|chain| &chain.rules)
    {
        // nft leaves a protocol out where a port of it follows.
        let mut text = rule.text();
        if text.contains("ct original") {
            text = text
                .split_once("ip")
                .map(|(_, rest)| format!("ip{rest}"))
                .unwrap();
        }
        assert!(
            listed.contains(&format!("{text} comment ")),
            "{text}\nis not in\n{listed}"
        );
    }
    Ok(())
}

fn translation_and_masquerade_have_their_hooks() -> Result<(), String> {
    let base = &specs()[0];
    let hooked = |point, rule: &Rule| {
        let chain = ChainSpec {
            name: "other".to_owned(),
            hook: Some(Hook {
                kind: ChainKind::Nat,
                point,
                priority: 0,
            }),
            rules: vec![rule.clone()],
        };
        let spec = TableSpec {
            chains: vec![chain],
            ..base.clone()
        };
        commit(&spec.converge()).map_err(|error| error.errno)
    };
    let translate = base
        .chains
        .iter()
        .find(|chain| chain.name == "translate4")
        .unwrap();
    let lead = &translate.rules[3];
    for (point, outcome) in [
        (HookPoint::Prerouting, Ok(())),
        (HookPoint::Output, Ok(())),
        (HookPoint::Input, Err(95)),
        (HookPoint::Postrouting, Err(95)),
    ] {
        assert_eq!(hooked(point, lead), outcome, "{point:?}");
        if outcome.is_ok() {
            commit(&[FirewallChange::TableDel(table())]).unwrap();
        }
    }
    Ok(())
}
