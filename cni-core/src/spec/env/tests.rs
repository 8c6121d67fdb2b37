use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

const ADD: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/a"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
];

fn read(changes: &[(&str, &str)]) -> Result<Option<Environment>> {
    let pairs = ADD.iter().chain(changes);
    Environment::of_pairs(pairs.map(|(key, value)| (key.into(), value.into())))
}

fn ok(changes: &[(&str, &str)]) -> Environment {
    read(changes).unwrap().unwrap()
}

fn refused(changes: &[(&str, &str)], part: &str) {
    let error = read(changes).expect_err(part);
    assert_eq!(error.kind(), ErrorKind::InvalidEnvironment);
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn add_has_container_namespace_and_interface() {
    let env = ok(&[
        ("CNI_ARGS", "A=b"),
        ("TRACEPARENT", "00-a"),
        ("BAGGAGE", "k=v"),
    ]);
    assert_eq!(
        env.verb,
        Verb::Add {
            container: "c1".parse().unwrap(),
            netns: "/run/netns/a".into(),
            interface: "eth0".parse().unwrap(),
        }
    );
    assert_eq!(
        env.path,
        [PathBuf::from("/opt/cni/bin"), "/usr/lib/cni".into()]
    );
    assert_eq!(env.cni_args().unwrap().value("A"), Some("b"));
    assert_eq!(env.trace.traceparent.as_deref(), Some("00-a"));
    assert_eq!(env.trace.tracestate, None);
    assert_eq!(env.trace.baggage.as_deref(), Some("k=v"));
    assert!(!env.netns_override);
    assert_eq!(env.verb.netns(), Some(Path::new("/run/netns/a")));
    assert_eq!(env.verb.container().unwrap().as_str(), "c1");
    assert_eq!(env.verb.interface().unwrap().as_str(), "eth0");
}

#[test]
fn without_a_command_nobody_called() {
    assert!(read(&[("CNI_COMMAND", "")]).unwrap().is_none());
    assert!(Environment::read(|_| None).unwrap().is_none());
}

#[test]
fn verbs_are_case_sensitive() {
    for command in Command::ALL {
        assert_eq!(command.as_str().parse::<Command>().unwrap(), command);
        assert_eq!(ok(&[("CNI_COMMAND", command.as_str())]).command(), command);
    }
    for text in ["add", "Add", "ADD ", "INIT", "VALIDATE"] {
        refused(
            &[("CNI_COMMAND", text)],
            &format!("unknown CNI_COMMAND: {text};"),
        );
    }
}

/// The table of the specification: which variables each verb cannot do without.
#[test]
fn each_verb_requires_its_variables_and_names_all_missing_ones_in_order() {
    let empty = [
        ("CNI_CONTAINERID", ""),
        ("CNI_NETNS", ""),
        ("CNI_IFNAME", ""),
        ("CNI_PATH", ""),
    ];
    for (command, missing) in [
        ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"),
        ("DEL", "CNI_CONTAINERID,CNI_IFNAME"),
        ("GC", "CNI_PATH"),
        ("STATUS", ""),
        ("VERSION", ""),
    ] {
        let mut changes = empty.to_vec();
        changes.push(("CNI_COMMAND", command));
        if missing.is_empty() {
            assert_eq!(ok(&changes).command().as_str(), command);
            continue;
        }
        let error = read(&changes).unwrap_err();
        assert!(
            error.to_string().ends_with(&format!(": {missing}")),
            "{error}"
        );
        for name in missing.split(',') {
            refused(&[("CNI_COMMAND", command), (name, "")], name);
        }
    }
}

#[test]
fn del_does_without_a_namespace() {
    let env = ok(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]);
    assert_eq!(env.verb.netns(), None);
    let env = ok(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "/gone")]);
    assert_eq!(env.verb.netns(), Some(Path::new("/gone")));
}

