//! This node's own part: its claims on prefixes, its entry, and the leases under which both are kept.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cni_core::cluster::{Node, NodeUid};
use ipnetwork::IpNetwork;
use tokio::time::Instant;

use super::api::{Guard, KeyValue, Put, TxnAnswer, txn};
use super::client::{Client, Failure};
use super::config::EtcdConfig;
use super::lease::{Lease, keep_alive, nonsense, take};
use super::ranges::Range;
use super::table::{Entry, Table};
use crate::remote::facts::Facts;
use crate::remote::pods::{Pods, why_to_wait};
use crate::tenure::Standing;

/// So many transactions in a row come to nothing only where somebody writes faster than we read.
const MOST_TRIES: u32 = 1000;
/// While new pods wait for others, these are looked for so often.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// This node among the others.
#[derive(Debug)]
pub struct Member {
    config: EtcdConfig,
    uid: NodeUid,
    name: String,
    /// What the node had, by what an earlier agent left or this one got.
    former: Vec<IpNetwork>,
    pods: Option<Arc<dyn Pods>>,
    /// When to see whether pods that others wait for have gone.
    look: Option<Instant>,
    node_lease: Option<Lease>,
    claim_lease: Option<Lease>,
    /// Transactions sent.
    transactions: u64,
    /// Whether its tunnel has hardware addresses.
    has_vtep: bool,
}

/// What has to be written for this node to be as it should.
struct Draft {
    node: Node,
    guards: Vec<Guard>,
    puts: Vec<Put>,
}

impl Member {
    /// A node that has no claims yet. `former` are prefixes that it had, if that is known: where they are free it gets them
    /// again.
    pub fn new(config: EtcdConfig, uid: NodeUid, name: String, former: Vec<IpNetwork>) -> Self {
        Self {
            config,
            uid,
            name,
            former,
            pods: None,
            look: None,
            node_lease: None,
            claim_lease: None,
            transactions: 0,
            has_vtep: false,
        }
    }

    /// Its entry tells the hardware address of its VTEP.
    #[must_use]
    pub fn with_vtep(mut self) -> Self {
        self.has_vtep = true;
        self
    }

    /// Of a prefix that nobody remembers these know, as their addresses are of it; and new ones wait for those that have addresses of
    /// another than the node's.
    #[must_use]
    pub fn with_pods(mut self, pods: Arc<dyn Pods>) -> Self {
        self.pods = Some(pods);
        self
    }

    /// The prefixes that it had last, whether they still are its own or not.
    pub fn former(&self) -> &[IpNetwork] {
        &self.former
    }

    /// Its prefixes come from these from now on.
    pub fn set_networks(&mut self, networks: Vec<Range>) {
        self.config.networks = networks;
    }

    /// How many transactions it took so far.
    pub fn transactions(&self) -> u64 {
        self.transactions
    }

    /// From one sign of life to the next.
    pub fn pace(&self) -> Duration {
        (self.config.ttl / 3).min(Duration::from_secs(30))
    }

    /// When its leases may have run out, if they are not heard of before.
    pub fn deadline(&self) -> Option<Instant> {
        let leases = [self.node_lease, self.claim_lease];
        leases.iter().flatten().map(|lease| lease.until).min()
    }

    /// Whether all that is this node's is in the table as it should be.
    pub fn is_intact(&self, table: &Table, facts: &Facts) -> bool {
        let me = self.me(table, facts);
        let (Some(node_lease), Some(entry)) = (self.node_lease, table.entry(&me)) else {
            return false;
        };
        let claims = self.claims(table, &me);
        let prefixes: Option<Vec<IpNetwork>> = claims.into_iter().collect();
        let Some(prefixes) = prefixes else {
            return false;
        };
        let node = self.node(table, me, prefixes, facts);
        entry.key.lease == node_lease.id && entry.value == table.layout().node_value(&node)
    }

    /// Whether no claim of this node's has gone, or become another's.
    pub fn has_claims(&self, table: &Table, facts: &Facts) -> bool {
        let claims = self.claims(table, &self.me(table, facts));
        claims.iter().all(Option::is_some)
    }

