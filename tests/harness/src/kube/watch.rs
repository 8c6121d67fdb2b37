//! Watches.

use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until};

use super::core::Core;
use super::faults::{Fault, Streaming};
use super::query::{Query, Selection};
use super::read::{check_match, too_large};
use super::reply::{self, BrokenOff, Reply};
use super::resource::Resource;
use super::service::Peer;
use super::status::Refusal;
use super::store::{Event, State};

/// As a server has it that is not told: half an hour, and some more by chance.
const LONGEST: Duration = Duration::from_secs(1800);

struct Watch {
    core: Arc<Core>,
    peer: Peer,
    resource: Resource,
    selection: Selection,
    /// Everything up to here has been told.
    at: u64,
    bookmarks: bool,
    output: mpsc::Sender<Result<Bytes, BrokenOff>>,
}

/// The reader has gone, or has been sent away.
struct Over;

/// Begins to watch.
pub(super) fn start(
    core: &Arc<Core>,
    peer: Peer,
    resource: Resource,
    query: &Query,
) -> Result<Response<Reply>, Refusal> {
    let settings = core.settings().clone();
    let streaming = settings.streaming;
    let asked = query.is_set("sendInitialEvents");
    if streaming != Streaming::Unknown {
        check_match(query, true)?;
    }
    if asked && streaming == Streaming::Invalid {
        let why = "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        let causes = [(
            "sendInitialEvents".to_owned(),
            "FieldValueForbidden",
            why.to_owned(),
        )];
        return Err(Refusal::invalid("ListOptions.meta.k8s.io", "", &causes));
    }
    let selection = query.selection()?;
    let time = query.number("timeoutSeconds")?.filter(|time| *time > 0);
    let end = Instant::now() + time.map_or(LONGEST, Duration::from_secs);
    let revision = query.number("resourceVersion")?;
    let (output, receiver) = mpsc::channel(64);
    let mut watch = Watch {
        core: Arc::clone(core),
        peer,
        resource,
        selection,
        at: revision.unwrap_or_default(),
        bookmarks: query.is_set("allowWatchBookmarks"),
        output,
    };
    let first = watch.begin(revision, asked, streaming)?;
    if !peer.own {
        core.counts().watches += 1;
    }
    tokio::spawn(async move {
        let _ = watch.run(first, end, settings.bookmarks).await;
        if !watch.peer.own {
            watch.core.counts().watches -= 1;
        }
    });
    Ok(reply::stream(receiver))
}

impl Watch {
    /// What is told at first; an error is told, and is all.
    fn begin(
        &mut self,
        revision: Option<u64>,
        initial: bool,
        streaming: Streaming,
    ) -> Result<Vec<Bytes>, Refusal> {
        let core = Arc::clone(&self.core);
        let state = core.state();
        if initial && streaming == Streaming::Error {
            let message = "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled";
            let refusal = Refusal::new(
                500,
                "InternalError",
                format!("Internal error occurred: {message}"),
            );
            return Ok(self.last(&refusal));
        }
        if initial && let Some(asked) = revision.filter(|asked| *asked > state.revision) {
            return Ok(self.last(&too_large(asked, state.revision)));
        }
        let initial = initial && streaming == Streaming::Done;
        if !initial && let Some(asked) = revision.filter(|asked| *asked > 0) {
            if asked < state.compacted {
                let message = format!("too old resource version: {asked} ({})", state.compacted);
                return Ok(self.last(&Refusal::expired(message)));
            }
            return Ok(Vec::new());
        }
        self.at = state.revision;
        let all = state.all(self.resource).into_values();
        let selected = all.filter(|object| self.selection.selects(&object.value));
        let mut lines: Vec<Bytes> = selected
            .map(|object| line("ADDED", &object.value))
            .collect();
        if initial && self.bookmarks {
            lines.push(self.bookmark(true));
        }
        Ok(lines)
    }

    fn last(&mut self, refusal: &Refusal) -> Vec<Bytes> {
        self.at = u64::MAX;
        vec![line("ERROR", &refusal.to_json())]
    }

