//! What the definition of `NodeNetwork` says about its objects.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use regex_lite::Regex;
use serde_json::{Map, Value};

use super::fields::ListKind;
use super::status::Refusal;
use super::yaml;

/// The manifest that an operator applies.
pub(super) const MANIFEST: &str =
    include_str!("../../../../examples/node-agent/deploy/base/crd.yaml");

/// Its name.
pub(super) const NAME: &str = "nodenetworks.cni-fabric.internal";

/// Where a server has it.
pub(super) const PATH: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/nodenetworks.cni-fabric.internal";

/// The manifest as JSON.
pub(super) fn manifest() -> Value {
    yaml::documents(MANIFEST).swap_remove(0)
}

/// Field, reason, message.
type Cause = (String, &'static str, String);

/// The schema of the manifest.
#[derive(Debug)]
pub(super) struct Schema {
    root: Value,
}

impl Schema {
    /// The one of the manifest.
    pub(super) fn get() -> &'static Self {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        SCHEMA.get_or_init(|| {
            let manifest = manifest();
            let root = &manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            assert!(root["properties"]["spec"].is_object(), "a schema: {root}");
            Self { root: root.clone() }
        })
    }

    /// What a list is.
    pub(super) fn list_kind(&self, names: &[&str]) -> ListKind {
        let Some(schema) = Self::get().at(names) else {
            return ListKind::Atomic;
        };
        match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => ListKind::Set,
            Some("map") => {
                let keys = &schema["x-kubernetes-list-map-keys"];
                let key = keys[0].as_str().expect("a list map has a key");
                ListKind::Map { key, whole: false }
            }
            _ => ListKind::Atomic,
        }
    }

    fn at(&self, names: &[&str]) -> Option<&Value> {
        let mut schema = &self.root;
        for name in names {
            if let Some(items) = schema.get("items") {
                schema = items;
            }
            schema = schema.get("properties")?.get(*name)?;
        }
        Some(schema)
    }

    /// Takes away what the schema does not know, as a server does that is not asked to be strict.
    pub(super) fn prune(&self, object: &mut Value) {
        prune(&self.root, object, true);
    }

    /// Whether the object is as the schema wants it.
    pub(super) fn validate(&self, name: &str, object: &Value) -> Result<(), Refusal> {
        let mut causes = Vec::new();
        for part in ["spec", "status"] {
            let required = self.root["required"].as_array();
            let required = required.is_some_and(|all| all.iter().any(|one| one == part));
            match (object.get(part), self.at(&[part])) {
                (None, _) if required => causes.push(missing(part)),
                (Some(value), Some(schema)) => check(part, schema, value, &mut causes),
                _ => {}
            }
        }
        match causes.is_empty() {
            true => Ok(()),
            false => Err(Refusal::invalid(
                "NodeNetwork.cni-fabric.internal",
                name,
                &causes,
            )),
        }
    }
}

fn prune(schema: &Value, value: &mut Value, root: bool) {
    match value {
        Value::Object(map) => {
            let Some(properties) = schema["properties"].as_object() else {
                return;
            };
            map.retain(|key, _| properties.contains_key(key));
            for (key, value) in map {
                if !(root && key == "metadata") {
                    prune(&properties[key], value, false);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                prune(&schema["items"], item, false);
            }
        }
        _ => {}
    }
}

fn missing(field: &str) -> Cause {
    (
        field.to_owned(),
        "FieldValueRequired",
        "Required value".to_owned(),
    )
}

fn invalid(field: &str, value: &Value, why: &str) -> Cause {
    let message = format!("Invalid value: {value}: {field} in body {why}");
    (field.to_owned(), "FieldValueInvalid", message)
}

fn check(field: &str, schema: &Value, value: &Value, causes: &mut Vec<Cause>) {
    let wanted = schema["type"].as_str().unwrap_or_default();
    let (fits, found) = match value {
        Value::Null => (false, "null"),
        Value::Bool(_) => (wanted == "boolean", "boolean"),
        Value::Number(number) if number.is_i64() => {
            (wanted == "integer" || wanted == "number", "integer")
        }
        Value::Number(_) => (wanted == "number", "number"),
        Value::String(_) => (wanted == "string", "string"),
        Value::Array(_) => (wanted == "array", "array"),
        Value::Object(_) => (wanted == "object", "object"),
    };
    if !fits && !wanted.is_empty() {
        let why = format!("must be of type {wanted}: {found:?}");
        let shown = Value::String(found.to_owned());
        let (field, _, message) = invalid(field, &shown, &why);
        causes.push((field, "FieldValueTypeInvalid", message));
        return;
    }
    if let Some(all) = schema["enum"].as_array()
        && !all.contains(value)
    {
        let all: Vec<String> = all.iter().map(Value::to_string).collect();
        let message = format!(
            "Unsupported value: {value}: supported values: {}",
            all.join(", ")
        );
        causes.push((field.to_owned(), "FieldValueNotSupported", message));
    }
    match value {
        Value::String(text) => check_text(field, schema, text, causes),
        Value::Number(_) => check_number(field, schema, value, causes),
        Value::Array(items) => check_list(field, schema, items, causes),
        Value::Object(map) => check_object(field, schema, map, causes),
        _ => {}
    }
}

fn limit(schema: &Value, name: &str) -> Option<usize> {
    usize::try_from(schema[name].as_u64()?).ok()
}

fn check_text(field: &str, schema: &Value, text: &str, causes: &mut Vec<Cause>) {
    let value = Value::String(text.to_owned());
    let length = text.chars().count();
    if let Some(most) = limit(schema, "maxLength").filter(|most| length > *most) {
        let message = format!("Too long: may not be more than {most} bytes");
        causes.push((field.to_owned(), "FieldValueTooLong", message));
    }
    if let Some(least) = limit(schema, "minLength").filter(|least| length < *least) {
        let why = format!("should be at least {least} chars long");
        causes.push(invalid(field, &value, &why));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        let matcher = Regex::new(pattern).expect("a pattern of the manifest");
        if !matcher.is_match(text) {
            let why = format!("should match '{pattern}'");
            causes.push(invalid(field, &value, &why));
        }
    }
    if let Some(format) = schema["format"].as_str()
        && !is_formatted(format, text)
    {
        let why = format!("must be of type {format}: {value}");
        let (field, _, message) = invalid(field, &value, &why);
        causes.push((field, "FieldValueTypeInvalid", message));
    }
    // Of an alternative between formats one has to fit.
    let formats: Vec<&str> = schema["anyOf"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let known = one.as_object().is_some_and(|one| one.len() == 1);
            one["format"]
                .as_str()
                .filter(|_| known)
                .expect("an alternative that is known here")
        })
        .collect();
    if !formats.is_empty() && !formats.iter().any(|format| is_formatted(format, text)) {
        // A real server does not say where, and then says more of the first alternative.
        let message =
            format!("Invalid value: \"\": {field:?} must validate at least one schema (anyOf)");
        causes.push(("<nil>".to_owned(), "FieldValueInvalid", message));
        let why = format!("must be of type {}: {value}", formats[0]);
        let (field, _, message) = invalid(field, &value, &why);
        causes.push((field, "FieldValueTypeInvalid", message));
    }
}

