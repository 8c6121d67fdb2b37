//! A file as a source of nodes is held to what any is.

use std::fs;
use std::sync::PoisonError;

use tempfile::TempDir;

use super::tests::THREADS;
use super::*;
use crate::cluster::Node;
use crate::testing::conformance::{self, PeerStore};

/// A file as a store of nodes; it goes away under another name.
struct FileStore {
    directory: TempDir,
    away: bool,
}

#[async_trait]
impl PeerStore for FileStore {
    async fn source(&mut self) -> Box<dyn PeerSource> {
        Box::new(FileSource::new(&self.directory.path().join("cluster.json")).unwrap())
    }

    async fn hold(&mut self, nodes: &[Node]) {
        let nodes: Vec<String> = nodes
            .iter()
            .map(|node| {
                format!(
                    r#"{{"name": "{}", "uid": "{}", "podPrefixes": {:?}, "addresses": {:?}}}"#,
                    node.name,
                    node.uid,
                    node.prefixes
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>(),
                    node.underlay
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>(),
                )
            })
            .collect();
        self.replace(&format!("{{\"nodes\": [{}]}}", nodes.join(", ")));
    }

    async fn spoil(&mut self) -> bool {
        self.replace("{\"nodes\": [");
        true
    }

    async fn go_away(&mut self) -> bool {
        let directory = self.directory.path();
        fs::rename(directory.join("cluster.json"), directory.join("away")).unwrap();
        self.away = true;
        true
    }

    async fn come_back(&mut self) {
        let directory = self.directory.path();
        fs::rename(directory.join("away"), directory.join("cluster.json")).unwrap();
        self.away = false;
    }
}

impl FileStore {
    fn replace(&self, text: &str) {
        let directory = self.directory.path();
        let name = if self.away { "away" } else { "cluster.json" };
        fs::write(directory.join("new"), text).unwrap();
        fs::rename(directory.join("new"), directory.join(name)).unwrap();
    }
}

#[test]
fn the_contract_of_a_source_is_kept() {
    let _others = THREADS.read().unwrap_or_else(PoisonError::into_inner);
    let mut store = FileStore {
        directory: tempfile::tempdir().unwrap(),
        away: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(conformance::peer_source(&mut store));
}
