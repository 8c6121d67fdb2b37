use super::*;

fn config(body: &str) -> NetworkConfig {
    let text = format!(
        r#"{{"cniVersion":"1.1.0","name":"n","type":"vxlan","cluster":{{"file":"/c.json"}}{body}}}"#
    );
    NetworkConfig::parse(text.as_bytes()).unwrap()
}

fn parsed(body: &str) -> VxlanConfig {
    VxlanConfig::parse(&config(body)).unwrap()
}

#[test]
fn the_defaults_are_flannels_where_it_has_any() {
    let config = parsed("");
    assert_eq!((config.vni, config.device.as_str()), (1, "vxlan.1"));
    assert_eq!(config.data_path, None);
    assert_eq!(config.port(Capability::Classic), 8472);
    assert_eq!(config.port(Capability::Flow), 4790);
    assert_eq!(config.underlay, Underlay::Auto);
    assert!(config.filter && !config.direct_routing);
    assert_eq!(config.source_ports, None);
}

#[test]
fn every_key_is_read() {
    let config = parsed(
        r#","vni":16777215,"port":4789,"dataPath":"flow","underlay":"ipv6","directRouting":true,
           "sourcePorts":[40000,50000],"filter":false"#,
    );
    assert_eq!(
        (config.vni, config.device.as_str()),
        (16_777_215, "vxlan.16777215")
    );
    assert_eq!(config.data_path, Some(Capability::Flow));
    assert_eq!(config.port(Capability::Flow), 4789);
    assert_eq!(config.port(Capability::Classic), 4789);
    assert_eq!(config.underlay, Underlay::Ipv6);
    assert_eq!(config.source_ports, Some((40_000, 50_000)));
    assert!(!config.filter && config.direct_routing);
    assert_eq!(
        parsed(r#","vni":7,"device":"flannel.1""#).device,
        "flannel.1"
    );
}

#[test]
fn every_bad_value_is_refused_with_its_name_and_rule() {
    for (body, words) in [
        (r#","vni":0"#, ["`vni`", "from 1 to 16777215"]),
        (r#","vni":16777216"#, ["`vni`", "from 1 to 16777215"]),
        (r#","vni":"1""#, ["`vni`", "an integer"]),
        (r#","port":0"#, ["`port`", "from 1 to 65535"]),
        (r#","port":65536"#, ["`port`", "from 1 to 65535"]),
        (
            r#","device":"all""#,
            ["`device` is \"all\"", "interface name"],
        ),
        (
            r#","dataPath":"ipip""#,
            ["`dataPath` is \"ipip\"", "\"classic\""],
        ),
        (r#","underlay":"v4""#, ["`underlay` is \"v4\"", "\"ipv4\""]),
        (
            r#","sourcePorts":[2,1]"#,
            ["`sourcePorts` is [2, 1]", "the lower first"],
        ),
        (
            r#","sourcePorts":[0,1]"#,
            ["`sourcePorts` is [0, 1]", "from 1"],
        ),
        (r#","sourcePorts":[1,65536]"#, ["`sourcePorts`", "to 65535"]),
        (
            r#","sourcePorts":[1]"#,
            ["`sourcePorts` is [1]", "two ports"],
        ),
        (r#","sourcePorts":"1-2""#, ["`sourcePorts`", "two ports"]),
        (r#","filter":1"#, ["`filter`", "true or false"]),
        (r#","mtu":100"#, ["`mtu` is 100", "576"]),
    ] {
        let error = VxlanConfig::parse(&config(body)).unwrap_err();
        for word in words {
            assert!(error.chain().contains(word), "{body}: {}", error.chain());
        }
    }
}
