use super::super::link::{MacAddr, PortSettings};
use super::*;
use crate::host::NetnsPath;

fn text(change: NetlinkChange) -> String {
    change.to_string()
}

fn set(change: impl FnOnce(&mut LinkSettings)) -> String {
    let mut settings = LinkSettings::default();
    change(&mut settings);
    let link = "eth0".into();
    text(NetlinkChange::LinkSet { link, settings })
}

#[test]
fn a_veth_prints_with_all_that_it_is_given() {
    let kind = NewLinkKind::Veth {
        peer: "eth0".into(),
        peer_mac: Some(MacAddr([2, 0, 0, 0, 0, 9])),
        peer_netns: Some(NetnsPath::new("/var/run/netns/pod 1")),
    };
    let mut new = NewLink::new("veth0", kind);
    new.mtu = Some(1400);
    new.mac = Some(MacAddr([2, 0, 0, 0, 0, 8]));
    new.master = Some("br0".into());
    new.up = true;
    let first = "ip link add veth0 mtu 1400 address 02:00:00:00:00:08 master br0 up type veth \
                 peer name eth0 mtu 1400 address 02:00:00:00:00:09 netns '/var/run/netns/pod 1'";
    assert_eq!(text(NetlinkChange::LinkAdd(new.clone())), first);
    new.ipv6_link_local = false;
    assert_eq!(
        text(NetlinkChange::LinkAdd(new)),
        format!("{first}\nip link set dev veth0 addrgenmode none")
    );
}

#[test]
fn a_bridge_goes_up_after_its_address_mode_is_set() {
    let kind = NewLinkKind::Bridge {
        vlan_filtering: true,
    };
    let mut new = NewLink::new("br0", kind);
    new.up = true;
    assert_eq!(
        text(NetlinkChange::LinkAdd(new.clone())),
        "ip link add br0 up type bridge vlan_filtering 1"
    );
    new.ipv6_link_local = false;
    assert_eq!(
        text(NetlinkChange::LinkAdd(new)),
        "ip link add br0 type bridge vlan_filtering 1\n\
         ip link set dev br0 addrgenmode none\n\
         ip link set dev br0 up"
    );
    let plain = NewLink::new(
        "br0",
        NewLinkKind::Bridge {
            vlan_filtering: false,
        },
    );
    assert_eq!(
        text(NetlinkChange::LinkAdd(plain)),
        "ip link add br0 type bridge"
    );
    assert_eq!(
        text(NetlinkChange::LinkAdd(NewLink::new(
            "d0",
            NewLinkKind::Dummy
        ))),
        "ip link add d0 type dummy"
    );
}

#[test]
fn every_setting_of_a_link_prints() {
    let all = set(|settings| {
        *settings = LinkSettings {
            up: Some(false),
            mtu: Some(9000),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            master: Some("br0".into()),
            alias: Some("net pod's eth0".into()),
            promiscuous: Some(true),
            all_multicast: Some(false),
            tx_queue_len: Some(10),
            group: Some(7),
            arp_notify: Some(true),
            ipv6_link_local: Some(true),
            vlan_filtering: Some(true),
            vxlan: None,
        }
    });
    assert_eq!(
        all,
        "sysctl -w net/ipv4/conf/eth0/arp_notify=1\n\
         ip link set dev eth0 addrgenmode eui64\n\
         ip link set dev eth0 mtu 9000 address 02:00:00:00:00:01 master br0 \
         alias 'net pod'\\''s eth0' promisc on allmulticast off txqueuelen 10 group 7 down \
         type bridge vlan_filtering 1"
    );
    assert_eq!(set(|_| {}), "ip link set dev eth0");
    assert_eq!(
        set(|settings| settings.up = Some(true)),
        "ip link set dev eth0 up"
    );
    assert_eq!(
        set(|settings| settings.arp_notify = Some(false)),
        "sysctl -w net/ipv4/conf/eth0/arp_notify=0"
    );
    assert_eq!(
        set(|settings| {
            settings.master = Some(String::new());
            settings.alias = Some(String::new());
        }),
        "ip link set dev eth0 nomaster alias ''"
    );
}

