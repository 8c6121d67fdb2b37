//! What happens around a backend's part of ADD, DEL and GC.

use super::kit::*;
use crate::error::{Error, ErrorKind};

const DELETED: &str = r#"del net/c1/eth0 in Some("/run/netns/c1") after Some(1) with None"#;

#[test]
fn add_is_sealed_after_the_result_was_delivered() {
    let backend = Recorder::default();
    let answer = ask("ADD").of(&backend);
    assert_eq!(answer.status, 0);
    let expected = [
        "add net/c1/eth0 in /run/netns/c1 after None",
        "seal net/c1/eth0",
    ];
    assert_eq!(backend.log(), expected);
}

#[test]
fn a_seal_that_fails_does_not_fail_the_add() {
    let backend = Recorder {
        seal_fails: true,
        ..Recorder::default()
    };
    let answer = ask("ADD").of(&backend);
    assert_eq!(answer.status, 0);
    assert_eq!(answer.json()["ips"][0]["address"], "10.1.2.3/24");
}

#[test]
fn a_result_that_cannot_be_delivered_is_undone() {
    let backend = Recorder::default();
    let answer = ask("ADD").stdout_fails().of(&backend);
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""));
    assert!(
        answer
            .stderr
            .contains("could not write the result to stdout")
    );
    let expected = ["add net/c1/eth0 in /run/netns/c1 after None", DELETED];
    assert_eq!(backend.log(), expected);
}

#[test]
fn a_result_that_the_version_cannot_say_is_undone() {
    let backend = Recorder {
        no_addresses: true,
        ..Recorder::default()
    };
    let answer = ask("ADD").config("0.2.0", "").of(&backend);
    assert_eq!(answer.code(), 1);
    assert_eq!(backend.log().len(), 2);
    assert!(backend.log()[1].starts_with("del "));
}

#[test]
fn add_passes_the_previous_result_on() {
    let backend = Recorder::default();
    let prev = r#","prevResult":{"ips":[{"address":"10.9.9.9/8","interface":-1}]}"#;
    ask("ADD").config("1.1.0", prev).of(&backend);
    assert_eq!(
        backend.log()[0],
        "add net/c1/eth0 in /run/netns/c1 after Some(1)"
    );
}

#[test]
fn a_cancelled_add_answers_with_code_11_and_asks_nothing_of_the_backend() {
    let asking = ask("ADD");
    asking.cancel.cancel();
    let backend = Recorder::default();
    let answer = asking.of(&backend);
    assert_eq!(answer.code(), 11);
    assert_eq!(backend.log(), [""; 0]);
}

#[test]
fn the_deadline_of_the_environment_counts() {
    let answer = ask("ADD")
        .env("CNI_TIMEOUT_MS", "0")
        .of(&Recorder::default());
    assert_eq!(answer.code(), 11);
    let answer = ask("ADD")
        .env("CNI_TIMEOUT_MS", "60000")
        .of(&Recorder::default());
    assert_eq!(answer.status, 0);
    let answer = ask("DEL")
        .env("CNI_TIMEOUT_MS", "soon")
        .of(&Recorder::default());
    assert_eq!(answer.status, 0);
}

