use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{CniArgs, NetworkConfig};

fn use_all(config: &NetworkConfig) {
    let _ = (config.ipam_type(), config.dns(), config.runtime_config());
    let _ = (config.prev_result(), config.valid_attachments());
    let _ = (config.duplicates(), config.cni_args(), config.plugin_type());
}

const FULL: &str = r#"{"cniVersion":"1.0.0","name":"net","type":"bridge","ipam":{"type":"host-local"},"dns":{"search":["a"]},"args":{"cni":{"mac":"x"}},"runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":2}],"ipRanges":[[{"subnet":"10.0.0.0/8"}]],"ips":["10.0.0.1"]},"prevResult":{"ips":[{"address":"10.0.0.1/8"}],"routes":[{"dst":"0.0.0.0/0"}]},"cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}]}"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_configuration_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(NetworkConfig::parse(&bytes).is_err());
        let _ = NetworkConfig::version_of(&bytes);
    }

    #[test]
    fn a_damaged_configuration_is_a_configuration_or_an_error(
        at in any::<prop::sample::Index>(),
        len in 0..4_usize,
        bytes in "[\\[\\]{}\",:0-9a-zA-Z\\\\ -]{0,3}",
    ) {
        let at = at.index(FULL.len());
        let end = (at + len).min(FULL.len());
        let text = format!("{}{bytes}{}", &FULL[..at], &FULL[end..]);
        if let Ok(config) = NetworkConfig::parse(text.as_bytes()) {
            prop_assert_eq!(config.raw(), text);
            use_all(&config);
        }
    }

    #[test]
    fn any_text_is_args_or_an_error_and_lenience_never_knows_less(text in "[A-C=;é]{0,20}") {
        let lenient = CniArgs::parse_lenient(text.as_ref());
        if let Ok(args) = CniArgs::parse(&text) {
            prop_assert!(args.iter().eq(lenient.iter()));
        }
    }

    #[test]
    fn pairs_are_read_as_they_were_written(pairs in proptest::collection::btree_map("[A-Z_]{1,6}", "[^=;]{0,6}", 0..6)) {
        let text: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let args = CniArgs::parse(&text.join(";")).unwrap();
        let read: BTreeMap<String, String> =
            args.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(read, pairs);
    }
}
