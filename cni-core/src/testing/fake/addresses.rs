//! Addresses, and the routes that come and go with them: `net/ipv4/devinet.c`, `net/ipv4/fib_frontend.c`,
//! `net/ipv6/addrconf.c`.
//!
//! Not modelled: the link-local addresses that the kernel itself gives to links, and duplicate address detection (every
//! address can be used at once).

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::host::netlink::errno::{EACCES, EADDRNOTAVAIL, EEXIST, EINVAL};
use crate::host::netlink::{Address, Route};

use super::state::{Held, Namespace, Outcome, refuse, refuse_saying};
use super::table::Record;

const ENXIO: i32 = 6;
/// `RTPROT_KERNEL`.
const PROTOCOL_KERNEL: u8 = 2;
/// `RT_SCOPE_HOST`.
const SCOPE_HOST: u8 = 254;
/// `IPV6_MIN_MTU`.
pub(super) const IPV6_MIN_MTU: u32 = 1280;

impl Namespace {
    pub(super) fn address_add(&mut self, new: &Address) -> Outcome {
        let device = self.device_mut(&new.link)?;
        let (up, loopback, mtu) = (device.link.up, device.is_loopback(), device.link.mtu);
        let secondary = match new.address {
            IpNetwork::V4(_) => self.accept_ipv4(new)?,
            IpNetwork::V6(_) => {
                self.accept_ipv6(new, loopback, mtu)?;
                false
            }
        };
        let mut address = new.clone();
        address.tentative = false;
        address.dad_failed = false;
        address.temporary = false;
        address.deprecated = false;
        if address.address.is_ipv6() {
            address.scope = ipv6_scope(address.address);
        }
        let held = Held { address, secondary };
        if up {
            self.add_prefix_route(&held);
        }
        self.addresses.push(held);
        Ok(())
    }

    /// Whether the new address is a secondary one of its prefix.
    fn accept_ipv4(&self, new: &Address) -> Outcome<bool> {
        let mut secondary = false;
        for held in self.on_link(&new.link) {
            if held.address.address.prefix() != new.address.prefix()
                || held.address.address.network() != new.address.network()
            {
                continue;
            }
            if held.address.address.ip() == new.address.ip() {
                return refuse_saying(EEXIST, "ipv4: Address already assigned");
            }
            if held.address.scope != new.scope {
                return refuse_saying(EINVAL, "ipv4: Invalid scope value");
            }
            secondary = true;
        }
        Ok(secondary)
    }

    fn accept_ipv6(&self, new: &Address, loopback: bool, mtu: u32) -> Outcome {
        let IpAddr::V6(ip) = new.address.ip() else {
            return Ok(());
        };
        if ip.is_multicast() {
            return refuse_saying(
                EADDRNOTAVAIL,
                "ipv6: Cannot assign multicast address without \"IFA_F_MCAUTOJOIN\" flag",
            );
        }
        if mtu < IPV6_MIN_MTU {
            return refuse(EINVAL);
        }
        if self.interface_sysctl("ipv6", &new.link, "disable_ipv6") == Some("1") {
            return refuse_saying(EACCES, "ipv6: IPv6 is disabled on this device");
        }
        if ip.is_unspecified() {
            return refuse_saying(EADDRNOTAVAIL, "ipv6: Invalid address");
        }
        if ip.is_loopback() && !loopback {
            return refuse_saying(
                EADDRNOTAVAIL,
                "ipv6: Cannot assign loopback address on this device",
            );
        }
        if self
            .on_link(&new.link)
            .any(|held| held.address.address.ip() == new.address.ip())
        {
            return refuse_saying(EEXIST, "ipv6: address already assigned");
        }
        Ok(())
    }