#[test]
fn deletions_and_ports_print() {
    let link = || "veth0".to_owned();
    assert_eq!(
        text(NetlinkChange::LinkDel { link: link() }),
        "ip link delete dev veth0"
    );
    assert_eq!(
        text(NetlinkChange::GroupDel { group: 12 }),
        "ip link delete group 12"
    );
    let settings = PortSettings {
        hairpin: true,
        ..PortSettings::default()
    };
    assert_eq!(
        text(NetlinkChange::PortSet {
            link: link(),
            settings
        }),
        "bridge link set dev veth0 hairpin on isolated off"
    );
}

#[test]
fn vlans_print_with_range_and_flags() {
    let link = "br0".to_owned();
    let vlan = Vlan {
        id: 5,
        pvid: true,
        untagged: true,
    };
    assert_eq!(
        text(NetlinkChange::VlanAdd {
            link: link.clone(),
            vlan,
            last: 5,
            on_bridge: false
        }),
        "bridge vlan add dev br0 vid 5 pvid untagged"
    );
    assert_eq!(
        text(NetlinkChange::VlanDel {
            link,
            first: 5,
            last: 9,
            on_bridge: true
        }),
        "bridge vlan delete dev br0 vid 5-9 self"
    );
}

#[test]
fn addresses_print() {
    let v4 = Address::new("eth0", "10.0.0.2/24".parse().unwrap());
    let mut v6 = Address::new("eth0", "fd00::2/64".parse().unwrap());
    v6.no_prefix_route = true;
    v6.scope = 253;
    assert_eq!(
        text(NetlinkChange::AddressAdd(v4.clone())),
        "ip address add 10.0.0.2/24 dev eth0"
    );
    assert_eq!(
        text(NetlinkChange::AddressAdd(v6)),
        "ip address add fd00::2/64 dev eth0 scope link nodad noprefixroute"
    );
    assert_eq!(
        text(NetlinkChange::AddressDel(v4)),
        "ip address delete 10.0.0.2/24 dev eth0"
    );
}

#[test]
fn routes_print() {
    let mut route = Route::new("0.0.0.0/0".parse().unwrap(), "eth0");
    route.gateway = Some("10.0.0.1".parse().unwrap());
    route.source = Some("10.0.0.2".parse().unwrap());
    route.metric = 100;
    route.table = 1000;
    route.protocol = 77;
    route.mtu = Some(1400);
    route.advmss = Some(1360);
    route.onlink = true;
    assert_eq!(
        text(NetlinkChange::RouteAdd(route.clone())),
        "ip route add default via 10.0.0.1 dev eth0 metric 100 table 1000 proto 77 \
         src 10.0.0.2 mtu 1400 advmss 1360 onlink"
    );
    assert_eq!(
        text(NetlinkChange::RouteDel(route)),
        "ip route delete default via 10.0.0.1 dev eth0 metric 100 table 1000 proto 77"
    );
    let mut six = Route::new("::/0".parse().unwrap(), "eth0");
    six.gateway = Some("fd00::1".parse().unwrap());
    assert_eq!(
        text(NetlinkChange::RouteAdd(six)),
        "ip -6 route add default via fd00::1 dev eth0"
    );
    let mut second = Route::new("0.0.0.0/0".parse().unwrap(), "eth0");
    second.gateway = Some("10.0.0.9".parse().unwrap());
    second.beside_others = true;
    assert_eq!(
        text(NetlinkChange::RouteAdd(second)),
        "ip route prepend default via 10.0.0.9 dev eth0"
    );
    let mut mixed = Route::new("10.1.0.0/16".parse().unwrap(), "eth0");
    mixed.gateway = Some("fd00::1".parse().unwrap());
    assert_eq!(
        text(NetlinkChange::RouteAdd(mixed)),
        "ip route add 10.1.0.0/16 via inet6 fd00::1 dev eth0"
    );
}

#[test]
fn the_scope_prints_where_ip_would_take_another() {
    let mut route = Route::new("10.0.0.0/24".parse().unwrap(), "eth0");
    assert_eq!(
        text(NetlinkChange::RouteAdd(route.clone())),
        "ip route add 10.0.0.0/24 dev eth0 scope global"
    );
    route.scope = Route::SCOPE_LINK;
    assert_eq!(
        text(NetlinkChange::RouteAdd(route)),
        "ip route add 10.0.0.0/24 dev eth0"
    );
}
