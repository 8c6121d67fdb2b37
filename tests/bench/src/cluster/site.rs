//! The cluster as a file, as a view, and as an engine with its configuration.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use backend_host_gw::HostGw;
use backend_vxlan::Vxlan;
use cni_core::cluster::{ClusterFile, Identity, Node, PeerEvent, View};
use cni_core::fabric::Engine;
use cni_core::host::Host;
use cni_core::node::Scheme;
use cni_core::spec::config::NetworkConfig;

use super::peers::{prefix, underlay};

/// How nodes are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataPath {
    Classic,
    Flow,
    HostGw,
}

impl DataPath {
    pub(super) const ALL: [Self; 3] = [Self::Classic, Self::Flow, Self::HostGw];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Flow => "flow",
            Self::HostGw => "host-gw",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.name() == name)
    }

    fn config(self) -> NetworkConfig {
        let own = match self {
            Self::HostGw => r#""type":"host-gw""#.to_owned(),
            tunnel => format!(r#""type":"vxlan","dataPath":"{}""#, tunnel.name()),
        };
        let text = format!(
            r#"{{"cniVersion":"1.1.0","name":"pods",{own},"cluster":{{"file":"/run/cluster.json","node":"n0"}}}}"#
        );
        NetworkConfig::parse(text.as_bytes()).expect("a configuration")
    }

    /// An engine in the thread's namespace.
    pub(super) fn engine(self) -> Engine {
        let config = self.config();
        let network = match self {
            Self::HostGw => HostGw.network(&config),
            _ => Vxlan.network(&config),
        };
        let host = Host::open().expect("handles of the namespace");
        Engine::new(host, network.expect("a network").fabric)
    }
}

/// Writes the file of a cluster of this node and so many peers.
pub(super) fn write_file(peers: u32) -> PathBuf {
    let mut text = String::from("{\"nodes\": [\n");
    for peer in 0..=peers {
        let (prefix, address) = match peer {
            0 => (prefix(0), super::peers::OUTER),
            _ => (prefix(peer), underlay(peer)),
        };
        let end = if peer == peers { "\n]}\n" } else { ",\n" };
        let _ = write!(
            text,
            "  {{\"name\": \"n{peer}\", \"podPrefixes\": [\"{prefix}/24\"], \"addresses\": [\"{address}\"]}}{end}"
        );
    }
    let path = PathBuf::from(format!("/run/cluster-{peers}.json"));
    fs::write(&path, text).expect("/run is this process's own");
    path
}

/// Reads the file: what is known of the cluster.
pub(super) fn view(path: &Path) -> View {
    let text = fs::read(path).expect("the file");
    let file = ClusterFile::parse(&text).expect("a cluster file");
    drop(text);
    let mut view = View::new(Identity {
        name: Some("n0".to_owned()),
        ..Identity::default()
    });
    view.apply(PeerEvent::Reset(file.nodes));
    view.apply(PeerEvent::InSync);
    view
}

/// A peer, moved to another underlay address, or back.
pub(super) fn moved(view: &View, peer: u32, away: bool) -> Node {
    let name = format!("n{peer}");
    let uid = cni_core::cluster::NodeUid::new(&name);
    let node = view.node(&uid).expect("a peer");
    let mut node = Node::clone(node);
    let address = underlay(if away { peer + 50_000 } else { peer });
    node.underlay = vec![address.into()];
    node
}
