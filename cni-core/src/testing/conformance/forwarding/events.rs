//! What goes along with something else.

use std::thread;
use std::time::{Duration, Instant};

use super::super::netlink::build::{address, address_del, del, set, up};
use super::super::netlink::make;
use super::build::{
    MAC, fdb, hop, inline, neighbour, next_hop, node, onlink, route, route_with, rule, tunnel,
};
use super::{clear, ours, samples, write};
use crate::host::Host;
use crate::host::forwarding::{Change, Entry, Kind, Via};
use crate::host::netlink::LinkFilter;

pub(super) async fn a_next_hop_takes_its_routes_along(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    let stays = [
        next_hop(2, tunnel("192.0.2.3")),
        route("10.2.0.0/24", Via::NextHop(2)),
        route("10.3.0.0/24", Via::Unreachable),
    ];
    let goes = [
        next_hop(1, tunnel("192.0.2.2")),
        route("10.1.0.0/24", Via::NextHop(1)),
        route("fd01::/64", Via::NextHop(1)),
        route_with("10.1.0.1/32", 0, 77, Via::NextHop(1)),
    ];
    write(host, &stays.clone().map(Change::Add)).await;
    write(host, &goes.map(Change::Add)).await;
    write(host, &[Change::Del(next_hop(1, tunnel("192.0.2.2")))]).await;
    assert_eq!(ours(host).await, stays);
    clear(host).await;
}

pub(super) async fn a_link_that_goes_down_takes_all_but_forwarding_entries(host: &Host) {
    let stays = [
        route("10.9.0.0/24", Via::Unreachable),
        route("fd09::/64", Via::Unreachable),
        fdb("v", MAC, "192.0.2.2"),
        rule(100, "10.1.0.0/24", 77),
    ];
    let links = ["v", "f", "a"];
    make(host.netlink.as_ref(), &node()).await;
    write(host, &stays.clone().map(Change::Add)).await;
    for entry in samples() {
        host.forwarding.write(&[Change::Add(entry)]).await;
    }
    let down = links.map(|link| set(link, |set| set.up = Some(false)));
    make(host.netlink.as_ref(), &down).await;
    let left: Vec<Entry> = ours(host).await;
    let mut wanted: Vec<Entry> = samples()
        .into_iter()
        .filter(|entry| match entry {
            Entry::Route(route) => route.via == Via::Unreachable,
            Entry::Rule(_) | Entry::Fdb(_) => true,
            _ => false,
        })
        .chain(stays)
        .collect();
    wanted.sort_by_key(Entry::key);
    wanted.dedup();
    assert_eq!(left, wanted);
    make(host.netlink.as_ref(), &links.map(up)).await;
    assert_eq!(ours(host).await, wanted, "nothing comes back");
    clear(host).await;
}

pub(super) async fn a_link_without_carrier_takes_next_hops(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    let stays = [
        route("10.2.0.0/24", inline(hop("a", Some("10.0.0.2")))),
        route("fd02::/64", inline(hop("a", Some("fd00::2")))),
        neighbour("a", "10.0.0.2", MAC),
    ];
    let goes = [
        next_hop(1, hop("a", Some("fd00::2"))),
        route("10.1.0.0/24", Via::NextHop(1)),
        route("fd01::/64", Via::NextHop(1)),
    ];
    write(host, &stays.clone().map(Change::Add)).await;
    write(host, &goes.map(Change::Add)).await;
    make(
        host.netlink.as_ref(),
        &[set("b", |set| set.up = Some(false))],
    )
    .await;
    // A link that is asked for by its name settles at once since Linux 6.9, before that a moment later.
    let begin = Instant::now();
    loop {
        let settled = host.netlink.links(LinkFilter::Name("a")).await;
        assert!(settled.is_ok(), "{settled:?}");
        let left = ours(host).await;
        if left == stays {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{left:#?}");
        thread::sleep(Duration::from_millis(1));
    }
    clear(host).await;
}

pub(super) async fn another_hardware_address_takes_neighbours(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    let stays = [
        next_hop(1, onlink("v", "10.2.0.0")),
        route("10.2.0.0/24", Via::NextHop(1)),
        fdb("v", MAC, "192.0.2.2"),
    ];
    let goes = [
        neighbour("v", "10.2.0.0", MAC),
        neighbour("v", "fd02::", MAC),
    ];
    write(host, &stays.clone().map(Change::Add)).await;
    write(host, &goes.map(Change::Add)).await;
    let other = set("v", |set| set.mac = "02:00:00:00:00:09".parse().ok());
    make(host.netlink.as_ref(), &[other]).await;
    assert_eq!(ours(host).await, stays);
    clear(host).await;
}

pub(super) async fn a_last_ipv4_address_takes_plain_routes_and_neighbours(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    let stays = [
        next_hop(1, hop("a", Some("10.0.0.2"))),
        route("10.1.0.0/24", Via::NextHop(1)),
        route("10.3.0.0/24", inline(tunnel("192.0.2.2"))),
        route("fd02::/64", inline(hop("a", Some("fd00::2")))),
        neighbour("a", "fd00::2", MAC),
    ];
    let goes = [
        route("10.2.0.0/24", inline(hop("a", Some("10.0.0.2")))),
        route("10.4.0.0/24", inline(hop("a", None))),
        neighbour("a", "10.0.0.2", MAC),
    ];
    write(host, &stays.clone().map(Change::Add)).await;
    write(host, &goes.map(Change::Add)).await;
    make(host.netlink.as_ref(), &[address_del("a", "10.0.0.1/24")]).await;
    assert_eq!(ours(host).await, stays);
    make(host.netlink.as_ref(), &[address("a", "10.0.0.1/24")]).await;
    assert_eq!(ours(host).await, stays, "nothing comes back");
    clear(host).await;
}

pub(super) async fn a_link_that_goes_takes_everything(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    for entry in samples() {
        write(host, &[Change::Add(entry)]).await;
    }
    make(host.netlink.as_ref(), &[del("a"), del("v"), del("f")]).await;
    let wanted: Vec<Entry> = samples()
        .into_iter()
        .filter(|entry| match entry {
            Entry::Route(route) => route.via == Via::Unreachable,
            entry => entry.kind() == Kind::Rule,
        })
        .collect();
    assert_eq!(ours(host).await, wanted);
    clear(host).await;
}
