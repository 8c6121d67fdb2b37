//! What plugins are told: a state file for ours, `subnet.env` for Flannel's.

use std::path::PathBuf;

use cni_core::cluster::View;
use cni_core::{Error, ErrorKind, Result};
use ipnetwork::IpNetwork;
use serde_json::json;

use crate::status::Status;
use crate::{files, subnet_env};

/// Writes the files.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// The network's name.
    pub network: String,
    /// Path of the state file.
    pub state: PathBuf,
    /// Path of the file for Flannel's CNI plugin.
    pub subnet_env: Option<PathBuf>,
    /// The cluster's prefixes, where they are told.
    pub cluster: Vec<IpNetwork>,
    /// Whether we masquerade what leaves the cluster.
    pub masquerade: bool,
}

impl Publisher {
    /// Writes what has changed.
    ///
    /// Until the source has told of all nodes, what an earlier run wrote stays: the node is connected as it was.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be written.
    pub fn publish(&self, view: &View, status: &Status) -> Result<()> {
        let known = status.in_sync || status.compared;
        if !known && self.state.exists() {
            return Ok(());
        }
        let written = files::replace(&self.state, &self.state_text(status));
        written.map_err(|error| failed(&self.state, error))?;
        let (Some(path), Some(connection)) = (&self.subnet_env, &status.connection) else {
            return Ok(());
        };
        if let Some(text) = subnet_env::text(view, &self.cluster, connection.mtu, self.masquerade) {
            files::replace(path, &text).map_err(|error| failed(path, error))?;
        }
        Ok(())
    }

    /// Removes the files.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be removed.
    pub fn withdraw(&self) -> Result<()> {
        for path in self.subnet_env.iter().chain([&self.state]) {
            files::remove(path).map_err(|error| failed(path, error))?;
        }
        Ok(())
    }

    fn state_text(&self, status: &Status) -> String {
        let readiness = status.readiness();
        let prefixes: Vec<String> = status
            .me
            .iter()
            .flat_map(|me| &me.prefixes)
            .map(ToString::to_string)
            .collect();
        let state = json!({
            "network": self.network,
            "node": status.me.as_ref().map(|me| me.name.to_string()),
            "prefixes": prefixes,
            "mtu": status.connection.as_ref().map(|connection| connection.mtu),
            "ready": readiness.is_ready(),
            "reason": readiness.missing.first(),
        });
        format!("{state}\n")
    }
}

fn failed(path: &std::path::Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("could not write {}", path.display())).with_source(error)
}
