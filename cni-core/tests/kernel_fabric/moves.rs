//! What moves does so under traffic.

use cni_core::fabric::Removal;

use crate::support::*;
use crate::tiny::{ALL, Tiny, Way};

pub(crate) fn prefixes_and_peers_move_without_a_lost_packet() {
    let world = World::new();
    for way in ALL {
        let mut engine = world.engine(Tiny::new(way));
        let mut cluster = peers(3);
        peer(&mut cluster, 1)
            .prefixes
            .push(parsed("10.244.50.0/24"));
        peer(&mut cluster, 1)
            .prefixes
            .push(parsed("fd00:244:50::/64"));
        let mut now = view(&cluster);
        assert!(wait(engine.full(&now, Removal::Allowed)).is_complete());
        let stream = Stream::to(&[
            "10.244.1.5",
            "fd00:244:1::5",
            "10.244.2.5",
            "10.244.50.5",
            "fd00:244:50::5",
        ]);
        stream.round();
        for step in 0..8 {
            let from = 1 + step % 2;
            let moved: Vec<_> = peer(&mut cluster, from).prefixes.split_off(2);
            peer(&mut cluster, 3 - from).prefixes.extend(moved);
            peer(&mut cluster, 1).underlay = underlay(4 + step % 3);
            let changes = now.apply(reset(&cluster));
            let report = match step % 4 {
                // A process that begins anew in between.
                3 => wait(world.engine(Tiny::new(way)).full(&now, Removal::Allowed)),
                2 => wait(engine.full(&now, Removal::Allowed)),
                _ => wait(engine.update(&now, &changes)),
            };
            if step % 4 == 3 {
                engine = world.engine(Tiny::new(way));
                assert_eq!(full(&mut engine, &cluster).changes(), 0);
            }
            assert!(report.is_complete(), "{way:?} {report:#?}");
            stream.round();
        }
        stream.end();
        assert!(wait(engine.cleanup()).is_complete());
    }
}

pub(crate) fn one_data_path_follows_another_without_a_lost_packet() {
    let world = World::new();
    let classic = Tiny::new(Way::Classic);
    let flow = Tiny {
        way: Way::Flow,
        device: "vx1",
    };
    let direct = Tiny::new(Way::HostGateway);
    let cluster = peers(5);
    let mut wanted = Vec::new();
    for tiny in [classic, flow, direct] {
        let mut engine = world.engine(tiny);
        full(&mut engine, &cluster);
        wanted.push(world.state());
        wait(engine.cleanup());
    }
    full(&mut world.engine(flow), &cluster);
    let stream = Stream::to(&["10.244.1.5", "fd00:244:1::5", "10.244.5.5", "fd00:244:5::5"]);
    for _ in 0..2 {
        for (tiny, wanted) in [
            (classic, &wanted[0]),
            (flow, &wanted[1]),
            (direct, &wanted[2]),
            (classic, &wanted[0]),
            (direct, &wanted[2]),
            (flow, &wanted[1]),
        ] {
            full(&mut world.engine(tiny), &cluster);
            stream.round();
            world.state().assert_unchanged_since(wanted);
            assert_eq!(full(&mut world.engine(tiny), &cluster).changes(), 0);
        }
    }
    stream.end();
}

pub(crate) fn a_device_of_another_kind_takes_the_place_of_the_first() {
    let world = World::new();
    for from in ALL {
        for to in ALL {
            let mut engine = world.engine(Tiny::new(to));
            full(&mut engine, &peers(3));
            let wanted = world.state();
            wait(engine.cleanup());
            // Of one name, whatever it is; and of one VNI by another name.
            for device in ["vx0", "vx9"] {
                let tiny = Tiny { way: from, device };
                full(&mut world.engine(tiny), &peers(3));
                full(&mut engine, &peers(3));
                world.state().assert_unchanged_since(&wanted);
                assert_eq!(full(&mut engine, &peers(3)).changes(), 0);
            }
            wait(engine.cleanup());
        }
    }
}
