//! Other programs' routes.

use crate::support::*;
use crate::tiny::{ALL, Tiny, Way};

pub(crate) fn a_foreign_route_stays_behind_ours_and_is_told_of() {
    let world = World::new();
    for way in ALL {
        for first in [true, false] {
            let mut engine = world.engine(Tiny::new(way));
            if !first {
                full(&mut engine, &peers(3));
            }
            shell(
                "ip route prepend 10.244.2.0/24 via 192.0.2.9
                ip -6 route add fd00:244:2::/64 via 2001:db8::9",
            );
            let report = full(&mut engine, &peers(3));
            let clashes = &report.clashes;
            assert_eq!(clashes.len(), 1, "{clashes:?}");
            assert!(clashes[0].contains("node n2"), "{clashes:?}");
            assert!(clashes[0].contains("10.244.2.0/24"), "{clashes:?}");
            // IPv6 routes of ours have the lower metric.
            let link = match way {
                Way::HostGateway => "eth0",
                _ => "vx0",
            };
            for to in ["10.244.2.5", "fd00:244:2::5"] {
                let got = shell(&format!("ip route get {to}"));
                assert!(got.contains(&format!("dev {link} ")), "{got}");
                assert!(!got.contains(":9 ") && !got.contains(".9 "), "{got}");
            }
            let again = full(&mut engine, &peers(3));
            assert_eq!((again.changes(), again.clashes.len()), (0, 1));
            // With a lower metric it wins, which only its owner can change.
            shell("ip -6 route add fd00:244:3::/64 via 2001:db8::9 metric 64");
            let report = full(&mut engine, &peers(3));
            assert_eq!((report.changes(), report.clashes.len()), (0, 2));
            assert!(
                report.clashes[1].contains("node n3"),
                "{:?}",
                report.clashes
            );
            wait(engine.cleanup());
            let left = shell("ip route show 10.244.2.0/24; ip -6 route show fd00:244:2::/64");
            assert_eq!(left.lines().count(), 2, "{left}");
            shell(
                "ip route del 10.244.2.0/24
                ip -6 route del fd00:244:2::/64
                ip -6 route del fd00:244:3::/64",
            );
        }
    }
}

pub(crate) fn a_gateway_inside_a_foreign_prefix_is_no_obstacle() {
    let world = World::new();
    let mut engine = world.engine(Tiny::new(Way::Classic));
    full(&mut engine, &peers(3));
    let mut wanted = vec![world.state()];
    wait(engine.cleanup());
    shell(
        "ip link add other type veth peer name otherpeer
        ip link set other up
        ip link set otherpeer up
        ip -6 route add fd00:244::/32 dev other",
    );
    let before = world.state();
    full(&mut engine, &peers(3));
    wanted.push(world.state());
    let [ours, all] = &wanted[..] else { panic!() };
    // All of ours is there, and nothing else: no route that was needed for a moment.
    let made = all.since(&before);
    for line in ours.lines("route ") {
        let proto = made.contains(line) || before.lines(line).len() == 1;
        assert!(proto, "{line} is not in\n{made}");
    }
    let got = shell("ip route get fd00:244:2::5");
    assert!(got.contains("dev vx0 "), "{got}");
    assert!(!made.contains("fd00:244:2::/128"), "{made}");
    assert_eq!(full(&mut engine, &peers(3)).changes(), 0);
    // A peer that comes later, in an update.
    let mut now = view(&peers(3));
    let changes = now.apply(reset(&peers(4)));
    world.faults.reset();
    let report = wait(engine.update(&now, &changes));
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(full(&mut engine, &peers(4)).changes(), 0);
}
