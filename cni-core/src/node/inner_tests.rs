use super::*;

fn outer(more: &str) -> NetworkConfig {
    let text = format!(r#"{{"cniVersion":"1.1.0","name":"net","type":"vxlan"{more}}}"#);
    NetworkConfig::parse(text.as_bytes()).unwrap()
}

fn given(prefixes: &[&str]) -> Given {
    Given {
        prefixes: prefixes.iter().map(|text| text.parse().unwrap()).collect(),
        mtu: Some(1464),
    }
}

fn derived(more: &str, given: Option<&Given>) -> serde_json::Value {
    let outer = outer(more);
    let attach = Inner::parse(&outer).unwrap_or_default();
    serde_json::from_str(config(&outer, &attach, given).unwrap().raw()).unwrap()
}

#[test]
fn a_pod_gets_an_address_of_each_family_and_default_routes() {
    let given = given(&["10.244.1.0/24", "10.244.9.0/24", "fd00:244:1::/64"]);
    assert_eq!(
        derived("", Some(&given)),
        json!({
                   "cniVersion": "1.1.0",
                   "name": "net",
                   "type": "bridge",
                   "isGateway": true,
                   "ipMasq": false,
        "mtu": 1464,
                   "gateways": ["10.244.1.1/24", "10.244.9.1/24", "fd00:244:1::1/64"],
                   "ipam": {
                       "type": "host-local",
                       "ranges": [
                           [{"subnet": "10.244.1.0/24"}, {"subnet": "10.244.9.0/24"}],
                           [{"subnet": "fd00:244:1::/64"}],
                       ],
                       "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                   },
               })
    );
}

#[test]
fn keys_of_the_inner_backend_and_of_the_runtime_reach_it_as_they_are() {
    let more = r#","attach":{"type":"ptp","HairpinMode":true,"mtu1":1e3,"isDefaultGateway":true},
        "ipam":{"dataDir":"/x","routes":[{"dst":"10.0.0.0/8","mtu":1300},{"dst":"0.0.0.0/0","gw":"10.244.1.9"}]},
        "runtimeConfig":{"ips":["10.244.1.7/24"]},"args":{"cni":{"mac":"x"}},"dns":{"nameservers":["10.0.0.1"]},
        "prevResult":{"cniVersion":"1.1.0"},"capabilities":{"ips":true}"#;
    let is = derived(more, Some(&given(&["10.244.1.0/24"])));
    assert_eq!(
        is,
        json!({
            "cniVersion": "1.1.0",
            "name": "net",
            "type": "ptp",
            "isGateway": true,
            "ipMasq": false,
            "mtu": 1464,
            "gateways": ["10.244.1.1/24"],
            "HairpinMode": true,
            "mtu1": 1e3,
            "ipam": {
                "type": "host-local",
                "dataDir": "/x",
                "ranges": [[{"subnet": "10.244.1.0/24"}]],
                "routes": [{"dst": "10.0.0.0/8", "mtu": 1300}, {"dst": "0.0.0.0/0", "gw": "10.244.1.9"}],
            },
            "dns": {"nameservers": ["10.0.0.1"]},
            "args": {"cni": {"mac": "x"}},
            "runtimeConfig": {"ips": ["10.244.1.7/24"]},
            "capabilities": {"ips": true},
            "prevResult": {"cniVersion": "1.1.0"},
        })
    );
}

#[test]
fn what_cannot_be_read_is_left_out_where_nothing_was_given() {
    for more in [
        "",
        r#","attach":7"#,
        r#","attach":{"type":7},"ipam":[]"#,
        r#","ipam":{"routes":7,"ranges":"x"}"#,
    ] {
        let is = derived(more, None);
        assert_eq!(is["type"], "bridge", "{more}");
        assert_eq!(is["ipam"], json!({"type": "host-local"}), "{more}");
    }
    let is = derived(r#","ipam":{"dataDir":"/x","type":"static"}"#, None);
    assert_eq!(is["ipam"], json!({"type": "host-local", "dataDir": "/x"}));
}

#[test]
fn other_addresses_than_the_nodes_own_are_refused_by_name() {
    for (more, key) in [
        (r#","ipam":{"type":"dhcp"}"#, "`ipam.type`"),
        (r#","ipam":{"subnet":"10.0.0.0/8"}"#, "`ipam.subnet`"),
        (r#","ipam":{"ranges":[]}"#, "`ipam.ranges`"),
        (
            r#","runtimeConfig":{"ipRanges":[]}"#,
            "`runtimeConfig.ipRanges`",
        ),
    ] {
        let error = check_ipam(&outer(more)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(error.to_string().starts_with(key), "{error}");
        assert!(error.to_string().contains("node's own prefixes"), "{error}");
    }
    for more in [
        "",
        r#","ipam":{}"#,
        r#","ipam":{"type":"host-local","dataDir":"/x"}"#,
    ] {
        check_ipam(&outer(more)).unwrap();
    }
}
