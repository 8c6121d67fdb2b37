//! Faults between entries, each of which is good alone.

use super::*;

#[test]
fn what_is_one_nodes_only_is_told_with_both_places() {
    for (entry, expected) in [
        (
            r#"{"name": "n1", "podPrefixes": [], "addresses": ["192.0.2.2"]}"#,
            "column 10: node number 2: `name` is \"n1\", as in line 2; every node has a name of its own",
        ),
        (
            r#"{"name": "n2", "uid": "n1", "podPrefixes": [], "addresses": ["192.0.2.2"]}"#,
            "column 23: node `n2`: its uid \"n1\" is that of node `n1` in line 2; every node has one of its own, its name where `uid` is left out",
        ),
        (
            r#"{"name": "n2", "podPrefixes": [], "addresses": ["192.0.2.1"]}"#,
            "column 49: node `n2`: address 192.0.2.1 is also that of node `n1` in line 2; an address is one node's, and stands once",
        ),
        (
            r#"{"name": "n2", "podPrefixes": [], "addresses": ["192.0.2.2"], "furtherAddresses": ["192.0.2.2"]}"#,
            "column 84: node `n2`: further address 192.0.2.2 is also that of node `n2` in line 3; an address is one node's, and stands once",
        ),
        (
            r#"{"name": "n2", "podPrefixes": ["10.244.1.0/24"], "addresses": ["192.0.2.2"]}"#,
            "column 32: node `n2`: pod prefix 10.244.1.0/24 is also that of node `n1` in line 2; a pod prefix is one node's, and stands once",
        ),
        (
            r#"{"name": "n2", "podPrefixes": ["10.244.0.0/23"], "addresses": ["192.0.2.2"]}"#,
            "column 32: node `n2`: pod prefix 10.244.0.0/23 overlaps 10.244.1.0/24 of node `n1` in line 2; pod prefixes must not overlap",
        ),
        (
            r#"{"name": "n2", "podPrefixes": [], "addresses": ["10.244.1.7"]}"#,
            "column 49: node `n2`: address 10.244.1.7 lies in pod prefix 10.244.1.0/24 of node `n1` in line 2; nodes' addresses are outside of all pod prefixes",
        ),
        (
            r#"{"name": "n2", "podPrefixes": [], "addresses": ["192.0.2.2"], "furtherAddresses": ["10.244.1.7"]}"#,
            "column 84: node `n2`: further address 10.244.1.7 lies in pod prefix 10.244.1.0/24 of node `n1` in line 2; nodes' addresses are outside of all pod prefixes",
        ),
        (
            r#"{"name": "n2", "podPrefixes": ["192.0.2.0/24"], "addresses": ["198.51.100.2"]}"#,
            "column 32: node `n2`: pod prefix 192.0.2.0/24 contains address 192.0.2.1 of node `n1` in line 2; nodes' addresses are outside of all pod prefixes",
        ),
        (
            r#"{"name": "n2", "podPrefixes": ["10.244.2.0/24"], "addresses": ["10.244.2.1"]}"#,
            "column 64: node `n2`: address 10.244.2.1 lies in pod prefix 10.244.2.0/24 of node `n2` in line 3; nodes' addresses are outside of all pod prefixes",
        ),
    ] {
        assert_eq!(of_entry(entry), format!("line 3, {expected}"));
    }
    let twice = FULL.replace(
        r#"["192.0.2.2"]"#,
        r#"["192.0.2.2"], "vtepMac": "0a:58:0a:f4:01:00""#,
    );
    assert_eq!(
        error(&twice),
        "line 14, column 97: node `n2`: hardware address 0a:58:0a:f4:01:00 is also that of node `n1` in line 10; an address is one node's, and stands once"
    );
    let outside = FULL.replace("10.244.2.0", "10.245.2.0");
    assert_eq!(
        error(&outside),
        "line 14, column 40: node `n2`: pod prefix 10.245.2.0/24 is in none of the `clusterPrefixes` (10.244.0.0/16, fd00:244::/48); take one that is, or add its prefix there"
    );
}

#[test]
fn of_several_faults_between_entries_the_first_is_told() {
    let text = r#"{"nodes": [
{"name": "a", "podPrefixes": ["10.0.0.0/24"], "addresses": ["192.0.2.1"]},
{"name": "b", "podPrefixes": ["10.0.1.0/24"], "addresses": ["192.0.2.2"]},
{"name": "c", "podPrefixes": ["10.0.1.0/24"], "addresses": ["192.0.2.3"]},
{"name": "a", "podPrefixes": ["10.0.0.0/24"], "addresses": ["192.0.2.1"]}]}"#;
    assert!(error(text).starts_with(
        "line 4, column 31: node `c`: pod prefix 10.0.1.0/24 is also that of node `b` in line 3"
    ));
}
