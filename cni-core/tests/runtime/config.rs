use std::fs;
use std::path::Path;

use cni_core::ErrorKind;
use cni_core::runtime::{NetworkList, load, load_list};
use cni_core::spec::SpecVersion;

use crate::kit::{Test, tests};

pub const TESTS: &[Test] = tests![
    a_network_is_found_by_its_name_and_a_list_is_preferred,
    broken_files_of_other_networks_hide_nothing_and_are_named_when_nothing_is_found,
    directories_and_other_endings_are_not_looked_into,
    drop_ins_are_appended_in_the_order_of_their_names,
    drop_ins_can_be_switched_off,
    a_list_without_any_plugin_is_an_error,
    the_newest_version_that_is_spoken_is_chosen,
    versions_that_cannot_be_read_are_an_error,
    booleans_may_be_words,
    what_a_list_needs_is_named_when_it_is_missing,
    a_single_plugin_is_a_list_of_one,
];

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn types(list: &NetworkList) -> Vec<&str> {
    list.plugins
        .iter()
        .map(|plugin| plugin.plugin_type.as_str())
        .collect()
}

fn list(name: &str, plugin: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"{plugin}"}}]}}"#)
}

fn a_network_is_found_by_its_name_and_a_list_is_preferred() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "10.conf", r#"{"name":"pods","type":"single"}"#);
    write(dir.path(), "20.conflist", &list("other", "no"));
    write(dir.path(), "30.conflist", &list("pods", "first"));
    write(dir.path(), "40.conflist", &list("pods", "second"));
    write(dir.path(), "50.json", r#"{"name":"lone","type":"json"}"#);
    assert_eq!(types(&load(dir.path(), "pods").unwrap()), ["first"]);
    assert_eq!(types(&load(dir.path(), "lone").unwrap()), ["json"]);
}

fn broken_files_of_other_networks_hide_nothing_and_are_named_when_nothing_is_found() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "00.conflist", "{ not json");
    write(dir.path(), "01.conflist", r#"{"name":"empty"}"#);
    write(dir.path(), "10.conflist", &list("pods", "first"));
    assert_eq!(types(&load(dir.path(), "pods").unwrap()), ["first"]);
    let error = load(dir.path(), "missing").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.chain().contains("00.conflist"), "{}", error.chain());
    assert_eq!(
        load(&dir.path().join("nowhere"), "pods")
            .unwrap_err()
            .kind(),
        ErrorKind::Io
    );
}

fn directories_and_other_endings_are_not_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "nested/10.conflist", &list("pods", "nested"));
    write(dir.path(), "10.conflist.bak", &list("pods", "backup"));
    fs::create_dir(dir.path().join("05.conflist")).unwrap();
    assert!(load(dir.path(), "pods").is_err());
}

