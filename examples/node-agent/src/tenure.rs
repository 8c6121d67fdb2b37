//! Whether this node's prefixes are its own beyond doubt: only then may new pods have addresses of them.

use std::sync::{Arc, Mutex, PoisonError};

use ipnetwork::IpNetwork;

/// What a source of nodes knows of this node's right to its prefixes. Cheap to clone; all clones say the same.
#[derive(Debug, Clone)]
pub struct Tenure(Arc<Mutex<Standing>>);

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// These are this node's.
    Holds(Vec<IpNetwork>),
    /// No new pod may be attached, and why. Those that are there stay connected.
    Withheld(String),
}

impl Tenure {
    /// Withheld for now.
    pub fn new(reason: &str) -> Self {
        Self(Arc::new(Mutex::new(Standing::Withheld(reason.to_owned()))))
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// It stands so now; the value tells whether that is new.
    pub fn set(&self, standing: Standing) -> bool {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = *current != standing;
        *current = standing;
        new
    }
}
