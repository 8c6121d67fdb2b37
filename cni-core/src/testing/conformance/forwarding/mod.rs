//! What every [`Forwarding`](crate::host::Forwarding) must do and refuse, together with the [`Netlink`](crate::host::Netlink)
//! of the same namespace: the kernel's rules, as far as nodes rest on them.

use std::net::IpAddr;

use super::netlink::{clear as clear_links, make};
use crate::host::Host;
use crate::host::forwarding::{Change, Entry, Kind, Scope, Via};
use crate::host::netlink::errno::{EEXIST, EINVAL, ENOENT};
use crate::host::netlink::{NetlinkChange, NetlinkExt, Route};
use build::{
    MAC, PROTOCOL, Step, fdb, hop, inline, neighbour, next_hop, node, onlink, prefix, route,
    route_with, rule, tunnel,
};
use cases::Case;

mod build;
mod cases;
mod events;

/// Success, where an errno is expected.
const DONE: i32 = 0;
const EHOSTUNREACH: i32 = 113;
const KINDS: [Kind; 5] = [
    Kind::NextHop,
    Kind::Route,
    Kind::Neighbour,
    Kind::Fdb,
    Kind::Rule,
];

/// Runs the contract of [`Forwarding`](crate::host::Forwarding) in an empty namespace: nothing but `lo`, IPv6 enabled,
/// parameters as they are in a new namespace. Needed: bridge, veth, vxlan and next-hop objects. All that it makes is
/// gone at the end.
///
/// # Panics
/// Where the implementation differs, saying in what.
pub async fn forwarding(host: &Host) {
    let known = host.forwarding.has_next_hops().await;
    assert_eq!(known, Ok(true), "the contract is about next hops as well");
    refusals(host).await;
    entries_are_read_as_written(host).await;
    reads_keep_to_their_scope(host).await;
    a_route_is_the_same_in_both_views(host).await;
    a_write_goes_on_past_failures(host).await;
    ours_stands_before_theirs(host).await;
    a_replacement_moves_routes(host).await;
    events::a_next_hop_takes_its_routes_along(host).await;
    events::a_link_that_goes_down_takes_all_but_forwarding_entries(host).await;
    events::a_link_without_carrier_takes_next_hops(host).await;
    events::another_hardware_address_takes_neighbours(host).await;
    events::a_last_ipv4_address_takes_plain_routes_and_neighbours(host).await;
    events::a_link_that_goes_takes_everything(host).await;
}