    fn bookmark(&self, initial: bool) -> Bytes {
        let mut object = json!({
            "kind": self.resource.kind(),
            "apiVersion": self.resource.api_version(),
            "metadata": { "resourceVersion": self.at.to_string() },
        });
        if self.resource == Resource::Nodes {
            object["spec"] = json!({});
            object["status"] = json!({ "nodeInfo": { "machineID": "" } });
        }
        if initial {
            object["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        line("BOOKMARK", &object)
    }

    async fn run(
        &mut self,
        first: Vec<Bytes>,
        end: Instant,
        bookmarks: Duration,
    ) -> Result<(), Over> {
        let mut news = self.core.news.subscribe();
        for line in first {
            self.tell(line).await?;
        }
        if self.at == u64::MAX {
            return Ok(());
        }
        let mut bookmarks = interval_at(Instant::now() + bookmarks, bookmarks);
        loop {
            for line in self.news()? {
                self.tell(line).await?;
            }
            let output = self.output.clone();
            tokio::select! {
                biased;
                () = output.closed() => return Err(Over),
                changed = news.changed() => changed.map_err(|_| Over)?,
                _ = bookmarks.tick(), if self.bookmarks => {
                    // One that goes back would be a lie.
                    let current = *self.core.news.borrow();
                    if current >= self.at {
                        let line = self.bookmark(false);
                        self.tell(line).await?;
                    }
                }
                () = sleep_until(end) => return Ok(()),
            }
        }
    }

    /// What has happened since.
    fn news(&mut self) -> Result<Vec<Bytes>, Over> {
        let core = Arc::clone(&self.core);
        let state: &State = &core.state();
        let mut lines = Vec::new();
        for event in state.since(self.at) {
            if event.resource == self.resource {
                lines.extend(self.seen(event));
            }
        }
        if state.revision > self.at {
            self.at = state.revision;
        }
        Ok(lines)
    }

    /// An event as this watch sees it.
    fn seen(&self, event: &Event) -> Option<Bytes> {
        let selects = |object: &Value| self.selection.selects(object);
        let before = event.old.as_ref().is_some_and(|old| selects(&old.value));
        let after = !event.gone && selects(&event.last.value);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(event.line("ADDED")),
            (true, true) => Some(event.line("MODIFIED")),
            (true, false) if event.gone => Some(event.line("DELETED")),
            (true, false) => {
                // The object as it was selected last, with the revision of the change.
                let mut old = event.old.as_ref()?.value.clone();
                old["metadata"]["resourceVersion"] = event.revision.to_string().into();
                Some(line("DELETED", &old))
            }
        }
    }

    async fn tell(&self, line: Bytes) -> Result<(), Over> {
        let fault = match self.peer.own {
            true => None,
            false => self.core.fault("watch"),
        };
        if !self.peer.own {
            self.core.counts().bytes += line.len() as u64;
        }
        let send = async |part| self.output.send(part).await.map_err(|_| Over);
        match fault {
            Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::NotJson) => {
                send(Ok(Bytes::from_static(b"{\"type\":\"MODIFIED\",,,\n"))).await?;
                return Err(Over);
            }
            Some(Fault::WrongKind) => {
                let pizza = json!({ "kind": "Pizza", "apiVersion": "example.com/v1" });
                return send(Ok(self::line("ADDED", &pizza))).await;
            }
            Some(Fault::Gone) => {
                let refusal = Refusal::expired("too old resource version");
                send(Ok(self::line("ERROR", &refusal.to_json()))).await?;
                return Err(Over);
            }
            Some(Fault::BreakOff) => {
                send(Ok(line.slice(..line.len() / 2))).await?;
                // What has been handed over is written before the next is asked for.
                tokio::time::sleep(Duration::from_millis(20)).await;
                send(Err(BrokenOff)).await?;
                return Err(Over);
            }
            _ => {}
        }
        send(Ok(line)).await
    }
}

/// A message of a watch.
pub(super) fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({ "type": kind, "object": object }).to_string();
    text.push('\n');
    text.into()
}
