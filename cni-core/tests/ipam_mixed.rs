//! `host-local` and the reference plugin on one store: at the same time, in both directions, under load.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not their helpers"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cni_core::Cancel;
use cni_core::ipam::{HostLocal, Ipam, IpamRequest};
use cni_core::runtime::exec::{Invocation, Stderr};
use cni_core::spec::{Attachment, CniArgs, NetworkConfig};

const REFERENCE: &str = "/usr/lib/cni/host-local";

#[derive(Clone, Copy)]
enum Side {
    Ours,
    Reference,
}

/// Whether the reference plugin is here. Its absence is told, and in CI it is a failure.
fn reference() -> bool {
    let there = Path::new(REFERENCE).exists();
    if !there {
        println!("SKIPPED: {REFERENCE} is not installed (Debian: containernetworking-plugins)");
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "{REFERENCE} must be installed in CI"
        );
    }
    there
}

fn config(dir: &Path) -> String {
    format!(
        r#"{{"cniVersion":"1.0.0","name":"net","type":"t","ipam":{{"type":"host-local","dataDir":"{}",
           "ranges":[[{{"subnet":"10.1.0.0/26"}}],[{{"subnet":"fd00::/122"}}]]}}}}"#,
        dir.display()
    )
}

fn ours(command: &str, config: &str, container: &str) -> Option<Vec<String>> {
    let attachment = Attachment {
        network: "net".parse().unwrap(),
        container: container.parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    };
    let config = NetworkConfig::parse(config.as_bytes()).unwrap();
    let request = IpamRequest {
        attachment: &attachment,
        netns: None,
        config: &config,
        args: &CniArgs::default(),
        cancel: &Cancel::new(),
    };
    let executor = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    executor.block_on(async {
        let ipam = HostLocal::new();
        match command {
            "ADD" => {
                let result = ipam.allocate(&request).await.ok()?;
                Some(
                    result
                        .ips
                        .iter()
                        .map(|ip| ip.address.ip().to_string())
                        .collect(),
                )
            }
            "DEL" => ipam.release(&request).await.ok().map(|()| Vec::new()),
            _ => ipam.check(&request).await.ok().map(|()| Vec::new()),
        }
    })
}

fn theirs(command: &str, config: &str, container: &str) -> Option<Vec<String>> {
    let mut invocation = Invocation::new(REFERENCE)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", "/none")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/usr/lib/cni");
    invocation.stdin = config.as_bytes().to_vec();
    invocation.stderr = Stderr::Capture;
    let output = invocation.run().unwrap();
    if !output.status.success() {
        return None;
    }
    if command != "ADD" {
        return Some(Vec::new());
    }
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ip = |ip: &serde_json::Value| {
        ip["address"]
            .as_str()
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned()
    };
    Some(result["ips"].as_array().unwrap().iter().map(ip).collect())
}

fn run(side: Side, command: &str, config: &str, container: &str) -> Option<Vec<String>> {
    match side {
        Side::Ours => ours(command, config, container),
        Side::Reference => theirs(command, config, container),
    }
}

fn records(dir: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(dir.join("net")).unwrap();
    let names = names
        .map(|entry| entry.unwrap().file_name())
        .map(OsString::into_string);
    names
        .map(Result::unwrap)
        .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
        .collect()
}

#[test]
fn ours_and_the_reference_share_a_store_under_load_without_a_duplicate() {
    if !reference() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let held: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (config, held) = (&config, &held);
            scope.spawn(move || {
                for round in 0..20 {
                    let name = format!("c{thread}-{round}");
                    let ours_first = (thread + round) % 2 == 0;
                    let (add, del) = if ours_first {
                        (Side::Ours, Side::Reference)
                    } else {
                        (Side::Reference, Side::Ours)
                    };
                    let ips = run(add, "ADD", config, &name).unwrap();
                    for ip in &ips {
                        let before = held.lock().unwrap().insert(ip.clone(), name.clone());
                        assert_eq!(before, None, "{ip} was handed out twice");
                    }
                    run(del, "CHECK", config, &name).unwrap();
                    assert!(run(del, "ADD", config, &name).is_none(), "a second ADD");
                    // Every fourth stays for the end, so that the store is never empty.
                    if round % 4 != 0 {
                        for ip in &ips {
                            held.lock().unwrap().remove(ip);
                        }
                        run(del, "DEL", config, &name).unwrap();
                    }
                }
            });
        }
    });
    let held = held.into_inner().unwrap();
    let expected: BTreeSet<String> = held.keys().cloned().collect();
    assert_eq!(records(dir.path()), expected);
    let names: BTreeSet<&String> = held.values().collect();
    for (index, name) in names.into_iter().enumerate() {
        let side = if index % 2 == 0 {
            Side::Ours
        } else {
            Side::Reference
        };
        run(side, "DEL", &config, name).unwrap();
    }
    assert!(records(dir.path()).is_empty());
}

#[test]
fn both_go_on_where_the_other_stopped_and_are_exhausted_together() {
    if !reference() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path())
        .replace("/26", "/29")
        .replace("/122", "/125");
    let sides = [Side::Ours, Side::Reference];
    let mut all = Vec::new();
    for n in 0..5 {
        all.push(
            run(sides[n % 2], "ADD", &config, &format!("c{n}"))
                .unwrap()
                .remove(0),
        );
    }
    assert_eq!(
        all,
        ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
    );
    for side in sides {
        assert!(run(side, "ADD", &config, "late").is_none());
    }
    let before: Vec<PathBuf> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert!(
        before.iter().any(|path| path.ends_with(".index")),
        "{before:?}"
    );
    for n in 0..5 {
        run(sides[(n + 1) % 2], "DEL", &config, &format!("c{n}")).unwrap();
    }
    assert!(records(dir.path()).is_empty());
}
