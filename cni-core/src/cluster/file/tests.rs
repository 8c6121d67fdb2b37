mod between;

use std::net::IpAddr;

use super::*;
use crate::cluster::{Capability, NodeUid};

pub(super) const FULL: &str = r#"{
    "clusterPrefixes": ["10.244.0.0/16", "fd00:244::/48"],
    "nodes": [
        {
            "name": "n1",
            "uid": "6f1c",
            "podPrefixes": ["10.244.1.0/24", "fd00:244:0:1::/64"],
            "addresses": ["192.0.2.1", "2001:db8::1"],
            "furtherAddresses": ["198.51.100.1", "10.244.1.1"],
            "vtepMac": "0a:58:0a:f4:01:00",
            "mtu": 1500,
            "capabilities": ["classic", "flow"]
        },
        {"name": "n2", "podPrefixes": ["10.244.2.0/24"], "addresses": ["192.0.2.2"]}
    ]
}
"#;

fn error(text: &str) -> String {
    ClusterFile::parse(text.as_bytes()).unwrap_err().to_string()
}

/// The error of a file with this second entry, in line 3.
fn of_entry(entry: &str) -> String {
    let n1 = r#"{"name": "n1", "podPrefixes": ["10.244.1.0/24"], "addresses": ["192.0.2.1"]}"#;
    error(&format!("{{\"nodes\": [\n{n1},\n{entry}]}}"))
}

fn of(members: &str) -> String {
    of_entry(&format!("{{\"name\": \"n2\", {members}}}"))
}

#[test]
fn every_key_is_read() {
    let file = ClusterFile::parse(FULL.as_bytes()).unwrap();
    let prefixes: Vec<String> = file
        .cluster_prefixes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(prefixes, ["10.244.0.0/16", "fd00:244::/48"]);
    let mut n1 = Node::new(NodeUid::new("6f1c"), "n1");
    n1.prefixes = vec![
        "10.244.1.0/24".parse().unwrap(),
        "fd00:244:0:1::/64".parse().unwrap(),
    ];
    n1.underlay = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    n1.addresses = vec![
        "198.51.100.1".parse().unwrap(),
        "10.244.1.1".parse().unwrap(),
    ];
    n1.vtep_mac = Some("0a:58:0a:f4:01:00".parse().unwrap());
    n1.mtu = Some(1500);
    n1.capabilities = Some(vec![Capability::Classic, Capability::Flow]);
    let mut n2 = Node::new(NodeUid::new("n2"), "n2");
    n2.prefixes = vec!["10.244.2.0/24".parse().unwrap()];
    n2.underlay = vec!["192.0.2.2".parse().unwrap()];
    assert_eq!(file.nodes, [n1, n2]);
}

