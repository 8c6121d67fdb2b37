use super::*;

fn layout(kind: &str) -> Layout {
    let section = format!(
        r#"{{"endpoints":["http://h:1"],"layout":"{kind}","podNetworks":[{{"prefix":"10.244.0.0/16"}},{{"prefix":"fd00:244::/48"}}]}}"#
    );
    Layout::new(
        &EtcdConfig::parse(&section, "net").unwrap(),
        Tunnel::Vxlan(1),
    )
}

fn kv(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
        create_revision: 7,
        mod_revision: 9,
        lease: 0,
    }
}

fn node() -> Node {
    let mut node = Node::new(NodeUid::new("n1"), "n1");
    node.prefixes = vec![
        "10.244.7.0/24".parse().unwrap(),
        "fd00:244:0:7::/64".parse().unwrap(),
    ];
    node.underlay = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    node.vtep_mac = Some("0a:58:0a:f4:07:00".parse().unwrap());
    node.mtu = Some(1500);
    node.capabilities = Some(vec![Capability::Classic, Capability::Flow]);
    node
}

#[test]
fn what_a_node_writes_is_read_as_it_was_meant() {
    let layout = layout("nodes");
    let node = node();
    assert_eq!(layout.node_key(&node), "/cni/net/nodes/n1");
    let read = layout.read(&kv("/cni/net/nodes/n1", &layout.node_value(&node)));
    assert_eq!(read, Fact::Node(NodeUid::new("n1"), Ok(node.clone())));
    let keys: Vec<String> = node
        .prefixes
        .iter()
        .map(|prefix| layout.claim_key(*prefix))
        .collect();
    assert_eq!(
        keys,
        [
            "/cni/net/claims/10.244.7.0-24",
            "/cni/net/claims/fd00:244:0:7::-64"
        ]
    );
    for (key, prefix) in keys.iter().zip(&node.prefixes) {
        let claim = layout.read(&kv(key, &layout.claim_value(&node)));
        assert_eq!(claim, Fact::Claim(*prefix, Some(NodeUid::new("n1"))));
        assert_eq!(layout.subject(key.as_bytes()), (None, Some(*prefix)));
    }
}

#[test]
fn what_is_no_record_is_refused_in_words() {
    let layout = layout("nodes");
    let good = layout.node_value(&node());
    for (key, value, words) in [
        ("n1", String::new(), "no JSON"),
        ("n1", format!("{good},{good}"), "no JSON"),
        ("n1", format!("{good}],\"nodes\":[{good}"), "no JSON"),
        ("n1", "[]".to_owned(), "must be"),
        (
            "n1",
            good.replace("10.244.7.0", "10.245.7.0"),
            "10.245.7.0/24",
        ),
        ("n2", good.clone(), "not that of its key"),
        (
            "n1",
            format!("{good}{}", " ".repeat(MOST_BYTES)),
            "4096 bytes",
        ),
        ("n1", good.replace("\"mtu\"", "\"mtus\""), "mtus"),
    ] {
        let read = layout.read(&kv(&format!("/cni/net/nodes/{key}"), &value));
        let Fact::Node(_, Err(why)) = read else {
            panic!("{value}: {read:?}");
        };
        assert!(why.contains(words), "{value}: {why}");
    }
    for (key, fact) in [
        ("/cni/net/other", Fact::Other),
        ("/cni/netz/nodes/n1", Fact::Other),
        ("/cni/net/claims/10.244.7.1-24", Fact::Other),
        ("/cni/net/claims/10.244.07.0-24", Fact::Other),
        (
            "/cni/net/claims/10.244.7.0-24",
            Fact::Claim("10.244.7.0/24".parse().unwrap(), None),
        ),
    ] {
        assert_eq!(layout.read(&kv(key, "?")), fact, "{key}");
    }
}

const LEASE: &str = r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:58:0a:f4:07:00"}}"#;

#[test]
fn a_lease_of_flannels_is_written_as_flannel_writes_it() {
    let layout = layout("flannel");
    let mut node = node();
    node.uid = layout.uid(&node.uid, &node.prefixes);
    assert_eq!(
        layout.node_key(&node),
        "/coreos.com/network/subnets/10.244.7.0-24"
    );
    assert_eq!(layout.node_value(&node), LEASE);
}

#[test]
fn a_lease_of_flannels_is_a_node() {
    let layout = layout("flannel");
    let read = |key: &str, value: &str| match layout
        .read(&kv(&format!("/coreos.com/network/subnets/{key}"), value))
    {
        Fact::Node(_, node) => node,
        other => panic!("{other:?}"),
    };
    for key in ["10.244.7.0-24", "10.244.7.0-24&fd00:244:0:7::-64"] {
        let node = read(key, LEASE).unwrap();
        assert_eq!(
            (node.uid.as_str(), &*node.name, node.claimed),
            (key, "192.0.2.1", 7)
        );
        assert_eq!(node.prefixes, ["10.244.7.0/24".parse().unwrap()]);
        assert_eq!(
            node.underlay,
            ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(node.vtep_mac.unwrap().to_string(), "0a:58:0a:f4:07:00");
    }
    for (key, value, words) in [
        (
            "10.244.7.0-24",
            LEASE.replace("\"VNI\":1", "\"VNI\":2"),
            "VNI is 2",
        ),
        (
            "10.244.7.0-24",
            LEASE.replace("\"vxlan\"", "\"wireguard\""),
            "wireguard",
        ),
        (
            "10.244.7.0-24",
            LEASE.replace("192.0.2.1", "0.0.0.0"),
            "0.0.0.0",
        ),
        ("fd00:244:0:7::-64", LEASE.to_owned(), "no prefix"),
        ("10.9.7.0-24", LEASE.to_owned(), "10.9.7.0/24"),
        ("10.244.7.0-24", "{}".to_owned(), "its backend is \"\""),
    ] {
        let why = read(key, &value).unwrap_err();
        assert!(why.contains(words), "{value}: {why}");
    }
}
