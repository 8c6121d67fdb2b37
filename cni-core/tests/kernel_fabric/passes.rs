//! Passes when nothing is wrong: the first, those after it, updates, and the end of all.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use cni_core::fabric::{Removal, Thing};
use cni_core::host::monitor::KernelMonitor;
use cni_core::host::{KernelEvent, Monitor};

use crate::support::*;
use crate::tiny::{ALL, Tiny, Way};

/// What `ip` and `nft` see happen in the meantime, a line each, without what the kernel does by itself.
fn happens(body: impl FnOnce()) -> Vec<String> {
    let watch = |command: &mut Command| {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines.map(Result::unwrap))
    };
    let (mut ip, mut ip_lines) = watch(Command::new("ip").args(["-o", "monitor", "all"]));
    let (mut nft, mut nft_lines) = watch(Command::new("nft").arg("monitor"));
    // They listen once they have seen something.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let relaxed = std::sync::atomic::Ordering::Relaxed;
            // nft begins with a list of all, which it reads anew when something changes meanwhile.
            let mut pause = Duration::from_millis(10);
            while !stop.load(relaxed) {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(2));
                shell("ip link add first type bridge; ip link del first; nft add table inet first; nft delete table inet first");
            }
        });
        assert!(ip_lines.any(|line| line.contains("first")));
        assert!(nft_lines.any(|line| line.contains("first")));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    body();
    shell(
        "ip link add last type bridge; ip link del last; nft add table inet last; nft delete table inet last",
    );
    let by_itself = ["first", "fe80", "ff00::/8", "lladdr", "NETCONF"];
    let told = |line: &String| !by_itself.iter().any(|word| line.contains(word));
    let mut all: Vec<String> = ip_lines
        .take_while(|line| !line.contains("last"))
        .filter(told)
        .collect();
    let of_nft = nft_lines.take_while(|line| !line.contains("last"));
    all.extend(of_nft.filter(|line| !line.contains("generation") && !line.contains("first")));
    for child in [&mut ip, &mut nft] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    all
}

pub(crate) fn a_second_pass_writes_nothing_and_the_kernel_tells_of_nothing() {
    cni_testkit::require(Command::new("nft").arg("-v").output().ok(), "nftables");
    let world = World::new();
    for way in ALL {
        let tiny = Tiny::new(way);
        let mut engine = world.engine(tiny);
        let first = full(&mut engine, &peers(3));
        assert!(first.changes() > 20 && first.drifted == 0, "{first:?}");
        if way != Way::HostGateway {
            // The kernel tells of an IPv6 address, and makes its route, a moment after it was added.
            shell(
                "for i in $(seq 3000); do ip -6 route show table local dev vx0 | grep -q ^local.fd00 && exit; sleep 0.01; done; exit 1",
            );
        }
        let settled = world.state();
        world.faults.reset();
        let told = happens(|| {
            for _ in 0..2 {
                assert_eq!(full(&mut engine, &peers(3)).changes(), 0, "{way:?}");
                // As a process that begins anew.
                engine = world.engine(tiny);
            }
            let nothing = wait(engine.update(&view(&peers(3)), &[]));
            assert_eq!(nothing.changes(), 0);
            assert!(compare(&engine, &peers(3)).is_empty());
        });
        assert_eq!(told, [""; 0], "{way:?}");
        assert_eq!(world.faults.writes(), 0, "{way:?}");
        world.state().assert_unchanged_since(&settled);
        assert!(wait(engine.cleanup()).is_complete());
    }
}