#[test]
fn a_cluster_without_nodes_and_a_node_without_pods_are_none_and_one() {
    assert_eq!(
        ClusterFile::parse(br#"{"nodes": []}"#).unwrap(),
        ClusterFile::default()
    );
    let file = ClusterFile::parse(
        br#" {"nodes":[{"name":"\u0061","podPrefixes":[],"addresses":["192.0.2.1"]}]} "#,
    )
    .unwrap();
    assert_eq!(&*file.nodes[0].name, "a");
}

#[test]
fn what_is_no_json_is_told_with_its_place() {
    for (text, expected) in [
        (
            "",
            "line 1, column 1: the file is empty; without nodes it is {\"nodes\": []}",
        ),
        (
            "\n \n",
            "line 1, column 1: the file is empty; without nodes it is {\"nodes\": []}",
        ),
        (
            "\u{feff}{}",
            "line 1, column 1: the file begins with a byte order mark; save it as UTF-8 without one",
        ),
        (
            "[]",
            "line 1, column 1: the file must be an object in braces, and is a list",
        ),
        (
            "nodes",
            "line 1, column 1: here must be an object in braces, and is `nodes`",
        ),
        (
            "{",
            "line 1, column 2: the file ends where `}` must be; it may be cut off",
        ),
        (
            "{nodes: []}",
            "line 1, column 2: here must be a key in double quotes, and is `nodes`",
        ),
        (
            "{'nodes': []}",
            "line 1, column 2: here must be a key in double quotes, and is `'nodes'`; JSON has the double quote `\"` only",
        ),
        (
            "{\"nodes\" []}",
            "line 1, column 10: here must be a colon after the key `nodes`, and is `[`",
        ),
        (
            "{\"nodes\": []",
            "line 1, column 13: the file ends where `}` must be; it may be cut off",
        ),
        (
            "{\"nodes\":\n[],}",
            "line 2, column 3: an object does not end with a comma before `}`; take the comma out",
        ),
        (
            "{\"nodes\": []}\n{}",
            "line 2, column 1: here must be the end of the file after the last brace, and is `{`",
        ),
        (
            "{\n// the nodes\n\"nodes\": []}",
            "line 2, column 1: here must be a key in double quotes, and is `//`; JSON has no comments",
        ),
        (
            "{\"nodes\": [,]}",
            "line 1, column 12: node number 1: here must be an object in braces, and is `,`",
        ),
        (
            "{\"nodes\n\": []}",
            "line 1, column 2: a string goes to the end of the line; close it with a double quote",
        ),
        (
            "{\"nodes",
            "line 1, column 2: a string goes to the end of the file; close it with a double quote",
        ),
        (
            "{\"no\tdes\": []}",
            "line 1, column 5: a string has the control character U+0009; take it out",
        ),
        (
            "{\"\\x\": []}",
            "line 1, column 2: the string \"\\x\" has an escape that JSON does not know",
        ),
    ] {
        assert_eq!(error(text), expected, "{text:?}");
    }
    let not_utf8 = ClusterFile::parse(b"{\n  \"n\xffdes\": []}").unwrap_err();
    assert_eq!(
        not_utf8.to_string(),
        "line 2, column 5: here is a byte that is not UTF-8; save the file as UTF-8"
    );
    let long = ClusterFile::parse(&vec![b' '; ClusterFile::MAX_BYTES + 1]).unwrap_err();
    assert_eq!(
        long.to_string(),
        "line 1, column 1: the file has 67108865 bytes, and at most 67108864 are read"
    );
}

#[test]
fn keys_of_the_file_are_known_ones_and_stand_once() {
    for (text, expected) in [
        (
            "{}",
            "line 1, column 1: `nodes` is missing: the list of the cluster's nodes, this one included",
        ),
        (
            "{\"nodes\": [], \"Nodes\": []}",
            "line 1, column 15: there is no key \"Nodes\"; the keys are clusterPrefixes, nodes",
        ),
        (
            "{\"nodes\": [],\n \"nodes\": []}",
            "line 2, column 2: the key `nodes` stands here for the second time; take one out",
        ),
        (
            "{\"nodes\": null}",
            "line 1, column 11: `nodes` must be a list of objects in brackets, and is null; where nothing is to be said, leave the key out",
        ),
        (
            "{\"nodes\": {}}",
            "line 1, column 11: `nodes` must be a list of objects in brackets, and is an object",
        ),
        (
            "{\"nodes\": [\"n1\"]}",
            "line 1, column 12: node number 1: a node must be an object in braces, and is the string \"n1\"",
        ),
        (
            "{\"clusterPrefixes\": \"10.0.0.0/8\"}",
            "line 1, column 21: `clusterPrefixes` must be a list of prefixes in brackets, and is the string \"10.0.0.0/8\"",
        ),
        (
            "{\"clusterPrefixes\": [], \"nodes\": []}",
            "line 1, column 21: `clusterPrefixes` is empty; name the prefixes that hold all pods, or leave the key out",
        ),
        (
            "{\"clusterPrefixes\": [\"10.244.0.0\"]}",
            "line 1, column 22: `clusterPrefixes[0]` is \"10.244.0.0\", and has no prefix length; write for example 10.244.0.0/24",
        ),
    ] {
        assert_eq!(error(text), expected, "{text:?}");
    }
}

#[test]
fn an_entry_that_is_wrong_is_named() {
    let keys = "name, uid, podPrefixes, addresses, furtherAddresses, vtepMac, mtu, capabilities";
    for (members, expected) in [
        (r#""podprefixes": []"#, format!("line 3, column 16: node `n2`: there is no key \"podprefixes\"; the keys are {keys}")),
        (r#""mtu": 1500, "mtu": 1500"#, "line 3, column 29: node `n2`: the key `mtu` stands here for the second time; take one out".to_owned()),
        (r#""addresses": ["192.0.2.2"]"#, "line 3, column 1: node `n2`: `podPrefixes` is missing: the prefixes of its pods, such as [\"10.244.1.0/24\"]; [] for a node without pods".to_owned()),
        (r#""podPrefixes": []"#, "line 3, column 1: node `n2`: `addresses` is missing: where the other nodes reach it, such as [\"192.0.2.1\"]".to_owned()),
        (r#""podPrefixes": ["10.244.2.0/24" "10.244.3.0/24"]"#, "line 3, column 48: node `n2`: here must be a comma or `]`, and is `\"`".to_owned()),
        (r#""podPrefixes": ["10.244.2.0/24",]"#, "line 3, column 47: node `n2`: a list does not end with a comma before `]`; take the comma out".to_owned()),
        (r#""uid": 7"#, "line 3, column 23: node `n2`: `uid` must be a string in double quotes, and is the number 7".to_owned()),
        (r#""uid": "a b""#, "line 3, column 23: node `n2`: `uid` is \"a b\", and must be 1 to 253 bytes without spaces and control characters".to_owned()),
    ] {
        assert_eq!(of(members), expected);
    }
    let missing = "line 3, column 1: node number 2: `name` is missing: what the node is called";
    assert_eq!(
        of_entry(r#"{"podPrefixes": [], "addresses": ["192.0.2.2"]}"#),
        missing
    );
    let ahead = r#"{"mtu": true, "addresses": ["192.0.2.2"], "name": "n2"}"#;
    assert_eq!(
        of_entry(ahead),
        "line 3, column 9: node `n2`: `mtu` must be a number, and is true"
    );
    let long = "x".repeat(254);
    let name = of_entry(&format!("{{\"name\": \"{long}\"}}"));
    let shown = "x".repeat(80);
    assert_eq!(
        name,
        format!(
            "line 3, column 10: node number 2: `name` is \"{shown}...\", and must be 1 to 253 bytes without spaces and control characters"
        )
    );
    assert!(of_entry(r#"{"name": ""}"#).contains("`name` is \"\", and must be 1 to 253 bytes"));
}

#[test]
fn a_prefix_that_is_wrong_is_told_with_the_rule() {
    for (value, expected) in [
        (
            "10.244.2.0",
            "has no prefix length; write for example 10.244.2.0/24",
        ),
        (
            "fd00:2::",
            "has no prefix length; write for example fd00:2::/64",
        ),
        (
            "10.244.2.0/33",
            "must be a prefix, such as 10.244.1.0/24 or fd00:244:1::/64",
        ),
        (
            "10.244.2",
            "must be a prefix, such as 10.244.1.0/24 or fd00:244:1::/64",
        ),
        (
            "10.244.2.5/24",
            "has bits set after its prefix length; write 10.244.2.0/24",
        ),
        (
            "fd00:2::5/64",
            "has bits set after its prefix length; write fd00:2::/64",
        ),
        (
            "0.0.0.0/0",
            "has the unspecified addresses (0.0.0.0/8) in it, which no pod can have",
        ),
        (
            "127.1.0.0/16",
            "has the loopback addresses (127.0.0.0/8) in it, which no pod can have",
        ),
        (
            "239.0.0.0/8",
            "has the multicast addresses (224.0.0.0/4) in it, which no pod can have",
        ),
        (
            "fe80::/64",
            "has the link-local addresses (fe80::/10) in it, which no pod can have",
        ),
    ] {
        let is = of(&format!(
            "\"podPrefixes\": [\"10.244.3.0/24\", \"{value}\"]"
        ));
        assert_eq!(
            is,
            format!(
                "line 3, column 49: node `n2`: `podPrefixes[1]` is \"{value}\", and {expected}"
            )
        );
    }
}

#[test]
fn an_address_that_is_wrong_is_told_with_the_rule() {
    for (value, expected) in [
        (
            "192.0.2.2/24",
            "must be an address, without a prefix length",
        ),
        (
            "192.0.2",
            "must be an address, such as 192.0.2.1 or 2001:db8::1",
        ),
        (
            "n2.example",
            "must be an address, such as 192.0.2.1 or 2001:db8::1",
        ),
        (
            "0.0.0.0",
            "is one of the unspecified addresses (0.0.0.0/8), by which no other node can reach it",
        ),
        (
            "127.0.0.1",
            "is one of the loopback addresses (127.0.0.0/8), by which no other node can reach it",
        ),
        (
            "::1",
            "is one of the unspecified and loopback addresses (::, ::1), by which no other node can reach it",
        ),
        (
            "ff02::1",
            "is one of the multicast addresses (ff00::/8), by which no other node can reach it",
        ),
        (
            "fe80::1",
            "is one of the link-local addresses (fe80::/10), by which no other node can reach it",
        ),
        (
            "::ffff:192.0.2.1",
            "is one of the IPv4 addresses in IPv6 clothing (::ffff:0:0/96), by which no other node can reach it",
        ),
        (
            "255.255.255.255",
            "is one of the broadcast addresses (255.255.255.255/32), by which no other node can reach it",
        ),
    ] {
        let is = of(&format!("\"addresses\": [\"{value}\"]"));
        assert_eq!(
            is,
            format!("line 3, column 30: node `n2`: `addresses[0]` is \"{value}\", and {expected}")
        );
        let is = of(&format!("\"furtherAddresses\": [\"{value}\"]"));
        assert!(
            is.contains(&format!(
                "`furtherAddresses[0]` is \"{value}\", and {expected}"
            )),
            "{is}"
        );
    }
    assert_eq!(
        of(r#""addresses": ["192.0.2.2", "2001:db8::2", "192.0.2.3"]"#),
        "line 3, column 58: node `n2`: `addresses[2]` is the second address of its family beside 192.0.2.2; the underlay has one of each, others are for `furtherAddresses`"
    );
    assert_eq!(
        of(r#""addresses": []"#),
        "line 3, column 29: node `n2`: `addresses` is empty, and no other node can reach this one; name one address, or one of each family"
    );
}

#[test]
fn other_values_that_are_wrong_are_told_with_the_rule() {
    for (members, expected) in [
        (
            r#""vtepMac": "01:00:5e:00:00:01""#,
            "column 27: node `n2`: `vtepMac` is \"01:00:5e:00:00:01\", and is a group's address: of one device, the first byte is even",
        ),
        (
            r#""vtepMac": "00:00:00:00:00:00""#,
            "column 27: node `n2`: `vtepMac` is \"00:00:00:00:00:00\", and must not be all zero",
        ),
        (
            r#""vtepMac": "0a:58:0a:f4:01""#,
            "column 27: node `n2`: `vtepMac` is \"0a:58:0a:f4:01\", and must be six bytes in hexadecimal, such as 0a:58:0a:f4:01:00",
        ),
        (
            r#""vtepMac": "0a:58:0a:f4:01:+1""#,
            "column 27: node `n2`: `vtepMac` is \"0a:58:0a:f4:01:+1\", and must be six bytes in hexadecimal, such as 0a:58:0a:f4:01:00",
        ),
        (
            r#""mtu": 1279"#,
            "column 23: node `n2`: `mtu` is 1279, and must be a whole number from 1280 to 65535",
        ),
        (
            r#""mtu": 65536"#,
            "column 23: node `n2`: `mtu` is 65536, and must be a whole number from 1280 to 65535",
        ),
        (
            r#""mtu": 1.5e3"#,
            "column 23: node `n2`: `mtu` is 1.5e3, and must be a whole number from 1280 to 65535",
        ),
        (
            r#""mtu": 01500"#,
            "column 23: node `n2`: 01500 is not JSON: a number does not begin with 0",
        ),
        (
            r#""mtu": "1500""#,
            "column 23: node `n2`: `mtu` must be a number, and is the string \"1500\"",
        ),
        (
            r#""capabilities": []"#,
            "column 32: node `n2`: `capabilities` is empty: no data path leads to such a node; name one, or leave the key out",
        ),
        (
            r#""capabilities": ["gpe"]"#,
            "column 33: node `n2`: `capabilities[0]` is \"gpe\", and must be \"classic\" or \"flow\"",
        ),
    ] {
        assert_eq!(of(members), format!("line 3, {expected}"));
    }
}

#[test]
fn ten_thousand_nodes_are_read() {
    let entry = |n: u32| {
        let (high, low) = (n >> 8, n & 255);
        format!(
            "{{\"name\":\"n{n}\",\"podPrefixes\":[\"10.{high}.{low}.0/24\",\"fd00:0:0:{n:x}::/64\"],\"addresses\":[\"192.168.{high}.{low}\"]}}"
        )
    };
    let entries: Vec<String> = (0..10_000).map(entry).collect();
    let file =
        ClusterFile::parse(format!("{{\"nodes\":[{}]}}", entries.join(",\n")).as_bytes()).unwrap();
    assert_eq!(file.nodes.len(), 10_000);
    let last: IpAddr = "192.168.39.15".parse().unwrap();
    assert_eq!(file.nodes[9_999].underlay, [last]);
}
