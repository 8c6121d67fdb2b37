//! A test's own client.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::resource::Resource;
use super::way::{Backend, Wire};
use crate::Pod;

/// How long an answer may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks a server, and waits for what it says. Every request has a connection of its own.
#[derive(Clone)]
pub struct Client<'a> {
    pub(super) way: Way<'a>,
    pub(super) tls: Option<(TlsConnector, String)>,
    pub(super) token: Option<String>,
    pub(super) runtime: Handle,
}

/// How a client gets to the server.
#[derive(Clone)]
pub(super) enum Way<'a> {
    Within(Arc<Backend>),
    From(&'a Pod, SocketAddr),
}

impl std::fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// What a server has answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status of HTTP; 0 where there was no answer, or it broke off.
    pub code: u16,
    /// The object; null where it was no JSON.
    pub body: Value,
    /// What came, whatever it was.
    pub text: String,
    /// Seconds.
    pub retry_after: Option<u64>,
}

/// A watch under way.
#[derive(Debug)]
pub struct Watch {
    lines: Receiver<Option<Value>>,
    task: tokio::task::JoinHandle<()>,
}

/// What follows in a watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// A message: `type` and `object`.
    Event(Value),
    /// The server has ended it as it should be.
    End,
    /// It broke off, or made no sense.
    Broken,
    /// Nothing, within the time.
    Nothing,
}

impl Answer {
    /// The object.
    ///
    /// # Panics
    /// When it is none, or a refusal.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.code), "{self:?}");
        self.body
    }

    /// The `reason` of a refusal with this status.
    ///
    /// # Panics
    /// When the status is another.
    #[track_caller]
    pub fn refused(&self, code: u16) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        self.body["reason"].as_str().unwrap_or_default()
    }
}

impl Client<'_> {
    /// GET of an object.
    pub fn get(&self, resource: Resource, name: &str) -> Answer {
        self.call("GET", &at(resource, name), "", None)
    }

    /// GET of all, with parameters as in an URL.
    pub fn list(&self, resource: Resource, parameters: &str) -> Answer {
        let path = format!("{}?{parameters}", resource.path());
        self.call("GET", &path, "", None)
    }

    /// POST.
    pub fn create(&self, resource: Resource, object: &Value) -> Answer {
        self.call("POST", resource.path(), "application/json", Some(object))
    }

    /// PUT.
    pub fn update(&self, resource: Resource, object: &Value) -> Answer {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.call("PUT", &at(resource, name), "application/json", Some(object))
    }

    /// A merge patch of an object or, with `NAME/status`, of its status.
    pub fn merge(&self, resource: Resource, name: &str, patch: &Value) -> Answer {
        let path = at(resource, name);
        self.call("PATCH", &path, "application/merge-patch+json", Some(patch))
    }

    /// Server-side apply by a manager.
    pub fn apply(
        &self,
        resource: Resource,
        name: &str,
        manager: &str,
        force: bool,
        object: &Value,
    ) -> Answer {
        let path = format!(
            "{}?fieldManager={manager}&force={force}",
            at(resource, name)
        );
        self.call("PATCH", &path, "application/apply-patch+yaml", Some(object))
    }

    /// DELETE.
    pub fn delete(&self, resource: Resource, name: &str) -> Answer {
        self.call("DELETE", &at(resource, name), "", None)
    }

    /// Any request.
    pub fn call(&self, method: &str, path: &str, kind: &str, body: Option<&Value>) -> Answer {
        let (sender, receiver) = channel();
        let sent = self.send(method, path, kind, body);
        self.runtime.spawn(async move {
            let answered = match sent.await {
                Ok(response) => collect(response).await,
                Err(words) => nothing(words),
            };
            let _ = sender.send(answered);
        });
        receiver
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| nothing(format!("no answer within {PATIENCE:?}")))
    }

    /// Watches, with parameters as in an URL.
    ///
    /// # Errors
    /// What the server answers instead.
    pub fn watch(&self, resource: Resource, parameters: &str) -> Result<Watch, Box<Answer>> {
        let path = format!("{}?watch=1&{parameters}", resource.path());
        let (first, begun) = channel();
        let (sender, lines) = channel();
        let sent = self.send("GET", &path, "", None);
        let task = self.runtime.spawn(async move {
            let response = match sent.await {
                Ok(response) if response.status() == 200 => response,
                Ok(response) => {
                    let _ = first.send(Some(collect(response).await));
                    return;
                }
                Err(words) => {
                    let _ = first.send(Some(nothing(words)));
                    return;
                }
            };
            let _ = first.send(None);
            read_lines(response.into_body(), |line| sender.send(line).is_ok()).await;
        });
        match begun.recv_timeout(PATIENCE) {
            Ok(None) => Ok(Watch { lines, task }),
            Ok(Some(answer)) => Err(Box::new(answer)),
            Err(_) => Err(Box::new(nothing(format!("no answer within {PATIENCE:?}")))),
        }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> impl Future<Output = Result<Response<Incoming>, String>> + Send + 'static {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "kubernetes")
            .header(ACCEPT, "application/json");
        if !kind.is_empty() {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let stream = match &self.way {
            Way::Within(backend) => Ok(Err(Arc::clone(backend))),
            Way::From(pod, address) => pod.run(|| connect(*address)).map(Ok),
        };
        let tls = self.tls.clone();
        async move {
            let words = |error: &dyn std::fmt::Display| error.to_string();
            let wire: Pin<Box<dyn Wire>> = match stream.map_err(|error| words(&error))? {
                Ok(stream) => Box::pin(TcpStream::from_std(stream).map_err(|error| words(&error))?),
                Err(backend) => backend.connect().await.map_err(|error| words(&error))?,
            };
            let wire: Pin<Box<dyn Wire>> = match tls {
                None => wire,
                Some((connector, name)) => {
                    let name = ServerName::try_from(name).map_err(|error| words(&error))?;
                    let stream = connector.connect(name, wire).await;
                    Box::pin(stream.map_err(|error| words(&error))?)
                }
            };
            let (mut sender, connection) = http1::handshake(TokioIo::new(wire))
                .await
                .map_err(|error| words(&error))?;
            tokio::spawn(connection);
            sender
                .send_request(request)
                .await
                .map_err(|error| words(&error))
        }
    }
}

