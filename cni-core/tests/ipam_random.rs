//! `host-local` against a model: random allocations, releases and interference.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not their helpers"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use cni_core::Cancel;
use cni_core::ipam::{EXHAUSTED, HostLocal, Ipam, IpamRequest};
use cni_core::spec::ValidAttachments;
use cni_core::spec::{Attachment, CniArgs, NetworkConfig};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Add(u8),
    Del(u8),
    /// Another plugin removes a container's record, or writes one.
    Interfere(u8),
    DropIndex,
    Collect(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12u8).prop_map(Step::Add),
        4 => (0..12u8).prop_map(Step::Del),
        2 => (0..12u8).prop_map(Step::Interfere),
        1 => Just(Step::DropIndex),
        1 => (0..12u8).prop_map(Step::Collect),
    ]
}

fn attachment(n: u8) -> Attachment {
    Attachment {
        network: "net".parse().unwrap(),
        container: format!("c{n}").parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    }
}

/// What the files say: the truth.
fn truth(dir: &Path) -> BTreeMap<IpAddr, String> {
    let Ok(entries) = fs::read_dir(dir.join("net")) else {
        return BTreeMap::new();
    };
    let record = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let ip = path.file_name()?.to_str()?.parse().ok()?;
        Some((ip, fs::read_to_string(&path).unwrap()))
    };
    entries.filter_map(record).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_handed_out_twice_or_lost(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let json = format!(
            r#"{{"cniVersion":"1.0.0","name":"net","ipam":{{"type":"host-local","dataDir":"{}",
               "ranges":[[{{"subnet":"10.1.0.0/29"}},{{"subnet":"10.2.0.0/30"}}]]}}}}"#,
            dir.path().display()
        );
        let config = NetworkConfig::parse(json.as_bytes()).unwrap();
        let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ipam = HostLocal::new();
        let mut model: BTreeMap<IpAddr, u8> = BTreeMap::new();
        for step in steps {
            let n = match &step {
                Step::Add(n) | Step::Del(n) | Step::Interfere(n) | Step::Collect(n) => *n,
                Step::DropIndex => 0,
            };
            let attachment = attachment(n);
            let request = IpamRequest {
                attachment: &attachment,
                netns: None,
                config: &config,
                args: &CniArgs::default(),
                cancel: &Cancel::new(),
            };
            let holds = model.values().any(|owner| *owner == n);
            match step {
                Step::Add(_) => {
                    let result = executor.block_on(ipam.allocate(&request));
                    match result {
                        Ok(result) => {
                            prop_assert!(!holds);
                            let ip = result.ips[0].address.ip();
                            prop_assert_eq!(model.insert(ip, n), None);
                        }
                        Err(error) if error.kind() == EXHAUSTED => prop_assert_eq!(model.len(), 6),
                        Err(error) => prop_assert!(holds, "{}", error.chain()),
                    }
                }
                Step::Del(_) => {
                    executor.block_on(ipam.release(&request)).unwrap();
                    model.retain(|_, owner| *owner != n);
                }
                Step::Interfere(_) if holds => {
                    let (ip, _) = model.iter().find(|(_, owner)| **owner == n).unwrap();
                    let ip = *ip;
                    fs::remove_file(dir.path().join("net").join(ip.to_string())).unwrap();
                    model.remove(&ip);
                }
                Step::Interfere(_) => {
                    let free = (2..=6).map(|last| IpAddr::from([10, 1, 0, last]));
                    let free = free.into_iter().find(|ip| !model.contains_key(ip));
                    if let Some(ip) = free {
                        fs::create_dir_all(dir.path().join("net")).unwrap();
                        let path = dir.path().join("net").join(ip.to_string());
                        fs::write(path, format!("c{n}\r\neth0")).unwrap();
                        model.insert(ip, n);
                    }
                }
                Step::DropIndex => {
                    let _ = fs::remove_dir_all(dir.path().join(".index"));
                }
                Step::Collect(_) => {
                    let valid = ValidAttachments::new((n..12).map(|n| {
                        (format!("c{n}").parse().unwrap(), "eth0".parse().unwrap())
                    }));
                    let network = "net".parse().unwrap();
                    executor.block_on(ipam.gc(&network, &config, &valid)).unwrap();
                    model.retain(|_, owner| *owner >= n);
                }
            }
            let expected: BTreeMap<IpAddr, String> =
                model.iter().map(|(ip, n)| (*ip, format!("c{n}\r\neth0"))).collect();
            prop_assert_eq!(truth(dir.path()), expected);
        }
    }
}
