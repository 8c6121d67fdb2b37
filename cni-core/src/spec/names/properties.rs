//! Marks and derived names over generated names.

use proptest::prelude::*;

use super::*;

fn attachment(network: &str, container: &str, interface: &str) -> Attachment {
    Attachment {
        network: network.parse().unwrap(),
        container: container.parse().unwrap(),
        interface: interface.parse().unwrap(),
    }
}

#[test]
fn text_that_is_no_mark_is_not_taken_for_one() {
    for text in [
        "",
        "cni:",
        "cni:a/b",
        "cni:a/b/",
        "cni:/b/c",
        "cni:a/b/c/d",
        "cni a/b/c",
        "net/c/eth0",
    ] {
        assert_eq!(Mark::parse(text), None, "{text:?}");
    }
}

#[test]
fn a_mark_is_of_its_network_only() {
    let mark = attachment("net", "c", "eth0").mark();
    assert!(mark.is_of(&"net".parse().unwrap()));
    for other in ["ne", "net2", "Net", "c"] {
        assert!(!mark.is_of(&other.parse().unwrap()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn marks_and_host_names_fit_and_are_recognised(
        network in "[a-z0-9][a-z0-9_.-]{0,150}",
        container in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,150}",
        interface in "[a-z]{1,15}",
    ) {
        let one = attachment(&network, &container, &interface);
        let mark = one.mark();
        prop_assert!(mark.as_str().len() <= MARK_MAX);
        prop_assert_eq!(Mark::parse(mark.as_str()), Some(mark.clone()));
        prop_assert!(mark.is_of(&one.network));
        let name = one.host_name();
        prop_assert_eq!(name.as_str().len(), 15);
        prop_assert_eq!(name.as_str().parse::<InterfaceName>().unwrap(), name.clone());
        prop_assert!(host_name_is_of(name.as_str(), &one.network));
        let other = attachment(&network, &format!("{container}x"), &interface);
        prop_assert_ne!(other.mark(), mark);
        prop_assert_ne!(other.host_name(), name);
    }
}