#[test]
fn names_are_judged_for_the_verbs_that_need_them_only() {
    for id in ["a%b", "-a", ".a", "_a", "a b", "a/b", "a\n", "é", "a\0b"] {
        refused(&[("CNI_CONTAINERID", id)], "CNI_CONTAINERID");
        for command in ["GC", "STATUS", "VERSION"] {
            ok(&[("CNI_COMMAND", command), ("CNI_CONTAINERID", id)]);
        }
    }
    for name in [
        "aaaaaaaaaaaaaaaa",
        ".",
        "..",
        "a/b",
        "a:b",
        "a b",
        "a\u{a0}b",
        "éééééééé",
        "a\n",
    ] {
        refused(&[("CNI_IFNAME", name)], "CNI_IFNAME");
        ok(&[("CNI_COMMAND", "GC"), ("CNI_IFNAME", name)]);
    }
    ok(&[
        ("CNI_IFNAME", "aaaaaaaaaaaaaaa"),
        ("CNI_CONTAINERID", &"a".repeat(300)),
    ]);
}

#[test]
fn the_override_is_1_or_true_in_any_case() {
    for (value, set) in [
        ("1", true),
        ("true", true),
        ("TRUE", true),
        ("True", true),
        ("0", false),
        ("yes", false),
        ("", false),
        (" true", false),
    ] {
        assert_eq!(ok(&[("CNI_NETNS_OVERRIDE", value)]).netns_override, set);
    }
}

#[test]
fn empty_elements_of_the_search_path_are_dropped() {
    assert_eq!(
        ok(&[("CNI_PATH", ":/a::/b:")]).path,
        [PathBuf::from("/a"), "/b".into()]
    );
    assert!(ok(&[("CNI_PATH", "")]).path.is_empty());
}

#[test]
fn bad_args_are_an_error_but_not_on_del() {
    let env = ok(&[("CNI_ARGS", "A=b;")]);
    assert!(env.cni_args().is_err());
    let env = ok(&[("CNI_ARGS", "A=b;"), ("CNI_COMMAND", "DEL")]);
    assert_eq!(env.cni_args().unwrap().value("A"), Some("b"));
}

#[test]
fn bytes_that_are_not_utf_8_are_kept_in_paths_and_refused_in_names() {
    let junk = OsString::from_vec(b"/run/\xff".to_vec());
    let with = |name: &'static str| {
        let junk = junk.clone();
        Environment::read(move |key| {
            if key == name {
                return Some(junk.clone());
            }
            ADD.iter()
                .find(|(k, _)| *k == key)
                .map(|(_, value)| value.into())
        })
    };
    let env = with("CNI_NETNS").unwrap().unwrap();
    assert_eq!(env.verb.netns(), Some(Path::new(&junk)));
    assert_eq!(
        with("CNI_PATH").unwrap().unwrap().path,
        [PathBuf::from(&junk)]
    );
    assert_eq!(with("CNI_ARGS").unwrap().unwrap().args, junk);
    assert_eq!(
        with("TRACEPARENT").unwrap().unwrap().trace,
        TraceContext::default()
    );
    for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME"] {
        let error = with(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEnvironment);
        assert!(error.to_string().contains(name), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_environment_is_read_or_refused_with_code_4(
        command in 0..6_usize,
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 6),
    ) {
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_ARGS", "TRACEPARENT"];
        let env = Environment::read(|key| {
            if key == "CNI_COMMAND" {
                return Some(Command::ALL[command].as_str().into());
            }
            let index = names.iter().position(|name| *name == key)?;
            Some(OsString::from_vec(values[index].clone()))
        });
        match env {
            Ok(env) => prop_assert_eq!(env.unwrap().command(), Command::ALL[command]),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidEnvironment),
        }
    }

    #[test]
    fn an_identifier_is_ascii_alphanumeric_then_also_dot_dash_underscore(text in "[a-zA-Z0-9_.\\-é /\n]{0,6}") {
        let good = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        prop_assert_eq!(text.parse::<ContainerId>().is_ok(), good);
        prop_assert_eq!(text.parse::<crate::spec::NetworkName>().is_ok(), good);
    }

    #[test]
    fn an_interface_name_has_1_to_15_bytes_without_separators(text in "[a-z.:/é\u{2003}\u{a0} ]{0,17}") {
        let good = (1..=15).contains(&text.len())
            && text != "."
            && text != ".."
            && !text.chars().any(|c| ":/\u{2003}\u{a0} ".contains(c));
        prop_assert_eq!(text.parse::<InterfaceName>().is_ok(), good);
    }
}
