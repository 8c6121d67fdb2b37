//! Changes, and plans made of them. A plan prints as the commands that an operator would type.

use std::fmt;

use crate::host::firewall::FirewallChange;
use crate::host::legacy::LegacyChange;
use crate::host::netlink::NetlinkChange;

/// Whose namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The host's (the plugin's own).
    Host,
    /// The container's.
    Container,
}

/// One change to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A link, address, route, neighbour or VLAN. `ip`, `bridge`.
    Netlink(NetlinkChange),
    /// A kernel parameter. `sysctl -w`.
    Sysctl {
        /// Path below `/proc/sys`.
        key: String,
        /// Value.
        value: String,
    },
    /// nftables changes of one transaction. `nft`.
    Firewall(Vec<FirewallChange>),
    /// A rule in a legacy table. `iptables-legacy`.
    Legacy(LegacyChange),
}

/// A change, where it happens, why, and how it is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Whose namespace.
    pub place: Place,
    /// What.
    pub change: Change,
    /// What takes it back, in the order to be applied. Empty where something else's undoing takes this one with it.
    pub undo: Vec<Change>,
    /// The difference that this step removes, in words: what CHECK says.
    pub reason: String,
    /// Whether it changes something that other attachments use, too. Such a step is made, and taken back, only while
    /// no other plugin process is at work (see [`establish`](super::establish)).
    pub shared: bool,
}

/// Changes in the order in which they have to happen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Commands that somebody else carries out before the steps: for people.
    ahead: Vec<String>,
    steps: Vec<Step>,
}

impl Plan {
    /// An empty plan.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step at the end.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Adds all steps of another plan at the end.
    pub fn append(&mut self, other: Plan) {
        self.ahead.extend(other.ahead);
        self.steps.extend(other.steps);
    }

    /// Shows commands before all steps that are not among them: what a dry run would do besides (the next hops and routes of
    /// ten thousand peers, say). They are for people alone.
    #[must_use]
    pub fn after(mut self, commands: impl IntoIterator<Item = String>) -> Self {
        self.ahead.splice(0..0, commands);
        self
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether nothing has to change.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a step changes something that attachments share.
    pub fn touches_shared(&self) -> bool {
        self.steps.iter().any(|step| step.shared)
    }

    /// The differences that the plan removes, in words.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.reason.as_str())
    }
}

impl FromIterator<Step> for Plan {
    fn from_iter<T: IntoIterator<Item = Step>>(steps: T) -> Self {
        Self {
            ahead: Vec::new(),
            steps: steps.into_iter().collect(),
        }
    }
}

impl Extend<Step> for Plan {
    fn extend<T: IntoIterator<Item = Step>>(&mut self, steps: T) {
        self.steps.extend(steps);
    }
}

impl Step {
    /// A step that is not taken back on its own.
    pub fn new(place: Place, change: Change, reason: impl Into<String>) -> Self {
        Self {
            place,
            change,
            undo: Vec::new(),
            reason: reason.into(),
            shared: false,
        }
    }

    /// The same step with what takes it back.
    #[must_use]
    pub fn undone_by(mut self, undo: Change) -> Self {
        self.undo.push(undo);
        self
    }

    /// The same step, as a change to something that attachments share.
    #[must_use]
    pub fn on_shared(mut self) -> Self {
        self.shared = true;
        self
    }
}

impl From<NetlinkChange> for Change {
    fn from(change: NetlinkChange) -> Self {
        Self::Netlink(change)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netlink(change) => change.fmt(f),
            Self::Sysctl { key, value } => write!(f, "sysctl -w {key}={value}"),
            Self::Legacy(change) => change.fmt(f),
            Self::Firewall(changes) => {
                for (position, change) in changes.iter().enumerate() {
                    if position > 0 {
                        f.write_str("\n")?;
                    }
                    change.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

/// One command a line; those for the container's namespace begin with `ip netns exec POD`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for command in &self.ahead {
            writeln!(f, "{command}")?;
        }
        for step in &self.steps {
            for line in step.change.to_string().lines() {
                match step.place {
                    Place::Host => writeln!(f, "{line}")?,
                    Place::Container => writeln!(f, "ip netns exec POD {line}")?,
                }
            }
        }
        Ok(())
    }
}
