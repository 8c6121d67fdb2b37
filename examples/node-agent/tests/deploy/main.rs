//! What an operator applies, as far as it can be checked without a server: `deploy/` and what the documentation says of it.

// Helper functions of tests are not `#[test]`s, by which clippy knows what may panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod crd;
mod pods;
mod rights;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cni_core::host::Host;
use cni_core::node::Origin;
use node_agent::args::Args;
use node_agent::setup::Maker;
use serde_json::Value;

const CONFLIST: &str = "10-cni-fabric.conflist";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: &str) -> String {
    let path = deploy().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a file.
fn documents(path: &str) -> Vec<Value> {
    yaml::documents(&read(path))
}

fn document(path: &str) -> Value {
    let mut all = documents(path);
    assert_eq!(all.len(), 1, "{path}");
    all.remove(0)
}

fn texts(value: &Value) -> Vec<String> {
    let array = value
        .as_array()
        .unwrap_or_else(|| panic!("{value} is no list"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    array
        .iter()
        .map(|value| text(value).expect("a text"))
        .collect()
}

/// Every file below `deploy/`, as a path below it.
fn files() -> Vec<String> {
    fn collect(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => collect(&path, found),
                false => found.push(path.strip_prefix(deploy()).unwrap().display().to_string()),
            }
        }
    }
    let mut found = Vec::new();
    collect(&deploy(), &mut found);
    found.sort();
    found
}

#[test]
fn every_file_is_used_and_every_file_that_is_named_is_there() {
    let mut used = BTreeSet::from(["Containerfile".to_owned()]);
    for path in files()
        .iter()
        .filter(|path| path.ends_with("kustomization.yaml"))
    {
        used.insert(path.clone());
        let directory = Path::new(path).parent().unwrap();
        let kustomization = document(path);
        let mut named = Vec::new();
        for key in ["resources", "components"] {
            named.extend(kustomization.get(key).map(texts).unwrap_or_default());
        }
        for generator in kustomization["configMapGenerator"]
            .as_array()
            .into_iter()
            .flatten()
        {
            named.extend(texts(&generator["files"]));
        }
        for patch in kustomization["patches"].as_array().into_iter().flatten() {
            named.extend(patch["path"].as_str().map(str::to_owned));
        }
        for name in named {
            let there = deploy().join(directory).join(&name);
            assert!(there.exists(), "{path} names {name}");
            match there.is_dir() {
                true => assert!(
                    there.join("kustomization.yaml").is_file(),
                    "{path} names {name}"
                ),
                false => drop(used.insert(directory.join(&name).display().to_string())),
            }
        }
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), files());
}

#[test]
fn documents_are_yaml_and_say_what_they_are() {
    let mut kinds = BTreeMap::<String, usize>::new();
    for path in files().iter().filter(|path| path.ends_with(".yaml")) {
        for document in documents(path) {
            assert!(document["apiVersion"].is_string(), "{path}: {document}");
            let kind = document["kind"]
                .as_str()
                .unwrap_or_else(|| panic!("{path}: no kind"));
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    let wanted = [
        ("ClusterRole", 1),
        ("ClusterRoleBinding", 1),
        ("Component", 5),
        ("CustomResourceDefinition", 1),
        ("DaemonSet", 2),
        ("Kustomization", 6),
        ("Namespace", 1),
        ("ServiceAccount", 1),
        ("ValidatingAdmissionPolicy", 1),
        ("ValidatingAdmissionPolicyBinding", 1),
    ];
    let wanted = wanted.map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(kinds, BTreeMap::from(wanted));
}

/// What an agent makes of a configuration, by the code that the plugins have, too.
fn made(path: &str) -> Maker {
    let file = deploy().join(path).display().to_string();
    let words = ["--config", &file].map(str::to_owned);
    let args = Args::parse(words.into_iter()).unwrap().unwrap();
    Maker::new(args, Host::open().unwrap()).unwrap_or_else(|error| panic!("{}", error.chain()))
}

#[test]
fn configurations_are_taken_by_the_agent_as_the_plugins_take_them() {
    for (path, plugin) in [
        ("base", "vxlan"),
        ("components/host-gw", "host-gw"),
        ("components/flannel", "vxlan"),
    ] {
        let maker = made(&format!("{path}/{CONFLIST}"));
        let types: Vec<&str> = maker
            .list()
            .plugins
            .iter()
            .map(|plugin| &*plugin.plugin_type)
            .collect();
        assert_eq!(types, [plugin, "portmap"], "{path}");
        // Pods' addresses are kept under the network's name: Flannel's, where its pods are.
        let name = match path {
            "components/flannel" => "cbr0",
            _ => "pods",
        };
        assert_eq!(maker.network().node.network.as_str(), name, "{path}");
        match &maker.network().node.cluster.origin {
            Origin::Agent { kind, section } => {
                assert_eq!(*kind, "kubernetes", "{path}");
                assert!(section.contains("\"podNetworks\""), "{path}: {section}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn the_image_has_every_plugin_that_a_configuration_names() {
    let image = read("Containerfile");
    let copied: BTreeSet<&str> = image
        .lines()
        .filter_map(|line| line.strip_prefix("COPY ")?.strip_suffix(" /plugins/"))
        .flat_map(|line| line.split_whitespace())
        .map(|path| path.strip_prefix("${BIN}/").expect("a program"))
        .collect();
    for path in files().iter().filter(|path| path.ends_with(".conflist")) {
        for plugin in &made(path).list().plugins {
            assert!(
                copied.contains(&*plugin.plugin_type),
                "{path}: {}",
                plugin.plugin_type
            );
        }
    }
    // Nothing else gets into the build's context.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let ignore = fs::read_to_string(root.join(".containerignore")).expect("a .containerignore");
    let kept = ignore
        .lines()
        .filter_map(|line| line.strip_prefix("!target/*/release/"));
    let kept: BTreeSet<&str> = kept.filter(|name| *name != "node-agent").collect();
    assert_eq!(kept, copied);
    let version = format!("newTag: {}\n", env!("CARGO_PKG_VERSION"));
    assert!(read("base/kustomization.yaml").contains(&version));
}
