//! From the section `cluster.etcd` to a source.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use cni_core::cluster::{Capability, NodeUid};
use cni_core::host::Host;
use cni_core::node::{NodeConfig, StateDir};
use cni_core::spec::config::NetworkConfig;
use cni_core::{Error, ErrorKind, Result};
use ipnetwork::IpNetwork;

use crate::etcd::config::LayoutKind;
use crate::etcd::layout::Tunnel;
use crate::etcd::leave::Leaving;
use crate::etcd::member::Member;
use crate::etcd::ranges::Range;
use crate::etcd::{EtcdConfig, EtcdSource};
use crate::moved::Moved;
use crate::remote::facts::{OfHost, Told};
use crate::remote::pods::Given;
use crate::setup::{Found, Hints};
use crate::tenure::Tenure;

/// Where the kernel has the host's name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// The source. As a member, it keeps this node's own part in etcd, too, and looks whether that is still so when told to.
pub(crate) fn source(
    section: &str,
    node: &NodeConfig,
    host: &Host,
    hints: &Hints,
    plugin: &NetworkConfig,
    member: Option<Moved>,
) -> Result<Found> {
    let mut config = EtcdConfig::parse(section, node.network.as_str())?;
    config.port = hints.port.and_then(|port| u16::try_from(port).ok());
    config.direct_routing = hints.direct_routing;
    let is_flannel = config.layout == LayoutKind::Flannel;
    let tunnel = hints.vni.map_or(Tunnel::None, Tunnel::Vxlan);
    if is_flannel {
        joinable(&config, hints)?;
    }
    // Flannel's nodes are known by their addresses.
    let configured = node.cluster.node.clone().filter(|_| !is_flannel);
    let Some(moved) = member else {
        return Ok(Found {
            source: Box::new(EtcdSource::observer(&config, tunnel)),
            configured,
            tenure: None,
            telling: None,
        });
    };
    let name = name(node)?;
    let capabilities = match hints.data_path.as_deref() {
        Some("classic") => Some(vec![Capability::Classic]),
        Some("flow") => Some(vec![Capability::Flow]),
        _ => None,
    };
    let tenure = Tenure::new("etcd has not confirmed yet that this node's prefix is its own");
    let former = former(node)?;
    tenure.confirm(&former);
    let given = Given {
        network: node.network.clone(),
        config: plugin.clone(),
    };
    let mut itself =
        Member::new(config.clone(), NodeUid::new(&name), name, former).with_pods(Arc::new(given));
    if hints.vni.is_some() {
        itself = itself.with_vtep();
    }
    let knows = OfHost {
        device: None,
        host: host.clone(),
        configured: config.addresses.clone(),
        service: ("etcd", "cluster.etcd.addresses"),
        capabilities,
    };
    let source = EtcdSource::member(
        &config,
        tunnel,
        itself,
        Arc::new(Told { knows, moved }),
        tenure.clone(),
    );
    Ok(Found {
        source: Box::new(source),
        configured,
        tenure: Some(tenure),
        telling: None,
    })
}

/// Takes this node out of etcd; what became of what it had there, a line for each thing.
pub(crate) async fn leave(
    section: &str,
    node: &NodeConfig,
    host: &Host,
    hints: &Hints,
    held: Result<Vec<IpAddr>>,
) -> Result<Vec<String>> {
    let mut config = EtcdConfig::parse(section, node.network.as_str())?;
    config.port = hints.port.and_then(|port| u16::try_from(port).ok());
    config.direct_routing = hints.direct_routing;
    let name = name(node)?;
    let addresses = host.netlink.addresses(None).await?;
    let addresses = addresses.iter().map(|address| address.address.ip());
    let leaving = Leaving {
        config,
        tunnel: hints.vni.map_or(Tunnel::None, Tunnel::Vxlan),
        uid: NodeUid::new(&name),
        addresses: addresses.filter(|address| !address.is_loopback()).collect(),
        former: former(node)?,
        held: held.map_err(|error| error.chain()),
    };
    Ok(leaving.leave().await)
}

/// The prefixes that this node had when an agent knew it last.
fn former(node: &NodeConfig) -> Result<Vec<IpNetwork>> {
    let state = StateDir::of(node).read()?;
    Ok(state.map(|state| state.confirmed).unwrap_or_default())
}

/// Flannel has VXLAN with Ethernet inside, and of ours one device meets one of its two.
fn joinable(config: &EtcdConfig, hints: &Hints) -> Result<()> {
    let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidConfig, message));
    let ipv4 = |range: &Range| !range.prefix().is_ipv6();
    if config.networks.len() > 1 || !config.networks.iter().all(ipv4) {
        return invalid(
            "`cluster.etcd.podNetworks` must have one entry at most, of IPv4, with layout \"flannel\": Flannel's keys begin with an IPv4 \
             prefix, and for IPv6 it has a second tunnel over IPv6, with a device of its own on each node",
        );
    }
    let classic = hints.data_path.as_deref() == Some("classic");
    if hints.vni.is_some() && !classic {
        return invalid(
            "`dataPath` must be \"classic\" with `cluster.etcd.layout` \"flannel\": Flannel knows no other",
        );
    }
    Ok(())
}

/// What this node is called.
fn name(node: &NodeConfig) -> Result<String> {
    if let Some(name) = &node.cluster.node {
        return Ok(name.clone());
    }
    let hostname = fs::read_to_string(HOSTNAME).unwrap_or_default();
    match hostname.trim() {
        "" | "localhost" | "(none)" => {
            let message = "this host has no name of its own, by which its entry in etcd could be known: say which node it is in \"cluster.node\", or by --node";
            Err(Error::new(ErrorKind::InvalidConfig, message))
        }
        name => Ok(name.to_owned()),
    }
}
