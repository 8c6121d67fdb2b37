//! What the fake kernel holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::host::conntrack::Flow;
use crate::host::firewall::{Family, Table};
use crate::host::forwarding::{LinkName, PolicyRule};
use crate::host::legacy::LegacyRule;
use crate::host::netlink::{Address, Link, LinkKind, MacAddr, OperState, PortSettings, Vlan};

use super::firewall::TableRecord;
use super::forwarding::{HeldNextHop, kernel_rules};
use super::monitor::Watcher;
use super::table::Routes;
use super::traffic::Shaping;

/// Number of a namespace inside the fake; never reused.
pub(super) type NsId = usize;

/// Why the kernel refuses: errno and, where it has one, its sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) errno: i32,
    pub(super) message: Option<&'static str>,
}

pub(super) type Outcome<T = ()> = Result<T, Refusal>;

pub(super) fn refuse<T>(errno: i32) -> Outcome<T> {
    Err(Refusal {
        errno,
        message: None,
    })
}

pub(super) fn refuse_saying<T>(errno: i32, message: &'static str) -> Outcome<T> {
    Err(Refusal {
        errno,
        message: Some(message),
    })
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) namespaces: BTreeMap<NsId, Namespace>,
    pub(super) paths: BTreeMap<PathBuf, NsId>,
    pub(super) next_namespace: NsId,
    pub(super) macs_given: u32,
    pub(super) no_vlan_filtering: bool,
    pub(super) no_ipv6: bool,
    pub(super) no_next_hops: bool,
    pub(super) no_traffic_control: bool,
    pub(super) watchers: Vec<Watcher>,
}

#[derive(Debug, Default)]
pub(super) struct Namespace {
    pub(super) links: BTreeMap<u32, Device>,
    pub(super) addresses: Vec<Held>,
    pub(super) routes: Routes,
    pub(super) next_hops: BTreeMap<u32, HeldNextHop>,
    /// Permanent ones: the fake passes no packets, so nobody learns.
    pub(super) neighbours: BTreeMap<(LinkName, IpAddr), MacAddr>,
    pub(super) fdb: BTreeMap<(LinkName, MacAddr), IpAddr>,
    /// By priority, and then in the order in which they were made.
    pub(super) rules: Vec<PolicyRule>,
    pub(super) tables: BTreeMap<Table, TableRecord>,
    /// The legacy table `filter` of a family, where there is one.
    pub(super) legacy: BTreeMap<Family, Vec<LegacyRule>>,
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) flows: Vec<Flow>,
    pub(super) last_flow: u32,
    /// The one that the kernel begins with (`init_net`).
    pub(super) is_first: bool,
    pub(super) last_index: u32,
    pub(super) last_handle: u64,
}

/// A link and what readers do not see of it.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) link: Link,
    /// Namespace and index of a veth's other end.
    pub(super) peer: Option<(NsId, u32)>,
    /// Somebody chose the MAC: a bridge's then stays (`NET_ADDR_SET`).
    pub(super) mac_set: bool,
    /// Somebody chose a bridge's MTU: it then stays (`BROPT_MTU_SET_BY_USER`).
    pub(super) mtu_set: bool,
    pub(super) vlans: Vec<Vlan>,
    pub(super) shaping: Shaping,
}

/// An address and whether another one of its prefix came first (`IFA_F_SECONDARY`).
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) address: Address,
    pub(super) secondary: bool,
}

impl State {
    pub(super) fn namespace(&mut self, ns: NsId) -> Outcome<&mut Namespace> {
        match self.namespaces.get_mut(&ns) {
            Some(namespace) => Ok(namespace),
            None => refuse_saying(crate::host::netlink::errno::ENODEV, "the namespace is gone"),
        }
    }

    pub(super) fn new_namespace(&mut self) -> NsId {
        let id = self.next_namespace;
        self.next_namespace += 1;
        let mut namespace = Namespace {
            is_first: id == 0,
            ..Namespace::default()
        };
        let index = namespace.next_index();
        let mut lo = Link::new(index, "lo", LinkKind::Physical);
        lo.mtu = 65536;
        lo.mac = Some(MacAddr([0; 6]));
        namespace.links.insert(index, Device::new(lo));
        // `ipv6_add_dev`: nobody answers there.
        namespace.set_interface_sysctl("ipv6", "lo", "accept_dad", "-1");
        namespace.rules = kernel_rules().collect();
        self.namespaces.insert(id, namespace);
        id
    }

    /// A MAC as the kernel chooses one: unicast, locally administered, never the same twice.
    pub(super) fn next_mac(&mut self) -> MacAddr {
        self.macs_given += 1;
        let [a, b, c, d] = self.macs_given.to_be_bytes();
        MacAddr([0x02, 0xfa, a, b, c, d])
    }