    /// Says that this node lives. `false` when a lease has run out: then [`Member::ensure`] is due.
    ///
    /// # Errors
    /// [`Failure`]: nothing is known of the leases then but what was known before.
    pub async fn keep(&mut self, client: &mut Client) -> Result<bool, Failure> {
        let mut all = true;
        if let Some(lease) = self.node_lease {
            self.node_lease = keep_alive(client, lease.id).await?.map(|(lease, _)| lease);
            all &= self.node_lease.is_some();
        }
        match self.claim_lease {
            Some(lease) if Some(lease.id) == self.node_lease.map(|lease| lease.id) => {
                self.claim_lease = self.node_lease;
            }
            Some(lease) => {
                self.claim_lease = keep_alive(client, lease.id).await?.map(|(lease, _)| lease);
                all &= self.claim_lease.is_some();
            }
            None => {}
        }
        Ok(all)
    }

    /// Sees to it that this node has a prefix of each range, under leases that live, and that its entry says what is so. Writes
    /// nothing where that is the case.
    ///
    /// # Errors
    /// [`Failure`]: it may have been done or not, and is to be tried again.
    pub async fn ensure(
        &mut self,
        client: &mut Client,
        table: &mut Table,
        facts: &Facts,
    ) -> Result<Standing, Failure> {
        self.look = None;
        let me = self.me(table, facts);
        table.be(me.clone(), &facts.addresses);
        if let Some(reason) = self.twin(table, &me, facts) {
            return Ok(Standing::Withheld(reason));
        }
        self.lease(client, table, &me).await?;
        for _ in 0..MOST_TRIES {
            let draft = match self.draft(table, facts) {
                Ok(draft) => draft,
                Err(reason) => return Ok(Standing::Withheld(reason)),
            };
            table.be(draft.node.uid.clone(), &facts.addresses);
            if draft.puts.is_empty() || self.commit(client, table, &draft).await? {
                self.former.clone_from(&draft.node.prefixes);
                return Ok(self.standing(draft.node.prefixes));
            }
        }
        Ok(Standing::Withheld(
            "others write what this node is about to, again and again".to_owned(),
        ))
    }

    /// New pods have to wait for those that have addresses of a prefix that was this node's and may be another's now.
    fn standing(&mut self, prefixes: Vec<IpNetwork>) -> Standing {
        let subject = format!("node {} has other prefixes", self.name);
        let pods = self.pods.as_ref();
        match pods.and_then(|pods| why_to_wait(&**pods, &prefixes, &subject)) {
            None => Standing::Holds(prefixes),
            Some(reason) => {
                self.look = Some(Instant::now() + BETWEEN_LOOKS);
                Standing::Withheld(reason)
            }
        }
    }

    /// When [`Member::ensure`] is due because new pods wait for others, which costs etcd nothing.
    pub fn look(&self) -> Option<Instant> {
        self.look
    }

    /// The uid under which this node is known: in Flannel's layout, that of the entry with its address.
    fn me(&self, table: &Table, facts: &Facts) -> NodeUid {
        if !table.layout().is_one_key() {
            return self.uid.clone();
        }
        // A key of two families is one that Flannel itself has made: what this node writes has one.
        let here = |node: &Node| {
            let shared = |address| facts.addresses.contains(address);
            !node.uid.as_str().contains('&') && node.underlay.iter().any(shared)
        };
        // This node's addresses may have changed since it wrote it.
        let held = |entry: &Entry| {
            self.node_lease
                .is_some_and(|lease| lease.id == entry.key.lease)
        };
        let mut entries = table.entries();
        let mine = entries.find(|(_, entry)| held(entry) || entry.node.as_ref().is_ok_and(here));
        mine.map_or_else(|| self.uid.clone(), |(uid, _)| uid.clone())
    }

    /// Another machine that goes by this node's name: its entry lives, and tells of other addresses.
    fn twin(&self, table: &Table, me: &NodeUid, facts: &Facts) -> Option<String> {
        let entry = table.entry(me)?;
        let ours = self
            .node_lease
            .is_some_and(|lease| lease.id == entry.key.lease);
        let node = entry
            .node
            .as_ref()
            .ok()
            .filter(|_| !ours && entry.key.lease != 0)?;
        let shared = node
            .underlay
            .iter()
            .any(|address| facts.addresses.contains(address));
        (!shared).then(|| {
            let there: Vec<String> = node.underlay.iter().map(ToString::to_string).collect();
            format!(
                "node `{me}` is known at {}, which is not this machine: if it was, it is waited until that entry's lease has \
                 run out, {} seconds at most; else give this machine a name of its own",
                there.join(" and "),
                self.config.ttl.as_secs()
            )
        })
    }

