//! Takes this node out of etcd: its entry, and its claims on prefixes that no pod of it uses.

use std::net::IpAddr;
use std::time::Duration;

use cni_core::cluster::{Node, NodeUid};
use ipnetwork::IpNetwork;
use tokio::time::timeout;

use super::api::{Guard, TxnAnswer, removal};
use super::client::{Client, Failure};
use super::config::EtcdConfig;
use super::join::meet;
use super::layout::{Layout, Tunnel};
use super::list::list;
use super::table::{Stamp, Table};

/// For all of it: whoever cleans up waits.
const PATIENCE: Duration = Duration::from_secs(20);
/// So often somebody else may write in between.
const MOST_TRIES: u32 = 10;

/// A node that is to be taken out.
#[derive(Debug)]
pub struct Leaving {
    /// Where it is known.
    pub config: EtcdConfig,
    /// How its data path is written.
    pub tunnel: Tunnel,
    /// By what it is known.
    pub uid: NodeUid,
    /// The addresses that this machine has.
    pub addresses: Vec<IpAddr>,
    /// The prefixes that this machine had last, if that is known.
    pub former: Vec<IpNetwork>,
    /// Addresses that pods of this machine have, or why nobody can tell.
    pub held: Result<Vec<IpAddr>, String>,
}

/// What is removed, and what is not.
#[derive(Debug, Default)]
struct Plan {
    guards: Vec<Guard>,
    keys: Vec<String>,
    /// For people.
    words: Vec<String>,
}

impl Leaving {
    /// Removes what is this node's, and says what became of it: a line for each thing. What cannot be removed ends with its lease.
    pub async fn leave(&self) -> Vec<String> {
        let mut client = Client::new(self.config.access.clone());
        let failure = match timeout(PATIENCE, self.remove(&mut client)).await {
            Ok(Ok(words)) => return words,
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => format!("no end after {} s", PATIENCE.as_secs()),
        };
        let (ttl, grace) = (self.config.ttl.as_secs(), self.grace());
        vec![format!(
            "etcd: whatever this node has there is left: {failure}; its entry ends {ttl} s after its last sign of life, and its claims \
             on prefixes after {grace} s"
        )]
    }

    async fn remove(&self, client: &mut Client) -> Result<Vec<String>, Failure> {
        client.connect().await?;
        let mut layout = Layout::new(&self.config, self.tunnel);
        if let Some(range) = meet(client, &self.config, &layout).await? {
            layout.set_networks(vec![range.prefix()]);
        }
        let mut table = Table::new(layout);
        list(client, &mut table).await?;
        for _ in 0..MOST_TRIES {
            let plan = self.plan(&table);
            if plan.keys.is_empty() {
                return Ok(plan.words);
            }
            let asked = removal(&plan.guards, &plan.keys);
            let answer: TxnAnswer = client.call("/v3/kv/txn", &asked).await?;
            if answer.succeeded {
                let removed = plan.keys.iter().map(|key| format!("etcd: {key} removed"));
                return Ok(removed.chain(plan.words).collect());
            }
            list(client, &mut table).await?;
        }
        Err(Failure::Refused(
            "others write what this node has there, again and again".to_owned(),
        ))
    }

    /// What is this node's beyond doubt: an entry with one of this machine's addresses, and claims of the same name, if there
    /// is such an entry or this machine remembers them. Another machine that goes by this one's name keeps what it has.
    fn plan(&self, table: &Table) -> Plan {
        let mut plan = Plan::default();
        let layout = table.layout();
        let mine = |node: &Node| node.underlay.iter().any(|own| self.addresses.contains(own));
        let entries = table.entries().filter(|(uid, entry)| {
            let named = layout.is_one_key() || **uid == self.uid;
            named && entry.node.as_ref().is_ok_and(mine)
        });
        let entries: Vec<(&NodeUid, Stamp)> =
            entries.map(|(uid, entry)| (uid, entry.key)).collect();
        if layout.is_one_key() {
            for (uid, key) in entries {
                let prefixes = table.entry(uid).and_then(|entry| entry.node.as_ref().ok());
                let prefix = prefixes.and_then(|node| node.prefixes.first().copied());
                plan.take(
                    layout.key_of(uid),
                    key,
                    prefix.and_then(|prefix| self.use_of(prefix)),
                );
            }
            return plan;
        }
        let known = !entries.is_empty();
        let another = table.entry(&self.uid).is_some() && !known;
        for (uid, key) in entries {
            plan.take(layout.key_of(uid), key, None);
        }
        for (prefix, claim) in table.claims() {
            if claim.uid.as_ref() != Some(&self.uid) || claim.key.lease == 0 {
                // One without a lease is an operator's reservation.
                continue;
            }
            let remembered = self.former.contains(&prefix) || self.uses(prefix) > 0;
            let doubt = match (another, known || remembered) {
                (true, _) => Some("another machine goes by this node's name".to_owned()),
                (false, false) => Some("nothing on this machine says that it had it".to_owned()),
                (false, true) => self.use_of(prefix),
            };
            plan.take(layout.claim_key(prefix), claim.key, doubt);
        }
        plan
    }

    /// Why nobody else may have a prefix yet.
    fn use_of(&self, prefix: IpNetwork) -> Option<String> {
        if let Err(error) = &self.held {
            return Some(format!(
                "whether pods have addresses of it is not known: {error}"
            ));
        }
        let held = self.uses(prefix);
        let grace = self.grace();
        (held > 0).then(|| {
            format!(
                "{held} of its addresses are pods' of this node: it ends {grace} s after the node's last sign of life, or with another \
                 --cleanup when they are gone"
            )
        })
    }

    /// How many addresses of a prefix pods have, as far as that is known.
    fn uses(&self, prefix: IpNetwork) -> usize {
        let held = self.held.iter().flatten();
        held.filter(|address| prefix.contains(**address)).count()
    }

    /// How long a claim outlives its node, in seconds.
    fn grace(&self) -> u64 {
        match self.config.layout {
            super::config::LayoutKind::Nodes => self.config.grace.as_secs(),
            super::config::LayoutKind::Flannel => self.config.ttl.as_secs(),
        }
    }
}

impl Plan {
    fn take(&mut self, key: String, stamp: Stamp, why_not: Option<String>) {
        match why_not {
            Some(why) => self.words.push(format!("etcd: {key} left: {why}")),
            None => {
                self.guards.push(Guard {
                    key: key.clone(),
                    mod_revision: stamp.written,
                });
                self.keys.push(key);
            }
        }
    }
}
