//! How things are: what the loop knows, as health, metrics and the state file tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cni_core::cluster::{Conflict, Node, NodeChange, View};
use cni_core::node::state::Moment;
use ipnetwork::IpNetwork;
use tokio::time::Instant;

use crate::histogram::Histogram;
use crate::programmer::{Connection, Outcome};
use crate::tenure::Standing;

/// How many failures are kept in words.
const MOST_WORDS: usize = 20;
/// A step of the loop that takes longer than this is no progress.
const STUCK: Duration = Duration::from_secs(60);

/// How things are.
#[derive(Debug, Default)]
pub struct Status {
    /// This node, once the source has told of it.
    pub me: Option<Arc<Node>>,
    /// How it is connected, once it is.
    pub connection: Option<Connection>,
    /// How many other nodes there are.
    pub peers: usize,
    /// The source has told all that it knew.
    pub in_sync: bool,
    /// Why the source cannot be reached.
    pub away: Option<String>,
    /// What the source holds that cannot be used.
    pub rejected: Option<String>,
    /// What two nodes claim.
    pub conflicts: BTreeSet<Conflict>,
    /// Everything has been compared since the start, and since the configuration was read again.
    pub compared: bool,
    /// Peers that cannot be reached, by name, and why.
    pub unreachable: BTreeMap<Arc<str>, String>,
    /// What could not be done in the kernel; no more of it than a person reads.
    pub errors: Vec<String>,
    /// Routes of others that stand in the way of ours, and limits of the kernel's that are too low.
    pub clashes: Vec<String>,
    /// Why firewalld may reject what pods send.
    pub zones: Vec<String>,
    /// Whether the node's prefixes are its own; `None` where the source has nothing to do with that.
    pub standing: Option<Standing>,
    /// The prefixes that were confirmed last, whatever has become of them, where the source remembers them.
    pub confirmed: Option<Vec<IpNetwork>>,
    /// Until when that counts if nothing more is heard; `None`: without an end.
    pub until: Option<Moment>,
    /// Since when the loop has been busy with one step.
    pub busy_since: Option<Instant>,
    /// What only ever goes up.
    pub counts: Counts,
}

/// What only ever goes up, and how long things took.
#[derive(Debug, Default)]
pub struct Counts {
    /// Changes made in the kernel, by kind.
    pub changes: BTreeMap<&'static str, u64>,
    /// What was found to be otherwise than it had been left.
    pub drift_found: u64,
    /// How much of that was put right.
    pub drift_repaired: u64,
    /// Changes that the kernel refused.
    pub write_errors: u64,
    /// Comparisons of everything.
    pub full_passes: u64,
    /// Batches of changed nodes.
    pub updates: u64,
    /// Files that could not be written.
    pub file_errors: u64,
    /// How long the last comparison of everything took.
    pub last_full: Duration,
    /// From an event of the source to its end in the kernel.
    pub lag: Histogram,
    /// From the first event in the kernel to the end of the repair.
    pub repair: Histogram,
}

/// Whether the node is connected, and what is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readiness {
    /// What keeps this node from being connected. Empty: it is.
    pub missing: Vec<String>,
    /// What is wrong without keeping this node from being connected with the others.
    pub flaws: Vec<String>,
}

impl Status {
    /// Takes over what is known of the cluster.
    pub fn see(&mut self, view: &View) {
        self.me = view.me().cloned();
        self.peers = view.len() - usize::from(self.me.is_some());
        self.in_sync = view.in_sync();
        self.away = view.away().map(str::to_owned);
        self.rejected = view.rejected().map(str::to_owned);
        self.conflicts = view.conflicts().cloned().collect();
    }

    /// Takes over what came of a comparison of everything, or, given the changes, of an update.
    pub fn record(&mut self, outcome: &Outcome, changes: &[NodeChange]) {
        add(&mut self.counts.changes, &outcome.changes);
        self.counts.drift_found += outcome.drift_found;
        self.counts.drift_repaired += outcome.drift_repaired;
        self.counts.write_errors += outcome.errors.len() as u64;
        if outcome.full {
            self.counts.full_passes += 1;
            self.compared = true;
            self.unreachable.clear();
            self.errors.clear();
            self.clashes.clear();
            self.connection.clone_from(&outcome.connection);
        } else {
            self.counts.updates += 1;
            for node in changes
                .iter()
                .flat_map(|change| [&change.before, &change.after])
                .flatten()
            {
                self.unreachable.remove(&node.name);
            }
        }
        self.unreachable.extend(outcome.unreachable.iter().cloned());
        keep(&mut self.errors, &outcome.errors);
        keep(&mut self.clashes, &outcome.clashes);
    }

