//! The object's schema: it has every field, and takes and refuses values as the documentation says.

use std::collections::BTreeSet;

use regex_lite::Regex;
use serde_json::{Value, json};

use crate::document;

fn definition() -> Value {
    document("base/crd.yaml")
}

fn version() -> Value {
    let versions = definition()["spec"]["versions"].clone();
    assert_eq!(versions.as_array().unwrap().len(), 1);
    versions[0].clone()
}

fn schema() -> Value {
    version()["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn names_are_those_that_agents_and_people_use() {
    let definition = definition();
    let spec = &definition["spec"];
    assert_eq!(spec["group"], "cni-fabric.internal");
    assert_eq!(spec["scope"], "Cluster");
    let names = &spec["names"];
    assert_eq!(names["kind"], "NodeNetwork");
    assert_eq!(names["shortNames"], json!(["nnet"]));
    assert_eq!(names["categories"], json!(["cni"]));
    let name = format!(
        "{}.{}",
        names["plural"].as_str().unwrap(),
        spec["group"].as_str().unwrap()
    );
    assert_eq!(definition["metadata"]["name"], name.as_str());
    let version = version();
    assert_eq!(version["name"], "v1alpha1");
    assert_eq!(version["subresources"], json!({ "status": {} }));
    let columns = version["additionalPrinterColumns"].as_array().unwrap();
    let usual = columns
        .iter()
        .filter(|column| column.get("priority").is_none());
    let usual: Vec<&str> = usual
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        usual,
        [
            "Network",
            "PodCIDRs",
            "Addresses",
            "Backend",
            "Ready",
            "Age"
        ]
    );
}

/// Every property, as `spec.backend.vni`; `[]` is an item.
fn paths(schema: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        paths(property, &format!("{path}."), found);
        if let Some(items) = property.get("items") {
            paths(items, &format!("{path}[]."), found);
        }
        found.insert(path);
    }
}

#[test]
fn the_schema_has_exactly_the_fields_and_each_is_bounded() {
    let mut found = BTreeSet::new();
    paths(&schema(), "", &mut found);
    let wanted = "apiVersion kind metadata spec status spec.network spec.nodeUID spec.podCIDRs spec.addresses spec.backend \
                  spec.backend.type spec.backend.vni spec.backend.port spec.backend.dataPaths spec.backend.vtepMAC spec.mtu \
                  status.agentVersion status.conditions status.conditions[].type status.conditions[].status \
                  status.conditions[].observedGeneration status.conditions[].lastTransitionTime \
                  status.conditions[].reason status.conditions[].message";
    let wanted: BTreeSet<String> = wanted.split_whitespace().map(str::to_owned).collect();
    assert_eq!(found, wanted);
    let bounded = |schema: &Value| match schema["type"].as_str().unwrap() {
        "string" => ["maxLength", "enum", "format"]
            .iter()
            .any(|key| schema.get(key).is_some()),
        "integer" => schema.get("minimum").is_some(),
        "array" => schema.get("maxItems").is_some(),
        _ => true,
    };
    for part in ["spec", "status"] {
        each(&schema()["properties"][part], &mut |schema| {
            assert!(bounded(schema), "{schema}")
        });
    }
}

fn each(schema: &Value, visit: &mut dyn FnMut(&Value)) {
    visit(schema);
    for property in schema["properties"].as_object().into_iter().flatten() {
        each(property.1, visit);
    }
    if let Some(items) = schema.get("items") {
        each(items, visit);
    }
}

