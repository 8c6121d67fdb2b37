//! Objects one by one.

use cni_testkit::{Test, tests};

use super::*;

pub(crate) const TESTS: &[Test] = &tests![
    objects_are_made_read_changed_and_removed,
    what_the_schema_forbids_is_refused_by_field,
    a_nodes_prefixes_are_set_once,
    the_status_has_a_door_of_its_own,
    what_a_node_owned_goes_with_it,
];

fn objects_are_made_read_changed_and_removed() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    assert_eq!(
        client.get(NodeNetworks, &named("a")).refused(404),
        "NotFound"
    );
    let made = client.create(NodeNetworks, &network("a", "net")).ok();
    assert_eq!(made["metadata"]["generation"], 1);
    assert!(
        made["metadata"]["uid"]
            .as_str()
            .is_some_and(|uid| uid.len() == 36)
    );
    assert!(
        made["metadata"]["creationTimestamp"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );
    assert_eq!(client.get(NodeNetworks, &named("a")).ok(), made);
    let again = client.create(NodeNetworks, &network("a", "net"));
    assert_eq!(again.refused(409), "AlreadyExists");
    let mut newer = made.clone();
    newer["spec"]["mtu"] = 1500.into();
    let newer = client.update(NodeNetworks, &newer).ok();
    assert_eq!(newer["metadata"]["generation"], 2);
    assert_ne!(revision(&newer), revision(&made));
    let mut stale = made.clone();
    stale["spec"]["mtu"] = 1400.into();
    assert_eq!(client.update(NodeNetworks, &stale).refused(409), "Conflict");
    stale["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("resourceVersion");
    let blind = client.update(NodeNetworks, &stale);
    assert_eq!(blind.refused(422), "Invalid");
    assert_eq!(
        causes(&blind.body),
        [("metadata.resourceVersion", "FieldValueInvalid")]
    );
    let same = client
        .merge(
            NodeNetworks,
            &named("a"),
            &json!({ "spec": { "mtu": 1500 } }),
        )
        .ok();
    assert_eq!(revision(&same), revision(&newer), "nothing has changed");
    let labelled = json!({ "metadata": { "labels": { "x": "y" } } });
    let labelled = client.merge(NodeNetworks, &named("a"), &labelled).ok();
    assert_eq!(
        labelled["metadata"]["generation"], 2,
        "a label is no change of spec"
    );
    let wrong =
        json!({ "metadata": { "resourceVersion": revision(&made) }, "spec": { "mtu": 1300 } });
    assert_eq!(
        client.merge(NodeNetworks, &named("a"), &wrong).refused(409),
        "Conflict"
    );
    let gone = json!({ "spec": { "mtu": null } });
    let gone = client.merge(NodeNetworks, &named("a"), &gone).ok();
    assert!(gone["spec"].get("mtu").is_none());
    let status = client.delete(NodeNetworks, &named("a")).ok();
    assert_eq!(
        (&status["kind"], &status["status"]),
        (&json!("Status"), &json!("Success"))
    );
    assert_eq!(status["details"]["uid"], made["metadata"]["uid"]);
    assert_eq!(
        client.delete(NodeNetworks, &named("a")).refused(404),
        "NotFound"
    );
    assert_eq!(
        client.merge(NodeNetworks, &named("a"), &wrong).refused(404),
        "NotFound"
    );
}

fn what_the_schema_forbids_is_refused_by_field() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    for (change, field, reason) in [
        (
            json!({ "network": null }),
            "spec.network",
            "FieldValueRequired",
        ),
        (
            json!({ "podCIDRs": "10.244.1.0/24" }),
            "spec.podCIDRs",
            "FieldValueTypeInvalid",
        ),
        (
            json!({ "podCIDRs": [] }),
            "spec.podCIDRs",
            "FieldValueInvalid",
        ),
        (
            json!({ "podCIDRs": vec!["10.244.1.0/24"; 9] }),
            "spec.podCIDRs",
            "FieldValueTooMany",
        ),
        (
            json!({ "podCIDRs": ["10.244.1.0"] }),
            "spec.podCIDRs[0]",
            "FieldValueInvalid",
        ),
        (
            json!({ "podCIDRs": ["10.244.1.0/99"] }),
            "spec.podCIDRs[0]",
            "FieldValueTypeInvalid",
        ),
        (
            json!({ "addresses": ["nowhere"] }),
            "spec.addresses[0]",
            "FieldValueInvalid",
        ),
        (
            json!({ "addresses": ["1.2.3"] }),
            "spec.addresses[0]",
            "FieldValueTypeInvalid",
        ),
        (
            json!({ "addresses": ["192.0.2.1", "192.0.2.2"] }),
            "spec.addresses",
            "FieldValueInvalid",
        ),
        (
            json!({ "mtu": "1500" }),
            "spec.mtu",
            "FieldValueTypeInvalid",
        ),
        (json!({ "mtu": 10 }), "spec.mtu", "FieldValueInvalid"),
        (json!({ "mtu": 100_000 }), "spec.mtu", "FieldValueInvalid"),
        (
            json!({ "network": "x".repeat(64) }),
            "spec.network",
            "FieldValueTooLong",
        ),
        (
            json!({ "backend": {} }),
            "spec.backend.type",
            "FieldValueRequired",
        ),
        (
            json!({ "backend": { "type": "udp" } }),
            "spec.backend.type",
            "FieldValueNotSupported",
        ),
    ] {
        let mut object = network("bad", "net");
        for (key, value) in change.as_object().expect("keys") {
            match value {
                Value::Null => drop(object["spec"].as_object_mut().expect("spec").remove(key)),
                value => object["spec"][key] = value.clone(),
            }
        }
        let answer = client.create(NodeNetworks, &object);
        assert_eq!(answer.refused(422), "Invalid", "{change}");
        let found = causes(&answer.body);
        assert!(
            found.contains(&(field, reason)),
            "{change}: {found:?} {}",
            answer.text
        );
    }
    let mut object = network("bad", "net");
    object["spec"]["unknown"] = 1.into();
    let made = client.create(NodeNetworks, &object).ok();
    assert!(
        made["spec"].get("unknown").is_none(),
        "what is not known is not kept"
    );
    for name in ["Upper", "under_score", "-x"] {
        let object = network(name, "net");
        let answer = client.create(NodeNetworks, &object);
        // The prefix makes the last one good.
        assert_eq!(
            answer.code,
            if name == "-x" { 201 } else { 422 },
            "{}",
            answer.text
        );
    }
    let other = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": named("x") } });
    assert_eq!(
        client.create(NodeNetworks, &other).refused(400),
        "BadRequest"
    );
    let mut broken = network("broken", "net");
    broken["metadata"]["resourceVersion"] = "1".into();
    assert!(client.create(NodeNetworks, &broken).code >= 400);
}

