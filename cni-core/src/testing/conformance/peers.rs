//! The contract of [`PeerSource`].

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::channel::channel;
use crate::cluster::{Identity, Node, NodeUid, PeerEvent, PeerSource, View};

/// A change has to be told within this time.
const IN_TIME: Duration = Duration::from_secs(20);

/// A source that tells so many events about one change tells without an end.
const EVENTS_MAX: usize = 1000;

/// What holds the nodes of a cluster, as a [`PeerSource`] is tested with it.
#[async_trait]
pub trait PeerStore: Send {
    /// A source that has just been started.
    async fn source(&mut self) -> Box<dyn PeerSource>;

    /// From now on these are all nodes: their uids, names, prefixes and underlay addresses. The rest of what a node is may be
    /// as the store likes.
    async fn hold(&mut self, nodes: &[Node]);

    /// Puts something among the nodes, or in their place, that no source can understand; the next [`PeerStore::hold`] mends it.
    /// `false` where that cannot be.
    async fn spoil(&mut self) -> bool;

    /// Cannot be reached any more. `false` where that cannot be.
    async fn go_away(&mut self) -> bool;

    /// Can be reached again. What it is made to hold meanwhile it holds then.
    async fn come_back(&mut self);
}

/// Runs the whole contract that is written on [`PeerSource`].
///
/// # Panics
/// Where the source breaks it, saying which rule.
pub async fn peer_source(store: &mut dyn PeerStore) {
    an_empty_cluster_is_told_as_one(store).await;
    what_is_held_is_told_and_followed(store).await;
    what_cannot_be_used_leaves_in_force_what_worked(store).await;
    what_is_known_outlives_a_disconnection(store).await;
}

async fn an_empty_cluster_is_told_as_one(store: &mut dyn PeerStore) {
    store.hold(&[]).await;
    let mut seen = Seen::start("a cluster without nodes", store).await;
    seen.begins(&[]).await;
    store.hold(&nodes("1")).await;
    seen.comes_to("the first node", &nodes("1")).await;
}

async fn what_is_held_is_told_and_followed(store: &mut dyn PeerStore) {
    store.hold(&nodes("1 2 3")).await;
    let mut seen = Seen::start("three nodes", store).await;
    seen.begins(&nodes("1 2 3")).await;
    let mut moved = nodes("1 2 3");
    if let Some(node) = moved.first_mut() {
        node.underlay = vec![address(101)];
    }
    for (what, held) in [
        ("a node more", nodes("1 2 3 4")),
        ("a node less", nodes("1 3 4")),
        ("a node's address", moved),
        ("two nodes for two others", nodes("3 5 6")),
        ("no node", Vec::new()),
        ("all at once", nodes("1 2 3 4 5 6 7 8 9")),
    ] {
        store.hold(&held).await;
        seen.comes_to(what, &held).await;
        // One that starts now sees the same.
        let mut fresh = Seen::start(what, store).await;
        fresh.begins(&held).await;
    }
    for last in 1..=9 {
        store.hold(&nodes(&last.to_string())).await;
    }
    seen.comes_to("the last of many changes", &nodes("9")).await;
}

async fn what_cannot_be_used_leaves_in_force_what_worked(store: &mut dyn PeerStore) {
    store.hold(&nodes("1 2")).await;
    let mut seen = Seen::start("something that no source can understand", store).await;
    seen.begins(&nodes("1 2")).await;
    for mended in ["1 2", "2 3"] {
        if !store.spoil().await {
            return;
        }
        let rejected = |view: &View| view.rejected().is_some();
        seen.sees("it was not rejected", rejected).await;
        store.hold(&nodes(mended)).await;
        seen.comes_to("what is mended", &nodes(mended)).await;
        let mended = |view: &View| view.rejected().is_none();
        seen.sees("that it was mended is not told", mended).await;
    }
    // From the start, too.
    store.spoil().await;
    let mut fresh = Seen::start("a start with what no source can understand", store).await;
    fresh
        .sees("it was not rejected", |view| view.rejected().is_some())
        .await;
    store.hold(&nodes("1")).await;
    fresh.comes_to("what is mended", &nodes("1")).await;
}