/// Changes, the last of which is answered by an errno, or succeeds.
async fn refusals(host: &Host) {
    let mut differences = Vec::new();
    let (plain, others): (Vec<Case>, Vec<Case>) =
        cases::all().partition(|(_, scene, _)| scene.on_node && scene.leaves_links());
    make(host.netlink.as_ref(), &node()).await;
    for case in &plain {
        judge(host, case, &mut differences).await;
        clear_entries(host).await;
    }
    clear(host).await;
    for case in &others {
        if case.1.on_node {
            make(host.netlink.as_ref(), &node()).await;
        }
        judge(host, case, &mut differences).await;
        clear(host).await;
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

async fn judge(host: &Host, (rule, scene, wanted): &Case, differences: &mut Vec<String>) {
    let (last, given) = scene.steps.split_last().expect("a case has a change");
    for step in given {
        let (errno, what) = answer(host, step).await;
        if errno != DONE {
            differences.push(format!("{rule}: beforehand, {what}"));
        }
    }
    let (errno, what) = answer(host, last).await;
    if errno != *wanted {
        differences.push(format!("{rule}: errno {errno} instead of {wanted}: {what}"));
    }
}

/// The errno, and what was answered in words.
async fn answer(host: &Host, step: &Step) -> (i32, String) {
    let error = match step {
        Step::Link(change) => host.netlink.apply_one(change.clone()).await.err(),
        Step::Entry(change) => {
            let failed = host.forwarding.write(std::slice::from_ref(change)).await;
            failed.into_iter().next().map(|failed| failed.error)
        }
    };
    match error {
        Some(error) => (error.errno, error.to_string()),
        None => (DONE, format!("{step:?} is done")),
    }
}

/// One entry of every shape.
fn samples() -> Vec<Entry> {
    let mut from = tunnel("192.0.2.2");
    if let Some(encap) = &mut from.encap {
        encap.source = "192.0.2.1".parse().ok();
        encap.checksum = true;
    }
    vec![
        next_hop(1, hop("a", Some("10.0.0.2"))),
        next_hop(2, hop("a", Some("fd00::2"))),
        next_hop(3, onlink("v", "10.2.0.0")),
        next_hop(4, onlink("v", "fd02::")),
        next_hop(5, tunnel("192.0.2.2")),
        next_hop(6, tunnel("2001:db8::2")),
        next_hop(7, from.clone()),
        next_hop(u32::MAX, hop("a", None)),
        route("10.1.0.0/24", Via::NextHop(1)),
        route("10.2.0.0/24", Via::NextHop(2)),
        route("10.3.0.0/24", Via::NextHop(5)),
        route("fd01::/64", Via::NextHop(2)),
        route("fd03::/64", Via::NextHop(5)),
        route_with("10.4.0.1/32", 0, 77, Via::NextHop(6)),
        route_with("fd04::1/128", 128, 1000, Via::NextHop(6)),
        route_with("10.5.0.0/24", 1, 254, inline(hop("a", Some("10.0.0.2")))),
        route_with("10.5.0.0/24", 2, 254, inline(hop("a", Some("fd00::2")))),
        route_with("10.5.0.0/24", 3, 254, inline(onlink("v", "10.2.0.0"))),
        route_with("10.5.0.0/24", 4, 254, inline(from)),
        route_with("10.5.0.0/24", 5, 254, inline(hop("f", None))),
        route_with("10.5.0.0/24", 4096, 254, Via::Unreachable),
        route_with("fd05::/64", 1, 254, inline(hop("a", Some("fd00::2")))),
        route_with("fd05::/64", 3, 254, inline(onlink("v", "fd02::"))),
        route_with("fd05::/64", 4, 254, inline(tunnel("192.0.2.2"))),
        route_with("fd05::/64", 5, 254, inline(hop("f", None))),
        route_with("fd05::/64", 4096, 254, Via::Unreachable),
        neighbour("v", "10.2.0.0", MAC),
        neighbour("v", "fd02::", MAC),
        fdb("v", MAC, "192.0.2.2"),
        rule(100, "10.1.0.0/24", 77),
        rule(100, "fd01::/64", 1000),
        rule(101, "0.0.0.0/0", 1000),
    ]
}

async fn entries_are_read_as_written(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    for change in [Change::Add, Change::Replace] {
        for entry in samples() {
            write(host, &[change(entry)]).await;
        }
        let mut wanted = samples();
        wanted.sort_by_key(Entry::key);
        assert_eq!(ours(host).await, wanted);
    }
    let mut removals: Vec<Change> = samples().into_iter().map(Change::Del).collect();
    removals.reverse();
    write(host, &removals).await;
    assert_eq!(ours(host).await, []);
    clear(host).await;
}

async fn reads_keep_to_their_scope(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    let others = [neighbour("a", "10.0.0.2", MAC), fdb("v", MAC, "192.0.2.2")];
    let all: Vec<Change> = samples().into_iter().map(Change::Replace).collect();
    write(host, &all).await;
    write(host, &others.map(Change::Replace)).await;
    for kind in KINDS {
        let of = async |protocol, link| {
            read(
                host,
                Scope {
                    kind,
                    protocol,
                    link,
                },
            )
            .await
            .len()
        };
        match kind {
            Kind::Neighbour | Kind::Fdb => {
                let on_v = if kind == Kind::Fdb { 1 } else { 2 };
                assert_eq!(of(None, Some("v")).await, on_v, "{kind:?}");
                assert_eq!(of(Some(78), Some("v")).await, on_v, "{kind:?}");
                assert_eq!(of(None, Some("missing")).await, 0, "{kind:?}");
            }
            _ => {
                let wanted = samples()
                    .iter()
                    .filter(|entry| entry.kind() == kind)
                    .count();
                assert_eq!(of(Some(PROTOCOL), None).await, wanted, "{kind:?}");
                assert_eq!(of(Some(PROTOCOL), Some("x")).await, wanted, "{kind:?}");
                assert_eq!(of(Some(78), None).await, 0, "{kind:?}");
            }
        }
    }
    let scope = |kind| Scope {
        kind,
        protocol: None,
        link: None,
    };
    assert_eq!(
        read(host, scope(Kind::Neighbour)).await.len(),
        3,
        "of any link"
    );
    let rules = read(host, scope(Kind::Rule)).await;
    assert_eq!(rules.len(), 3 + 3 + 2, "with the kernel's own: {rules:?}");
    clear(host).await;
}

async fn a_route_is_the_same_in_both_views(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    let connected = [("10.0.0.0/24", 0), ("fd00::/64", 256)];
    let every = Scope {
        kind: Kind::Route,
        protocol: None,
        link: None,
    };
    let routes = read(host, every).await;
    for (to, metric) in connected {
        let found = routes.iter().find_map(|entry| match entry {
            Entry::Route(route) if route.destination == prefix(to) => Some(route),
            _ => None,
        });
        let found = found.unwrap_or_else(|| panic!("{to} in {routes:?}"));
        assert_eq!(
            (found.metric, found.table, found.protocol),
            (metric, 254, 2)
        );
        assert_eq!(found.via, inline(hop("a", None)), "an address brings {to}");
    }
    for (to, gateway, metric) in [("10.1.0.0/24", "10.0.0.2", 7), ("fd01::/64", "fd00::2", 7)] {
        let mut plain = Route::new(prefix(to), "a");
        plain.gateway = gateway.parse().ok();
        plain.metric = metric;
        plain.protocol = PROTOCOL;
        let same = route_with(to, metric, 254, inline(hop("a", Some(gateway))));
        make(
            host.netlink.as_ref(),
            &[NetlinkChange::RouteAdd(plain.clone())],
        )
        .await;
        assert_eq!(ours(host).await, std::slice::from_ref(&same), "made by one");
        write(host, &[Change::Del(same.clone())]).await;
        assert!(!shown(host).await.contains(&plain), "removed by the other");
        write(host, &[Change::Add(same)]).await;
        assert!(shown(host).await.contains(&plain), "made by the other");
        make(
            host.netlink.as_ref(),
            &[NetlinkChange::RouteDel(plain.clone())],
        )
        .await;
        assert_eq!(ours(host).await, [], "removed by one");

        let by_id = [
            next_hop(1, hop("a", Some(gateway))),
            route_with(to, metric, 254, Via::NextHop(1)),
            route_with(to, 9, 254, Via::Unreachable),
        ];
        write(host, &by_id.clone().map(Change::Add)).await;
        let theirs = shown(host).await;
        assert!(theirs.contains(&plain), "{plain:?} in {theirs:?}");
        assert!(
            !theirs.iter().any(|route| route.metric == 9),
            "it leads nowhere"
        );
        let on_a = host.netlink.routes(Some("a")).await.expect("routes");
        assert!(on_a.contains(&plain), "its link is the next hop's");

        plain.source = Some(if plain.destination.is_ipv4() {
            "10.0.0.1"
        } else {
            "fd00::1"
        })
        .and_then(|source| source.parse().ok());
        plain.metric = 8;
        make(host.netlink.as_ref(), &[NetlinkChange::RouteAdd(plain)]).await;
        let other = route_with(to, 8, 254, Via::Other);
        assert!(
            ours(host).await.contains(&other),
            "there is no value for it"
        );
        write(host, &[Change::Del(other)]).await;
        write(
            host,
            &by_id.map(Change::Del).into_iter().rev().collect::<Vec<_>>(),
        )
        .await;
    }
    for entry in [neighbour("v", "10.2.0.0", MAC), fdb("v", MAC, "192.0.2.2")] {
        write(host, &[Change::Add(entry.clone())]).await;
        let found = host
            .netlink
            .neighbours(Some("v"))
            .await
            .expect("neighbours");
        let address: Option<IpAddr> = match &entry {
            Entry::Neighbour(neighbour) => Some(neighbour.address),
            _ => None,
        };
        let same = found.iter().any(|one| {
            one.address == address && one.mac == MAC.parse().ok() && one.state & 0x80 != 0
        });
        assert!(same, "{entry:?} in {found:?}");
    }
    clear(host).await;
}

async fn a_write_goes_on_past_failures(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    let changes = [
        Change::Add(route("10.1.0.0/24", Via::NextHop(1))),
        Change::Add(next_hop(1, tunnel("192.0.2.2"))),
        Change::Add(route("10.1.0.0/24", Via::NextHop(1))),
        Change::Add(route("10.1.0.0/24", Via::NextHop(1))),
        Change::Del(next_hop(2, tunnel("192.0.2.2"))),
        Change::Add(route("fd01::/64", Via::NextHop(1))),
    ];
    let failed = host.forwarding.write(&changes).await;
    let errnos: Vec<(usize, i32)> = failed
        .iter()
        .map(|failed| (failed.index, failed.error.errno))
        .collect();
    assert_eq!(errnos, [(0, EINVAL), (3, EEXIST), (4, ENOENT)]);
    for failed in &failed {
        let command = changes.get(failed.index).map(Change::to_string);
        assert_eq!(Some(&failed.error.operation), command.as_ref());
    }
    assert_eq!(ours(host).await.len(), 3, "the others are made, in order");
    assert_eq!(host.forwarding.write(&[]).await.len(), 0);
    clear(host).await;
}

async fn ours_stands_before_theirs(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    let mut theirs = Route::new(prefix("10.1.0.0/24"), "a");
    theirs.gateway = "10.0.0.9".parse().ok();
    make(
        host.netlink.as_ref(),
        &[NetlinkChange::RouteAdd(theirs.clone())],
    )
    .await;
    write(host, &[Change::Add(next_hop(1, tunnel("192.0.2.2")))]).await;
    let ours = |via| route("10.1.0.0/24", via);
    write(host, &[Change::Prepend(ours(Via::NextHop(1)))]).await;
    let order = async || {
        let all = shown(host).await;
        let there = all
            .iter()
            .filter(|route| route.destination == theirs.destination);
        there.map(|route| route.protocol).collect::<Vec<_>>()
    };
    assert_eq!(
        order().await,
        [PROTOCOL, theirs.protocol],
        "the first one is asked"
    );
    write(host, &[Change::Replace(ours(Via::Unreachable))]).await;
    assert_eq!(
        order().await,
        [theirs.protocol],
        "the first one is replaced"
    );
    write(host, &[Change::Del(ours(Via::Unreachable))]).await;
    assert!(shown(host).await.contains(&theirs), "theirs stays");
    clear(host).await;
}

async fn a_replacement_moves_routes(host: &Host) {
    make(host.netlink.as_ref(), &node()).await;
    let states = [
        [
            next_hop(1, tunnel("192.0.2.2")),
            next_hop(2, hop("a", Some("10.0.0.2"))),
            route("10.1.0.0/24", Via::NextHop(1)),
            route("10.2.0.0/24", Via::NextHop(2)),
            route("fd01::/64", Via::NextHop(1)),
            neighbour("v", "10.2.0.0", MAC),
            fdb("v", MAC, "192.0.2.2"),
        ],
        [
            next_hop(1, hop("a", Some("fd00::2"))),
            next_hop(2, onlink("v", "10.2.0.0")),
            route("10.1.0.0/24", Via::NextHop(2)),
            route("10.2.0.0/24", inline(hop("a", Some("10.0.0.2")))),
            route("fd01::/64", Via::Unreachable),
            neighbour("v", "10.2.0.0", "02:00:00:00:00:08"),
            fdb("v", MAC, "192.0.2.3"),
        ],
    ];
    for state in states.iter().chain(&states) {
        write(host, &state.clone().map(Change::Replace)).await;
        assert_eq!(ours(host).await, state);
    }
    clear(host).await;
}

async fn write(host: &Host, changes: &[Change]) {
    let failed = host.forwarding.write(changes).await;
    assert!(failed.is_empty(), "{failed:?}");
}

async fn read(host: &Host, scope: Scope<'_>) -> Vec<Entry> {
    let mut found = Vec::new();
    let outcome = host
        .forwarding
        .read(&scope, &mut |entry| found.push(entry))
        .await;
    assert_eq!(outcome, Ok(()), "{scope}");
    found
}

/// All that the contract makes, sorted by kind and key.
async fn ours(host: &Host) -> Vec<Entry> {
    let mut all = Vec::new();
    for kind in KINDS {
        all.extend(
            read(
                host,
                Scope {
                    kind,
                    protocol: Some(PROTOCOL),
                    link: None,
                },
            )
            .await,
        );
    }
    all.sort_by_key(Entry::key);
    all
}

async fn shown(host: &Host) -> Vec<Route> {
    host.netlink.routes(None).await.expect("routes")
}

/// Removes all that is left.
async fn clear(host: &Host) {
    clear_links(host.netlink.as_ref()).await;
    clear_entries(host).await;
}

async fn clear_entries(host: &Host) {
    // Routes before the next hops that would take them along.
    let removals = ours(host).await.into_iter().rev().map(Change::Del);
    let removals: Vec<Change> = removals.collect();
    write(host, &removals).await;
}
