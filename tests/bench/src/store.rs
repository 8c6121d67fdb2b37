//! host-local as its store grows.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cni_testkit::{Invocation, Pod};
use serde_json::{Value, json};

use crate::contestants::Contestants;
use crate::measure::Series;

const FULL: u32 = 65_000;

pub(crate) fn run(contestants: &Contestants, runs: usize) {
    println!("\n== host-local, ms at p50");
    println!(
        "{:<12} {:>14} {:>14} {:>14} {:>14}",
        "", "ADD, 0", "ADD, 65,000", "DEL, 0", "DEL, 65,000"
    );
    for who in &contestants.all {
        let program = who.directory.join("host-local");
        let empty = one(&program, who.name, 0, runs);
        let full = one(&program, who.name, FULL, runs.min(20));
        println!(
            "{:<12} {:>14.2} {:>14.2} {:>14.2} {:>14.2}   full / empty: ADD {:.2}, DEL {:.2}",
            who.name,
            empty.0,
            full.0,
            empty.1,
            full.1,
            full.0 / empty.0,
            full.1 / empty.1
        );
    }
}

/// Medians of ADD and DEL.
fn one(program: &PathBuf, who: &str, reservations: u32, runs: usize) -> (f64, f64) {
    let directory = format!("/run/bench/store-{who}-{reservations}");
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "store",
        "type": "host-local",
        "ipam": { "type": "host-local", "subnet": "10.100.0.0/15", "dataDir": directory }
    });
    fill(&Path::new(&directory).join("store"), reservations);
    let pod = Pod::new("store");
    let (mut add, mut del) = (Series::default(), Series::default());
    for round in 0..=runs {
        add.run(&invocation(program, "ADD", &pod, &config));
        del.run(&invocation(program, "DEL", &pod, &config));
        if round == 0 {
            // The first builds the index.
            (add, del) = (Series::default(), Series::default());
        }
    }
    (add.percentile(50), del.percentile(50))
}

fn invocation(program: &PathBuf, verb: &str, pod: &Pod, config: &Value) -> Invocation {
    Invocation::attachment(program, verb, pod).config(config)
}

/// Reservations as the reference writes them.
fn fill(directory: &Path, reservations: u32) {
    fs::create_dir_all(directory).expect("a directory for the store");
    let first = u32::from(Ipv4Addr::new(10, 100, 0, 2));
    for number in 0..reservations {
        let file = directory.join(Ipv4Addr::from(first + number).to_string());
        fs::write(&file, format!("{number:064x}\r\neth0")).expect("a record");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a record's mode");
    }
    if reservations > 0 {
        let last = Ipv4Addr::from(first + reservations - 1).to_string();
        fs::write(directory.join("last_reserved_ip.0"), last).expect("the last address");
    }
}
