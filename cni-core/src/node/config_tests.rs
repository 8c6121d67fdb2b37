use super::*;

const CLUSTER: &str = r#","cluster":{"file":"/etc/cni/cluster.json"}"#;

fn config(body: &str) -> NetworkConfig {
    let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"vxlan"{body}}}"#);
    NetworkConfig::parse(text.as_bytes()).unwrap()
}

fn parsed(body: &str) -> NodeConfig {
    NodeConfig::parse(&config(&format!("{CLUSTER}{body}"))).unwrap()
}

#[test]
fn a_file_is_all_that_has_to_be_said() {
    let config = parsed("");
    assert_eq!(config.network.as_str(), "n");
    assert_eq!(
        config.cluster.origin,
        Origin::File(PathBuf::from("/etc/cni/cluster.json"))
    );
    assert_eq!(config.cluster.node, None);
    assert_eq!((config.protocol, config.mtu), (167, None));
    assert!(config.next_hop_objects && config.masquerade);
    assert_eq!(config.attach.kind, "bridge");
}

#[test]
fn the_inner_section_is_kept_as_it_stands() {
    let config = parsed(r#","attach":{"type":"ptp","x":1e3},"mtu":1400,"routeProtocol":200"#);
    assert_eq!(config.attach.kind, "ptp");
    assert_eq!(config.attach.section, r#"{"type":"ptp","x":1e3}"#);
    assert_eq!((config.mtu, config.protocol), (Some(1400), 200));
    let gateway = parsed(r#","attach":{"isGateway":true,"isDefaultGateway":true,"ipMasq":false}"#);
    assert_eq!(gateway.attach.kind, "bridge");
}

#[test]
fn every_bad_value_is_refused_with_its_name_and_rule() {
    for (body, words) in [
        (r#","mtu":575"#, ["`mtu` is 575", "from 576"]),
        (r#","mtu":-1"#, ["`mtu` is -1", "from 576"]),
        (r#","mtu":65536"#, ["`mtu` is 65536", "to 65535"]),
        (r#","routeProtocol":4"#, ["routeProtocol", "from 5 to 252"]),
        (
            r#","routeProtocol":254"#,
            ["routeProtocol", "from 5 to 252"],
        ),
        (r#","routeProtocol":12"#, ["`routeProtocol` is 12", "bird"]),
        (
            r#","routeProtocol":80"#,
            ["`routeProtocol` is 80", "calico"],
        ),
        (r#","masquerade":"yes""#, ["`masquerade`", "true or false"]),
        (
            r#","attach":{"mtu":1400}"#,
            ["`attach.mtu`", "beside `attach`"],
        ),
        (
            r#","attach":{"ipam":{}}"#,
            ["`attach.ipam`", "own prefixes"],
        ),
        (r#","attach":{"name":"x"}"#, ["`attach.name`", "network's"]),
        (
            r#","attach":{"ipMasq":true}"#,
            ["`attach.ipMasq` is true", "masquerade"],
        ),
        (
            r#","attach":{"isGateway":false}"#,
            ["`attach.isGateway` is false", "must be true"],
        ),
        (r#","attach":7"#, ["`attach`", "object"]),
    ] {
        let error = NodeConfig::parse(&config(&format!("{CLUSTER}{body}"))).unwrap_err();
        for word in words {
            assert!(error.chain().contains(word), "{body}: {}", error.chain());
        }
    }
}

#[test]
fn the_file_is_named_by_an_absolute_path() {
    for (body, words) in [
        ("", "`cluster` is missing"),
        (r#","cluster":{}"#, "`cluster` has none of `file`, `etcd`"),
        (
            r#","cluster":{"file":"/c","etcd":{}}"#,
            "`cluster` has more than one of `file`, `etcd`",
        ),
        (r#","cluster":{"etcd":"http://h"}"#, "`cluster.etcd`"),
        (r#","cluster":{"file":"cluster.json"}"#, "absolute path"),
        (r#","cluster":{"file":7}"#, "a string"),
        (r#","cluster":"/etc/cni/cluster.json""#, "object"),
    ] {
        let error = NodeConfig::parse(&config(body)).unwrap_err();
        assert!(error.chain().contains(words), "{body}: {}", error.chain());
    }
}

#[test]
fn names_that_are_directories_of_parameters_are_no_links() {
    let named = |name: &str| {
        let text = format!(r#"{{"device":"{name}"}}"#);
        interface_name(&Object::parse(&text).unwrap(), "device")
    };
    assert_eq!(named("vxlan.7").unwrap().as_deref(), Some("vxlan.7"));
    assert_eq!(named("").unwrap(), None);
    for name in [
        "all",
        "default",
        "lo",
        "a/b",
        "a b",
        "a:b",
        "vx%d",
        "0123456789abcdef",
    ] {
        let error = named(name).unwrap_err();
        assert!(
            error.to_string().contains(&format!("`device` is {name:?}")),
            "{error}"
        );
    }
}