    pub(super) fn address_del(&mut self, old: &Address) -> Outcome {
        let device = self.device_mut(&old.link)?;
        if old.address.is_ipv6() && !device.has_ipv6() {
            return refuse_saying(ENXIO, "ipv6: IPv6 is disabled on this device");
        }
        let Some(position) = self
            .addresses
            .iter()
            .position(|held| held.address.link == old.link && held.address.address == old.address)
        else {
            let message = match old.address {
                IpNetwork::V4(_) => "ipv4: Address not found",
                IpNetwork::V6(_) => "ipv6: address not found",
            };
            return refuse_saying(EADDRNOTAVAIL, message);
        };
        let gone = self.addresses.remove(position);
        match gone.address.address {
            IpNetwork::V4(_) => self.removed_ipv4(&gone),
            IpNetwork::V6(_) => self.removed_ipv6(&gone),
        }
        Ok(())
    }

    fn removed_ipv4(&mut self, gone: &Held) {
        let link = gone.address.link.clone();
        let network = gone.address.address;
        if !gone.secondary {
            self.remove_prefix_route(&gone.address);
            let same = |held: &Held| {
                held.address.link == link
                    && held.address.address.prefix() == network.prefix()
                    && held.address.address.network() == network.network()
            };
            if self.promotes_secondaries(&link) {
                let next = self.addresses.iter_mut().find(|held| same(held));
                if let Some(next) = next {
                    next.secondary = false;
                    let next = next.clone();
                    if self.is_up(&link) {
                        self.add_prefix_route(&next);
                    }
                }
            } else {
                let followers: Vec<Held> = self
                    .addresses
                    .iter()
                    .filter(|held| same(held))
                    .cloned()
                    .collect();
                self.addresses.retain(|held| !same(held));
                for follower in followers {
                    self.forget_source(follower.address.address.ip());
                }
            }
        }
        self.forget_source(gone.address.address.ip());
        if !self
            .on_link(&link)
            .any(|held| held.address.address.is_ipv4())
        {
            // `fib_disable_ip`.
            self.flush_routes(&link, IpNetwork::is_ipv4);
            self.flush_neighbours(&link, IpAddr::is_ipv4);
        }
    }

    fn removed_ipv6(&mut self, gone: &Held) {
        let prefix = gone.address.address;
        let shared = self.on_link(&gone.address.link).any(|held| {
            held.address.address.prefix() == prefix.prefix()
                && held.address.address.network() == prefix.network()
        });
        if !shared {
            self.remove_prefix_route(&gone.address);
        }
        // `fib6_remove_prefsrc`: unless the route's own link has the address as well.
        let others: Vec<String> = self
            .addresses
            .iter()
            .filter(|held| held.address.address.ip() == prefix.ip())
            .map(|held| held.address.link.clone())
            .collect();
        for record in self.routes.iter_mut() {
            let route = &mut record.route;
            let stays = route
                .link
                .as_ref()
                .is_some_and(|link| others.contains(link));
            if route.source == Some(prefix.ip()) && !stays {
                route.source = None;
            }
        }
    }

    /// `fib_sync_down_addr`: routes whose preferred source is nobody's address any more go.
    fn forget_source(&mut self, ip: IpAddr) {
        if self
            .addresses
            .iter()
            .any(|held| held.address.address.ip() == ip)
        {
            return;
        }
        self.routes.retain(|record| record.route.source != Some(ip));
    }

    pub(super) fn addresses_up(&mut self, link: &str) {
        let loopback = self
            .device(link)
            .is_some_and(super::state::Device::is_loopback);
        if loopback {
            self.add_loopback_addresses(link);
        }
        let held: Vec<Held> = self.on_link(link).cloned().collect();
        for held in held {
            self.add_prefix_route(&held);
        }
    }

    fn add_loopback_addresses(&mut self, link: &str) {
        for text in ["127.0.0.1/8", "::1/128"] {
            let Ok(address) = text.parse::<IpNetwork>() else {
                continue;
            };
            let disabled = address.is_ipv6()
                && self.interface_sysctl("ipv6", link, "disable_ipv6") == Some("1");
            if disabled
                || self
                    .on_link(link)
                    .any(|held| held.address.address == address)
            {
                continue;
            }
            let mut address = Address::new(link, address);
            address.no_dad = false;
            address.scope = SCOPE_HOST;
            self.addresses.push(Held {
                address,
                secondary: false,
            });
        }
    }

