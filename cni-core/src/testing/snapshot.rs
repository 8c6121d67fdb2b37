//! What a namespace holds, as text that can be compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::error::Result;
use crate::host::firewall::Table;
use crate::host::forwarding::{Change, Entry, Kind, Scope};
use crate::host::netlink::{Link, LinkFilter, Netlink, Traffic};
use crate::host::{Forwarding, Host, Sandbox, Sysctl};

/// Kernel parameters that a snapshot reads, apart from those of links.
const PARAMETERS: &[&str] = &[
    "net/ipv4/ip_forward",
    "net/ipv4/conf/default/forwarding",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/default/forwarding",
];

/// Kernel parameters that a snapshot reads of every link.
const OF_LINKS: &[(&str, &str)] = &[
    ("ipv4", "arp_notify"),
    ("ipv4", "forwarding"),
    ("ipv4", "proxy_arp"),
    ("ipv4", "route_localnet"),
    ("ipv4", "rp_filter"),
    ("ipv6", "accept_dad"),
    ("ipv6", "accept_ra"),
    ("ipv6", "addr_gen_mode"),
    ("ipv6", "disable_ipv6"),
    ("ipv6", "forwarding"),
    ("ipv6", "ndisc_notify"),
];

/// The host's namespace as text: links, addresses, routes, VLANs, kernel parameters, next hops, permanent neighbours,
/// forwarding entries, policy rules, and these nftables tables.
///
/// Objects are sorted and named, without indexes and handles. Left out, because the kernel makes and changes them by
/// itself: IPv6 link-local addresses and their routes, and the progress of duplicate address detection.
///
/// # Errors
/// When something cannot be read.
pub async fn snapshot(host: &Host, tables: &[Table]) -> Result<String> {
    let mut text = namespace(host.netlink.as_ref(), host.sysctl.as_ref()).await?;
    write_forwarding(&mut text, host.forwarding.as_ref()).await?;
    for table in tables {
        let Some(state) = host.firewall.table(table).await? else {
            continue;
        };
        let _ = writeln!(text, "table {:?} {}", table.family, table.name);
        let mut chains = state.chains;
        chains.sort_by(|a, b| a.name.cmp(&b.name));
        for chain in chains {
            let _ = writeln!(text, "  chain {} {:?}", chain.name, chain.hook);
            for rule in chain.rules {
                let _ = writeln!(text, "    {}", rule.comment.unwrap_or_default());
            }
        }
        let mut sets = state.sets;
        sets.sort_by(|a, b| a.name.cmp(&b.name));
        for set in sets {
            let _ = writeln!(text, "  set {}", set.name);
            let mut elements = host.firewall.elements(table, &set.name).await?;
            elements.sort_by(|a, b| a.key.cmp(&b.key));
            for element in elements {
                let _ = writeln!(
                    text,
                    "    {:?} {:?} {:?}",
                    element.key, element.data, element.comment
                );
            }
        }
    }
    Ok(text)
}

/// A container's namespace as text, like [`snapshot`].
///
/// # Errors
/// When something cannot be read.
pub async fn snapshot_sandbox(sandbox: &Sandbox) -> Result<String> {
    namespace(sandbox.netlink.as_ref(), sandbox.sysctl.as_ref()).await
}

async fn namespace(netlink: &dyn Netlink, sysctl: &dyn Sysctl) -> Result<String> {
    let mut text = String::new();
    let mut links = netlink.links(LinkFilter::All).await?;
    links.sort_by(|a, b| a.name.cmp(&b.name));
    let names: BTreeMap<u32, String> = links
        .iter()
        .map(|link| (link.index, link.name.clone()))
        .collect();
    for link in &links {
        write_link(&mut text, link, &names);
        let traffic = netlink.traffic(&link.name).await?;
        if traffic != Traffic::default() {
            let target = traffic.redirect.and_then(|index| names.get(&index));
            let redirect = traffic
                .redirect
                .map(|_| target.cloned().unwrap_or_default());
            let rest = Traffic {
                redirect: None,
                ..traffic
            };
            let _ = writeln!(text, "  {rest:?} redirect {redirect:?}");
        }
        for vlan in netlink.vlans(&link.name).await? {
            let _ = writeln!(text, "  {vlan:?}");
        }
        for (family, name) in OF_LINKS {
            let key = format!("net/{family}/conf/{}/{name}", link.name);
            write_parameter(&mut text, sysctl, &key).await?;
        }
    }
    let mut lines = Vec::new();
    for address in netlink.addresses(None).await? {
        if !is_link_local(address.address) {
            lines.push(format!(
                "address {} dev {} scope {} noprefixroute {}",
                address.address, address.link, address.scope, address.no_prefix_route
            ));
        }
    }
    for route in netlink.routes(None).await? {
        if !is_link_local(route.destination) && !route.destination.ip().is_multicast() {
            lines.push(format!("route {route:?}"));
        }
    }
    lines.sort();
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    for key in PARAMETERS {
        write_parameter(&mut text, sysctl, key).await?;
    }
    Ok(text)
}

/// The commands that make the entries. Routes are among them, too: of one that leads nowhere nobody else tells.
async fn write_forwarding(text: &mut String, forwarding: &dyn Forwarding) -> Result<()> {
    for kind in [
        Kind::NextHop,
        Kind::Route,
        Kind::Neighbour,
        Kind::Fdb,
        Kind::Rule,
    ] {
        if kind == Kind::NextHop && !forwarding.has_next_hops().await? {
            continue;
        }
        let scope = Scope {
            kind,
            protocol: None,
            link: None,
        };
        let mut entries = Vec::new();
        forwarding
            .read(&scope, &mut |entry| entries.push(entry))
            .await?;
        // Others of one key are asked in the order in which they come.
        entries.sort_by_key(Entry::key);
        for entry in entries {
            let own = match &entry {
                Entry::Route(route) => {
                    is_link_local(route.destination) || route.destination.ip().is_multicast()
                }
                _ => false,
            };
            if !own {
                let _ = writeln!(text, "{}", Change::Add(entry));
            }
        }
    }
    Ok(())
}

fn write_link(text: &mut String, link: &Link, names: &BTreeMap<u32, String>) {
    let named = |index: Option<u32>| {
        index
            .and_then(|index| names.get(&index).cloned())
            .unwrap_or_default()
    };
    let peer = match (link.peer, link.peer_elsewhere) {
        (Some(_), true) => "elsewhere".to_owned(),
        (peer, _) => named(peer),
    };
    let _ = writeln!(
        text,
        "link {} {:?} up {} carrier {} {:?} mtu {} mac {:?} master {:?} peer {:?} alias {:?} group {} promisc {} \
         allmulti {} qlen {} port {:?}",
        link.name,
        link.kind,
        link.up,
        link.carrier,
        link.oper_state,
        link.mtu,
        link.mac,
        named(link.master),
        peer,
        link.alias,
        link.group,
        link.promiscuous,
        link.all_multicast,
        link.tx_queue_len,
        link.port,
    );
}

async fn write_parameter(text: &mut String, sysctl: &dyn Sysctl, key: &str) -> Result<()> {
    if let Some(value) = sysctl.read(key).await? {
        let _ = writeln!(text, "  {key} = {value}");
    }
    Ok(())
}

fn is_link_local(network: IpNetwork) -> bool {
    matches!(network.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}
