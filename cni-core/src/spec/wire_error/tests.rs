use super::*;

#[test]
fn an_error_object_has_version_code_sentence_and_causes() {
    let error = Error::new(ErrorKind::Io, "could not read the \"store\"")
        .with_source(std::io::Error::other("disk on fire"))
        .context("could not reserve an address");
    assert_eq!(
        render(&error, SpecVersion::V0_4_0),
        r#"{"cniVersion":"0.4.0","code":5,"msg":"could not reserve an address","details":"could not read the \"store\": disk on fire"}"#
    );
    assert_eq!(
        render(
            &Error::new(ErrorKind::Plugin(0), "odd"),
            SpecVersion::NEWEST
        ),
        r#"{"cniVersion":"1.1.0","code":999,"msg":"odd"}"#
    );
}

#[test]
fn every_code_passes_through_unchanged() {
    for code in [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        11,
        50,
        51,
        100,
        1234,
        999,
        256,
        u32::MAX,
    ] {
        let error = Error::new(ErrorKind::from_code(code), "m").with_source("d");
        let text = render(&error, SpecVersion::V1_0_0);
        let parsed = parse(&text).unwrap();
        assert_eq!(parsed.kind().code(), code);
        assert_eq!(parsed.chain(), "m: d");
        assert_eq!(render(&parsed, SpecVersion::V1_0_0), text);
    }
}

#[test]
fn error_objects_of_other_plugins_are_understood() {
    for (text, kind, chain) in [
        (
            r#"{"code":11,"msg":"later","details":"d"}"#,
            ErrorKind::TryAgain,
            "later: d",
        ),
        (r#"{"msg":"m"}"#, ErrorKind::Internal, "m"),
        (r#"{"code":0,"msg":"m"}"#, ErrorKind::Internal, "m"),
        (
            r#"{"code":7,"msg":""}"#,
            ErrorKind::InvalidConfig,
            "the plugin failed with code 7",
        ),
        (
            r#"{"Code":50,"Msg":"m","details":{"a":1}}"#,
            ErrorKind::NotAvailable,
            "m: {\"a\":1}",
        ),
        (
            r#"{"code":100,"msg":"m","details":null,"x":1}"#,
            ErrorKind::Plugin(100),
            "m",
        ),
    ] {
        let error = parse(text).unwrap();
        assert_eq!((error.kind(), error.chain().as_str()), (kind, chain));
    }
}

#[test]
fn what_is_no_error_object_is_refused() {
    for text in [
        "",
        "oops",
        "[]",
        "null",
        "{}",
        r#"{"cniVersion":"1.0.0","ips":[]}"#,
        r#"{"code":"x"}"#,
        r#"{"code":-1}"#,
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}
