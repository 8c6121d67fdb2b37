//! Random changes to links, addresses and routes of a small world: two pairs, `a`-`b` and `c`-`d`, and the bridge `br`.

use cni_core::host::Host;
use cni_core::host::netlink::{
    Address, LinkSettings, MacAddr, NetlinkChange, NetlinkExt, NewLink, NewLinkKind, PortSettings,
    Route,
};
use cni_core::ipnetwork::IpNetwork;

use super::{Random, Step};
use crate::contracts::wait;

const LINKS: [&str; 5] = ["a", "b", "c", "d", "br"];
const ADDRESSES: [&str; 7] = [
    "10.0.0.1/24",
    "10.0.0.2/24",
    "10.0.0.1/16",
    "10.0.1.1/32",
    "fd00::1/64",
    "fd00::2/64",
    "fd00::1/128",
];
const DESTINATIONS: [&str; 8] = [
    "0.0.0.0/0",
    "10.0.0.0/24",
    "10.9.0.0/16",
    "10.0.1.9/32",
    "::/0",
    "fd00::/64",
    "fd01::/64",
    "fd01::1/128",
];
const GATEWAYS4: [&str; 4] = ["10.0.0.9", "10.0.0.1", "10.0.1.9", "10.9.9.9"];
const GATEWAYS6: [&str; 4] = ["fd00::9", "fd00::1", "fe80::9", "fd01::1"];

/// A new namespace inherits IPv4 parameters of the machine: makes them what they are by default, but for one.
pub(super) fn prepare(host: &Host, seed: u64) {
    for name in [
        "arp_notify",
        "forwarding",
        "proxy_arp",
        "route_localnet",
        "rp_filter",
        "promote_secondaries",
    ] {
        for scope in ["all", "default", "lo"] {
            let promotes =
                name == "promote_secondaries" && scope == "all" && seed.is_multiple_of(2);
            let value = if promotes { "1" } else { "0" };
            let key = format!("net/ipv4/conf/{scope}/{name}");
            wait(host.sysctl.write(&key, value)).expect("a parameter");
        }
    }
    wait(host.netlink.apply_one(set("lo", |set| set.up = Some(true)))).expect("lo comes up");
}

/// Both pairs and the bridge, all up, with addresses.
pub(super) fn build(host: &Host) {
    let mut changes = Vec::new();
    for (name, peer) in [("a", "b"), ("c", "d")] {
        let kind = NewLinkKind::Veth {
            peer: peer.to_owned(),
            peer_mac: mac(1),
            peer_netns: None,
        };
        changes.push(new(name, kind));
    }
    let kind = NewLinkKind::Bridge {
        vlan_filtering: false,
    };
    changes.push(new("br", kind));
    changes.extend(LINKS.map(|link| set(link, |set| set.ipv6_link_local = Some(false))));
    changes.extend(LINKS.map(|link| set(link, |set| set.up = Some(true))));
    for (link, address) in [
        ("a", "10.0.0.1/24"),
        ("c", "10.0.1.1/32"),
        ("a", "fd00::1/64"),
    ] {
        changes.push(NetlinkChange::AddressAdd(Address::new(
            link,
            prefix(address),
        )));
    }
    wait(host.netlink.apply(&changes)).expect("a beginning");
}

pub(super) fn new(name: &str, kind: NewLinkKind) -> NetlinkChange {
    let mut new = NewLink::new(name, kind);
    new.mac = mac(2);
    NetlinkChange::LinkAdd(new)
}

pub(super) fn mac(n: usize) -> Option<MacAddr> {
    format!("02:00:00:00:00:{n:02x}").parse().ok()
}

pub(super) async fn link_step(host: &Host, random: &mut Random) -> Step {
    let change = match random.below(16) {
        0..=4 => new_link(random),
        5..=8 => settings(random),
        9 if random.chance(2) => NetlinkChange::LinkDel {
            link: random.one_of(&LINKS).to_owned(),
        },
        9 if random.chance(4) => NetlinkChange::GroupDel { group: 1 },
        9 => port(random),
        10..=13 => NetlinkChange::AddressAdd(address(random)),
        _ => NetlinkChange::AddressDel(address(random)),
    };
    made(host, change).await
}

