//! What is known of a network on this node between one process and the next: a state file, and two locks.
//!
//! ```text
//! /run/cni-fabric/167/          `stateDir`, and the route protocol's number
//!     state.json                what the node is connected as, and how well
//!     agent.lock                held (`flock(2)`) for as long as an agent lives
//!     update.lock               held by a plugin while it brings the node up to date
//!     zones.json                what was put into firewalld's zones, where it runs
//! ```
//!
//! The directory is one network's, as the route protocol number is: two networks of one number would take each other's
//! routes for their own. Nothing in it has to outlive the boot, and it may be removed at any time: then it is made anew.
//!
//! Where a node's prefixes are its own for a time only (a lease in etcd), `state.json` says until when, by the boot clock: an agent
//! that is stopped for longer still holds its lock, and the prefixes may be another node's by then. The agent puts that off in
//! steps of a quarter of the lease, so that the file is written once in some 90 seconds with a lease of 300. Time that the
//! machine slept counts: after that, plugins attach nobody until the agent has heard that the prefixes are still the node's.
//!
//! What may be acted upon (`prefixes`) and what the node had last (`confirmed`) are two things: an agent that starts, or whose lease has
//! run out, takes back the first and keeps the second, by which the node gets the same prefixes again.

mod lock;
mod moment;
mod wire;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use super::NodeConfig;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::NetworkName;

pub(super) use lock::take_within;
pub use lock::{AgentLock, UpdateLock};
pub use moment::Moment;

/// The directory of one network's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    directory: PathBuf,
    network: NetworkName,
    protocol: u8,
}

/// What the node is connected as, and how well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// The network.
    pub network: NetworkName,
    /// The node's name in the cluster; `None` where the cluster has no such node.
    pub node: Option<String>,
    /// The node's own prefixes, as far as they may be acted upon.
    pub prefixes: Vec<IpNetwork>,
    /// The prefixes that were known last to be the node's own, whether they may be acted upon now or not: what it asks for again.
    pub confirmed: Vec<IpNetwork>,
    /// The largest packet of a pod, in bytes; `None` until the node is connected.
    pub mtu: Option<u32>,
    /// The tunnel's device, where there is one.
    pub device: Option<String>,
    /// Whether the node has been brought up to date with the cluster, errors aside that `problems` tells of.
    pub ready: bool,
    /// Why it has not.
    pub reason: Option<String>,
    /// How many peers cannot be reached.
    pub unreachable: usize,
    /// Some of them, with the reasons: at most [`State::WORDS_MAX`].
    pub unreachable_words: Vec<String>,
    /// What could not be done, and clashes with others, in words: at most [`State::WORDS_MAX`].
    pub problems: Vec<String>,
    /// What was chosen of several possibilities, for people.
    pub choices: Vec<String>,
    /// Until when the prefixes may be acted upon, if the agent does not say more; `None`: without an end.
    pub expires: Option<Moment>,
    /// What it was made from, where a plugin made it; an agent needs no such thing.
    pub fingerprint: Option<Fingerprint>,
}

/// What a node was brought up to date from. While it is the same, nothing has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fingerprint {
    /// The cluster's file, the configuration, this program's version, the boot and the network namespace, in one hash.
    pub source: String,
    /// The links that it rests on: the tunnel's device, or those that bear the underlay's addresses.
    pub links: Vec<KnownLink>,
}

/// A link, as far as a look tells whether it is still the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownLink {
    /// Its name.
    pub name: String,
    /// Its index, which the kernel gives to no other link.
    pub index: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
}

impl State {
    /// How many sentences of a kind are kept: every ADD reads the file, which must not grow with the cluster.
    pub const WORDS_MAX: usize = 16;

    /// Nothing known of the network yet.
    pub fn new(network: NetworkName) -> Self {
        Self {
            network,
            node: None,
            prefixes: Vec::new(),
            confirmed: Vec::new(),
            mtu: None,
            device: None,
            ready: false,
            reason: None,
            unreachable: 0,
            unreachable_words: Vec::new(),
            problems: Vec::new(),
            choices: Vec::new(),
            expires: None,
            fingerprint: None,
        }
    }

    /// Why the prefixes may not be acted upon any more at this moment; `None` where they may.
    pub fn lapsed(&self, now: &Moment) -> Option<String> {
        let expires = self.expires.as_ref()?;
        expires.has_passed(now).then(|| {
            format!(
                "the node agent has not confirmed in time that this node's prefixes are still its own, and does not seem to be at \
                 work: they counted until {} s ago; see whether it is stopped or stuck",
                now.after(expires).as_secs()
            )
        })
    }

    /// What keeps some traffic from its way, in one sentence; `None` when nothing does.
    pub fn trouble(&self) -> Option<String> {
        let mut words = self.unreachable_words.clone();
        let more = self.unreachable.saturating_sub(words.len());
        if more > 0 {
            words.push(format!("{more} more peers cannot be reached"));
        }
        words.extend(self.problems.iter().cloned());
        (!words.is_empty()).then(|| words.join("; "))
    }
}

