//! What plugins are told: a state file for ours, `subnet.env` for Flannel's; and what the container runtime is.

use std::path::PathBuf;

use cni_core::cluster::View;
use cni_core::node::{State, StateDir};
use cni_core::spec::NetworkName;
use cni_core::{Error, ErrorKind, Result};
use ipnetwork::IpNetwork;

use crate::conflist::Conflist;
use crate::status::Status;
use crate::tenure::Standing;
use crate::{files, subnet_env};

/// Writes the files.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// The network.
    pub network: NetworkName,
    /// Where our plugins look.
    pub state: StateDir,
    /// Path of the file for Flannel's CNI plugin.
    pub subnet_env: Option<PathBuf>,
    /// The runtime's configuration, where it is to be told.
    pub conflist: Option<Conflist>,
    /// Whether we masquerade what leaves the cluster.
    pub masquerade: bool,
}

impl Publisher {
    /// Writes what has changed. `cluster` are the prefixes that hold all pods, where the source tells.
    ///
    /// Until the source has told of all nodes, what an earlier run wrote of a connected node stays: it is connected as it was.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be written, [`ErrorKind::InvalidConfig`] when the directory of state is another
    /// network's.
    pub fn publish(&self, view: &View, cluster: &[IpNetwork], status: &Status) -> Result<()> {
        let known = status.in_sync || status.compared;
        let connected = |state: &State| state.mtu.is_some();
        if !known && let Some(mut state) = self.state.read()?.filter(connected) {
            if let Some(Standing::Withheld(reason)) = &status.standing {
                // Somebody else may have the prefix by now.
                state.prefixes.clear();
                state.expires = None;
                state.ready = false;
                state.reason = Some(reason.clone());
                self.state.write(&state)?;
            }
            return Ok(());
        }
        self.state.write(&self.told(status))?;
        self.tell_flannel(view, cluster, status)?;
        // Last: from then on there are ADDs, which read what was written before.
        match &self.conflist {
            Some(conflist) if status.readiness().is_ready() => conflist.publish().map(drop),
            _ => Ok(()),
        }
    }

    fn tell_flannel(&self, view: &View, cluster: &[IpNetwork], status: &Status) -> Result<()> {
        let (Some(path), Some(connection)) = (&self.subnet_env, &status.connection) else {
            return Ok(());
        };
        if let Some(text) = subnet_env::text(view, cluster, connection.mtu, self.masquerade) {
            files::replace(path, &text).map_err(|error| failed(path, error))?;
        }
        Ok(())
    }

    /// Removes the plugins' files. The runtime's stays: it is not the agent's to say that there shall be no more pods.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be removed, [`ErrorKind::InvalidConfig`] as above.
    pub fn withdraw(&self) -> Result<()> {
        self.state.remove()?;
        if let Some(path) = &self.subnet_env {
            files::remove(path).map_err(|error| failed(path, error))?;
        }
        Ok(())
    }

    fn told(&self, status: &Status) -> State {
        let readiness = status.readiness();
        let mut state = State::new(self.network.clone());
        if let Some(me) = &status.me {
            state.node = Some(me.name.to_string());
            state.prefixes = status.usable_prefixes();
            if !state.prefixes.is_empty() {
                state.expires.clone_from(&status.until);
            }
        }
        if let Some(connection) = &status.connection {
            state.mtu = Some(connection.mtu);
            state.device.clone_from(&connection.device);
            state.choices.clone_from(&connection.choices);
        }
        state.ready = readiness.is_ready();
        state.reason = readiness.missing.first().cloned();
        state.unreachable = status.unreachable.len();
        let unreachable = status.unreachable.values();
        state.unreachable_words = few(unreachable);
        let conflicts: Vec<String> = status.conflicts.iter().map(ToString::to_string).collect();
        let problems = status.errors.iter().chain(&status.clashes);
        state.problems = few(problems.chain(&conflicts));
        state
    }
}

fn few<'a>(words: impl Iterator<Item = &'a String>) -> Vec<String> {
    words.take(State::WORDS_MAX).cloned().collect()
}

fn failed(path: &std::path::Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("could not write {}", path.display())).with_source(error)
}