pub(super) async fn route_step(host: &Host, random: &mut Random) -> Step {
    let change = match random.below(16) {
        0 => settings(random),
        1 if random.chance(8) => NetlinkChange::LinkDel {
            link: random.one_of(&LINKS).to_owned(),
        },
        1 | 2 => NetlinkChange::AddressAdd(address(random)),
        3 => NetlinkChange::AddressDel(address(random)),
        4..=12 => NetlinkChange::RouteAdd(route(random)),
        _ => NetlinkChange::RouteDel(route(random)),
    };
    made(host, change).await
}

pub(super) async fn made(host: &Host, change: NetlinkChange) -> Step {
    let outcome = host.netlink.apply_one(change.clone()).await;
    (change.to_string(), outcome)
}

/// All hardware addresses are given: the kernel's own choice is random.
fn new_link(random: &mut Random) -> NetlinkChange {
    let (name, kind) = match random.below(5) {
        0 => (
            "br",
            NewLinkKind::Bridge {
                vlan_filtering: false,
            },
        ),
        n => {
            let (name, peer) = [("a", "b"), ("c", "d")][n % 2];
            let kind = NewLinkKind::Veth {
                peer: peer.to_owned(),
                peer_mac: mac(random.below(3) + 1),
                peer_netns: None,
            };
            (name, kind)
        }
    };
    let mut new = NewLink::new(name, kind);
    new.mac = mac(random.below(3) + 1);
    new.mtu = random.one_of(&[None, None, None, Some(1400), Some(1279), Some(67)]);
    if random.chance(3) {
        new.master = Some(random.one_of(&["br", "br", "a"]).to_owned());
    }
    new.up = random.chance(2);
    new.ipv6_link_local = false;
    NetlinkChange::LinkAdd(new)
}

fn settings(random: &mut Random) -> NetlinkChange {
    let link = random.one_of(&LINKS);
    let what = random.below(14);
    let number = random.below(3);
    set(link, |set| match what {
        0..=3 => set.up = Some(number > 0),
        4 => set.mtu = [Some(1500), Some(1400), Some(1279)][number],
        5 => set.mac = mac(number + 1),
        6 | 7 => set.master = Some(["br", "br", ""][number].to_owned()),
        8 => set.alias = Some(["", "x", "y"][number].to_owned()),
        9 => set.group = Some([0, 1, 1][number]),
        10 => set.promiscuous = Some(number > 0),
        11 => set.all_multicast = Some(number > 0),
        12 => set.tx_queue_len = [Some(0), Some(1), Some(1000)][number],
        _ => set.arp_notify = Some(number > 0),
    })
}

pub(super) fn set(link: &str, change: impl FnOnce(&mut LinkSettings)) -> NetlinkChange {
    let mut settings = LinkSettings::default();
    change(&mut settings);
    let link = link.to_owned();
    NetlinkChange::LinkSet { link, settings }
}

fn port(random: &mut Random) -> NetlinkChange {
    let link = random.one_of(&LINKS).to_owned();
    let settings = PortSettings {
        hairpin: random.chance(2),
        isolated: random.chance(2),
        forwarding: false,
    };
    NetlinkChange::PortSet { link, settings }
}

fn address(random: &mut Random) -> Address {
    let mut address = Address::new(random.one_of(&LINKS), prefix(random.one_of(&ADDRESSES)));
    address.no_prefix_route = random.chance(4);
    address
}

pub(super) fn route(random: &mut Random) -> Route {
    let mut route = Route::new(prefix(random.one_of(&DESTINATIONS)), random.one_of(&LINKS));
    let ipv4 = route.destination.is_ipv4();
    if random.chance(2) {
        let gateways = if ipv4 { GATEWAYS4 } else { GATEWAYS6 };
        route.gateway = random.one_of(&gateways).parse().ok();
        route.onlink = random.chance(4);
    }
    if random.chance(4) {
        let sources = if ipv4 {
            ["10.0.0.1", "10.0.1.1"]
        } else {
            ["fd00::1", "fd00::2"]
        };
        route.source = random.one_of(&sources).parse().ok();
    }
    if random.chance(4) {
        route.metric = 5;
    }
    if ipv4 && route.gateway.is_none() && random.chance(2) {
        route.scope = Route::SCOPE_LINK;
    }
    route
}

pub(super) fn prefix(text: &str) -> IpNetwork {
    text.parse().expect("a prefix")
}
