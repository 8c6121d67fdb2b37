//! `host-local` on a file system that is full.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the lints except test functions, and these are run by another harness"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use cni_core::ipam::{HostLocal, Ipam, IpamRequest};
use cni_core::spec::{AddResult, Attachment, CniArgs, NetworkConfig};
use cni_core::{Cancel, ErrorKind, Result};
use cni_testkit::tests;
use nix::mount::{MsFlags, mount};

const DIR: &str = "/run/store";

fn main() -> ExitCode {
    cni_testkit::run(&tests![
        without_space_an_address_is_refused_and_nothing_is_left,
        without_inodes_an_address_is_refused_and_nothing_is_left,
    ])
}

fn without_space_an_address_is_refused_and_nothing_is_left() {
    // Pages of 4 KiB; the last reservations find room for the record, but not for the index or not for both families.
    for pages in 4..24 {
        fill(&format!("size={}k", pages * 4));
    }
}

fn without_inodes_an_address_is_refused_and_nothing_is_left() {
    for inodes in 4..24 {
        fill(&format!("nr_inodes={inodes}"));
    }
}

/// Reserves addresses until the disk is full, gives all back, and begins anew.
fn fill(limit: &str) {
    fs::create_dir_all(DIR).unwrap();
    let none: Option<&str> = None;
    mount(none, DIR, Some("tmpfs"), MsFlags::empty(), Some(limit)).unwrap();
    let mut held = BTreeSet::new();
    for n in 0..50 {
        match add(n) {
            Ok(result) => held.extend(result.ips.iter().map(|ip| ip.address.ip().to_string())),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io, "{limit}: {}", error.chain());
                assert!(
                    error.chain().contains("No space left"),
                    "{limit}: {}",
                    error.chain()
                );
                break;
            }
        }
    }
    assert!(held.len() < 100, "{limit} is not full");
    assert_eq!(records(), held, "{limit}");
    for n in 0..50 {
        del(n).unwrap_or_else(|error| panic!("{limit}: {}", error.chain()));
    }
    assert_eq!(records(), BTreeSet::new(), "{limit}");
    // What went once goes again.
    if !held.is_empty() {
        add(0).unwrap_or_else(|error| panic!("{limit}: {}", error.chain()));
        assert_eq!(records().len(), 2, "{limit}");
    }
}

fn add(n: u32) -> Result<AddResult> {
    with(n, |request| now(HostLocal::new().allocate(request)))
}

fn del(n: u32) -> Result<()> {
    with(n, |request| now(HostLocal::new().release(request)))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let executor = tokio::runtime::Builder::new_current_thread().build();
    executor.unwrap().block_on(future)
}

fn with<T>(n: u32, ask: impl FnOnce(&IpamRequest<'_>) -> T) -> T {
    let json = format!(
        r#"{{"cniVersion":"1.0.0","name":"net","ipam":{{"type":"host-local","dataDir":"{DIR}",
           "ranges":[[{{"subnet":"10.1.0.0/24"}}],[{{"subnet":"fd00::/64"}}]]}}}}"#
    );
    let attachment = Attachment {
        network: "net".parse().unwrap(),
        container: format!("c{n}").parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    };
    ask(&IpamRequest {
        attachment: &attachment,
        netns: None,
        config: &NetworkConfig::parse(json.as_bytes()).unwrap(),
        args: &CniArgs::default(),
        cancel: &Cancel::new(),
    })
}

fn records() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(Path::new(DIR).join("net")) else {
        return BTreeSet::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
        .collect()
}