fn drop_ins_are_appended_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "10.conflist", &list("pods", "inlined"));
    write(dir.path(), "pods/20.conf", r#"{"type":"b"}"#);
    write(dir.path(), "pods/10.conf", r#"{"type":"a"}"#);
    write(dir.path(), "pods/30.json", r#"{"type":"not a drop-in"}"#);
    assert_eq!(
        types(&load(dir.path(), "pods").unwrap()),
        ["inlined", "a", "b"]
    );

    // The list's own may be absent then.
    write(
        dir.path(),
        "10.conflist",
        r#"{"cniVersion":"1.1.0","name":"pods"}"#,
    );
    assert_eq!(types(&load(dir.path(), "pods").unwrap()), ["a", "b"]);

    write(dir.path(), "pods/40.conf", r#"{"no":"type"}"#);
    let error = load(dir.path(), "pods").unwrap_err();
    assert!(error.chain().contains("40.conf"), "{}", error.chain());
}

fn drop_ins_can_be_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pods/10.conf", r#"{"type":"a"}"#);
    for (flag, expected) in [
        ("true", vec!["x"]),
        (r#""TRUE""#, vec!["x"]),
        ("false", vec!["x", "a"]),
    ] {
        let text = format!(
            r#"{{"name":"pods","loadOnlyInlinedPlugins":{flag},"plugins":[{{"type":"x"}}]}}"#
        );
        write(dir.path(), "10.conflist", &text);
        assert_eq!(
            types(&load(dir.path(), "pods").unwrap()),
            expected,
            "{flag}"
        );
    }
}

fn a_list_without_any_plugin_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for text in [
        r#"{"name":"pods"}"#,
        r#"{"name":"pods","plugins":[]}"#,
        r#"{"name":"pods","loadOnlyInlinedPlugins":true}"#,
    ] {
        write(dir.path(), "10.conflist", text);
        let error = load_list(&dir.path().join("10.conflist")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}");
        assert!(error.chain().contains("no plugins"), "{}", error.chain());
    }
}

fn version_of(members: &str) -> cni_core::Result<SpecVersion> {
    let text = format!(r#"{{"name":"n",{members}"plugins":[{{"type":"x"}}]}}"#);
    NetworkList::parse(&text).map(|list| list.version)
}

fn the_newest_version_that_is_spoken_is_chosen() {
    for (members, expected) in [
        ("", SpecVersion::V0_1_0),
        (r#""cniVersion":"","#, SpecVersion::V0_1_0),
        (r#""cniVersion":"0.4.0","#, SpecVersion::V0_4_0),
        (
            r#""cniVersions":["0.3.1","1.0.0","0.4.0"],"#,
            SpecVersion::V1_0_0,
        ),
        (
            r#""cniVersions":["0.3.1"],"cniVersion":"1.0.0","#,
            SpecVersion::V1_0_0,
        ),
        (
            r#""cniVersions":["1.1.0"],"cniVersion":"1.0.0","#,
            SpecVersion::V1_1_0,
        ),
        (r#""cniVersions":["99.0.0","0.4.0"],"#, SpecVersion::V0_4_0),
        (r#""cniVersions":[],"#, SpecVersion::V0_1_0),
    ] {
        assert_eq!(version_of(members).unwrap(), expected, "{members}");
    }
}

fn versions_that_cannot_be_read_are_an_error() {
    let of = |members| version_of(members).unwrap_err().kind();
    assert_eq!(of(r#""cniVersions":["1.0.f","1.0.0"],"#), ErrorKind::Decode);
    assert_eq!(of(r#""cniVersion":1,"#), ErrorKind::Decode);
    assert_eq!(
        of(r#""cniVersion":"99.0.0","#),
        ErrorKind::IncompatibleVersion
    );
}

fn booleans_may_be_words() {
    for (value, expected) in [
        ("true", true),
        (r#""True""#, true),
        (r#""false""#, false),
        ("null", false),
    ] {
        let text = format!(
            r#"{{"name":"n","disableCheck":{value},"disableGC":{value},"plugins":[{{"type":"x"}}]}}"#
        );
        let list = NetworkList::parse(&text).unwrap();
        assert_eq!(
            (list.disable_check, list.disable_gc),
            (expected, expected),
            "{value}"
        );
    }
    let text = r#"{"name":"n","disableGC":"maybe","plugins":[{"type":"x"}]}"#;
    assert!(NetworkList::parse(text).is_err());
}

fn what_a_list_needs_is_named_when_it_is_missing() {
    for (text, word) in [
        (r#"{"plugins":[{"type":"x"}]}"#, "name"),
        (r#"{"name":"n","plugins":[{}]}"#, "type"),
        (r#"{"name":"a b","plugins":[{"type":"x"}]}"#, "a b"),
    ] {
        let error = NetworkList::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}");
        assert!(error.chain().contains(word), "{}", error.chain());
    }
}

fn a_single_plugin_is_a_list_of_one() {
    let text = r#"{"cniVersion":"0.4.0","name":"n","type":"x"}"#;
    let list = NetworkList::parse_single(text).unwrap();
    assert_eq!(
        (types(&list), list.version),
        (vec!["x"], SpecVersion::V0_4_0)
    );
    let list = r#"{"name":"n","plugins":[{"type":"x"}]}"#;
    assert!(NetworkList::parse_single(list).is_err());
}
