//! Requests that write.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::apply;
use super::fields::{self, Fields, ListKind};
use super::node;
use super::resource::Resource;
use super::schema::Schema;
use super::status::Refusal;
use super::store::{Manager, Object, State, now};

type Result<T> = std::result::Result<T, Refusal>;

/// What a request writes to, and who writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) resource: Resource,
    pub(super) name: &'a str,
    /// The subresource.
    pub(super) status: bool,
    pub(super) manager: &'a str,
}

/// How a patch is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patch {
    /// RFC 7396.
    Merge,
    /// Merge, and lists that are maps by their keys.
    Strategic,
    /// Server-side apply; `true` is force.
    Apply(bool),
}

impl Target<'_> {
    pub(super) fn kinds(&self) -> impl Fn(&[&str]) -> ListKind + use<> {
        let resource = self.resource;
        move |names: &[&str]| resource.list_kind(names, Schema::get())
    }

    pub(super) fn conflict(&self, why: &str) -> Refusal {
        Refusal::conflict(&self.resource.qualified(), self.name, why)
    }

    pub(super) fn not_found(&self) -> Refusal {
        Refusal::not_found(&self.resource.qualified(), self.name)
    }
}

/// POST.
pub(super) fn create(state: &mut State, target: &Target<'_>, body: &Value) -> Result<Arc<Object>> {
    check_type(target.resource, body)?;
    if state.get(target.resource, target.name).is_some() {
        let qualified = target.resource.qualified();
        let message = format!("{qualified} {:?} already exists", target.name);
        let mut refusal = Refusal::new(409, "AlreadyExists", message);
        refusal.details = serde_json::json!({
            "name": target.name, "group": target.resource.group(), "kind": target.resource.plural(),
        });
        return Err(refusal);
    }
    let revision = &body["metadata"]["resourceVersion"];
    if revision
        .as_str()
        .is_some_and(|revision| !revision.is_empty())
    {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(Refusal::bad_request(message));
    }
    let empty = Object::fresh(target.resource, target.name);
    let mut object = empty.clone();
    take(target, &mut object.value, body, &empty.value);
    // A kubelet makes its Node with a status.
    if let (Resource::Nodes, Some(status)) = (target.resource, body.get("status")) {
        object.value["status"] = status.clone();
    }
    own_changes(target, &empty.value, &mut object);
    store(state, target, None, object)
}

/// PUT.
pub(super) fn update(state: &mut State, target: &Target<'_>, body: &Value) -> Result<Arc<Object>> {
    check_type(target.resource, body)?;
    let old = state.get(target.resource, target.name).cloned();
    let old = old.ok_or_else(|| target.not_found())?;
    if target.resource == Resource::NodeNetworks && body["metadata"]["resourceVersion"].is_null() {
        let field = "metadata.resourceVersion".to_owned();
        let why = "Invalid value: 0: must be specified for an update".to_owned();
        let kind = target.resource.qualified_kind();
        let causes = [(field, "FieldValueInvalid", why)];
        return Err(Refusal::invalid(&kind, target.name, &causes));
    }
    replace(state, target, &old, body)
}

/// PATCH; whether the object is new.
pub(super) fn patch(
    state: &mut State,
    target: &Target<'_>,
    how: Patch,
    body: &Value,
) -> Result<(Arc<Object>, bool)> {
    let old = state.get(target.resource, target.name).cloned();
    if let Patch::Apply(force) = how {
        check_type(target.resource, body)?;
        return apply::apply(state, target, old, body, force);
    }
    let old = old.ok_or_else(|| target.not_found())?;
    let mut fresh = old.value.clone();
    let kinds = target.kinds();
    // A merge patch replaces lists, a strategic one merges those that have keys.
    match how {
        Patch::Strategic => strategic(&mut fresh, body, &kinds),
        _ => merge_patch(&mut fresh, body),
    }
    replace(state, target, &old, &fresh).map(|object| (object, false))
}

