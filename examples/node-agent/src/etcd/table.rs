//! What etcd holds of the cluster, and what follows from it for a source of nodes: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cni_core::cluster::{Node, NodeUid, PeerEvent};
use ipnetwork::IpNetwork;

use super::api::KeyValue;
use super::layout::{Fact, Layout};

/// Everything below the prefix, as of a revision.
#[derive(Debug)]
pub struct Table {
    layout: Layout,
    me: Option<NodeUid>,
    own_addresses: Vec<IpAddr>,
    nodes: BTreeMap<NodeUid, Entry>,
    claims: BTreeMap<IpNetwork, Claim>,
    /// What the source has told.
    told: BTreeMap<NodeUid, Node>,
    /// Entries of which something is left out, and why.
    bad: BTreeMap<NodeUid, String>,
    touched: BTreeSet<NodeUid>,
    /// Nodes whose keys have gone, while it is not believed that they have.
    silent: BTreeSet<NodeUid>,
    holding: bool,
    /// `bad` is not what was told.
    bad_is_new: bool,
}

/// A node's key.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The node, or why it cannot be used.
    pub node: Result<Node, String>,
    /// The value's text.
    pub value: String,
    /// The key's revisions and lease.
    pub key: Stamp,
}

/// A claim on a prefix.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Whose it is; `None` where the value does not tell.
    pub uid: Option<NodeUid>,
    /// The key's revisions and lease.
    pub key: Stamp,
}

/// What etcd keeps beside a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The revision in which the key came into being.
    pub created: i64,
    /// The revision in which it was written last.
    pub written: i64,
    /// Its lease; 0 is none.
    pub lease: i64,
}

/// How many bad entries are told by name.
const MOST_WORDS: usize = 4;

