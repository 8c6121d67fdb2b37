//! Changes in few words.

use ipnetwork::IpNetwork;

use crate::host::netlink::{
    Address, LinkSettings, NetlinkChange, NewLink, NewLinkKind, PortSettings, Route, Vxlan,
    VxlanSettings,
};

pub(in super::super) fn bridge(name: &str) -> NetlinkChange {
    let vlan_filtering = false;
    NetlinkChange::LinkAdd(NewLink::new(name, NewLinkKind::Bridge { vlan_filtering }))
}

pub(in super::super) fn pair(name: &str, peer: &str) -> NetlinkChange {
    let kind = NewLinkKind::Veth {
        peer: peer.to_owned(),
        peer_mac: None,
        peer_netns: None,
    };
    NetlinkChange::LinkAdd(NewLink::new(name, kind))
}

/// A pair with the peer `b`.
pub(in super::super) fn add(name: &str, change: impl FnOnce(&mut NewLink)) -> NetlinkChange {
    let mut made = pair(name, "b");
    if let NetlinkChange::LinkAdd(new) = &mut made {
        change(new);
    }
    made
}

/// A VXLAN device of VNI 7 and port 7777.
pub(in super::super) fn vxlan(name: &str, change: impl FnOnce(&mut Vxlan)) -> NetlinkChange {
    let mut vxlan = Vxlan::new(7, 7777);
    change(&mut vxlan);
    vxlan_with(name, vxlan, |_| {})
}

/// A VXLAN device without Ethernet headers, port 7778.
pub(in super::super) fn flow(name: &str, change: impl FnOnce(&mut NewLink)) -> NetlinkChange {
    vxlan_with(name, Vxlan::flow(7778), change)
}

pub(in super::super) fn vxlan_with(
    name: &str,
    vxlan: Vxlan,
    change: impl FnOnce(&mut NewLink),
) -> NetlinkChange {
    let mut new = NewLink::new(name, NewLinkKind::Vxlan(vxlan));
    change(&mut new);
    NetlinkChange::LinkAdd(new)
}

pub(in super::super) fn vxlan_set(
    name: &str,
    change: impl FnOnce(&mut VxlanSettings),
) -> NetlinkChange {
    let mut settings = VxlanSettings::default();
    change(&mut settings);
    set(name, |set| set.vxlan = Some(settings))
}

pub(in super::super) fn del(name: &str) -> NetlinkChange {
    let link = name.to_owned();
    NetlinkChange::LinkDel { link }
}

pub(in super::super) fn set(name: &str, change: impl FnOnce(&mut LinkSettings)) -> NetlinkChange {
    let mut settings = LinkSettings::default();
    change(&mut settings);
    let link = name.to_owned();
    NetlinkChange::LinkSet { link, settings }
}

pub(in super::super) fn up(name: &str) -> NetlinkChange {
    set(name, |set| set.up = Some(true))
}

pub(in super::super) fn master(name: &str, master: &str) -> NetlinkChange {
    set(name, |set| set.master = Some(master.to_owned()))
}

pub(in super::super) fn port(name: &str) -> NetlinkChange {
    let (link, settings) = (name.to_owned(), PortSettings::default());
    NetlinkChange::PortSet { link, settings }
}

pub(in super::super) fn prefix(text: &str) -> IpNetwork {
    text.parse().expect("a prefix")
}

pub(in super::super) fn address(link: &str, text: &str) -> NetlinkChange {
    NetlinkChange::AddressAdd(Address::new(link, prefix(text)))
}

pub(in super::super) fn address_del(link: &str, text: &str) -> NetlinkChange {
    NetlinkChange::AddressDel(Address::new(link, prefix(text)))
}

pub(in super::super) fn route_of(to: &str, link: &str) -> Route {
    Route::new(prefix(to), link)
}

pub(in super::super) fn route(to: &str, link: &str) -> NetlinkChange {
    NetlinkChange::RouteAdd(route_of(to, link))
}

pub(in super::super) fn route_with(
    to: &str,
    link: &str,
    change: impl FnOnce(&mut Route),
) -> NetlinkChange {
    let mut route = route_of(to, link);
    change(&mut route);
    NetlinkChange::RouteAdd(route)
}
