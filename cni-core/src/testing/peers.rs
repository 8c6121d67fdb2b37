//! A source of nodes that tells what a test wants it to.

use std::collections::VecDeque;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::channel::{Receiver, Sender, channel};
use crate::cluster::{PeerEvent, PeerSource};

/// A [`PeerSource`] that tells what is given to its [`PeerScript`], in that order, and otherwise waits.
///
/// ```
/// use cni_core::cluster::{PeerEvent, PeerSource};
/// use cni_core::testing::ScriptedPeers;
///
/// # async fn example() {
/// let (script, mut source) = ScriptedPeers::new();
/// script.tell([PeerEvent::Reset(Vec::new()), PeerEvent::InSync]);
/// assert_eq!(source.next().await, PeerEvent::Reset(Vec::new()));
/// # }
/// ```
#[derive(Debug)]
pub struct ScriptedPeers {
    events: Receiver<PeerEvent>,
    cluster_prefixes: Vec<IpNetwork>,
}

/// What a [`ScriptedPeers`] is told by. Where it is dropped, the source has nothing more to say.
#[derive(Debug)]
pub struct PeerScript(Sender<PeerEvent>);

impl ScriptedPeers {
    /// A source, and what it is told by.
    pub fn new() -> (PeerScript, Self) {
        let (sender, events) = channel();
        let source = Self {
            events,
            cluster_prefixes: Vec::new(),
        };
        (PeerScript(sender), source)
    }

    /// It tells these prefixes that hold all pods.
    #[must_use]
    pub fn with_cluster_prefixes(mut self, prefixes: impl IntoIterator<Item = IpNetwork>) -> Self {
        self.cluster_prefixes = prefixes.into_iter().collect();
        self
    }
}

impl PeerScript {
    /// The source tells these, after what it has been given before.
    pub fn tell(&self, events: impl IntoIterator<Item = PeerEvent>) {
        self.0.alter(|waiting| waiting.extend(events));
    }

    /// How many events have not been taken yet.
    pub fn untold(&self) -> usize {
        let mut count = 0;
        self.0
            .alter(|waiting: &mut VecDeque<_>| count = waiting.len());
        count
    }
}

#[async_trait]
impl PeerSource for ScriptedPeers {
    async fn next(&mut self) -> PeerEvent {
        match self.events.next().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    fn cluster_prefixes(&self) -> &[IpNetwork] {
        &self.cluster_prefixes
    }
}
