//! Random next hops, routes, neighbours, forwarding entries and rules of a small node, among changes to its links: the pair
//! `a`-`b`, and the VXLAN devices `v` and `f`.

use cni_core::host::Host;
use cni_core::host::forwarding::{
    Change, Encap, Entry, FdbEntry, Hop, Neighbour, NextHop, PolicyRule, Route, Via,
};
use cni_core::host::netlink::{Address, LinkSettings, NetlinkChange, NewLink, NewLinkKind, Vxlan};

use super::netlink::{mac, made, new, prefix, route as other_route, set};
use super::{Random, Step};
use crate::contracts::wait;

const DESTINATIONS4: [&str; 3] = ["10.9.0.0/16", "10.9.1.0/24", "10.0.0.9/32"];
const DESTINATIONS6: [&str; 3] = ["fd09::/48", "fd09:0:0:1::/64", "fd00::9/128"];

/// Links with addresses, all up.
pub(super) fn build(host: &Host) {
    let pair = NewLinkKind::Veth {
        peer: "b".to_owned(),
        peer_mac: mac(1),
        peer_netns: None,
    };
    let mut flow = NewLink::new("f", NewLinkKind::Vxlan(Vxlan::flow(7778)));
    flow.ipv6_link_local = false;
    let mut changes = vec![
        new("a", pair),
        new("v", NewLinkKind::Vxlan(Vxlan::new(7, 7777))),
        NetlinkChange::LinkAdd(flow),
    ];
    let all = ["a", "b", "v", "f"];
    changes.extend(all.map(|link| set(link, |set| set.ipv6_link_local = Some(false))));
    changes.extend(all.map(|link| set(link, |set| set.up = Some(true))));
    for address in ["10.0.0.1/24", "fd00::1/64"] {
        changes.push(NetlinkChange::AddressAdd(Address::new(
            "a",
            prefix(address),
        )));
    }
    wait(host.netlink.apply(&changes)).expect("a beginning");
}

pub(super) async fn step(host: &Host, random: &mut Random) -> Step {
    let change = match random.below(32) {
        0 | 1 => return made(host, link(random)).await,
        2 => return made(host, address(random)).await,
        3 => return made(host, NetlinkChange::RouteAdd(theirs(random))).await,
        4 => return made(host, NetlinkChange::RouteDel(theirs(random))).await,
        5..=14 => Change::Add(entry(random)),
        15..=22 => Change::Replace(entry(random)),
        23 => Change::Prepend(entry(random)),
        _ => Change::Del(entry(random)),
    };
    let mut failed = host.forwarding.write(std::slice::from_ref(&change)).await;
    let outcome = failed.pop().map_or(Ok(()), |failed| Err(failed.error));
    (change.to_string(), outcome)
}

fn link(random: &mut Random) -> NetlinkChange {
    let link = random.one_of(&["a", "b", "v", "f"]);
    let what = random.below(8);
    let number = random.below(3);
    set(link, |set: &mut LinkSettings| match what {
        0..=4 => set.up = Some(number > 0),
        5 => set.mtu = [Some(1500), Some(1400), Some(1279)][number],
        _ if link != "f" => set.mac = mac(number + 1),
        _ => set.up = Some(true),
    })
}

fn address(random: &mut Random) -> NetlinkChange {
    let address = random.one_of(&["10.0.0.1/24", "fd00::1/64", "10.9.0.1/32", "fd09::1/128"]);
    let link = if address.contains('9') { "v" } else { "a" };
    let address = Address::new(link, prefix(address));
    match random.chance(4) {
        true => NetlinkChange::AddressDel(address),
        false => NetlinkChange::AddressAdd(address),
    }
}

/// Another program's route, often of a key that ours have, too.
fn theirs(random: &mut Random) -> cni_core::host::netlink::Route {
    let mut route = other_route(random);
    if random.chance(2) {
        let destinations = match route.destination.is_ipv4() {
            true => DESTINATIONS4,
            false => DESTINATIONS6,
        };
        route.destination = prefix(random.one_of(&destinations));
        route.beside_others = random.chance(3);
    }
    route.link = Some(random.one_of(&["a", "a", "v", "f"]).to_owned());
    route
}

fn entry(random: &mut Random) -> Entry {
    let protocol = if random.chance(8) { 78 } else { 77 };
    match random.below(12) {
        0..=2 => Entry::NextHop(NextHop {
            id: id(random),
            protocol,
            hop: hop(random),
        }),
        3..=7 => Entry::Route(route(random, protocol)),
        8 | 9 => Entry::Neighbour(Neighbour {
            link: random.one_of(&["a", "v"]).into(),
            address: random
                .one_of(&["10.9.0.0", "10.0.0.9", "fd09::", "fd00::9"])
                .parse()
                .expect("an address"),
            mac: mac(random.below(2) + 7).expect("a hardware address"),
        }),
        10 => Entry::Fdb(FdbEntry {
            link: "v".into(),
            mac: mac(random.below(3) + 7).expect("a hardware address"),
            remote: random
                .one_of(&["192.0.2.2", "192.0.2.2", "192.0.2.3", "2001:db8::2"])
                .parse()
                .expect("an address"),
        }),
        _ => Entry::Rule(PolicyRule {
            priority: random.one_of(&[100, 101]),
            source: prefix(random.one_of(&["10.9.0.0/16", "fd09::/48", "0.0.0.0/0"])),
            table: random.one_of(&[77, 1000]),
            protocol,
        }),
    }
}

fn id(random: &mut Random) -> u32 {
    random.one_of(&[1, 2, 3])
}

fn route(random: &mut Random, protocol: u8) -> Route {
    let ipv4 = random.chance(2);
    let destinations = if ipv4 { DESTINATIONS4 } else { DESTINATIONS6 };
    let metrics = if ipv4 { [0, 0, 5] } else { [128, 1024, 5] };
    Route {
        destination: prefix(random.one_of(&destinations)),
        table: random.one_of(&[254, 254, 77]),
        metric: random.one_of(&metrics),
        protocol,
        via: match random.below(8) {
            0 => Via::Unreachable,
            1..=2 => Via::Hop(Box::new(hop(random))),
            _ => Via::NextHop(id(random)),
        },
    }
}

fn hop(random: &mut Random) -> Hop {
    let link = random.one_of(&["a", "a", "f", "v"]);
    let mut hop = Hop {
        link: link.into(),
        gateway: None,
        onlink: false,
        encap: None,
    };
    match link {
        "f" if random.chance(4) => {}
        "f" => {
            let remote = random.one_of(&["192.0.2.2", "192.0.2.3", "2001:db8::2"]);
            hop.encap = Some(Encap {
                id: 7,
                remote: remote.parse().expect("an address"),
                source: None,
                checksum: random.chance(2),
            });
        }
        _ => {
            let gateways = [
                "10.0.0.9", "fd00::9", "10.9.0.0", "fd09::", "10.0.0.1", "fd00::1", "fe80::9",
            ];
            hop.gateway = Some(random.one_of(&gateways).parse().expect("an address"))
                .filter(|_| !random.chance(5));
            hop.onlink = random.chance(if link == "v" { 1 } else { 4 });
        }
    }
    hop
}