    /// Those of the node's prefixes from which new pods may have addresses.
    pub fn usable_prefixes(&self) -> Vec<IpNetwork> {
        let mut prefixes = self
            .me
            .as_ref()
            .map(|me| me.prefixes.clone())
            .unwrap_or_default();
        match &self.standing {
            None => {}
            Some(Standing::Withheld(_)) => prefixes.clear(),
            Some(Standing::Holds(held)) => prefixes.retain(|prefix| held.contains(prefix)),
        }
        prefixes
    }

    /// Whether the loop makes progress.
    pub fn is_alive(&self, now: Instant) -> bool {
        self.busy_since.is_none_or(|since| now < since + STUCK)
    }

    /// Whether the node is connected, and what is not as it should be.
    pub fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::default();
        let missing = &mut readiness.missing;
        match (self.in_sync || self.compared, &self.me) {
            (false, _) => {
                let why = self.away.as_ref().or(self.rejected.as_ref());
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                missing.push(format!("the source has not told of all nodes yet{why}"));
            }
            (true, None) => {
                missing.push("this node is not among the nodes of the cluster".to_owned())
            }
            (true, Some(_)) if !self.compared => {
                missing.push("the kernel has not been brought up to date yet".to_owned());
            }
            (true, Some(me)) if me.prefixes.is_empty() => {
                missing.push(format!("node {} has no pod prefix of its own", me.name));
            }
            _ => {}
        }
        if let Some(Standing::Withheld(reason)) = &self.standing {
            missing.push(reason.clone());
        }
        missing.extend(self.errors.iter().cloned());
        let flaws = &mut readiness.flaws;
        flaws.extend(
            self.away
                .iter()
                .map(|why| format!("the source is away: {why}")),
        );
        flaws.extend(
            self.rejected
                .iter()
                .map(|why| format!("the source holds what cannot be used: {why}")),
        );
        flaws.extend(self.conflicts.iter().map(ToString::to_string));
        flaws.extend(self.unreachable.values().cloned());
        flaws.extend(self.clashes.iter().cloned());
        flaws.extend(self.zones.iter().cloned());
        readiness
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let readiness = self.readiness();
        let first = readiness.missing.first().or(readiness.flaws.first());
        let state = if readiness.missing.is_empty() {
            "connected"
        } else {
            "not connected"
        };
        let peers = self.peers - self.unreachable.len().min(self.peers);
        let more = first
            .map(|reason| format!("; {reason}"))
            .unwrap_or_default();
        format!("{state}, {peers} of {} peers reachable{more}", self.peers)
    }
}

impl Readiness {
    /// Whether the node is connected.
    pub fn is_ready(&self) -> bool {
        self.missing.is_empty()
    }

    /// The page: `ready` or `not ready`, then a line for each reason.
    pub fn text(&self) -> String {
        let mut text = String::from(if self.is_ready() {
            "ready\n"
        } else {
            "not ready\n"
        });
        for reason in self.missing.iter().chain(&self.flaws) {
            text.push_str(reason);
            text.push('\n');
        }
        text
    }
}

fn add(sum: &mut BTreeMap<&'static str, u64>, more: &BTreeMap<&'static str, u64>) {
    for (kind, count) in more {
        *sum.entry(kind).or_default() += count;
    }
}