/// Whether a value fits, by the rules that need no server: types, required fields, bounds, words and patterns. A server checks formats
/// and expressions beside.
fn fits(schema: &Value, value: &Value) -> bool {
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    let within = |count: u64, min: &str, max: &str| {
        bound(min).is_none_or(|min| count >= min) && bound(max).is_none_or(|max| count <= max)
    };
    let known = |word: &Value| {
        schema["enum"]
            .as_array()
            .is_none_or(|words| words.contains(word))
    };
    match (schema["type"].as_str().unwrap(), value) {
        ("object", Value::Object(members)) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let has_all = required
                .into_iter()
                .all(|key| members.contains_key(key.as_str().unwrap()));
            let properties = &schema["properties"];
            has_all
                && members
                    .iter()
                    .all(|(key, value)| match properties.get(key) {
                        Some(property) => fits(property, value),
                        None => properties.is_null(),
                    })
        }
        ("array", Value::Array(items)) => {
            within(items.len() as u64, "minItems", "maxItems")
                && items.iter().all(|item| fits(&schema["items"], item))
        }
        ("string", Value::String(text)) => {
            let pattern = schema["pattern"].as_str();
            let matches = |pattern| Regex::new(pattern).expect("a pattern").is_match(text);
            within(text.len() as u64, "minLength", "maxLength")
                && known(value)
                && pattern.is_none_or(matches)
        }
        ("integer", Value::Number(number)) => number
            .as_u64()
            .is_some_and(|number| within(number, "minimum", "maximum")),
        _ => false,
    }
}

fn object() -> Value {
    json!({
        "apiVersion": "cni-fabric.internal/v1alpha1",
        "kind": "NodeNetwork",
        "metadata": { "name": "n1", "labels": { "cni-fabric.internal/network": "pods" } },
        "spec": {
            "network": "pods",
            "nodeUID": "5f1c8a52-8d3c-4d2c-9e3c-0a1b2c3d4e5f",
            "podCIDRs": ["10.244.1.0/24", "fd00:244:0:1::/64"],
            "addresses": ["192.0.2.1", "2001:db8::1"],
            "backend": {
                "type": "vxlan",
                "vni": 1,
                "port": 8472,
                "dataPaths": ["classic", "flow"],
                "vtepMAC": "02:00:00:00:00:01"
            },
            "mtu": 1500
        },
        "status": {
            "agentVersion": "0.1.0",
            "conditions": [{
                "type": "Ready",
                "status": "True",
                "reason": "Connected",
                "message": "connected, 2 of 2 peers reachable",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-02T03:04:05Z"
            }]
        }
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut object = object();
    *object.pointer_mut(pointer).expect("a field") = value;
    object
}

#[test]
fn the_schema_takes_what_agents_write() {
    let schema = schema();
    assert!(fits(&schema, &object()));
    let backend = json!({ "type": "host-gw" });
    assert!(fits(&schema, &with("/spec/backend", backend)));
    for (parent, key) in [
        ("/spec", "mtu"),
        ("/spec/backend", "vni"),
        ("/spec/backend", "vtepMAC"),
    ] {
        let mut object = object();
        let parent = object.pointer_mut(parent).expect("a field");
        parent
            .as_object_mut()
            .expect("an object")
            .remove(key)
            .expect("a field");
        assert!(fits(&schema, &object), "{key}");
    }
}

#[test]
fn the_schema_refuses_what_makes_no_sense() {
    let schema = schema();
    for (pointer, value) in [
        ("/spec", json!({})),
        ("/spec/network", json!("")),
        ("/spec/network", json!("a b")),
        ("/spec/network", json!("a".repeat(64))),
        ("/spec/nodeUID", json!("a/b")),
        ("/spec/podCIDRs", json!([])),
        ("/spec/podCIDRs", json!(vec!["10.0.0.0/24"; 9])),
        ("/spec/podCIDRs", json!(["10.0.0.0"])),
        ("/spec/podCIDRs", json!(["any/24"])),
        ("/spec/addresses", json!([])),
        (
            "/spec/addresses",
            json!(["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ),
        ("/spec/addresses", json!(["node.example"])),
        ("/spec/backend", json!({})),
        ("/spec/backend/type", json!("udp")),
        ("/spec/backend/vni", json!(0)),
        ("/spec/backend/vni", json!(1 << 24)),
        ("/spec/backend/port", json!(65_536)),
        ("/spec/backend/dataPaths", json!(["fast"])),
        ("/spec/backend/vtepMAC", json!("01:00:5e:00:00:01")),
        ("/spec/backend/vtepMAC", json!("2:0:0:0:0:1")),
        ("/spec/mtu", json!(1279)),
        ("/spec/mtu", json!("1500")),
        ("/status/conditions/0/status", json!("true")),
        ("/status/conditions/0/reason", json!("two words")),
    ] {
        assert!(
            !fits(&schema, &with(pointer, value.clone())),
            "{pointer}: {value}"
        );
    }
}
