//! What every [`Netlink`] must do and refuse: the kernel's rules, as far as plugins rest on them.

use std::net::IpAddr;

use crate::attach::ready;
use crate::cancel::Cancel;
use crate::host::netlink::errno::{EEXIST, ENODEV};
use crate::host::netlink::{
    Address, Link, LinkFilter, LinkKind, Netlink, NetlinkChange, NetlinkExt, OperState,
    PortSettings,
};
use build::{
    add, address, address_del, bridge, del, master, pair, prefix, route, route_of, set, up,
};

pub(super) mod build;
mod cases;
mod traffic;
mod vxlan;

pub use traffic::traffic_control;

/// Success, where an errno is expected.
const DONE: i32 = 0;
const EHOSTUNREACH: i32 = 113;
/// The device group in which links are deleted after each case.
const RUBBISH: u32 = 77_778;

/// Runs the contract of [`Netlink`] in an empty namespace: nothing but `lo`, IPv6 enabled, parameters as they are in a
/// new namespace. Drivers needed: bridge, veth and vxlan. All links that it makes are gone at the end.
///
/// # Panics
/// Where the implementation differs, saying in what.
pub async fn netlink(netlink: &dyn Netlink) {
    refusals(netlink, cases::all().chain(vxlan::cases())).await;
    what_is_missing_is_empty_or_an_error(netlink).await;
    changes_stop_at_the_first_failure(netlink).await;
    pairs_and_bridges(netlink).await;
    settings_are_read_as_written(netlink).await;
    a_group_goes_at_once(netlink).await;
    prefix_routes_follow_addresses(netlink).await;
    routes_are_read_as_written(netlink).await;
    vxlan::devices(netlink).await;
}