fn is_formatted(format: &str, text: &str) -> bool {
    match format {
        "date-time" => {
            let shape = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$";
            Regex::new(shape).expect("a pattern").is_match(text)
        }
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, length)| {
            let most = if address.contains(':') { 128 } else { 32 };
            address.parse::<IpAddr>().is_ok()
                && length.parse::<u8>().is_ok_and(|length| length <= most)
        }),
        _ => panic!("a format that is not known here: {format}"),
    }
}

/// The rules in CEL that the manifest has, each by its text.
fn check_rules(field: &str, schema: &Value, value: &Value, causes: &mut Vec<Cause>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let holds = match rule["rule"].as_str() {
            Some(r#"size(self) < 2 || self.exists_one(address, address.contains(":"))"#) => {
                let v6 = |item: &&Value| item.as_str().is_some_and(|text| text.contains(':'));
                items.len() < 2 || items.iter().filter(v6).count() == 1
            }
            other => panic!("a rule that is not known here: {other:?}"),
        };
        if !holds {
            let message = rule["message"].as_str().unwrap_or_default();
            let message = format!("Invalid value: {message}");
            causes.push((field.to_owned(), "FieldValueInvalid", message));
        }
    }
}

fn check_number(field: &str, schema: &Value, value: &Value, causes: &mut Vec<Cause>) {
    let number = value.as_f64().unwrap_or_default();
    if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
        let why = format!("should be greater than or equal to {least}");
        causes.push(invalid(field, value, &why));
    }
    if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
        let why = format!("should be less than or equal to {most}");
        causes.push(invalid(field, value, &why));
    }
}

fn check_list(field: &str, schema: &Value, items: &[Value], causes: &mut Vec<Cause>) {
    let count = items.len();
    if let Some(most) = limit(schema, "maxItems").filter(|most| count > *most) {
        let message = format!("Too many: {count}: must have at most {most} items");
        causes.push((field.to_owned(), "FieldValueTooMany", message));
    }
    if let Some(least) = limit(schema, "minItems").filter(|least| count < *least) {
        let why = format!("should have at least {least} items");
        let shown = Value::Array(items.to_vec());
        causes.push(invalid(field, &shown, &why));
    }
    let key = schema["x-kubernetes-list-map-keys"][0].as_str();
    let listed = schema["x-kubernetes-list-type"].as_str();
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let own = match (listed, key) {
            (Some("set"), _) => Some(item.to_string()),
            (Some("map"), Some(key)) => Some(format!("{{{key:?}:{}}}", item[key])),
            _ => None,
        };
        if let Some(own) = own
            && !seen.insert(own.clone())
        {
            let message = format!("Duplicate value: {own}");
            causes.push((field.clone(), "FieldValueDuplicate", message));
        }
        check(&field, &schema["items"], item, causes);
    }
    // Rules are asked only about what is well-formed.
    if causes.is_empty() {
        check_rules(field, schema, &Value::Array(items.to_vec()), causes);
    }
}

fn check_object(field: &str, schema: &Value, map: &Map<String, Value>, causes: &mut Vec<Cause>) {
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if !map.contains_key(name) {
            causes.push(missing(&format!("{field}.{name}")));
        }
    }
    for (name, value) in map {
        if let Some(schema) = schema["properties"].get(name) {
            check(&format!("{field}.{name}"), schema, value, causes);
        }
    }
}
