//! A client of the API server: HTTP/1.1 and JSON.
//!
//! One connection for requests, and one for the watch, which HTTP/1.1 keeps to itself.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::access::{Access, Origin};
use super::api::{Envelope, ListMeta, Refusal};
use super::items::{Items, TooLarge};
use crate::remote::body::{self, Lines};
use crate::remote::connect::{Connection, TO_ANSWER, Target};
use crate::remote::{Failure, tls};

/// The largest object: etcd takes no request of more than 1.5 MiB.
pub const MOST_BYTES: usize = 2 << 20;
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Who we are in the server's log.
const AGENT: &str = concat!("cni-fabric-node-agent/", env!("CARGO_PKG_VERSION"));

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The server could not be reached, is not able to answer, or answers nonsense.
    Failed(Failure),
    /// It has answered no.
    No {
        /// As HTTP's.
        code: u16,
        /// What it says, with the server and what was asked.
        words: String,
    },
    /// It has much to do, and asks for a pause.
    Busy(Duration, String),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<TooLarge> for Trouble {
    fn from(_: TooLarge) -> Self {
        let words = "a list has an object that is larger than any that makes sense";
        Self::Failed(Failure::Nonsense(words.to_owned()))
    }
}

impl Trouble {
    /// Whether this object is not there.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::No { code: 404, .. })
    }

    /// Whether what was asked for is older than what the server knows.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::No { code: 410, .. })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::No { words, .. } | Self::Busy(_, words) => f.write_str(words),
        }
    }
}

type Result<T> = std::result::Result<T, Trouble>;

/// See the [module](self).
pub struct Client {
    origin: Origin,
    access: Option<Access>,
    requests: Option<Connection>,
    token: Option<HeaderValue>,
    sent: u64,
}

/// A watch.
pub struct Watch(Lines);

