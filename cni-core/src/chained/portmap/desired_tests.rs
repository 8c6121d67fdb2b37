use super::*;
use crate::host::firewall::FirewallChange;
use crate::plan::{Change, Observed, diff};
use crate::spec::NetworkConfig;

fn config(keys: &str, ports: &str) -> PortmapConfig {
    let text = format!(
        r#"{{"cniVersion":"1.0.0","name":"n","type":"portmap"{keys},"runtimeConfig":{{"portMappings":[{ports}]}}}}"#
    );
    PortmapConfig::parse(&NetworkConfig::parse(text.as_bytes()).unwrap()).unwrap()
}

fn attachment() -> Attachment {
    Attachment {
        network: "n".parse().unwrap(),
        container: "c1".parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    }
}

fn addresses() -> Vec<IpAddr> {
    ["10.88.0.5", "10.88.0.6", "fd00::5"]
        .map(|ip| ip.parse().unwrap())
        .into()
}

const TCP: &str = r#"{"hostPort":8080,"containerPort":80}"#;
const ONE: &str = r#"{"hostPort":8443,"containerPort":443,"hostIP":"192.0.2.1"}"#;

fn facts() -> Facts {
    Facts {
        link4: Some("cni0".to_owned()),
        link6: Some("cni0".to_owned()),
        ..Facts::default()
    }
}

fn declared(keys: &str, ports: &str, facts: &Facts) -> Desired {
    let config = config(keys, ports);
    let publications = publications(&config, &addresses()).unwrap();
    declare(&Input {
        attachment: &attachment(),
        config: &config,
        publications: &publications,
        facts,
    })
}

/// The elements that would be made, and the parameters, as text.
fn made(keys: &str, ports: &str, facts: &Facts) -> Vec<String> {
    let plan = diff(&declared(keys, ports, facts), &Observed::default()).unwrap();
    let changes = plan.steps().iter().flat_map(|step| match &step.change {
        Change::Firewall(all) => all
            .iter()
            .filter(|change| {
                matches!(change, FirewallChange::ElementAdd { .. })
                    || matches!(change, FirewallChange::RuleAdd { chain, .. } if chain.starts_with("pod"))
            })
            .map(FirewallChange::script)
            .collect(),
        other => vec![other.to_string()],
    });
    changes.collect()
}

