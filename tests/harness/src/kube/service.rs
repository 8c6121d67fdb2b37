//! What is done with a request.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request, Response};
use serde_json::{Value, json};

use super::core::Core;
use super::faults::Fault;
use super::query::{Place, Query};
use super::read;
use super::reply::{self, BrokenOff, Reply};
use super::rights::{User, forbidden};
use super::schema;
use super::status::Refusal;
use super::watch;
use super::write::{self, Patch, Target};

/// The largest body that a server takes.
const MOST_BYTES: usize = 3 << 20;

/// A connection, as far as requests on it are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// By a client certificate; `Err` is one that nobody has signed that is trusted.
    pub(super) certified: Option<Result<User, ()>>,
    /// The test itself: nothing goes wrong with it, and it is not counted.
    pub(super) own: bool,
}

/// Answers a request, one way or the other.
pub(super) async fn serve(
    core: Arc<Core>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let path = request.uri().path().to_owned();
    let query = Query::of(request.uri().query());
    let place = Place::of(&path);
    let verb = verb(request.method(), place.as_ref(), &query);
    let mut fault = None;
    if !peer.own {
        if let Some(place) = &place {
            let key = (verb, place.resource);
            *core.counts().requests.entry(key).or_default() += 1;
        }
        fault = core.fault(verb);
    }
    match fault {
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        _ => {}
    }
    // A watch that is under way breaks by itself.
    if let Some(response) = fault.and_then(wrong)
        && !(verb == "watch" && fault == Some(Fault::NotJson))
    {
        return Ok(response);
    }
    let answered = answer(&core, peer, verb, &path, place, &query, request).await;
    let response = answered.unwrap_or_else(|refusal| reply::refusal(&refusal));
    let response = match fault {
        Some(Fault::BreakOff) if verb != "watch" => broken_off(response).await,
        _ => response,
    };
    if !peer.own
        && let Reply::Whole(Some(bytes)) = response.body()
    {
        core.counts().bytes += bytes.len() as u64;
    }
    Ok(response)
}

/// As the API names what is done.
fn verb(method: &Method, place: Option<&Place>, query: &Query) -> &'static str {
    let named = place.is_some_and(|place| place.name.is_some());
    match *method {
        Method::GET if query.is_set("watch") && !named => "watch",
        Method::GET if named || place.is_none() => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

/// What is answered instead.
fn wrong(fault: Fault) -> Option<Response<Reply>> {
    let json = "application/json";
    let response = match fault {
        Fault::Slow(_) | Fault::BreakOff | Fault::Silent => return None,
        Fault::NotJson => reply::text(200, json, "{\"kind\":\"Node\",,,\u{0}\u{1}\n"),
        Fault::BadGateway => reply::text(
            502,
            "text/html",
            "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>",
        ),
        Fault::WrongKind => reply::object(
            200,
            &json!({ "kind": "Pizza", "apiVersion": "example.com/v1", "metadata": {}, "items": "none" }),
        ),
        Fault::Internal => {
            let message = "Internal error occurred: etcdserver: request timed out";
            reply::refusal(&Refusal::new(500, "InternalError", message))
        }
        Fault::TooMany(seconds) => reply::later(seconds),
        Fault::Gone => reply::refusal(&Refusal::expired(
            "The resourceVersion for the provided watch is too old.",
        )),
    };
    Some(response)
}

/// The first half of an answer, and then nothing more on this connection.
async fn broken_off(response: Response<Reply>) -> Response<Reply> {
    let (parts, body) = response.into_parts();
    let whole = body.collect().await;
    let whole = whole.map(|body| body.to_bytes()).unwrap_or_default();
    let half = whole.slice(..whole.len() / 2);
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    tokio::spawn(async move {
        let _ = sender.send(Ok(half)).await;
        // What has been handed over is written before the next is asked for.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let _ = sender.send(Err(BrokenOff)).await;
    });
    Response::from_parts(parts, Reply::Stream(receiver))
}

fn authenticate(
    core: &Core,
    peer: Peer,
    request: &Request<Incoming>,
) -> Result<Option<User>, Refusal> {
    if let Some(header) = request.headers().get(AUTHORIZATION) {
        let text = header.to_str().unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or_default();
        let known = core.settings().tokens.get(token.trim()).copied();
        return match known {
            Some(user) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(user)),
            _ => Err(Refusal::unauthorized()),
        };
    }
    match peer.certified {
        None => Ok(None),
        Some(certified) => certified.map(Some).map_err(|()| Refusal::unauthorized()),
    }
}

