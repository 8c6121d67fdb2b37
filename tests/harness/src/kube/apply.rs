//! Server-side apply.

use std::sync::Arc;

use serde_json::Value;

use super::fields::{self, Fields};
use super::resource::Resource;
use super::schema::Schema;
use super::status::Refusal;
use super::store::{Manager, Object, State, now};
use super::write::{Target, check_identity, same, store, take};

type Result<T> = std::result::Result<T, Refusal>;

/// Server-side apply; whether the object is new.
pub(super) fn apply(
    state: &mut State,
    target: &Target<'_>,
    old: Option<Arc<Object>>,
    body: &Value,
    force: bool,
) -> Result<(Arc<Object>, bool)> {
    if target.status && old.is_none() {
        return Err(target.not_found());
    }
    if let Some(old) = &old {
        check_identity(target, old, body)?;
    } else if !body["metadata"]["uid"].is_null() {
        let why =
            "uid mismatch: the provided object specified a uid, and no existing object was found";
        return Err(target.conflict(why));
    }
    let before = match &old {
        Some(old) => (**old).clone(),
        None => Object::fresh(target.resource, target.name),
    };
    let kinds = target.kinds();
    let mut applied = serde_json::json!({});
    // What the request cannot write is not owned by it either.
    let mut shown = body.clone();
    if target.resource == Resource::NodeNetworks {
        Schema::get().prune(&mut shown);
    }
    take(target, &mut applied, &shown, &serde_json::json!({}));
    let set = fields::of(&applied, &kinds);
    let mut object = before.clone();
    check_conflicts(target, &mut object, &set, &applied, force)?;
    fields::merge(&mut object.value, &applied, &kinds);
    for path in given_up(target, &before.managers, &set) {
        fields::remove(&mut object.value, &path);
    }
    let is_ours = |manager: &Manager| is_applier(manager, target);
    let previous = object.managers.iter().position(is_ours);
    let unchanged = same(&object.value, &before.value)
        && previous.map(|index| &object.managers[index].fields) == Some(&set)
        && object.managers.len() == before.managers.len();
    if let (true, Some(old)) = (unchanged, &old) {
        return Ok((Arc::clone(old), false));
    }
    let entry = Manager {
        name: target.manager.to_owned(),
        operation: "Apply",
        status: target.status,
        time: now(),
        fields: set,
    };
    match previous {
        Some(index) => object.managers[index] = entry,
        None => object.managers.push(entry),
    }
    let stored = store(state, target, old.as_ref(), object)?;
    Ok((stored, old.is_none()))
}

fn is_applier(manager: &Manager, target: &Target<'_>) -> bool {
    manager.operation == "Apply"
        && manager.name == target.manager
        && manager.status == target.status
}

/// Takes the fields from others if forced to, and else refuses if their values differ.
fn check_conflicts(
    target: &Target<'_>,
    object: &mut Object,
    set: &Fields,
    applied: &Value,
    force: bool,
) -> Result<()> {
    let differs = |path: &&Vec<String>| {
        let (live, wanted) = (fields::get(&object.value, path), fields::get(applied, path));
        path.last().is_some_and(|last| last != ".") && live != wanted
    };
    let differing: Vec<&Vec<String>> = set.iter().filter(differs).collect();
    let mut causes = Vec::new();
    for manager in &object.managers {
        if is_applier(manager, target) {
            continue;
        }
        for path in differing
            .iter()
            .filter(|path| manager.fields.contains(**path))
        {
            let text = fields::to_text(path);
            causes.push((manager.name.clone(), text, manager.operation));
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    if force {
        let differing: Fields = differing.into_iter().cloned().collect();
        for manager in &mut object.managers {
            if !is_applier(manager, target) {
                manager.fields.retain(|path| !differing.contains(path));
            }
        }
        object.managers.retain(|manager| !manager.fields.is_empty());
        return Ok(());
    }
    let by = |(name, field, operation): &(String, String, &str)| {
        let using = match *operation {
            "Update" => format!(" using {}", target.resource.api_version()),
            _ => String::new(),
        };
        (format!("conflict with {name:?}{using}"), field.clone())
    };
    let each: Vec<String> = causes
        .iter()
        .map(by)
        .map(|(with, field)| format!("{with}: {field}"))
        .collect();
    let message = match each.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {one}"),
        _ => format!(
            "Apply failed with {} conflicts: {}",
            each.len(),
            each.join("; ")
        ),
    };
    let mut refusal = Refusal::new(409, "Conflict", message);
    let causes = causes.iter().map(by).map(|(message, field)| {
        serde_json::json!({ "reason": "FieldManagerConflict", "message": message, "field": field })
    });
    refusal.details = serde_json::json!({ "causes": causes.collect::<Vec<_>>() });
    Err(refusal)
}

/// What the manager has applied before, does not any more, and nobody else owns.
fn given_up(target: &Target<'_>, managers: &[Manager], set: &Fields) -> Vec<Vec<String>> {
    let (own, others): (Vec<_>, Vec<_>) = managers
        .iter()
        .partition(|manager| is_applier(manager, target));
    let previous = own.into_iter().flat_map(|manager| &manager.fields);
    let is_kept = |path: &[String]| {
        let item = path.strip_suffix(&[".".to_owned()]).unwrap_or(path);
        others.iter().any(|manager| {
            let mut owned = manager.fields.iter();
            owned.any(|owned| owned == path || (item.len() < path.len() && owned.starts_with(item)))
        })
    };
    previous
        .filter(|path| !set.contains(*path) && !is_kept(path))
        .cloned()
        .collect()
}
