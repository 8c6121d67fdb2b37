//! From the section `cluster.kubernetes` to a source.

use std::env;
use std::fs;
use std::sync::Arc;

use cni_core::cluster::Capability;
use cni_core::host::Host;
use cni_core::node::NodeConfig;
use cni_core::spec::config::NetworkConfig;
use cni_core::{Error, ErrorKind, Result};
use ipnetwork::IpNetwork;

use crate::kube::KubernetesSource;
use crate::kube::access::{Origin, Place};
use crate::kube::client::Client;
use crate::kube::config::{KubernetesConfig, LayoutKind};
use crate::kube::layout::{Layout, Way};
use crate::kube::member::{Member, withdraw};
use crate::moved::Moved;
use crate::remote::facts::{OfHost, Told};
use crate::remote::pods::Given;
use crate::setup::{Found, Hints};
use crate::telling::Telling;
use crate::tenure::Tenure;

/// Where the kernel has the host's name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// The source. As a member, which is told when the host's addresses may have changed, it keeps this node's own part in Kubernetes, too.
pub(crate) fn source(
    section: &str,
    node: &NodeConfig,
    host: &Host,
    hints: &Hints,
    plugin: &NetworkConfig,
    member: Option<Moved>,
) -> Result<Found> {
    let config = KubernetesConfig::parse(section)?;
    let network = label(node)?;
    let is_flannel = config.layout == LayoutKind::Flannel;
    if is_flannel {
        joinable(&config, hints)?;
    }
    let way = Way {
        vni: hints.vni,
        port: hints.vni.and(hints.port),
    };
    let layout = Layout::new(&config, &network, way);
    let origin = origin(&config);
    let name = name(node)?;
    let Some(moved) = member else {
        return Ok(Found {
            source: Box::new(KubernetesSource::observer(origin, layout)),
            configured: Some(name),
            tenure: None,
            telling: None,
        });
    };
    let knows = OfHost {
        host: host.clone(),
        configured: config.addresses.clone(),
        service: ("the API server", "cluster.kubernetes.addresses"),
        capabilities: capabilities(hints),
        device: hints.device.clone().zip(hints.vni),
    };
    let given = Given {
        network: node.network.clone(),
        config: plugin.clone(),
    };
    let (telling, heard) = Telling::new();
    let member = Member::new(
        &name,
        Arc::new(Told { knows, moved }),
        Arc::new(given),
        heard,
    );
    let tenure = Tenure::new("Kubernetes has not confirmed yet that this node's prefix is its own");
    Ok(Found {
        source: Box::new(KubernetesSource::member(
            origin,
            layout,
            member,
            tenure.clone(),
        )),
        configured: Some(name),
        tenure: Some(tenure),
        telling: Some(telling),
    })
}

/// What the configured data path can do; `None`: that is left to the kernel.
fn capabilities(hints: &Hints) -> Option<Vec<Capability>> {
    match hints.data_path.as_deref() {
        Some("classic") => Some(vec![Capability::Classic]),
        Some("flow") => Some(vec![Capability::Flow]),
        _ => None,
    }
}

/// Removes what is this node's own in Kubernetes, and says what that was; or what has been left, and why.
pub(crate) async fn clean_up(
    section: &str,
    node: &NodeConfig,
) -> Result<(Vec<String>, Option<String>)> {
    let config = KubernetesConfig::parse(section)?;
    let (name, network) = (name(node)?, label(node)?);
    let mut client = Client::new(origin(&config));
    let (done, left) = match client.connect().await {
        Err(trouble) => (Vec::new(), vec![trouble]),
        Ok(()) => withdraw(&mut client, &name, &network).await,
    };
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    let words = format!(
        "of what is this node's in Kubernetes (NodeNetwork {name}, the condition NetworkUnavailable and Flannel's annotations of \
         Node {name}) some may have been left: {}",
        left.join("; ")
    );
    Ok((done, (!left.is_empty()).then_some(words)))
}

fn origin(config: &KubernetesConfig) -> Origin {
    let place = match &config.kubeconfig {
        Some(path) => Place::Kubeconfig(path.clone()),
        None => Place::account(
            env::var("KUBERNETES_SERVICE_HOST").ok(),
            env::var("KUBERNETES_SERVICE_PORT").ok(),
        ),
    };
    Origin {
        place,
        server: config.server.clone(),
    }
}

/// Flannel has VXLAN with Ethernet inside, and a device for each family, of which one of ours meets one.
fn joinable(config: &KubernetesConfig, hints: &Hints) -> Result<()> {
    let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidConfig, message));
    if hints.vni.is_none() {
        return Ok(());
    }
    let first = config.networks.first().is_some_and(IpNetwork::is_ipv6);
    if config
        .networks
        .iter()
        .any(|network| network.is_ipv6() != first)
    {
        return invalid(
            "`cluster.kubernetes.podNetworks` must be of one family with layout \"flannel\": Flannel has a device of its own for \
             IPv6, and one of ours meets one of the two",
        );
    }
    if hints.data_path.as_deref() != Some("classic") {
        return invalid(
            "`dataPath` must be \"classic\" with `cluster.kubernetes.layout` \"flannel\": Flannel knows no other",
        );
    }
    Ok(())
}

/// The network's name as the value of a label.
fn label(node: &NodeConfig) -> Result<String> {
    let name = node.network.as_str();
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if name.len() > 63 || !ends(name.chars().next()) || !ends(name.chars().last()) {
        let message = format!(
            "`name` is {name:?}, and must have at most 63 characters and end with a letter or a digit with `cluster.kubernetes`, \
             as it is the value of a label there"
        );
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    Ok(name.to_owned())
}

/// What this node is called: as kubelet calls it.
fn name(node: &NodeConfig) -> Result<String> {
    let name = match &node.cluster.node {
        Some(name) => name.clone(),
        None => fs::read_to_string(HOSTNAME)
            .unwrap_or_default()
            .trim()
            .to_lowercase(),
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
    if name.is_empty() || name.len() > 253 || !name.chars().all(plain) || name == "localhost" {
        let message = format!(
            "{name:?} is no name of a Node: say which Node this is in \"cluster.node\", or by --node (in a pod, from the field \
             spec.nodeName)"
        );
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    Ok(name)
}
