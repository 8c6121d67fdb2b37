use super::*;

fn config(members: &str) -> NetworkConfig {
    let text = format!(r#"{{"cniVersion":"1.1.0","name":"net","type":"bridge"{members}}}"#);
    NetworkConfig::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, part: &str) {
    let error = result.expect_err(part);
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.chain().contains(part), "{error:?}");
}

fn runtime(members: &str) -> Result<RuntimeConfig> {
    config(&format!(r#","runtimeConfig":{{{members}}}"#)).runtime_config()
}

#[test]
fn the_original_text_is_kept_to_the_byte() {
    let text = "\n{ \"name\" : \"net\",\"x\":1.0e5 , \"y\":18446744073709551617}\n\n";
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    assert_eq!(config.raw(), text);
    assert_eq!(config.version(), SpecVersion::V0_1_0);
    assert_eq!(config.name().as_str(), "net");
    assert_eq!(config.plugin_type().unwrap(), None);
}

#[test]
fn bad_input_of_every_kind_has_one_sentence_and_code_6() {
    for (bytes, part) in [
        (&b""[..], "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf{\"name\":\"net\"}", "byte order mark"),
        (b"{\"name\":\"n\xff\"}", "UTF-8"),
        (b"{\"name\":\"net\"}}", "trailing"),
        (b"{\"name\":\"net\"}{}", "trailing"),
        (b"{\"name\":\"net\"", "EOF"),
        (b"[]", "an array"),
        (b"null", "null"),
        (b"\"name\"", "the string"),
        (b"{\"name\":5}", "`name` must be a string"),
        (b"{\"name\":\"net\",\"cniVersion\":5}", "`cniVersion`"),
        (b"{\"name\":\"net\",\"cniVersion\":\"x\"}", "not a version"),
    ] {
        refused(NetworkConfig::parse(bytes), ErrorKind::Decode, part);
    }
}

#[test]
fn a_missing_or_bad_name_has_code_7() {
    for text in [
        r#"{"cniVersion":"1.1.0"}"#,
        r#"{"name":""}"#,
        r#"{"name":null}"#,
    ] {
        refused(
            NetworkConfig::parse(text.as_bytes()),
            ErrorKind::InvalidConfig,
            "no `name`",
        );
    }
    for name in ["-a", "a b", "a/b", "é", "a\\n"] {
        refused(
            NetworkConfig::parse(format!(r#"{{"name":"{name}"}}"#).as_bytes()),
            ErrorKind::InvalidConfig,
            "network name",
        );
    }
}

#[test]
fn an_unsupported_version_has_code_1_and_the_name_is_judged_first() {
    let text = br#"{"name":"net","cniVersion":"1.2.0"}"#;
    refused(
        NetworkConfig::parse(text),
        ErrorKind::IncompatibleVersion,
        "1.2.0",
    );
    let text = br#"{"cniVersion":"1.2.0"}"#;
    refused(
        NetworkConfig::parse(text),
        ErrorKind::InvalidConfig,
        "`name`",
    );
}

#[test]
fn an_error_can_carry_the_version_of_a_bad_configuration() {
    assert_eq!(
        NetworkConfig::version_of(br#"{"cniVersion":"0.4.0"}"#),
        Some(SpecVersion::V0_4_0)
    );
    assert_eq!(NetworkConfig::version_of(b"{}"), Some(SpecVersion::V0_1_0));
    for bytes in [&b"{"[..], b"", br#"{"cniVersion":"9.9.9"}"#] {
        assert_eq!(NetworkConfig::version_of(bytes), None);
    }
}

#[test]
fn an_empty_ipam_is_none() {
    for members in ["", r#","ipam":null"#, r#","ipam":{}"#] {
        assert!(config(members).ipam().unwrap().is_none());
        assert_eq!(config(members).ipam_type().unwrap(), None);
    }
    let config = config(r#","IPAM":{"type":"host-local","subnet":"10.1.0.0/16"}"#);
    assert_eq!(config.ipam_type().unwrap().as_deref(), Some("host-local"));
    let ipam = config.ipam().unwrap().unwrap();
    assert_eq!(ipam.path(), "ipam");
}

#[test]
fn args_of_the_configuration_are_found() {
    let config = config(r#","args":{"cni":{"mac":"02:00:00:00:00:01","ips":["10.1.0.7"]},"x":1}"#);
    assert_eq!(
        config.arg("mac").unwrap().unwrap().get(),
        "\"02:00:00:00:00:01\""
    );
    assert!(config.arg("labels").unwrap().is_none());
    let ips = RequestedAddress::list(&config.cni_args().unwrap(), "ips").unwrap();
    assert_eq!(ips.len(), 1);
    refused(
        config.cni_args().unwrap().u32("mac"),
        ErrorKind::Decode,
        "`args.cni.mac`",
    );
    assert!(self::config("").arg("mac").unwrap().is_none());
}

#[test]
fn capabilities_are_booleans() {
    let config = config(r#","capabilities":{"portMappings":true,"ips":false,"x":"true"}"#);
    assert!(config.capability("portMappings").unwrap());
    assert!(!config.capability("ips").unwrap());
    assert!(!config.capability("mac").unwrap());
    refused(
        config.capability("x"),
        ErrorKind::Decode,
        "`capabilities.x`",
    );
}

#[test]
fn dns_is_read() {
    let dns =
        config(r#","dns":{"nameservers":["10.0.0.1"],"domain":"d","search":["s"],"options":null}"#)
            .dns()
            .unwrap();
    assert_eq!(dns.nameservers, ["10.0.0.1"]);
    assert_eq!(dns.domain, "d");
    assert!(config("").dns().unwrap().is_empty());
}

#[test]
fn an_absent_null_or_empty_previous_result_is_none() {
    for members in ["", r#","prevResult":null"#, r#","prevResult":{ }"#] {
        assert!(config(members).prev_result().unwrap().is_none());
    }
}

#[test]
fn a_previous_result_must_be_of_the_family_of_its_configuration() {
    let families = [(0, 0..2), (2, 2..5), (5, 5..7)];
    for config_version in SpecVersion::ALL {
        for (index, inner) in SpecVersion::ALL.into_iter().enumerate() {
            let body = if index < 2 {
                r#""ip4":{"ip":"10.1.0.5/16"}"#
            } else {
                r#""ips":[{"address":"10.1.0.5/16"}]"#
            };
            let text = format!(
                r#"{{"cniVersion":"{config_version}","name":"net","prevResult":{{"cniVersion":"{inner}",{body}}}}}"#
            );
            let result = NetworkConfig::parse(text.as_bytes()).unwrap().prev_result();
            let same = families.iter().any(|(_, family)| {
                family.contains(&index)
                    && family.contains(
                        &SpecVersion::ALL
                            .iter()
                            .position(|v| *v == config_version)
                            .unwrap(),
                    )
            });
            if same {
                assert_eq!(result.unwrap().unwrap().ips.len(), 1);
            } else {
                refused(result, ErrorKind::Decode, inner.as_str());
            }
        }
    }
}

#[test]
fn a_previous_result_without_a_version_has_the_configurations() {
    let text = r#"{"cniVersion":"0.3.1","name":"net","prevResult":{"ips":[{"version":"4","address":"10.1.0.5/16"}]}}"#;
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    let result = config.prev_result().unwrap().unwrap();
    assert_eq!(result.origin, Some(SpecVersion::V0_3_1));
}

#[test]
fn a_previous_result_that_is_none_is_a_decode_error_and_the_configuration_still_parses() {
    for value in [
        r#"{"cniVersion":"9.0.0"}"#,
        r#"{"ips":[null]}"#,
        r#"{"ips":5}"#,
        "[]",
        "5",
    ] {
        let config = config(&format!(r#","prevResult":{value}"#));
        refused(config.prev_result(), ErrorKind::Decode, "");
    }
}

#[test]
fn an_absent_list_of_attachments_says_nothing_and_an_empty_one_everything() {
    assert_eq!(config("").valid_attachments().unwrap(), None);
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        for value in ["null", "[]"] {
            let valid = config(&format!(r#","{key}":{value}"#)).valid_attachments();
            assert!(valid.unwrap().unwrap().is_empty());
        }
        let valid = config(&format!(
            r#","{key}":[{{"containerID":"c1","ifname":"eth0"}},{{"containerID":"c1","ifname":"eth1"}}]"#
        ))
        .valid_attachments()
        .unwrap()
        .unwrap();
        assert_eq!(valid.iter().count(), 2);
        assert!(valid.contains(&"c1".parse().unwrap(), &"eth1".parse().unwrap()));
    }
}

#[test]
fn the_new_name_of_the_attachments_wins_over_the_old_one() {
    let valid = config(
        r#","cni.dev/attachments":null,"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]"#,
    );
    assert!(!valid.valid_attachments().unwrap().unwrap().is_empty());
}

#[test]
fn a_list_of_attachments_that_is_not_understood_is_an_error() {
    for (value, part) in [
        ("{}", "valid-attachments"),
        ("[null]", "valid-attachments[0]"),
        (r#"[{"containerID":"c1"}]"#, "ifname"),
        (r#"[{"container_id":"c1","ifname":"eth0"}]"#, "containerID"),
        (
            r#"[{"containerID":"-","ifname":"eth0"}]"#,
            "valid-attachments[0]",
        ),
        (r#"[{"containerID":"c1","ifname":"a/b"}]"#, "a/b"),
    ] {
        let config = config(&format!(r#","cni.dev/valid-attachments":{value}"#));
        refused(config.valid_attachments(), ErrorKind::Decode, part);
    }
}

#[test]
fn duplicates_are_found_at_any_depth() {
    let config = config(
        r#","mtu":1,"mtu":2,"ipam":{"a":1,"a":1},"l":[[{"b":1}],[{"b":1,"b":2}]],"x":{"y":{"z":1,"z":1}},"v":{"k":1,"K":2}"#,
    );
    assert_eq!(
        config.duplicates().unwrap(),
        ["ipam.a", "l[1][0].b", "mtu", "x.y.z"]
    );
    refused(
        config.reject_duplicates(),
        ErrorKind::InvalidConfig,
        "ipam.a, l[1][0].b, mtu, x.y.z",
    );
    self::config(r#","a":{"b":[1,2]}"#)
        .reject_duplicates()
        .unwrap();
}

#[test]
fn port_mappings_as_containerd_sends_them_are_understood() {
    let config = runtime(
        r#""portMappings":[{"HostPort":18080,"ContainerPort":80,"Protocol":"tcp","HostIP":""},{"hostPort":53,"containerPort":53,"protocol":"UDP","hostIP":"fd00::1"},{"hostPort":1,"containerPort":65535}]"#,
    )
    .unwrap();
    let [a, b, c] = &config.port_mappings[..] else {
        panic!("{config:?}")
    };
    assert_eq!(
        (a.host_port, a.container_port, a.protocol, a.host_ip),
        (18080, 80, Protocol::Tcp, None)
    );
    assert_eq!(b.protocol, Protocol::Udp);
    assert_eq!(b.host_ip, Some("fd00::1".parse().unwrap()));
    assert_eq!((c.container_port, c.protocol), (65535, Protocol::Tcp));
}

#[test]
fn dns_as_containerd_sends_it_is_understood() {
    let config = runtime(
        r#""portMappings":null,"dns":{"Servers":["127.0.0.1"],"Searches":["."],"Options":null}"#,
    )
    .unwrap();
    assert!(config.port_mappings.is_empty());
    let dns = config.dns.unwrap();
    assert_eq!(dns.nameservers, ["127.0.0.1"]);
    assert_eq!(dns.search, ["."]);
    assert!(dns.options.is_empty());
}

#[test]
fn the_other_capabilities_are_typed() {
    let config = runtime(
        r#""ipRanges":[[{"subnet":"10.1.2.0/24","rangeStart":"10.1.2.3","rangeEnd":"10.1.2.99","gateway":"10.1.2.254"}],[{"subnet":"fd00::/64"}]],"bandWidth":{"ingressRate":2048,"ingressBurst":1600,"egressRate":4096,"egressBurst":18446744073709551615},"ips":["10.10.0.1/24","3ffe:ffff:0:01ff::1"],"mac":"c2:11:22:33:44:55","infinibandGUID":"c2:11:22:33:44:55:66:77","deviceID":"0000:04:00.5","aliases":["a","b"],"cgroupPath":"/kubelet/pod1""#,
    )
    .unwrap();
    assert_eq!(config.ip_ranges.len(), 2);
    let range = &config.ip_ranges[0][0];
    assert_eq!(range.subnet.to_string(), "10.1.2.0/24");
    assert_eq!(range.range_end, Some("10.1.2.99".parse().unwrap()));
    assert_eq!(config.ip_ranges[1][0].gateway, None);
    let bandwidth = config.bandwidth.unwrap();
    assert_eq!(
        (bandwidth.ingress_rate, bandwidth.egress_burst),
        (2048, u64::MAX)
    );
    assert_eq!(config.ips[0].prefix, Some(24));
    assert_eq!(config.ips[1].prefix, None);
    assert_eq!(config.mac.as_deref(), Some("c2:11:22:33:44:55"));
    assert_eq!(
        config.infiniband_guid.as_deref(),
        Some("c2:11:22:33:44:55:66:77")
    );
    assert_eq!(config.device_id.as_deref(), Some("0000:04:00.5"));
    assert_eq!(config.aliases, ["a", "b"]);
    assert_eq!(config.cgroup_path.as_deref(), Some("/kubelet/pod1"));
}

#[test]
fn aliases_by_network_are_those_of_this_network() {
    let config = runtime(r#""aliases":{"net":["a"],"other":["b"]}"#).unwrap();
    assert_eq!(config.aliases, ["a"]);
    assert!(runtime(r#""aliases":{}"#).unwrap().aliases.is_empty());
}

#[test]
fn bad_runtime_configuration_names_the_key_the_value_and_the_rule() {
    use ErrorKind::{Decode, InvalidConfig};
    for (members, kind, part) in [
        (
            r#""portMappings":[{"hostPort":0,"containerPort":80}]"#,
            InvalidConfig,
            "`runtimeConfig.portMappings[0].hostPort` is the number 0, and must be from 1 to 65535",
        ),
        (
            r#""portMappings":[{"containerPort":80}]"#,
            InvalidConfig,
            "hostPort` is missing",
        ),
        (
            r#""portMappings":[{"hostPort":"80","containerPort":80}]"#,
            Decode,
            "an integer",
        ),
        (
            r#""portMappings":[{"hostPort":80,"containerPort":80,"protocol":"icmp"}]"#,
            InvalidConfig,
            "icmp",
        ),
        (
            r#""portMappings":[{"hostPort":80,"containerPort":80,"hostIP":"x"}]"#,
            InvalidConfig,
            "hostIP",
        ),
        (r#""portMappings":{}"#, Decode, "an array"),
        (r#""ipRanges":[{}]"#, Decode, "`runtimeConfig.ipRanges[0]`"),
        (
            r#""ipRanges":[[{}]]"#,
            InvalidConfig,
            "`runtimeConfig.ipRanges[0][0].subnet` is missing",
        ),
        (r#""ips":["10.1.0.300"]"#, InvalidConfig, "10.1.0.300"),
        (r#""ips":"10.1.0.3""#, Decode, "an array of strings"),
        (r#""bandwidth":{"ingressRate":-1}"#, InvalidConfig, "-1"),
        (r#""mac":5"#, Decode, "`runtimeConfig.mac`"),
        (r#""aliases":"a""#, Decode, "`runtimeConfig.aliases`"),
    ] {
        refused(runtime(members), kind, part);
    }
}

#[test]
fn an_empty_runtime_configuration_is_the_default() {
    for members in [
        "",
        r#","runtimeConfig":null"#,
        r#","runtimeConfig":{}"#,
        r#","runtimeConfig":{"x":1,"mac":"","ips":null,"ipRanges":null}"#,
    ] {
        let read = config(members).runtime_config().unwrap();
        assert!(read.mac.is_none() && read.ips.is_empty() && read.ip_ranges.is_empty());
    }
}
