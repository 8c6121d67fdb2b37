//! What must exist for an attachment: a pure function of the request, the configuration, the addresses, and a few facts
//! about the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_core::attach::inside::{self, Dad};
use cni_core::attach::{Declaration, derived_mac};
use cni_core::host::NetnsPath;
use cni_core::host::netlink::{self, Address, Link, MacAddr, NewLinkKind, PortSettings, Vlan};
use cni_core::ipnetwork::IpNetwork;
use cni_core::plan::{Desired, LinkSpec, Object, Place};
use cni_core::spec::result::Route;
use cni_core::spec::{AddResult, Attachment, Interface, IpConfig};
use cni_core::{Error, ErrorKind, Result, nat};

use crate::config::BridgeConfig;
use crate::spoof;

/// What the declaration depends on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Who is attached to what.
    pub attachment: &'a Attachment,
    /// The container's namespace.
    pub netns: &'a NetnsPath,
    /// What the configuration asks for.
    pub config: &'a BridgeConfig,
    /// What the host is like.
    pub facts: &'a Facts,
}

/// What the host is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The bridge, when it exists.
    pub bridge: Option<Link>,
    /// Whether the bridge's hardware address is, or may be, that of one of its ports, and would move with them.
    pub bridge_follows: bool,
    /// MTU of the link that the default route goes through, in bytes, when there is one and it was looked for.
    pub uplink_mtu: Option<u32>,
    /// Whether the kernel speaks IPv6.
    pub ipv6: bool,
    /// Hardware address for a bridge that has to be made.
    pub bridge_mac: MacAddr,
    /// Hardware address for a container that is given none.
    pub container_mac: MacAddr,
    /// What the links must be like, when an attachment is compared rather than made.
    pub expected: Option<Expected>,
}

/// What the previous result says of the links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Hardware address of the bridge.
    pub bridge_mac: Option<MacAddr>,
    /// Hardware address of the host's end.
    pub host_mac: Option<MacAddr>,
    /// MTU of the links on the host in bytes.
    pub mtu: Option<u32>,
    /// MTU of the container's end in bytes, which plugins later in the chain may have set. Results before 1.1.0 do not tell.
    pub container_mtu: Option<u32>,
}

/// Interfaces come in this order in the result.
const CONTAINER: i64 = 2;

/// The declaration for `addresses`, which is what address management answered.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] when addresses and configuration do not go together.
pub fn declare(input: &Input<'_>, addresses: AddResult) -> Result<Declaration> {
    let config = input.config;
    if config.has_ipam && addresses.ips.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            "address management gave no address: give \"ipam\" at least one range, or leave it out for a bare layer 2",
        ));
    }
    let result = result(input, addresses)?;
    let mut desired = Desired::new();
    bridge(input, &mut desired);
    if config.is_gateway && !result.ips.is_empty() {
        gateways(input, &result, &mut desired);
    }
    pair(input, &mut desired);
    container(input, &result, &mut desired);
    let container_mac = config.mac.unwrap_or(input.facts.container_mac);
    if config.mac_spoof_check {
        spoof::declare(&mut desired, input.attachment, container_mac);
    }
    if config.ip_masq && !result.ips.is_empty() {
        let addresses: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
        nat::declare(&mut desired, input.attachment, &addresses);
    }
    Ok(Declaration { desired, result })
}

/// Name of the extra pair's end that bears the gateway of a VLAN.
pub fn vlan_interface(config: &BridgeConfig) -> Option<String> {
    let vlan = config.vlan.filter(|_| config.is_gateway)?;
    Some(format!("{}.{vlan}", config.bridge))
}

/// Name of the extra pair's end that is a port of the bridge: derived, so that it is found again.
pub fn vlan_port(config: &BridgeConfig) -> Option<String> {
    let vlan = config.vlan.filter(|_| config.is_gateway)?;
    // FNV-1a of the bridge's name.
    let hash = config.bridge.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    Some(format!("v{hash:08x}.{vlan}"))
}

/// Whether this backend made the bridge for this network: then it may also remove it.
pub fn made_by_us(bridge: &Link, attachment_alias: &str) -> bool {
    bridge.alias.as_deref() == Some(attachment_alias)
}

/// The MTU of all links of the attachment.
///
/// What the configuration says; else what the links of a bridge that we made have (one layer 2, one MTU); else the
/// uplink's, and no more than the bridge's where that was there before us.
fn mtu(input: &Input<'_>) -> Option<u32> {
    if let Some(expected) = &input.facts.expected {
        return input.config.mtu.or(expected.mtu);
    }
    let bridge = input.facts.bridge.as_ref();
    let ours = input.attachment.network.shared_alias();
    input.config.mtu.or(match bridge {
        Some(bridge) if made_by_us(bridge, &ours) => Some(bridge.mtu),
        Some(bridge) => Some(
            input
                .facts
                .uplink_mtu
                .map_or(bridge.mtu, |uplink| uplink.min(bridge.mtu)),
        ),
        None => input.facts.uplink_mtu,
    })
}

