use super::*;
use crate::error::ErrorKind;
use SpecVersion::*;

const FULL: &str = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"cni0","mac":"00:11:22:33:44:55","mtu":1450},{"name":"eth0","mac":"99:88:77:66:55:44","mtu":1450,"sandbox":"/var/run/netns/pod1","socketPath":"/run/vhost.sock","pciID":"0000:00:1f.6"}],"ips":[{"interface":0,"address":"10.1.0.5/16","gateway":"10.1.0.1"},{"address":"fd00::5/64","gateway":"fd00::1"},{"interface":-1,"address":"10.2.0.5/16"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1400,"advmss":1360,"priority":10,"table":0,"scope":0},{"dst":"::/0"},{"dst":"10.9.8.7/8"}],"dns":{"nameservers":["10.1.0.1"],"domain":"local","search":["a.local"],"options":["ndots:5"]}}"#;

fn convert(text: &str, from: SpecVersion, to: SpecVersion) -> String {
    AddResult::convert(text, from, to).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn same(text: &str, version: SpecVersion) {
    assert_eq!(convert(text, version, version), text);
}

fn refused(text: &str, version: SpecVersion, kind: ErrorKind, part: &str) {
    let error = AddResult::parse(text, version).expect_err(text);
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.chain().contains(part), "{error:?}");
}

#[test]
fn a_full_result_of_1_1_0_is_rendered_as_it_was_read() {
    same(FULL, V1_1_0);
}

#[test]
fn at_1_0_0_the_members_that_1_1_0_brought_are_dropped() {
    assert_eq!(
        convert(FULL, V1_1_0, V1_0_0),
        r#"{"cniVersion":"1.0.0","interfaces":[{"name":"cni0","mac":"00:11:22:33:44:55"},{"name":"eth0","mac":"99:88:77:66:55:44","sandbox":"/var/run/netns/pod1"}],"ips":[{"interface":0,"address":"10.1.0.5/16","gateway":"10.1.0.1"},{"address":"fd00::5/64","gateway":"fd00::1"},{"interface":-1,"address":"10.2.0.5/16"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"::/0"},{"dst":"10.9.8.7/8"}],"dns":{"nameservers":["10.1.0.1"],"domain":"local","search":["a.local"],"options":["ndots:5"]}}"#
    );
}

#[test]
fn at_0_3_and_0_4_each_address_has_a_version() {
    for version in [V0_3_0, V0_3_1, V0_4_0] {
        let text = convert(FULL, V1_1_0, version);
        assert_eq!(
            text,
            format!(
                r#"{{"cniVersion":"{version}","interfaces":[{{"name":"cni0","mac":"00:11:22:33:44:55"}},{{"name":"eth0","mac":"99:88:77:66:55:44","sandbox":"/var/run/netns/pod1"}}],"ips":[{{"version":"4","interface":0,"address":"10.1.0.5/16","gateway":"10.1.0.1"}},{{"version":"6","address":"fd00::5/64","gateway":"fd00::1"}},{{"version":"4","interface":-1,"address":"10.2.0.5/16"}}],"routes":[{{"dst":"0.0.0.0/0","gw":"10.1.0.1"}},{{"dst":"::/0"}},{{"dst":"10.9.8.7/8"}}],"dns":{{"nameservers":["10.1.0.1"],"domain":"local","search":["a.local"],"options":["ndots:5"]}}}}"#
            )
        );
        same(&text, version);
    }
}

#[test]
fn at_0_1_and_0_2_the_first_address_of_each_family_carries_the_routes_of_the_family() {
    for version in [V0_1_0, V0_2_0] {
        let text = convert(FULL, V1_1_0, version);
        assert_eq!(
            text,
            format!(
                r#"{{"cniVersion":"{version}","ip4":{{"ip":"10.1.0.5/16","gateway":"10.1.0.1","routes":[{{"dst":"0.0.0.0/0","gw":"10.1.0.1"}},{{"dst":"10.9.8.7/8"}}]}},"ip6":{{"ip":"fd00::5/64","gateway":"fd00::1","routes":[{{"dst":"::/0"}}]}},"dns":{{"nameservers":["10.1.0.1"],"domain":"local","search":["a.local"],"options":["ndots:5"]}}}}"#
            )
        );
        same(&text, version);
    }
}

