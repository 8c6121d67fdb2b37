//! VXLAN devices.

use std::net::IpAddr;

use super::build::{add, bridge, del, flow, master, pair, set, up, vxlan, vxlan_set, vxlan_with};
use super::cases::Case;
use super::{DONE, clear, find, link, make};
use crate::host::netlink::errno::{EADDRINUSE, EADDRNOTAVAIL, EEXIST, EINVAL, ENODEV, EOPNOTSUPP};
use crate::host::netlink::{Link, LinkKind, Netlink, NetlinkChange, Vxlan};

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

pub(super) fn cases() -> Vec<Case> {
    [creations(), devices_that_are_up(), changes()].concat()
}

fn plain(name: &str) -> NetlinkChange {
    vxlan(name, |_| {})
}

/// On top of a pair with an MTU of 1500.
fn on(changes: &[NetlinkChange]) -> Vec<NetlinkChange> {
    let over = vxlan("v", |vxlan| vxlan.lower = Some("a".to_owned()));
    [&[pair("a", "b"), over], changes].concat()
}

fn creations() -> Vec<Case> {
    vec![
        ("a VXLAN device is made", vec![plain("v")], DONE),
        (
            "a port and VNI are one device's",
            vec![plain("v"), plain("w")],
            EEXIST,
        ),
        (
            "whatever its outer source address",
            vec![plain("v"), vxlan("w", |vxlan| vxlan.local = Some(V4))],
            EEXIST,
        ),
        (
            "another family may have them, too",
            vec![plain("v"), vxlan("w", |vxlan| vxlan.local = Some(V6))],
            DONE,
        ),
        (
            "another VNI may have the port",
            vec![plain("v"), vxlan("w", |vxlan| vxlan.vni = 8)],
            DONE,
        ),
        (
            "another port may have the VNI",
            vec![plain("v"), vxlan("w", |vxlan| vxlan.port = 7779)],
            DONE,
        ),
        (
            "a VNI has 24 bits",
            vec![vxlan("v", |vxlan| vxlan.vni = 1 << 24)],
            EINVAL,
        ),
        (
            "a device needs a port",
            vec![vxlan("v", |vxlan| vxlan.port = 0)],
            EINVAL,
        ),
        (
            "a port range has a beginning and an end",
            vec![vxlan("v", |vxlan| vxlan.source_ports = Some((2, 1)))],
            EINVAL,
        ),
        (
            "a lower link must be there",
            vec![vxlan("v", |vxlan| vxlan.lower = Some("a".to_owned()))],
            ENODEV,
        ),
        (
            "outer addresses are of one family",
            vec![vxlan("v", |vxlan| {
                (vxlan.local, vxlan.remote) = (Some(V4), Some(V6));
            })],
            EINVAL,
        ),
        (
            "an external device has no VNI",
            vec![vxlan("v", |vxlan| vxlan.external = true)],
            EINVAL,
        ),
        (
            "GPE needs an external device",
            vec![vxlan("v", |vxlan| vxlan.gpe = true)],
            EINVAL,
        ),
        (
            "an external device's port is its own",
            vec![flow("v", |_| {}), flow("w", |_| {})],
            EEXIST,
        ),
        (
            "a hardware address is unicast",
            vec![vxlan_with("v", Vxlan::new(7, 7777), |new| {
                new.mac = "01:00:00:00:00:01".parse().ok();
            })],
            EADDRNOTAVAIL,
        ),
        (
            "a new device's MTU has bounds",
            vec![flow("v", |new| new.mtu = Some(65536))],
            EINVAL,
        ),
    ]
}

fn devices_that_are_up() -> Vec<Case> {
    let external = |port| Vxlan {
        external: true,
        ..Vxlan::new(0, port)
    };
    vec![
        (
            "devices of one kind share a port",
            vec![
                plain("v"),
                vxlan("w", |vxlan| vxlan.vni = 8),
                up("v"),
                up("w"),
            ],
            DONE,
        ),
        (
            "devices of two kinds do not",
            vec![
                plain("v"),
                vxlan_with("w", external(7777), |_| {}),
                up("v"),
                up("w"),
            ],
            EADDRINUSE,
        ),
        (
            "a new one neither",
            vec![
                plain("v"),
                up("v"),
                vxlan_with("w", external(7777), |new| new.up = true),
            ],
            EADDRINUSE,
        ),
        (
            "unless the other is down",
            vec![plain("v"), vxlan_with("w", external(7777), |_| {}), up("w")],
            DONE,
        ),
    ]
}

