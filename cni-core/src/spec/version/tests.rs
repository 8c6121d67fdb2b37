use super::*;

#[test]
fn exact_strings_are_versions() {
    for version in SpecVersion::ALL {
        assert_eq!(version.as_str().parse::<SpecVersion>().unwrap(), version);
        assert_eq!(version.to_string(), version.as_str());
    }
    assert!(SpecVersion::ALL.is_sorted());
    assert_eq!(SpecVersion::ALL.last(), Some(&SpecVersion::NEWEST));
}

#[test]
fn other_versions_are_incompatible_and_the_message_names_both_sides() {
    for text in [
        "1.0", "1", "01.1.0", "1.1.1", "1.2.0", "1.3.0", "99.0.0", "0.5.0",
    ] {
        let error = text.parse::<SpecVersion>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IncompatibleVersion, "{text}");
        assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        assert!(error.to_string().contains("0.1.0, 0.2.0"), "{error}");
    }
}

#[test]
fn what_is_no_version_is_a_decode_error() {
    for text in [
        "asdf.",
        "0.",
        "..",
        "1.1.0.0.0",
        "1.1.0.0",
        "v1.1.0",
        "1.0.f",
        " 1.1.0",
        "1.1.0\n",
        "-1.0.0",
        "1.1.0-rc1",
        "99999999999.0.0",
    ] {
        let error = text.parse::<SpecVersion>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{text}");
        assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
    }
}

#[test]
fn absent_null_and_empty_are_0_1_0() {
    for text in ["{}", r#"{"cniVersion":null}"#, r#"{"cniVersion":""}"#] {
        let object = Object::parse(text).unwrap();
        assert_eq!(SpecVersion::of(&object).unwrap(), SpecVersion::V0_1_0);
    }
    let object = Object::parse(r#"{"cniVersion":1.1}"#).unwrap();
    let error = SpecVersion::of(&object).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
}

#[test]
fn verbs_exist_since_their_version() {
    let first = |command| {
        SpecVersion::ALL
            .into_iter()
            .find(|version| version.require(command).is_ok())
    };
    assert_eq!(first(Command::Add), Some(SpecVersion::V0_1_0));
    assert_eq!(first(Command::Del), Some(SpecVersion::V0_1_0));
    assert_eq!(first(Command::Version), Some(SpecVersion::V0_1_0));
    assert_eq!(first(Command::Check), Some(SpecVersion::V0_4_0));
    assert_eq!(first(Command::Gc), Some(SpecVersion::V1_1_0));
    assert_eq!(first(Command::Status), Some(SpecVersion::V1_1_0));
    let error = SpecVersion::V0_3_1.require(Command::Check).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompatibleVersion);
    assert_eq!(
        error.to_string(),
        "CHECK needs a configuration of cniVersion 0.4.0 or newer, and this one is 0.3.1"
    );
}

#[test]
fn version_echoes_what_was_asked_when_it_is_a_version() {
    let answer = |stdin: &[u8]| VersionReply::to_request(stdin, &SpecVersion::ALL).render();
    let all = r#""supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#;
    for (stdin, echoed) in [
        (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        (r#"{"cniVersion":"1.2.0"}"#, "1.2.0"),
        (r#"{"cniVersion":"x"}"#, "1.1.0"),
        (r#"{"cniVersion":5}"#, "1.1.0"),
        ("{}", "1.1.0"),
        ("", "1.1.0"),
        ("junk", "1.1.0"),
    ] {
        assert_eq!(
            answer(stdin.as_bytes()),
            format!(r#"{{"cniVersion":"{echoed}",{all}"#)
        );
    }
    assert!(answer(b"\xff").starts_with(r#"{"cniVersion":"1.1.0""#));
}

#[test]
fn a_reply_is_read_as_it_was_rendered() {
    let reply = VersionReply::to_request(b"{}", &[SpecVersion::V0_4_0, SpecVersion::V1_0_0]);
    assert_eq!(reply.cni_version, "1.0.0");
    assert_eq!(VersionReply::parse(&reply.render()).unwrap(), reply);
    assert!(reply.supports(SpecVersion::V0_4_0));
    assert!(!reply.supports(SpecVersion::V1_1_0));
}

#[test]
fn the_old_forms_of_a_reply_are_understood() {
    let reply = VersionReply::parse(r#"{"cniVersion":"0.2.0"}"#).unwrap();
    assert_eq!(reply.supported, ["0.1.0", "0.2.0"]);
    let reply = VersionReply::of_failure("unknown CNI_COMMAND: VERSION").unwrap();
    assert_eq!(reply.supported, ["0.1.0"]);
    assert_eq!(VersionReply::of_failure("no such file"), None);
}

#[test]
fn an_incomplete_reply_is_a_decode_error() {
    for text in [
        "{}",
        r#"{"supportedVersions":["1.0.0"]}"#,
        r#"{"cniVersion":"1.0.0"}"#,
        r#"{"cniVersion":"1.0.0","supportedVersions":"1.0.0"}"#,
        "",
    ] {
        let error = VersionReply::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{text}");
    }
}
