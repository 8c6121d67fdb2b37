//! What the server holds of the cluster, and what follows from it for a source of nodes: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cni_core::cluster::{Node, NodeUid, PeerEvent};

use super::api::{NodeNetwork, plain};
use super::layout::{Layout, Record};

/// How many bad records are told in words.
const MOST_WORDS: usize = 5;

/// All nodes of the network, as of a version.
#[derive(Debug)]
pub struct Table {
    layout: Layout,
    me: Option<NodeUid>,
    own_addresses: Vec<IpAddr>,
    nodes: BTreeMap<NodeUid, Entry>,
    /// This node's `NodeNetwork`, as it was seen last.
    own: Option<NodeNetwork>,
    /// This node, as what is followed told of it last.
    seen: Option<Node>,
    /// Nodes that the list has told of so far that is being read.
    listed: Option<BTreeSet<NodeUid>>,
    touched: BTreeSet<NodeUid>,
    /// Entries of which something cannot be used, and why.
    bad: BTreeMap<NodeUid, String>,
    bad_is_new: bool,
    /// The first list has been told.
    complete: bool,
}

/// A node.
#[derive(Debug, Clone, Default)]
struct Entry {
    /// As the last record told that makes sense.
    node: Option<Node>,
    /// What is wrong with the last one.
    why: Option<String>,
    /// `node` is what the source has told; or it has told an earlier one, or none.
    told: Told,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    Earlier,
    This,
}

