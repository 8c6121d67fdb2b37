//! What is written to the server: pure. Each is the whole of our part of an object (server-side apply): what is not in it any
//! more goes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::api::{GROUP, KIND, LABEL, Owner, Spec};

/// Reason of the Node's condition while this node is connected.
pub(super) const IS_UP: &str = "CniFabricIsUp";
/// The longest message of a condition.
const MOST_MESSAGE: usize = 1000;

/// The Node as the owner of what is its.
pub(super) fn owner(name: &str, uid: &str) -> Owner {
    Owner {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

/// This node's `NodeNetwork`.
pub(super) fn node_network(name: &str, spec: &Spec) -> Value {
    json!({
        "apiVersion": GROUP, "kind": KIND,
        "metadata": {
            "name": name,
            "labels": { LABEL: spec.network },
            "ownerReferences": [owner(name, &spec.node_uid)],
        },
        "spec": spec,
    })
}

/// How this node is; `since`: when that last changed from ready to not, or back.
pub(super) fn readiness(
    name: &str,
    ready: bool,
    message: &str,
    generation: i64,
    since: &str,
) -> Value {
    let (status, reason) = if ready {
        ("True", "Connected")
    } else {
        ("False", "NotConnected")
    };
    let condition = json!({
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "observedGeneration": generation, "lastTransitionTime": since,
    });
    json!({
        "apiVersion": GROUP, "kind": KIND, "metadata": { "name": name },
        "status": { "agentVersion": env!("CARGO_PKG_VERSION"), "conditions": [condition] },
    })
}

/// The Node has a network. With its uid, so that no Node is made where this one has gone.
pub(super) fn available(name: &str, uid: &str, now: &str) -> Value {
    let condition = json!({
        "type": "NetworkUnavailable", "status": "False", "reason": IS_UP,
        "message": "cni-fabric has connected this node",
        "lastTransitionTime": now, "lastHeartbeatTime": now,
    });
    let mut body = nothing(name, uid);
    if let Some(members) = body.as_object_mut() {
        members.insert("status".to_owned(), json!({ "conditions": [condition] }));
    }
    body
}

/// Annotations of the Node.
pub(super) fn annotations(name: &str, uid: &str, all: &BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "uid": uid, "annotations": all },
    })
}

/// Nothing of the Node is ours.
pub(super) fn nothing(name: &str, uid: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "uid": uid } })
}

/// Deletes the object with this uid, and no successor of it.
pub(super) fn deletion(uid: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid } })
}

/// A message that every server takes.
pub(super) fn message(text: &str) -> String {
    super::api::plain(text, MOST_MESSAGE)
}
