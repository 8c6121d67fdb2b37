//! Files that chance has made.

use proptest::prelude::*;

use super::tests::FULL;
use super::*;

/// A place that an editor can show.
fn is_inside(error: &FileError, text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.split('\n').collect();
    let line = error.line.checked_sub(1).and_then(|index| lines.get(index));
    line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&error.column))
}

/// A node out of few, with little to choose from, so that some quarrel and some do not.
fn any_entry() -> impl Strategy<Value = String> {
    let prefix = prop_oneof![
        3 => (0..6_u8, 24..26_u8).prop_map(|(third, length)| format!("10.0.{third}.0/{length}")),
        1 => Just("10.0.0.0/22".to_owned()),
        1 => Just("10.2.0.0/16".to_owned()),
        2 => (0..5_u8, 64..66_u8).prop_map(|(fourth, length)| format!("fd00:0:0:{fourth}::/{length}")),
    ];
    let address = prop_oneof![
        1 => (1..3_u8).prop_map(|last| format!("10.0.0.{last}")),
        6 => (1..9_u8).prop_map(|last| format!("192.0.2.{last}")),
        1 => Just("fd00::1".to_owned()),
    ];
    let prefixes = proptest::collection::vec(prefix, 0..3);
    let further = proptest::collection::vec(address.clone(), 0..2);
    let mac = proptest::option::weighted(0.3, 0..3_u8);
    let uid = proptest::option::weighted(0.3, 0..9_u8);
    (0..9_u8, uid, prefixes, address, further, mac).prop_map(
        |(name, uid, prefixes, address, further, mac)| {
            let uid = uid.map(|uid| format!(r#""uid":"n{uid}","#)).unwrap_or_default();
            let mac = mac.map(|mac| format!(r#","vtepMac":"02:00:00:00:00:0{mac}""#)).unwrap_or_default();
            format!(
                r#"{{"furtherAddresses":{further:?},{uid}"name":"n{name}","addresses":["{address}"],"podPrefixes":{prefixes:?}{mac}}}"#
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_a_file_or_an_error_with_a_place_in_it(
        at in any::<prop::sample::Index>(),
        length in 0..24_usize,
        bytes in prop_oneof![
            "[\\[\\]{}\",:0-9a-zA-Zé\n\\\\ -]{0,3}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..3),
            any::<prop::sample::Index>().prop_map(|at| FULL.bytes().skip(at.index(FULL.len())).take(24).collect()),
        ],
    ) {
        let at = at.index(FULL.len());
        let end = (at + length).min(FULL.len());
        let text = [&FULL.as_bytes()[..at], &bytes, &FULL.as_bytes()[end..]].concat();
        let json = serde_json::from_slice::<serde_json::Value>(&text).is_ok();
        match ClusterFile::parse(&text) {
            Ok(_) => prop_assert!(json, "{}", String::from_utf8_lossy(&text)),
            Err(error) => {
                prop_assert!(is_inside(&error, &text), "{error}");
                prop_assert!(error.sentence.len() < 1000);
            }
        }
    }

    #[test]
    fn what_is_sound_has_no_fault_and_what_is_not_has_one(entries in proptest::collection::vec(any_entry(), 0..5), within in any::<bool>()) {
        let within = if within { r#""clusterPrefixes":["10.0.0.0/15","fd00::/62"],"# } else { "" };
        let text = format!("{{{within}\"nodes\":[{}]}}", entries.join(","));
        let mut places = check::Places::wanted();
        // What concerns one entry is told before.
        if let Ok(file) = read(&text, &mut places) {
            prop_assert_eq!(check::is_sound(&file), places.check(&text, &file).is_ok(), "{}", text);
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_an_error_at_its_end_or_before(at in 0..FULL.len() - 2) {
        let text = &FULL.as_bytes()[..at];
        let error = ClusterFile::parse(text).unwrap_err();
        prop_assert!(is_inside(&error, text), "{error}");
    }
}
