//! The cluster as its file has it, read once, and which of its nodes this one is.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;

use super::{ClusterSource, Origin};
use crate::cluster::{Identity, Node, PeerEvent, View, file};
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;

/// Where the kernel has the host's name: no environment, no call of our own.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// What the file system says of a file: while it is the same, so is the file.
///
/// `None` where the file has changed so lately that this cannot be relied upon.
///
/// # Errors
/// [`ErrorKind::Io`] when there is no such file.
pub(super) fn stamp(path: &Path) -> Result<Option<String>> {
    let fingerprint = file::fingerprint(path)?;
    Ok(fingerprint.is_settled().then(|| fingerprint.to_string()))
}

/// The file that lists the nodes.
///
/// # Errors
/// [`ErrorKind::TryAgain`] where a service does, which only an agent asks.
pub(super) fn file_of(source: &ClusterSource) -> Result<&Path> {
    match &source.origin {
        Origin::File(path) => Ok(path),
        Origin::Agent { kind, .. } => Err(Error::new(
            ErrorKind::TryAgain,
            format!(
                "no node agent runs here, and the nodes of this cluster are known from `cluster.{kind}`, which only the agent \
                 speaks to: start node-agent with this configuration"
            ),
        )),
    }
}

/// Reads the file, and finds this node in it. Beside it are the prefixes that hold all pods of the cluster, where the file has them.
///
/// # Errors
/// As [`file_of`].
/// [`ErrorKind::Io`] when the file cannot be read, [`ErrorKind::InvalidConfig`] when something is wrong in it, this node is
/// not in it, or has no prefixes.
pub(super) async fn view(host: &Host, source: &ClusterSource) -> Result<(View, Vec<IpNetwork>)> {
    let path = file_of(source)?;
    let file = file::load(path)?;
    let identity = identity(host, source.node.as_deref(), file.nodes.iter()).await?;
    let mut view = View::new(identity);
    view.apply(PeerEvent::Reset(file.nodes));
    view.apply(PeerEvent::InSync);
    match view.me() {
        None => Err(unknown(view.identity(), path)),
        Some(me) if me.prefixes.is_empty() => Err(without_prefix(&view, me, path)),
        Some(_) => Ok((view, file.cluster_prefixes)),
    }
}

/// How this node is told from the others: by the name that the configuration has, else by the host's name where a node is
/// called that, else by the host's addresses.
///
/// # Errors
/// When addresses cannot be read.
pub async fn identity(
    host: &Host,
    configured: Option<&str>,
    mut nodes: impl Iterator<Item = &Node>,
) -> Result<Identity> {
    let named = |name: &str| Identity {
        name: Some(name.to_owned()),
        addresses: Vec::new(),
    };
    if let Some(name) = configured {
        return Ok(named(name));
    }
    let hostname = fs::read_to_string(HOSTNAME).unwrap_or_default();
    let hostname = hostname.trim();
    if nodes.any(|node| &*node.name == hostname) {
        return Ok(named(hostname));
    }
    let addresses = host.netlink.addresses(None).await?;
    let addresses = addresses.iter().map(|address| address.address.ip());
    Ok(Identity {
        name: None,
        addresses: addresses.filter(|address| !address.is_loopback()).collect(),
    })
}

fn unknown(identity: &Identity, path: &Path) -> Error {
    let path = path.display();
    let message = match &identity.name {
        Some(name) => format!(
            "no node in {path} is named `{name}`: add this node, or correct \"cluster.node\""
        ),
        None => {
            let some: Vec<String> = identity
                .addresses
                .iter()
                .filter(|address| !is_link_local(**address))
                .take(4)
                .map(IpAddr::to_string)
                .collect();
            format!(
                "no node in {path} has the host's name or one of its addresses ({}): add this node, or say which one it is in \
                 \"cluster.node\"",
                some.join(", ")
            )
        }
    };
    Error::new(ErrorKind::InvalidConfig, message)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn without_prefix(view: &View, me: &Node, path: &Path) -> Error {
    let lost = view
        .conflicts()
        .find(|conflict| conflict.loser_uid == me.uid);
    let why = lost.map_or_else(
        || "give it `podPrefixes`".to_owned(),
        |conflict| conflict.to_string(),
    );
    let message = format!(
        "node `{}` has no prefix for its pods in {}: {why}",
        me.name,
        path.display()
    );
    Error::new(ErrorKind::InvalidConfig, message)
}
