use serde_json::Value;

use super::*;

fn layout(section: &str, way: Way) -> Layout {
    let section = format!("{{\"podNetworks\":[\"10.244.0.0/16\"]{section}}}");
    Layout::new(&KubernetesConfig::parse(&section).unwrap(), "pods", way)
}

fn vxlan() -> Way {
    Way {
        vni: Some(1),
        port: None,
    }
}

fn object() -> Value {
    json!({
        "apiVersion": GROUP, "kind": "NodeNetwork",
        "metadata": {
            "name": "n2", "uid": "o2", "resourceVersion": "7", "creationTimestamp": "2026-11-27T02:30:39Z",
            "labels": {LABEL: "pods"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n2", "uid": "u2"}],
        },
        "spec": {
            "network": "pods", "nodeUID": "u2", "podCIDRs": ["10.244.2.0/24"], "addresses": ["192.0.2.2"],
            "backend": {"type": "vxlan", "vni": 1, "port": 8472, "vtepMAC": "0a:00:00:00:00:02", "dataPaths": ["classic"]},
            "mtu": 1500,
        },
    })
}

/// The object with another value at a place.
fn with(mut object: Value, at: &str, value: Value) -> Value {
    *object.pointer_mut(at).unwrap_or_else(|| panic!("{at}")) = value;
    object
}

fn read(layout: &Layout, object: &Value) -> Record {
    layout.read(object.to_string().as_bytes()).unwrap()
}

#[test]
fn an_object_is_a_node() {
    let record = read(&layout("", vxlan()), &object());
    let node = record.node.unwrap().unwrap();
    assert_eq!(
        (node.uid.as_str(), &*node.name, record.version.as_str()),
        ("n2", "n2", "7")
    );
    assert_eq!(node.claimed, 1_795_746_639);
    assert_eq!(node.prefixes, ["10.244.2.0/24".parse().unwrap()]);
    assert_eq!(node.underlay, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(node.vtep_mac.unwrap().to_string(), "0a:00:00:00:00:02");
    assert_eq!(node.mtu, Some(1500));
    assert_eq!(node.capabilities, Some(vec![Capability::Classic]));
}

#[test]
fn what_a_node_says_of_itself_is_what_others_read() {
    for way in [
        vxlan(),
        Way {
            port: Some(4789),
            ..vxlan()
        },
        Way::default(),
    ] {
        let layout = layout("", way);
        let mut node = Node::new(NodeUid::new("n2"), "n2");
        node.prefixes = vec!["10.244.2.0/24".parse().unwrap()];
        node.underlay = vec!["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
        node.mtu = Some(9000);
        node.capabilities = Some(vec![Capability::Flow]);
        node.vtep_mac = way.vni.map(|_| cni_core::fabric::vtep_mac(&node));
        let spec = layout.spec(&node, "u2");
        let body = super::super::patches::node_network("n2", &spec);
        assert_eq!(read(&layout, &body).node, Some(Ok(node)));
    }
}

#[test]
fn what_breaks_a_rule_is_refused_by_its_reason() {
    let layout = layout(
        "",
        Way {
            vni: Some(1),
            port: Some(8472),
        },
    );
    for (at, value, words) in [
        ("/spec/podCIDRs", json!(["10.245.2.0/24"]), "10.245.2.0/24"),
        ("/spec/podCIDRs", json!(["10.244.2.0/33"]), "10.244.2.0/33"),
        ("/spec/podCIDRs", json!([""]), "prefix"),
        ("/spec/podCIDRs", json!("10.244.2.0/24"), "cannot be read"),
        (
            "/spec/podCIDRs",
            (0..9)
                .map(|number| json!(format!("10.244.{number}.0/24")))
                .collect(),
            "9 prefixes",
        ),
        ("/spec/addresses", json!([]), "addresses"),
        (
            "/spec/addresses",
            json!(["192.0.2.2", "192.0.2.3"]),
            "second address",
        ),
        ("/spec/addresses", json!(["127.0.0.1"]), "127.0.0.1"),
        ("/spec/addresses", json!(["10.244.2.1"]), "10.244.2.1"),
        ("/spec/addresses", json!(["n2"]), "n2"),
        ("/spec/backend/type", json!("host-gw"), "host-gw"),
        ("/spec/backend/vni", json!(2), "VNI is 2"),
        ("/spec/backend/port", json!(4789), "port is 4789"),
        ("/spec/backend/vtepMAC", json!("ff:ff:ff:ff:ff:ff"), "ff:ff"),
        ("/spec/backend/dataPaths", json!(["magic"]), "magic"),
        ("/spec/mtu", json!(1), "mtu"),
        ("/spec/nodeUID", json!("u3"), "uid u2"),
        ("/metadata/ownerReferences/0/name", json!("n3"), "Node n3"),
        (
            "/spec/backend",
            json!({"type": "x".repeat(70_000)}),
            "bytes",
        ),
    ] {
        let record = read(&layout, &with(object(), at, value.clone()));
        assert_eq!(record.uid.as_str(), "n2");
        let why = record.node.unwrap().expect_err(&format!("{at} {value}"));
        assert!(why.contains(words), "{at}: {why}");
        assert!(why.len() < 500 && !why.contains('\n'), "{why}");
    }
}

#[test]
fn an_object_of_another_network_is_none() {
    let layout = layout("", vxlan());
    assert_eq!(
        read(&layout, &with(object(), "/spec/network", json!("other"))).node,
        None
    );
    for text in [
        "{}",
        "[]",
        "{\"metadata\":{\"name\":\"\"}}",
        "{\"metadata\":7}",
    ] {
        assert!(layout.read(text.as_bytes()).is_err(), "{text}");
    }
}

/// A Node as Flannel leaves it.
fn flannels() -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {
            "name": "n3", "uid": "u3", "resourceVersion": "9", "creationTimestamp": "2026-11-27T02:30:39Z",
            "annotations": {
                flannel("backend-data"): "{\"VNI\":1,\"VtepMAC\":\"be:3c:a5:56:72:67\"}",
                flannel("backend-v6-data"): "{\"VNI\":1,\"VtepMAC\":\"06:3c:a5:56:72:68\"}",
                flannel("backend-type"): "vxlan",
                flannel("kube-subnet-manager"): "true",
                flannel("public-ip"): "192.0.2.3",
                flannel("public-ipv6"): "2001:db8::3",
                "node.alpha.kubernetes.io/ttl": "0",
            },
        },
        "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24", "fd00:244:3::/64"], "taints": [{}]},
        "status": {"images": [{"names": ["x"], "sizeBytes": 7}]},
    })
}

