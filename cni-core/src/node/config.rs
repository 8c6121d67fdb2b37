//! The configuration's keys that do not depend on how the nodes are connected.

use std::path::PathBuf;

use crate::chained::firewall;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::config::NetworkConfig;
use crate::spec::json::Object;
use crate::spec::{InterfaceName, NetworkName};

/// What a configuration says of the node, whichever way it is connected with others. The plugin and the node agent read it
/// from the same file, so that both mean the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeConfig {
    /// `name`: the network.
    pub network: NetworkName,
    /// `cluster`: where the nodes are known from.
    pub cluster: ClusterSource,
    /// `mtu`: the largest packet of a pod, in bytes; `None` (absent or 0) is what the underlay carries.
    pub mtu: Option<u32>,
    /// `routeProtocol`: the number that marks our routes, next hops and rules (`RTPROT_*`), and the table of routes to
    /// peers' own addresses. Default 167.
    pub protocol: u8,
    /// `nextHopObjects`: next-hop objects are used where the kernel has them. Default true.
    pub next_hop_objects: bool,
    /// `masquerade`: what leaves the cluster's pods for elsewhere is masqueraded. Default true.
    pub masquerade: bool,
    /// `stateDir`: the directory of what is known between one process and the next, and of the agent's lock. Default
    /// `/run/cni-fabric`.
    pub state_dir: PathBuf,
    /// `firewalldZone`: where firewalld rules, the zone that lets the network's packets through. Default `trusted`.
    pub zone: String,
    /// `attach`: how a pod is attached to the node.
    pub attach: Inner,
}

/// Where the nodes are known from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSource {
    /// What tells of them.
    pub origin: Origin,
    /// `cluster.node`: which of them this is; by default the one with the host's name or one of its addresses.
    pub node: Option<String>,
}

/// What tells of the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// `cluster.file`: the file that lists them. Plugins read it themselves where no agent lives.
    File(PathBuf),
    /// A service that only an agent speaks to: a plugin without one cannot tell what this node is to be.
    Agent {
        /// The key below `cluster`, of [`Origin::BY_AGENT`].
        kind: &'static str,
        /// The whole section: its keys are the agent's to read.
        section: String,
    },
}

impl Origin {
    /// The keys below `cluster` that name a service which an agent is needed for.
    pub const BY_AGENT: [&'static str; 2] = ["etcd", "kubernetes"];
}

/// How a pod is attached to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// `attach.type`. Default `bridge`.
    pub kind: String,
    /// The whole section, with keys that are the inner backend's own.
    pub section: String,
}

/// Where state is kept when `stateDir` does not say another place: emptied by every boot.
const DEFAULT_STATE_DIR: &str = "/run/cni-fabric";

/// The number that marks what is ours when `routeProtocol` does not say another: no program is known to use it.
const DEFAULT_PROTOCOL: u32 = 167;

/// Numbers that would make somebody else's routes ours: `linux/rtnetlink.h`, iproute2's `rt_protos`, and Calico's.
const TAKEN: [(u32, &str); 20] = [
    (8, "gated"),
    (9, "router advertisements"),
    (10, "mrt"),
    (11, "zebra (FRRouting)"),
    (12, "bird"),
    (13, "dnrouted"),
    (14, "xorp"),
    (15, "ntk"),
    (16, "dhcp"),
    (17, "mrouted"),
    (18, "keepalived"),
    (42, "babel"),
    (80, "calico"),
    (84, "ovn"),
    (99, "openr"),
    (186, "bgp (FRRouting)"),
    (187, "isis (FRRouting)"),
    (188, "ospf (FRRouting)"),
    (189, "rip (FRRouting)"),
    (192, "eigrp (FRRouting)"),
];

/// Numbers 1 to 4 are the kernel's and the administrator's; tables 253 to 255 are `default`, `main` and `local`.
const PROTOCOLS: std::ops::RangeInclusive<u32> = 5..=252;

/// The smallest MTU that every IPv4 host takes (RFC 791: 576), and the largest of a link (`ETH_MAX_MTU`).
const MTUS: std::ops::RangeInclusive<u32> = 576..=65535;

impl NodeConfig {
    /// Reads the common keys.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for a member of the wrong type, [`ErrorKind::InvalidConfig`] for a value that breaks a rule;
    /// both name key, value and rule.
    pub fn parse(config: &NetworkConfig) -> Result<Self> {
        let object = config.object()?;
        Ok(Self {
            network: config.name().clone(),
            cluster: cluster(&object)?,
            mtu: mtu(&object)?,
            protocol: protocol(&object)?,
            next_hop_objects: object.bool("nextHopObjects")?.unwrap_or(true),
            masquerade: object.bool("masquerade")?.unwrap_or(true),
            state_dir: absolute(&object, "stateDir")?.unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
            zone: firewall::zone(&object)?,
            attach: Inner::parse(config)?,
        })
    }
}