impl Table {
    /// Nothing known yet.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            me: None,
            own_addresses: Vec::new(),
            nodes: BTreeMap::new(),
            claims: BTreeMap::new(),
            told: BTreeMap::new(),
            bad: BTreeMap::new(),
            touched: BTreeSet::new(),
            silent: BTreeSet::new(),
            holding: false,
            bad_is_new: false,
        }
    }

    /// How keys and values are written.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What these prefixes hold are all pods from now on: for what is put after that.
    pub fn set_networks(&mut self, networks: Vec<IpNetwork>) {
        self.layout.set_networks(networks);
    }

    /// Which node this is, and by which addresses: nobody else can have those.
    pub fn be(&mut self, me: NodeUid, addresses: &[IpAddr]) {
        if self.me.as_ref() == Some(&me) && self.own_addresses == addresses {
            return;
        }
        self.me = Some(me);
        self.own_addresses = addresses.to_vec();
        self.touched.extend(self.nodes.keys().cloned());
    }

    /// Whether nodes whose keys are not there stay told for now: where this node's own leases have run out because etcd could not
    /// be reached, those of all others may have, and they will be back as soon as it.
    pub fn hold(&mut self, holding: bool) {
        self.holding = holding;
        if !holding {
            self.touched.append(&mut self.silent);
        }
    }

    /// The entry of a node.
    pub fn entry(&self, uid: &NodeUid) -> Option<&Entry> {
        self.nodes.get(uid)
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = (&NodeUid, &Entry)> {
        self.nodes.iter()
    }

    /// The claim on a prefix.
    pub fn claim(&self, prefix: IpNetwork) -> Option<&Claim> {
        self.claims.get(&prefix)
    }

    /// All claims.
    pub fn claims(&self) -> impl Iterator<Item = (IpNetwork, &Claim)> {
        self.claims.iter().map(|(prefix, claim)| (*prefix, claim))
    }

    /// These are all keys.
    pub fn reset(&mut self, kvs: Vec<KeyValue>) {
        self.nodes.clear();
        self.claims.clear();
        self.touched.extend(self.told.keys().cloned());
        self.touched.extend(self.bad.keys().cloned());
        for kv in kvs {
            self.put(&kv);
        }
    }

    /// A key has this value.
    pub fn put(&mut self, kv: &KeyValue) {
        let key = Stamp {
            created: kv.create_revision,
            written: kv.mod_revision,
            lease: kv.lease,
        };
        match self.layout.read(kv) {
            Fact::Node(uid, node) => {
                if self
                    .nodes
                    .get(&uid)
                    .is_some_and(|known| known.key.written > key.written)
                {
                    return;
                }
                if let (true, Ok(node)) = (self.layout.is_one_key(), &node) {
                    for prefix in &node.prefixes {
                        self.set_claim(*prefix, Some(uid.clone()), key);
                    }
                }
                let value = String::from_utf8_lossy(&kv.value).into_owned();
                // What is bad is not kept: it may be large.
                let value = if node.is_ok() { value } else { String::new() };
                self.nodes.insert(uid.clone(), Entry { node, value, key });
                self.touched.insert(uid);
            }
            Fact::Claim(prefix, uid) => self.set_claim(prefix, uid, key),
            Fact::Other => {}
        }
    }

    /// A key has gone in this revision. One that is known to have been written since is there.
    pub fn delete(&mut self, key: &[u8], revision: i64) {
        let (uid, prefix) = self.layout.subject(key);
        let is_old = |stamp: Stamp| stamp.written <= revision;
        if let Some(uid) =
            uid.filter(|uid| self.nodes.get(uid).is_some_and(|entry| is_old(entry.key)))
        {
            self.nodes.remove(&uid);
            self.touched.insert(uid);
        }
        let claim = prefix.filter(|prefix| {
            self.claims
                .get(prefix)
                .is_some_and(|claim| is_old(claim.key))
        });
        if let Some(claim) = claim.and_then(|prefix| self.claims.remove(&prefix)) {
            self.touched.extend(claim.uid);
        }
    }

    /// What has to be told since the last time.
    pub fn events(&mut self) -> Vec<PeerEvent> {
        let mut events = Vec::new();
        let had_bad = !self.bad.is_empty();
        for uid in std::mem::take(&mut self.touched) {
            let (node, why) = self.judge(&uid);
            self.note(&uid, why);
            match node {
                Some(node) if self.told.get(&uid) == Some(&node) => {}
                Some(node) => {
                    self.told.insert(uid, node.clone());
                    events.push(PeerEvent::Put(node));
                }
                // This node's own entry goes when a lease runs out, and comes again: it is no peer that has left.
                None if self.me.as_ref() == Some(&uid) && !self.nodes.contains_key(&uid) => {}
                None if self.holding && !self.nodes.contains_key(&uid) => {
                    self.silent.insert(uid);
                }
                None => {
                    if self.told.remove(&uid).is_some() {
                        events.push(PeerEvent::Remove(uid));
                    }
                }
            }
        }
        let any_put = events
            .iter()
            .any(|event| matches!(event, PeerEvent::Put(_)));
        let cleared = had_bad && self.bad.is_empty();
        if cleared && !any_put {
            // Only a put or a reset says that what was wrong has been mended.
            events.push(match self.told.values().next() {
                Some(node) => PeerEvent::Put(node.clone()),
                None => PeerEvent::Reset(Vec::new()),
            });
        }
        if !self.bad.is_empty() && (any_put || self.bad_is_new) {
            events.push(PeerEvent::Rejected(self.words()));
        }
        self.bad_is_new = false;
        events
    }

    /// All that is to be told, whatever was told before.
    pub fn all(&mut self) -> Vec<PeerEvent> {
        let _changes = self.events();
        let mut events = vec![PeerEvent::Reset(self.told.values().cloned().collect())];
        if !self.bad.is_empty() {
            events.push(PeerEvent::Rejected(self.words()));
        }
        events
    }

    fn set_claim(&mut self, prefix: IpNetwork, uid: Option<NodeUid>, key: Stamp) {
        if self
            .claims
            .get(&prefix)
            .is_some_and(|known| known.key.written > key.written)
        {
            return;
        }
        self.touched.extend(uid.clone());
        // Those who say that it is theirs may be right now, or not any more.
        self.touched.extend(self.bad.keys().cloned());
        let before = self.claims.insert(prefix, Claim { uid, key });
        self.touched.extend(before.and_then(|before| before.uid));
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

    /// What of an entry may be told, and why that is not all of it.
    fn judge(&self, uid: &NodeUid) -> (Option<Node>, Option<String>) {
        let Some(entry) = self.nodes.get(uid) else {
            return (None, None);
        };
        let (mut node, mut why) = match (&entry.node, self.told.get(uid)) {
            (Ok(node), _) => (node.clone(), None),
            // What worked stays in force, as far as it still is the node's.
            (Err(why), Some(told)) => (told.clone(), Some(why.clone())),
            (Err(why), None) => return (None, Some(why.clone())),
        };
        let is_me = self.me.as_ref() == Some(uid);
        if let Some(address) = node
            .own_addresses()
            .find(|address| !is_me && self.own_addresses.contains(address))
        {
            return (
                None,
                Some(format!(
                    "it says that it has {address}, which is this node's own"
                )),
            );
        }
        let mut claimed = None;
        node.prefixes
            .retain(|prefix| match self.claims.get(prefix) {
                Some(claim) if claim.uid.as_ref() == Some(uid) => {
                    claimed = claimed.max(Some(claim.key.created));
                    true
                }
                None if is_me
                    && self
                        .told
                        .get(uid)
                        .is_some_and(|told| told.prefixes.contains(prefix)) =>
                {
                    true
                }
                other => {
                    let whose = other.and_then(|claim| claim.uid.as_ref());
                    let whose = whose.map_or("nobody has claimed it".to_owned(), |whose| {
                        format!("node `{whose}` has claimed it")
                    });
                    why.get_or_insert(format!("it says that {prefix} is its own, and {whose}"));
                    false
                }
            });
        let claimed = claimed.unwrap_or(entry.key.created);
        node.claimed = u64::try_from(claimed).unwrap_or_default();
        (Some(node), why)
    }

    fn words(&self) -> String {
        let some = self.bad.iter().take(MOST_WORDS);
        let mut words: Vec<String> = some
            .map(|(uid, why)| format!("node `{}`: {why}", shortened(uid.as_str())))
            .collect();
        let more = self.bad.len().saturating_sub(MOST_WORDS);
        if more > 0 {
            words.push(format!("and {more} more"));
        }
        words.join("; ")
    }
}

/// A key may be long, and hold what would look like a line of its own in a log.
fn shortened(text: &str) -> String {
    let plain = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    plain.take(80).collect()
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
