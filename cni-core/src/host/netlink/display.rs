//! How changes print: as iproute2 commands.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::change::NetlinkChange;
use super::link::{LinkSettings, NewLink, NewLinkKind, Vlan};
use super::route::{Address, Route};
use super::traffic::{PREFERENCE, Qdisc, TBF_HANDLE};

impl fmt::Display for NetlinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkAdd(new) => link_add(f, new),
            Self::LinkSet { link, settings } => link_set(f, link, settings),
            Self::LinkDel { link } => write!(f, "ip link delete dev {}", Word(link)),
            Self::GroupDel { group } => write!(f, "ip link delete group {group}"),
            Self::PortSet { link, settings } => write!(
                f,
                "bridge link set dev {} hairpin {} isolated {}",
                Word(link),
                on(settings.hairpin),
                on(settings.isolated)
            ),
            Self::VlanAdd {
                link,
                vlan,
                last,
                on_bridge,
            } => vlan_command(f, "add", link, (*vlan, *last), *on_bridge),
            Self::VlanDel {
                link,
                first,
                last,
                on_bridge,
            } => {
                let vlan = Vlan {
                    id: *first,
                    pvid: false,
                    untagged: false,
                };
                vlan_command(f, "delete", link, (vlan, *last), *on_bridge)
            }
            Self::AddressAdd(address) => address_add(f, address),
            Self::AddressDel(Address { link, address, .. }) => {
                write!(f, "ip address delete {address} dev {}", Word(link))
            }
            Self::RouteAdd(route) => {
                let verb = if route.beside_others {
                    "prepend"
                } else {
                    "add"
                };
                route_key(f, verb, route)?;
                route_rest(f, route)
            }
            Self::RouteDel(route) => route_key(f, "delete", route),
            Self::QdiscAdd { link, qdisc } => match qdisc {
                Qdisc::Tbf(tbf) => write!(
                    f,
                    "tc qdisc add dev {} root handle {:x}: tbf {tbf}",
                    Word(link),
                    TBF_HANDLE >> 16
                ),
                Qdisc::Ingress => write!(f, "tc qdisc add dev {} ingress", Word(link)),
            },
            Self::QdiscDel { link, qdisc } => {
                let place = match qdisc {
                    Qdisc::Tbf(_) => "root",
                    Qdisc::Ingress => "ingress",
                };
                write!(f, "tc qdisc delete dev {} {place}", Word(link))
            }
            Self::RedirectAdd { link, to } => write!(
                f,
                "tc filter add dev {} ingress pref {PREFERENCE} protocol all u32 match u32 0 0 \
                 action mirred egress redirect dev {}",
                Word(link),
                Word(to)
            ),
            Self::RedirectDel { link, .. } => write!(
                f,
                "tc filter delete dev {} ingress pref {PREFERENCE} protocol all u32",
                Word(link)
            ),
        }
    }
}

/// A word of a shell command, quoted where it must be.
pub(in crate::host) struct Word<'a>(pub(in crate::host) &'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            f.write_str(self.0)
        } else {
            write!(f, "'{}'", self.0.replace('\'', r"'\''"))
        }
    }
}

