//! Changes in few words.

use ipnetwork::IpNetwork;

use crate::host::netlink::{
    Address, LinkSettings, NetlinkChange, NewLink, NewLinkKind, PortSettings, Route,
};

pub(super) fn bridge(name: &str) -> NetlinkChange {
    let vlan_filtering = false;
    NetlinkChange::LinkAdd(NewLink::new(name, NewLinkKind::Bridge { vlan_filtering }))
}

pub(super) fn pair(name: &str, peer: &str) -> NetlinkChange {
    let kind = NewLinkKind::Veth {
        peer: peer.to_owned(),
        peer_mac: None,
        peer_netns: None,
    };
    NetlinkChange::LinkAdd(NewLink::new(name, kind))
}

/// A pair with the peer `b`.
pub(super) fn add(name: &str, change: impl FnOnce(&mut NewLink)) -> NetlinkChange {
    let mut made = pair(name, "b");
    if let NetlinkChange::LinkAdd(new) = &mut made {
        change(new);
    }
    made
}

pub(super) fn del(name: &str) -> NetlinkChange {
    let link = name.to_owned();
    NetlinkChange::LinkDel { link }
}

pub(super) fn set(name: &str, change: impl FnOnce(&mut LinkSettings)) -> NetlinkChange {
    let mut settings = LinkSettings::default();
    change(&mut settings);
    let link = name.to_owned();
    NetlinkChange::LinkSet { link, settings }
}

pub(super) fn up(name: &str) -> NetlinkChange {
    set(name, |set| set.up = Some(true))
}

pub(super) fn master(name: &str, master: &str) -> NetlinkChange {
    set(name, |set| set.master = Some(master.to_owned()))
}

pub(super) fn port(name: &str) -> NetlinkChange {
    let (link, settings) = (name.to_owned(), PortSettings::default());
    NetlinkChange::PortSet { link, settings }
}

pub(super) fn prefix(text: &str) -> IpNetwork {
    text.parse().expect("a prefix")
}

pub(super) fn address(link: &str, text: &str) -> NetlinkChange {
    NetlinkChange::AddressAdd(Address::new(link, prefix(text)))
}

pub(super) fn address_del(link: &str, text: &str) -> NetlinkChange {
    NetlinkChange::AddressDel(Address::new(link, prefix(text)))
}

pub(super) fn route_of(to: &str, link: &str) -> Route {
    Route::new(prefix(to), link)
}

pub(super) fn route(to: &str, link: &str) -> NetlinkChange {
    NetlinkChange::RouteAdd(route_of(to, link))
}

pub(super) fn route_with(to: &str, link: &str, change: impl FnOnce(&mut Route)) -> NetlinkChange {
    let mut route = route_of(to, link);
    change(&mut route);
    NetlinkChange::RouteAdd(route)
}
