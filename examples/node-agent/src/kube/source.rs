//! Kubernetes as a source of nodes.

use async_trait::async_trait;
use cni_core::cluster::{PeerEvent, PeerSource};
use ipnetwork::IpNetwork;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::access::Origin;
use super::client::Client;
use super::layout::Layout;
use super::member::Member;
use super::session::{Own, Session};
use super::table::Table;
use crate::tenure::Tenure;

/// Tells of the nodes in Kubernetes, and follows them. It has to be made in a runtime of tokio's, in which a task of its own
/// does the work.
#[derive(Debug)]
pub struct KubernetesSource {
    events: UnboundedReceiver<PeerEvent>,
    networks: Vec<IpNetwork>,
    task: JoinHandle<()>,
}

impl KubernetesSource {
    /// One that looks on and writes nothing.
    pub fn observer(origin: Origin, layout: Layout) -> Self {
        Self::start(origin, layout, None)
    }

    /// One that keeps this node's own part, too. `tenure` tells how that stands; whenever that changes, an event comes.
    pub fn member(origin: Origin, layout: Layout, member: Member, tenure: Tenure) -> Self {
        Self::start(origin, layout, Some(Own { member, tenure }))
    }

    fn start(origin: Origin, layout: Layout, own: Option<Own>) -> Self {
        let networks = layout.networks().to_vec();
        let (sender, events) = unbounded_channel();
        let session = Session::new(Client::new(origin), Table::new(layout), sender, own);
        Self {
            events,
            networks,
            task: tokio::spawn(session.run()),
        }
    }
}

#[async_trait]
impl PeerSource for KubernetesSource {
    async fn next(&mut self) -> PeerEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    fn cluster_prefixes(&self) -> &[IpNetwork] {
        &self.networks
    }
}

impl Drop for KubernetesSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}
