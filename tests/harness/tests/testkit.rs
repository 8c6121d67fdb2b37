//! The test kit tested: what it promises to a test, and that it sees what it claims to see.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use cni_testkit::{
    Fate, Invocation, Ping, Pod, Snapshot, TcpEcho, UdpEcho, at_every_moment, ping, require, tests,
};

fn a_test_is_root_in_a_namespace_that_has_only_lo() {
    let state = Snapshot::take();
    assert_eq!(state.lines("link ").len(), 1, "{state:?}");
    assert_eq!(state.lines("link lo ").len(), 1, "{state:?}");
    assert_eq!(state.lines("nft ").len(), 0, "{state:?}");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding is the test's own");
    assert_eq!(
        cni_testkit::sysctl("net/ipv4/ip_forward").as_deref(),
        Some("1")
    );
}

fn run_and_var_lib_are_empty_and_the_tests_own() {
    for directory in ["/run", "/var/lib"] {
        assert_eq!(
            std::fs::read_dir(directory).unwrap().count(),
            0,
            "{directory}"
        );
    }
    let before = Snapshot::take();
    std::fs::create_dir_all("/var/lib/cni/networks").unwrap();
    let changes = Snapshot::take().since(&before);
    assert!(
        changes.contains("+ directory /var/lib/cni/networks"),
        "{changes}"
    );
}

fn a_pod_pings_itself_in_both_families() {
    let pod = Pod::new("pod");
    ping(&pod, "127.0.0.1").unwrap();
    ping(&pod, "::1").unwrap();
    pod.run(|| Ping::to("127.0.0.1").from("127.0.0.2").size(1400).send())
        .unwrap();
}

fn a_ping_without_a_route_is_an_error_at_once() {
    let pod = Pod::new("pod");
    let error = ping(&pod, "192.0.2.1").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NetworkUnreachable);
}

fn pods_do_not_share_addresses_with_the_node_or_each_other() {
    let (one, other) = (Pod::new("pod"), Pod::new("pod"));
    assert_ne!(one.path(), other.path());
    let _server = UdpEcho::start(&one, "127.0.0.1:7");
    let seen = one.run(|| UdpEcho::ask("127.0.0.1:7")).unwrap();
    assert_eq!(seen.ip(), "127.0.0.1".parse::<IpAddr>().unwrap());
    assert!(other.run(|| UdpEcho::ask("127.0.0.1:7")).is_err());
    assert!(UdpEcho::ask("127.0.0.1:7").is_err());
}

fn a_tcp_server_tells_what_address_it_saw() {
    let pod = Pod::new("pod");
    let _server = TcpEcho::start(&pod, "[::]:7");
    let seen = pod.run(|| TcpEcho::ask("[::1]:7")).unwrap();
    assert_eq!(seen.ip(), "::1".parse::<IpAddr>().unwrap());
}

fn a_dropped_pod_leaves_no_file() {
    let pod = Pod::new("pod");
    let path = pod.path().to_owned();
    assert!(path.exists());
    drop(pod);
    assert!(!path.exists());
}

fn a_programs_two_documents_are_not_taken_for_one() {
    let outcome = Invocation::new("/bin/sh", "ADD").run();
    assert!(outcome.is_success() && outcome.output.stdout.is_empty());
    outcome.silent_success();
    let caught = std::panic::catch_unwind(|| Invocation::new("/bin/echo", "ADD").run().result());
    assert!(caught.is_err());
}

fn a_program_runs_in_the_pods_namespace() {
    let pod = Pod::new("pod");
    let before = Snapshot::of(&pod);
    let node = Snapshot::take();
    let ip = require(which("ip"), "iproute2");
    let script = format!("{ip} link add name br0 type bridge; {ip} addr add 10.9.0.1/24 dev br0");
    pod.run(|| {
        std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .status()
    })
    .unwrap();
    let changes = Snapshot::of(&pod).since(&before);
    assert!(changes.contains("+ link br0 "), "{changes}");
    assert!(changes.contains("10.9.0.1/24"), "{changes}");
    Snapshot::take().assert_unchanged_since(&node);
}

