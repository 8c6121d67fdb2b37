//! What firewalld has to know of a network, where it rules the host.
//!
//! It rejects what is forwarded between interfaces that it was not told of, whatever tables of ours say. So the node puts into one
//! of its zones (`firewalldZone`):
//!
//! | member | for what |
//! |---|---|
//! | the node's own pod prefixes, as sources | what its pods send |
//! | the tunnel's device | what comes in by the tunnel, whoever sends it: the table's filter has seen to that |
//! | the tunnel's UDP port, in the zone of the links that bear the underlay's addresses, as long as a filter sees to who sends to all that hear there | the tunnel's packets |
//! | where peers' packets come by the uplink (`host-gw`, `directRouting`): the prefixes that hold all pods of the cluster, as sources; each peer's where those are not known | what peers' pods send |
//!
//! Answers are let through as firewalld does it, by the connection. So the members are as many as the node has prefixes, and
//! one more; peers count only where they come by the uplink and nobody knows the cluster's prefixes.
//!
//! # Whose a member is
//!
//! A member that is there already is somebody else's and stays so. What this node adds is written down first, in `zones.json` beside
//! the node's [state](super::state), and only that is removed again: when it is not wanted any more, and when the node leaves the
//! network. Neither firewalld's running configuration nor this file outlives the boot. A member that belongs to another zone is
//! left there, and told; where this node has put it there, as `firewalldZone` was another one, it is moved in one step.
//!
//! Two networks of a node may need one port. Who leaves looks for files beside its own (`stateDir`), and writes the port into that of a
//! network that still needs it rather than close it.

mod desired;
#[cfg(test)]
pub(super) mod fake;
#[cfg(feature = "kernel")]
mod keeper;
mod pass;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::host::zones::ZoneMember;

pub use desired::{Input, wanted};
#[cfg(feature = "kernel")]
pub use keeper::{Changes, Keeper};
pub use pass::{Passed, commands, lacking, pass, withdraw};
pub use record::Record;

/// What a network needs to be in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The zone.
    pub zone: String,
    /// What has to be in it.
    pub members: BTreeSet<ZoneMember>,
    /// The tunnel's port, which has to be open in the zones of these links.
    pub port: Option<(u16, BTreeSet<String>)>,
    /// Why it must not be opened to everybody, if it must not: then it is told where nobody else has opened it.
    pub withheld: Option<String>,
}

impl Wanted {
    /// The port that may be opened.
    fn open(&self) -> Option<&(u16, BTreeSet<String>)> {
        self.port.as_ref().filter(|_| self.withheld.is_none())
    }
}