    /// This node's claims, one for each range; `None` where it has none. Of several, the first.
    fn claims(&self, table: &Table, me: &NodeUid) -> Vec<Option<IpNetwork>> {
        let of = |range: &Range| {
            let mine = table
                .claims()
                .filter(|(prefix, claim)| claim.uid.as_ref() == Some(me) && range.has(*prefix));
            mine.min_by_key(|(prefix, claim)| (claim.key.created, *prefix))
                .map(|(prefix, _)| prefix)
        };
        self.config.networks.iter().map(of).collect()
    }

    /// Takes over the leases that an earlier agent of this node left, or has new ones granted.
    async fn lease(
        &mut self,
        client: &mut Client,
        table: &Table,
        me: &NodeUid,
    ) -> Result<(), Failure> {
        let of_entry = table.entry(me).map(|entry| entry.key.lease);
        if self.node_lease.is_none() {
            self.node_lease = Some(take(client, of_entry, self.config.ttl).await?);
        }
        if table.layout().is_one_key() {
            self.claim_lease = self.node_lease;
            return Ok(());
        }
        if self.claim_lease.is_none() {
            let mine = self.claims(table, me).into_iter().flatten().next();
            let of_claim = mine.and_then(|prefix| Some(table.claim(prefix)?.key.lease));
            self.claim_lease = Some(take(client, of_claim, self.config.grace).await?);
        }
        Ok(())
    }

    /// What has to be written.
    fn draft(&self, table: &Table, facts: &Facts) -> Result<Draft, String> {
        let me = self.me(table, facts);
        let lease = |lease: Option<Lease>| lease.map(|lease| lease.id).unwrap_or_default();
        let (node_lease, claim_lease) = (lease(self.node_lease), lease(self.claim_lease));
        let mut prefixes = Vec::new();
        for (range, claimed) in self.config.networks.iter().zip(self.claims(table, &me)) {
            prefixes.push(match claimed {
                Some(prefix) => prefix,
                None => self.free(table, range)?,
            });
        }
        let node = self.node(table, me, prefixes, facts);
        let (mut guards, mut puts) = (Vec::new(), Vec::new());
        let layout = table.layout();
        if !layout.is_one_key() {
            for prefix in &node.prefixes {
                let stamp = table.claim(*prefix).map(|claim| claim.key);
                // One without a lease is an operator's reservation.
                if stamp.is_some_and(|stamp| stamp.lease == claim_lease || stamp.lease == 0) {
                    continue;
                }
                let key = layout.claim_key(*prefix);
                guards.push(Guard {
                    key: key.clone(),
                    mod_revision: stamp.map_or(0, |stamp| stamp.written),
                });
                puts.push(Put {
                    key,
                    value: layout.claim_value(&node),
                    lease: claim_lease,
                });
            }
        }
        let entry = table.entry(&node.uid);
        let value = layout.node_value(&node);
        let same = entry.is_some_and(|entry| entry.value == value && entry.key.lease == node_lease);
        if !same {
            let key = layout.node_key(&node);
            guards.push(Guard {
                key: key.clone(),
                mod_revision: entry.map_or(0, |entry| entry.key.written),
            });
            puts.push(Put {
                key,
                value,
                lease: node_lease,
            });
        }
        // A claim that is kept must still be the node's when its entry is written.
        if !puts.is_empty() && !layout.is_one_key() {
            let kept = node
                .prefixes
                .iter()
                .filter_map(|prefix| Some((*prefix, table.claim(*prefix)?.key.written)));
            for (prefix, mod_revision) in kept {
                let key = layout.claim_key(prefix);
                if guards.iter().all(|guard| guard.key != key) {
                    guards.push(Guard { key, mod_revision });
                }
            }
        }
        Ok(Draft { node, guards, puts })
    }