fn changes() -> Vec<Case> {
    vec![
        (
            "an MTU is what the lower link leaves at most",
            on(&[set("v", |set| set.mtu = Some(1450))]),
            DONE,
        ),
        (
            "an MTU is what the lower link leaves at most",
            on(&[set("v", |set| set.mtu = Some(1451))]),
            EINVAL,
        ),
        (
            "a lower link can be exchanged",
            on(&[vxlan_set("v", |set| set.lower = Some("b".to_owned()))]),
            DONE,
        ),
        (
            "the other must be there",
            on(&[vxlan_set("v", |set| set.lower = Some("x".to_owned()))]),
            ENODEV,
        ),
        (
            "an outer source address can be set",
            on(&[vxlan_set("v", |set| set.local = Some(V4))]),
            DONE,
        ),
        (
            "its family stays",
            on(&[vxlan_set("v", |set| set.local = Some(V6))]),
            EOPNOTSUPP,
        ),
        (
            "only a VXLAN device has a VXLAN device's settings",
            vec![
                pair("a", "b"),
                vxlan_set("a", |set| set.learning = Some(true)),
            ],
            EOPNOTSUPP,
        ),
        (
            "a device without Ethernet has no hardware address",
            vec![
                flow("v", |_| {}),
                set("v", |set| set.mac = "02:00:00:00:00:07".parse().ok()),
            ],
            EOPNOTSUPP,
        ),
        (
            "and is no port",
            vec![flow("v", |_| {}), bridge("br"), master("v", "br")],
            EINVAL,
        ),
        (
            "a VXLAN device is a port",
            vec![plain("v"), bridge("br"), master("v", "br")],
            DONE,
        ),
    ]
}

/// Devices are read as they were written, and go with their lower link.
pub(super) async fn devices(netlink: &dyn Netlink) {
    let mut classic = Vxlan::new(7, 7777);
    classic.local = Some(V4);
    classic.lower = Some("a".to_owned());
    classic.source_ports = Some((1000, 2000));
    let mut six = Vxlan::new(7, 7777);
    six.local = Some(V6);
    six.remote = Some(V6);
    six.lower = Some("a".to_owned());
    six.learning = true;
    make(netlink, &[add("a", |new| new.mtu = Some(9000))]).await;
    let beginning = [
        vxlan_with("v", classic.clone(), |new| {
            new.mac = "02:00:00:00:00:07".parse().ok();
        }),
        vxlan_with("w", six.clone(), |new| new.mtu = Some(9000)),
        flow("f", |_| {}),
        vxlan_set("f", |set| set.local = Some(V4)),
    ];
    make(netlink, &beginning).await;
    let (v, w, f) = (
        link(netlink, "v").await,
        link(netlink, "w").await,
        link(netlink, "f").await,
    );
    assert_eq!(of(&v), &classic);
    assert_eq!(of(&w), &six);
    assert_eq!(v.mac, "02:00:00:00:00:07".parse().ok());
    assert_eq!((v.mtu, w.mtu), (8950, 8930), "an MTU is cut");
    assert_eq!(v.peer, Some(link(netlink, "a").await.index));
    let mut flow = Vxlan::flow(7778);
    flow.local = Some(V4);
    assert_eq!((of(&f), f.mac, f.mtu), (&flow, None, 1500));

    make(netlink, &[set("b", |set| set.mtu = Some(1500))]).await;
    let change = vxlan_set("v", |set| {
        set.lower = Some("b".to_owned());
        set.learning = Some(true);
        set.local = Some(IpAddr::from([0, 0, 0, 0]));
    });
    make(netlink, &[change]).await;
    let v = link(netlink, "v").await;
    (classic.local, classic.lower, classic.learning) = (None, Some("b".to_owned()), true);
    assert_eq!((of(&v), v.mtu), (&classic, 1450), "changed in place");
    make(netlink, &[up("v"), up("f")]).await;
    let f = link(netlink, "f").await;
    assert!(f.up && f.carrier, "a VXLAN device has carrier of its own");

    make(netlink, &[del("b")]).await;
    for name in ["v", "w"] {
        let gone = find(netlink, name).await.is_none();
        assert!(gone, "{name} goes with its lower link");
    }
    assert!(find(netlink, "f").await.is_some(), "others stay");
    clear(netlink).await;
}

fn of(link: &Link) -> &Vxlan {
    match &link.kind {
        LinkKind::Vxlan(vxlan) => vxlan,
        other => panic!("{} is {other:?}", link.name),
    }
}
