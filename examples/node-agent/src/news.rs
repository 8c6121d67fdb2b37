//! What is worth a line in the log: a line for each change, no more than a person reads, and the count of the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use cni_core::cluster::{Conflict, Node, NodeChange};
use cni_core::node::zones::Changes;
use tokio::time::Instant;

use crate::limit::Limit;
use crate::programmer::Outcome;
use crate::status::Status;

/// Lines of each severity that may be written in a second.
const MOST: u32 = 20;

/// Finds out what is new.
#[derive(Debug)]
pub struct News {
    lines: Vec<Line>,
    notes: Limit,
    warnings: Limit,
    unreachable: BTreeMap<Arc<str>, String>,
    conflicts: BTreeSet<Conflict>,
    clashes: Vec<String>,
    zones: Vec<String>,
    errors: Vec<String>,
    away: Option<String>,
    rejected: Option<String>,
    ready: Option<bool>,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Something is not as it should be.
    pub warning: bool,
    /// What happened.
    pub text: String,
}

impl Default for News {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            notes: Limit::new(MOST),
            warnings: Limit::new(MOST),
            unreachable: BTreeMap::new(),
            conflicts: BTreeSet::new(),
            clashes: Vec::new(),
            zones: Vec::new(),
            errors: Vec::new(),
            away: None,
            rejected: None,
            ready: None,
        }
    }
}

impl News {
    /// Nodes came, changed or went.
    pub fn changes(&mut self, changes: &[NodeChange], now: Instant) {
        for change in changes {
            self.note(now, || match (&change.before, &change.after) {
                (None, Some(node)) => format!("node {} is there: {}", node.name, described(node)),
                (Some(old), Some(node)) => {
                    format!(
                        "node {} is another: {}, was {}",
                        node.name,
                        described(node),
                        described(old)
                    )
                }
                (Some(node), None) => format!("node {} has gone", node.name),
                (None, None) => format!("node {} came and went", change.uid),
            });
        }
    }

    /// What came of a comparison or an update.
    pub fn outcome(&mut self, outcome: &Outcome, now: Instant) {
        for words in &outcome.repaired {
            self.note(now, || format!("repaired: {words}"));
        }
        // An update's errors are followed by a comparison of everything: its errors are all that there are.
        let before = std::mem::replace(&mut self.errors, outcome.errors.clone());
        for words in outcome
            .errors
            .iter()
            .filter(|error| !before.contains(error))
        {
            self.warn(now, || words.clone());
        }
    }

    /// firewalld was told something.
    pub fn zones(&mut self, changes: &Changes, now: Instant) {
        for member in &changes.added {
            self.note(now, || format!("firewalld was told of {member}"));
        }
        for member in &changes.removed {
            self.note(now, || format!("firewalld was told to forget {member}"));
        }
    }

    /// What is otherwise than before.
    pub fn status(&mut self, status: &Status, now: Instant) {
        self.source(status, now);
        for (name, why) in &status.unreachable {
            if self.unreachable.get(name) != Some(why) {
                self.warn(now, || why.clone());
            }
        }
        let before = std::mem::take(&mut self.unreachable);
        for name in before
            .keys()
            .filter(|name| !status.unreachable.contains_key(*name))
        {
            self.note(now, || format!("node {name} is no longer out of reach"));
        }
        self.unreachable.clone_from(&status.unreachable);
        let before = std::mem::replace(&mut self.conflicts, status.conflicts.clone());
        for new in status.conflicts.difference(&before) {
            self.warn(now, || new.to_string());
        }
        for old in before.difference(&status.conflicts) {
            self.note(now, || format!("{} is no longer in dispute", old.what));
        }
        let clashes = std::mem::replace(&mut self.clashes, status.clashes.clone());
        self.warn_of(&status.clashes, &clashes, now);
        let zones = std::mem::replace(&mut self.zones, status.zones.clone());
        self.warn_of(&status.zones, &zones, now);
        self.readiness(status, now);
    }

    /// What was not so before.
    fn warn_of(&mut self, all: &[String], before: &[String], now: Instant) {
        for new in all.iter().filter(|words| !before.contains(words)) {
            self.warn(now, || new.clone());
        }
    }

    fn source(&mut self, status: &Status, now: Instant) {
        match (&status.away, &self.away) {
            (Some(why), before) if before.as_ref() != Some(why) => {
                self.warn(now, || {
                    format!("the source is away, and what is known stays in force: {why}")
                });
            }
            (None, Some(_)) => self.note(now, || "the source is back".to_owned()),
            _ => {}
        }
        self.away.clone_from(&status.away);
        match (&status.rejected, &self.rejected) {
            (Some(why), before) if before.as_ref() != Some(why) => {
                self.warn(now, || format!("the source holds what cannot be used, and what worked stays in force: {why}"));
            }
            (None, Some(_)) => self.note(now, || "the source has been mended".to_owned()),
            _ => {}
        }
        self.rejected.clone_from(&status.rejected);
    }

    fn readiness(&mut self, status: &Status, now: Instant) {
        // Before the source has told of all nodes there is nothing to be said of them.
        if !status.in_sync && !status.compared {
            return;
        }
        let readiness = status.readiness();
        if self.ready != Some(readiness.is_ready()) {
            match readiness.missing.first() {
                None => self.note(now, || status.line()),
                // Told already, as an error.
                Some(why) if self.errors.contains(why) => {
                    self.warn(now, || "not connected".to_owned());
                }
                Some(why) => self.warn(now, || format!("not connected: {why}")),
            }
            self.ready = Some(readiness.is_ready());
        }
    }

