//! What is refused before anything is touched, and with which code.

use super::kit::*;

fn refused(asking: Asking) -> Answer {
    let backend = Recorder::default();
    let answer = asking.of(&backend);
    assert_eq!(backend.log(), [""; 0], "the backend was asked");
    answer
}

#[test]
fn each_missing_variable_is_named() {
    for (verb, names) in [
        ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"][..]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
        ("GC", &["CNI_PATH"]),
    ] {
        for name in names {
            for asking in [ask(verb).unset(name), ask(verb).env(name, "")] {
                let answer = refused(asking.reader(Broken));
                assert_eq!(answer.code(), 4, "{verb} {name}");
                assert!(answer.text().contains(name), "{answer:?}");
            }
        }
    }
}

#[test]
fn all_missing_variables_are_named_at_once() {
    let answer = refused(
        ask("ADD")
            .unset("CNI_NETNS")
            .unset("CNI_IFNAME")
            .unset("CNI_CONTAINERID"),
    );
    assert_eq!(answer.code(), 4);
    assert!(
        answer
            .text()
            .contains("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        "{answer:?}"
    );
}

#[test]
fn names_in_the_environment_are_checked() {
    for name in [
        "sixteen-letters-",
        ".",
        "..",
        "a/b",
        "a:b",
        "a b",
        "a\u{a0}b",
    ] {
        assert_eq!(
            refused(ask("ADD").env("CNI_IFNAME", name)).code(),
            4,
            "{name:?}"
        );
    }
    for id in ["a%b", "-a", "a\n", "a/b"] {
        assert_eq!(
            refused(ask("ADD").env("CNI_CONTAINERID", id)).code(),
            4,
            "{id:?}"
        );
    }
}

#[test]
fn junk_in_variables_that_a_verb_does_not_need_is_ignored() {
    for verb in ["GC", "STATUS"] {
        let answer = ask(verb)
            .env("CNI_CONTAINERID", "%%%")
            .env("CNI_IFNAME", "a/b")
            .of(&Recorder::default());
        assert_eq!(answer.status, 0, "{verb}: {answer:?}");
    }
}

#[test]
fn an_unknown_verb_is_refused_before_stdin_is_read() {
    for verb in ["add", "ADD ", "VALIDATE"] {
        assert_eq!(refused(ask(verb).reader(Broken)).code(), 4, "{verb}");
    }
}

#[test]
fn a_stdin_that_cannot_be_read_is_an_io_error() {
    let answer = refused(ask("ADD").reader(Broken));
    assert_eq!(answer.code(), 5);
    assert!(answer.text().contains("the disk is on fire"));
}

#[test]
fn a_configuration_that_is_no_json_object_is_a_decoding_error() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "\u{feff}{}",
        "{} {}",
        "{\"name\":\"net\"}x",
    ] {
        for verb in ["ADD", "DEL", "GC", "STATUS", "CHECK"] {
            assert_eq!(refused(ask(verb).stdin(text)).code(), 6, "{verb} {text:?}");
        }
    }
    let answer = refused(ask("ADD").stdin(b"{\"name\":\"\xff\"}".to_vec()));
    assert_eq!(answer.code(), 6);
}

#[test]
fn the_network_needs_a_valid_name() {
    for text in [
        r#"{"cniVersion":"1.1.0"}"#,
        r#"{"cniVersion":"1.1.0","name":""}"#,
        r#"{"cniVersion":"1.1.0","name":"a/b"}"#,
    ] {
        assert_eq!(refused(ask("ADD").stdin(text)).code(), 7, "{text}");
    }
}

#[test]
fn verbs_that_a_version_does_not_have_are_refused() {
    for (verb, version) in [
        ("CHECK", "0.3.1"),
        ("CHECK", "0.1.0"),
        ("GC", "1.0.0"),
        ("STATUS", "1.0.0"),
        ("GC", "0.3.0"),
    ] {
        let answer = refused(ask(verb).config(version, ""));
        assert_eq!(answer.code(), 1, "{verb} {version}");
        assert!(answer.text().contains(version) && answer.text().contains(verb));
        assert_eq!(answer.json()["cniVersion"], version);
    }
}

#[test]
fn versions_are_matched_exactly() {
    for (version, code) in [
        ("1.0", 1),
        ("01.1.0", 1),
        ("9.9.9", 1),
        ("x", 6),
        ("1.1.0 ", 6),
    ] {
        let answer = refused(ask("ADD").config(version, ""));
        assert_eq!(answer.code(), code, "{version:?}");
        assert!(answer.text().contains(version));
    }
}

#[test]
fn keys_that_stand_twice_are_refused_by_add_and_tolerated_by_del() {
    let twice = r#","mtu":1,"mtu":2,"prevResult":{"ips":[]}"#;
    for verb in ["ADD", "CHECK", "STATUS"] {
        let answer = refused(ask(verb).config("1.1.0", twice));
        assert_eq!(answer.code(), 7);
        assert!(answer.text().contains("mtu"));
    }
    for verb in ["DEL", "GC"] {
        let answer = ask(verb).config("1.1.0", twice).of(&Recorder::default());
        assert_eq!(answer.status, 0, "{verb}: {answer:?}");
    }
}

#[test]
fn cni_args_of_the_wrong_form_are_refused_by_add() {
    for args in ["A", "A=1;", "A=1=2", "IgnoreUnknown=maybe"] {
        assert_eq!(
            refused(ask("ADD").env("CNI_ARGS", args)).code(),
            4,
            "{args}"
        );
    }
}

#[test]
fn the_plugins_own_namespace_is_refused_by_add() {
    let answer = refused(ask("ADD").env("CNI_NETNS", OWN));
    assert_eq!(answer.code(), 8);
    assert!(answer.text().contains("CNI_NETNS_OVERRIDE"));
    for yes in ["1", "true", "TRUE"] {
        let answer = ask("ADD")
            .env("CNI_NETNS", OWN)
            .env("CNI_NETNS_OVERRIDE", yes)
            .of(&Recorder::default());
        assert_eq!(answer.status, 0, "{answer:?}");
    }
    let answer = ask("ADD")
        .env("CNI_NETNS", OWN)
        .env("CNI_NETNS_OVERRIDE", "yes");
    assert_eq!(refused(answer).code(), 8);
}

#[test]
fn a_previous_result_that_cannot_be_decoded_is_refused_by_add_and_check() {
    for prev in [
        r#"{"ips":[{"address":7}]}"#,
        r#"{"ips":[null]}"#,
        r#"{"cniVersion":"0.4.0","ips":[]}"#,
        r#"{"cniVersion":"9.9.9"}"#,
        "[]",
    ] {
        let more = format!(r#","prevResult":{prev}"#);
        for verb in ["ADD", "CHECK"] {
            let answer = refused(ask(verb).config("1.1.0", &more));
            assert_eq!(answer.code(), 6, "{verb} {prev}");
        }
    }
}

#[test]
fn check_needs_a_previous_result() {
    for more in ["", r#","prevResult":null"#, r#","prevResult":{}"#] {
        let answer = refused(ask("CHECK").config("1.1.0", more));
        assert_eq!(answer.code(), 7);
        assert!(answer.text().contains("prevResult"));
    }
}

#[test]
fn a_timeout_that_is_no_number_is_refused() {
    let answer = refused(ask("ADD").env("CNI_TIMEOUT_MS", "soon"));
    assert_eq!(answer.code(), 4);
    assert!(answer.text().contains("CNI_TIMEOUT_MS"));
}