fn bridge(input: &Input<'_>, desired: &mut Desired) {
    let config = input.config;
    let kind = NewLinkKind::Bridge {
        vlan_filtering: config.uses_vlans(),
    };
    let mut link = LinkSpec::new(&config.bridge, Some(kind));
    let ours = input.attachment.network.shared_alias();
    let found = input.facts.bridge.as_ref();
    // The MTU of a bridge that others made is theirs.
    if found.is_none_or(|found| made_by_us(found, &ours)) {
        link.mtu = mtu(input);
    }
    link.initial_mac = Some(input.facts.bridge_mac);
    link.mac = input
        .facts
        .expected
        .as_ref()
        .and_then(|expected| expected.bridge_mac);
    link.promiscuous = config.promiscuous.then_some(true);
    link.alias = Some(ours);
    link.pin_mac = input.facts.bridge_follows && input.facts.expected.is_none();
    desired.share(Place::Host, Object::Link(link));
    if input.facts.ipv6 {
        // Nobody on the bridge is to configure the host by router advertisements.
        parameter(
            desired,
            &format!("ipv6/conf/{}/accept_ra", config.bridge),
            "0",
        );
    }
}

fn parameter(desired: &mut Desired, key: &str, value: &str) {
    let (key, value) = (format!("net/{key}"), value.to_owned());
    desired.share(Place::Host, Object::Sysctl { key, value });
}

fn gateways(input: &Input<'_>, result: &AddResult, desired: &mut Desired) {
    let config = input.config;
    let link = match (vlan_interface(config), vlan_port(config)) {
        (Some(interface), Some(port)) => {
            vlan_gateway(input, &interface, &port, desired);
            interface
        }
        _ => config.bridge.clone(),
    };
    let has = |ipv6: bool| result.ips.iter().any(|ip| ip.address.is_ipv6() == ipv6);
    if has(true) {
        // The kernel asks for a pod's hardware address from the link-local address when it forwards to it: that has to be
        // usable as soon as the first port comes up, not a second later.
        parameter(desired, &format!("ipv6/conf/{link}/accept_dad"), "0");
    }
    let own = result.ips.iter().filter_map(|ip| {
        let gateway = ip.gateway?;
        IpNetwork::new(gateway, ip.address.prefix()).ok()
    });
    let others = config.gateways.iter().copied();
    let others = others.filter(|gateway| has(gateway.is_ipv6()));
    for address in own.chain(others) {
        let object = Object::Gateway {
            address: Address::new(&link, address),
            replace: config.force_address,
            beside_others: !config.gateways.is_empty(),
        };
        desired.share(Place::Host, object);
    }
    if has(false) {
        parameter(desired, "ipv4/ip_forward", "1");
    }
    if has(true) {
        parameter(desired, "ipv6/conf/all/forwarding", "1");
    }
}

/// A pair of which one end is a port of the bridge in the VLAN, and the other bears the gateway's address: a bridge's
/// own interface is in all VLANs or none without further drivers.
fn vlan_gateway(input: &Input<'_>, interface: &str, port: &str, desired: &mut Desired) {
    let bridge_mac = input.facts.bridge_mac.to_string();
    let kind = NewLinkKind::Veth {
        peer: port.to_owned(),
        peer_mac: Some(derived_mac(&[&bridge_mac, port])),
        peer_netns: None,
    };
    let mut end = LinkSpec::new(interface, Some(kind));
    end.mtu = mtu(input);
    end.initial_mac = Some(derived_mac(&[&bridge_mac, interface]));
    desired.share(Place::Host, Object::Link(end));
    if input.facts.ipv6 {
        parameter(desired, &format!("ipv6/conf/{interface}/accept_ra"), "0");
    }
    let mut peer = LinkSpec::new(port, None);
    peer.mtu = mtu(input);
    peer.master = Some(input.config.bridge.clone());
    peer.ipv6_link_local = false;
    desired.share(Place::Host, Object::Link(peer));
    let vlans = vlans(input.config);
    desired.share(
        Place::Host,
        Object::Vlans {
            link: port.to_owned(),
            on_bridge: false,
            vlans,
            keep_others: input.config.preserve_default_vlan,
        },
    );
}

