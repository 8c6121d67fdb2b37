//! From the configuration to what the agent works with.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use backend_host_gw::HostGw;
use backend_vxlan::Vxlan;
use cni_core::cluster::{FileSource, Identity, PeerSource, View};
use cni_core::host::Host;
#[cfg(feature = "etcd")]
use cni_core::ipam::HostLocal;
use cni_core::node::{self, Network, Origin, Scheme, StateDir};
use cni_core::runtime::{NetworkList, load_list};
use cni_core::spec::config::NetworkConfig;
use cni_core::{Error, ErrorKind, Result};

use crate::agent::{Locator, Reload, Setup};
use crate::args::Args;
use crate::conflist::Conflist;
use crate::connector::Connector;
use crate::drops::DropCounts;
use crate::moved::Moved;
use crate::publish::Publisher;
use crate::telling::Telling;
use crate::tenure::Tenure;
use crate::zoning::Zoning;

/// The plugins whose configuration is understood.
const TYPES: [(&str, &dyn Scheme); 2] = [("vxlan", &Vxlan), ("host-gw", &HostGw)];

/// Makes setups of one network.
#[derive(Debug)]
pub struct Maker {
    args: Args,
    host: Host,
    network: Network,
    /// The network's configuration, as far as a source has to know it.
    hints: Hints,
    /// The configuration of its plugin.
    config: NetworkConfig,
    /// The network's configuration, as it was read.
    list: NetworkList,
    drops: Arc<DropCounts>,
    /// Tells a source that speaks for this node of the host's addresses.
    moved: Moved,
}

/// What a source tells others of this node's data path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// The network identifier of a VXLAN; `None` where there is no tunnel.
    pub(crate) vni: Option<u32>,
    /// `device`, where it is configured.
    pub(crate) device: Option<String>,
    /// `dataPath`.
    pub(crate) data_path: Option<String>,
    /// The tunnel's UDP port, where it is configured.
    pub(crate) port: Option<u32>,
    /// `directRouting`.
    pub(crate) direct_routing: bool,
}

/// A source, how nodes are told apart in it, and what it knows of this node's right to its prefixes.
pub(crate) struct Found {
    pub(crate) source: Box<dyn PeerSource>,
    pub(crate) configured: Option<String>,
    pub(crate) tenure: Option<Tenure>,
    pub(crate) telling: Option<Telling>,
}

impl Maker {
    /// Reads the configuration.
    ///
    /// # Errors
    /// What is wrong in it.
    pub fn new(args: Args, host: Host) -> Result<Self> {
        let Read {
            network,
            hints,
            config,
            list,
        } = read(&args)?;
        let table = network.fabric.owner().table;
        let drops = DropCounts::new(Arc::clone(&host.firewall), table);
        Ok(Self {
            args,
            host,
            network,
            hints,
            config,
            list,
            drops: Arc::new(drops),
            moved: Moved::default(),
        })
    }

    /// What the configuration asks for.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The kernel.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where plugins and agent keep what they know.
    pub fn state_dir(&self) -> StateDir {
        StateDir::of(&self.network.node)
    }

    /// What the filter has refused.
    pub fn drops(&self) -> Arc<DropCounts> {
        Arc::clone(&self.drops)
    }

    /// What the agent works with.
    ///
    /// # Errors
    /// The source of nodes cannot be followed.
    pub fn setup(&self) -> Result<Setup> {
        let found = self.source()?;
        Ok(Setup {
            source: found.source,
            programmer: Box::new(self.connector()),
            locator: Box::new(Named {
                host: self.host.clone(),
                configured: found.configured,
            }),
            publisher: self.publisher(),
            tenure: found.tenure,
            telling: found.telling,
            moved: self.moved.clone(),
            zoning: Some(self.zoning()),
        })
    }

    /// What firewalld has to know of the network, where it rules the host.
    pub fn zoning(&self) -> Zoning {
        Zoning {
            zone: self.network.node.zone.clone(),
            direct: self.network.direct,
        }
    }

    fn source(&self) -> Result<Found> {
        let cluster = &self.network.node.cluster;
        match &cluster.origin {
            Origin::File(path) => Ok(Found {
                source: Box::new(FileSource::new(path)?),
                configured: cluster.node.clone(),
                tenure: None,
                telling: None,
            }),
            #[cfg(feature = "etcd")]
            Origin::Agent {
                kind: "etcd",
                section,
            } => crate::etcd_setup::source(
                section,
                &self.network.node,
                &self.host,
                &self.hints,
                &self.config,
                (self.args.task == crate::args::Task::Run).then(|| self.moved.clone()),
            ),
            #[cfg(feature = "kubernetes")]
            Origin::Agent {
                kind: "kubernetes",
                section,
            } => crate::kube_setup::source(
                section,
                &self.network.node,
                &self.host,
                &self.hints,
                &self.config,
                (self.args.task == crate::args::Task::Run).then(|| self.moved.clone()),
            ),
            Origin::Agent { kind, .. } => Err(unknown(kind)),
            _ => Err(unknown("what the configuration names")),
        }
    }

