//! Whether this node's prefixes are its own beyond doubt: only then may new pods have addresses of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cni_core::node::state::Moment;
use ipnetwork::IpNetwork;
use tokio::time::Instant;

/// What a source of nodes knows of this node's right to its prefixes. Cheap to clone; all clones say the same.
#[derive(Debug, Clone)]
pub struct Tenure(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    standing: Standing,
    /// Until when it holds, as far as is known.
    known: Option<Term>,
    /// Until when, as far as the plugins are told.
    told: Option<Moment>,
    /// The prefixes that were confirmed last, whatever has become of them.
    confirmed: Option<Vec<IpNetwork>>,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// These are this node's.
    Holds(Vec<IpNetwork>),
    /// No new pod may be attached, and why. Those that are there stay connected.
    Withheld(String),
}

/// For how long prefixes are a node's own if nothing more is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Until then.
    pub until: Moment,
    /// How long it is from its beginning on.
    pub length: Duration,
}

/// When a sign of life was about to be given, by both clocks: no lease that it renews ends earlier after it than is counted from
/// here.
#[derive(Debug)]
pub struct Start {
    /// By the clock of this process.
    pub instant: Instant,
    /// By the boot clock, where that can be read.
    pub moment: Option<Moment>,
}

impl Start {
    /// Now.
    pub fn now() -> Self {
        // In this order: sleep in between makes what is told end earlier, not later.
        let moment = Moment::now();
        if let Err(error) = &moment {
            tracing::warn!(
                "plugins cannot be told how long prefixes count: {}",
                error.chain()
            );
        }
        Self {
            moment: moment.ok(),
            instant: Instant::now(),
        }
    }
}

impl Tenure {
    /// Withheld for now.
    pub fn new(reason: &str) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            standing: Standing::Withheld(reason.to_owned()),
            known: None,
            told: None,
            confirmed: None,
        })))
    }

    /// The prefixes that were confirmed last to be this node's, by this source or before it, whether they still are or not; `None`
    /// where the source has them from somebody who does not forget.
    pub fn confirmed(&self) -> Option<Vec<IpNetwork>> {
        self.lock().confirmed.clone()
    }

    /// These have been confirmed; the value tells whether that is new.
    pub fn confirm(&self, prefixes: &[IpNetwork]) -> bool {
        let mut inner = self.lock();
        let new = inner.confirmed.as_deref() != Some(prefixes);
        if new {
            inner.confirmed = Some(prefixes.to_vec());
        }
        new
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// Until when it stands so, as plugins are to be told: an agent that is stopped does not take it back.
    pub fn until(&self) -> Option<Moment> {
        self.lock().told.clone()
    }

    /// It stands so now; the value tells whether that is new.
    pub fn set(&self, standing: Standing) -> bool {
        let mut inner = self.lock();
        let new = inner.standing != standing;
        inner.standing = standing;
        new
    }

    /// It has been confirmed for this term. What plugins are told follows when a quarter of the term is gained, so that the file
    /// that they read is not written with each sign of life; the value tells whether it does.
    pub fn renew(&self, term: Term) -> bool {
        let mut inner = self.lock();
        let told = inner.told.as_ref();
        let new = told.is_none_or(|told| term.until.after(told) >= term.length / 4);
        if new {
            inner.told = Some(term.until.clone());
        }
        inner.known = Some(term);
        new
    }

    /// It will not be confirmed for now: plugins are told of the term to its end.
    pub fn exhaust(&self) {
        let mut inner = self.lock();
        if let Some(term) = &inner.known {
            inner.told = Some(term.until.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_told_of_a_term_when_a_quarter_of_it_is_gained_or_no_more_is_to_come() {
        let tenure = Tenure::new("not yet");
        let start = Moment::now().unwrap();
        let length = Duration::from_secs(300);
        let after = |seconds: u64| start.plus(Duration::from_secs(seconds));
        let renewed = |seconds: u64| {
            let until = after(seconds + 300);
            tenure.renew(Term { until, length })
        };
        assert_eq!(tenure.until(), None);
        assert!(renewed(0));
        assert!(!renewed(30) && !renewed(60));
        assert_eq!(tenure.until(), Some(after(300)));
        assert!(renewed(90));
        assert_eq!(tenure.until(), Some(after(390)));
        assert!(!renewed(120));
        tenure.exhaust();
        assert_eq!(tenure.until(), Some(after(420)));
    }
}
