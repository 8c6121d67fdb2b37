use cni_core::host::firewall::Family;
use cni_core::plan::{Observed, diff};
use cni_core::spec::NetworkConfig;

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

fn plan(more: &str, facts: &Facts) -> String {
    let text = format!(
        r#"{{"cniVersion":"1.1.0","name":"n","type":"bridge","ipam":{{"type":"x"}}{more}}}"#
    );
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    let config = BridgeConfig::parse(&config, None).unwrap();
    let attachment = Attachment {
        network: "n".parse().unwrap(),
        container: "c".parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    };
    let input = Input {
        attachment: &attachment,
        netns: &NetnsPath::new("/run/netns/p"),
        config: &config,
        facts,
    };
    let mut addresses = AddResult::default();
    addresses.ips = vec![IpConfig::new("10.1.0.2/24".parse().unwrap())];
    let declared = declare(&input, addresses).unwrap();
    diff(&declared.desired, &Observed::default())
        .unwrap()
        .to_string()
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