#[test]
fn del_cleans_up_whatever_is_wrong_with_its_input() {
    for (more, args, netns, expected) in [
        (
            r#","prevResult":{"ips":[null]}"#,
            "",
            "",
            r#"in None after None with None"#,
        ),
        (
            r#","prevResult":[]"#,
            "A=1;B",
            "",
            r#"in None after None with Some("1")"#,
        ),
        ("", "", "/gone", r#"in Some("/gone") after None with None"#),
        ("", "", OWN, r#"in None after None with None"#),
    ] {
        let backend = Recorder::default();
        let answer = ask("DEL")
            .config("1.1.0", more)
            .env("CNI_ARGS", args)
            .env("CNI_NETNS", netns)
            .of(&backend);
        assert_eq!(answer.status, 0, "{answer:?}");
        assert_eq!(backend.log(), [format!("del net/c1/eth0 {expected}")]);
    }
}

#[test]
fn del_reaches_the_backend_even_if_address_management_is_unusable() {
    let backend = Recorder::default();
    let answer = ask("DEL").ipam_fails().of(&backend);
    assert_eq!(answer.status, 0);
    assert_eq!(backend.log().len(), 1);
}

#[test]
fn gc_tells_an_absent_list_from_an_empty_one() {
    for (more, expected) in [
        ("", None),
        (r#","cni.dev/valid-attachments":null"#, Some("gc but 0")),
        (r#","cni.dev/valid-attachments":[]"#, Some("gc but 0")),
        (
            r#","cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]"#,
            Some("gc but 1"),
        ),
    ] {
        let backend = Recorder::default();
        let answer = ask("GC").config("1.1.0", more).of(&backend);
        assert_eq!(answer.status, 0, "{answer:?}");
        assert_eq!(backend.log().first().map(String::as_str), expected);
    }
    let backend = Recorder::default();
    let broken = r#","cni.dev/valid-attachments":[{"containerID":"a"}]"#;
    assert_eq!(ask("GC").config("1.1.0", broken).of(&backend).code(), 6);
    assert_eq!(backend.log(), [""; 0]);
}

#[test]
fn status_keeps_the_code_of_the_backend_and_of_address_management() {
    let backend = Recorder::doing(|| Err(Error::new(ErrorKind::LimitedConnectivity, "no uplink")));
    assert_eq!(ask("STATUS").of(&backend).code(), 51);
    let answer = ask("STATUS").ipam_fails().of(&Recorder::default());
    assert_eq!(answer.code(), 7);
    assert!(answer.text().contains("no such address pool"));
}

#[test]
fn a_dry_run_prints_its_plan_on_stderr_and_changes_nothing() {
    for verb in ["ADD", "DEL"] {
        let backend = Recorder::default();
        let answer = ask(verb).env("CNI_DRY_RUN", "1").of(&backend);
        assert_eq!((answer.status, answer.stdout.as_str()), (0, ""));
        assert_eq!(answer.stderr, "sysctl -w net/ipv4/ip_forward=1\n");
        assert!(
            !backend
                .log()
                .iter()
                .any(|line| line.starts_with("del") || line.starts_with("seal"))
        );
    }
    let list = r#","cni.dev/valid-attachments":[]"#;
    let backend = Recorder::default();
    let answer = ask("GC")
        .config("1.1.0", list)
        .env("CNI_DRY_RUN", "1")
        .of(&backend);
    assert_eq!(answer.code(), 4);
    assert_eq!(backend.log(), [""; 0]);
}

#[test]
fn an_address_plugin_serves_every_verb_without_a_backend() {
    let list = r#","cni.dev/valid-attachments":[]"#;
    for (verb, expected) in [
        ("ADD", "allocate"),
        ("DEL", "release"),
        ("CHECK", "check"),
        ("GC", "gc"),
        ("STATUS", "status"),
    ] {
        let ipam = FixedIpam::default();
        let answer = ask(verb).config("1.1.0", list).of_ipam(&ipam);
        assert_eq!(answer.status, 0, "{answer:?}");
        assert_eq!(ipam.log(), [expected]);
    }
}

#[test]
fn an_address_that_cannot_be_delivered_is_given_back() {
    let ipam = FixedIpam::default();
    assert_eq!(ask("ADD").stdout_fails().of_ipam(&ipam).status, 1);
    assert_eq!(ipam.log(), ["allocate", "release"]);
}

#[test]
fn a_dry_run_of_an_address_plugin_reserves_nothing() {
    for (verb, expected) in [
        ("ADD", "reserve 10.1.2.3/24\n"),
        ("DEL", "release 10.1.2.3/24\n"),
    ] {
        let ipam = FixedIpam::default();
        let answer = ask(verb).env("CNI_DRY_RUN", "true").of_ipam(&ipam);
        assert_eq!((answer.status, answer.stdout.as_str()), (0, ""));
        assert_eq!(answer.stderr, expected);
        assert_eq!(ipam.log(), [""; 0]);
    }
}

#[test]
fn an_add_that_panics_is_taken_back_before_the_answer() {
    let backend = Recorder {
        add_panics: true,
        ..Recorder::default()
    };
    let answer = ask("ADD").of(&backend);
    assert_eq!(answer.code(), 999);
    assert!(answer.text().contains("the cat is on the keyboard"));
    let log = backend.log();
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(
        log[0].starts_with("add ") && log[1].starts_with("del "),
        "{log:?}"
    );
}

#[test]
fn an_add_that_panics_and_cannot_be_taken_back_says_both() {
    let backend = Recorder::doing(|| panic!("the cat is on the keyboard"));
    let answer = ask("ADD").of(&backend);
    assert_eq!(answer.code(), 999);
    assert!(
        answer.text().contains("undoing the ADD failed"),
        "{answer:?}"
    );
    assert_eq!(backend.log().len(), 2, "add and del: {:?}", backend.log());
}

#[test]
fn an_add_that_fails_or_only_plans_is_not_followed_by_a_del() {
    let failing = Recorder::doing(|| Err(Error::new(ErrorKind::Io, "no")));
    assert_eq!(ask("ADD").of(&failing).code(), 5);
    assert_eq!(failing.log().len(), 1, "{:?}", failing.log());

    let planning = Recorder {
        add_panics: true,
        ..Recorder::default()
    };
    assert_eq!(ask("ADD").env("CNI_DRY_RUN", "1").of(&planning).code(), 999);
    assert_eq!(planning.log().len(), 1, "{:?}", planning.log());
}

#[test]
fn an_address_manager_that_panics_in_add_is_asked_to_release() {
    let ipam = FixedIpam::panicking();
    let answer = ask("ADD").of_ipam(&ipam);
    assert_eq!(answer.code(), 999);
    assert_eq!(ipam.log(), ["allocate", "release"]);
}