/// Changes, the last of which is answered by an errno, or succeeds.
async fn refusals(netlink: &dyn Netlink, all: impl Iterator<Item = cases::Case>) {
    let mut differences = Vec::new();
    for (rule, changes, wanted) in all {
        let (last, given) = changes.split_last().expect("a case has a change");
        for change in given {
            if let Err(error) = netlink.apply_one(change.clone()).await {
                differences.push(format!("{rule}: beforehand, {error}"));
            }
        }
        let outcome = netlink.apply_one(last.clone()).await;
        let errno = outcome.as_ref().map_or_else(|error| error.errno, |()| DONE);
        if errno != wanted {
            differences.push(format!(
                "{rule}: `{last}` gave errno {errno} instead of {wanted}: {outcome:?}"
            ));
        }
        clear(netlink).await;
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

async fn what_is_missing_is_empty_or_an_error(netlink: &dyn Netlink) {
    for filter in [
        LinkFilter::Name("missing"),
        LinkFilter::Index(77_777),
        LinkFilter::Master("missing"),
    ] {
        let found = netlink.links(filter).await;
        assert_eq!(found, Ok(Vec::new()), "{filter:?} of a missing link");
    }
    let missing = Some("missing");
    let answers = [
        netlink.addresses(missing).await.err(),
        netlink.routes(missing).await.err(),
        netlink.neighbours(missing).await.err(),
        netlink.vlans("missing").await.err(),
    ];
    for answer in answers {
        let errno = answer.as_ref().map(|error| error.errno);
        assert_eq!(errno, Some(ENODEV), "of a missing link: {answer:?}");
    }
}

async fn changes_stop_at_the_first_failure(netlink: &dyn Netlink) {
    let all = [bridge("a"), pair("b", "c"), bridge("a"), bridge("d")];
    let error = netlink.apply(&all).await.expect_err("the third fails");
    assert_eq!((error.index, error.error.errno), (2, EEXIST), "{error}");
    assert!(find(netlink, "a").await.is_some(), "the first is in force");
    assert!(find(netlink, "b").await.is_some(), "the second is in force");
    assert!(find(netlink, "d").await.is_none(), "the fourth is not");
    assert_eq!(netlink.apply(&[]).await, Ok(()), "nothing is no failure");
    clear(netlink).await;
}

async fn pairs_and_bridges(netlink: &dyn Netlink) {
    make(
        netlink,
        &[
            bridge("br"),
            up("br"),
            pair("a", "b"),
            master("a", "br"),
            up("a"),
        ],
    )
    .await;
    let (br, a, b) = (
        link(netlink, "br").await,
        link(netlink, "a").await,
        link(netlink, "b").await,
    );
    assert_eq!(a.kind, LinkKind::Veth);
    assert_eq!(
        (a.peer, b.peer),
        (Some(b.index), Some(a.index)),
        "ends name each other"
    );
    assert!(!a.peer_elsewhere, "the peer is in the same namespace");
    assert_eq!(a.master, Some(br.index), "a port names its bridge");
    assert!(!a.carrier, "one end alone has no carrier");
    // Not down in any case: kernels before 6.9 look at a new link's carrier only some time later.
    assert_ne!(a.oper_state, OperState::Up, "one end alone is not ready");

    make(netlink, &[up("b")]).await;
    let a = ready::link(netlink, "a", ready::Until::Forwarding, &Cancel::new()).await;
    let a = a.expect("a port with carrier forwards");
    assert!(
        a.carrier && link(netlink, "b").await.carrier,
        "both ends up have carrier"
    );
    let ports = netlink.links(LinkFilter::Master("br")).await;
    assert_eq!(ports, Ok(vec![a]), "the bridge's ports");

    make(netlink, &[del("br")]).await;
    let a = link(netlink, "a").await;
    assert_eq!(
        (a.master, a.port),
        (None, None),
        "a bridge's end releases its ports"
    );
    make(netlink, &[del("b")]).await;
    assert!(
        find(netlink, "a").await.is_none(),
        "a veth's end is its peer's"
    );
    clear(netlink).await;
}

async fn settings_are_read_as_written(netlink: &dyn Netlink) {
    let mac = "02:00:00:00:00:07".parse().ok();
    make(
        netlink,
        &[
            bridge("br"),
            add("a", |new| new.mtu = Some(1400)),
            master("a", "br"),
        ],
    )
    .await;
    let change = set("a", |set| {
        set.mtu = Some(1300);
        set.mac = "02:00:00:00:00:07".parse().ok();
        set.alias = Some("an alias".to_owned());
        set.group = Some(77_777);
        set.promiscuous = Some(true);
        set.all_multicast = Some(true);
        set.tx_queue_len = Some(77);
    });
    let settings = PortSettings {
        hairpin: true,
        isolated: true,
        forwarding: false,
    };
    let link_name = "a".to_owned();
    let port = NetlinkChange::PortSet {
        link: link_name,
        settings,
    };
    make(netlink, &[change, port]).await;
    let a = link(netlink, "a").await;
    assert_eq!((a.mtu, a.mac), (1300, mac));
    assert_eq!((a.alias.as_deref(), a.group), (Some("an alias"), 77_777));
    assert!(a.promiscuous && a.all_multicast);
    assert_eq!(a.tx_queue_len, 77);
    assert_eq!(a.port, Some(settings));
    let br = link(netlink, "br").await;
    assert_eq!((br.mtu, br.mac), (1300, mac), "a bridge follows its ports");
    make(netlink, &[set("a", |set| set.alias = Some(String::new()))]).await;
    assert_eq!(
        link(netlink, "a").await.alias,
        None,
        "an empty alias is none"
    );
    clear(netlink).await;
}

async fn a_group_goes_at_once(netlink: &dyn Netlink) {
    let into = |link| set(link, |set| set.group = Some(77_777));
    make(
        netlink,
        &[
            pair("a", "b"),
            pair("c", "d"),
            bridge("br"),
            into("a"),
            into("b"),
            into("c"),
        ],
    )
    .await;
    make(netlink, &[NetlinkChange::GroupDel { group: 77_777 }]).await;
    for name in ["a", "b", "c", "d"] {
        assert!(
            find(netlink, name).await.is_none(),
            "{name} goes with its group"
        );
    }
    assert!(find(netlink, "br").await.is_some(), "others stay");
    clear(netlink).await;
}

async fn prefix_routes_follow_addresses(netlink: &dyn Netlink) {
    make(netlink, &[pair("a", "b"), address("a", "10.0.0.1/24")]).await;
    assert_eq!(
        destinations(netlink).await,
        [""; 0],
        "a link that is down has no routes"
    );
    make(netlink, &[up("a"), up("b"), address("a", "fd00::1/64")]).await;
    let both = ["10.0.0.0/24", "fd00::/64"];
    assert_eq!(destinations(netlink).await, both, "prefixes have routes");
    let mut quiet = Address::new("a", prefix("10.8.0.1/24"));
    quiet.no_prefix_route = true;
    make(netlink, &[NetlinkChange::AddressAdd(quiet.clone())]).await;
    assert_eq!(destinations(netlink).await, both, "noprefixroute has none");
    let found = netlink.addresses(Some("a")).await.expect("addresses");
    assert!(found.contains(&quiet), "{quiet:?} in {found:?}");
    make(
        netlink,
        &[route("10.1.0.0/24", "a"), address_del("a", "fd00::1/64")],
    )
    .await;
    assert_eq!(destinations(netlink).await, ["10.0.0.0/24", "10.1.0.0/24"]);
    make(netlink, &[set("a", |set| set.up = Some(false))]).await;
    assert_eq!(destinations(netlink).await, [""; 0], "down flushes routes");
    make(netlink, &[up("a")]).await;
    assert_eq!(
        destinations(netlink).await,
        ["10.0.0.0/24"],
        "up brings prefixes back"
    );
    make(netlink, &[del("a")]).await;
    assert_eq!(
        destinations(netlink).await,
        [""; 0],
        "routes end with their link"
    );
    clear(netlink).await;
}

async fn routes_are_read_as_written(netlink: &dyn Netlink) {
    make(
        netlink,
        &[
            pair("a", "b"),
            up("a"),
            up("b"),
            address("a", "10.0.0.1/24"),
            address("a", "fd00::1/64"),
        ],
    )
    .await;
    for (to, gateway, source) in [
        ("10.1.0.0/24", "10.0.0.2", "10.0.0.1"),
        ("fd01::/64", "fd00::2", "fd00::1"),
    ] {
        let mut wanted = route_of(to, "a");
        wanted.gateway = gateway.parse().ok();
        wanted.source = source.parse().ok();
        wanted.metric = 7;
        wanted.table = 77;
        wanted.protocol = 77;
        wanted.mtu = Some(1300);
        wanted.advmss = Some(1200);
        make(netlink, &[NetlinkChange::RouteAdd(wanted.clone())]).await;
        let found = netlink.routes(Some("a")).await.expect("routes");
        assert!(found.contains(&wanted), "{wanted:?} in {found:?}");
        let all = netlink.routes(None).await.expect("routes");
        assert!(all.contains(&wanted), "{wanted:?} in {all:?}");
    }
    clear(netlink).await;
}

/// Destinations of routes but link-local and multicast ones, which the kernel makes by itself.
async fn destinations(netlink: &dyn Netlink) -> Vec<String> {
    let routes = netlink.routes(None).await.expect("routes");
    let chosen = routes.iter().map(|route| route.destination);
    let mut chosen: Vec<String> = chosen
        .filter(|destination| match destination.ip() {
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_multicast(),
            IpAddr::V4(_) => true,
        })
        .map(|destination| destination.to_string())
        .collect();
    chosen.sort();
    chosen
}

pub(super) async fn make(netlink: &dyn Netlink, changes: &[NetlinkChange]) {
    if let Err(error) = netlink.apply(changes).await {
        panic!("{error}");
    }
}

/// Deletes all links but `lo`, by a group, because the kernel then waits only once.
pub(super) async fn clear(netlink: &dyn Netlink) {
    let links = netlink.links(LinkFilter::All).await.expect("links");
    let others = links.iter().filter(|link| link.kind != LinkKind::Physical);
    let into = |link: &Link| set(&link.name, |set| set.group = Some(RUBBISH));
    let mut changes: Vec<NetlinkChange> = others.map(into).collect();
    if !changes.is_empty() {
        changes.push(NetlinkChange::GroupDel { group: RUBBISH });
        make(netlink, &changes).await;
    }
}

async fn find(netlink: &dyn Netlink, name: &str) -> Option<Link> {
    netlink.link(name).await.expect("links can be read")
}

async fn link(netlink: &dyn Netlink, name: &str) -> Link {
    match find(netlink, name).await {
        Some(link) => link,
        None => panic!("link {name} is missing"),
    }
}
