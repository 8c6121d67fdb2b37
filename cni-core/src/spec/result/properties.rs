//! All pairs of versions, over generated results.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn extra() -> impl Strategy<Value = Extra> {
    let value = prop_oneof![
        any::<u64>().prop_map(|n| n.to_string()),
        "[a-z\"\\\\\u{e9}]{0,6}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just("{\"b\":[1.0,1e99,null],\"a\":{}}".to_owned()),
        Just("null".to_owned()),
    ];
    vec(value, 0..3).prop_map(|values| {
        let values = values.into_iter().enumerate();
        values
            .map(|(index, text)| (format!("x{index}"), RawValue::from_string(text).unwrap()))
            .collect()
    })
}

fn prefix() -> impl Strategy<Value = IpNetwork> {
    prop_oneof![
        (any::<u32>(), 0..=32_u8).prop_map(|(ip, len)| IpNetwork::new(
            Ipv4Addr::from(ip).into(),
            len
        )
        .unwrap()),
        (any::<u128>(), 0..=128_u8).prop_map(|(ip, len)| IpNetwork::new(
            Ipv6Addr::from(ip).into(),
            len
        )
        .unwrap()),
        (any::<u32>(), 0..=128_u8).prop_map(|(ip, len)| {
            IpNetwork::new(Ipv4Addr::from(ip).to_ipv6_mapped().into(), len).unwrap()
        }),
    ]
}

fn interface() -> impl Strategy<Value = Interface> {
    (
        "\\PC{0,8}",
        "([0-9a-f]{2}:){5}[0-9a-f]{2}|",
        any::<u32>(),
        "(/[a-z]{1,4}){0,3}",
        "(/[a-z]{1,4}){0,2}",
        "[0-9:.]{0,8}",
        extra(),
    )
        .prop_map(
            |(name, mac, mtu, sandbox, socket_path, pci_id, extra)| Interface {
                name,
                mac,
                mtu,
                sandbox,
                socket_path,
                pci_id,
                extra,
            },
        )
}

fn ip() -> impl Strategy<Value = IpConfig> {
    (
        option::of(any::<i64>()),
        prefix(),
        option::of(prefix()),
        extra(),
    )
        .prop_map(|(interface, address, gateway, extra)| IpConfig {
            interface,
            address,
            gateway: gateway.map(|gateway| gateway.ip()),
            extra,
        })
}

fn route() -> impl Strategy<Value = Route> {
    (
        prefix(),
        option::of(prefix()),
        any::<[u32; 3]>(),
        any::<Option<u32>>(),
        any::<Option<u8>>(),
        extra(),
    )
        .prop_map(
            |(dst, gw, [mtu, advmss, priority], table, scope, extra)| Route {
                dst,
                gw: gw.map(|gw| gw.ip()),
                mtu,
                advmss,
                priority,
                table,
                scope,
                extra,
            },
        )
}

fn dns() -> impl Strategy<Value = Dns> {
    let words = || vec("\\PC{0,6}", 0..3);
    (words(), "\\PC{0,6}", words(), words(), extra()).prop_map(
        |(nameservers, domain, search, options, extra)| Dns {
            nameservers,
            domain,
            search,
            options,
            extra,
        },
    )
}

fn result() -> impl Strategy<Value = AddResult> {
    (
        vec(interface(), 0..3),
        vec(ip(), 0..4),
        vec(route(), 0..4),
        dns(),
        extra(),
    )
        .prop_map(|(interfaces, ips, routes, dns, extra)| AddResult {
            origin: None,
            interfaces,
            ips,
            routes,
            dns,
            extra,
        })
}

/// The members that a version knows, by the place where they stand.
fn known(version: SpecVersion, place: &str) -> &'static [&'static str] {
    use crate::spec::version::Family::{Ip4Ip6, Ips, IpsWithVersion};
    match (place, version.family(), version >= SpecVersion::V1_1_0) {
        ("", Ip4Ip6, _) => &["cniVersion", "ip4", "ip6", "dns"],
        ("", ..) => &["cniVersion", "interfaces", "ips", "routes", "dns"],
        ("ip4" | "ip6", ..) => &["ip", "gateway", "routes"],
        ("interfaces", _, false) => &["name", "mac", "sandbox"],
        ("interfaces", _, true) => &["name", "mac", "mtu", "sandbox", "socketPath", "pciID"],
        ("ips", IpsWithVersion, _) => &["version", "interface", "address", "gateway"],
        ("ips", Ips | Ip4Ip6, _) => &["interface", "address", "gateway"],
        ("routes", _, false) => &["dst", "gw"],
        ("routes", _, true) => &["dst", "gw", "mtu", "advmss", "priority", "table", "scope"],
        ("dns", ..) => &["nameservers", "domain", "search", "options"],
        _ => &[],
    }
}