fn at(key: &str) -> String {
    format!("/metadata/annotations/{}", flannel(key).replace('/', "~1"))
}

#[test]
fn a_node_of_flannels_is_read_by_its_annotations() {
    let layout = layout(",\"layout\":\"flannel\"", vxlan());
    let record = read(&layout, &flannels());
    let node = record.node.unwrap().unwrap();
    assert_eq!(node.prefixes, ["10.244.3.0/24".parse().unwrap()]);
    assert_eq!(node.underlay, ["192.0.2.3".parse::<IpAddr>().unwrap()]);
    assert_eq!(node.vtep_mac.unwrap().to_string(), "be:3c:a5:56:72:67");
    assert_eq!(node.capabilities, Some(vec![Capability::Classic]));
    // Its kubelet has not been told of Flannel.
    let other = with(flannels(), &at("kube-subnet-manager"), json!("false"));
    assert_eq!(read(&layout, &other).node, None);
    for (key, value, words) in [
        ("backend-type", json!("host-gw"), "host-gw"),
        ("backend-data", json!("null"), "hardware address"),
        ("backend-data", json!("{"), "hardware address"),
        (
            "backend-data",
            json!("{\"VNI\":2,\"VtepMAC\":\"be:3c:a5:56:72:67\"}"),
            "VNI is 2",
        ),
        ("public-ip", json!("n3"), "n3"),
    ] {
        let why = read(&layout, &with(flannels(), &at(key), value))
            .node
            .unwrap()
            .unwrap_err();
        assert!(why.contains(words), "{key}: {why}");
    }
}

