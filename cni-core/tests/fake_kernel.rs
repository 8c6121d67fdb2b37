//! The fake kernel does what the kernel does, errno by errno.

// Helper functions of tests are not `#[test]`s, by which clippy knows what may panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg(feature = "testing")]

use cni_core::Cancel;
use cni_core::host::netlink::{
    Address, LinkSettings, MacAddr, NetlinkChange, NewLink, NewLinkKind, OperState, PortSettings,
    Route, errno,
};
use cni_core::host::{Host, NetlinkExt, Sandbox};
use cni_core::ipnetwork::IpNetwork;
use cni_core::testing::FakeKernel;

const POD: &str = "/run/netns/pod1";

struct World {
    kernel: FakeKernel,
    host: Host,
    pod: Sandbox,
}

fn world() -> World {
    let kernel = FakeKernel::new();
    World {
        host: kernel.host(),
        pod: kernel.sandbox(POD),
        kernel,
    }
}

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn address(link: &str, text: &str) -> NetlinkChange {
    NetlinkChange::AddressAdd(Address::new(link, net(text)))
}

fn set(link: &str, edit: impl FnOnce(&mut LinkSettings)) -> NetlinkChange {
    let mut settings = LinkSettings::default();
    edit(&mut settings);
    NetlinkChange::LinkSet {
        link: link.to_owned(),
        settings,
    }
}

fn up(link: &str) -> NetlinkChange {
    set(link, |settings| settings.up = Some(true))
}

fn bridge(name: &str) -> NetlinkChange {
    NetlinkChange::LinkAdd(NewLink::new(
        name,
        NewLinkKind::Bridge {
            vlan_filtering: false,
        },
    ))
}

fn pair(world: &World) -> NetlinkChange {
    let mut new = NewLink::new(
        "veth0",
        NewLinkKind::Veth {
            peer: "eth0".to_owned(),
            peer_mac: None,
            peer_netns: Some(world.pod.path.clone()),
        },
    );
    new.master = Some("br0".to_owned());
    new.up = true;
    NetlinkChange::LinkAdd(new)
}

async fn connected() -> World {
    let world = world();
    world
        .host
        .netlink
        .apply(&[bridge("br0"), up("br0"), pair(&world)])
        .await
        .unwrap();
    world.pod.netlink.apply(&[up("eth0")]).await.unwrap();
    world
}

async fn errno_of(netlink: &dyn cni_core::host::Netlink, change: NetlinkChange) -> i32 {
    netlink
        .apply(&[change])
        .await
        .map_or_else(|error| error.error.errno, |()| 0)
}

#[tokio::test]
async fn a_port_forwards_and_the_bridge_has_carrier_once_both_ends_are_up() {
    let world = world();
    let netlink = &world.host.netlink;
    netlink.apply(&[bridge("br0"), up("br0")]).await.unwrap();
    let alone = netlink.link("br0").await.unwrap().unwrap();
    assert_eq!((alone.carrier, alone.oper_state), (false, OperState::Down));
    netlink.apply(&[pair(&world)]).await.unwrap();
    let half = netlink.link("veth0").await.unwrap().unwrap();
    assert_eq!((half.up, half.carrier), (true, false));
    assert!(!netlink.link("br0").await.unwrap().unwrap().carrier);
    world.pod.netlink.apply(&[up("eth0")]).await.unwrap();
    let port = netlink.link("veth0").await.unwrap().unwrap();
    assert_eq!(port.oper_state, OperState::Up);
    assert!(port.port.unwrap().forwarding);
    assert!(port.peer_elsewhere);
    let bridge = netlink.link("br0").await.unwrap().unwrap();
    assert_eq!((bridge.carrier, bridge.oper_state), (true, OperState::Up));
    assert_eq!(port.master, Some(bridge.index));
    assert_eq!(bridge.mac, port.mac);
}

#[tokio::test]
async fn deleting_either_end_or_the_namespace_deletes_both_ends() {
    let world = connected().await;
    let gone = NetlinkChange::LinkDel {
        link: "eth0".to_owned(),
    };
    world.pod.netlink.apply(&[gone]).await.unwrap();
    assert_eq!(world.host.netlink.link("veth0").await.unwrap(), None);

    let world = connected().await;
    world.kernel.remove_namespace(&world.pod.path);
    assert_eq!(world.host.netlink.link("veth0").await.unwrap(), None);
    assert!(world.host.namespaces.open(&world.pod.path).await.is_err());
}

#[tokio::test]
async fn deleting_the_bridge_releases_its_ports() {
    let world = connected().await;
    let gone = NetlinkChange::LinkDel {
        link: "br0".to_owned(),
    };
    world.host.netlink.apply(&[gone]).await.unwrap();
    let port = world.host.netlink.link("veth0").await.unwrap().unwrap();
    assert_eq!((port.master, port.port), (None, None));
}

#[tokio::test]
async fn links_are_refused_with_the_kernels_errnos() {
    let world = connected().await;
    let netlink = &*world.host.netlink;
    assert_eq!(errno_of(netlink, bridge("br0")).await, errno::EEXIST);
    assert_eq!(errno_of(netlink, up("nosuch")).await, errno::ENODEV);
    let mtu = |mtu| set("br0", |settings| settings.mtu = Some(mtu));
    assert_eq!(errno_of(netlink, mtu(67)).await, errno::EINVAL);
    assert_eq!(errno_of(netlink, mtu(65536)).await, errno::EINVAL);
    for mac in ["00:00:00:00:00:00", "01:00:5e:00:00:01"] {
        let mac: MacAddr = mac.parse().unwrap();
        let change = set("br0", |settings| settings.mac = Some(mac));
        assert_eq!(errno_of(netlink, change).await, errno::EADDRNOTAVAIL);
    }
    let lo = NetlinkChange::LinkDel {
        link: "lo".to_owned(),
    };
    assert_eq!(errno_of(netlink, lo).await, errno::EOPNOTSUPP);
    let group = NetlinkChange::GroupDel { group: 7 };
    assert_eq!(errno_of(netlink, group).await, errno::ENODEV);
    let port = NetlinkChange::PortSet {
        link: "br0".to_owned(),
        settings: PortSettings::default(),
    };
    assert_eq!(errno_of(netlink, port).await, errno::EOPNOTSUPP);
}