fn a_nodes_prefixes_are_set_once() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    let made = server.add_node(&named("n"), &[]);
    assert!(made["spec"].get("podCIDRs").is_none(), "{made}");
    let prefixes = |all: Value| json!({ "spec": { "podCIDRs": all } });
    let two = prefixes(json!(["10.244.1.0/24", "10.244.2.0/24"]));
    assert_eq!(
        client.merge(Nodes, &named("n"), &two).refused(422),
        "Invalid"
    );
    let junk = prefixes(json!(["10.244.1.0"]));
    assert_eq!(
        client.merge(Nodes, &named("n"), &junk).refused(422),
        "Invalid"
    );
    let good = prefixes(json!(["10.244.1.0/24", "fd00:244:1::/64"]));
    let made = client.merge(Nodes, &named("n"), &good).ok();
    assert_eq!(made["spec"]["podCIDR"], "10.244.1.0/24");
    let other = json!({ "spec": { "podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"] } });
    assert_eq!(
        client.merge(Nodes, &named("n"), &other).refused(422),
        "Invalid"
    );
    // The status changes nothing of it.
    let both =
        json!({ "metadata": { "annotations": { "a": "b" } }, "spec": { "unschedulable": true } });
    let made = client
        .merge(Nodes, &format!("{}/status", named("n")), &both)
        .ok();
    assert!(made["spec"].get("unschedulable").is_none(), "{made}");
    assert_eq!(
        made["metadata"]["annotations"]["a"], "b",
        "a Node's status changes annotations too"
    );
    let taken = server.add_node(&named("m"), &["10.244.9.0/24"]);
    assert_eq!(taken["spec"]["podCIDR"], "10.244.9.0/24");
}

fn the_status_has_a_door_of_its_own() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    let mut object = network("s", "net");
    object["status"] = json!({ "agentVersion": "1" });
    let made = client.create(NodeNetworks, &object).ok();
    assert!(made.get("status").is_none(), "{made}");
    let patch = json!({ "metadata": { "labels": { "x": "y" } }, "spec": { "mtu": 1400 }, "status": { "agentVersion": "2" } });
    let main = client.merge(NodeNetworks, &named("s"), &patch).ok();
    assert!(
        main.get("status").is_none() && main["spec"]["mtu"] == 1400,
        "{main}"
    );
    let patch = json!({ "metadata": { "labels": { "x": "z" } }, "spec": { "mtu": 1300 }, "status": { "agentVersion": "3" } });
    let status = client
        .merge(NodeNetworks, &format!("{}/status", named("s")), &patch)
        .ok();
    assert_eq!(status["status"]["agentVersion"], "3");
    assert_eq!(
        (&status["spec"]["mtu"], &status["metadata"]["labels"]["x"]),
        (&json!(1400), &json!("y"))
    );
    assert_eq!(
        status["metadata"]["generation"], 2,
        "the status is no change of spec"
    );
    let bad = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Maybe" }] } });
    let answer = client.merge(NodeNetworks, &format!("{}/status", named("s")), &bad);
    assert_eq!(answer.refused(422), "Invalid");
    let found = causes(&answer.body);
    assert!(
        found.contains(&("status.conditions[0].status", "FieldValueNotSupported")),
        "{found:?}"
    );
    assert!(
        found.contains(&("status.conditions[0].reason", "FieldValueRequired")),
        "{found:?}"
    );
    let twice = json!({ "status": { "conditions": [condition("Ready", "True"), condition("Ready", "False")] } });
    let answer = client.merge(NodeNetworks, &format!("{}/status", named("s")), &twice);
    assert_eq!(answer.refused(422), "Invalid");
    assert!(
        causes(&answer.body)
            .iter()
            .any(|(_, reason)| *reason == "FieldValueDuplicate"),
        "{}",
        answer.text
    );
}

fn what_a_node_owned_goes_with_it() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    let made = server.add_node(&named("owner"), &[]);
    let mut object = network("owner", "net");
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": named("owner"), "uid": made["metadata"]["uid"],
    }]);
    let applied = client
        .apply(NodeNetworks, &named("owner"), "cni-fabric", true, &object)
        .ok();
    let uid = made["metadata"]["uid"].as_str().expect("a uid");
    let path = format!("/f:metadata/f:ownerReferences/k:{{\"uid\":\"{uid}\"}}");
    assert!(
        owned(&applied, "cni-fabric").contains(&path),
        "{:?}",
        owned(&applied, "cni-fabric")
    );
    server.remove_node(&named("owner"));
    assert_eq!(
        client.get(NodeNetworks, &named("owner")).refused(404),
        "NotFound"
    );
}
