//! Lists.

use hyper::Response;
use serde_json::{Value, json};

use super::core::Core;
use super::query::Query;
use super::reply::{self, Reply};
use super::resource::Resource;
use super::status::Refusal;
use crate::base64;

/// A list, or a page of one.
pub(super) fn list(
    core: &Core,
    resource: Resource,
    query: &Query,
) -> Result<Response<Reply>, Refusal> {
    check_match(query, false)?;
    let selection = query.selection()?;
    let limit = query.number("limit")?.filter(|limit| *limit > 0);
    let asked = query.number("resourceVersion")?;
    let state = core.state();
    let (revision, start) = match query.text("continue") {
        Some(token) => {
            if asked.is_some_and(|asked| asked > 0) {
                let message = "specifying resource version is not allowed when using continue";
                return Err(Refusal::bad_request(message));
            }
            from_token(token)?
        }
        None => {
            let exact = query.text("resourceVersionMatch") == Some("Exact");
            // A limit and a revision without more ask for exactly that one.
            let paged = limit.is_some() && query.text("resourceVersionMatch").is_none();
            match asked {
                Some(asked) if asked > state.revision => {
                    return Err(too_large(asked, state.revision));
                }
                Some(asked) if asked > 0 && (exact || paged) => (asked, String::new()),
                _ => (state.revision, String::new()),
            }
        }
    };
    let Some(objects) = state.at(resource, revision) else {
        return Err(match query.text("continue") {
            Some(_) => Refusal::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
                 the continue parameter.",
            ),
            None => Refusal::expired(format!(
                "too old resource version: {revision} ({})",
                state.revision
            )),
        });
    };
    drop(state);
    let after = objects
        .range(start.clone()..)
        .filter(|(name, _)| **name != start);
    let mut fitting = after
        .filter(|(_, object)| selection.selects(&object.value))
        .peekable();
    // What is asked of the server's memory comes whole.
    let limit = limit.filter(|_| asked != Some(0) || query.text("continue").is_some());
    let most = limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    let mut items = Vec::new();
    let mut last = String::new();
    while items.len() < most
        && let Some((name, object)) = fitting.next()
    {
        let mut value = object.value.clone();
        if let (Resource::Nodes, Value::Object(map)) = (resource, &mut value) {
            map.remove("kind");
            map.remove("apiVersion");
        }
        items.push(value);
        last.clone_from(name);
    }
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    if fitting.peek().is_some() {
        metadata["continue"] = to_token(revision, &last).into();
        if selection.is_all() {
            metadata["remainingItemCount"] = fitting.count().into();
        }
    }
    let list = json!({
        "kind": format!("{}List", resource.kind()),
        "apiVersion": resource.api_version(),
        "metadata": metadata,
        "items": items,
    });
    Ok(reply::object(200, &list))
}

/// What may be said about the revision.
pub(super) fn check_match(query: &Query, watch: bool) -> Result<(), Refusal> {
    let refuse = |field: &str, why: &str| {
        let why = format!("Forbidden: {why}");
        let causes = [(field.to_owned(), "FieldValueForbidden", why)];
        Err(Refusal::invalid("ListOptions.meta.k8s.io", "", &causes))
    };
    let (how, initial) = (
        query.text("resourceVersionMatch"),
        query.get("sendInitialEvents"),
    );
    match (watch, how, initial) {
        (false, _, Some(_)) => refuse(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ),
        (true, Some(_), None) => refuse(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (true, how, Some(_)) if how != Some("NotOlderThan") => refuse(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (false, Some("Exact"), _) if matches!(query.text("resourceVersion"), None | Some("0")) => {
            refuse(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            )
        }
        (false, Some(_), _) if query.text("resourceVersion").is_none() => refuse(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (_, Some(how), _) if !["Exact", "NotOlderThan"].contains(&how) => {
            let why = format!(
                "Unsupported value: {how:?}: supported values: \"Exact\", \"NotOlderThan\""
            );
            let causes = [(
                "resourceVersionMatch".to_owned(),
                "FieldValueNotSupported",
                why,
            )];
            Err(Refusal::invalid("ListOptions.meta.k8s.io", "", &causes))
        }
        _ => Ok(()),
    }
}

/// A revision that is not there yet.
pub(super) fn too_large(asked: u64, current: u64) -> Refusal {
    let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
    let mut refusal = Refusal::new(504, "Timeout", message);
    refusal.details = json!({
        "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
        "retryAfterSeconds": 1,
    });
    refusal
}

fn to_token(revision: u64, last: &str) -> String {
    let text = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": last }).to_string();
    base64::encode_for_url(text.as_bytes())
}

fn from_token(token: &str) -> Result<(u64, String), Refusal> {
    let value: Option<Value> = serde_json::from_slice(&base64::decode(token)).ok();
    let parts =
        value.and_then(|value| Some((value["rv"].as_u64()?, value["start"].as_str()?.to_owned())));
    parts.ok_or_else(|| {
        Refusal::bad_request("continue key is not valid: it is not one of this server's")
    })
}