fn on(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn link_add(f: &mut fmt::Formatter<'_>, new: &NewLink) -> fmt::Result {
    let name = Word(&new.name);
    // With `addrgenmode` a veth can be up before: without its peer it has no carrier, and IPv6 does not start.
    let up_later = !new.ipv6_link_local && !matches!(new.kind, NewLinkKind::Veth { .. });
    write!(f, "ip link add {name}")?;
    if let Some(mtu) = new.mtu {
        write!(f, " mtu {mtu}")?;
    }
    if let Some(mac) = new.mac {
        write!(f, " address {mac}")?;
    }
    if let Some(master) = &new.master {
        write!(f, " master {}", Word(master))?;
    }
    if new.up && !up_later {
        f.write_str(" up")?;
    }
    match &new.kind {
        NewLinkKind::Bridge { vlan_filtering } => {
            f.write_str(" type bridge")?;
            if *vlan_filtering {
                f.write_str(" vlan_filtering 1")?;
            }
        }
        NewLinkKind::Dummy => f.write_str(" type dummy")?,
        NewLinkKind::Ifb => f.write_str(" type ifb")?,
        NewLinkKind::Vxlan(vxlan) => write!(f, " type vxlan {vxlan}")?,
        NewLinkKind::Veth {
            peer,
            peer_mac,
            peer_netns,
        } => {
            write!(f, " type veth peer name {}", Word(peer))?;
            if let Some(mtu) = new.mtu {
                write!(f, " mtu {mtu}")?;
            }
            if let Some(mac) = peer_mac {
                write!(f, " address {mac}")?;
            }
            if let Some(netns) = peer_netns {
                write!(f, " netns {}", Word(&netns.to_string()))?;
            }
        }
    }
    if !new.ipv6_link_local {
        write!(f, "\nip link set dev {name} addrgenmode none")?;
        if new.up && up_later {
            write!(f, "\nip link set dev {name} up")?;
        }
    }
    Ok(())
}

fn link_set(f: &mut fmt::Formatter<'_>, link: &str, settings: &LinkSettings) -> fmt::Result {
    let mut lines = Vec::new();
    let name = Word(link);
    if let Some(value) = settings.arp_notify {
        lines.push(format!(
            "sysctl -w net/ipv4/conf/{link}/arp_notify={}",
            u8::from(value)
        ));
    }
    if let Some(value) = settings.ipv6_link_local {
        let mode = if value { "eui64" } else { "none" };
        lines.push(format!("ip link set dev {name} addrgenmode {mode}"));
    }
    if let Some(vxlan) = &settings.vxlan {
        lines.push(format!("ip link set dev {name} type vxlan{vxlan}"));
    }
    let rest = link_set_rest(settings)?;
    if !rest.is_empty() || lines.is_empty() {
        lines.push(format!("ip link set dev {name}{rest}"));
    }
    f.write_str(&lines.join("\n"))
}

/// What one `ip link set` sets.
fn link_set_rest(settings: &LinkSettings) -> Result<String, fmt::Error> {
    let mut text = String::new();
    if let Some(mtu) = settings.mtu {
        write!(text, " mtu {mtu}")?;
    }
    if let Some(mac) = settings.mac {
        write!(text, " address {mac}")?;
    }
    match settings.master.as_deref() {
        None => {}
        Some("") => text.push_str(" nomaster"),
        Some(master) => write!(text, " master {}", Word(master))?,
    }
    if let Some(alias) = &settings.alias {
        write!(text, " alias {}", Word(alias))?;
    }
    if let Some(value) = settings.promiscuous {
        write!(text, " promisc {}", on(value))?;
    }
    if let Some(value) = settings.all_multicast {
        write!(text, " allmulticast {}", on(value))?;
    }
    if let Some(length) = settings.tx_queue_len {
        write!(text, " txqueuelen {length}")?;
    }
    if let Some(group) = settings.group {
        write!(text, " group {group}")?;
    }
    match settings.up {
        None => {}
        Some(true) => text.push_str(" up"),
        Some(false) => text.push_str(" down"),
    }
    if let Some(value) = settings.vlan_filtering {
        write!(text, " type bridge vlan_filtering {}", u8::from(value))?;
    }
    Ok(text)
}

fn vlan_command(
    f: &mut fmt::Formatter<'_>,
    verb: &str,
    link: &str,
    (vlan, last): (Vlan, u16),
    on_bridge: bool,
) -> fmt::Result {
    write!(f, "bridge vlan {verb} dev {} vid {}", Word(link), vlan.id)?;
    if last != vlan.id {
        write!(f, "-{last}")?;
    }
    for (flag, word) in [
        (vlan.pvid, " pvid"),
        (vlan.untagged, " untagged"),
        (on_bridge, " self"),
    ] {
        if flag {
            f.write_str(word)?;
        }
    }
    Ok(())
}

/// The names of scopes in iproute2's `rt_scopes`.
fn scope(scope: u8) -> String {
    match scope {
        0 => "global".to_owned(),
        200 => "site".to_owned(),
        253 => "link".to_owned(),
        254 => "host".to_owned(),
        255 => "nowhere".to_owned(),
        other => other.to_string(),
    }
}

fn address_add(f: &mut fmt::Formatter<'_>, address: &Address) -> fmt::Result {
    write!(
        f,
        "ip address add {} dev {}",
        address.address,
        Word(&address.link)
    )?;
    if address.scope != 0 {
        write!(f, " scope {}", scope(address.scope))?;
    }
    if address.no_dad && address.address.is_ipv6() {
        f.write_str(" nodad")?;
    }
    if address.no_prefix_route {
        f.write_str(" noprefixroute")?;
    }
    Ok(())
}

/// The part of a route that identifies it.
fn route_key(f: &mut fmt::Formatter<'_>, verb: &str, route: &Route) -> fmt::Result {
    f.write_str(match route.destination {
        IpNetwork::V4(_) => "ip route ",
        IpNetwork::V6(_) => "ip -6 route ",
    })?;
    match route.destination.prefix() {
        0 => write!(f, "{verb} default")?,
        prefix => write!(f, "{verb} {}/{prefix}", route.destination.network())?,
    }
    match (route.destination, route.gateway) {
        (_, None) => {}
        (IpNetwork::V4(_), Some(IpAddr::V6(gateway))) => write!(f, " via inet6 {gateway}")?,
        (_, Some(gateway)) => write!(f, " via {gateway}")?,
    }
    if let Some(link) = &route.link {
        write!(f, " dev {}", Word(link))?;
    }
    if route.metric != 0 {
        write!(f, " metric {}", route.metric)?;
    }
    if route.table != Route::MAIN {
        write!(f, " table {}", route.table)?;
    }
    if route.protocol != Route::PROTOCOL_BOOT {
        write!(f, " proto {}", route.protocol)?;
    }
    Ok(())
}

/// What else a new route has.
fn route_rest(f: &mut fmt::Formatter<'_>, route: &Route) -> fmt::Result {
    // What `ip route add` takes for itself when no scope is given.
    let inferred = match route.gateway {
        None => Route::SCOPE_LINK,
        Some(_) => 0,
    };
    if route.destination.is_ipv4() && route.scope != inferred {
        write!(f, " scope {}", scope(route.scope))?;
    }
    if let Some(source) = route.source {
        write!(f, " src {source}")?;
    }
    if let Some(mtu) = route.mtu {
        write!(f, " mtu {mtu}")?;
    }
    if let Some(advmss) = route.advmss {
        write!(f, " advmss {advmss}")?;
    }
    if route.onlink {
        f.write_str(" onlink")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