impl Inner {
    /// Reads `attach` alone: all that DEL needs.
    ///
    /// # Errors
    /// As for [`NodeConfig::parse`].
    pub fn parse(config: &NetworkConfig) -> Result<Self> {
        let Some(section) = config.object()?.object("attach")? else {
            return Ok(Self::default());
        };
        for (key, instead) in REFUSED {
            if section.member(key).is_some() {
                let message = format!("`{}` cannot be set: {instead}", section.path_of(key));
                return Err(Error::new(ErrorKind::InvalidConfig, message));
            }
        }
        let forced = [
            ("isGateway", true),
            ("isDefaultGateway", true),
            ("ipMasq", false),
        ];
        for (key, value) in forced {
            if section.bool(key)?.is_some_and(|given| given != value) {
                let rule = format!(
                    "must be {value} or absent: pods reach other nodes through their own node, {WHO}"
                );
                return Err(section.broken(key, !value, &rule));
            }
        }
        let kind = section.string("type")?.filter(|kind| !kind.is_empty());
        let text = config
            .object()?
            .member("attach")
            .map_or("{}", |value| value.get());
        Ok(Self {
            kind: kind.unwrap_or_else(|| DEFAULT_ATTACH.to_owned()),
            section: text.to_owned(),
        })
    }
}

const DEFAULT_ATTACH: &str = "bridge";
const WHO: &str = "and `masquerade` says whether what leaves the cluster is masqueraded";

/// Keys of `attach` that the outer configuration or the cluster decides.
const REFUSED: [(&str, &str); 8] = [
    ("name", "it is the network's"),
    ("cniVersion", "it is the network's"),
    ("mtu", "set `mtu` beside `attach`"),
    ("gateways", "they are those of the node's own prefixes"),
    (
        "ipam",
        "set `ipam` beside `attach`; its ranges are the node's own prefixes",
    ),
    ("runtimeConfig", "it is the runtime's to give"),
    ("args", "set `args` beside `attach`"),
    ("prevResult", "it is the runtime's to give"),
];

impl Default for Inner {
    fn default() -> Self {
        Self {
            kind: DEFAULT_ATTACH.to_owned(),
            section: "{}".to_owned(),
        }
    }
}

/// The name of a link of the host's under `key`, when there is one.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for what the kernel takes for no name, or would not keep apart from its own directories of
/// parameters (`net/ipv4/conf/all`).
pub fn interface_name(object: &Object<'_>, key: &str) -> Result<Option<String>> {
    let Some(name) = object.string(key)?.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let rule = "must be an interface name: 1 to 15 bytes without '/', ':', '%' and white space, and not all, default or lo";
    let special = ["all", "default", "lo"].contains(&name.as_str()) || name.contains('%');
    match name.parse::<InterfaceName>() {
        Ok(_) if !special => Ok(Some(name)),
        _ => Err(object.broken(key, name, rule)),
    }
}

fn cluster(object: &Object<'_>) -> Result<ClusterSource> {
    let cluster = object.object("cluster")?.ok_or_else(|| {
        let hint = "name the file that lists the nodes, as {\"file\": \"/etc/cni/cluster.json\"}, or the service that \
                    the node agent asks for them";
        Error::new(
            ErrorKind::InvalidConfig,
            format!("`cluster` is missing: {hint}"),
        )
    })?;
    let text = |key: &str| -> Result<Option<String>> {
        Ok(cluster.string(key)?.filter(|text| !text.is_empty()))
    };
    Ok(ClusterSource {
        origin: origin(&cluster)?,
        node: text("node")?,
    })
}

/// Exactly one of the sources that there are.
fn origin(cluster: &Object<'_>) -> Result<Origin> {
    let mut origins: Vec<Origin> = absolute(cluster, "file")?
        .map(Origin::File)
        .into_iter()
        .collect();
    for kind in Origin::BY_AGENT {
        if let (Some(_), Some(section)) = (cluster.object(kind)?, cluster.member(kind)) {
            let section = section.get().to_owned();
            origins.push(Origin::Agent { kind, section });
        }
    }
    let keys = [&["file"], Origin::BY_AGENT.as_slice()].concat();
    let keys = keys.join("`, `");
    match (origins.pop(), origins.is_empty()) {
        (Some(origin), true) => Ok(origin),
        (Some(_), false) => Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("`cluster` has more than one of `{keys}`: the nodes are known from one place"),
        )),
        (None, _) => Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "`cluster` has none of `{keys}`: one of them says where the nodes are known from"
            ),
        )),
    }
}

fn absolute(object: &Object<'_>, key: &str) -> Result<Option<PathBuf>> {
    let Some(text) = object.string(key)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(&text);
    if path.is_absolute() {
        return Ok(Some(path));
    }
    let rule = "must be an absolute path: a plugin's working directory is the runtime's choice";
    Err(object.broken(key, text, rule))
}

fn mtu(object: &Object<'_>) -> Result<Option<u32>> {
    let rule = "must be 0, for what the underlay carries, or from 576 to 65535 bytes";
    match object.i64("mtu")? {
        None | Some(0) => Ok(None),
        Some(mtu) => match u32::try_from(mtu) {
            Ok(bytes) if MTUS.contains(&bytes) => Ok(Some(bytes)),
            _ => Err(object.broken("mtu", mtu, rule)),
        },
    }
}

fn protocol(object: &Object<'_>) -> Result<u8> {
    const KEY: &str = "routeProtocol";
    let (min, max) = (*PROTOCOLS.start(), *PROTOCOLS.end());
    let number = object.u32_in(KEY, min, max)?.unwrap_or(DEFAULT_PROTOCOL);
    if let Some((_, name)) = TAKEN.iter().find(|(taken, _)| *taken == number) {
        let rule = format!("must be a number of our own: routes of {name} bear this one");
        return Err(object.broken(KEY, number, &rule));
    }
    u8::try_from(number).map_err(|_| object.broken(KEY, number, "must be from 5 to 252"))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