/// DELETE.
pub(super) fn delete(state: &mut State, target: &Target<'_>, body: &Value) -> Result<Value> {
    let old = state.get(target.resource, target.name);
    let old = old.ok_or_else(|| target.not_found())?;
    let metadata = &old.value["metadata"];
    let uid = metadata["uid"].clone();
    for key in ["uid", "resourceVersion"] {
        let wanted = &body["preconditions"][key];
        if !wanted.is_null() && *wanted != metadata[key] {
            let shown = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let label = if key == "uid" {
                "UID"
            } else {
                "ResourceVersion"
            };
            let why = format!(
                "the {label} in the precondition ({}) does not match the {label} in record ({}). The object might have been \
                 deleted and then recreated",
                shown(wanted),
                shown(&metadata[key])
            );
            return Err(target.conflict(&why));
        }
    }
    state.remove(target.resource, target.name);
    state.collect_garbage();
    Ok(serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {
            "name": target.name, "group": target.resource.group(),
            "kind": target.resource.plural(), "uid": uid,
        },
    }))
}

fn replace(
    state: &mut State,
    target: &Target<'_>,
    old: &Arc<Object>,
    body: &Value,
) -> Result<Arc<Object>> {
    check_identity(target, old, body)?;
    let mut object = (**old).clone();
    take(target, &mut object.value, body, &old.value);
    if same(&object.value, &old.value) {
        return Ok(Arc::clone(old));
    }
    own_changes(target, &old.value, &mut object);
    store(state, target, Some(old), object)
}

fn check_type(resource: Resource, body: &Value) -> Result<()> {
    for (key, wanted) in [
        ("kind", resource.kind()),
        ("apiVersion", resource.api_version()),
    ] {
        if body[key] != wanted {
            let message = format!(
                "the {key} in the data ({}) does not match the expected {key} ({wanted})",
                body[key]
            );
            return Err(Refusal::bad_request(message));
        }
    }
    Ok(())
}

/// What the object says about which object at which revision it is has to be right where it is said.
pub(super) fn check_identity(target: &Target<'_>, old: &Object, body: &Value) -> Result<()> {
    let (given, metadata) = (&body["metadata"], &old.value["metadata"]);
    if given["name"]
        .as_str()
        .is_some_and(|name| name != target.name)
    {
        let message = format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            given["name"].as_str().unwrap_or_default(),
            target.name
        );
        return Err(Refusal::bad_request(message));
    }
    let uid = given["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && given["uid"] != metadata["uid"] {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            metadata["uid"].as_str().unwrap_or_default()
        );
        return Err(target.conflict(&why));
    }
    let revision = given["resourceVersion"].as_str().unwrap_or_default();
    if !revision.is_empty() && revision != old.revision() {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        return Err(target.conflict(why));
    }
    Ok(())
}