    /// Derives carrier, operational state and spanning tree state from what is up and connected.
    pub(super) fn settle(&mut self) {
        let ups: BTreeMap<(NsId, u32), bool> = self
            .namespaces
            .iter()
            .flat_map(|(ns, namespace)| {
                namespace
                    .links
                    .iter()
                    .map(|(index, device)| ((*ns, *index), device.link.up))
            })
            .collect();
        for namespace in self.namespaces.values_mut() {
            let had_carrier = namespace.with_carrier();
            for device in namespace.links.values_mut() {
                let up = device.link.up;
                let (carrier, reports) = match device.peer {
                    Some(peer) => (up && ups.get(&peer).copied().unwrap_or(false), true),
                    None => (up, false),
                };
                device.link.carrier = carrier;
                device.link.oper_state = oper_state(up, carrier, reports);
            }
            namespace.settle_bridges();
            // `nh_netdev_event`: a next hop needs carrier; a route has none if need be.
            let has_carrier = namespace.with_carrier();
            for link in had_carrier.difference(&has_carrier) {
                namespace.flush_next_hops(link);
            }
        }
    }
}

fn oper_state(up: bool, carrier: bool, reports: bool) -> OperState {
    match (up && carrier, reports) {
        (false, _) => OperState::Down,
        (true, true) => OperState::Up,
        (true, false) => OperState::Unknown,
    }
}

impl Namespace {
    pub(super) fn next_index(&mut self) -> u32 {
        self.last_index += 1;
        self.last_index
    }

    pub(super) fn device(&self, name: &str) -> Option<&Device> {
        self.links.values().find(|device| device.link.name == name)
    }

    pub(super) fn device_mut(&mut self, name: &str) -> Outcome<&mut Device> {
        match self
            .links
            .values_mut()
            .find(|device| device.link.name == name)
        {
            Some(device) => Ok(device),
            None => refuse(crate::host::netlink::errno::ENODEV),
        }
    }

    /// That a link which is asked about is there.
    pub(super) fn exists(&self, link: Option<&str>) -> Outcome {
        match link.is_none_or(|link| self.device(link).is_some()) {
            true => Ok(()),
            false => refuse(crate::host::netlink::errno::ENODEV),
        }
    }

    fn with_carrier(&self) -> BTreeSet<String> {
        let carriers = self.links.values().filter(|device| device.link.carrier);
        carriers.map(|device| device.link.name.clone()).collect()
    }

    pub(super) fn ports(&self, bridge: u32) -> impl Iterator<Item = &Device> {
        self.links
            .values()
            .filter(move |device| device.link.master == Some(bridge))
    }

    fn settle_bridges(&mut self) {
        let bridges: Vec<(u32, bool)> = self
            .links
            .values()
            .filter(|device| device.is_bridge())
            .map(|device| (device.link.index, device.link.up))
            .collect();
        for (bridge, up) in bridges {
            let mut forwarding = false;
            for port in self.links.values_mut() {
                if port.link.master != Some(bridge) {
                    continue;
                }
                let forwards = up && port.link.up && port.link.carrier;
                forwarding |= forwards;
                if let Some(settings) = &mut port.link.port {
                    settings.forwarding = forwards;
                }
            }
            if let Some(device) = self.links.get_mut(&bridge) {
                // `br_port_state_selection`: the carrier is its ports'.
                device.link.carrier = forwarding;
                device.link.oper_state = oper_state(up, forwarding, true);
            }
        }
    }
}

impl Device {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            peer: None,
            mac_set: false,
            mtu_set: false,
            vlans: Vec::new(),
            shaping: Shaping::default(),
        }
    }

    pub(super) fn is_bridge(&self) -> bool {
        matches!(self.link.kind, LinkKind::Bridge { .. })
    }

    /// It carries packets without an Ethernet header (`ARPHRD_NONE`).
    pub(super) fn has_no_mac(&self) -> bool {
        matches!(&self.link.kind, LinkKind::Vxlan(vxlan) if vxlan.gpe)
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.link.kind == LinkKind::Physical
    }

    /// Below the least MTU a link has no IPv6 at all (`ipv6_add_dev`).
    pub(super) fn has_ipv6(&self) -> bool {
        self.link.mtu >= super::addresses::IPV6_MIN_MTU
    }

    /// Smallest and largest MTU in bytes, as the driver sets them.
    pub(super) fn mtu_range(&self) -> (u32, u32) {
        match self.link.kind {
            LinkKind::Bridge { .. } | LinkKind::Veth | LinkKind::Vxlan(_) => (68, 65535),
            _ => (0, u32::MAX),
        }
    }

    pub(super) fn became_port(&mut self, bridge: u32) {
        self.link.master = Some(bridge);
        self.link.port = Some(PortSettings::default());
    }
}
