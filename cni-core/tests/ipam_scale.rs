//! The cost of ADD and DEL with an empty store and with 65,000 reservations. Prints both; the bound is generous,
//! because a busy machine is no reason to fail: the reference plugin grows by a factor of a hundred here.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cni_core::Cancel;
use cni_core::ipam::{HostLocal, Ipam, IpamRequest};
use cni_core::spec::{Attachment, CniArgs, NetworkConfig};

const RUNS: usize = 200;

fn medians(dir: &Path) -> (Duration, Duration) {
    let json = format!(
        r#"{{"cniVersion":"1.0.0","name":"net","ipam":{{"type":"host-local","dataDir":"{}","subnet":"10.1.0.0/16"}}}}"#,
        dir.display()
    );
    let config = NetworkConfig::parse(json.as_bytes()).unwrap();
    let executor = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    for n in 0..RUNS {
        let attachment = Attachment {
            network: "net".parse().unwrap(),
            container: format!("new{n}").parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        };
        let request = IpamRequest {
            attachment: &attachment,
            netns: None,
            config: &config,
            args: &CniArgs::default(),
            cancel: &Cancel::new(),
        };
        let since = Instant::now();
        executor
            .block_on(HostLocal::new().allocate(&request))
            .unwrap();
        let added = Instant::now();
        executor
            .block_on(HostLocal::new().release(&request))
            .unwrap();
        dels.push(added.elapsed());
        adds.push(added - since);
        if n == 0 {
            println!("first ADD, with what it has to index: {:?}", added - since);
        }
    }
    adds.sort();
    dels.sort();
    (adds[RUNS / 2], dels[RUNS / 2])
}

#[test]
fn add_and_del_cost_the_same_with_65000_reservations() {
    let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = full.path().join("net");
    fs::create_dir(&store).unwrap();
    for n in 2..65_002u32 {
        let path = store.join(format!("10.1.{}.{}", n >> 8, n & 255));
        fs::write(path, format!("container-{n:058}\r\neth0")).unwrap();
    }
    let (add_empty, del_empty) = medians(empty.path());
    let (add_full, del_full) = medians(full.path());
    println!("reservations 0: ADD {add_empty:?}, DEL {del_empty:?}");
    println!("reservations 65000: ADD {add_full:?}, DEL {del_full:?}");
    assert!(add_full < add_empty * 5 + Duration::from_millis(2));
    assert!(del_full < del_empty * 5 + Duration::from_millis(2));
}