async fn answer(
    core: &Arc<Core>,
    peer: Peer,
    verb: &'static str,
    path: &str,
    place: Option<Place>,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Refusal> {
    let user = authenticate(core, peer, &request)?;
    if ["/version", "/readyz", "/livez", "/healthz"].contains(&path) {
        return Ok(match path {
            "/version" => reply::object(
                200,
                &json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0" }),
            ),
            _ => reply::text(200, "text/plain; charset=utf-8", "ok"),
        });
    }
    let Some(place) = place else {
        return match (user, verb, path) {
            // A real server has the definition from an operator.
            (Some(User::Admin), "get", path) if path == schema::PATH => {
                Ok(reply::object(200, &schema::manifest()))
            }
            _ => Err(Refusal::no_such_page()),
        };
    };
    let name = place.name.as_deref();
    let may = |verb| match user {
        Some(user) => user.may(verb, place.resource, place.status, name),
        None => Err(forbidden(
            "system:anonymous",
            verb,
            place.resource,
            place.status,
            name,
        )),
    };
    may(verb)?;
    match (verb, name) {
        ("get", Some(name)) => {
            let state = core.state();
            let object = state.get(place.resource, name);
            let missing = || Refusal::not_found(&place.resource.qualified(), name);
            let object = object.ok_or_else(missing)?;
            Ok(reply::object(200, &object.value))
        }
        ("list", _) => read::list(core, place.resource, query),
        ("watch", _) => watch::start(core, peer, place.resource, query),
        _ => {
            let may_create = || may("create");
            change(core, verb, &place, query, request, &may_create).await
        }
    }
}

async fn change(
    core: &Arc<Core>,
    verb: &str,
    place: &Place,
    query: &Query,
    request: Request<Incoming>,
    may_create: &(dyn Fn() -> Result<(), Refusal> + Sync),
) -> Result<Response<Reply>, Refusal> {
    let header = |name| {
        let value = request.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let (kind, agent) = (header(CONTENT_TYPE), header(USER_AGENT));
    let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
    let how = match verb {
        "patch" => Some(patch_kind(&kind, place, query)?),
        _ => None,
    };
    let body = body(request).await?;
    let agent = agent.split('/').next().unwrap_or_default();
    let given = body["metadata"]["name"].as_str();
    let name = place.name.as_deref().or(given).unwrap_or_default();
    let target = Target {
        resource: place.resource,
        name,
        status: place.status,
        manager: query.text("fieldManager").unwrap_or(if agent.is_empty() {
            "unknown"
        } else {
            agent
        }),
    };
    core.change(|state| {
        let (object, code) = match (verb, how, &place.name) {
            ("create", _, None) => {
                if name.is_empty() {
                    let message = "name or generateName is required".to_owned();
                    let causes = [("metadata.name".to_owned(), "FieldValueRequired", message)];
                    let kind = place.resource.qualified_kind();
                    return Err(Refusal::invalid(&kind, "", &causes));
                }
                (write::create(state, &target, &body)?, 201)
            }
            ("update", _, Some(_)) => (write::update(state, &target, &body)?, 200),
            ("patch", Some(how), Some(_)) => {
                if matches!(how, Patch::Apply(_)) && state.get(target.resource, name).is_none() {
                    may_create()?;
                }
                let (object, new) = write::patch(state, &target, how, &body)?;
                (object, if new { 201 } else { 200 })
            }
            ("delete", _, Some(_)) => {
                let status = write::delete(state, &target, &body)?;
                return Ok(reply::object(200, &status));
            }
            _ => {
                let message = "the server does not allow this method on the requested resource";
                return Err(Refusal::new(405, "MethodNotAllowed", message));
            }
        };
        Ok(reply::object(code, &object.value))
    })
}

fn patch_kind(kind: &str, place: &Place, query: &Query) -> Result<Patch, Refusal> {
    let refuse = |field: &str, reason: &'static str, why: &str| {
        let causes = [(field.to_owned(), reason, why.to_owned())];
        Err(Refusal::invalid("PatchOptions.meta.k8s.io", "", &causes))
    };
    let patch = match kind {
        "application/apply-patch+yaml" => {
            if query.text("fieldManager").is_none() {
                let why = "Required value: is required for apply patch";
                return refuse("fieldManager", "FieldValueRequired", why);
            }
            return Ok(Patch::Apply(query.is_set("force")));
        }
        "application/merge-patch+json" => Patch::Merge,
        "application/strategic-merge-patch+json"
            if place.resource == super::resource::Resource::Nodes =>
        {
            Patch::Strategic
        }
        _ => {
            let message = format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/merge-patch+json, application/apply-patch+yaml: {kind:?}"
            );
            return Err(Refusal::new(415, "UnsupportedMediaType", message));
        }
    };
    if query.get("force").is_some() {
        let why = "Forbidden: may not be specified for non-apply patch";
        return refuse("force", "FieldValueForbidden", why);
    }
    Ok(patch)
}

async fn body(request: Request<Incoming>) -> Result<Value, Refusal> {
    let body = Limited::new(request.into_body(), MOST_BYTES)
        .collect()
        .await;
    let body: Bytes = match body {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let message = "the request is too large";
            return Err(Refusal::new(413, "RequestEntityTooLarge", message));
        }
    };
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|error| {
        Refusal::bad_request(format!("the object provided is unrecognized: {error}"))
    })
}
