//! Server-side apply.

use cni_testkit::{Test, tests};

use super::*;

pub(crate) const TESTS: &[Test] = &tests![
    who_applies_owns_what_is_applied,
    conditions_are_owned_one_by_one,
];

fn who_applies_owns_what_is_applied() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    let name = named("ssa");
    let mut object = network("ssa", "net");
    let made = client.apply(NodeNetworks, &name, "one", false, &object);
    assert_eq!(made.code, 201);
    let made = made.ok();
    assert_eq!(
        owned(&made, "one"),
        [
            "/f:metadata/f:labels/f:cni-fabric.internal/network",
            "/f:spec/f:addresses",
            "/f:spec/f:backend/f:type",
            "/f:spec/f:network",
            "/f:spec/f:nodeUID",
            "/f:spec/f:podCIDRs",
        ]
    );
    let again = client
        .apply(NodeNetworks, &name, "one", false, &object)
        .ok();
    assert_eq!(
        again, made,
        "nothing has changed, not even the resource version"
    );
    // Another one wants something else.
    let other = json!({
        "apiVersion": "cni-fabric.internal/v1alpha1", "kind": "NodeNetwork",
        "metadata": { "name": name }, "spec": { "addresses": ["192.0.2.2"] },
    });
    let refused = client.apply(NodeNetworks, &name, "two", false, &other);
    assert_eq!(refused.refused(409), "Conflict");
    assert_eq!(
        causes(&refused.body),
        [(".spec.addresses", "FieldManagerConflict")]
    );
    assert!(
        refused.body["message"]
            .as_str()
            .is_some_and(|text| text.contains("\"one\""))
    );
    let forced = client.apply(NodeNetworks, &name, "two", true, &other).ok();
    assert_eq!(forced["spec"]["addresses"], json!(["192.0.2.2"]));
    assert_eq!(owned(&forced, "two"), ["/f:spec/f:addresses"]);
    assert!(!owned(&forced, "one").contains(&"/f:spec/f:addresses".to_owned()));
    assert_eq!(forced["metadata"]["generation"], 2);
    // What both want alike, both own; what one gives up then stays.
    object["spec"]["addresses"] = json!(["192.0.2.2"]);
    let shared = client
        .apply(NodeNetworks, &name, "one", false, &object)
        .ok();
    assert!(owned(&shared, "one").contains(&"/f:spec/f:addresses".to_owned()));
    assert_eq!(owned(&shared, "two"), ["/f:spec/f:addresses"]);
    assert_eq!(shared["metadata"]["generation"], 2);
    assert_ne!(
        revision(&shared),
        revision(&forced),
        "who owns what is part of the object"
    );
    // What a manager does not apply any more, and nobody else owns, goes.
    object["spec"]["mtu"] = 1500.into();
    let more = client
        .apply(NodeNetworks, &name, "one", false, &object)
        .ok();
    assert_eq!(more["spec"]["mtu"], 1500);
    object["spec"].as_object_mut().expect("spec").remove("mtu");
    let less = client
        .apply(NodeNetworks, &name, "one", false, &object)
        .ok();
    assert!(less["spec"].get("mtu").is_none(), "{less}");
    // An update takes what it changes.
    let patch = json!({ "spec": { "nodeUID": "other" } });
    let path = format!("{name}?fieldManager=three");
    let patched = client.merge(NodeNetworks, &path, &patch).ok();
    assert_eq!(owned(&patched, "three"), ["/f:spec/f:nodeUID"]);
    assert!(!owned(&patched, "one").contains(&"/f:spec/f:nodeUID".to_owned()));
    let refused = client.apply(NodeNetworks, &name, "one", false, &object);
    assert_eq!(refused.refused(409), "Conflict");
    assert!(
        refused.body["message"]
            .as_str()
            .is_some_and(|text| text.contains("\"three\"")),
        "{}",
        refused.text
    );
    let back = client.apply(NodeNetworks, &name, "one", true, &object).ok();
    assert_eq!(
        (&back["spec"]["nodeUID"], owned(&back, "three").len()),
        (&json!("u"), 0)
    );
    let nobody = client.call(
        "PATCH",
        &format!("{}/{name}", NodeNetworks.path()),
        "application/apply-patch+yaml",
        Some(&object),
    );
    assert_eq!(nobody.refused(422), "Invalid");
}

fn conditions_are_owned_one_by_one() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    let name = named("cond");
    client.create(Nodes, &node("cond")).ok();
    let status = format!("{name}/status");
    let kubelet = json!({ "status": { "conditions": [condition("Ready", "True"), condition("NetworkUnavailable", "True")] } });
    let path = format!("{status}?fieldManager=kubelet");
    client
        .call(
            "PATCH",
            &format!("{}/{path}", Nodes.path()),
            "application/strategic-merge-patch+json",
            Some(&kubelet),
        )
        .ok();
    let ours = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
        "status": { "conditions": [condition("NetworkUnavailable", "False")] } });
    let refused = client.apply(Nodes, &status, "cni-fabric", false, &ours);
    assert_eq!(refused.refused(409), "Conflict");
    assert_eq!(
        causes(&refused.body),
        [(
            ".status.conditions[type=\"NetworkUnavailable\"].status",
            "FieldManagerConflict"
        )]
    );
    let done = client.apply(Nodes, &status, "cni-fabric", true, &ours).ok();
    let all = done["status"]["conditions"].as_array().expect("conditions");
    let shown: Vec<(&str, &str)> = all
        .iter()
        .map(|one| {
            (
                one["type"].as_str().unwrap_or_default(),
                one["status"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(shown, [("Ready", "True"), ("NetworkUnavailable", "False")]);
    let again = client.apply(Nodes, &status, "cni-fabric", true, &ours).ok();
    assert_eq!(revision(&again), revision(&done));
    // The same on an object of our kind.
    client.create(NodeNetworks, &network("cond", "net")).ok();
    let ready = |status: &str| {
        json!({ "apiVersion": "cni-fabric.internal/v1alpha1", "kind": "NodeNetwork",
        "metadata": { "name": name }, "status": { "agentVersion": "1", "conditions": [condition("Ready", status)] } })
    };
    let made = client
        .apply(NodeNetworks, &status, "cni-fabric", true, &ready("True"))
        .ok();
    let other = json!({ "apiVersion": "cni-fabric.internal/v1alpha1", "kind": "NodeNetwork",
        "metadata": { "name": name }, "status": { "conditions": [condition("Other", "True")] } });
    let both = client
        .apply(NodeNetworks, &status, "other", false, &other)
        .ok();
    assert_eq!(
        both["status"]["conditions"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(
        both["metadata"]["generation"],
        made["metadata"]["generation"]
    );
    assert_eq!(
        owned(&made, "cni-fabric").first().map(String::as_str),
        Some("/f:status/f:agentVersion")
    );
    let none = json!({ "apiVersion": "cni-fabric.internal/v1alpha1", "kind": "NodeNetwork", "metadata": { "name": name }, "status": {} });
    let left = client
        .apply(NodeNetworks, &status, "other", false, &none)
        .ok();
    assert_eq!(
        left["status"]["conditions"].as_array().map(Vec::len),
        Some(1),
        "{left}"
    );
    let missing = format!("{}/status", named("nobody"));
    assert_eq!(
        client
            .apply(NodeNetworks, &missing, "x", true, &ready("True"))
            .refused(404),
        "NotFound"
    );
}
