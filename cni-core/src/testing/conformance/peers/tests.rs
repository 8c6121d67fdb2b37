//! The contract on a source that tells single nodes: as it should be, and with flaws.

use super::*;
use crate::testing::{PeerScript, ScriptedPeers};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    PutsBeforeTheReset,
    InSyncTooEarly,
    RemovesWhatItCannotReach,
    RepeatsItself,
}

/// Nodes in memory.
struct Memory {
    flaw: Flaw,
    held: Vec<Node>,
    away: bool,
    spoiled: bool,
    scripts: Vec<PeerScript>,
}

impl Memory {
    fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            held: Vec::new(),
            away: false,
            spoiled: false,
            scripts: Vec::new(),
        }
    }

    fn tell(&self, events: &[PeerEvent]) {
        for script in &self.scripts {
            script.tell(events.iter().cloned());
        }
    }

    fn all(&self) -> Vec<PeerEvent> {
        if self.flaw == Flaw::RepeatsItself {
            return vec![away(); EVENTS_MAX];
        }
        let mut events = vec![PeerEvent::Reset(Vec::new())];
        events.extend(self.held.iter().cloned().map(PeerEvent::Put));
        if self.spoiled {
            events.push(rejected());
        }
        events.push(PeerEvent::InSync);
        let last = events.len() - 1;
        match self.flaw {
            Flaw::PutsBeforeTheReset => events.swap(0, 1),
            Flaw::InSyncTooEarly => events.swap(1, last),
            _ => {}
        }
        events
    }
}

#[async_trait]
impl PeerStore for Memory {
    async fn source(&mut self) -> Box<dyn PeerSource> {
        let (script, source) = ScriptedPeers::new();
        match self.away {
            true => script.tell([away()]),
            false => script.tell(self.all()),
        }
        self.scripts.push(script);
        Box::new(source)
    }

    async fn hold(&mut self, nodes: &[Node]) {
        let before = std::mem::replace(&mut self.held, nodes.to_vec());
        self.spoiled = false;
        if self.away {
            return;
        }
        for node in before {
            if nodes.iter().all(|held| held.uid != node.uid) {
                self.tell(&[PeerEvent::Remove(node.uid)]);
            }
        }
        for node in nodes {
            self.tell(&[PeerEvent::Put(node.clone())]);
        }
    }

    async fn spoil(&mut self) -> bool {
        self.spoiled = true;
        self.tell(&[rejected()]);
        true
    }

    async fn go_away(&mut self) -> bool {
        self.away = true;
        if self.flaw == Flaw::RemovesWhatItCannotReach {
            let gone = self.held.iter();
            let gone = gone.map(|node| PeerEvent::Remove(node.uid.clone()));
            self.tell(&gone.collect::<Vec<_>>());
        }
        self.tell(&[away()]);
        true
    }

    async fn come_back(&mut self) {
        self.away = false;
        // Not by puts after an empty reset: who is in sync would take that for the end of all nodes.
        self.tell(&[PeerEvent::Reset(self.held.clone()), PeerEvent::InSync]);
    }
}

fn away() -> PeerEvent {
    PeerEvent::Disconnected("no store".to_owned())
}

fn rejected() -> PeerEvent {
    PeerEvent::Rejected("this is no node".to_owned())
}

#[tokio::test]
async fn a_source_that_keeps_the_contract_passes() {
    peer_source(&mut Memory::new(Flaw::None)).await;
}

#[tokio::test]
#[should_panic = "comes before a reset"]
async fn puts_before_the_reset_are_found() {
    peer_source(&mut Memory::new(Flaw::PutsBeforeTheReset)).await;
}

#[tokio::test]
#[should_panic = "not all was told before it was in sync"]
async fn a_source_that_is_in_sync_too_early_is_found() {
    peer_source(&mut Memory::new(Flaw::InSyncTooEarly)).await;
}

#[tokio::test]
#[should_panic = "nodes went because the store did"]
async fn removals_because_of_a_disconnection_are_found() {
    peer_source(&mut Memory::new(Flaw::RemovesWhatItCannotReach)).await;
}

#[tokio::test]
#[should_panic = "in 1000 events"]
async fn a_source_that_repeats_itself_is_found() {
    peer_source(&mut Memory::new(Flaw::RepeatsItself)).await;
}