#[test]
fn a_change_of_one_family_alone_is_another_value() {
    let networks = "\"podNetworks\":[\"10.244.0.0/16\",\"fd00:244::/32\"]";
    let section = format!("{{{networks},\"layout\":\"flannel\"}}");
    let config = KubernetesConfig::parse(&section).unwrap();
    let layout = Layout::new(&config, "pods", Way::default());
    let host_gw = with(flannels(), &at("backend-type"), json!("host-gw"));
    let before = read(&layout, &host_gw).node.unwrap().unwrap();
    assert_eq!((before.prefixes.len(), before.underlay.len()), (2, 2));
    for (key, value) in [("public-ip", "192.0.2.4"), ("public-ipv6", "2001:db8::4")] {
        let after = read(&layout, &with(host_gw.clone(), &at(key), json!(value)));
        assert_ne!(after.node.unwrap().unwrap(), before, "{key}");
    }
    // Of VXLAN, the IPv6 half has a device and a hardware address of its own.
    let config =
        KubernetesConfig::parse("{\"podNetworks\":[\"fd00:244::/32\"],\"layout\":\"flannel\"}");
    let layout = Layout::new(&config.unwrap(), "pods", vxlan());
    let node = read(&layout, &flannels()).node.unwrap().unwrap();
    assert_eq!(node.vtep_mac.unwrap().to_string(), "06:3c:a5:56:72:68");
    assert_eq!(node.prefixes, ["fd00:244:3::/64".parse().unwrap()]);
}

#[test]
fn annotations_are_those_that_flannel_reads() {
    let layout = layout(",\"layout\":\"flannel\"", vxlan());
    let mut node = Node::new(NodeUid::new("n3"), "n3");
    node.prefixes = vec!["10.244.3.0/24".parse().unwrap()];
    node.underlay = vec!["192.0.2.3".parse().unwrap()];
    node.vtep_mac = Some(cni_core::fabric::vtep_mac(&node));
    node.capabilities = Some(vec![Capability::Classic]);
    let mac = node.vtep_mac.unwrap();
    let annotations = layout.annotations(&node);
    assert_eq!(annotations.len(), 4);
    assert_eq!(
        annotations[&flannel("backend-data")],
        format!("{{\"VNI\":1,\"VtepMAC\":\"{mac}\"}}")
    );
    let object = with(flannels(), "/metadata/annotations", json!(annotations));
    node.claimed = 1_795_746_639;
    assert_eq!(read(&layout, &object).node, Some(Ok(node)));
}

#[test]
fn a_nodes_prefixes_are_the_networks() {
    let layout = layout("", vxlan());
    let of = |spec: Value| {
        let object = json!({"metadata": {"name": "n1"}, "spec": spec});
        layout.prefixes(&serde_json::from_value(object).unwrap())
    };
    assert_eq!(of(json!({"podCIDRs": ["10.244.1.0/24"]})).unwrap().len(), 1);
    assert_eq!(of(json!({"podCIDR": "10.244.1.0/24"})).unwrap().len(), 1);
    assert!(of(json!({})).unwrap_err().contains("allocate-node-cidrs"));
    let error = of(json!({"podCIDRs": ["10.244.1.0/24", "fd00::/64"]})).unwrap_err();
    assert!(
        error.contains("fd00::/64") && error.contains("podNetworks"),
        "{error}"
    );
    assert!(of(json!({"podCIDRs": ["10.0.0.0/8"]})).is_err());
}

#[test]
fn an_operators_address_is_read_from_flannels_inputs() {
    let key = flannel("public-ip-overwrite");
    let object = json!({"metadata": {"name": "n1", "annotations": {key: "192.0.2.77"}}});
    let object: NodeObject = serde_json::from_value(object).unwrap();
    assert_eq!(overwritten(&object), Some("192.0.2.77".parse().unwrap()));
    assert_eq!(overwritten(&NodeObject::default()), None);
}
