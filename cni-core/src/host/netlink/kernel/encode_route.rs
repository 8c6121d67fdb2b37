//! Addresses and routes into the typed messages of `netlink-packet-route`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteScope, RouteType,
    RouteVia,
};

use super::super::route::{Address, Route};

fn family(network: IpNetwork) -> AddressFamily {
    match network {
        IpNetwork::V4(_) => AddressFamily::Inet,
        IpNetwork::V6(_) => AddressFamily::Inet6,
    }
}

/// Addresses of one link, or with index 0 of all, as a dump.
pub(super) fn address_dump(index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message
}

/// An address. The broadcast address stays unset, as `ip address add` leaves it: what needs it uses 255.255.255.255.
pub(super) fn address(address: &Address, index: u32) -> AddressMessage {
    let mut message = address_dump(index);
    message.header.family = family(address.address);
    message.header.prefix_len = address.address.prefix();
    message.header.scope = address.scope.into();
    let ip = address.address.ip();
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Nodad, address.no_dad && ip.is_ipv6());
    flags.set(AddressFlags::Noprefixroute, address.no_prefix_route);
    if !flags.is_empty() {
        message.header.flags = AddressHeaderFlags::from_bits_retain(flags.bits().to_ne_bytes()[0]);
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    message
}

/// Unicast routes of one family, through one link when an index is given, as a dump.
pub(super) fn route_dump(family: AddressFamily, index: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.kind = RouteType::Unicast;
    message.attributes.extend(index.map(RouteAttribute::Oif));
    message
}

/// The route that packets to an address take.
pub(super) fn route_get(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let host = IpNetwork::from(address);
    message.header.address_family = family(host);
    message.header.destination_prefix_length = host.prefix();
    let destination = RouteAttribute::Destination(RouteAddress::from(address));
    message.attributes.push(destination);
    message
}

/// What identifies a route: also enough to delete it.
pub(super) fn route_key(route: &Route, index: Option<u32>) -> RouteMessage {
    const UNSPECIFIED_TABLE: u8 = 0;
    let mut message = route_dump(family(route.destination), index);
    message.header.destination_prefix_length = route.destination.prefix();
    message.header.protocol = route.protocol.into();
    // Matches every scope; RTM_NEWROUTE sets its own.
    message.header.scope = RouteScope::NoWhere;
    match u8::try_from(route.table) {
        Ok(table) => message.header.table = table,
        Err(_) => {
            message.header.table = UNSPECIFIED_TABLE;
            message.attributes.push(RouteAttribute::Table(route.table));
        }
    }
    let attributes = &mut message.attributes;
    if route.destination.prefix() > 0 {
        let destination = RouteAddress::from(route.destination.network());
        attributes.push(RouteAttribute::Destination(destination));
    }
    if let Some(gateway) = route.gateway {
        attributes.push(match (route.destination, gateway) {
            (IpNetwork::V4(_), IpAddr::V6(gateway)) => {
                RouteAttribute::Via(RouteVia::Inet6(gateway))
            }
            _ => RouteAttribute::Gateway(RouteAddress::from(gateway)),
        });
    }
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

/// A route to add.
pub(super) fn route(route: &Route, index: Option<u32>) -> RouteMessage {
    let mut message = route_key(route, index);
    message.header.scope = route.scope.into();
    message.header.flags.set(RouteFlags::Onlink, route.onlink);
    let source = route.source.map(RouteAddress::from);
    message
        .attributes
        .extend(source.map(RouteAttribute::PrefSource));
    let mtu = route.mtu.map(RouteMetric::Mtu);
    let advmss = route.advmss.map(RouteMetric::Advmss);
    let metrics: Vec<_> = mtu.into_iter().chain(advmss).collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

/// Neighbours of one family (or forwarding entries, with the bridge family), of one link when an index is given, as a
/// dump.
pub(super) fn neighbour_dump(family: AddressFamily, index: Option<u32>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message
        .attributes
        .extend(index.map(NeighbourAttribute::IfIndex));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_beyond_a_byte_travels_as_an_attribute() {
        let mut wanted = Route::new("10.0.0.0/8".parse().unwrap(), "eth0");
        assert_eq!(route(&wanted, Some(3)).header.table, 254);
        wanted.table = 1000;
        let message = route(&wanted, Some(3));
        assert_eq!(message.header.table, 0);
        assert!(message.attributes.contains(&RouteAttribute::Table(1000)));
    }

    #[test]
    fn a_default_route_has_no_destination_and_a_host_bit_is_cut_off() {
        let default = route(&Route::new("0.0.0.0/0".parse().unwrap(), "eth0"), Some(3));
        assert_eq!(default.attributes, [RouteAttribute::Oif(3)]);
        let cut = route(&Route::new("10.1.2.3/8".parse().unwrap(), "eth0"), None);
        let network = RouteAddress::Inet("10.0.0.0".parse().unwrap());
        assert_eq!(cut.attributes, [RouteAttribute::Destination(network)]);
    }

    #[test]
    fn a_deletion_matches_any_scope_but_only_its_own_protocol() {
        let mut wanted = Route::new("10.0.0.0/8".parse().unwrap(), "eth0");
        wanted.scope = Route::SCOPE_LINK;
        wanted.protocol = 99;
        let message = route_key(&wanted, None);
        assert_eq!(u8::from(message.header.scope), 255);
        assert_eq!(u8::from(message.header.protocol), 99);
    }

    #[test]
    fn no_dad_is_for_ipv6_only_and_no_broadcast_address_is_set() {
        let mut v4 = Address::new("eth0", "10.0.0.2/24".parse().unwrap());
        v4.no_dad = true;
        let message = address(&v4, 3);
        let ip: IpAddr = "10.0.0.2".parse().unwrap();
        assert_eq!(
            message.attributes,
            [AddressAttribute::Local(ip), AddressAttribute::Address(ip)]
        );
        let mut v6 = Address::new("eth0", "fd00::2/64".parse().unwrap());
        v6.no_prefix_route = true;
        let message = address(&v6, 3);
        assert_eq!(message.header.flags.bits(), 0x02);
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        assert!(message.attributes.contains(&AddressAttribute::Flags(flags)));
    }
}