fn pair(input: &Input<'_>, desired: &mut Desired) {
    let config = input.config;
    let name = input.attachment.host_name();
    let kind = NewLinkKind::Veth {
        peer: input.attachment.interface.to_string(),
        peer_mac: Some(config.mac.unwrap_or(input.facts.container_mac)),
        peer_netns: Some(input.netns.clone()),
    };
    let mut link = LinkSpec::new(name.as_str(), Some(kind));
    link.mtu = mtu(input);
    link.master = Some(config.bridge.clone());
    link.alias = Some(input.attachment.mark().to_string());
    // A port has no business with addresses of its own: its frames are the bridge's.
    link.ipv6_link_local = false;
    link.mac = input
        .facts
        .expected
        .as_ref()
        .and_then(|expected| expected.host_mac);
    desired.own(Place::Host, Object::Link(link));
    let settings = PortSettings {
        hairpin: config.hairpin,
        isolated: config.port_isolation,
        ..PortSettings::default()
    };
    desired.own(
        Place::Host,
        Object::Port {
            link: name.to_string(),
            settings,
        },
    );
    if config.uses_vlans() {
        let mut vlans = vlans(config);
        vlans.extend(trunk(config));
        desired.own(
            Place::Host,
            Object::Vlans {
                link: name.to_string(),
                on_bridge: false,
                vlans,
                keep_others: config.preserve_default_vlan,
            },
        );
    }
}

/// The VLAN of untagged frames: the configured one, or 1 beside a trunk, as in the reference.
fn vlans(config: &BridgeConfig) -> Vec<Vlan> {
    vec![Vlan {
        id: config.vlan.unwrap_or(1),
        pvid: true,
        untagged: true,
    }]
}

fn trunk(config: &BridgeConfig) -> impl Iterator<Item = Vlan> {
    let native = config.vlan.unwrap_or(1);
    config
        .trunk
        .iter()
        .flat_map(|range| range.first..=range.last)
        .filter(move |id| *id != native)
        .map(|id| Vlan {
            id,
            pvid: false,
            untagged: false,
        })
}

fn container(input: &Input<'_>, result: &AddResult, desired: &mut Desired) {
    let config = input.config;
    let interface = input.attachment.interface.as_str();
    let dad = if config.enable_dad { Dad::On } else { Dad::Off };
    inside::parameters(desired, interface, result, dad);
    let mut link = LinkSpec::new(interface, None);
    link.up = !config.disable_container_interface;
    link.mtu = match &input.facts.expected {
        Some(expected) => expected.container_mtu,
        None => mtu(input),
    };
    link.arp_notify = !result.ips.is_empty();
    if input.facts.expected.is_some() {
        link.mac = Some(config.mac.unwrap_or(input.facts.container_mac));
    }
    desired.own(Place::Container, Object::Link(link));
    inside::addresses(desired, interface, result, dad);
    inside::routes(desired, interface, result);
}

/// The result, but for what only the kernel knows.
fn result(input: &Input<'_>, addresses: AddResult) -> Result<AddResult> {
    let config = input.config;
    let mut result = addresses;
    let mut container = Interface::new(input.attachment.interface.as_str());
    container.sandbox = input.netns.to_string();
    result.interfaces = vec![
        Interface::new(&config.bridge),
        Interface::new(input.attachment.host_name().as_str()),
        container,
    ];
    if !result.ips.is_empty() {
        result
            .interfaces
            .extend(vlan_interface(config).map(Interface::new));
    }
    for ip in &mut result.ips {
        ip.interface = Some(CONTAINER);
        if config.is_gateway && ip.gateway.is_none() {
            ip.gateway = Some(first_host(ip.address));
        }
        refuse_mixed_families(ip)?;
    }
    if config.is_default_gateway {
        for default in ["0.0.0.0/0", "::/0"] {
            let missing = default
                .parse()
                .ok()
                .and_then(|dst| default_route(&result, dst));
            result.routes.extend(missing);
        }
    }
    if !config.dns.is_empty() {
        result.dns = config.dns.clone();
    }
    Ok(result)
}

fn refuse_mixed_families(ip: &IpConfig) -> Result<()> {
    match ip.gateway {
        Some(gateway) if gateway.is_ipv4() != ip.address.is_ipv4() => {
            let message = format!(
                "the gateway {gateway} of {} is of the other address family",
                ip.address
            );
            Err(Error::new(ErrorKind::InvalidConfig, message))
        }
        _ => Ok(()),
    }
}

/// The default route of a family that has a gateway, unless address management gave one.
fn default_route(result: &AddResult, dst: IpNetwork) -> Option<Route> {
    let main = |route: &Route| {
        route
            .table
            .is_none_or(|table| table == netlink::Route::MAIN)
    };
    if result
        .routes
        .iter()
        .any(|route| route.dst == dst && main(route))
    {
        return None;
    }
    let family = |ip: &&IpConfig| ip.address.is_ipv4() == dst.is_ipv4();
    let gateway = result.ips.iter().filter(family).find_map(|ip| ip.gateway)?;
    let mut route = Route::new(dst);
    route.gw = Some(gateway);
    Some(route)
}

/// The address after the network's own, which is the gateway where none is given.
fn first_host(address: IpNetwork) -> IpAddr {
    match address.network() {
        IpAddr::V4(network) => IpAddr::V4(Ipv4Addr::from_bits(network.to_bits().wrapping_add(1))),
        IpAddr::V6(network) => IpAddr::V6(Ipv6Addr::from_bits(network.to_bits().wrapping_add(1))),
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
