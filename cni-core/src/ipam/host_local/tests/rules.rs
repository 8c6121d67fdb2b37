//! Which addresses are handed out, and which configurations are refused.

use super::*;
use crate::spec::{Dns, Route};

#[test]
fn addresses_go_round_and_come_back() {
    let node = Node::new(r#""subnet":"10.1.0.0/29""#);
    for (name, ip) in [("a", 2), ("b", 3), ("c", 4), ("d", 5), ("e", 6)] {
        assert_eq!(node.add_first(name), format!("10.1.0.{ip}/29"));
    }
    assert_eq!(kind(&node, "f"), EXHAUSTED);
    node.del("b");
    node.del("d");
    assert_eq!(node.add_first("f"), "10.1.0.3/29");
    assert_eq!(node.add_first("g"), "10.1.0.5/29");
    assert_eq!(kind(&node, "h"), EXHAUSTED);
    assert_eq!(node.held("g"), ["10.1.0.5/29"]);
}

#[test]
fn exhaustion_names_the_set_and_status_says_it_beforehand() {
    let node = Node::new(r#""subnet":"10.1.0.0/30""#);
    assert!(node.status().is_ok());
    assert!(!node.path("").exists(), "STATUS makes nothing");
    node.add("a");
    let error = node.try_add("b").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("range set 0 (10.1.0.1-10.1.0.2)"),
        "{error}"
    );
    assert!(error.to_string().contains("all 1 are reserved"), "{error}");
    assert_eq!(node.status().unwrap_err().kind(), ErrorKind::NotAvailable);
    // Also when the index does not know, or the store is locked by somebody else.
    fs::remove_dir_all(node.dir.path().join(".index")).unwrap();
    assert_eq!(node.status().unwrap_err().kind(), ErrorKind::NotAvailable);
    let lock = fs::File::open(node.path("lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(node.status().unwrap_err().kind(), ErrorKind::NotAvailable);
    drop(lock);
    node.del("a");
    assert!(node.status().is_ok());
}

#[test]
fn a_second_address_for_one_attachment_is_refused_with_advice() {
    let node = Node::new(SMALL);
    node.add("c1");
    let error = node.try_add("c1").unwrap_err();
    assert_eq!(error.kind(), ALREADY_HELD);
    assert!(error.to_string().contains("DEL the attachment"), "{error}");
    assert_eq!(node.add("c1/eth1"), ["10.1.0.3/29", "fd00::3/120"]);
    node.del("c1");
    assert_eq!(node.records(), ["10.1.0.3", "fd00::3"]);
    assert!(node.check("c1").is_err());
    assert!(node.check("c1/eth1").is_ok());
}

#[test]
fn requested_addresses_are_served_or_refused() {
    let mut node = Node::new(SMALL);
    node.args = "IP=10.1.0.5".into();
    assert_eq!(node.add("a"), ["10.1.0.5/29", "fd00::2/120"]);
    assert_eq!(kind(&node, "b"), ADDRESS_TAKEN);
    node.args = "IgnoreUnknown=1;K8S_POD_NAME=x".into();
    node.rest = r#""runtimeConfig":{"ips":["fd00::9/120","10.1.0.4/29"]},"#.into();
    assert_eq!(node.add("b"), ["10.1.0.4/29", "fd00::9/120"]);
    node.rest = r#""args":{"cni":{"ips":["10.1.0.2"]}},"#.into();
    assert_eq!(node.add_first("c"), "10.1.0.2/29");
    for wrong in ["10.1.0.1", "10.9.0.1", "10.1.0.7"] {
        node.rest = format!(r#""args":{{"cni":{{"ips":["{wrong}"]}}}},"#);
        assert_eq!(kind(&node, "d"), ErrorKind::InvalidConfig, "{wrong}");
        assert_eq!(
            node.preview("d").unwrap_err().kind(),
            ErrorKind::InvalidConfig
        );
    }
    // Two of one set: only one can be served.
    node.rest = r#""runtimeConfig":{"ips":["10.1.0.3","10.1.0.6"]},"#.into();
    assert_eq!(kind(&node, "d"), ErrorKind::InvalidConfig);
    node.rest = String::new();
    node.args = "FOO=1".into();
    assert_eq!(kind(&node, "d"), ErrorKind::InvalidEnvironment);
    assert_eq!(
        node.records().len(),
        6,
        "nothing is left of what was refused"
    );
}

#[test]
fn a_set_that_is_exhausted_gives_back_what_the_sets_before_it_gave() {
    let node = Node::new(r#""ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.2.0.0/30"}]]"#);
    node.add("a");
    let before = node.records();
    assert_eq!(kind(&node, "b"), EXHAUSTED);
    assert_eq!(node.records(), before);
    node.del("a");
    assert_eq!(node.add("b")[1], "10.2.0.2/30");
}

#[test]
fn range_sets_of_the_runtime_come_first_then_the_old_single_range() {
    let mut node = Node::new(
        r#""subnet":"10.2.0.0/24","rangeStart":"10.2.0.10","rangeEnd":"10.2.0.12","gateway":"10.2.0.11",
           "ranges":[[{"subnet":"10.3.0.0/24"}]],"RANGESTART":"10.2.0.99""#,
    );
    node.rest =
        r#""runtimeConfig":{"ipRanges":[[{"subnet":"10.4.0.0/24","rangeStart":"10.4.0.7"}]]},"#
            .into();
    assert_eq!(
        node.add("a"),
        ["10.4.0.7/24", "10.2.0.10/24", "10.3.0.2/24"]
    );
    assert_eq!(
        node.add("b"),
        ["10.4.0.8/24", "10.2.0.12/24", "10.3.0.3/24"]
    );
    node.version = "0.2.0";
    assert_eq!(kind(&node, "c"), ErrorKind::InvalidConfig);
}

#[test]
fn wrong_configurations_are_refused_and_leave_nothing() {
    for wrong in [
        r#""ranges":[]"#,
        r#""ranges":[[]]"#,
        r#""ranges":[[{}]]"#,
        r#""subnet":"10.1.0.5/24""#,
        r#""subnet":"10.1.0.0""#,
        r#""subnet":"10.1.0.0/31""#,
        r#""subnet":"10.1.0.0/24","ranges":[[{"subnet":"10.1.0.128/25"}]]"#,
        r#""ranges":[[{"subnet":"10.1.0.0/24"},{"subnet":"fd00::/64"}]]"#,
        r#""subnet":"10.1.0.0/24","rangeStart":"x""#,
        r#""subnet":"10.1.0.0/24","resolvConf":"/nonexistent""#,
        r#""subnet":"10.1.0.0/24","routes":[{"dst":"x"}]"#,
    ] {
        let node = Node::new(wrong);
        let error = node.try_add("a").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{wrong}: {error}");
        assert!(!node.path("").exists(), "{wrong}");
        // DEL needs nothing of it.
        node.del("a");
    }
    for wrong in [
        r#""ranges":{}"#,
        r#""subnet":5"#,
        r#""subnet":"10.1.0.0/24","routes":5"#,
        r#""ranges":[5]"#,
    ] {
        assert_eq!(kind(&Node::new(wrong), "a"), ErrorKind::Decode, "{wrong}");
    }
}

#[test]
fn routes_and_dns_are_part_of_the_answer() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "nameserver 192.0.2.1\nsearch a.test\n").unwrap();
    let node = Node::new(&format!(
        r#""subnet":"10.1.0.0/24","resolvConf":"{}","routes":[{{"dst":"0.0.0.0/0","gw":"10.1.0.9","mtu":1400,
           "advmss":1360,"priority":7,"table":100,"scope":200}}]"#,
        file.path().display()
    ));
    let result = node
        .with("a", |request| now(HostLocal::new().allocate(request)))
        .unwrap();
    let route: &Route = &result.routes[0];
    assert_eq!(route.gw, "10.1.0.9".parse().ok());
    assert_eq!((route.mtu, route.advmss, route.priority), (1400, 1360, 7));
    assert_eq!((route.table, route.scope), (Some(100), Some(200)));
    let dns: &Dns = &result.dns;
    assert_eq!(
        (&dns.nameservers[0][..], &dns.search[0][..]),
        ("192.0.2.1", "a.test")
    );
    assert_eq!(result.ips[0].gateway, "10.1.0.1".parse().ok());
}

#[test]
fn a_preview_says_what_an_allocation_would_and_writes_nothing() {
    let node = Node::new(SMALL);
    assert_eq!(node.preview("a").unwrap(), ["10.1.0.2/29", "fd00::2/120"]);
    assert_eq!(fs::read_dir(node.dir.path()).unwrap().count(), 0);
    node.add("a");
    let before = fs::metadata(node.path("")).unwrap().modified().unwrap();
    let preview = node.preview("b").unwrap();
    assert_eq!(node.preview("a").unwrap_err().kind(), ALREADY_HELD);
    assert_eq!(
        fs::metadata(node.path("")).unwrap().modified().unwrap(),
        before
    );
    assert_eq!(node.add("b"), preview);
}
