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
        // Each of them, whatever became of the other.
        let taken = self.take_back_from_flannel(status);
        self.tell(view, cluster, status).and(taken)
    }

    fn tell(&self, view: &View, cluster: &[IpNetwork], status: &Status) -> Result<()> {
        let known = status.in_sync || status.compared;
        let connected = |state: &State| state.mtu.is_some();
        if !known && let Some(mut state) = self.state.read()?.filter(connected) {
            if let Some(Standing::Withheld(reason)) = &status.standing {
                // Somebody else may have the prefix by now. What was confirmed stays: it is asked for again.
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
        let usable = status.usable_prefixes();
        let (mtu, masquerade) = (connection.mtu, self.masquerade);
        if let Some(text) = subnet_env::text(view, &usable, cluster, mtu, masquerade) {
            files::replace(path, &text).map_err(|error| failed(path, error))?;
        }
        Ok(())
    }

    /// Flannel's plugin reads no reason and no end: while no prefix is the node's beyond doubt, there is no file. Where a source
    /// has no such doubts, the file stays: a node that is missing may be a slip of somebody's pen.
    fn take_back_from_flannel(&self, status: &Status) -> Result<()> {
        match (&self.subnet_env, &status.standing) {
            (Some(path), Some(_)) if status.usable_prefixes().is_empty() => {
                files::remove(path).map_err(|error| failed(path, error))
            }
            _ => Ok(()),
        }
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
            state.confirmed.clone_from(&me.prefixes);
            if !state.prefixes.is_empty() {
                state.expires.clone_from(&status.until);
            }
        }
        if let Some(confirmed) = &status.confirmed {
            state.confirmed.clone_from(confirmed);
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
        let problems = problems.chain(&status.zones);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cni_core::cluster::{Node, NodeUid};
    use cni_core::node::NodeConfig;
    use cni_core::spec::config::NetworkConfig;

    use super::*;
    use crate::programmer::Connection;

    fn prefix(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn publisher(directory: &std::path::Path) -> Publisher {
        let text = format!(
            r#"{{"cniVersion":"1.1.0","name":"pods","cluster":{{"file":"/c"}},"stateDir":"{}"}}"#,
            directory.display()
        );
        let config = NetworkConfig::parse(text.as_bytes()).unwrap();
        Publisher {
            network: "pods".parse().unwrap(),
            state: StateDir::of(&NodeConfig::parse(&config).unwrap()),
            subnet_env: Some(directory.join("subnet.env")),
            conflist: None,
            masquerade: true,
        }
    }

    /// A connected node that may use its prefix.
    fn connected() -> Status {
        let mut me = Node::new(NodeUid::new("n1"), "n1");
        me.prefixes.push(prefix("10.244.1.0/24"));
        Status {
            me: Some(Arc::new(me)),
            in_sync: true,
            compared: true,
            connection: Some(Connection {
                mtu: 1450,
                ..Connection::default()
            }),
            standing: Some(Standing::Holds(vec![prefix("10.244.1.0/24")])),
            confirmed: Some(vec![prefix("10.244.1.0/24")]),
            ..Status::default()
        }
    }

    fn withheld(status: Status) -> Status {
        Status {
            standing: Some(Standing::Withheld("the lease has run out".to_owned())),
            ..status
        }
    }

    /// What is written of the prefixes: those for new pods, and those that were confirmed.
    fn written(publisher: &Publisher, status: &Status) -> (Vec<IpNetwork>, Vec<IpNetwork>) {
        publisher.publish(&View::default(), &[], status).unwrap();
        let state = publisher.state.read().unwrap().unwrap();
        (state.prefixes, state.confirmed)
    }

    #[test]
    fn what_was_confirmed_outlasts_what_is_withheld_and_gives_way_to_what_is_confirmed_next() {
        let directory = tempfile::tempdir().unwrap();
        let publisher = publisher(directory.path());
        let one = vec![prefix("10.244.1.0/24")];
        let status = connected();
        assert_eq!(written(&publisher, &status), (one.clone(), one.clone()));
        assert_eq!(
            written(&publisher, &withheld(status)),
            (Vec::new(), one.clone())
        );
        // The first tick of another agent, and of the one after it.
        for _ in 0..2 {
            let status = withheld(Status {
                confirmed: Some(one.clone()),
                ..Status::default()
            });
            assert_eq!(written(&publisher, &status), (Vec::new(), one.clone()));
        }
        // Another prefix, while new pods wait for old ones.
        let other = vec![prefix("10.244.2.0/24")];
        let status = withheld(Status {
            confirmed: Some(other.clone()),
            ..connected()
        });
        assert_eq!(written(&publisher, &status), (Vec::new(), other));
    }

    #[test]
    fn flannels_plugin_is_offered_what_may_be_used_and_nothing_while_that_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let publisher = publisher(directory.path());
        let status = connected();
        let mut view = View::default();
        let me = Node::clone(status.me.as_ref().unwrap());
        view.apply(cni_core::cluster::PeerEvent::Reset(vec![me]));
        view.set_identity(cni_core::cluster::Identity {
            name: Some("n1".to_owned()),
            addresses: Vec::new(),
        });
        let offered = |status: &Status| {
            publisher.publish(&view, &[], status).unwrap();
            let text = std::fs::read_to_string(directory.path().join("subnet.env")).ok()?;
            let line = text.lines().find(|line| line.starts_with("FLANNEL_SUBNET"));
            line.map(str::to_owned)
        };
        let own = Some("FLANNEL_SUBNET=10.244.1.1/24".to_owned());
        assert_eq!(offered(&status), own);
        // A lease that has run out.
        assert_eq!(offered(&withheld(connected())), None);
        assert_eq!(offered(&status), own);
        // An agent that has just started.
        assert_eq!(offered(&withheld(Status::default())), None);
        assert_eq!(offered(&status), own);
        // A prefix that is not known to be the node's any more.
        let another = Some(Standing::Holds(vec![prefix("10.244.2.0/24")]));
        let status = Status {
            standing: another,
            ..status
        };
        assert_eq!(offered(&status), None);
        // A file of nodes, whoever is missing in it: what was told stays.
        let status = Status {
            standing: None,
            ..status
        };
        assert_eq!(offered(&status), own);
        let status = Status { me: None, ..status };
        assert_eq!(offered(&status), own);
    }

    #[test]
    fn what_an_earlier_version_wrote_is_confirmed_over_the_first_tick() {
        let directory = tempfile::tempdir().unwrap();
        let publisher = publisher(directory.path());
        publisher
            .publish(&View::default(), &[], &connected())
            .unwrap();
        let text = std::fs::read_to_string(publisher.state.file()).unwrap();
        let earlier = text.replace("\"confirmed\":[\"10.244.1.0/24\"],", "");
        assert_ne!(earlier, text);
        std::fs::write(publisher.state.file(), earlier).unwrap();
        let prefixes = written(&publisher, &withheld(Status::default()));
        assert_eq!(prefixes, (Vec::new(), vec![prefix("10.244.1.0/24")]));
    }
}
