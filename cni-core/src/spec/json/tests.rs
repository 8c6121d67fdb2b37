use proptest::prelude::*;

use super::*;

fn refused<T: fmt::Debug>(result: Result<T>, kind: ErrorKind, text: &str) {
    let error = result.expect_err(text);
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
}

#[test]
fn an_exact_key_wins_over_one_of_another_case_and_the_last_of_equals_over_the_first() {
    let object = Object::parse(r#"{"HostPort":1,"hostPort":2,"HOSTPORT":3}"#).unwrap();
    assert_eq!(object.u32("hostPort").unwrap(), Some(2));
    assert_eq!(object.u32("HostPort").unwrap(), Some(1));
    assert_eq!(object.u32("hostport").unwrap(), Some(3));
    assert_eq!(object.u32("host_port").unwrap(), None);
    let object = Object::parse(r#"{"a":1,"a":2}"#).unwrap();
    assert_eq!(object.u32("a").unwrap(), Some(2));
}

#[test]
fn a_later_null_hides_an_earlier_value() {
    let object = Object::parse(r#"{"a":1,"a":null}"#).unwrap();
    assert!(object.member("a").is_none());
    assert_eq!(object.find("a").unwrap().get(), "null");
    assert!(object.find("b").is_none());
}

#[test]
fn keys_with_escapes_and_beyond_ascii_are_matched_by_their_meaning() {
    let object = Object::parse(r#"{"m\u0074u":1,"É":2}"#).unwrap();
    assert_eq!(object.u32("mtu").unwrap(), Some(1));
    assert_eq!(object.u32("É").unwrap(), Some(2));
    assert_eq!(object.u32("é").unwrap(), None);
}

#[test]
fn members_keep_their_exact_text() {
    let text = r#"{"big":123456789012345678901234567890,"e":1E+2,"s":"A","o":{ "b":1,"a":2 }}"#;
    let object = Object::parse(text).unwrap();
    let members: Vec<(&str, &str)> = object
        .iter()
        .map(|(key, value)| (key, value.get()))
        .collect();
    assert_eq!(
        members,
        [
            ("big", "123456789012345678901234567890"),
            ("e", "1E+2"),
            ("s", "\"A\""),
            ("o", "{ \"b\":1,\"a\":2 }")
        ]
    );
}

#[test]
fn duplicates_are_exact_ones_each_named_once() {
    let object = Object::parse(r#"{"b":1,"a":1,"A":1,"b":2,"a":3,"b":3}"#).unwrap();
    assert_eq!(object.duplicates(), ["a", "b"]);
    let object = Object::parse(r#"{"b":1,"B":1}"#).unwrap();
    assert!(object.duplicates().is_empty());
}

#[test]
fn null_is_absent_for_every_getter() {
    let o = Object::parse(r#"{"a":null}"#).unwrap();
    for name in ["a", "b"] {
        assert_eq!(o.string(name).unwrap(), None);
        assert_eq!(o.bool(name).unwrap(), None);
        assert_eq!(o.u32(name).unwrap(), None);
        assert_eq!(o.i64(name).unwrap(), None);
        assert_eq!(o.ip(name).unwrap(), None);
        assert_eq!(o.prefix(name).unwrap(), None);
        assert!(o.object(name).unwrap().is_none());
        assert!(o.objects(name).unwrap().is_empty());
        assert!(o.strings(name).unwrap().is_empty());
    }
}

#[test]
fn integers_are_integers_within_their_range() {
    let o = Object::parse(
        r#"{"a":4294967295,"b":4294967296,"c":-1,"d":1.0,"e":1e3,"f":"1","g":-9223372036854775808,"h":123456789012345678901234567890123456789012345678901234567890,"i":true,"j":-0}"#,
    )
    .unwrap();
    assert_eq!(o.u32("a").unwrap(), Some(u32::MAX));
    assert_eq!(o.i64("g").unwrap(), Some(i64::MIN));
    assert_eq!(o.u32("j").unwrap(), Some(0));
    refused(
        o.u32("b"),
        ErrorKind::InvalidConfig,
        "`b` is the number 4294967296, and must be from 0 to 4294967295",
    );
    refused(
        o.u32_in("a", 68, 65535),
        ErrorKind::InvalidConfig,
        "`a` is the number 4294967295, and must be from 68 to 65535",
    );
    assert_eq!(o.u32("c").unwrap_err().kind(), ErrorKind::InvalidConfig);
    assert_eq!(o.i64("h").unwrap_err().kind(), ErrorKind::InvalidConfig);
    refused(
        o.u32("d"),
        ErrorKind::Decode,
        "`d` must be an integer, and is the number 1.0",
    );
    refused(
        o.u32("e"),
        ErrorKind::Decode,
        "`e` must be an integer, and is the number 1e3",
    );
    refused(
        o.u32("f"),
        ErrorKind::Decode,
        "`f` must be an integer, and is the string \"1\"",
    );
    refused(
        o.u32("i"),
        ErrorKind::Decode,
        "`i` must be an integer, and is the boolean true",
    );
}

#[test]
fn wrong_types_are_decode_errors_that_name_the_path() {
    let o = Object::parse(r#"{"ipam":{"a":"true","b":[1],"c":{},"d":[{},1],"e":[null]}}"#).unwrap();
    let ipam = o.object("ipam").unwrap().unwrap();
    refused(
        ipam.bool("a"),
        ErrorKind::Decode,
        "`ipam.a` must be true or false, and is the string \"true\"",
    );
    refused(
        ipam.string("b"),
        ErrorKind::Decode,
        "`ipam.b` must be a string, and is an array",
    );
    refused(
        ipam.strings("b"),
        ErrorKind::Decode,
        "`ipam.b` must be an array of strings, and is an array",
    );
    refused(
        ipam.objects("c"),
        ErrorKind::Decode,
        "`ipam.c` must be an array, and is an object",
    );
    refused(
        ipam.objects("d"),
        ErrorKind::Decode,
        "`ipam.d[1]` must be a JSON object, and is the number 1",
    );
    refused(
        ipam.objects("e"),
        ErrorKind::Decode,
        "`ipam.e[0]` must be a JSON object, and is null",
    );
    refused(
        ipam.object("a"),
        ErrorKind::Decode,
        "`ipam.a` must be a JSON object, and is the string \"true\"",
    );
}

#[test]
fn addresses_are_read_strictly_and_keep_their_host_bits() {
    let o = Object::parse(
        r#"{"a":"10.1.0.5","b":"fd00::1","c":"10.1.0.5/16","d":"","e":"010.1.0.5","f":"10.1.0.5/+8","g":"fe80::1%eth0","h":5}"#,
    )
    .unwrap();
    assert_eq!(o.ip("a").unwrap(), Some("10.1.0.5".parse().unwrap()));
    assert_eq!(o.ip("b").unwrap(), Some("fd00::1".parse().unwrap()));
    assert_eq!(o.prefix("c").unwrap().unwrap().to_string(), "10.1.0.5/16");
    assert_eq!(o.ip("d").unwrap(), None);
    assert_eq!(o.prefix("d").unwrap(), None);
    refused(
        o.ip("c"),
        ErrorKind::InvalidConfig,
        "`c` is \"10.1.0.5/16\", and must be an IP address without prefix length, such as 10.1.0.1 or fd00::1",
    );
    refused(
        o.prefix("a"),
        ErrorKind::InvalidConfig,
        "`a` is \"10.1.0.5\", and must be an IP address with its prefix length, such as 10.1.0.0/16 or fd00::/64",
    );
    for name in ["e", "g"] {
        assert_eq!(o.ip(name).unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
    assert_eq!(o.prefix("f").unwrap_err().kind(), ErrorKind::InvalidConfig);
    assert_eq!(o.ip("h").unwrap_err().kind(), ErrorKind::Decode);
}

#[test]
fn what_is_no_object_is_refused_with_its_type() {
    refused(
        Object::parse("[1]"),
        ErrorKind::Decode,
        "the text must be a JSON object, and is an array",
    );
    refused(
        Object::parse("null"),
        ErrorKind::Decode,
        "the text must be a JSON object, and is null",
    );
    for text in [
        "",
        " ",
        "{",
        "{}{}",
        "{} x",
        "{\"a\"}",
        "{'a':1}",
        "\u{feff}{}",
        "{\"a\":01}",
    ] {
        refused(
            Object::parse(text),
            ErrorKind::Decode,
            "the text is not valid JSON",
        );
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(Object::parse(&nested(MAX_DEPTH - 1)).is_ok());
    let error = Object::parse(&nested(MAX_DEPTH)).unwrap_err();
    assert!(error.to_string().contains("nested deeper"), "{error}");
    assert!(Object::parse(&nested(1_000_000)).is_err());
    // Brackets in strings are no nesting.
    assert!(Object::parse(&format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(1000))).is_ok());
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BYTES));
    let error = Object::parse(&long).unwrap_err();
    assert!(error.to_string().contains("bytes"), "{error}");
}

#[test]
fn long_values_are_cut_in_messages() {
    let text = format!("{{\"a\":\"{}\"}}", "é".repeat(500));
    let error = Object::parse(&text).unwrap().bool("a").unwrap_err();
    assert!(error.to_string().len() < 300, "{error}");
    assert!(error.to_string().ends_with("..."), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_an_object_or_an_error(text in "[\\[\\]{}\",:0-9a-e\\\\ -]{0,40}|\\PC{0,60}") {
        if let Ok(object) = Object::parse(&text) {
            // serde_json's own reading agrees, but for numbers and escapes that it cannot hold.
            for (key, _) in object.iter() {
                let _ = (object.string(key), object.u32(key), object.i64(key), object.bool(key));
                let _ = (object.object(key), object.objects(key), object.strings(key));
                let _ = (object.ip(key), object.prefix(key), object.duplicates());
            }
        }
        let whole = serde_json::from_str::<std::collections::BTreeMap<String, serde_json::Value>>(&text);
        prop_assert!(whole.is_err() || Object::parse(&text).is_ok());
    }

    #[test]
    fn every_member_is_found_under_any_case(keys in proptest::collection::btree_set("[a-z]{1,8}", 0..6)) {
        let members: Vec<String> = keys.iter().enumerate().map(|(i, k)| format!("\"{k}\":{i}")).collect();
        let text = format!("{{{}}}", members.join(","));
        let object = Object::parse(&text).unwrap();
        for (index, key) in keys.iter().enumerate() {
            let index = u32::try_from(index).unwrap();
            prop_assert_eq!(object.u32(key).unwrap(), Some(index));
            prop_assert_eq!(object.u32(&key.to_ascii_uppercase()).unwrap(), Some(index));
        }
    }

    #[test]
    fn a_prefix_that_is_read_prints_as_it_was_written(a in any::<[u8; 4]>(), len in 0..=32_u8, b in any::<[u16; 8]>(), len6 in 0..=128_u8) {
        for text in [
            format!("{}/{len}", std::net::Ipv4Addr::from(a)),
            format!("{}/{len6}", std::net::Ipv6Addr::from(b)),
        ] {
            prop_assert_eq!(parse_prefix(&text).unwrap().to_string(), text);
        }
    }
}
