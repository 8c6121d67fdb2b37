//! firewalld: which packets are in which of its zones.
//!
//! Where firewalld rules a host, it rejects what is forwarded between interfaces that it was not told of, in a table of its
//! own, and no table of ours can overrule that. So it is asked, on the system's message bus: for its running configuration, which
//! it forgets when it is reloaded or starts anew.

pub(crate) mod bus;
mod firewalld;
mod listener;

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::Host;
use super::firewall::{Family, Table};
use crate::error::Result;

pub use firewalld::Firewalld;
pub(crate) use firewalld::refused;
use listener::Listener;

/// Whether firewalld's rules for forwarded packets are in force, by nftables: also where it cannot be asked, as from a container
/// without the message bus. What cannot be read counts as none.
pub async fn rules(host: &Host) -> bool {
    let table = Table {
        family: Family::Inet,
        name: "firewalld".to_owned(),
    };
    let found = host.firewall.chain_rules(&table, "filter_FORWARD").await;
    found.is_ok_and(|chain| chain.is_some())
}

/// Which packets belong to a zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ZoneMember {
    /// Those that come in by this interface, unless a source says otherwise.
    Interface(String),
    /// Those from these addresses.
    Source(IpNetwork),
    /// Not where packets belong, but what of those that belong there is let in to the host: what is sent to this UDP port.
    Port(u16),
}

/// firewalld, as far as a network asks it for something. The calls block until it answers, for as long as the implementation has
/// patience: whoever must not wait asks in a thread of its own.
pub trait HostZones: Send + Sync + fmt::Debug {
    /// Whether it rules this host now. It is not started by being asked.
    ///
    /// # Errors
    /// When there is a message bus that does not answer.
    fn is_running(&self) -> Result<bool>;

    /// The zone of what comes in by an interface: its own, else the default one.
    ///
    /// # Errors
    /// When firewalld does not answer.
    fn zone_of(&self, interface: &str) -> Result<String>;

    /// Whether the zone has it.
    ///
    /// # Errors
    /// As [`HostZones::members`].
    fn has(&self, zone: &str, member: &ZoneMember) -> Result<bool>;

    /// Whether a rule of the zone's own lets somebody in to this UDP port (a rich rule), be it not everybody.
    ///
    /// # Errors
    /// As [`HostZones::members`].
    fn opens(&self, zone: &str, port: u16) -> Result<bool>;

    /// The interfaces and sources of the zone.
    ///
    /// # Errors
    /// When there is no such zone, or firewalld does not answer.
    fn members(&self, zone: &str) -> Result<Vec<ZoneMember>>;

    /// Puts packets into the zone. What is in it already is success; [`Added::Already`] says so.
    ///
    /// # Errors
    /// As [`HostZones::members`], and when they belong to another zone.
    fn add(&self, zone: &str, member: &ZoneMember) -> Result<Added>;

    /// Moves packets that are in a zone into another one, so that no packet finds them in neither. What is in the first by the
    /// permanent configuration is refused: that is somebody else's. Only for interfaces and sources.
    ///
    /// # Errors
    /// As [`HostZones::add`].
    fn change(&self, from: &str, zone: &str, member: &ZoneMember) -> Result<()>;

    /// Takes packets out of the zone; what is not in it is success. What is in the permanent configuration, too, stays: that is
    /// somebody else's.
    ///
    /// # Errors
    /// As [`HostZones::members`].
    fn remove(&self, zone: &str, member: &ZoneMember) -> Result<()>;

    /// Tells whenever zones may have changed, until the value is dropped: firewalld has started, was reloaded, was told something.
    ///
    /// # Errors
    /// When there is no message bus.
    fn follow(&self, tell: Box<dyn Fn() + Send>) -> Result<Box<dyn Following>>;
}

/// As long as it lives, changes are told.
pub trait Following: Send + fmt::Debug {
    /// Whether they still are: not when the message bus has gone.
    fn is_alive(&self) -> bool;
}

/// What became of putting something into a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It was not in it.
    New,
    /// It was there.
    Already,
}

/// No firewalld.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoZones;

impl HostZones for NoZones {
    fn is_running(&self) -> Result<bool> {
        Ok(false)
    }

    fn zone_of(&self, _: &str) -> Result<String> {
        Ok(String::new())
    }

    fn has(&self, _: &str, _: &ZoneMember) -> Result<bool> {
        Ok(true)
    }

    fn opens(&self, _: &str, _: u16) -> Result<bool> {
        Ok(true)
    }

    fn members(&self, _: &str) -> Result<Vec<ZoneMember>> {
        Ok(Vec::new())
    }

    fn add(&self, _: &str, _: &ZoneMember) -> Result<Added> {
        Ok(Added::Already)
    }

    fn change(&self, _: &str, _: &str, _: &ZoneMember) -> Result<()> {
        Ok(())
    }

    fn remove(&self, _: &str, _: &ZoneMember) -> Result<()> {
        Ok(())
    }

    fn follow(&self, _: Box<dyn Fn() + Send>) -> Result<Box<dyn Following>> {
        Ok(Box::new(*self))
    }
}

impl Following for NoZones {
    fn is_alive(&self) -> bool {
        true
    }
}

impl ZoneMember {
    /// What it is called in firewalld's own commands: `--add-`, `--change-` or `--remove-`, and the rest.
    pub fn command(&self, zone: &str, verb: &str) -> String {
        let kind = match self {
            Self::Interface(_) => "interface",
            Self::Source(_) => "source",
            Self::Port(_) => "port",
        };
        format!("firewall-cmd --zone={zone} --{verb}-{kind}={self}")
    }

    /// A source as firewalld lists it: with or without a prefix length. `None` for what is no address: a hardware address, a set.
    pub(crate) fn source(text: &str) -> Option<Self> {
        match text.parse::<IpAddr>() {
            Ok(address) => Some(Self::Source(address.into())),
            Err(_) => Some(Self::Source(text.parse().ok()?)),
        }
    }
}

impl fmt::Display for ZoneMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => f.write_str(name),
            Self::Source(prefix) => prefix.fmt(f),
            Self::Port(port) => write!(f, "{port}/udp"),
        }
    }
}