pub(crate) fn an_update_ends_as_a_fresh_start() {
    let world = World::new();
    for way in ALL {
        let mut other = peers(5);
        remove(&mut other, 2);
        peer(&mut other, 3).underlay = underlay(8);
        peer(&mut other, 4).prefixes = vec![parsed("10.244.4.0/25"), parsed("fd00:244:44::/64")];
        let mut engine = world.engine(Tiny::new(way));
        full(&mut engine, &other);
        let wanted = world.state();
        wait(engine.cleanup());

        let mut now = view(&peers(3));
        wait(engine.full(&now, Removal::Allowed));
        let changes = now.apply(reset(&other));
        let report = wait(engine.update(&now, &changes));
        assert!(report.is_complete(), "{way:?} {report:#?}");
        world.state().assert_unchanged_since(&wanted);

        // One that the base has nothing to do with: nothing but its own entries.
        let mut moved = other.clone();
        peer(&mut moved, 5).underlay = underlay(9);
        let changes = now.apply(reset(&moved));
        world.faults.reset();
        let report = wait(engine.update(&now, &changes));
        assert!(report.is_complete() && !report.made.contains_key(&Thing::Table));
        let of = |thing| report.made.get(&thing).copied().unwrap_or_default();
        let (hops, routes) = (of(Thing::NextHop), of(Thing::Route));
        // A forwarding entry leads elsewhere; or next hops come, routes change over to them, and the former ones go.
        let (count, replaced) = match way {
            Way::Classic => (0, of(Thing::Fdb).replaced),
            Way::Flow => (1, routes.replaced / 2),
            Way::HostGateway => (2, routes.replaced / 2),
        };
        assert_eq!((hops.added, hops.removed), (count, count), "{report:?}");
        assert_eq!(replaced, 1, "{way:?} {report:?}");
        assert_eq!(hops.replaced, 0, "{way:?} {report:?}");
        assert_eq!(full(&mut engine, &moved).changes(), 0);
        assert!(wait(engine.cleanup()).is_complete());
    }
}

pub(crate) fn cleanup_leaves_what_it_found() {
    let world = World::new();
    shell(
        "ip link add vx7 type vxlan id 7 dstport 8473 local 192.0.2.100 nolearning
        ip link set vx7 alias other
        ip link set vx7 up
        bridge fdb append 02:00:00:00:00:07 dev vx7 dst 192.0.2.7
        ip neigh add 10.9.0.1 lladdr 02:00:00:00:00:07 dev vx7 nud permanent
        ip nexthop add id 7 via 192.0.2.7 dev eth0
        ip route add 10.244.7.0/24 nhid 7
        ip route add 10.244.1.0/24 via 192.0.2.7 metric 50
        ip route add default via 192.0.2.1
        ip -6 route add fd00:244:1::/64 via 2001:db8::7
        ip rule add from 10.9.0.0/24 lookup 99
        sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
    );
    shell("ip -6 route add fd00:244:100::/64 via 2001:db8::7 metric 2048");
    let before = world.state();
    for way in ALL {
        let mut engine = world.engine(Tiny::new(way));
        full(&mut engine, &peers(3));
        assert!(!world.state().since(&before).contains("- "), "{way:?}");
        let report = wait(engine.cleanup());
        assert!(report.is_complete() && report.changes() > 10, "{report:?}");
        world.state().assert_unchanged_since(&before);
        // A process that has never seen any of it, and finds nothing.
        let again = wait(world.engine(Tiny::new(way)).cleanup());
        assert_eq!((again.changes(), again.errors.len()), (0, 0), "{again:?}");
    }
}

pub(crate) fn what_others_do_to_nftables_is_no_concern() {
    cni_testkit::require(Command::new("nft").arg("-v").output().ok(), "nftables");
    let world = World::new();
    let mut engine = world.engine(Tiny::new(Way::Flow));
    full(&mut engine, &peers(2));
    let mut monitor = KernelMonitor::open().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut next = || loop {
        let event = runtime.block_on(monitor.next());
        if matches!(event, KernelEvent::Firewall { .. }) {
            return event;
        }
    };
    shell(
        "nft 'add table ip kube-proxy; add set ip kube-proxy s { type ipv4_addr; }; add element ip kube-proxy s { 192.0.2.1, 192.0.2.2 }; add chain ip kube-proxy c; add table inet second'",
    );
    for _ in ["kube-proxy", "second"] {
        let event = next();
        assert!(!engine.concerns(&event), "{event:?}");
    }
    // Its own transactions are not told at all, so that the next thing is what another program does to the table.
    full(&mut engine, &peers(3));
    for damage in [
        format!("nft flush chain {} input", table()),
        format!(
            "nft delete element {} from44_32 '{{ 192.0.2.2 . 192.0.2.2 }}'",
            table()
        ),
        "nft flush ruleset".to_owned(),
    ] {
        shell(&damage);
        let event = next();
        let expected = KernelEvent::Firewall { table: table() };
        if damage.ends_with("ruleset") {
            let mut all = vec![event, next(), next()];
            all.retain(|event| engine.concerns(event));
            assert_eq!(all, [expected]);
        } else {
            assert_eq!(event, expected, "{damage}");
            assert!(engine.concerns(&event));
        }
        assert!(full(&mut engine, &peers(3)).drifted > 0, "{damage}");
    }
}
