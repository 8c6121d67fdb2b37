//! One namespace of the fake, seen through the traits.

use std::fmt;

use async_trait::async_trait;

use crate::host::netlink::{
    Address, ApplyError, Link, LinkFilter, Neighbour, Netlink, NetlinkChange, NetlinkError, Route,
    Traffic, Vlan,
};

use super::FakeKernel;
use super::monitor::route_event;
use super::state::{Device, NsId, Outcome, Refusal, State};

/// Bound to a namespace, as a socket is.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) kernel: FakeKernel,
    pub(super) ns: NsId,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FakeKernel namespace {}", self.ns)
    }
}

#[async_trait]
impl Netlink for Handle {
    async fn links(&self, filter: LinkFilter<'_>) -> Result<Vec<Link>, NetlinkError> {
        self.read("ip link show", |state, ns| {
            let namespace = state.namespace(ns)?;
            let master = match filter {
                LinkFilter::Master(name) => match namespace.device(name) {
                    Some(device) => Some(device.link.index),
                    None => return Ok(Vec::new()),
                },
                _ => None,
            };
            let wanted = |device: &&Device| match filter {
                LinkFilter::All => true,
                LinkFilter::Name(name) => device.link.name == name,
                LinkFilter::Index(index) => device.link.index == index,
                LinkFilter::Master(_) => device.link.master == master,
            };
            let links = namespace.links.values().filter(wanted);
            Ok(links.map(|device| device.link.clone()).collect())
        })
    }

    async fn addresses(&self, link: Option<&str>) -> Result<Vec<Address>, NetlinkError> {
        self.read("ip address show", |state, ns| {
            let namespace = state.namespace(ns)?;
            namespace.exists(link)?;
            let held = namespace.addresses.iter();
            let wanted = held.filter(|held| link.is_none_or(|link| held.address.link == link));
            Ok(wanted.map(|held| held.address.clone()).collect())
        })
    }

    async fn routes(&self, link: Option<&str>) -> Result<Vec<Route>, NetlinkError> {
        self.read("ip route show table all", |state, ns| {
            let namespace = state.namespace(ns)?;
            namespace.exists(link)?;
            let routes = namespace.shown_routes();
            let wanted = routes.filter(|route| link.is_none() || route.link.as_deref() == link);
            Ok(wanted.collect())
        })
    }

    /// Permanent ones alone: the fake passes no packets, so nobody learns.
    async fn neighbours(&self, link: Option<&str>) -> Result<Vec<Neighbour>, NetlinkError> {
        self.read("ip neigh show", |state, ns| {
            let namespace = state.namespace(ns)?;
            namespace.exists(link)?;
            let neighbours = namespace.shown_neighbours();
            let wanted = neighbours.filter(|one| link.is_none_or(|link| one.link == link));
            Ok(wanted.collect())
        })
    }

    async fn vlans(&self, link: &str) -> Result<Vec<Vlan>, NetlinkError> {
        self.read("bridge vlan show", |state, ns| {
            Ok(state.namespace(ns)?.device_mut(link)?.vlans.clone())
        })
    }

    async fn traffic(&self, link: &str) -> Result<Traffic, NetlinkError> {
        self.read("tc qdisc show", |state, ns| {
            Ok(state.namespace(ns)?.device_mut(link)?.shaping.shown())
        })
    }

    async fn apply(&self, changes: &[NetlinkChange]) -> Result<(), ApplyError> {
        for (index, change) in changes.iter().enumerate() {
            let failed = |refusal| ApplyError::new(index, error(change.to_string(), refusal));
            if let Err(fault) = self.kernel.faults().count() {
                return Err(failed(Refusal {
                    errno: fault.errno(),
                    message: None,
                }));
            }
            let mut state = self.kernel.state();
            let process = Some(self.kernel.process);
            let before = state.seen_by_others(process);
            let done = state.change(self.ns, change);
            state.settle();
            state.tell_links(process, before);
            done.map_err(failed)?;
            state.tell(process, self.ns, || route_event(change));
        }
        Ok(())
    }
}

impl Handle {
    pub(super) fn read<T>(
        &self,
        operation: &str,
        read: impl FnOnce(&mut State, NsId) -> Outcome<T>,
    ) -> Result<T, NetlinkError> {
        let mut state = self.kernel.state();
        read(&mut state, self.ns).map_err(|refusal| error(operation, refusal))
    }
}

pub(super) fn error(operation: impl Into<String>, refusal: Refusal) -> NetlinkError {
    let error = NetlinkError::new(operation, refusal.errno);
    match refusal.message {
        Some(message) => error.with_message(message),
        None => error,
    }
}

impl State {
    fn change(&mut self, ns: NsId, change: &NetlinkChange) -> Outcome {
        match change {
            NetlinkChange::LinkAdd(new) => self.link_add(ns, new),
            NetlinkChange::LinkSet { link, settings } => self.link_set(ns, link, settings),
            NetlinkChange::LinkDel { link } => self.link_del(ns, link),
            NetlinkChange::GroupDel { group } => self.group_del(ns, *group),
            NetlinkChange::PortSet { link, settings } => {
                self.namespace(ns)?.port_set(link, settings)
            }
            NetlinkChange::VlanAdd {
                link,
                vlan,
                last,
                on_bridge,
            } => self.vlan_add(ns, link, *vlan, *last, *on_bridge),
            NetlinkChange::VlanDel {
                link,
                first,
                last,
                on_bridge,
            } => self.vlan_del(ns, link, (*first, *last), *on_bridge),
            NetlinkChange::AddressAdd(address) => {
                if self.no_ipv6 && address.address.is_ipv6() {
                    return super::state::refuse(crate::host::netlink::errno::EOPNOTSUPP);
                }
                self.namespace(ns)?.address_add(address)
            }
            NetlinkChange::AddressDel(address) => self.namespace(ns)?.address_del(address),
            NetlinkChange::RouteAdd(route) => {
                if self.no_ipv6 && route.destination.is_ipv6() {
                    return super::state::refuse(crate::host::netlink::errno::EOPNOTSUPP);
                }
                self.namespace(ns)?.route_add(route)
            }
            NetlinkChange::RouteDel(route) => self.namespace(ns)?.route_del(route),
            NetlinkChange::QdiscAdd { link, qdisc } => self.qdisc_add(ns, link, *qdisc),
            NetlinkChange::QdiscDel { link, qdisc } => {
                self.namespace(ns)?.device_mut(link)?.qdisc_del(*qdisc)
            }
            NetlinkChange::RedirectAdd { link, to } => self.namespace(ns)?.redirect_add(link, to),
            NetlinkChange::RedirectDel { link, .. } => {
                self.namespace(ns)?.device_mut(link)?.redirect_del()
            }
        }
    }
}