fn a_capture_sees_who_sent_a_frame_and_who_announced_itself() {
    let ip = require(which("ip"), "iproute2");
    let pod = Pod::new("pod");
    let script = format!(
        "{ip} link add veth-a type veth peer name veth-b && {ip} link set veth-a up && \
         {ip} link set veth-b up && \
         {ip} addr add 10.9.0.1/24 dev veth-a"
    );
    pod.run(|| {
        std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .status()
    })
    .unwrap();
    let capture = cni_testkit::Capture::start(&pod, "veth-b");
    let _ = ping(&pod, "10.9.0.2").map(|_| panic!("nobody has this address"));
    let frame = capture
        .find(Duration::from_secs(20), |frame| {
            frame.ethertype() == Some(0x0806)
        })
        .expect("an ARP request");
    assert!(!frame.outgoing);
    let news = frame
        .neighbour_news()
        .expect("an ARP request tells its sender");
    assert_eq!(news.address, "10.9.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(Some(news.mac), frame.source_mac());
    assert!(!news.unasked);
    let mut gratuitous = frame.bytes.clone();
    gratuitous.copy_within(28..32, 38);
    let sender = cni_testkit::Capture::start(&pod, "veth-a");
    sender.send(&gratuitous).unwrap();
    let frame = capture.find(Duration::from_secs(20), |frame| {
        frame.neighbour_news().is_some_and(|news| news.unasked)
    });
    assert!(frame.is_some());
}

fn the_snapshot_shows_nftables_but_not_counters() {
    let nft = require(which("nft"), "nftables");
    let rules = "table inet t { set s { type ipv4_addr; elements = { 10.0.0.1 comment \"mark\" } }; \
                 chain c { type filter hook output priority 0; counter accept comment \"ours\"; }; }";
    let run = |text: &str| {
        std::process::Command::new(&nft)
            .arg(text)
            .status()
            .unwrap()
            .success()
    };
    let empty = Snapshot::take();
    assert!(run(rules));
    let full = Snapshot::take();
    let changes = full.since(&empty);
    for kind in ["table", "chain", "rule", "set", "element"] {
        assert!(
            changes.contains(&format!("+ nft {kind}")),
            "{kind}: {changes}"
        );
    }
    Ping::to("127.0.0.1").send().unwrap();
    Snapshot::take().assert_unchanged_since(&full);
    assert!(run("delete table inet t"));
    Snapshot::take().assert_unchanged_since(&empty);
}

fn the_snapshot_shows_next_hops() {
    let ip = require(which("ip"), "iproute2");
    let pod = Pod::new("pod");
    let before = Snapshot::of(&pod);
    pod.run(|| {
        let mut add = std::process::Command::new(&ip);
        add.args(["nexthop", "add", "id", "7", "dev", "lo", "protocol", "167"]);
        add.status()
    })
    .unwrap();
    let changes = Snapshot::of(&pod).since(&before);
    assert_eq!(
        changes,
        "+ next hop family=2 protocol=167 dev lo 1=07000000\n"
    );
}

/// A program that reads its stdin first.
fn script(text: &str) -> Invocation {
    use std::os::unix::fs::PermissionsExt;
    let path = "/run/program";
    std::fs::write(path, format!("#!/bin/sh\nread line\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all("/run/made").unwrap();
    Invocation::new(path, "ADD").stdin("line\n")
}

/// The files that there are, which are removed.
fn take_made() -> Vec<String> {
    let entries = std::fs::read_dir("/run/made").unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut made: Vec<String> = paths
        .map(|path| {
            std::fs::remove_file(&path).unwrap();
            path.file_name().unwrap().to_string_lossy().into_owned()
        })
        .collect();
    made.sort();
    made
}

fn a_program_is_killed_before_each_of_its_changes() {
    let program = script("cd /run/made; : > 1; : < 1; : > 2; echo done; : > 3");
    let mut seen = Vec::new();
    let died = at_every_moment(|number| {
        let fate = program.killed_at(number);
        if let Fate::Killed { outcome, .. } = &fate {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(outcome.output.status.signal(), Some(9), "{fate}: {outcome}");
        }
        seen.push((take_made().join(" "), fate.has_answered()));
        fate
    });
    let expected = [
        // The start, the first file, the second one.
        ("", false),
        ("", false),
        ("1", false),
        // The answer, the third file, the end; and nobody killed it.
        ("1 2", false),
        ("1 2", true),
        ("1 2 3", true),
        ("1 2 3", true),
    ];
    let expected: Vec<(String, bool)> = expected
        .map(|(made, answered)| (made.to_owned(), answered))
        .into();
    assert_eq!(seen, expected);
    assert_eq!(died, 6);
}

fn a_child_that_has_begun_outlives_the_killed_program() {
    let program = script("touch /run/made/child; : > /run/made/own");
    let mut seen = Vec::new();
    at_every_moment(|number| {
        let fate = program.killed_at(number);
        // A child holds the program's stdout, so it has ended.
        seen.push(take_made());
        fate
    });
    seen.dedup();
    let expected: [&[&str]; 3] = [&[], &["child"], &["child", "own"]];
    assert_eq!(seen, expected);
}

fn a_program_that_is_killed_leaves_the_tests_other_children_alone() {
    let program = script(": > /run/made/1");
    let mut other = std::process::Command::new("true").spawn().unwrap();
    assert!(matches!(program.killed_at(0), Fate::Killed { .. }));
    assert!(matches!(program.killed_at(99), Fate::Ended(_)));
    assert!(other.wait().unwrap().success());
}

fn which(program: &str) -> Option<String> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|directory| format!("{directory}/{program}"))
        .find(|path| std::path::Path::new(path).is_file())
}

fn main() -> ExitCode {
    cni_testkit::run(&tests![
        a_test_is_root_in_a_namespace_that_has_only_lo,
        run_and_var_lib_are_empty_and_the_tests_own,
        a_pod_pings_itself_in_both_families,
        a_ping_without_a_route_is_an_error_at_once,
        pods_do_not_share_addresses_with_the_node_or_each_other,
        a_tcp_server_tells_what_address_it_saw,
        a_dropped_pod_leaves_no_file,
        a_programs_two_documents_are_not_taken_for_one,
        a_program_runs_in_the_pods_namespace,
        a_capture_sees_who_sent_a_frame_and_who_announced_itself,
        the_snapshot_shows_nftables_but_not_counters,
        the_snapshot_shows_next_hops,
        a_program_is_killed_before_each_of_its_changes,
        a_child_that_has_begun_outlives_the_killed_program,
        a_program_that_is_killed_leaves_the_tests_other_children_alone,
    ])
}
