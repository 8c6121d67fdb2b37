use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::CniArgs;
use crate::error::{ErrorKind, Result};

fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, part: &str) {
    let error = result.expect_err(part);
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.chain().contains(part), "{error:?}");
}

#[test]
fn what_kubernetes_and_podman_send_is_read() {
    let args = CniArgs::parse(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=c;MAC=02:11:22:33:44:55;IP=10.88.20.77",
    )
    .unwrap();
    assert_eq!(args.value("MAC"), Some("02:11:22:33:44:55"));
    assert_eq!(args.value("IP"), Some("10.88.20.77"));
    assert_eq!(args.value("mac"), None);
    args.reject_unknown(&["MAC"]).unwrap();
    assert_eq!(args.iter().count(), 5);
}

#[test]
fn the_empty_string_has_no_pairs() {
    assert_eq!(CniArgs::parse("").unwrap().iter().count(), 0);
}

#[test]
fn a_pair_without_exactly_one_equals_sign_is_an_error() {
    for text in ["A", "A=b;", ";A=b", "A=b;;C=d", "a=b=c", ";", "A=b;C"] {
        refused(
            CniArgs::parse(text),
            ErrorKind::InvalidEnvironment,
            "CNI_ARGS",
        );
    }
    let args = CniArgs::parse("A=;=b").unwrap();
    assert_eq!(args.value("A"), Some(""));
    assert_eq!(args.value(""), Some("b"));
}

#[test]
fn unknown_keys_are_refused_unless_they_are_to_be_ignored_wherever_that_is_said() {
    for text in [
        "X=1;IgnoreUnknown=1",
        "IgnoreUnknown=True;X=1",
        "IgnoreUnknown=TRUE;X=1",
    ] {
        CniArgs::parse(text).unwrap().reject_unknown(&[]).unwrap();
    }
    for text in [
        "X=1",
        "X=1;IgnoreUnknown=0",
        "IgnoreUnknown=False;X=1",
        "ignoreunknown=1;X=1",
    ] {
        let args = CniArgs::parse(text).unwrap();
        refused(
            args.reject_unknown(&["MAC"]),
            ErrorKind::InvalidEnvironment,
            "X=1",
        );
    }
    let known = CniArgs::parse("MAC=a;IgnoreUnknown=0").unwrap();
    known.reject_unknown(&["MAC"]).unwrap();
}

#[test]
fn ignore_unknown_is_a_boolean() {
    for value in ["", "2", "yes", "t"] {
        refused(
            CniArgs::parse(&format!("IgnoreUnknown={value}")),
            ErrorKind::InvalidEnvironment,
            "IgnoreUnknown",
        );
    }
}

#[test]
fn the_last_of_duplicates_wins() {
    assert_eq!(CniArgs::parse("A=1;A=2").unwrap().value("A"), Some("2"));
}

#[test]
fn bytes_that_are_not_utf_8_do_not_fail_the_call() {
    let text = OsStr::from_bytes(b"K8S_POD_NAME=\xff;IP=10.1.0.7");
    let args = CniArgs::parse_os(text).unwrap();
    assert_eq!(args.value("IP"), Some("10.1.0.7"));
    let args = CniArgs::parse_lenient(OsStr::from_bytes(b"\xff;IP=10.1.0.7;a=b=c;"));
    assert_eq!(args.iter().collect::<Vec<_>>(), [("IP", "10.1.0.7")]);
}
