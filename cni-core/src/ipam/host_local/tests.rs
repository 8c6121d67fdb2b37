use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::ipam::{ADDRESS_TAKEN, ALREADY_HELD, EXHAUSTED};
use crate::spec::{Dns, Route};

const SMALL: &str = r#""ranges":[[{"subnet":"10.1.0.0/29"}],[{"subnet":"fd00::/120"}]]"#;

/// A store in a directory of its own.
struct Node {
    dir: TempDir,
    ipam: String,
    rest: String,
    args: String,
    version: &'static str,
}

impl Node {
    fn new(ipam: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            ipam: ipam.to_owned(),
            rest: String::new(),
            args: String::new(),
            version: "1.1.0",
        }
    }

    fn config(&self) -> NetworkConfig {
        let json = format!(
            r#"{{"cniVersion":"{}","name":"net","type":"t",{}"ipam":{{"type":"host-local","dataDir":"{}",{}}}}}"#,
            self.version,
            self.rest,
            self.dir.path().display(),
            self.ipam
        );
        NetworkConfig::parse(json.as_bytes()).unwrap()
    }

    fn with<T>(&self, name: &str, ask: impl FnOnce(&IpamRequest<'_>) -> T) -> T {
        let (container, interface) = name.split_once('/').unwrap_or((name, "eth0"));
        let attachment = attachment(container, interface);
        ask(&IpamRequest {
            attachment: &attachment,
            netns: None,
            config: &self.config(),
            args: &CniArgs::parse(&self.args).unwrap(),
            cancel: &Cancel::new(),
        })
    }

    fn try_add(&self, name: &str) -> Result<Vec<String>> {
        let result = self.with(name, |request| now(HostLocal::new().allocate(request)))?;
        Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
    }

    fn add(&self, name: &str) -> Vec<String> {
        self.try_add(name).unwrap()
    }

    fn add_first(&self, name: &str) -> String {
        self.add(name).remove(0)
    }

    fn del(&self, name: &str) {
        self.with(name, |request| now(HostLocal::new().release(request)))
            .unwrap();
    }

    fn held(&self, name: &str) -> Vec<String> {
        let held = self
            .with(name, |request| now(HostLocal::new().held(request)))
            .unwrap();
        held.unwrap().iter().map(IpNetwork::to_string).collect()
    }

    fn check(&self, name: &str) -> Result<()> {
        self.with(name, |request| now(HostLocal::new().check(request)))
    }

    fn preview(&self, name: &str) -> Result<Vec<String>> {
        let result = self
            .with(name, |request| now(HostLocal::new().preview(request)))?
            .unwrap();
        Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
    }

    fn gc(&self, valid: &[&str]) {
        let pairs = valid.iter().map(|name| {
            let (container, interface) = name.split_once('/').unwrap_or((name, "eth0"));
            (container.parse().unwrap(), interface.parse().unwrap())
        });
        let valid = ValidAttachments::new(pairs);
        let network = "net".parse().unwrap();
        now(HostLocal::new().gc(&network, &self.config(), &valid)).unwrap();
    }

    fn status(&self) -> Result<()> {
        now(HostLocal::new().status(&"net".parse().unwrap(), &self.config()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("net").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path("")).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    /// The record files, sorted.
    fn records(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(""))
            .map(|entries| {
                entries
                    .map(|e| e.unwrap().file_name().into_string().unwrap())
                    .collect()
            })
            .unwrap_or_default();
        names.retain(|name| name.parse::<IpAddr>().is_ok());
        names.sort();
        names
    }
}

fn attachment(container: &str, interface: &str) -> Attachment {
    Attachment {
        network: "net".parse().unwrap(),
        container: container.parse().unwrap(),
        interface: interface.parse().unwrap(),
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn kind(node: &Node, name: &str) -> ErrorKind {
    node.try_add(name).unwrap_err().kind()
}

#[test]
fn the_store_is_the_references_to_the_byte() {
    let node = Node::new(SMALL);
    assert_eq!(node.add("c1"), ["10.1.0.2/29", "fd00::2/120"]);
    let mode = |name: &str| fs::metadata(node.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(fs::read(node.path("10.1.0.2")).unwrap(), b"c1\r\neth0");
    assert_eq!(fs::read(node.path("fd00::2")).unwrap(), b"c1\r\neth0");
    assert_eq!(
        fs::read(node.path("last_reserved_ip.0")).unwrap(),
        b"10.1.0.2"
    );
    assert_eq!(
        fs::read(node.path("last_reserved_ip.1")).unwrap(),
        b"fd00::2"
    );
    assert_eq!(fs::read(node.path("lock")).unwrap(), b"");
    assert_eq!(mode("10.1.0.2"), 0o600);
    assert_eq!(mode("last_reserved_ip.0"), 0o600);
    assert_eq!(mode("lock"), 0o750);
    assert_eq!(mode(""), 0o755);
    let mut names: Vec<_> = fs::read_dir(node.path(""))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "10.1.0.2",
            "fd00::2",
            "last_reserved_ip.0",
            "last_reserved_ip.1",
            "lock"
        ]
    );
}

#[test]
fn addresses_go_round_and_come_back() {
    let node = Node::new(r#""subnet":"10.1.0.0/29""#);
    for (name, ip) in [("a", 2), ("b", 3), ("c", 4), ("d", 5), ("e", 6)] {
        assert_eq!(node.add_first(name), format!("10.1.0.{ip}/29"));
    }
    assert_eq!(kind(&node, "f"), EXHAUSTED);
    node.del("b");
    node.del("d");
    assert_eq!(node.add_first("f"), "10.1.0.3/29");
    assert_eq!(node.add_first("g"), "10.1.0.5/29");
    assert_eq!(kind(&node, "h"), EXHAUSTED);
    assert_eq!(node.held("g"), ["10.1.0.5/29"]);
}

#[test]
fn exhaustion_names_the_set_and_status_says_it_beforehand() {
    let node = Node::new(r#""subnet":"10.1.0.0/30""#);
    assert!(node.status().is_ok());
    assert!(!node.path("").exists(), "STATUS makes nothing");
    node.add("a");
    let error = node.try_add("b").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("range set 0 (10.1.0.1-10.1.0.2)"),
        "{error}"
    );
    assert!(error.to_string().contains("all 1 are reserved"), "{error}");
    assert_eq!(node.status().unwrap_err().kind(), ErrorKind::NotAvailable);
    // Also when the index does not know, or the store is locked by somebody else.
    fs::remove_dir_all(node.dir.path().join(".index")).unwrap();
    assert_eq!(node.status().unwrap_err().kind(), ErrorKind::NotAvailable);
    let lock = fs::File::open(node.path("lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(node.status().unwrap_err().kind(), ErrorKind::NotAvailable);
    drop(lock);
    node.del("a");
    assert!(node.status().is_ok());
}

#[test]
fn a_second_address_for_one_attachment_is_refused_with_advice() {
    let node = Node::new(SMALL);
    node.add("c1");
    let error = node.try_add("c1").unwrap_err();
    assert_eq!(error.kind(), ALREADY_HELD);
    assert!(error.to_string().contains("DEL the attachment"), "{error}");
    assert_eq!(node.add("c1/eth1"), ["10.1.0.3/29", "fd00::3/120"]);
    node.del("c1");
    assert_eq!(node.records(), ["10.1.0.3", "fd00::3"]);
    assert!(node.check("c1").is_err());
    assert!(node.check("c1/eth1").is_ok());
}

#[test]
fn requested_addresses_are_served_or_refused() {
    let mut node = Node::new(SMALL);
    node.args = "IP=10.1.0.5".into();
    assert_eq!(node.add("a"), ["10.1.0.5/29", "fd00::2/120"]);
    assert_eq!(kind(&node, "b"), ADDRESS_TAKEN);
    node.args = "IgnoreUnknown=1;K8S_POD_NAME=x".into();
    node.rest = r#""runtimeConfig":{"ips":["fd00::9/120","10.1.0.4/29"]},"#.into();
    assert_eq!(node.add("b"), ["10.1.0.4/29", "fd00::9/120"]);
    node.rest = r#""args":{"cni":{"ips":["10.1.0.2"]}},"#.into();
    assert_eq!(node.add_first("c"), "10.1.0.2/29");
    for wrong in ["10.1.0.1", "10.9.0.1", "10.1.0.7"] {
        node.rest = format!(r#""args":{{"cni":{{"ips":["{wrong}"]}}}},"#);
        assert_eq!(kind(&node, "d"), ErrorKind::InvalidConfig, "{wrong}");
        assert_eq!(
            node.preview("d").unwrap_err().kind(),
            ErrorKind::InvalidConfig
        );
    }
    // Two of one set: only one can be served.
    node.rest = r#""runtimeConfig":{"ips":["10.1.0.3","10.1.0.6"]},"#.into();
    assert_eq!(kind(&node, "d"), ErrorKind::InvalidConfig);
    node.rest = String::new();
    node.args = "FOO=1".into();
    assert_eq!(kind(&node, "d"), ErrorKind::InvalidEnvironment);
    assert_eq!(
        node.records().len(),
        6,
        "nothing is left of what was refused"
    );
}

#[test]
fn a_set_that_is_exhausted_gives_back_what_the_sets_before_it_gave() {
    let node = Node::new(r#""ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.2.0.0/30"}]]"#);
    node.add("a");
    let before = node.records();
    assert_eq!(kind(&node, "b"), EXHAUSTED);
    assert_eq!(node.records(), before);
    node.del("a");
    assert_eq!(node.add("b")[1], "10.2.0.2/30");
}

#[test]
fn range_sets_of_the_runtime_come_first_then_the_old_single_range() {
    let mut node = Node::new(
        r#""subnet":"10.2.0.0/24","rangeStart":"10.2.0.10","rangeEnd":"10.2.0.12","gateway":"10.2.0.11",
           "ranges":[[{"subnet":"10.3.0.0/24"}]],"RANGESTART":"10.2.0.99""#,
    );
    node.rest =
        r#""runtimeConfig":{"ipRanges":[[{"subnet":"10.4.0.0/24","rangeStart":"10.4.0.7"}]]},"#
            .into();
    assert_eq!(
        node.add("a"),
        ["10.4.0.7/24", "10.2.0.10/24", "10.3.0.2/24"]
    );
    assert_eq!(
        node.add("b"),
        ["10.4.0.8/24", "10.2.0.12/24", "10.3.0.3/24"]
    );
    node.version = "0.2.0";
    assert_eq!(kind(&node, "c"), ErrorKind::InvalidConfig);
}

#[test]
fn wrong_configurations_are_refused_and_leave_nothing() {
    for wrong in [
        r#""ranges":[]"#,
        r#""ranges":[[]]"#,
        r#""ranges":[[{}]]"#,
        r#""subnet":"10.1.0.5/24""#,
        r#""subnet":"10.1.0.0""#,
        r#""subnet":"10.1.0.0/31""#,
        r#""subnet":"10.1.0.0/24","ranges":[[{"subnet":"10.1.0.128/25"}]]"#,
        r#""ranges":[[{"subnet":"10.1.0.0/24"},{"subnet":"fd00::/64"}]]"#,
        r#""subnet":"10.1.0.0/24","rangeStart":"x""#,
        r#""subnet":"10.1.0.0/24","resolvConf":"/nonexistent""#,
        r#""subnet":"10.1.0.0/24","routes":[{"dst":"x"}]"#,
    ] {
        let node = Node::new(wrong);
        let error = node.try_add("a").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{wrong}: {error}");
        assert!(!node.path("").exists(), "{wrong}");
        // DEL needs nothing of it.
        node.del("a");
    }
    for wrong in [
        r#""ranges":{}"#,
        r#""subnet":5"#,
        r#""routes":5"#,
        r#""ranges":[5]"#,
    ] {
        assert_eq!(kind(&Node::new(wrong), "a"), ErrorKind::Decode, "{wrong}");
    }
}

#[test]
fn routes_and_dns_are_part_of_the_answer() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "nameserver 192.0.2.1\nsearch a.test\n").unwrap();
    let node = Node::new(&format!(
        r#""subnet":"10.1.0.0/24","resolvConf":"{}","routes":[{{"dst":"0.0.0.0/0","gw":"10.1.0.9","mtu":1400,
           "advmss":1360,"priority":7,"table":100,"scope":200}}]"#,
        file.path().display()
    ));
    let result = node
        .with("a", |request| now(HostLocal::new().allocate(request)))
        .unwrap();
    let route: &Route = &result.routes[0];
    assert_eq!(route.gw, "10.1.0.9".parse().ok());
    assert_eq!((route.mtu, route.advmss, route.priority), (1400, 1360, 7));
    assert_eq!((route.table, route.scope), (Some(100), Some(200)));
    let dns: &Dns = &result.dns;
    assert_eq!(
        (&dns.nameservers[0][..], &dns.search[0][..]),
        ("192.0.2.1", "a.test")
    );
    assert_eq!(result.ips[0].gateway, "10.1.0.1".parse().ok());
}

#[test]
fn a_preview_says_what_an_allocation_would_and_writes_nothing() {
    let node = Node::new(SMALL);
    assert_eq!(node.preview("a").unwrap(), ["10.1.0.2/29", "fd00::2/120"]);
    assert_eq!(fs::read_dir(node.dir.path()).unwrap().count(), 0);
    node.add("a");
    let before = fs::metadata(node.path("")).unwrap().modified().unwrap();
    let preview = node.preview("b").unwrap();
    assert_eq!(node.preview("a").unwrap_err().kind(), ALREADY_HELD);
    assert_eq!(
        fs::metadata(node.path("")).unwrap().modified().unwrap(),
        before
    );
    assert_eq!(node.add("b"), preview);
}

#[test]
fn releasing_what_is_not_held_succeeds_and_makes_nothing() {
    let node = Node::new(SMALL);
    node.del("a");
    assert_eq!(fs::read_dir(node.dir.path()).unwrap().count(), 0);
    node.add("a");
    node.del("b");
    node.del("a");
    node.del("a");
    assert!(node.records().is_empty());
    assert!(node.held("a").is_empty());
}

#[test]
fn records_without_an_interface_belong_to_the_container() {
    let node = Node::new(SMALL);
    node.write("10.1.0.2", "old\n");
    assert_eq!(node.held("old"), ["10.1.0.2/29"]);
    assert!(node.check("old").is_ok());
    assert_eq!(kind(&node, "old"), ALREADY_HELD);
    node.gc(&["old/eth7"]);
    assert_eq!(node.records(), ["10.1.0.2"]);
    node.del("old");
    assert!(node.records().is_empty());
    // They are let go only when there is none with the interface.
    node.write("10.1.0.2", "c");
    node.write("10.1.0.3", "c\r\neth0");
    node.del("c");
    assert_eq!(node.records(), ["10.1.0.2"]);
    node.del("c");
    assert!(node.records().is_empty());
}

#[test]
fn an_empty_record_has_no_owner_and_its_address_is_reused() {
    let node = Node::new(r#""subnet":"10.1.0.0/29""#);
    for ip in 2..=6 {
        node.write(
            &format!("10.1.0.{ip}"),
            if ip == 4 { "" } else { "x\r\neth0" },
        );
    }
    assert!(node.status().is_ok());
    assert_eq!(node.preview("a").unwrap(), ["10.1.0.4/29"]);
    assert_eq!(node.add_first("a"), "10.1.0.4/29");
    assert_eq!(fs::read(node.path("10.1.0.4")).unwrap(), b"a\r\neth0");
    assert_eq!(kind(&node, "b"), EXHAUSTED);
}

#[test]
fn collection_keeps_exactly_what_is_valid() {
    let node = Node::new(SMALL);
    for name in ["a", "b", "c", "c/eth1"] {
        node.add(name);
    }
    node.write("10.1.0.6", "");
    node.gc(&["a", "c/eth1", "never"]);
    assert_eq!(
        node.records(),
        ["10.1.0.2", "10.1.0.5", "fd00::2", "fd00::5"]
    );
    assert!(node.path("lock").exists() && node.path("last_reserved_ip.0").exists());
    assert_eq!(node.held("c/eth1"), ["10.1.0.5/29", "fd00::5/120"]);
    node.gc(&[]);
    assert!(node.records().is_empty());
    assert_eq!(node.add_first("b"), "10.1.0.6/29");
}

#[test]
fn changes_behind_our_back_are_seen_even_within_one_tick_of_the_clock() {
    let node = Node::new(r#""subnet":"10.1.0.0/28""#);
    for round in 0..50 {
        let mine = format!("mine{round}");
        let ip = node.add_first(&mine);
        let ip = ip.trim_end_matches("/28");
        // Somebody else's plugin takes the record for itself, and another one.
        fs::remove_file(node.path(ip)).unwrap();
        node.write(ip, "theirs\r\neth0");
        assert!(node.held(&mine).is_empty());
        assert_eq!(node.held("theirs").len(), 1);
        node.del("theirs");
        assert!(node.records().is_empty());
    }
}

#[test]
fn a_process_killed_between_any_two_steps_leaves_a_store_that_works() {
    let node = Node::new(r#""subnet":"10.1.0.0/29""#);
    node.add("a");
    let index = node.dir.path().join(".index/net");
    let fresh = node.dir.path().join(".index/.net.new");
    // Killed after the link: record and fresh file are one file, the index knows nothing.
    let saved = fs::read(&index).unwrap();
    fs::write(&fresh, "b\r\neth0").unwrap();
    fs::hard_link(&fresh, node.path("10.1.0.3")).unwrap();
    assert_eq!(node.add_first("c"), "10.1.0.4/29".replace(".4", ".4"));
    assert_eq!(fs::read(node.path("10.1.0.3")).unwrap(), b"b\r\neth0");
    assert!(!fresh.exists());
    // An older index comes back, or half of one, or nonsense.
    for content in [
        saved.clone(),
        saved[..200].to_vec(),
        b"nonsense".to_vec(),
        Vec::new(),
    ] {
        fs::write(&index, content).unwrap();
        assert_eq!(node.held("c"), ["10.1.0.4/29"]);
        assert_eq!(kind(&node, "b"), ALREADY_HELD);
    }
    // Half of a record of the set's last address.
    fs::write(node.path("last_reserved_ip.0"), "10.1.").unwrap();
    assert_eq!(node.add_first("d"), "10.1.0.5/29");
    // The directory is taken away whole: the index describes another one.
    fs::remove_dir_all(node.path("")).unwrap();
    assert!(node.held("d").is_empty());
    assert_eq!(node.add_first("d"), "10.1.0.2/29");
}

#[test]
fn a_store_whose_index_cannot_be_kept_works_without() {
    let node = Node::new(r#""subnet":"10.1.0.0/29""#);
    fs::write(node.dir.path().join(".index"), "in the way").unwrap();
    assert_eq!(node.add_first("a"), "10.1.0.2/29");
    assert_eq!(node.add_first("b"), "10.1.0.3/29");
    assert_eq!(
        fs::metadata(node.path("10.1.0.3"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    node.del("a");
    assert_eq!(node.records(), ["10.1.0.3"]);
    assert_eq!(node.held("b"), ["10.1.0.3/29"]);
}

#[test]
fn a_wait_for_the_lock_ends_with_the_deadline_and_reserves_nothing() {
    let node = Node::new(SMALL);
    node.add("a");
    let lock = fs::File::open(node.path("lock")).unwrap();
    lock.lock().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_millis(30);
    let error = node.with("b", |request| {
        let request = IpamRequest {
            cancel: &Cancel::new().with_deadline(deadline),
            ..*request
        };
        now(HostLocal::new().allocate(&request)).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    drop(lock);
    assert_eq!(node.add_first("b"), "10.1.0.3/29");
}

#[test]
fn the_index_outgrows_its_first_size_and_stays_right() {
    let node = Node::new(r#""ranges":[[{"subnet":"10.1.0.0/16"}],[{"subnet":"fd00::/64"}]]"#);
    for n in 0..300 {
        node.add(&format!("c{n}"));
    }
    for n in (0..300).step_by(3) {
        node.del(&format!("c{n}"));
    }
    for n in 0..300 {
        assert_eq!(
            node.held(&format!("c{n}")).len(),
            if n % 3 == 0 { 0 } else { 2 },
            "{n}"
        );
    }
    assert_eq!(node.records().len(), 400);
}