/// Appends what is new, up to a limit; the last then says that there is more.
fn keep(kept: &mut Vec<String>, more: &[String]) {
    for words in more {
        if kept.len() > MOST_WORDS {
            return;
        }
        if kept.len() == MOST_WORDS {
            kept.push("and more".to_owned());
        } else if !kept.contains(words) {
            kept.push(words.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use cni_core::cluster::NodeUid;

    use super::*;

    fn node(name: &str, prefix: &str) -> Arc<Node> {
        let mut node = Node::new(NodeUid::new(name), name);
        node.prefixes.push(prefix.parse().unwrap());
        Arc::new(node)
    }

    fn connected() -> Status {
        let mut status = Status {
            me: Some(node("n1", "10.244.1.0/24")),
            peers: 2,
            in_sync: true,
            ..Status::default()
        };
        let outcome = Outcome {
            full: true,
            connection: Some(Connection::default()),
            ..Outcome::default()
        };
        status.record(&outcome, &[]);
        status
    }

    #[test]
    fn ready_means_in_sync_known_and_programmed() {
        let mut status = Status::default();
        assert_eq!(
            status.readiness().missing,
            ["the source has not told of all nodes yet"]
        );
        status.in_sync = true;
        assert_eq!(
            status.readiness().missing,
            ["this node is not among the nodes of the cluster"]
        );
        status.me = Some(node("n1", "10.244.1.0/24"));
        assert_eq!(
            status.readiness().missing,
            ["the kernel has not been brought up to date yet"]
        );
        assert_eq!(
            status.readiness().text(),
            "not ready\nthe kernel has not been brought up to date yet\n"
        );
        let status = connected();
        assert_eq!(status.readiness(), Readiness::default());
        assert_eq!(status.readiness().text(), "ready\n");
        assert_eq!(status.line(), "connected, 2 of 2 peers reachable");
    }

    #[test]
    fn what_concerns_others_is_told_and_does_not_make_this_node_unready() {
        let mut status = connected();
        status.away = Some("connection refused".to_owned());
        status.rejected = Some("line 3, column 7: no prefix".to_owned());
        status
            .unreachable
            .insert("n3".into(), "node n3 is in another segment".to_owned());
        status.conflicts.insert(Conflict {
            what: "10.244.2.0/24".to_owned(),
            against: "10.244.2.0/24".to_owned(),
            winner: "n2".into(),
            winner_uid: NodeUid::new("n2"),
            loser: "n4".into(),
            loser_uid: NodeUid::new("n4"),
        });
        let readiness = status.readiness();
        assert!(readiness.is_ready());
        assert_eq!(
            readiness.text(),
            "ready\nthe source is away: connection refused\n\
             the source holds what cannot be used: line 3, column 7: no prefix\n\
             10.244.2.0/24 of node `n4` is not used: node `n2` has the better claim to it\n\
             node n3 is in another segment\n"
        );
        assert!(
            status
                .line()
                .starts_with("connected, 1 of 2 peers reachable; ")
        );
    }

    #[test]
    fn prefixes_that_are_not_known_to_be_the_nodes_own_are_not_used_for_new_pods() {
        let mut status = connected();
        assert_eq!(status.usable_prefixes().len(), 1);
        status.standing = Some(Standing::Withheld("the lease has run out".to_owned()));
        assert_eq!(status.usable_prefixes(), []);
        assert_eq!(status.readiness().missing, ["the lease has run out"]);
        // What the source tells may be older than what is held.
        status.standing = Some(Standing::Holds(vec!["10.244.9.0/24".parse().unwrap()]));
        assert_eq!(status.usable_prefixes(), []);
        let own = status.me.as_ref().unwrap().prefixes.clone();
        status.standing = Some(Standing::Holds(own.clone()));
        assert_eq!(status.usable_prefixes(), own);
        assert!(status.readiness().is_ready());
    }

    #[test]
    fn an_update_changes_what_is_known_of_its_nodes_alone() {
        let mut status = connected();
        let unreachable = |name: &str| (Arc::from(name), "why".to_owned());
        let mut outcome = Outcome {
            full: true,
            unreachable: vec![unreachable("n2"), unreachable("n3")],
            ..Outcome::default()
        };
        status.record(&outcome, &[]);
        outcome.full = false;
        outcome.unreachable.clear();
        outcome.errors.push("ip route add failed".to_owned());
        let change = NodeChange {
            uid: NodeUid::new("n2"),
            before: Some(node("n2", "10.244.2.0/24")),
            after: None,
        };
        status.record(&outcome, &[change]);
        assert_eq!(
            status
                .unreachable
                .keys()
                .map(|name| &**name)
                .collect::<Vec<_>>(),
            ["n3"]
        );
        assert_eq!(status.readiness().missing, ["ip route add failed"]);
        outcome.full = true;
        outcome.errors.clear();
        status.record(&outcome, &[]);
        assert!(status.readiness().is_ready());
        assert_eq!((status.counts.full_passes, status.counts.updates), (3, 1));
    }

    #[test]
    fn errors_beyond_what_a_person_reads_are_not_kept() {
        let mut status = connected();
        let outcome = Outcome {
            errors: (0..1000).map(|number| format!("error {number}")).collect(),
            ..Outcome::default()
        };
        status.record(&outcome, &[]);
        assert_eq!(status.errors.len(), MOST_WORDS + 1);
        assert_eq!(status.errors.last().unwrap(), "and more");
        assert_eq!(status.counts.write_errors, 1000);
    }

    #[test]
    fn a_loop_that_is_stuck_is_not_alive() {
        let mut status = connected();
        let now = Instant::now();
        assert!(status.is_alive(now));
        status.busy_since = Some(now);
        assert!(status.is_alive(now + STUCK / 2));
        assert!(!status.is_alive(now + STUCK));
    }
}