async fn what_is_known_outlives_a_disconnection(store: &mut dyn PeerStore) {
    store.hold(&nodes("1 2")).await;
    let mut seen = Seen::start("a store that goes away", store).await;
    seen.begins(&nodes("1 2")).await;
    for meanwhile in [None, Some("2 3"), Some("")] {
        if !store.go_away().await {
            return;
        }
        let known = seen.known();
        let away = |view: &View| view.away().is_some();
        seen.sees("that it is away is not told", away).await;
        assert_eq!(
            seen.known(),
            known,
            "{}: nodes went because the store did",
            seen.what
        );
        if let Some(nodes_then) = meanwhile {
            store.hold(&nodes(nodes_then)).await;
        }
        store.come_back().await;
        let back = |view: &View| view.away().is_none();
        seen.sees("that it is back is not told", back).await;
        if let Some(nodes_then) = meanwhile {
            seen.comes_to("what changed while it was away", &nodes(nodes_then))
                .await;
        }
    }
    store.go_away().await;
    let mut fresh = Seen::start("a start while the store is away", store).await;
    fresh
        .sees("that it is away is not told", |view| view.away().is_some())
        .await;
    assert!(!fresh.view.in_sync(), "in sync with a store that is away");
    store.hold(&nodes("4")).await;
    store.come_back().await;
    fresh
        .comes_to("the store's first appearance", &nodes("4"))
        .await;
}

/// A source and what it has told.
struct Seen {
    what: &'static str,
    source: Box<dyn PeerSource>,
    view: View,
    has_reset: bool,
}

/// What is compared of a node.
type Facts = (NodeUid, String, BTreeSet<IpNetwork>, BTreeSet<IpAddr>);

impl Seen {
    async fn start(what: &'static str, store: &mut dyn PeerStore) -> Self {
        Self {
            what,
            source: store.source().await,
            view: View::new(Identity::default()),
            has_reset: false,
        }
    }

    /// All is told, then that it is all.
    async fn begins(&mut self, nodes: &[Node]) {
        self.sees("it is never in sync", View::in_sync).await;
        assert_eq!(
            self.known(),
            facts(nodes),
            "{}: not all was told before it was in sync",
            self.what
        );
    }

    async fn comes_to(&mut self, what: &str, nodes: &[Node]) {
        let expected = facts(nodes);
        let message = format!("{what} is not told");
        self.sees(&message, |view| view.in_sync() && known(view) == expected)
            .await;
    }

    /// Takes events until this is so, which it may be already.
    async fn sees(&mut self, message: &str, so: impl Fn(&View) -> bool) {
        for _ in 0..EVENTS_MAX {
            if so(&self.view) {
                return;
            }
            let event = self.event().await;
            let Some(event) = event else {
                panic!("{}: {message} within {IN_TIME:?}", self.what);
            };
            match &event {
                PeerEvent::Reset(_) => self.has_reset = true,
                PeerEvent::Put(_) | PeerEvent::Remove(_) | PeerEvent::InSync => assert!(
                    self.has_reset,
                    "{}: {event:?} comes before a reset",
                    self.what
                ),
                _ => {}
            }
            self.view.apply(event);
        }
        panic!("{}: {message} in {EVENTS_MAX} events", self.what);
    }

    /// The next event; each call is given up first where it would have to wait, which must lose nothing.
    async fn event(&mut self) -> Option<PeerEvent> {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(event) = pin!(self.source.next()).poll(&mut context) {
            return Some(event);
        }
        within(IN_TIME, self.source.next()).await
    }

    fn known(&self) -> BTreeMap<NodeUid, Facts> {
        known(&self.view)
    }
}

fn known(view: &View) -> BTreeMap<NodeUid, Facts> {
    let uids = view.nodes().map(|node| &node.uid);
    let nodes = uids.filter_map(|uid| view.known(uid));
    nodes.map(|node| (node.uid.clone(), fact(node))).collect()
}

fn facts(nodes: &[Node]) -> BTreeMap<NodeUid, Facts> {
    let facts = nodes.iter().map(|node| (node.uid.clone(), fact(node)));
    facts.collect()
}

fn fact(node: &Node) -> Facts {
    (
        node.uid.clone(),
        node.name.to_string(),
        node.prefixes.iter().copied().collect(),
        node.underlay.iter().copied().collect(),
    )
}

/// Nodes by their numbers.
fn nodes(numbers: &str) -> Vec<Node> {
    let numbers = numbers.split_whitespace();
    let numbers = numbers.filter_map(|number| number.parse().ok());
    numbers.map(node).collect()
}

fn node(number: u8) -> Node {
    let name = format!("node-{number}");
    let mut node = Node::new(NodeUid::new(&name), &name);
    let prefix = |text: String| text.parse().expect("a prefix");
    node.prefixes = vec![
        prefix(format!("10.244.{number}.0/24")),
        prefix(format!("fd00:244:{number}::/64")),
    ];
    node.underlay = vec![address(number)];
    node
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

/// What comes of this, if it comes in time: by a thread, as there need be no runtime.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let (timer, mut elapsed) = channel::<()>();
    let (done, waits) = mpsc::channel::<()>();
    thread::spawn(move || {
        let _either = waits.recv_timeout(limit);
        drop(timer);
    });
    let mut elapsed = pin!(elapsed.next());
    let result = poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        elapsed.as_mut().poll(context).map(|_| None)
    });
    let result = result.await;
    drop(done);
    result
}

#[cfg(test)]
mod tests;