fn connect(address: SocketAddr) -> std::io::Result<StdStream> {
    let stream = StdStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn at(resource: Resource, name: &str) -> String {
    format!("{}/{name}", resource.path())
}

fn nothing(words: String) -> Answer {
    Answer {
        code: 0,
        body: Value::Null,
        text: words,
        retry_after: None,
    }
}

async fn collect(response: Response<Incoming>) -> Answer {
    let code = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    match response.into_body().collect().await {
        Err(error) => nothing(error.to_string()),
        Ok(body) => {
            let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Answer {
                code,
                body: serde_json::from_str(&text).unwrap_or_default(),
                text,
                retry_after,
            }
        }
    }
}

/// Hands every line on: null is one that makes no sense or broke off, `None` the end.
async fn read_lines(mut body: Incoming, tell: impl Fn(Option<Value>) -> bool) {
    let mut buffer = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            tell(Some(Value::Null));
            return;
        };
        buffer.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let value = serde_json::from_slice(&line).unwrap_or_default();
            if !tell(Some(value)) {
                return;
            }
        }
    }
    tell(
        buffer
            .is_empty()
            .then_some(())
            .map_or(Some(Value::Null), |()| None),
    );
}

impl Watch {
    /// What comes next, within a time.
    pub fn next(&self, limit: Duration) -> Next {
        match self.lines.recv_timeout(limit) {
            Ok(Some(Value::Null)) | Err(RecvTimeoutError::Disconnected) => Next::Broken,
            Ok(Some(value)) => Next::Event(value),
            Ok(None) => Next::End,
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
        }
    }

    /// The next message that is no bookmark; its type, the object's name, and the object.
    ///
    /// # Panics
    /// When the watch ends first, or nothing comes.
    #[track_caller]
    pub fn event(&self) -> (String, String, Value) {
        loop {
            let (kind, object) = self.message();
            if kind != "BOOKMARK" {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                return (kind, name.to_owned(), object);
            }
        }
    }

    /// The next message of any type, and its object.
    ///
    /// # Panics
    /// When the watch ends first, or nothing comes.
    #[track_caller]
    pub fn message(&self) -> (String, Value) {
        match self.next(PATIENCE) {
            Next::Event(mut value) => {
                let kind = value["type"].as_str().unwrap_or_default().to_owned();
                (kind, value["object"].take())
            }
            other => panic!("a message of a watch: {other:?}"),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