    /// Down: all routes, next hops and neighbours go, and IPv6 addresses unless they are kept (`keep_addr_on_down`).
    pub(super) fn addresses_down(&mut self, link: &str) {
        self.flush_routes(link, |_| true);
        self.flush_next_hops(link);
        self.flush_neighbours(link, |_| true);
        self.drop_ipv6(link);
    }

    pub(super) fn drop_ipv6(&mut self, link: &str) {
        self.addresses
            .retain(|held| held.address.link != link || held.address.address.is_ipv4());
        self.flush_routes(link, IpNetwork::is_ipv6);
        self.flush_neighbours(link, IpAddr::is_ipv6);
    }

    pub(super) fn mtu_changed(&mut self, link: &str, before: u32, after: u32) {
        if before >= IPV6_MIN_MTU && after < IPV6_MIN_MTU {
            self.drop_ipv6(link);
            self.forget_ipv6_sysctls(link);
        }
        if before < IPV6_MIN_MTU && after >= IPV6_MIN_MTU {
            self.inherit_sysctls_of("ipv6", link);
        }
    }

    pub(super) fn forget_link(&mut self, link: &str) {
        self.addresses.retain(|held| held.address.link != link);
        self.flush_routes(link, |_| true);
        self.flush_next_hops(link);
        self.flush_neighbours(link, |_| true);
        self.fdb.retain(|(candidate, _), _| **candidate != *link);
        self.forget_interface_sysctls(link);
    }

    fn flush_routes(&mut self, link: &str, family: impl Fn(&IpNetwork) -> bool) {
        // Of a route by a next hop's id it is the next hop that goes.
        self.routes.retain(|record| {
            record.next_hop.is_some()
                || record.route.link.as_deref() != Some(link)
                || !family(&record.route.destination)
        });
    }

    fn add_prefix_route(&mut self, held: &Held) {
        let Some(route) = self.prefix_route(&held.address) else {
            return;
        };
        if held.secondary {
            return;
        }
        let record = Record::new(route);
        let others = self.routes.of(record.key());
        if !others.contains(&record) {
            others.push(record);
        }
    }

    fn remove_prefix_route(&mut self, address: &Address) {
        if let Some(route) = self.prefix_route(address) {
            let gone = Record::new(route);
            self.routes.retain(|candidate| *candidate != gone);
        }
    }

    /// The route that comes with an address, when one does.
    fn prefix_route(&self, address: &Address) -> Option<Route> {
        if address.no_prefix_route {
            return None;
        }
        let network = IpNetwork::new(address.address.network(), address.address.prefix()).ok()?;
        let loopback = self
            .device(&address.link)
            .is_some_and(super::state::Device::is_loopback);
        let mut route = Route::new(network, &address.link);
        route.protocol = PROTOCOL_KERNEL;
        match address.address {
            IpNetwork::V4(v4) => {
                let [first, ..] = v4.network().octets();
                if loopback || v4.prefix() == 32 || first == 0 || v4.network().is_multicast() {
                    return None;
                }
                route.scope = Route::SCOPE_LINK;
                route.source = Some(address.address.ip());
            }
            IpNetwork::V6(v6) => {
                if v6.ip().is_loopback() {
                    return None;
                }
                route.metric = 256;
            }
        }
        Some(route)
    }

    pub(super) fn on_link<'a>(&'a self, link: &'a str) -> impl Iterator<Item = &'a Held> {
        self.addresses
            .iter()
            .filter(move |held| held.address.link == link)
    }

    pub(super) fn is_up(&self, link: &str) -> bool {
        self.device(link).is_some_and(|device| device.link.up)
    }

    fn promotes_secondaries(&self, link: &str) -> bool {
        ["all", link]
            .iter()
            .any(|scope| self.interface_sysctl("ipv4", scope, "promote_secondaries") == Some("1"))
    }
}

/// `RT_SCOPE_*` as the kernel reports it: it derives an IPv6 address' scope from the address.
fn ipv6_scope(address: IpNetwork) -> u8 {
    match address.ip() {
        IpAddr::V6(ip) if ip.is_loopback() => SCOPE_HOST,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Route::SCOPE_LINK,
        _ => 0,
    }
}