    /// Removes what this node has told a service of itself: a line for each thing and what became of it, and what has been left that
    /// somebody has to see to.
    ///
    /// # Errors
    /// What is wrong in the configuration, or cannot be read on this machine.
    pub(crate) async fn withdraw(&self) -> Result<(Vec<String>, Option<String>)> {
        match &self.network.node.cluster.origin {
            #[cfg(feature = "etcd")]
            Origin::Agent {
                kind: "etcd",
                section,
            } => {
                let held = HostLocal::new().held_outside(self.config.name(), &self.config, &[]);
                let node = &self.network.node;
                let left =
                    crate::etcd_setup::leave(section, node, &self.host, &self.hints, held).await?;
                Ok((left, None))
            }
            #[cfg(feature = "kubernetes")]
            Origin::Agent {
                kind: "kubernetes",
                section,
            } => {
                let cleaned = crate::kube_setup::clean_up(section, &self.network.node).await?;
                let (things, left) = cleaned;
                let removed = things.iter().map(|thing| format!("{thing}: removed"));
                Ok((removed.collect(), left))
            }
            _ => Ok((Vec::new(), None)),
        }
    }

    /// What makes the kernel be as it must.
    pub fn connector(&self) -> Connector {
        let fabric = Arc::clone(&self.network.fabric);
        Connector::new(self.host.clone(), fabric, self.drops())
    }

    /// What tells the plugins.
    pub fn publisher(&self) -> Publisher {
        Publisher {
            network: self.network.node.network.clone(),
            state: self.state_dir(),
            subnet_env: self.args.subnet_env.clone(),
            conflist: self.conflist(),
            masquerade: self.network.node.masquerade,
        }
    }
}

impl Maker {
    /// The network's configuration, as it was read.
    pub fn list(&self) -> &NetworkList {
        &self.list
    }

    /// The runtime's configuration, where it is the agent's to put in place.
    pub fn conflist(&self) -> Option<Conflist> {
        let path = self.args.publish_conflist.clone()?;
        Some(Conflist {
            path,
            network: self.network.node.network.clone(),
            text: self.list.raw.clone(),
        })
    }
}

impl Reload for Maker {
    fn reload(&mut self) -> Result<Setup> {
        let read = read(&self.args)?;
        let network = read.network;
        let (old, new) = (&self.network.node, &network.node);
        let same = (&old.network, old.protocol, &old.state_dir)
            == (&new.network, new.protocol, &new.state_dir);
        if !same {
            let message = "`name`, `routeProtocol` and `stateDir` say what is this agent's: stop it, remove what it has made \
                           (--cleanup, with the old configuration) and start it anew";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        self.network = network;
        self.hints = read.hints;
        self.config = read.config;
        self.list = read.list;
        self.setup()
    }
}

/// What a configuration says.
struct Read {
    network: Network,
    hints: Hints,
    config: NetworkConfig,
    list: NetworkList,
}

/// Reads the configuration, as the plugin gets it.
fn read(args: &Args) -> Result<Read> {
    let list = load_list(&args.config)?;
    let mut read = understand(list, &args.config)?;
    if let Some(name) = &args.node {
        read.network.node.cluster.node = Some(name.clone());
    }
    Ok(read)
}

/// A source that this agent was built without.
fn unknown(kind: &str) -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        format!("`cluster.{kind}` is no source of nodes that this agent was built with"),
    )
}

fn understand(list: NetworkList, path: &Path) -> Result<Read> {
    let scheme = |name: &str| TYPES.iter().find(|(known, _)| *known == name);
    let mut plugins = list
        .plugins
        .iter()
        .filter_map(|plugin| Some((plugin, scheme(&plugin.plugin_type)?.1)));
    let (Some((plugin, scheme)), None) = (plugins.next(), plugins.next()) else {
        let types = TYPES.map(|(name, _)| name).join(" or ");
        let message = format!(
            "network {} in {} must have one plugin of type {types}, which is the one that connects nodes",
            list.name,
            path.display()
        );
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    };
    let config = list.config_of(plugin)?;
    let read = || {
        let object = config.object()?;
        let vni = object.u32("vni")?.unwrap_or(1);
        let hints = Hints {
            vni: (plugin.plugin_type == "vxlan").then_some(vni),
            device: object.string("device")?,
            data_path: object.string("dataPath")?,
            port: object.u32("port")?,
            direct_routing: object.bool("directRouting")?.unwrap_or_default(),
        };
        Ok((scheme.network(&config)?, hints))
    };
    let (network, hints) =
        read().map_err(|error: Error| error.context(format!("in {}", path.display())))?;
    Ok(Read {
        network,
        hints,
        config,
        list,
    })
}

/// Finds this node as the plugins do.
#[derive(Debug)]
struct Named {
    host: Host,
    configured: Option<String>,
}

#[async_trait]
impl Locator for Named {
    async fn identity(&mut self, view: &View) -> Result<Identity> {
        let nodes = view.nodes().map(|node| &**node);
        node::identity(&self.host, self.configured.as_deref(), nodes).await
    }
}