    /// When there is something to say even if nothing happens: how much was left out.
    pub fn due(&self) -> Option<Instant> {
        self.notes
            .due()
            .into_iter()
            .chain(self.warnings.due())
            .min()
    }

    /// The lines so far.
    pub fn take(&mut self, now: Instant) -> Vec<Line> {
        self.summarize(now);
        std::mem::take(&mut self.lines)
    }

    fn note(&mut self, now: Instant, text: impl FnOnce() -> String) {
        self.summarize(now);
        if self.notes.admits(now) {
            self.line(false, text());
        }
    }

    fn warn(&mut self, now: Instant, text: impl FnOnce() -> String) {
        self.summarize(now);
        if self.warnings.admits(now) {
            self.line(true, text());
        }
    }

    fn summarize(&mut self, now: Instant) {
        if let Some(count) = self.notes.summary(now) {
            self.line(
                false,
                format!("{count} more lines in one second were left out"),
            );
        }
        if let Some(count) = self.warnings.summary(now) {
            self.line(
                true,
                format!("{count} more warnings in one second were left out"),
            );
        }
    }

    fn line(&mut self, warning: bool, text: String) {
        self.lines.push(Line { warning, text });
    }
}

fn described(node: &Node) -> String {
    let pods = joined(&node.prefixes, "no pods");
    format!("pods {pods} at {}", joined(&node.underlay, "no address"))
}

fn joined(all: &[impl Display], none: &str) -> String {
    if all.is_empty() {
        return none.to_owned();
    }
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cni_core::cluster::NodeUid;
    use cni_core::host::zones::ZoneMember;

    use super::*;

    fn texts(news: &mut News, now: Instant) -> Vec<String> {
        let mark = |line: Line| {
            if line.warning {
                format!("! {}", line.text)
            } else {
                line.text
            }
        };
        news.take(now).into_iter().map(mark).collect()
    }

    fn change(number: u8, before: bool, after: bool) -> NodeChange {
        let mut node = Node::new(NodeUid::new(&number.to_string()), &format!("n{number}"));
        node.prefixes
            .push(format!("10.244.{number}.0/24").parse().unwrap());
        node.underlay
            .push(format!("192.0.2.{number}").parse().unwrap());
        let node = Arc::new(node);
        NodeChange {
            uid: node.uid.clone(),
            before: before.then(|| Arc::clone(&node)),
            after: after.then(|| Arc::clone(&node)),
        }
    }

    #[test]
    fn a_change_is_a_line_and_a_burst_is_some_lines_and_a_count() {
        let now = Instant::now();
        let mut news = News::default();
        news.changes(&[change(1, false, true), change(2, true, false)], now);
        assert_eq!(
            texts(&mut news, now),
            [
                "node n1 is there: pods 10.244.1.0/24 at 192.0.2.1",
                "node n2 has gone"
            ]
        );
        let burst: Vec<NodeChange> = (0..200).map(|number| change(number, false, true)).collect();
        news.changes(&burst, now);
        assert_eq!(texts(&mut news, now).len(), 18);
        let later = now + Duration::from_secs(1);
        assert_eq!(news.due(), Some(later));
        assert_eq!(
            texts(&mut news, later),
            ["182 more lines in one second were left out"]
        );
        assert_eq!(news.due(), None);
    }

    #[test]
    fn what_firewalld_is_told_is_a_line_and_what_it_refuses_a_warning() {
        let now = Instant::now();
        let mut news = News::default();
        let source = ZoneMember::Source("10.244.1.0/24".parse().unwrap());
        let changes = Changes {
            added: vec![source, ZoneMember::Port(4790)],
            removed: vec![ZoneMember::Interface("vxlan.1".to_owned())],
        };
        news.zones(&changes, now);
        let mut status = Status {
            zones: vec!["firewalld has not answered".to_owned()],
            ..Status::default()
        };
        news.status(&status, now);
        news.status(&status, now);
        assert_eq!(
            texts(&mut news, now),
            [
                "firewalld was told of 10.244.1.0/24",
                "firewalld was told of 4790/udp",
                "firewalld was told to forget vxlan.1",
                "! firewalld has not answered",
            ]
        );
        status.zones.clear();
        news.status(&status, now);
        assert_eq!(texts(&mut news, now), [""; 0]);
        let many = (0..200).map(ZoneMember::Port).collect();
        let changes = Changes {
            added: many,
            ..Changes::default()
        };
        news.zones(&changes, now);
        let later = now + Duration::from_secs(1);
        texts(&mut news, now);
        assert_eq!(
            texts(&mut news, later),
            ["183 more lines in one second were left out"]
        );
    }

    #[test]
    fn what_stays_wrong_is_said_once_and_its_end_too() {
        let now = Instant::now();
        let mut news = News::default();
        let mut status = Status {
            away: Some("connection refused".to_owned()),
            ..Status::default()
        };
        status
            .unreachable
            .insert("n3".into(), "node n3 is in another segment".to_owned());
        news.status(&status, now);
        news.status(&status, now);
        assert_eq!(
            texts(&mut news, now),
            [
                "! the source is away, and what is known stays in force: connection refused",
                "! node n3 is in another segment",
            ]
        );
        status.away = None;
        status.unreachable.clear();
        news.status(&status, now);
        assert_eq!(
            texts(&mut news, now),
            ["the source is back", "node n3 is no longer out of reach"]
        );
    }
}
