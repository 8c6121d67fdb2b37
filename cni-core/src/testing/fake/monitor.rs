//! Telling other processes of changes: rtnetlink and nfnetlink multicast.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::channel::{Receiver, Sender, channel};
use crate::host::forwarding::{Change, Entry, Hop, LinkName, Route, Via};
use crate::host::monitor::{KernelEvent, Monitor, queue};
use crate::host::netlink::{Address, Link, NetlinkChange, Route as NetlinkRoute};

use super::state::{NsId, State};

/// Number of a process inside the fake.
pub(super) type ProcessId = usize;

/// Somebody who wants to know what other processes change in a namespace.
#[derive(Debug)]
pub(super) struct Watcher {
    ns: NsId,
    process: ProcessId,
    to: Sender<KernelEvent>,
}

/// What of a namespace is told by what it has become.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    links: BTreeMap<u32, Link>,
    addresses: Vec<Address>,
}

#[derive(Debug)]
struct FakeMonitor(Receiver<KernelEvent>);

#[async_trait]
impl Monitor for FakeMonitor {
    async fn next(&mut self) -> KernelEvent {
        queue::next(&mut self.0).await
    }
}

impl State {
    pub(super) fn watch(&mut self, ns: NsId, process: ProcessId) -> Box<dyn Monitor> {
        let (to, events) = channel();
        self.watchers.push(Watcher { ns, process, to });
        Box::new(FakeMonitor(events))
    }

    /// The namespaces that processes other than this one watch. `None`: a test's hook, which is everybody's other.
    pub(super) fn seen_by_others(&mut self, process: Option<ProcessId>) -> BTreeMap<NsId, Seen> {
        self.watchers.retain(|watcher| !watcher.to.is_abandoned());
        let others = self.watchers.iter();
        let watched = others.filter(|watcher| Some(watcher.process) != process);
        watched
            .filter_map(|watcher| Some((watcher.ns, self.seen(watcher.ns)?)))
            .collect()
    }

    fn seen(&self, ns: NsId) -> Option<Seen> {
        let namespace = self.namespaces.get(&ns)?;
        let links = namespace.links.iter();
        let addresses = namespace.addresses.iter();
        Some(Seen {
            links: links
                .map(|(index, device)| (*index, device.link.clone()))
                .collect(),
            addresses: addresses.map(|held| held.address.clone()).collect(),
        })
    }

    /// What has become of links and addresses.
    pub(super) fn tell_links(&self, process: Option<ProcessId>, before: BTreeMap<NsId, Seen>) {
        for (ns, before) in before {
            if let Some(after) = self.seen(ns)
                && after != before
            {
                for event in differences(&before, &after) {
                    self.tell(process, ns, || Some(event.clone()));
                }
            }
        }
    }

    /// Tells those of other processes who watch the namespace.
    pub(super) fn tell(
        &self,
        process: Option<ProcessId>,
        ns: NsId,
        event: impl Fn() -> Option<KernelEvent>,
    ) {
        for watcher in &self.watchers {
            if watcher.ns == ns
                && Some(watcher.process) != process
                && let Some(event) = event()
            {
                queue::tell(&watcher.to, event);
            }
        }
    }
}

fn differences(before: &Seen, after: &Seen) -> Vec<KernelEvent> {
    let event = |link: &Link, removed| KernelEvent::Link {
        index: link.index,
        name: link.name.clone(),
        removed,
    };
    let mut events = Vec::new();
    for (index, link) in &before.links {
        let now = after.links.get(index);
        if now.is_none_or(|now| now.name != link.name) {
            events.push(event(link, true));
        }
    }
    for (index, link) in &after.links {
        if before.links.get(index) != Some(link) {
            events.push(event(link, false));
        }
    }
    let index = |name: &str| {
        let mut links = before.links.values().chain(after.links.values());
        Some(links.find(|link| link.name == name)?.index)
    };
    let (old, new) = (before.addresses.iter(), after.addresses.iter());
    let gone = old.filter(|address| !after.addresses.contains(address));
    let come = new.filter(|address| !before.addresses.contains(address));
    for address in gone.chain(come) {
        let name = address.link.clone();
        events.extend(index(&name).map(|index| KernelEvent::Address { index, name }));
    }
    events
}

