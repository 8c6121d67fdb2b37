use proptest::prelude::*;

use super::*;

fn config(body: &str) -> NetworkConfig {
    let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"bridge"{body}}}"#);
    NetworkConfig::parse(text.as_bytes()).unwrap()
}

fn parsed(body: &str) -> BridgeConfig {
    BridgeConfig::parse(&config(body), None).unwrap()
}

fn refused(body: &str) -> Error {
    BridgeConfig::parse(&config(body), None).unwrap_err()
}

#[test]
fn the_defaults_are_the_references() {
    let config = parsed("");
    assert_eq!(config.bridge, "cni0");
    assert_eq!((config.mtu, config.vlan, config.mac), (None, None, None));
    assert!(!config.is_gateway && !config.ip_masq && !config.preserve_default_vlan);
    assert!(!config.has_ipam && !config.uses_vlans());
}

#[test]
fn keys_match_without_regard_to_case_and_a_default_gateway_is_a_gateway() {
    let config = parsed(r#","BRIDGE":"br7","isdefaultgateway":true,"MTU":1400"#);
    assert_eq!(config.bridge, "br7");
    assert!(config.is_gateway && config.is_default_gateway);
    assert_eq!(config.mtu, Some(1400));
}

#[test]
fn every_bad_value_is_refused_with_its_name_and_rule() {
    for (body, words) in [
        (r#","hairpinMode":true,"promiscMode":true"#, "hairpinMode"),
        (r#","gateways":["10.1.0.1/24","10.2.0.1"]"#, "10.2.0.1"),
        (r#","gateways":["10.1.0.1/33"]"#, "gateways"),
        (r#","vlan":4095"#, "4094"),
        (r#","vlan":-1"#, "vlan"),
        (r#","mtu":67"#, "68"),
        (r#","mtu":-1"#, "mtu"),
        (r#","mtu":65536"#, "65535"),
        (r#","bridge":"a/b""#, "bridge"),
        (r#","vlanTrunk":[{"minID":5}]"#, "maxID"),
        (r#","vlanTrunk":[{"maxID":5}]"#, "minID"),
        (r#","vlanTrunk":[{"minID":5,"maxID":4}]"#, "greater"),
        (r#","vlanTrunk":[{"id":0}]"#, "id"),
        (r#","ipMasqBackend":"pf""#, "nftables"),
        (r#","runtimeConfig":{"mac":"01:00:00:00:00:01"}"#, "unicast"),
        (r#","args":{"cni":{"mac":"zz"}}"#, "args.cni.mac"),
        (
            r#","disableContainerInterface":true,"ipam":{"type":"host-local"}"#,
            "ipam",
        ),
        (
            r#","bridge":"bridge-of-14-b","vlan":10,"isGateway":true"#,
            "15 bytes",
        ),
    ] {
        let error = refused(body);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{body}: {error}");
        assert!(error.to_string().contains(words), "{body}: {error}");
    }
}

#[test]
fn a_member_of_the_wrong_type_is_a_decoding_error() {
    for body in [
        r#","mtu":"1400""#,
        r#","isGateway":1"#,
        r#","bridge":7"#,
        r#","vlanTrunk":{}"#,
    ] {
        assert_eq!(refused(body).kind(), ErrorKind::Decode, "{body}");
    }
}

#[test]
fn the_capability_overrules_args_and_these_overrule_the_environment() {
    let env = CniArgs::parse("MAC=02:00:00:00:00:01").unwrap();
    let of = |body: &str| {
        let parsed = BridgeConfig::parse(&config(body), Some(&env)).unwrap();
        parsed.mac.unwrap().to_string()
    };
    let args = r#","args":{"cni":{"mac":"02:00:00:00:00:02"}}"#;
    let both = format!(r#"{args},"runtimeConfig":{{"mac":"02:00:00:00:00:03"}}"#);
    assert_eq!(of(""), "02:00:00:00:00:01");
    assert_eq!(of(args), "02:00:00:00:00:02");
    assert_eq!(of(&both), "02:00:00:00:00:03");
}

#[test]
fn trunk_ranges_are_merged_in_order() {
    let config =
        parsed(r#","vlanTrunk":[{"id":9},{"minID":3,"maxID":5},{"minID":4,"maxID":8},{}]"#);
    assert_eq!(config.trunk, [VlanRange { first: 3, last: 9 }]);
}

/// The keys that this backend reads.
const KEYS: [&str; 20] = [
    "bridge",
    "isGateway",
    "isDefaultGateway",
    "gateways",
    "forceAddress",
    "ipMasq",
    "ipMasqBackend",
    "mtu",
    "hairpinMode",
    "promiscMode",
    "vlan",
    "vlanTrunk",
    "preserveDefaultVlan",
    "macspoofchk",
    "enabledad",
    "disableContainerInterface",
    "portIsolation",
    "args",
    "runtimeConfig",
    "dns",
];

/// Any JSON value of a little depth.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (-9i64..5000).prop_map(|value| value.to_string()),
        any::<f32>()
            .prop_filter("JSON has no such number", |value| value.is_finite())
            .prop_map(|value| format!("{value:?}")),
        "[ -!#-\\[\\]-~é☃]{0,20}".prop_map(|text| format!("\"{text}\"")),
    ];
    let names = prop_oneof!["[a-z]{1,6}", "minID|maxID|id|mac|cni|nameservers"];
    leaf.prop_recursive(3, 16, 4, move |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4);
        let map = prop::collection::btree_map(names.clone(), inner, 0..4);
        prop_oneof![
            list.prop_map(|items| format!("[{}]", items.join(","))),
            map.prop_map(|members| {
                let members = members
                    .iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_of_one_key_is_taken_or_refused_by_the_keys_name(
        key in prop::sample::select(&KEYS[..]),
        value in json(),
    ) {
        let text = format!(
            r#"{{"cniVersion":"1.1.0","name":"n","type":"bridge","{key}":{value}}}"#
        );
        // What the wire format itself refuses never gets here.
        if let Ok(config) = NetworkConfig::parse(text.as_bytes())
            && let Err(error) = BridgeConfig::parse(&config, None)
        {
            prop_assert!(error.chain().contains(key), "{}: {}", text, error.chain());
        }
    }

    #[test]
    fn any_object_is_taken_or_refused(
        members in prop::collection::btree_map(prop::sample::select(&KEYS[..]), json(), 0..8),
    ) {
        let more: String = members
            .iter()
            .map(|(key, value)| format!(",\"{key}\":{value}"))
            .collect();
        let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"bridge"{more}}}"#);
        if let Ok(config) = NetworkConfig::parse(text.as_bytes())
            && let Ok(parsed) = BridgeConfig::parse(&config, None)
        {
            prop_assert!(!(parsed.hairpin && parsed.promiscuous));
            prop_assert!(parsed.is_gateway || !parsed.is_default_gateway);
            prop_assert!(parsed.vlan.is_none_or(|vlan| (1..=4094).contains(&vlan)));
            prop_assert!(parsed.trunk.iter().all(|range| range.first <= range.last));
        }
    }
}
