//! What the tunnel's filter refuses.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use cni_core::fabric::{DropCount, DropReason};

use crate::support::*;
use crate::tiny::{Tiny, Way};

/// VXLAN-GPE with an IPv4 header inside.
fn tunnelled(vni: u32, source: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x0c, 0, 0, 1];
    packet.extend((vni << 8).to_be_bytes());
    packet.extend([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend([10, 244, 100, 5]);
    packet
}

pub(crate) fn what_the_filter_drops_is_counted_by_its_reason() {
    let world = World::new();
    full(&mut world.engine(Tiny::new(Way::Flow)), &peers(2));
    let counts = || -> Vec<(DropReason, u64, u64)> {
        let state = wait(world.host.firewall.table(&table())).unwrap().unwrap();
        let all = DropCount::of(&state).into_iter();
        let dropped = all.filter(|count| count.packets > 0);
        dropped
            .map(|count| (count.reason, count.packets, count.bytes))
            .collect()
    };
    assert_eq!(counts(), []);
    let pod = |n| Ipv4Addr::new(10, 244, n, 5);
    world.far.run(|| {
        shell(
            "ip address add 192.0.2.1/24 dev eth0
            ip address add 192.0.2.66/24 dev eth0",
        );
        let send = |from: &str, packet: Vec<u8>| {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            socket.send_to(&packet, ("192.0.2.100", 4790)).unwrap();
        };
        send("192.0.2.66", tunnelled(1, pod(1)));
        for vni in [2, 3] {
            send("192.0.2.1", tunnelled(vni, pod(1)));
        }
        for _ in 0..3 {
            send("192.0.2.1", tunnelled(1, pod(2)));
        }
        // As it should be.
        send("192.0.2.1", tunnelled(1, pod(1)));
    });
    let bytes = 20 + 8 + 8 + 20;
    let expected = [
        (DropReason::Vni, 2, 2 * bytes),
        (DropReason::Stranger, 1, bytes),
        (DropReason::Source, 3, 3 * bytes),
    ];
    let begin = Instant::now();
    while counts() != expected {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", counts());
    }
}