#[test]
fn a_port_is_an_element_of_each_family_and_the_parameter_comes_behind_its_guard() {
    let made = made("", TCP, &facts());
    insta::assert_snapshot!(made.join("\n"), @r#"
    create element inet cni_portmap ports4 { 6 . 8080 comment "cni:n/c1/eth0" : 10.88.0.5 . 80 }
    create element inet cni_portmap ports6 { 6 . 8080 comment "cni:n/c1/eth0" : fd00::5 . 80 }
    create element inet cni_portmap published4 { 10.88.0.5 . 6 . 80 . 8080 comment "cni:n/c1/eth0" }
    create element inet cni_portmap published6 { fd00::5 . 6 . 80 . 8080 comment "cni:n/c1/eth0" }
    create element inet cni_portmap records { bb56:2290:8fa4:477b:3b41:57c0:2e26:944a . 0x00000000 comment "cni:n/c1/eth0" : :: . 6 . 8080 . ::ffff:10.88.0.5 . 80, bb56:2290:8fa4:477b:3b41:57c0:2e26:944a . 0x00000001 comment "cni:n/c1/eth0" : :: . 6 . 8080 . fd00::5 . 80 }
    create element inet cni_portmap hairpin { "cni0" . "cni0" }
    create element inet cni_portmap localnet { "cni0" }
    sysctl -w net/ipv4/conf/cni0/route_localnet=1
    "#);
}

#[test]
fn a_port_of_one_address_is_of_that_addresss_family() {
    let made = made("", ONE, &facts());
    assert!(
        made.iter()
            .any(|line| line.contains("host_ports4 { 192.0.2.1 . 6 . 8443"))
    );
    assert!(
        !made
            .iter()
            .any(|line| line.contains("ports6") || line.contains("published6"))
    );
    // Nobody comes from 127.0.0.1 to this address: nothing has to be opened.
    assert!(
        !made.iter().any(|line| line.contains("localnet")),
        "{made:#?}"
    );
}

#[test]
fn without_snat_nothing_is_masqueraded_and_nothing_opened() {
    let made = made(
        r#","snat":false,"masqAll":true,"markMasqBit":3"#,
        TCP,
        &facts(),
    );
    for word in [
        "published",
        "masqueraded",
        "hairpin",
        "localnet",
        "mark set",
    ] {
        assert!(
            !made.iter().any(|line| line.contains(word)),
            "{word}: {made:#?}"
        );
    }
}

#[test]
fn conditions_and_a_mark_are_rules_of_the_attachments_own() {
    let keys = r#","conditionsV4":["-s","192.0.2.1,192.0.2.2"],"markMasqBit":3"#;
    let made = made(keys, TCP, &facts());
    let rules: Vec<&str> = made
        .iter()
        .filter_map(|line| line.strip_prefix("add rule inet cni_portmap pod"))
        .map(|line| {
            line.split_once(' ')
                .unwrap()
                .1
                .split(" comment")
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(
        rules,
        [
            r#"ip saddr 192.0.2.1/32 iifname "cni0" meta mark set meta mark | 0x00000008"#,
            "ip saddr 192.0.2.1/32 ip saddr 127.0.0.0/8 meta mark set meta mark | 0x00000008",
            "ip saddr 192.0.2.1/32 dnat ip to meta l4proto . th dport map @ports4",
            r#"ip saddr 192.0.2.2/32 iifname "cni0" meta mark set meta mark | 0x00000008"#,
            "ip saddr 192.0.2.2/32 ip saddr 127.0.0.0/8 meta mark set meta mark | 0x00000008",
            "ip saddr 192.0.2.2/32 dnat ip to meta l4proto . th dport map @ports4",
            r#"iifname "cni0" meta mark set meta mark | 0x00000008"#,
            "dnat ip6 to meta l4proto . th dport map @ports6",
        ]
    );
}

#[test]
fn an_interface_of_the_attachments_own_bears_its_mark() {
    let own = attachment().host_name().to_string();
    let facts = Facts {
        link4: Some(own.clone()),
        ..Facts::default()
    };
    let made = made("", TCP, &facts);
    for set in ["hairpin", "localnet"] {
        let line = made
            .iter()
            .find(|line| line.contains(&format!(" {set} ")))
            .unwrap();
        assert!(line.contains("comment \"cni:n/c1/eth0\""), "{line}");
    }
}

#[test]
fn the_rules_are_the_same_whatever_is_published() {
    let rules = |ports: &str| {
        let desired = declared("", ports, &facts());
        let tables = desired.items.iter().filter_map(|item| match &item.object {
            Object::Table(spec) => Some(spec.clone()),
            _ => None,
        });
        tables.collect::<Vec<_>>()
    };
    let many: Vec<String> = (1..100)
        .map(|port| format!(r#"{{"hostPort":{port},"containerPort":80}}"#))
        .collect();
    let many = many.join(",");
    assert_eq!(rules(TCP), rules(&many));
    assert_eq!(rules(TCP).len(), 1);
}

#[test]
fn one_port_leads_to_one_place_and_twice_the_same_is_once() {
    let twice = config("", &format!("{TCP},{TCP}"));
    assert_eq!(publications(&twice, &addresses()).unwrap().len(), 2);
    let both = config(
        "",
        &format!(r#"{TCP},{{"hostPort":8080,"containerPort":81}}"#),
    );
    let error = publications(&both, &addresses()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error.to_string().contains("host port 8080/tcp twice"),
        "{error}"
    );
}

#[test]
fn ports_without_an_address_are_an_error_and_no_ports_are_none() {
    let error = publications(&config("", TCP), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(publications(&config("", ""), &[]).unwrap(), []);
    let none = declared("", "", &facts());
    assert_eq!(none, Desired::new());
}
