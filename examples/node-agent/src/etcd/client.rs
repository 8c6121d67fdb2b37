//! A client of etcd's API over HTTP and JSON (the gRPC gateway that every etcd 3.4 and later has).
//!
//! One connection for requests, and one for the watch, which HTTP/1.1 keeps to itself. Both go to the same server; the next one
//! is tried when it fails.

use std::fmt;
use std::net::IpAddr;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::api::{self, AuthAnswer, Refusal, Streamed, WatchAnswer};
use super::config::{Access, Endpoint, Login};
pub use crate::remote::Failure;
use crate::remote::body::{self, Lines, secret};
use crate::remote::connect::{Connection, Target};
use crate::remote::tls::{self, Pem};

/// The largest answer that is read: etcd takes no request of more than 1.5 MiB, and base64 makes a third more of it.
pub(super) const MOST_BYTES: usize = 8 << 20;

/// How a server says that it does not take a token any more: its time has passed or the server does not remember it, or it is
/// signed and older than the last change of users and roles. There may be a new one.
const STALE: [&str; 2] = ["invalid auth token", "revision of auth store is old"];

/// See the [module](self).
pub struct Client {
    access: Access,
    /// The endpoint in use, counted on without end.
    at: usize,
    requests: Option<Connection>,
    /// From `user` and password.
    token: Option<String>,
    sent: u64,
}

/// A watch.
pub struct Watch(Lines);

type Result<T> = std::result::Result<T, Failure>;

impl Client {
    /// One that has not connected yet.
    pub fn new(access: Access) -> Self {
        Self {
            access,
            at: 0,
            requests: None,
            token: None,
            sent: 0,
        }
    }

    /// Connects with a server, beginning with the one that was in use, and says who this node is.
    ///
    /// # Errors
    /// Those of the last server that was tried.
    pub async fn connect(&mut self) -> Result<()> {
        self.disconnect();
        let mut failure = Failure::Away("no server is named".to_owned());
        for _ in 0..self.access.endpoints.len() {
            match self.connect_here().await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
            self.disconnect();
            self.at = self.at.wrapping_add(1);
        }
        Err(failure)
    }

    /// Ends the connection for requests.
    pub fn disconnect(&mut self) {
        self.requests = None;
        self.token = None;
    }

    /// The next connection is with the next server.
    pub fn leave(&mut self) {
        self.disconnect();
        self.at = self.at.wrapping_add(1);
    }

    /// This host's address on the connection.
    pub fn local(&self) -> Option<IpAddr> {
        Some(self.requests.as_ref()?.local())
    }

    /// How many requests have been sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The server in use.
    pub fn server(&self) -> String {
        self.endpoint()
            .map(|endpoint| endpoint.to_string())
            .unwrap_or_default()
    }