impl Client {
    /// One that has not connected yet.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            access: None,
            requests: None,
            token: None,
            sent: 0,
        }
    }

    /// Connects with the server, by what is said of it at this moment.
    ///
    /// # Errors
    /// [`Trouble::Failed`].
    pub async fn connect(&mut self) -> Result<()> {
        self.disconnect();
        self.access = Some(self.origin.read().map_err(Failure::Refused)?);
        self.authenticate()?;
        self.requests = Some(self.open().await?);
        Ok(())
    }

    /// Ends the connection for requests.
    pub fn disconnect(&mut self) {
        self.requests = None;
        self.token = None;
    }

    /// This host's address on the connection.
    pub fn local(&self) -> Option<IpAddr> {
        Some(self.requests.as_ref()?.local())
    }

    /// Whether there was a connection for requests, and the server has ended it. The next request makes another.
    pub fn is_closed(&self) -> bool {
        self.requests.as_ref().is_some_and(Connection::is_closed)
    }

    /// How many requests have been sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The server.
    pub fn server(&self) -> String {
        let url = self.access.as_ref().map(|access| access.server.to_string());
        url.unwrap_or_else(|| "the API server".to_owned())
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T> {
        let response = self.ask(Method::GET, path, None).await?;
        self.object(response, path).await
    }

    /// Writes our part of an object (server-side apply), and tells what it is then.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn apply<T: DeserializeOwned>(&mut self, path: &str, body: String) -> Result<T> {
        let path = format!("{path}?fieldManager={}&force=true", super::api::MANAGER);
        let response = self.ask(Method::PATCH, &path, Some(body)).await?;
        self.object(response, &path).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn delete(&mut self, path: &str, body: String) -> Result<()> {
        let response = self.ask(Method::DELETE, path, Some(body)).await?;
        let server = self.server();
        body::read(response, MOST_BYTES, &server).await?;
        Ok(())
    }

    /// Reads a page of a list, and hands out the text of each object.
    ///
    /// # Errors
    /// [`Trouble`]: some objects may have been handed out then.
    pub async fn list(
        &mut self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> std::result::Result<(), Failure>,
    ) -> Result<ListMeta> {
        let response = self.ask(Method::GET, path, None).await?;
        let server = self.server();
        let (mut body, mut items) = (response.into_body(), Items::default());
        loop {
            let frame = timeout(TO_ANSWER, body.frame()).await;
            let frame = frame.map_err(|_| away(&server, "does not end its answer"))?;
            match frame.transpose() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    if let Some(part) = frame.data_ref() {
                        items.take::<Trouble>(part, MOST_BYTES, |item| Ok(each(item)?))?;
                    }
                }
                Err(error) => {
                    return Err(away(&server, &format!("broke its answer off: {error}")).into());
                }
            }
        }
        let envelope: Envelope = decode(items.envelope(), &server, path)?;
        // No server has no version: an answer without one is no answer, and above all not that there is no node.
        match envelope.metadata.resource_version.is_empty() || !envelope.kind.ends_with("List") {
            true => {
                Err(Failure::Nonsense(format!("{server} answers a list without a version")).into())
            }
            false => Ok(envelope.metadata),
        }
    }

    /// Follows what a path names.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn watch(&mut self, path: &str) -> Result<Watch> {
        self.sent += 1;
        let mut connection = self.open().await?;
        let request = self.request(Method::GET, path, None)?;
        let mut response = connection.send(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // A token's time has passed, and its file has a new one.
            self.authenticate()?;
            connection = self.open().await?;
            response = connection
                .send(self.request(Method::GET, path, None)?)
                .await?;
        }
        if !response.status().is_success() {
            return Err(self.refused(response, path).await);
        }
        Ok(Watch(Lines::new(response, connection, 2 * MOST_BYTES)))
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Response<Incoming>> {
        if self.is_closed() {
            // Servers end what is idle, and between two looks at a Node are minutes.
            self.authenticate()?;
            self.requests = Some(self.open().await?);
        }
        let mut response = self.send(method.clone(), path, body.clone()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // A token's time has passed, and its file has a new one. What the server says of that is in the way of the next
            // answer.
            self.authenticate()?;
            self.requests = Some(self.open().await?);
            response = self.send(method, path, body).await?;
        }
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refused(response, path).await),
        }
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Response<Incoming>> {
        let request = self.request(method, path, body)?;
        let server = self.server();
        let connection = self.requests.as_mut();
        let connection = connection.ok_or_else(|| away(&server, "is not connected"))?;
        self.sent += 1;
        Ok(connection.send(request).await?)
    }

    async fn object<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
        path: &str,
    ) -> Result<T> {
        let server = self.server();
        let body = body::read(response, MOST_BYTES, &server).await?;
        decode(&body, &server, path)
    }

    async fn refused(&self, response: Response<Incoming>, path: &str) -> Trouble {
        let (server, status) = (self.server(), response.status());
        let wait = response.headers().get(RETRY_AFTER);
        let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
        let wait = wait.map_or(Duration::from_secs(1), Duration::from_secs);
        let mut refusal = Refusal::default();
        if let Ok(body) = body::read(response, MOST_BYTES, &server).await {
            refusal = serde_json::from_slice(&body).unwrap_or_default();
        }
        refusal.code = status.as_u16();
        let path = path.split('?').next().unwrap_or_default();
        let words = format!("{server} refuses {path}: {refusal}");
        match refusal.code {
            429 => Trouble::Busy(wait.min(LONGEST_WAIT), words),
            500.. => Trouble::Failed(Failure::Nonsense(format!(
                "{server} is not able to answer {path}: {refusal}"
            ))),
            code => Trouble::No { code, words },
        }
    }

    fn authenticate(&mut self) -> Result<()> {
        self.token = None;
        let Some(access) = &self.access else {
            return Ok(());
        };
        if let Some(token) = access.token()? {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| {
                Failure::Refused("the token has characters that no header has".to_owned())
            })?;
            value.set_sensitive(true);
            self.token = Some(value);
        }
        Ok(())
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Request<Full<Bytes>>> {
        let (mut host, mut base) = (String::new(), "");
        if let Some(access) = &self.access {
            let server = &access.server;
            host = match server.host.contains(':') {
                true => format!("[{}]:{}", server.host, server.port),
                false => format!("{}:{}", server.host, server.port),
            };
            base = &server.path;
        }
        let kind = match method {
            Method::PATCH => "application/apply-patch+yaml",
            _ => "application/json",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header(HOST, host)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let request = request.body(Full::from(body.unwrap_or_default()));
        Ok(
            request
                .map_err(|error| Failure::Refused(format!("no request can be made: {error}")))?,
        )
    }

    async fn open(&self) -> Result<Connection> {
        let Some(access) = &self.access else {
            return Err(away("the API server", "is not known").into());
        };
        let server = &access.server;
        let identity = access.identity.as_ref();
        let identity = identity.map(|(certificate, key)| (certificate, key));
        let connector = server
            .tls
            .then(|| tls::connector(access.roots.as_ref(), identity));
        let name = access.name.as_deref().unwrap_or(&server.host);
        let connector = connector.transpose().map_err(Failure::Refused)?;
        let target = Target {
            server: server.to_string(),
            host: &server.host,
            port: server.port,
            tls: connector.map(|connector| (connector, name)),
        };
        Ok(target.open().await?)
    }
}

impl Watch {
    /// The next line; `None` when the server has ended the watch. It may be dropped at any await point, and loses nothing.
    ///
    /// # Errors
    /// [`Failure`]: then the watch has ended.
    pub async fn next(&mut self) -> std::result::Result<Option<&[u8]>, Failure> {
        self.0.next().await
    }
}

fn away(server: &str, what: &str) -> Failure {
    Failure::Away(format!("{server} {what}"))
}

fn decode<T: DeserializeOwned>(text: &[u8], server: &str, path: &str) -> Result<T> {
    let path = path.split('?').next().unwrap_or_default();
    serde_json::from_slice(text).map_err(|error| {
        let words = format!("{server} answers {path} with what makes no sense: {error}");
        Failure::Nonsense(words).into()
    })
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server())
            .field("connected", &self.requests.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