impl StateDir {
    /// Where the key `stateDir` says, else in `/run/cni-fabric`.
    pub fn of(config: &NodeConfig) -> Self {
        Self {
            directory: config.state_dir.join(config.protocol.to_string()),
            network: config.network.clone(),
            protocol: config.protocol,
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The state file.
    pub fn file(&self) -> PathBuf {
        self.directory.join("state.json")
    }

    /// Reads the state; `None` when there is none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when it is another network's, [`ErrorKind::Io`] when it cannot be read. What is no state (a
    /// file of another version of this program) counts as none.
    pub fn read(&self) -> Result<Option<State>> {
        let path = self.file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, error)),
        };
        match wire::parse(&text) {
            Some(state) if state.network != self.network => Err(self.of_another(&state.network)),
            state => Ok(state),
        }
    }

    /// Replaces the state, as a whole: a reader sees the old one or the new one. A state that says the same is left alone; the
    /// value tells whether it was written.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when the directory is another network's, [`ErrorKind::Io`] when it cannot be written.
    pub fn write(&self, state: &State) -> Result<bool> {
        if self.read()?.as_ref() == Some(state) {
            return Ok(false);
        }
        let path = self.file();
        let fresh = self.directory.join(FRESH);
        let put = || {
            self.make()?;
            // Whoever writes holds one of the locks; what a killed process left there is overwritten.
            let mut file = File::create(&fresh)?;
            file.write_all(wire::text(state).as_bytes())?;
            drop(file);
            fs::rename(&fresh, &path)
        };
        put().map_err(|error| failed("write", &path, error))?;
        Ok(true)
    }

    /// Removes the state. The locks stay: to remove one would let two processes hold locks on files of one name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when it is another network's, [`ErrorKind::Io`] when it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.read()?;
        let path = self.file();
        gone(fs::remove_file(&path)).map_err(|error| failed("remove", &path, error))
    }

    /// Removes the directory with the state and the locks, and the one above it where nothing else is in it. For a node that
    /// leaves its network for good: a plugin or an agent that begins now makes the directory anew, and does not meet whoever
    /// holds the locks of this one.
    ///
    /// # Errors
    /// As [`StateDir::remove`].
    pub fn dismantle(&self, _alone: AgentLock) -> Result<()> {
        self.remove()?;
        for path in [FRESH, lock::UPDATE, lock::AGENT].map(|name| self.directory.join(name)) {
            gone(fs::remove_file(&path)).map_err(|error| failed("remove", &path, error))?;
        }
        // What somebody else has in it stays, and so does what is a mount.
        let above = self.directory.parent().map(Path::to_owned);
        for directory in [Some(self.directory.clone()), above].into_iter().flatten() {
            match fs::remove_dir(&directory) {
                Err(error) if STAYS.contains(&error.kind()) => break,
                outcome => {
                    gone(outcome).map_err(|error| failed("remove", &directory, error))?;
                }
            }
        }
        Ok(())
    }

    /// Takes the lock that says that an agent lives, making directory and file where they are missing. When it returns, no plugin
    /// is about to bring the node up to date any more.
    ///
    /// # Errors
    /// [`ErrorKind::NotAvailable`] when another agent holds it, [`ErrorKind::TryAgain`] when a plugin has been at work for ten
    /// seconds, [`ErrorKind::Io`] when it cannot be made.
    pub fn agent_lock(&self) -> Result<AgentLock> {
        let path = self.directory.join(lock::AGENT);
        self.make().map_err(|error| failed("make", &path, error))?;
        let agent = AgentLock::take(&path, self.protocol)?;
        let patience = Cancel::new().with_deadline(Instant::now() + Duration::from_secs(10));
        self.update_lock(&patience)?;
        Ok(agent)
    }

    /// Whether an agent lives.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when that cannot be told.
    pub fn has_agent(&self) -> Result<bool> {
        lock::is_held(&self.directory.join(lock::AGENT))
    }

    /// Takes the lock under which a plugin brings the node up to date, and waits for another that does. Directory and file are
    /// made where they are missing.
    ///
    /// # Errors
    /// [`ErrorKind::TryAgain`] when cancelled, [`ErrorKind::Io`] when it cannot be made.
    pub fn update_lock(&self, cancel: &Cancel) -> Result<UpdateLock> {
        let path = self.directory.join(lock::UPDATE);
        self.make().map_err(|error| failed("make", &path, error))?;
        UpdateLock::take(&path, cancel)
    }

    fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)
    }

    fn of_another(&self, other: &NetworkName) -> Error {
        let Self {
            directory,
            network,
            protocol,
        } = self;
        let message = format!(
            "route protocol {protocol} is used by network `{other}` ({} says so): set \"routeProtocol\" of network \
             `{network}` to another number, or remove that directory if `{other}` has gone",
            directory.display()
        );
        Error::new(ErrorKind::InvalidConfig, message)
    }
}

/// A new state, until it takes the old one's place.
const FRESH: &str = ".state.json.new";

/// Why a directory may stay.
const STAYS: [io::ErrorKind; 3] = [
    io::ErrorKind::DirectoryNotEmpty,
    io::ErrorKind::ResourceBusy,
    // A container's own file system, with the node's directory as a mount in it.
    io::ErrorKind::ReadOnlyFilesystem,
];

/// That there was nothing to remove is well.
fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn failed(verb: &str, path: &Path, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("could not {verb} {}", path.display()),
    )
    .with_source(error)
}

#[cfg(test)]
mod tests;
