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
