use super::*;
use crate::ErrorKind;

fn parse(members: &str) -> Result<BandwidthConfig> {
    let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"bandwidth"{members}}}"#);
    BandwidthConfig::parse(&NetworkConfig::parse(text.as_bytes()).unwrap())
}

fn limit(rate: u64, burst: u64) -> Option<Limit> {
    Some(Limit { rate, burst })
}

#[test]
fn without_limits_nothing_is_limited() {
    for members in [
        "",
        r#","ingressRate":0,"ingressBurst":0"#,
        r#","ingressRate":null"#,
        r#","runtimeConfig":null"#,
        r#","runtimeConfig":{"bandwidth":null}"#,
        r#","runtimeConfig":{"bandwidth":{}}"#,
    ] {
        assert!(parse(members).unwrap().is_empty(), "{members}");
    }
}

#[test]
fn keys_are_matched_in_any_case() {
    let config = parse(r#","INGRESSRATE":1000,"ingressburst":2000"#).unwrap();
    assert_eq!((config.ingress, config.egress), (limit(1000, 2000), None));
    let members = r#","RuntimeConfig":{"bandWidth":{"EgressRate":1000,"EgressBurst":2000}}"#;
    let config = parse(members).unwrap();
    assert_eq!((config.ingress, config.egress), (None, limit(1000, 2000)));
}

#[test]
fn the_configurations_own_keys_win_as_a_whole() {
    let capability = r#","runtimeConfig":{"bandwidth":{"ingressRate":8,"ingressBurst":8,"egressRate":8,"egressBurst":8}}"#;
    let config = parse(&format!(
        r#","ingressRate":1000,"ingressBurst":2000{capability}"#
    ))
    .unwrap();
    assert_eq!((config.ingress, config.egress), (limit(1000, 2000), None));
    let config = parse(capability).unwrap();
    assert_eq!((config.ingress, config.egress), (limit(8, 8), limit(8, 8)));
    // Limits of 0 are the word of who wrote them: nothing is limited.
    let config = parse(&format!(r#","egressRate":0{capability}"#)).unwrap();
    assert!(config.is_empty());
}

#[test]
fn the_largest_burst_is_less_than_four_gib() {
    let most = u64::from(u32::MAX) * 8 - 1;
    let config = parse(&format!(r#","ingressRate":8,"ingressBurst":{most}"#)).unwrap();
    assert_eq!(config.ingress, limit(8, most));
    let error = parse(&format!(r#","ingressRate":8,"ingressBurst":{}"#, most + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}
