//! Which fields an object has, and who owns them: what server-side apply reckons with.
//!
//! A field is a path in the notation of `fieldsV1`: `f:name` for a key, `k:{"type":"Ready"}` for an item of a list that is a
//! map, `v:"10.244.0.0/24"` for a member of a list that is a set, and `.` for such an item as a whole.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// A field's path; see the [module](self).
pub(super) type Path = Vec<String>;
/// Some fields.
pub(super) type Fields = BTreeSet<Path>;

/// How the items of a list are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListKind {
    /// Not at all: the list is one value.
    Atomic,
    /// By their values.
    Set,
    /// By the value of a key.
    Map {
        /// The key.
        key: &'static str,
        /// The item is one value.
        whole: bool,
    },
}

/// What tells of a list, by the names on the way to it, what it is.
pub(super) type ListKinds<'a> = &'a dyn Fn(&[&str]) -> ListKind;

/// What the server itself says about an object, which nobody owns.
const SYSTEM: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "selfLink",
    "managedFields",
];

/// All fields of an object.
pub(super) fn of(object: &Value, kinds: ListKinds<'_>) -> Fields {
    let mut all = Fields::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if !SYSTEM.contains(&key.as_str()) {
                        collect(&path_of(&["metadata", key]), value, kinds, &mut all);
                    }
                }
            }
            _ => collect(&path_of(&[key]), value, kinds, &mut all),
        }
    }
    all
}

fn path_of(names: &[&str]) -> Path {
    names.iter().map(|name| format!("f:{name}")).collect()
}

/// The names of keys on a path, without what tells items apart.
fn names(path: &[String]) -> Vec<&str> {
    let names = path.iter().filter_map(|element| element.strip_prefix("f:"));
    names.collect()
}

fn with(path: &[String], element: String) -> Path {
    let mut path = path.to_vec();
    path.push(element);
    path
}

fn collect(path: &Path, value: &Value, kinds: ListKinds<'_>, all: &mut Fields) {
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                collect(&with(path, format!("f:{key}")), value, kinds, all);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let kind = kinds(&names(path));
            for item in items {
                let Some(element) = element(kind, item) else {
                    all.insert(path.clone());
                    continue;
                };
                let path = with(path, element);
                match (kind, item) {
                    (ListKind::Map { whole: false, .. }, Value::Object(map)) => {
                        all.insert(with(&path, ".".to_owned()));
                        for (key, value) in map {
                            collect(&with(&path, format!("f:{key}")), value, kinds, all);
                        }
                    }
                    _ => {
                        all.insert(path);
                    }
                }
            }
        }
        _ => {
            all.insert(path.clone());
        }
    }
}

/// What tells an item from the others of its list.
fn element(kind: ListKind, item: &Value) -> Option<String> {
    match kind {
        ListKind::Atomic => None,
        ListKind::Set => Some(format!("v:{item}")),
        ListKind::Map { key, .. } => {
            let mut names = Map::new();
            names.insert(key.to_owned(), item.get(key).cloned().unwrap_or_default());
            Some(format!("k:{}", Value::Object(names)))
        }
    }
}

fn is_item(item: &Value, element: &str) -> bool {
    if let Some(value) = element.strip_prefix("v:") {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item);
    }
    let names = element.strip_prefix("k:").unwrap_or_default();
    let names: Map<String, Value> = serde_json::from_str(names).unwrap_or_default();
    !names.is_empty()
        && names
            .iter()
            .all(|(key, value)| item.get(key) == Some(value))
}

/// The value of a field.
pub(super) fn get<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut value = object;
    for element in path {
        value = match element.strip_prefix("f:") {
            _ if element == "." => value,
            Some(name) => value.get(name)?,
            None => value
                .as_array()?
                .iter()
                .find(|item| is_item(item, element))?,
        };
    }
    Some(value)
}

/// Takes a field away, and what is empty without it.
pub(super) fn remove(object: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let last = rest.is_empty() || rest == ["."];
    match (first.strip_prefix("f:"), object) {
        (Some(name), Value::Object(map)) => {
            if !last && let Some(inner) = map.get_mut(name) {
                remove(inner, rest);
            }
            if last || map.get(name).is_some_and(is_empty) {
                map.remove(name);
            }
        }
        (None, Value::Array(items)) => {
            let position = items.iter().position(|item| is_item(item, first));
            if let Some(position) = position {
                match last {
                    true => drop(items.remove(position)),
                    false => remove(&mut items[position], rest),
                }
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Puts one object over another, as server-side apply does.
pub(super) fn merge(under: &mut Value, over: &Value, kinds: ListKinds<'_>) {
    merge_at(&mut Path::new(), under, over, kinds);
}

fn merge_at(path: &mut Path, under: &mut Value, over: &Value, kinds: ListKinds<'_>) {
    match (&mut *under, over) {
        (_, Value::Null) => {}
        (Value::Object(map), Value::Object(over)) => {
            for (key, value) in over {
                if !value.is_null() {
                    path.push(format!("f:{key}"));
                    merge_at(path, map.entry(key).or_insert(Value::Null), value, kinds);
                    path.pop();
                }
            }
        }
        (Value::Array(items), Value::Array(over)) => {
            let kind = kinds(&names(path));
            if kind == ListKind::Atomic {
                *items = over.clone();
                return;
            }
            for item in over {
                let element = element(kind, item).unwrap_or_default();
                let found = items.iter_mut().find(|have| is_item(have, &element));
                match (kind, found) {
                    (_, None) => items.push(item.clone()),
                    (ListKind::Map { whole: false, .. }, Some(have)) => {
                        path.push(element);
                        merge_at(path, have, item, kinds);
                        path.pop();
                    }
                    (_, Some(have)) => *have = item.clone(),
                }
            }
        }
        (Value::Null, Value::Object(_)) => {
            *under = Value::Object(Map::new());
            merge_at(path, under, over, kinds);
        }
        _ => *under = over.clone(),
    }
}

/// As `fieldsV1` has it.
pub(super) fn to_json(fields: &Fields) -> Value {
    let mut all = Value::Object(Map::new());
    for path in fields {
        let mut at = &mut all;
        for element in path {
            let Value::Object(map) = at else { break };
            at = map
                .entry(element)
                .or_insert_with(|| Value::Object(Map::new()));
        }
    }
    all
}

/// A path as messages of the server have it: `.status.conditions[type="Ready"].message`.
pub(super) fn to_text(path: &[String]) -> String {
    let part = |element: &String| {
        if let Some(name) = element.strip_prefix("f:") {
            return format!(".{name}");
        }
        if let Some(value) = element.strip_prefix("v:") {
            return format!("[={value}]");
        }
        let names = element.strip_prefix("k:").unwrap_or_default();
        let names: Map<String, Value> = serde_json::from_str(names).unwrap_or_default();
        let names: Vec<String> = names
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        match names.is_empty() {
            true => String::new(),
            false => format!("[{}]", names.join(",")),
        }
    };
    path.iter().map(part).collect()
}