impl Table {
    /// One that knows nothing yet.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            me: None,
            own_addresses: Vec::new(),
            nodes: BTreeMap::new(),
            own: None,
            seen: None,
            listed: None,
            touched: BTreeSet::new(),
            bad: BTreeMap::new(),
            bad_is_new: false,
            complete: false,
        }
    }

    /// How nodes are written.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Which node this is, and by which addresses: nobody else can have those.
    pub fn be(&mut self, me: &NodeUid, addresses: &[IpAddr]) {
        if self.me.as_ref() == Some(me) && self.own_addresses == addresses {
            return;
        }
        self.me = Some(me.clone());
        self.own_addresses = addresses.to_vec();
        self.touched.extend(self.nodes.keys().cloned());
    }

    /// This node's `NodeNetwork`, as it was seen last; `None`: there is none.
    pub fn own(&self) -> Option<&NodeNetwork> {
        self.own.as_ref()
    }

    /// This node, as what is followed told of it last; `None`: it is not there, or not sound.
    pub fn seen(&self) -> Option<&Node> {
        self.seen.as_ref()
    }

    /// This node's `NodeNetwork` is so: the server has answered with it.
    pub fn see_own(&mut self, object: NodeNetwork) {
        match self.layout.record(&object) {
            Some(record) if !self.layout.is_flannel() => self.put(record),
            _ => {}
        }
        self.own = Some(object);
    }

    /// A list of everything begins.
    pub fn begin(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// The list is complete: who is not in it has gone.
    pub fn end(&mut self) {
        let Some(listed) = self.listed.take() else {
            return;
        };
        let gone: Vec<NodeUid> = self
            .nodes
            .keys()
            .filter(|uid| !listed.contains(uid))
            .cloned()
            .collect();
        for uid in gone {
            self.delete(&uid);
        }
        if self.me.as_ref().is_some_and(|me| !listed.contains(me)) {
            self.forget_own();
        }
    }

    /// The list has not come to its end.
    pub fn break_off(&mut self) {
        self.listed = None;
    }

    /// An object is so.
    pub fn put(&mut self, record: Record) {
        let Record {
            uid, node, object, ..
        } = record;
        if self.me.as_ref() == Some(&uid) {
            self.seen = node.as_ref().and_then(|node| node.clone().ok());
            if !self.layout.is_flannel() {
                self.own = object;
            }
        }
        let Some(node) = node else {
            // It is another network's now.
            self.delete_node(&uid);
            return;
        };
        if let Some(listed) = &mut self.listed {
            listed.insert(uid.clone());
        }
        let entry = self.nodes.entry(uid.clone()).or_default();
        match node {
            Err(why) => entry.why = Some(why),
            Ok(node) => {
                entry.why = None;
                if entry.node.as_ref() != Some(&node) {
                    entry.node = Some(node);
                    if entry.told == Told::This {
                        entry.told = Told::Earlier;
                    }
                }
            }
        }
        self.touched.insert(uid);
    }

    /// An object has gone.
    pub fn delete(&mut self, uid: &NodeUid) {
        if self.me.as_ref() == Some(uid) {
            self.forget_own();
        }
        self.delete_node(uid);
    }

    fn forget_own(&mut self) {
        self.seen = None;
        if !self.layout.is_flannel() {
            self.own = None;
        }
    }

    fn delete_node(&mut self, uid: &NodeUid) {
        // This node's own object comes again: it is no peer that has left.
        if self.me.as_ref() == Some(uid) {
            return;
        }
        if let Some(entry) = self.nodes.get_mut(uid) {
            entry.node = None;
            entry.why = None;
            self.touched.insert(uid.clone());
        }
    }

    /// What has to be told since the last time; nothing before the first list is complete.
    pub fn events(&mut self) -> Vec<PeerEvent> {
        if !self.complete {
            return match self.listed {
                Some(_) => Vec::new(),
                None => self.first(),
            };
        }
        let had_bad = !self.bad.is_empty();
        let mut events = Vec::new();
        for uid in std::mem::take(&mut self.touched) {
            events.extend(self.settle(&uid));
        }
        let any_put = events
            .iter()
            .any(|event| matches!(event, PeerEvent::Put(_)));
        if had_bad && self.bad.is_empty() && !any_put {
            // Only a put or a reset says that what was wrong has been mended.
            let told = self.told().next().cloned();
            events.push(told.map_or(PeerEvent::Reset(Vec::new()), PeerEvent::Put));
        }
        if !self.bad.is_empty() && (any_put || self.bad_is_new) {
            events.push(PeerEvent::Rejected(self.words()));
        }
        self.bad_is_new = false;
        events
    }

    fn first(&mut self) -> Vec<PeerEvent> {
        self.complete = true;
        for uid in std::mem::take(&mut self.touched) {
            self.settle(&uid);
        }
        let mut events = vec![PeerEvent::Reset(self.told().cloned().collect())];
        if !self.bad.is_empty() {
            events.push(PeerEvent::Rejected(self.words()));
        }
        self.bad_is_new = false;
        events
    }

    fn told(&self) -> impl Iterator<Item = &Node> {
        let told = self.nodes.values().filter(|entry| entry.told == Told::This);
        told.filter_map(|entry| entry.node.as_ref())
    }

    /// What has to be told of a node.
    fn settle(&mut self, uid: &NodeUid) -> Option<PeerEvent> {
        let own = self.claimed_address(uid);
        let entry = self.nodes.get_mut(uid)?;
        let mut why = entry.why.clone();
        let event = match (&entry.node, own) {
            (Some(_), Some(address)) => {
                why = Some(format!(
                    "it says that it has {address}, which is this node's own"
                ));
                Self::untell(entry, uid)
            }
            (Some(node), None) if entry.told != Told::This => {
                entry.told = Told::This;
                Some(PeerEvent::Put(node.clone()))
            }
            (Some(_), None) => None,
            (None, _) => Self::untell(entry, uid),
        };
        if entry.node.is_none() && entry.why.is_none() {
            self.nodes.remove(uid);
        }
        self.note(uid, why);
        event
    }

    fn untell(entry: &mut Entry, uid: &NodeUid) -> Option<PeerEvent> {
        let told = std::mem::take(&mut entry.told);
        (told != Told::Nothing).then(|| PeerEvent::Remove(uid.clone()))
    }

    /// An address of this node's own that another one says it has.
    fn claimed_address(&self, uid: &NodeUid) -> Option<IpAddr> {
        if self.me.as_ref() == Some(uid) {
            return None;
        }
        let node = self.nodes.get(uid)?.node.as_ref()?;
        let mut addresses = node.own_addresses();
        addresses.find(|address| self.own_addresses.contains(address))
    }

    fn note(&mut self, uid: &NodeUid, why: Option<String>) {
        if self.bad.get(uid) == why.as_ref() {
            return;
        }
        self.bad_is_new = true;
        match why {
            Some(why) => self.bad.insert(uid.clone(), why),
            None => self.bad.remove(uid),
        };
    }

    fn words(&self) -> String {
        let some = self.bad.iter().take(MOST_WORDS);
        let mut words: Vec<String> = some
            .map(|(uid, why)| format!("node `{}`: {why}", plain(uid.as_str(), 80)))
            .collect();
        let more = self.bad.len().saturating_sub(MOST_WORDS);
        if more > 0 {
            words.push(format!("and {more} more"));
        }
        words.join("; ")
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
