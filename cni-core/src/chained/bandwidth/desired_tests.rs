use super::*;
use crate::host::netlink::LinkKind;
use crate::plan::{Observed, diff};

fn attachment() -> Attachment {
    Attachment {
        network: "podman".parse().unwrap(),
        container: "c1".parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    }
}

fn host_end(mtu: u32) -> Link {
    let mut link = Link::new(7, "veth1", LinkKind::Veth);
    link.mtu = mtu;
    link
}

const LIMIT: Limit = Limit {
    rate: 100_000_000,
    burst: 1_000_000,
};

fn plan(config: BandwidthConfig) -> String {
    let desired = desired(&attachment(), &host_end(1450), &config);
    diff(&desired, &Observed::default()).unwrap().to_string()
}

#[test]
fn both_directions_print_as_commands() {
    let config = BandwidthConfig {
        ingress: Some(LIMIT),
        egress: Some(Limit {
            rate: 8_000_000,
            ..LIMIT
        }),
    };
    insta::assert_snapshot!(plan(config), @r"
    tc qdisc add dev veth1 root handle c41: tbf rate 100000000bit burst 125000b limit 437500b
    ip link add ifbrnnixnsgtcl mtu 1450 address 36:00:0a:27:a6:ab type ifb
    tc qdisc add dev ifbrnnixnsgtcl root handle c41: tbf rate 8000000bit burst 125000b limit 150000b
    ip link set dev ifbrnnixnsgtcl addrgenmode none
    ip link set dev ifbrnnixnsgtcl up
    tc qdisc add dev veth1 ingress
    tc filter add dev veth1 ingress pref 3137 protocol all u32 match u32 0 0 action mirred egress redirect dev ifbrnnixnsgtcl
    ");
}

#[test]
fn what_goes_in_needs_no_device() {
    let config = BandwidthConfig {
        ingress: Some(LIMIT),
        egress: None,
    };
    assert_eq!(
        plan(config),
        "tc qdisc add dev veth1 root handle c41: tbf rate 100000000bit burst 125000b limit 437500b\n"
    );
}

#[test]
fn a_burst_has_room_for_a_packet_and_numbers_end_at_32_bits() {
    let small = Limit {
        rate: 800,
        burst: 456,
    };
    let tbf = bucket(small, 1500);
    assert_eq!((tbf.rate, tbf.burst, tbf.limit), (100, 1514, 1516));
    assert_eq!(raised(small, 1500), Some(1514 * 8));
    assert_eq!(raised(LIMIT, 1500), None);
    let large = Limit {
        rate: u64::MAX,
        burst: u64::from(u32::MAX) * 8 - 1,
    };
    let tbf = bucket(large, 1500);
    assert_eq!(
        (tbf.rate, tbf.burst, tbf.limit),
        (u64::MAX / 8, u32::MAX - 1, u32::MAX)
    );
}

#[test]
fn only_what_is_there_and_ours_is_removed() {
    let found = Tbf {
        rate: 125,
        burst: 1500,
        limit: 2000,
    };
    let state = crate::host::netlink::TbfState {
        rate: found.rate,
        ticks: found.ticks(),
        limit: found.limit,
    };
    let traffic = Traffic {
        tbf: Some(state),
        ingress: Some("ingress".into()),
        redirect: Some(3),
        ..Traffic::default()
    };
    let text = |traffic: &Traffic, ifb| limits_to_remove(Some(("a", traffic)), ifb).to_string();
    assert_eq!(
        text(&traffic, Some("ifb1")),
        "tc qdisc delete dev a ingress\ntc qdisc delete dev a root\nip link delete dev ifb1\n"
    );
    for (kind, other_filters) in [("clsact", false), ("ingress", true)] {
        let shared = Traffic {
            tbf: None,
            ingress: Some(kind.into()),
            other_filters,
            ..traffic.clone()
        };
        assert_eq!(
            text(&shared, None),
            "tc filter delete dev a ingress pref 3137 protocol all u32\n"
        );
    }
    let foreign = Traffic {
        foreign_root: Some("htb".into()),
        ingress: Some("ingress".into()),
        other_filters: true,
        ..Traffic::default()
    };
    assert!(limits_to_remove(Some(("a", &foreign)), None).is_empty());
    assert!(limits_to_remove(None, None).is_empty());
}
