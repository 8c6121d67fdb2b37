//! The API server of the tests: what a real one does. With KUBECONFIG, the same tests ask the real one.

mod apply;
mod faults;
mod lists;
mod objects;
mod rights;
mod watches;

use std::process::ExitCode;
use std::time::Duration;

use cni_testkit::Pod;
use cni_testkit::kube::{
    self, ApiServer, Client, Fault, Next, Resource, Streaming, User, Watch, named,
};
use serde_json::{Value, json};

use Resource::{NodeNetworks, Nodes};

const LABEL: &str = "cni-fabric.internal/network";

const SOON: Duration = Duration::from_secs(10);

fn server(pod: &Pod) -> ApiServer<'_> {
    ApiServer::start(pod, "127.0.0.1".parse().expect("an address"))
}

fn network(name: &str, label: &str) -> Value {
    json!({
        "apiVersion": "cni-fabric.internal/v1alpha1", "kind": "NodeNetwork",
        "metadata": { "name": named(name), "labels": { LABEL: label } },
        "spec": {
            "network": label, "nodeUID": "u", "podCIDRs": ["10.244.1.0/24"],
            "addresses": ["192.0.2.1"], "backend": { "type": "vxlan" },
        },
    })
}

fn node(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": named(name) } })
}

fn revision(object: &Value) -> &str {
    object["metadata"]["resourceVersion"]
        .as_str()
        .expect("a resource version")
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

fn causes(body: &Value) -> Vec<(&str, &str)> {
    let all = body["details"]["causes"].as_array().into_iter().flatten();
    all.map(|cause| {
        (
            cause["field"].as_str().unwrap_or_default(),
            cause["reason"].as_str().unwrap_or_default(),
        )
    })
    .collect()
}

fn condition(kind: &str, status: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" })
}

/// What a manager owns, as paths.
fn owned(object: &Value, manager: &str) -> Vec<String> {
    fn walk(at: &str, value: &Value, all: &mut Vec<String>) {
        let map = value.as_object().expect("fields");
        if map.is_empty() && !at.ends_with("/.") {
            all.push(at.to_owned());
        }
        for (key, value) in map {
            walk(&format!("{at}/{key}"), value, all);
        }
    }
    let mut all = Vec::new();
    for entry in object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
    {
        if entry["manager"] == manager {
            walk("", &entry["fieldsV1"], &mut all);
        }
    }
    all.sort();
    all
}

fn watch(client: &Client<'_>, parameters: &str) -> Watch {
    let watch = client.watch(NodeNetworks, parameters);
    watch.unwrap_or_else(|answer| panic!("{answer:?}"))
}

fn seen(watch: &Watch) -> (String, String) {
    let (kind, name, _) = watch.event();
    (kind, name.trim_start_matches("cni-test-").to_owned())
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

fn last(watch: &Watch) -> Next {
    loop {
        match watch.next(SOON) {
            Next::Event(_) => {}
            other => return other,
        }
    }
}

fn main() -> ExitCode {
    let all = [
        objects::TESTS,
        apply::TESTS,
        lists::TESTS,
        watches::TESTS,
        rights::TESTS,
        faults::TESTS,
    ]
    .concat();
    cni_testkit::run(&all)
}