#[tokio::test]
async fn a_group_of_links_is_deleted_at_once() {
    let world = connected().await;
    let netlink = &world.host.netlink;
    let join = set("veth0", |settings| settings.group = Some(7));
    netlink
        .apply(&[join, NetlinkChange::GroupDel { group: 7 }])
        .await
        .unwrap();
    assert_eq!(netlink.link("veth0").await.unwrap(), None);
    assert!(netlink.link("br0").await.unwrap().is_some());
}

#[tokio::test]
async fn prefix_routes_follow_addresses_and_links() {
    let world = connected().await;
    let netlink = &*world.pod.netlink;
    netlink
        .apply(&[
            address("eth0", "10.0.0.2/24"),
            address("eth0", "fd00::2/64"),
        ])
        .await
        .unwrap();
    assert_eq!(netlink.routes(Some("eth0")).await.unwrap().len(), 2);
    let mut default = Route::new(net("0.0.0.0/0"), "eth0");
    default.gateway = Some("10.0.0.1".parse().unwrap());
    let mut outside = default.clone();
    outside.gateway = Some("10.9.0.1".parse().unwrap());
    let unreachable = errno_of(netlink, NetlinkChange::RouteAdd(outside)).await;
    assert_eq!(unreachable, errno::ENETUNREACH);
    let add = NetlinkChange::RouteAdd(default.clone());
    assert_eq!(errno_of(netlink, add.clone()).await, 0);
    assert_eq!(errno_of(netlink, add).await, errno::EEXIST);
    let down = set("eth0", |settings| settings.up = Some(false));
    assert_eq!(errno_of(netlink, down).await, 0);
    assert_eq!(netlink.routes(None).await.unwrap(), []);
    assert_eq!(netlink.addresses(Some("eth0")).await.unwrap().len(), 1);
    let direct = Route::new(net("10.7.0.0/16"), "eth0");
    let refused = errno_of(netlink, NetlinkChange::RouteAdd(direct)).await;
    assert_eq!(refused, errno::ENETDOWN);
    let missing = errno_of(netlink, NetlinkChange::RouteDel(default)).await;
    assert_eq!(missing, errno::ESRCH);
}

#[tokio::test]
async fn removing_the_last_ipv4_address_flushes_the_links_ipv4_routes() {
    let world = connected().await;
    let netlink = &*world.pod.netlink;
    let other = NetlinkChange::RouteAdd(Route::new(net("10.7.0.0/16"), "eth0"));
    netlink
        .apply(&[address("eth0", "10.0.0.2/24"), other])
        .await
        .unwrap();
    let gone = NetlinkChange::AddressDel(Address::new("eth0", net("10.0.0.2/24")));
    assert_eq!(errno_of(netlink, gone.clone()).await, 0);
    assert_eq!(netlink.routes(None).await.unwrap(), []);
    assert_eq!(errno_of(netlink, gone).await, errno::EADDRNOTAVAIL);
}

#[tokio::test]
async fn the_nth_write_fails_and_those_before_it_hold() {
    let world = world();
    world.kernel.fail_write(2, errno::EBUSY);
    let error = world
        .host
        .netlink
        .apply(&[bridge("br0"), bridge("br1"), bridge("br2")])
        .await
        .unwrap_err();
    assert_eq!((error.index, error.error.errno), (1, errno::EBUSY));
    assert!(world.host.netlink.link("br0").await.unwrap().is_some());
    assert!(world.host.netlink.link("br1").await.unwrap().is_none());
    assert_eq!(world.kernel.writes(), 2);
}

#[tokio::test]
async fn parameters_of_a_link_come_and_go_with_it() {
    let world = world();
    let key = "net/ipv4/conf/br0/arp_notify";
    let sysctl = &world.host.sysctl;
    assert_eq!(sysctl.read(key).await.unwrap(), None);
    assert!(sysctl.write(key, "1").await.is_err());
    let notify = set("br0", |settings| settings.arp_notify = Some(true));
    world
        .host
        .netlink
        .apply(&[bridge("br0"), notify])
        .await
        .unwrap();
    assert_eq!(sysctl.read(key).await.unwrap().as_deref(), Some("1"));
    sysctl.write("net/ipv4/ip_forward", "1").await.unwrap();
    let forwarding = "net/ipv4/conf/br0/forwarding";
    assert_eq!(sysctl.read(forwarding).await.unwrap().as_deref(), Some("1"));
    assert!(sysctl.write(forwarding, "yes").await.is_err());
    assert_eq!(world.pod.sysctl.read(key).await.unwrap(), None);
}

#[tokio::test]
async fn the_exclusive_lock_is_refused_while_anyone_shares() {
    let lock = world().host.lock;
    let shared = lock.shared(&Cancel::new()).await.unwrap();
    assert!(lock.try_exclusive().await.unwrap().is_none());
    drop(shared);
    let exclusive = lock.try_exclusive().await.unwrap().unwrap();
    assert!(lock.try_exclusive().await.unwrap().is_none());
    drop(exclusive);
    lock.shared(&Cancel::new()).await.unwrap();
}
