//! What this process changes itself.

use std::time::{Duration, Instant};

use cni_core::host::firewall::{Element, Family, FirewallChange, SetSpec, Table, Value, ValueType};
use cni_core::host::forwarding::*;
use cni_core::host::netlink::{Address, LinkSettings, NetlinkChange, NewLink, NewLinkKind, Vxlan};
use cni_core::host::{Host, KernelEvent};

use super::support::*;

const MAC: &str = "02:00:00:00:00:01";

/// In the order in which they are made.
fn entries() -> [Entry; 6] {
    [
        fdb(MAC, "192.0.2.2"),
        neighbour("10.244.7.0", MAC),
        next_hop(8, tunnelled("192.0.2.2")),
        route("10.244.7.0/24", 0, Via::NextHop(8)),
        route("fd00:244:7::/64", 128, Via::NextHop(8)),
        rule(100, "10.244.1.0/24", 167),
    ]
}

fn write(host: &Host, changes: &[Change]) {
    let failed = now(host.forwarding.write(changes));
    assert!(failed.is_empty(), "{failed:#?}");
}

pub(crate) fn forwarding_by_this_process_is_left_out() {
    node();
    let mut watch = Watch::open();
    let host = Host::open().unwrap();
    write(&host, &entries().map(Change::Add));
    assert_eq!(watch.taken(), []);
    write(&host, &entries().map(Change::Replace));
    assert_eq!(watch.taken(), []);
    let moved = [
        fdb(MAC, "192.0.2.3"),
        neighbour("10.244.7.0", "02:00:00:00:00:02"),
        next_hop(8, tunnelled("192.0.2.3")),
        route("10.244.7.0/24", 0, Via::Unreachable),
    ];
    write(&host, &moved.clone().map(Change::Replace));
    assert_eq!(watch.taken(), []);
    let [_, _, _, _, v6, rule] = entries();
    let [fdb, neighbour, hop, v4] = moved;
    write(&host, &[rule, v6, v4, hop, neighbour, fdb].map(Change::Del));
    assert_eq!(watch.taken(), []);
}

pub(crate) fn what_others_do_to_entries_of_this_process_is_told() {
    node();
    let mut watch = Watch::open();
    let host = Host::open().unwrap();
    write(&host, &entries().map(Change::Add));
    let gone = gone(Key::Neighbour("vx".into(), "10.244.7.0".parse().unwrap()));
    let [fdb, _, hop, v4, v6, rule] = entries();
    for (change, event) in [
        ("ip rule del priority 100", removed(rule)),
        ("ip -6 route del fd00:244:7::/64", removed(v6)),
        ("ip route del 10.244.7.0/24", removed(v4)),
        ("ip nexthop del id 8", removed(hop)),
        ("ip neigh del 10.244.7.0 dev vx", gone),
        ("bridge fdb del 02:00:00:00:00:01 dev vx", removed(fdb)),
    ] {
        assert_eq!(watch.after(change), [event], "{change}");
    }
}

/// The kernel does not say who removed a neighbour or a forwarding entry, and says nothing where there was none.
pub(crate) fn a_removal_of_long_ago_hides_no_removal_by_others() {
    node();
    let mut watch = Watch::open();
    let host = Host::open().unwrap();
    let [fdb, neighbour, ..] = entries();
    let both = [fdb.clone(), neighbour.clone()];
    let absent = now(host.forwarding.write(&both.clone().map(Change::Del)));
    assert_eq!(absent.len(), 2);
    write(&host, &both.map(Change::Add));
    assert_eq!(watch.taken(), []);
    let gone = gone(Key::Neighbour("vx".into(), "10.244.7.0".parse().unwrap()));
    let events =
        watch.after("ip neigh del 10.244.7.0 dev vx; bridge fdb del 02:00:00:00:00:01 dev vx");
    assert_eq!(events, [gone, removed(fdb)]);
}

/// Since Linux 6.2 new and removed links, before that no links.
pub(crate) fn of_links_and_addresses_of_this_process_some_are_told() {
    node();
    let mut watch = Watch::open();
    let host = Host::open().unwrap();
    let apply = |change| now(host.netlink.apply(&[change])).unwrap();
    let address = |text: &str| {
        let mut address = Address::new("eth0", text.parse().unwrap());
        address.no_dad = true;
        address.no_prefix_route = true;
        address
    };
    // Left out.
    apply(NetlinkChange::AddressAdd(address("192.0.2.9/24")));
    apply(NetlinkChange::AddressDel(address("192.0.2.9/24")));
    let told = watch.all_taken();
    assert!(
        !told.iter().any(super::support::address("eth0")),
        "{told:?}"
    );
    // Told: the kernel does not say whose changes they are.
    apply(NetlinkChange::AddressAdd(address("2001:db8::9/64")));
    // A moment later, where the machine is busy.
    let mut told = watch.all_taken();
    let end = Instant::now() + Duration::from_secs(20);
    while !told.iter().any(super::support::address("eth0")) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
        told.extend(watch.all_taken());
    }
    assert!(told.iter().any(super::support::address("eth0")), "{told:?}");
    let mut settings = LinkSettings::default();
    settings.mtu = Some(1400);
    let link = "eth0".to_owned();
    apply(NetlinkChange::LinkSet { link, settings });
    assert!(watch.taken().iter().any(link_told("eth0")));
    // The name of a link that is made is known even where its making is left out.
    let new = NewLink::new("vx9", NewLinkKind::Vxlan(Vxlan::new(9, 8479)));
    apply(NetlinkChange::LinkAdd(new));
    watch.taken();
    let events = watch.after("ip link set vx9 up");
    assert!(events.iter().any(link_told("vx9")), "{events:?}");
    let of_vx9 = "bridge fdb append 02:00:00:00:00:01 dev vx9 dst 192.0.2.2";
    let events = watch.after(of_vx9);
    assert!(
        matches!(
            &events[..],
            [KernelEvent::Entry {
                entry: Entry::Fdb(_),
                ..
            }]
        ),
        "{events:?}"
    );
}

fn link_told(name: &str) -> impl Fn(&KernelEvent) -> bool {
    link(name, false)
}

pub(crate) fn transactions_of_this_process_are_left_out() {
    node();
    let mut watch = Watch::open();
    let host = Host::open().unwrap();
    let table = Table {
        family: Family::Inet,
        name: "ours".to_owned(),
    };
    let element = || vec![Element::new(vec![Value::Ipv4([192, 0, 2, 1].into())])];
    let set = SetSpec::new("addresses", [ValueType::Ipv4]);
    let name = || "addresses".to_owned();
    let transactions = [
        vec![
            FirewallChange::TableAdd(table.clone()),
            FirewallChange::SetAdd {
                table: table.clone(),
                set,
            },
        ],
        vec![FirewallChange::ElementAdd {
            table: table.clone(),
            set: name(),
            elements: element(),
        }],
        // Those that remove something are made by a socket that is closed at once.
        vec![FirewallChange::ElementDel {
            table: table.clone(),
            set: name(),
            elements: element(),
        }],
        vec![FirewallChange::TableDel(table)],
    ];
    for changes in &transactions {
        watch
            .with(async |_| host.firewall.commit(changes).await)
            .unwrap();
        assert_eq!(watch.taken(), []);
    }
    let events = watch.after("nft add table inet other");
    assert_eq!(events, [firewall("other")]);
}
