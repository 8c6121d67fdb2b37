use cni_core::host::firewall::Family;
use cni_core::plan::{Observed, Owner, diff};
use cni_core::spec::NetworkConfig;
use proptest::prelude::*;

use super::*;

fn facts() -> Facts {
    Facts {
        bridge: None,
        bridge_follows: false,
        uplink_mtu: Some(1450),
        ipv6: true,
        bridge_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        container_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        expected: None,
    }
}

fn attachment() -> Attachment {
    Attachment {
        network: "n".parse().unwrap(),
        container: "c".parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    }
}

fn config(more: &str) -> BridgeConfig {
    let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"bridge"{more}}}"#);
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    BridgeConfig::parse(&config, None).unwrap()
}

fn declared(
    attachment: &Attachment,
    config: &BridgeConfig,
    facts: &Facts,
    ips: &[&str],
) -> Declaration {
    let input = Input {
        attachment,
        netns: &NetnsPath::new("/run/netns/p"),
        config,
        facts,
    };
    let mut addresses = AddResult::default();
    addresses.ips = ips
        .iter()
        .map(|ip| IpConfig::new(ip.parse().unwrap()))
        .collect();
    declare(&input, addresses).unwrap()
}

fn printed(more: &str, ips: &[&str]) -> String {
    let declared = declared(&attachment(), &config(more), &facts(), ips);
    let plan = diff(&declared.desired, &Observed::default()).unwrap();
    plan.to_string()
}

fn plan(more: &str, facts: &Facts) -> String {
    let config = config(&format!(r#","ipam":{{"type":"x"}}{more}"#));
    let declared = declared(&attachment(), &config, facts, &["10.1.0.2/24"]);
    diff(&declared.desired, &Observed::default())
        .unwrap()
        .to_string()
}

/// The plan of each main configuration on a node where nothing is yet.
#[test]
fn the_plans_are_as_they_were_read() {
    const IPAM: &str = r#","ipam":{"type":"x"}"#;
    const V4: &[&str] = &["10.1.0.2/24"];
    for (name, more, ips) in [
        ("default", IPAM.to_owned(), V4),
        (
            "masquerade_dual_stack",
            format!(r#"{IPAM},"isDefaultGateway":true,"ipMasq":true"#),
            &["10.1.0.2/24", "fd00:1::2/64"],
        ),
        ("layer_2", String::new(), &[]),
        ("vlan", format!(r#"{IPAM},"isGateway":true,"vlan":100"#), V4),
        (
            "vlan_trunk",
            r#","vlanTrunk":[{"minID":10,"maxID":20},{"id":30}],"preserveDefaultVlan":true"#
                .to_owned(),
            &[],
        ),
        ("spoof_check", format!(r#"{IPAM},"macspoofchk":true"#), V4),
        (
            "isolation_and_hairpin",
            r#","portIsolation":true,"hairpinMode":true"#.to_owned(),
            &[],
        ),
        (
            "container_interface_disabled",
            r#","disableContainerInterface":true"#.to_owned(),
            &[],
        ),
    ] {
        insta::assert_snapshot!(name, printed(&more, ips));
    }
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let more = r#","isDefaultGateway":true,"ipMasq":true,"macspoofchk":true"#;
    assert_eq!(plan(more, &facts()), plan(more, &facts()));
}

#[test]
fn without_a_configured_mtu_the_uplinks_counts_and_never_more_than_a_foreign_bridges() {
    assert!(plan("", &facts()).contains("mtu 1450"));
    assert!(plan(r#","mtu":1300"#, &facts()).contains("mtu 1300"));
    let mut bridge = Link::new(7, "cni0", cni_core::host::netlink::LinkKind::Physical);
    bridge.mtu = 1400;
    let foreign = Facts {
        bridge: Some(bridge),
        ..facts()
    };
    assert!(plan("", &foreign).contains("mtu 1400"));
}

#[test]
fn a_default_gateway_is_the_first_address_of_the_prefix_on_the_bridge() {
    let plan = plan(r#","isDefaultGateway":true"#, &facts());
    assert!(plan.contains("10.1.0.1/24"), "{plan}");
    assert!(plan.contains("net/ipv4/ip_forward=1"), "{plan}");
    assert!(plan.contains("via 10.1.0.1"), "{plan}");
}

#[test]
fn the_spoof_check_is_a_table_of_the_bridge_family() {
    assert_eq!(spoof::table().family, Family::Bridge);
    assert!(plan(r#","macspoofchk":true"#, &facts()).contains("cni_spoof"));
}

proptest! {
    #[test]
    fn every_name_derives_from_the_attachment_and_the_declaration_is_deterministic(
        network in "[a-z0-9][a-z0-9_.-]{0,80}",
        container in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,80}",
        interface in "[a-z][a-z0-9]{0,14}",
        flags in prop::collection::vec(any::<bool>(), 7),
        dual in any::<bool>(),
    ) {
        let attachment = Attachment {
            network: network.parse().unwrap(),
            container: container.parse().unwrap(),
            interface: interface.parse().unwrap(),
        };
        let keys = [
            r#","isDefaultGateway":true"#,
            r#","ipMasq":true"#,
            r#","macspoofchk":true"#,
            r#","portIsolation":true"#,
            r#","hairpinMode":true"#,
            r#","vlan":7"#,
            r#","enabledad":true"#,
        ];
        let more: String = keys
            .into_iter()
            .zip(&flags)
            .filter_map(|(key, on)| on.then_some(key))
            .collect();
        let config = config(&format!(r#","ipam":{{"type":"x"}}{more}"#));
        let ips: &[&str] = match dual {
            true => &["10.1.0.2/24", "fd00:1::2/64"],
            false => &["10.1.0.2/24"],
        };
        let one = declared(&attachment, &config, &facts(), ips);
        let other = declared(&attachment, &config, &facts(), ips);
        prop_assert_eq!(&one.desired, &other.desired);
        prop_assert_eq!(format!("{:?}", one.result), format!("{:?}", other.result));
        let host = attachment.host_name();
        for item in &one.desired.items {
            if item.owner == Owner::Shared {
                continue;
            }
            let name = match item.place {
                Place::Host => host.as_str(),
                Place::Container => attachment.interface.as_str(),
            };
            match &item.object {
                Object::Link(link) => prop_assert_eq!(&link.name, name),
                Object::Port { link, .. } | Object::Vlans { link, .. } => {
                    prop_assert_eq!(link, name);
                }
                Object::Address(address) => prop_assert_eq!(&address.link, name),
                Object::Route(route) => prop_assert_eq!(route.link.as_deref(), Some(name)),
                Object::Sysctl { key, .. } => {
                    let of = format!("/conf/{name}/");
                    prop_assert!(key.contains(&of) || key.contains("/conf/lo/"), "{}", key);
                }
                Object::Element { element, .. } => {
                    let mark = attachment.mark();
                    prop_assert_eq!(element.comment.as_deref(), Some(mark.as_str()));
                }
                other => prop_assert!(false, "{:?} belongs to no attachment", other),
            }
        }
    }
}