/// What is told of an entry that was written.
pub(super) fn entry_event(change: &Change) -> KernelEvent {
    let entry = change.entry();
    match (change, entry) {
        (Change::Del(_), Entry::Neighbour(_)) => KernelEvent::Gone { key: entry.key() },
        _ => KernelEvent::Entry {
            entry: entry.clone(),
            removed: matches!(change, Change::Del(_)),
        },
    }
}

/// What is told of a route that was made or removed as one of a few.
pub(super) fn route_event(change: &NetlinkChange) -> Option<KernelEvent> {
    let (route, removed) = match change {
        NetlinkChange::RouteAdd(route) => (route, false),
        NetlinkChange::RouteDel(route) => (route, true),
        _ => return None,
    };
    let entry = Entry::Route(Route {
        destination: route.destination,
        table: route.table,
        metric: route.metric,
        protocol: route.protocol,
        via: via(route),
    });
    Some(KernelEvent::Entry { entry, removed })
}

fn via(route: &NetlinkRoute) -> Via {
    match &route.link {
        Some(link) if route.source.is_none() && route.mtu.is_none() => Via::Hop(Box::new(Hop {
            link: LinkName::from(link.as_str()),
            gateway: route.gateway,
            onlink: route.onlink,
            encap: None,
        })),
        _ => Via::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::host::Host;
    use crate::host::firewall::{Family, FirewallChange, Table};
    use crate::host::forwarding::{Key, Neighbour, NextHop};
    use crate::host::netlink::{LinkSettings, NewLink, NewLinkKind, Vxlan};
    use crate::testing::FakeKernel;

    fn taken(monitor: &mut Box<dyn Monitor>) -> Vec<KernelEvent> {
        let mut all = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(event) = monitor.next().as_mut().poll(&mut context) {
            all.push(event);
        }
        all
    }

    async fn apply(host: &Host, change: NetlinkChange) {
        host.netlink.apply(&[change]).await.unwrap();
    }

    fn up() -> LinkSettings {
        let mut settings = LinkSettings::default();
        settings.up = Some(true);
        settings
    }

    /// A device `vx`, up, as this process makes it.
    async fn device(host: &Host) {
        let kind = NewLinkKind::Vxlan(Vxlan::new(1, 8472));
        apply(host, NetlinkChange::LinkAdd(NewLink::new("vx", kind))).await;
        let (link, settings) = ("vx".to_owned(), up());
        apply(host, NetlinkChange::LinkSet { link, settings }).await;
    }

    fn entries() -> [Entry; 3] {
        let hop = Hop {
            link: "vx".into(),
            gateway: Some([10, 244, 7, 0].into()),
            onlink: true,
            encap: None,
        };
        [
            Entry::Neighbour(Neighbour {
                link: "vx".into(),
                address: [10, 244, 7, 0].into(),
                mac: "02:00:00:00:00:01".parse().unwrap(),
            }),
            Entry::NextHop(NextHop {
                id: 7,
                protocol: 167,
                hop,
            }),
            Entry::Route(Route {
                destination: "10.244.7.0/24".parse().unwrap(),
                table: 254,
                metric: 0,
                protocol: 167,
                via: Via::NextHop(7),
            }),
        ]
    }

    #[tokio::test]
    async fn what_another_process_does_is_told_and_what_this_one_does_is_not() {
        let kernel = FakeKernel::new();
        let (host, other) = (kernel.host(), kernel.another_process().host());
        let mut monitor = kernel.monitor();
        device(&host).await;
        let made = host.forwarding.write(&entries().map(Change::Add)).await;
        assert!(made.is_empty(), "{made:?}");
        assert_eq!(taken(&mut monitor), []);
        let removals = entries().map(Change::Del);
        let [neighbour, hop, route] = removals;
        other.forwarding.write(&[route, hop, neighbour]).await;
        let [neighbour, hop, route] = entries();
        let removed = |entry| KernelEvent::Entry {
            entry,
            removed: true,
        };
        let key = neighbour.key();
        assert!(matches!(key, Key::Neighbour(..)));
        let told = [removed(route), removed(hop), KernelEvent::Gone { key }];
        assert_eq!(taken(&mut monitor), told);
    }

    #[tokio::test]
    async fn what_goes_with_a_link_is_told_by_the_links_event() {
        let kernel = FakeKernel::new();
        let (host, other) = (kernel.host(), kernel.another_process().host());
        device(&host).await;
        host.forwarding.write(&entries().map(Change::Add)).await;
        let mut monitor = kernel.monitor();
        let mut settings = up();
        settings.up = Some(false);
        let link = "vx".to_owned();
        apply(&other, NetlinkChange::LinkSet { link, settings }).await;
        let link = "vx".to_owned();
        apply(&other, NetlinkChange::LinkDel { link }).await;
        let event = |removed| KernelEvent::Link {
            index: 2,
            name: "vx".to_owned(),
            removed,
        };
        assert_eq!(taken(&mut monitor), [event(false), event(true)]);
    }

    #[tokio::test]
    async fn a_changed_link_and_its_addresses_are_told() {
        let kernel = FakeKernel::new();
        let other = kernel.another_process().host();
        device(&kernel.host()).await;
        let mut monitor = kernel.monitor();
        let mut settings = LinkSettings::default();
        settings.mtu = Some(1400);
        let link = "vx".to_owned();
        apply(&other, NetlinkChange::LinkSet { link, settings }).await;
        let address = Address::new("vx", "10.244.1.0/32".parse().unwrap());
        apply(&other, NetlinkChange::AddressAdd(address)).await;
        let (index, name) = (2, "vx".to_owned());
        let link = KernelEvent::Link {
            index,
            name: name.clone(),
            removed: false,
        };
        let address = KernelEvent::Address { index, name };
        assert_eq!(taken(&mut monitor), [link, address]);
    }

    #[tokio::test]
    async fn transactions_and_routes_of_another_process_are_told() {
        let kernel = FakeKernel::new();
        let (host, other) = (kernel.host(), kernel.another_process().host());
        device(&host).await;
        let mut monitor = kernel.monitor();
        let table = |name: &str| {
            FirewallChange::TableAdd(Table {
                family: Family::Inet,
                name: name.to_owned(),
            })
        };
        host.firewall.commit(&[table("ours")]).await.unwrap();
        assert_eq!(taken(&mut monitor), []);
        other.firewall.commit(&[table("other")]).await.unwrap();
        let mut route = NetlinkRoute::new("10.244.7.0/24".parse().unwrap(), "vx");
        route.scope = 253;
        apply(&other, NetlinkChange::RouteAdd(route)).await;
        let told = taken(&mut monitor);
        assert!(
            matches!(
                &told[..],
                [
                    KernelEvent::Firewall { .. },
                    KernelEvent::Entry {
                        entry: Entry::Route(Route {
                            via: Via::Hop(_),
                            ..
                        }),
                        removed: false,
                    },
                ]
            ),
            "{told:?}"
        );
    }

    #[tokio::test]
    async fn a_hook_is_told_and_a_monitor_that_is_gone_is_forgotten() {
        let kernel = FakeKernel::new();
        let host = kernel.host();
        let pod = kernel.namespace("/run/netns/pod");
        let new = NewLink::new(
            "veth0",
            NewLinkKind::Veth {
                peer: "eth0".to_owned(),
                peer_mac: None,
                peer_netns: Some(pod.clone()),
            },
        );
        apply(&host, NetlinkChange::LinkAdd(new)).await;
        let mut monitor = kernel.monitor();
        drop(kernel.monitor());
        kernel.remove_namespace(&pod);
        let name = "veth0".to_owned();
        let event = KernelEvent::Link {
            index: 2,
            name,
            removed: true,
        };
        assert_eq!(taken(&mut monitor), [event]);
        assert_eq!(kernel.state().watchers.len(), 1);
    }
}