#[test]
fn routes_of_a_family_without_an_address_are_dropped_at_0_2_0() {
    let text = r#"{"cniVersion":"1.0.0","ips":[{"address":"fd00::5/64"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}]}"#;
    assert_eq!(
        convert(text, V1_0_0, V0_2_0),
        r#"{"cniVersion":"0.2.0","ip6":{"ip":"fd00::5/64"},"dns":{}}"#
    );
}

#[test]
fn an_old_result_becomes_a_new_one_with_ip4_first_and_without_interfaces() {
    let text = r#"{"ip6":{"ip":"fd00::5/64","routes":[{"dst":"::/0","gw":"fd00::1"}]},"ip4":{"ip":"10.1.0.5/16","gateway":"10.1.0.1","routes":[{"dst":"10.0.0.0/8"}]},"dns":{}}"#;
    assert_eq!(
        convert(text, V0_1_0, V1_1_0),
        r#"{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.5/16","gateway":"10.1.0.1"},{"address":"fd00::5/64"}],"routes":[{"dst":"10.0.0.0/8"},{"dst":"::/0","gw":"fd00::1"}]}"#
    );
}

#[test]
fn a_result_without_addresses_cannot_be_said_at_0_2_0() {
    for version in [V0_1_0, V0_2_0] {
        let error = AddResult::default().render(version).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IncompatibleVersion);
        assert!(error.to_string().contains(version.as_str()), "{error}");
    }
    same(r#"{"cniVersion":"0.2.0","dns":{}}"#, V0_2_0);
    same(r#"{"cniVersion":"0.4.0","dns":{}}"#, V0_4_0);
}

#[test]
fn an_empty_dns_is_printed_before_1_0_0_and_omitted_since() {
    let text = r#"{"ips":[{"address":"10.1.0.5/16"}],"dns":{}}"#;
    for version in SpecVersion::ALL {
        let rendered = convert(text, V1_0_0, version);
        assert_eq!(
            rendered.contains(r#""dns":{}"#),
            version < V1_0_0,
            "{rendered}"
        );
    }
}

#[test]
fn a_dns_that_is_empty_without_its_unknown_members_is_omitted_with_them() {
    let text = r#"{"cniVersion":"1.1.0","dns":{"x":1}}"#;
    same(text, V1_1_0);
    assert_eq!(convert(text, V1_1_0, V1_0_0), r#"{"cniVersion":"1.0.0"}"#);
}

#[test]
fn index_0_survives_and_an_absent_index_stays_absent() {
    let text = r#"{"cniVersion":"1.0.0","ips":[{"interface":0,"address":"10.1.0.5/16"},{"address":"10.1.0.6/16"},{"interface":null,"address":"10.1.0.7/16"}]}"#;
    let ips = AddResult::parse(text, V1_0_0).unwrap().ips;
    assert_eq!(ips[0].interface, Some(0));
    assert_eq!(ips[1].interface, None);
    assert_eq!(ips[2].interface, None);
    let rendered = convert(text, V1_0_0, V0_4_0);
    assert!(rendered.contains(r#""interface":0"#), "{rendered}");
    assert_eq!(rendered.matches("\"interface\"").count(), 1, "{rendered}");
}

#[test]
fn an_index_of_minus_1_and_an_empty_gateway_are_legal() {
    let text = r#"{"cniVersion":"0.4.0","ips":[{"version":"4","interface":-1,"address":"10.1.0.5/16","gateway":""}]}"#;
    let result = AddResult::parse(text, V0_4_0).unwrap();
    assert_eq!(result.ips[0].interface, Some(-1));
    assert_eq!(result.ips[0].gateway, None);
}

#[test]
fn a_v4_mapped_address_stays_ipv6() {
    let text = r#"{"cniVersion":"1.0.0","ips":[{"address":"::ffff:10.1.0.5/112"}]}"#;
    same(text, V1_0_0);
    assert_eq!(
        convert(text, V1_0_0, V0_4_0),
        r#"{"cniVersion":"0.4.0","ips":[{"version":"6","address":"::ffff:10.1.0.5/112"}],"dns":{}}"#
    );
    assert_eq!(
        convert(text, V1_0_0, V0_2_0),
        r#"{"cniVersion":"0.2.0","ip6":{"ip":"::ffff:10.1.0.5/112"},"dns":{}}"#
    );
}

#[test]
fn table_0_and_scope_0_survive_and_other_zeros_are_omitted() {
    let text = r#"{"cniVersion":"1.1.0","routes":[{"dst":"10.0.0.0/8","mtu":0,"advmss":0,"priority":0,"table":0,"scope":0}]}"#;
    assert_eq!(
        convert(text, V1_1_0, V1_1_0),
        r#"{"cniVersion":"1.1.0","routes":[{"dst":"10.0.0.0/8","table":0,"scope":0}]}"#
    );
}

#[test]
fn a_missing_or_empty_version_is_the_configurations() {
    for text in [
        r#"{"ips":[{"address":"10.1.0.5/16"}]}"#,
        r#"{"cniVersion":"","ips":[{"address":"10.1.0.5/16"}]}"#,
        r#"{"cniVersion":null,"ips":[{"address":"10.1.0.5/16"}]}"#,
    ] {
        let result = AddResult::parse(text, V0_3_1).unwrap();
        assert_eq!(result.origin, Some(V0_3_1));
        assert_eq!(result.ips.len(), 1);
    }
}

#[test]
fn null_is_an_empty_result_and_null_lists_are_empty() {
    assert!(AddResult::parse(" null\n", V1_0_0).unwrap().ips.is_empty());
    let text = r#"{"interfaces":null,"ips":null,"routes":null,"dns":null}"#;
    assert_eq!(convert(text, V1_0_0, V1_0_0), r#"{"cniVersion":"1.0.0"}"#);
}

#[test]
fn a_null_entry_of_a_list_is_refused() {
    for key in ["interfaces", "ips", "routes"] {
        let text = format!(r#"{{"cniVersion":"1.0.0","{key}":[null]}}"#);
        refused(&text, V1_0_0, ErrorKind::Decode, &format!("{key}[0]"));
    }
}

#[test]
fn what_is_no_result_is_a_decode_error_that_names_the_place() {
    for (text, part) in [
        ("", "JSON"),
        ("[]", "an array"),
        ("{}x", "trailing"),
        (r#"{"ips":{}}"#, "`ips`"),
        (r#"{"ips":[{}]}"#, "`ips[0].address` is missing"),
        (r#"{"ips":[{"address":""}]}"#, "`ips[0].address` is missing"),
        (r#"{"ips":[{"address":"10.1.0.5"}]}"#, "prefix length"),
        (r#"{"ips":[{"address":"10.1.0.5/33"}]}"#, "10.1.0.5/33"),
        (r#"{"ips":[{"address":"10.1.0.5/"}]}"#, "prefix length"),
        (r#"{"ips":[{"address":"10.1.0.5/255.255.0.0"}]}"#, "prefix"),
        (r#"{"ips":[{"address":5}]}"#, "`ips[0].address`"),
        (
            r#"{"ips":[{"address":"10.1.0.5/16","gateway":"gw"}]}"#,
            "`ips[0].gateway`",
        ),
        (
            r#"{"ips":[{"address":"10.1.0.5/16","interface":"0"}]}"#,
            "`ips[0].interface`",
        ),
        (
            r#"{"ips":[{"address":"10.1.0.5/16","interface":1.5}]}"#,
            "1.5",
        ),
        (r#"{"routes":[{"gw":"10.0.0.1"}]}"#, "`routes[0].dst`"),
        (r#"{"dns":[]}"#, "`dns`"),
        (r#"{"dns":{"nameservers":"8.8.8.8"}}"#, "`dns.nameservers`"),
        (r#"{"interfaces":[{"name":1}]}"#, "`interfaces[0].name`"),
        (r#"{"interfaces":[{"name":"a","mtu":-1}]}"#, "-1"),
    ] {
        refused(text, V1_1_0, ErrorKind::Decode, part);
    }
    refused(
        r#"{"ip4":{"ip":"fd00::1/64"}}"#,
        V0_2_0,
        ErrorKind::Decode,
        "IPv4",
    );
    refused(
        r#"{"cniVersion":"1.2.0"}"#,
        V1_0_0,
        ErrorKind::IncompatibleVersion,
        "1.2.0",
    );
    refused(r#"{"cniVersion":"x"}"#, V1_0_0, ErrorKind::Decode, "x");
}

#[test]
fn unknown_members_survive_within_a_version_with_their_exact_text() {
    let text = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","x":18446744073709551617}],"ips":[{"address":"10.1.0.5/16","x":1e400}],"routes":[{"dst":"10.0.0.0/8","x":1.0}],"dns":{"x":[ 1 ]},"x":{"b":1,"a":"\u00e9"}}"#;
    same(text, V1_1_0);
    let text = r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.1.0.5/16","routes":[{"dst":"10.0.0.0/8","x":1}],"x":2},"dns":{},"x":3}"#;
    same(text, V0_2_0);
}

#[test]
fn unknown_members_survive_between_versions_of_the_same_text_only() {
    for from in SpecVersion::ALL {
        let (ip, plain) = if from.family() == crate::spec::version::Family::Ip4Ip6 {
            (r#""ip4":{"ip":"10.1.0.5/16","x":1}"#, "ip4")
        } else {
            (r#""ips":[{"address":"10.1.0.5/16","x":1}]"#, "ips")
        };
        let text = format!(r#"{{"cniVersion":"{from}",{ip},"x":2}}"#);
        assert!(text.contains(plain));
        for to in SpecVersion::ALL {
            let kept = from == to
                || (from < V0_3_0 && to < V0_3_0)
                || ((V0_3_0..V1_0_0).contains(&from) && (V0_3_0..V1_0_0).contains(&to));
            let rendered = convert(&text, from, to);
            assert_eq!(
                rendered.matches(r#""x""#).count(),
                if kept { 2 } else { 0 },
                "{from} to {to}: {rendered}"
            );
        }
    }
}

#[test]
fn route_and_interface_extras_are_read_below_1_1_0_but_never_written_there() {
    let text = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mtu":1400,"socketPath":"/s","pciID":"0"}],"ips":[{"address":"10.1.0.5/16"}],"routes":[{"dst":"10.0.0.0/8","mtu":1400,"advmss":1,"priority":2,"table":3,"scope":4}]}"#;
    let result = AddResult::parse(text, V1_0_0).unwrap();
    assert_eq!(result.interfaces[0].mtu, 1400);
    assert_eq!(result.routes[0].table, Some(3));
    for version in SpecVersion::ALL {
        let rendered = result.render(version).unwrap();
        for key in [
            "mtu",
            "socketPath",
            "pciID",
            "advmss",
            "priority",
            "table",
            "scope",
        ] {
            assert_eq!(
                rendered.contains(&format!("\"{key}\"")),
                version == V1_1_0,
                "{key} at {version}: {rendered}"
            );
        }
    }
}

#[test]
fn before_1_1_0_its_names_were_free_so_any_type_is_read() {
    let text = r#"{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","mtu":"big"}],"routes":[{"dst":"10.0.0.0/8","scope":"link"}]}"#;
    assert_eq!(
        convert(text, V0_4_0, V0_4_0),
        r#"{"cniVersion":"0.4.0","interfaces":[{"name":"eth0"}],"routes":[{"dst":"10.0.0.0/8"}],"dns":{}}"#
    );
}

#[test]
fn the_version_of_an_address_is_dropped_since_1_0_0_and_follows_the_address_before() {
    let text = r#"{"cniVersion":"0.3.1","ips":[{"version":"6","address":"10.1.0.5/16"}]}"#;
    assert!(!convert(text, V0_3_1, V1_0_0).contains("version\":\""));
    assert!(convert(text, V0_3_1, V0_4_0).contains(r#""version":"4""#));
}

#[test]
fn keys_match_without_regard_to_case_and_the_last_duplicate_wins() {
    let text = r#"{"CniVersion":"1.0.0","IPs":[{"Address":"10.1.0.5/16"}],"x":1,"x":2}"#;
    assert_eq!(
        convert(text, V0_2_0, V1_0_0),
        r#"{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/16"}],"x":2}"#
    );
}

#[test]
fn text_is_escaped_once() {
    let mut result = AddResult::default();
    result.interfaces.push(Interface::new("a\"b\\c\u{1}é<>&"));
    let text = result.render(V1_1_0).unwrap();
    assert_eq!(
        text,
        "{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"a\\\"b\\\\c\\u0001é<>&\"}]}"
    );
    same(&text, V1_1_0);
}