    /// The prefix to ask for: the one that it had, else the first free one in its own order.
    fn free(&self, table: &Table, range: &Range) -> Result<IpNetwork, String> {
        let is_free = |prefix: &IpNetwork| table.claim(*prefix).is_none();
        let former = self.had(range)?;
        let mut former = former.into_iter().inspect(|prefix| {
            if let Some(claim) = table.claim(*prefix) {
                let whose = claim.uid.as_ref().map(NodeUid::as_str).unwrap_or("nobody knows who");
                tracing::warn!(
                    "{prefix} was this node's and is {whose}'s now: it is not used any more, and pods that have addresses of it \
                     have to be made anew"
                );
            }
        });
        let first = former.find(is_free);
        let first = first.or_else(|| range.order(self.uid.as_str()).find(is_free));
        first.ok_or_else(|| format!("no prefix of {} is free", range.prefix()))
    }

    /// What it had of a range, the likeliest first. What pods hold counts where nothing is remembered only: a prefix that is
    /// remembered came after those of pods that are left from before.
    fn had(&self, range: &Range) -> Result<Vec<IpNetwork>, String> {
        let former = self.former.iter().copied();
        let former: Vec<IpNetwork> = former.filter(|prefix| range.has(*prefix)).collect();
        let Some(pods) = self.pods.as_ref().filter(|_| former.is_empty()) else {
            return Ok(former);
        };
        let mut counts: BTreeMap<IpNetwork, usize> = BTreeMap::new();
        let held = pods.outside(&[])?.into_iter();
        for prefix in held.filter_map(|address| range.around(address)) {
            *counts.entry(prefix).or_default() += 1;
        }
        let mut held: Vec<(IpNetwork, usize)> = counts.into_iter().collect();
        held.sort_by_key(|(_, count)| Reverse(*count));
        Ok(held.into_iter().map(|(prefix, _)| prefix).collect())
    }

    fn node(&self, table: &Table, me: NodeUid, prefixes: Vec<IpNetwork>, facts: &Facts) -> Node {
        let uid = table.layout().uid(&me, &prefixes);
        let mut node = Node::new(uid, &self.name);
        node.prefixes = prefixes;
        node.underlay.clone_from(&facts.addresses);
        node.mtu = facts.mtu;
        node.capabilities.clone_from(&facts.capabilities);
        if self.has_vtep {
            node.vtep_mac = Some(cni_core::fabric::vtep_mac(&node));
        }
        node
    }

    /// Writes a draft if nobody has written what it builds upon; takes in what there is, else.
    async fn commit(
        &mut self,
        client: &mut Client,
        table: &mut Table,
        draft: &Draft,
    ) -> Result<bool, Failure> {
        self.transactions += 1;
        let answer: TxnAnswer = client
            .call("/v3/kv/txn", &txn(&draft.guards, &draft.puts))
            .await?;
        let revision = answer.header.revision;
        if revision <= 0 || (!answer.succeeded && answer.responses.len() != draft.guards.len()) {
            return Err(nonsense(client, "a transaction"));
        }
        if answer.succeeded {
            for put in &draft.puts {
                let guard = draft.guards.iter().find(|guard| guard.key == put.key);
                let is_new = guard.is_none_or(|guard| guard.mod_revision == 0);
                let created = created(table, put, is_new).unwrap_or(revision);
                table.put(&KeyValue {
                    key: put.key.clone().into_bytes(),
                    value: put.value.clone().into_bytes(),
                    create_revision: created,
                    mod_revision: revision,
                    lease: put.lease,
                });
            }
            return Ok(true);
        }
        for (guard, part) in draft.guards.iter().zip(answer.responses) {
            match part
                .response_range
                .and_then(|range| range.kvs.into_iter().next())
            {
                Some(kv) => table.put(&kv),
                None => table.delete(guard.key.as_bytes(), revision),
            }
        }
        Ok(false)
    }
}

/// The revision in which a key came into being that is written over.
fn created(table: &Table, put: &Put, is_new: bool) -> Option<i64> {
    let (uid, prefix) = table.layout().subject(put.key.as_bytes());
    let of_node = uid.and_then(|uid| Some(table.entry(&uid)?.key.created));
    let of_claim = || prefix.and_then(|prefix| Some(table.claim(prefix)?.key.created));
    (!is_new).then(|| of_node.or_else(of_claim)).flatten()
}