/// Puts what a request may write of `body` into `object`; the rest stays as it is in `old`.
pub(super) fn take(target: &Target<'_>, object: &mut Value, body: &Value, old: &Value) {
    let mut fresh = body.clone();
    if target.resource == Resource::NodeNetworks {
        Schema::get().prune(&mut fresh);
    }
    let Value::Object(fresh) = fresh else { return };
    let mut all = Map::new();
    for key in ["apiVersion", "kind"] {
        all.extend(old.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    let mut metadata = fresh.get("metadata").cloned().unwrap_or_default();
    // The status of a Node may change its labels and annotations too: Flannel writes them so.
    if target.status && target.resource == Resource::NodeNetworks {
        metadata = old.get("metadata").cloned().unwrap_or_default();
    }
    all.insert(
        "metadata".to_owned(),
        keep_identity(metadata, &old["metadata"]),
    );
    for (key, value) in fresh {
        let writes = (key == "status") == target.status;
        if writes && !["apiVersion", "kind", "metadata"].contains(&key.as_str()) {
            all.insert(key, value);
        }
    }
    for (key, value) in old.as_object().into_iter().flatten() {
        if (key == "status") != target.status
            && !["apiVersion", "kind", "metadata"].contains(&key.as_str())
        {
            all.insert(key.clone(), value.clone());
        }
    }
    *object = Value::Object(all);
}

/// What the server alone writes into `metadata`.
fn keep_identity(metadata: Value, old: &Value) -> Value {
    let Value::Object(mut metadata) = metadata else {
        return old.clone();
    };
    metadata.retain(|key, value| {
        let known = ["labels", "annotations", "ownerReferences", "finalizers"];
        known.contains(&key.as_str()) && !value.is_null()
    });
    metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    for key in [
        "name",
        "uid",
        "creationTimestamp",
        "generation",
        "resourceVersion",
        "managedFields",
    ] {
        if let Some(value) = old.get(key) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    Value::Object(metadata)
}

/// Whether nothing differs but what the server itself writes.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    one == other
}

/// Gives the manager what has changed, and takes it from the others.
fn own_changes(target: &Target<'_>, old: &Value, object: &mut Object) {
    let kinds = target.kinds();
    let (before, after) = (fields::of(old, &kinds), fields::of(&object.value, &kinds));
    let changed: Fields = after
        .iter()
        .filter(|path| fields::get(old, path) != fields::get(&object.value, path))
        .filter(|path| path.last().is_some_and(|last| last != ".") || !before.contains(*path))
        .cloned()
        .collect();
    for manager in &mut object.managers {
        let stays = |path: &Vec<String>| after.contains(path) && !changed.contains(path);
        manager.fields.retain(stays);
    }
    let is_ours = |manager: &&mut Manager| {
        manager.operation == "Update"
            && manager.name == target.manager
            && manager.status == target.status
    };
    if let Some(manager) = object.managers.iter_mut().find(is_ours) {
        manager.fields.extend(changed);
        manager.time = now();
        return;
    }
    object.managers.push(Manager {
        name: target.manager.to_owned(),
        operation: "Update",
        status: target.status,
        time: now(),
        fields: changed,
    });
}

pub(super) fn store(
    state: &mut State,
    target: &Target<'_>,
    old: Option<&Arc<Object>>,
    mut object: Object,
) -> Result<Arc<Object>> {
    check_name(target)?;
    match target.resource {
        Resource::NodeNetworks => Schema::get().validate(target.name, &object.value)?,
        Resource::Nodes => {
            node::validate(target.name, old.map(|old| &old.value), &mut object.value)?
        }
    }
    if let Some(old) = old
        && target.resource == Resource::NodeNetworks
        && old.value.get("spec") != object.value.get("spec")
    {
        let generation = old.value["metadata"]["generation"].as_u64();
        object.value["metadata"]["generation"] = (generation.unwrap_or_default() + 1).into();
    }
    let stored = state.put(target.resource, object);
    state.collect_garbage();
    Ok(stored)
}

fn check_name(target: &Target<'_>) -> Result<()> {
    let part = |part: &str| {
        let all = part.bytes();
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        !part.is_empty()
            && all.clone().all(|byte| inner(byte) || byte == b'-')
            && [all.clone().next(), all.clone().last()]
                .into_iter()
                .flatten()
                .all(inner)
    };
    if target.name.len() <= 253 && target.name.split('.').all(part) {
        return Ok(());
    }
    let why = format!(
        "Invalid value: {:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
         and must start and end with an alphanumeric character",
        target.name
    );
    let kind = target.resource.qualified_kind();
    let causes = [("metadata.name".to_owned(), "FieldValueInvalid", why)];
    Err(Refusal::invalid(&kind, target.name, &causes))
}

/// RFC 7396.
fn merge_patch(under: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *under = patch.clone();
        return;
    };
    if !under.is_object() {
        *under = Value::Object(Map::new());
    }
    let Value::Object(map) = under else { return };
    for (key, value) in patch {
        match value {
            Value::Null => drop(map.remove(key)),
            _ => merge_patch(map.entry(key).or_insert(Value::Null), value),
        }
    }
}

/// Of a strategic merge patch what Flannel and kubelets use: keyed lists are merged, `null` takes away.
fn strategic(under: &mut Value, patch: &Value, kinds: fields::ListKinds<'_>) {
    let mut plain = patch.clone();
    let conditions = plain["status"].as_object_mut();
    let conditions = conditions.and_then(|status| status.remove("conditions"));
    if plain["status"].is_null()
        && let Value::Object(map) = &mut plain
    {
        map.remove("status");
    }
    merge_patch(under, &plain);
    if let Some(conditions) = conditions {
        let over = serde_json::json!({ "status": { "conditions": conditions } });
        fields::merge(under, &over, kinds);
    }
}
