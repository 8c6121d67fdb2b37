//! etcd as a source of nodes.

use async_trait::async_trait;
use cni_core::cluster::{PeerEvent, PeerSource};
use ipnetwork::IpNetwork;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::client::Client;
use super::config::EtcdConfig;
use super::layout::{Layout, Tunnel};
use super::member::Member;
use super::session::{Own, Session};
use super::table::Table;
use crate::remote::facts::Knows;
use crate::tenure::Tenure;

/// Tells of the nodes in etcd, and follows them. It has to be made in a runtime of tokio's, in which a task of its own does the
/// work, so that leases are kept however long a step of the loop waits for other processes.
#[derive(Debug)]
pub struct EtcdSource {
    events: UnboundedReceiver<PeerEvent>,
    networks: Vec<IpNetwork>,
    /// What they are with the next reset.
    told: Networks,
    task: JoinHandle<()>,
}

impl EtcdSource {
    /// One that looks on and writes nothing.
    pub fn observer(config: &EtcdConfig, tunnel: Tunnel) -> Self {
        Self::start(config, tunnel, None)
    }

    /// One that keeps this node's own part in etcd, too. `tenure` tells how that stands; whenever that changes, an event comes.
    pub fn member(
        config: &EtcdConfig,
        tunnel: Tunnel,
        member: Member,
        knows: Arc<dyn Knows>,
        tenure: Tenure,
    ) -> Self {
        let own = Own {
            member,
            knows,
            tenure,
            facts: None,
        };
        Self::start(config, tunnel, Some(own))
    }

    fn start(config: &EtcdConfig, tunnel: Tunnel, own: Option<Own>) -> Self {
        let layout = Layout::new(config, tunnel);
        let (sender, events) = unbounded_channel();
        let client = Client::new(config.access.clone());
        let session = Session::new(client, Table::new(layout), sender, own, config.clone());
        let told = session.networks();
        Self {
            events,
            networks: told.get(),
            told,
            task: tokio::spawn(session.run()),
        }
    }
}

#[async_trait]
impl PeerSource for EtcdSource {
    async fn next(&mut self) -> PeerEvent {
        match self.events.recv().await {
            Some(event) => {
                if matches!(event, PeerEvent::Reset(_)) {
                    self.networks = self.told.get();
                }
                event
            }
            None => std::future::pending().await,
        }
    }

    fn cluster_prefixes(&self) -> &[IpNetwork] {
        &self.networks
    }
}

impl Drop for EtcdSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Prefixes that hold all pods. Cheap to clone; all clones say the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Networks(Arc<Mutex<Vec<IpNetwork>>>);

impl Networks {
    pub(super) fn get(&self) -> Vec<IpNetwork> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set(&self, networks: &[IpNetwork]) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.clear();
        held.extend_from_slice(networks);
    }
}
