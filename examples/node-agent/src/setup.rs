//! From the configuration to what the agent works with.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use backend_host_gw::HostGw;
use backend_vxlan::Vxlan;
use cni_core::cluster::{FileSource, Identity, View};
use cni_core::host::Host;
use cni_core::node::{self, Network, Scheme, StateDir};
use cni_core::runtime::load_list;
use cni_core::{Error, ErrorKind, Result};

use crate::agent::{Locator, Reload, Setup};
use crate::args::Args;
use crate::connector::Connector;
use crate::drops::DropCounts;
use crate::publish::Publisher;

/// The plugins whose configuration is understood.
const TYPES: [(&str, &dyn Scheme); 2] = [("vxlan", &Vxlan), ("host-gw", &HostGw)];

/// Makes setups of one network.
#[derive(Debug)]
pub struct Maker {
    args: Args,
    host: Host,
    network: Network,
    drops: Arc<DropCounts>,
}

impl Maker {
    /// Reads the configuration.
    ///
    /// # Errors
    /// What is wrong in it.
    pub fn new(args: Args, host: Host) -> Result<Self> {
        let network = read(&args)?;
        let table = network.fabric.owner().table;
        let drops = DropCounts::new(Arc::clone(&host.firewall), table);
        Ok(Self {
            args,
            host,
            network,
            drops: Arc::new(drops),
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
        Ok(Setup {
            source: Box::new(FileSource::new(&self.network.node.cluster.file)?),
            programmer: Box::new(self.connector()),
            locator: Box::new(Named {
                host: self.host.clone(),
                configured: self.network.node.cluster.node.clone(),
            }),
            publisher: self.publisher(),
        })
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
            masquerade: self.network.node.masquerade,
        }
    }
}

impl Reload for Maker {
    fn reload(&mut self) -> Result<Setup> {
        let network = read(&self.args)?;
        let (old, new) = (&self.network.node, &network.node);
        let same = (&old.network, old.protocol, &old.state_dir)
            == (&new.network, new.protocol, &new.state_dir);
        if !same {
            let message = "`name`, `routeProtocol` and `stateDir` say what is this agent's: stop it, remove what it has made \
                           (--cleanup, with the old configuration) and start it anew";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        self.network = network;
        self.setup()
    }
}

/// Reads the configuration, as the plugin gets it.
fn read(args: &Args) -> Result<Network> {
    let mut network = network(&args.config)?;
    if let Some(name) = &args.node {
        network.node.cluster.node = Some(name.clone());
    }
    Ok(network)
}

fn network(path: &Path) -> Result<Network> {
    let list = load_list(path)?;
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
    scheme
        .network(&list.config_of(plugin)?)
        .map_err(|error| error.context(format!("in {}", path.display())))
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