/// Members that the version does not know.
fn strangers(version: SpecVersion, place: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(elements) => {
            for element in elements {
                strangers(version, place, element, found);
            }
        }
        Value::Object(members) => {
            for (key, value) in members {
                if known(version, place).contains(&key.as_str()) {
                    strangers(version, key, value, found);
                } else {
                    found.push(format!("{place}.{key}"));
                }
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_every_pair_of_versions_the_conversion_is_stable(result in result()) {
        for from in SpecVersion::ALL {
            let Ok(first) = result.render(from) else {
                prop_assert!(result.ips.is_empty() && from < SpecVersion::V0_3_0);
                continue;
            };
            // Rendering, parsing and rendering again changes nothing, unknown members included.
            prop_assert_eq!(&AddResult::convert(&first, from, from).unwrap(), &first);
            for to in SpecVersion::ALL {
                let Ok(second) = AddResult::convert(&first, from, to) else {
                    prop_assert!(result.ips.is_empty() && to < SpecVersion::V0_3_0);
                    continue;
                };
                prop_assert_eq!(&AddResult::convert(&second, to, to).unwrap(), &second);
                // The text's own version is what counts.
                prop_assert_eq!(
                    &AddResult::convert(&second, SpecVersion::V0_1_0, to).unwrap(),
                    &second
                );
            }
        }
    }

    #[test]
    fn no_member_stands_in_a_version_that_does_not_know_it(result in result()) {
        for from in SpecVersion::ALL {
            let Ok(first) = result.render(from) else { continue };
            for to in SpecVersion::ALL {
                if from.family() == to.family() && (from == to || from < SpecVersion::V1_0_0) {
                    continue;
                }
                let Ok(second) = AddResult::convert(&first, from, to) else { continue };
                let mut found = Vec::new();
                strangers(to, "", &serde_json::from_str(&second).unwrap(), &mut found);
                prop_assert!(found.is_empty(), "{} to {}: {:?} in {}", from, to, found, second);
            }
        }
    }

    #[test]
    fn up_and_down_again_loses_nothing_that_the_older_version_knows(result in result()) {
        let bare = AddResult { origin: Some(SpecVersion::V1_1_0), ..result };
        for old in [SpecVersion::V0_3_0, SpecVersion::V0_3_1, SpecVersion::V0_4_0, SpecVersion::V1_0_0] {
            let first = bare.render(old).unwrap();
            let up = AddResult::convert(&first, old, SpecVersion::V1_1_0).unwrap();
            prop_assert_eq!(AddResult::convert(&up, SpecVersion::V1_1_0, old).unwrap(), first);
        }
    }

    #[test]
    fn any_text_is_a_result_or_an_error(text in "\\PC{0,200}", version in 0..7_usize) {
        let _ = AddResult::parse(&text, SpecVersion::ALL[version]);
    }

    #[test]
    fn a_damaged_result_is_a_result_or_an_error(
        result in result(),
        at in any::<prop::sample::Index>(),
        byte in "[\\[\\]{}\",:0-9a-z\\\\-]",
        version in 2..7_usize,
    ) {
        let text = result.render(SpecVersion::ALL[version]).unwrap();
        let chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        let damaged: String = chars[..at]
            .iter()
            .copied()
            .chain(byte.chars())
            .chain(chars[at + 1..].iter().copied())
            .collect();
        if let Ok(result) = AddResult::parse(&damaged, SpecVersion::ALL[version]) {
            let rendered = result.render(SpecVersion::V1_1_0).unwrap();
            prop_assert!(serde_json::from_str::<Value>(&rendered).is_ok(), "{}", rendered);
        }
    }
}