    /// Asks for something. A connection that is lost is not made anew.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn call<T: DeserializeOwned>(&mut self, path: &str, body: &Value) -> Result<T> {
        let answer = self.call_once(path, body).await;
        let stale = |words: &str| STALE.iter().any(|sign| words.contains(sign));
        if !matches!(&answer, Err(Failure::Refused(words)) if stale(words)) {
            return answer;
        }
        self.authenticate().await?;
        self.call_once(path, body).await
    }

    /// Follows all keys that begin with this, from a revision on.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn watch(&mut self, prefix: &str, revision: i64) -> Result<Watch> {
        let mut connection = self.open().await?;
        let request = self.request("/v3/watch", &api::watch(prefix, revision))?;
        let response = connection.send(request).await?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        Ok(Watch(Lines::new(response, connection, 2 * MOST_BYTES)))
    }

    async fn connect_here(&mut self) -> Result<()> {
        self.requests = Some(self.open().await?);
        self.authenticate().await
    }

    async fn call_once<T: DeserializeOwned>(&mut self, path: &str, body: &Value) -> Result<T> {
        let request = self.request(path, body)?;
        let server = self.server();
        let away = || Failure::Away(format!("the connection with {server} has ended"));
        let connection = self.requests.as_mut().ok_or_else(away)?;
        self.sent += 1;
        let response = connection.send(request).await?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let body = body::read(response, MOST_BYTES, &server).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::Nonsense(format!(
                "{server} answers {path} with what makes no sense: {error}"
            ))
        })
    }

    async fn refused(&self, response: Response<Incoming>) -> Failure {
        let (server, status) = (self.server(), response.status());
        let Ok(body) = body::read(response, MOST_BYTES, &server).await else {
            return Failure::Nonsense(format!("{server} answers with status {status}"));
        };
        match serde_json::from_slice::<Refusal>(&body) {
            // 14 is `UNAVAILABLE`: no leader, say.
            Ok(refusal) if refusal.code == 14 => {
                Failure::Away(format!("{server} is not able to answer: {refusal}"))
            }
            Ok(refusal) => Failure::Refused(format!("{server} refuses: {refusal}")),
            Err(_) => Failure::Nonsense(format!("{server} answers with status {status}")),
        }
    }

    async fn authenticate(&mut self) -> Result<()> {
        self.token = None;
        match self.access.login.clone() {
            Login::None => {}
            Login::Token(file) => self.token = Some(secret(&file)?),
            Login::Password { user, file } => {
                let body = json!({ "name": user, "password": secret(&file)? });
                let answer: AuthAnswer = self.call_once("/v3/auth/authenticate", &body).await?;
                self.token = Some(answer.token);
            }
        }
        Ok(())
    }

    fn request(&self, path: &str, body: &Value) -> Result<Request<Full<Bytes>>> {
        let host = self
            .endpoint()
            .map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, host.unwrap_or_default())
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(token);
            let mut value = value.map_err(|_| {
                Failure::Refused("the token has characters that no header has".to_owned())
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request
            .body(Full::from(body.to_string()))
            .map_err(|error| Failure::Refused(format!("no request can be made: {error}")))
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        let count = self.access.endpoints.len().max(1);
        self.access.endpoints.get(self.at % count)
    }

    async fn open(&self) -> Result<Connection> {
        let Some(endpoint) = self.endpoint() else {
            return Err(Failure::Away("no server is named".to_owned()));
        };
        let connector = endpoint.tls.then(|| {
            let file = |path: &std::path::PathBuf| Pem::File(path.clone());
            let roots = self.access.ca.as_ref().map(file);
            let identity = self.access.certificate.as_ref();
            let identity = identity.map(|(certificate, key)| (file(certificate), file(key)));
            let identity = identity
                .as_ref()
                .map(|(certificate, key)| (certificate, key));
            tls::connector(roots.as_ref(), identity)
        });
        let target = Target {
            server: endpoint.to_string(),
            host: &endpoint.host,
            port: endpoint.port,
            tls: connector
                .transpose()
                .map_err(Failure::Refused)?
                .map(|connector| (connector, endpoint.host.as_str())),
        };
        target.open().await
    }
}

impl Watch {
    /// The next message. It may be dropped at any await point, and loses nothing.
    ///
    /// # Errors
    /// [`Failure`]: then the watch has ended.
    pub async fn next(&mut self) -> Result<WatchAnswer> {
        let line = self.0.next().await?;
        let line =
            line.ok_or_else(|| Failure::Away("the server has ended the watch".to_owned()))?;
        let broken =
            |error| Failure::Nonsense(format!("the watch tells what makes no sense: {error}"));
        let message: Streamed<WatchAnswer> = serde_json::from_slice(line).map_err(broken)?;
        match (message.result, message.error) {
            (Some(answer), _) => Ok(answer),
            (None, Some(error)) => Err(Failure::Away(format!("the watch has ended: {error}"))),
            (None, None) => Err(Failure::Nonsense("the watch tells nothing".to_owned())),
        }
    }
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
