use super::*;

fn parse_with(members: &str, args: &str) -> Result<TuningConfig> {
    let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"tuning"{members}}}"#);
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    let args = CniArgs::parse(args).unwrap();
    TuningConfig::parse(&config, &args, &"eth0".parse().unwrap())
}

fn parse(members: &str) -> Result<TuningConfig> {
    parse_with(members, "")
}

#[test]
fn what_is_not_mentioned_is_left_alone() {
    for members in [
        "",
        r#","mtu":0,"mac":"","promisc":false,"sysctl":{}"#,
        r#","mtu":null,"mac":null,"promisc":null,"allmulti":null,"txQLen":null,"sysctl":null,"args":null"#,
    ] {
        assert_eq!(
            parse(members).unwrap(),
            TuningConfig::default(),
            "{members}"
        );
    }
}

#[test]
fn every_key_is_read_in_any_case_and_overruled_by_args() {
    let own = r#","MTU":1400,"Promisc":true,"allMulti":true,"txqlen":5"#;
    let config = parse(own).unwrap();
    assert_eq!(
        (
            config.mtu,
            config.promiscuous,
            config.all_multicast,
            config.tx_queue_len
        ),
        (Some(1400), Some(true), Some(true), Some(5))
    );
    let args = r#","args":{"cni":{"mtu":1300,"promisc":false,"allmulti":false,"txQLen":0}}"#;
    let config = parse(&format!("{own}{args}")).unwrap();
    assert_eq!(
        (
            config.mtu,
            config.promiscuous,
            config.all_multicast,
            config.tx_queue_len
        ),
        (Some(1300), None, Some(false), Some(0))
    );
}

#[test]
fn the_hardware_address_is_that_of_the_last_who_has_a_say() {
    let (own, runtime, cni) = (
        r#","mac":"02:00:00:00:00:01""#,
        r#","runtimeConfig":{"mac":"02:00:00:00:00:03"}"#,
        r#","args":{"cni":{"mac":"02:00:00:00:00:04"}}"#,
    );
    let environment = "MAC=02:00:00:00:00:02";
    for (members, args, last) in [
        (own.to_owned(), "", 1),
        (own.to_owned(), environment, 2),
        (format!("{own}{runtime}"), environment, 3),
        (format!("{own}{runtime}{cni}"), environment, 4),
    ] {
        let config = parse_with(&members, args).unwrap();
        assert_eq!(
            config.mac,
            Some(MacAddr([2, 0, 0, 0, 0, last])),
            "{members}"
        );
    }
}

#[test]
fn parameters_are_named_by_path_and_overruled_whatever_their_spelling() {
    let config = parse(
        r#","sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1","net/core/somaxconn":"512"},
           "args":{"cni":{"sysctl":{"net.core.somaxconn":"1024"}}}"#,
    )
    .unwrap();
    let found: Vec<(&str, &str, &str)> = config
        .parameters
        .iter()
        .map(|one| (one.key.as_str(), one.path.as_str(), one.value.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("net.core.somaxconn", "net/core/somaxconn", "1024"),
            (
                "net.ipv4.conf.IFNAME.arp_filter",
                "net/ipv4/conf/eth0/arp_filter",
                "1"
            ),
        ]
    );
    // The reference panics where only `args` has parameters.
    let only = parse(r#","args":{"cni":{"sysctl":{"net.core.somaxconn":"1"}}}"#).unwrap();
    assert_eq!(only.parameters.len(), 1);
}

#[test]
fn errors_name_key_value_and_rule() {
    for (members, kind, words) in [
        (r#","mtu":67"#, ErrorKind::InvalidConfig, "`mtu` is 67"),
        (
            r#","mtu":"1400""#,
            ErrorKind::Decode,
            "`mtu` must be an integer",
        ),
        (
            r#","mtu":-1"#,
            ErrorKind::InvalidConfig,
            "`mtu` is the number -1",
        ),
        (r#","txQLen":-1"#, ErrorKind::InvalidConfig, "`txQLen`"),
        (
            r#","promisc":"yes""#,
            ErrorKind::Decode,
            "`promisc` must be true or false",
        ),
        (r#","mac":"02""#, ErrorKind::InvalidConfig, "mac is \"02\""),
        (
            r#","mac":"01:00:00:00:00:00""#,
            ErrorKind::InvalidConfig,
            "unicast",
        ),
        (
            r#","args":{"cni":{"mac":"x"}}"#,
            ErrorKind::InvalidConfig,
            "args.cni.mac",
        ),
        (
            r#","sysctl":{"net.core.somaxconn":1}"#,
            ErrorKind::Decode,
            "`sysctl.net.core.somaxconn` must be a string",
        ),
        (
            r#","sysctl":{"kernel.hostname":"x"}"#,
            ErrorKind::InvalidConfig,
            "must be below net",
        ),
        (
            r#","sysctl":{"net.core.x":"1","net/core/x":"2"}"#,
            ErrorKind::InvalidConfig,
            "names the same parameter",
        ),
        (
            r#","sysctl":{"net.ipv4.conf.IFNAME.x":"1","net.ipv4.conf.eth0.x":"1"}"#,
            ErrorKind::InvalidConfig,
            "names the same parameter",
        ),
    ] {
        let error = parse(members).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    let error = parse_with("", "MAC=x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEnvironment, "{error}");
}
