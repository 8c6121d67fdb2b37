//! A client of etcd's API over HTTP and JSON (the gRPC gateway that every etcd 3.4 and later has).
//!
//! One connection for requests, and one for the watch, which HTTP/1.1 keeps to itself. Both go to the same server; the next one
//! is tried when it fails.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

use super::api::{self, AuthAnswer, Refusal, Streamed, WatchAnswer};
use super::config::{Access, Endpoint, Login};
use crate::remote::tls;

/// The first packet is sent again after a second.
const TO_CONNECT: Duration = Duration::from_millis(1500);
/// An answer, and the handshake of TLS, have to come within this time.
const TO_ANSWER: Duration = Duration::from_secs(5);
/// The largest answer that is read: etcd takes no request of more than 1.5 MiB, and base64 makes a third more of it.
pub(super) const MOST_BYTES: usize = 8 << 20;
/// The longest password or token that is read from a file.
const LONGEST_SECRET: u64 = 64 << 10;

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No server can be reached, or one does not answer.
    Away(String),
    /// The server has answered that it does not do this.
    Refused(String),
    /// The server has answered what makes no sense, or broke off.
    Nonsense(String),
}

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

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    local: IpAddr,
    task: JoinHandle<()>,
}

/// A watch, and the part of its next message that has come.
pub struct Watch {
    body: Incoming,
    buffer: Vec<u8>,
    /// Up to here the buffer has no end of a line.
    searched: usize,
    _connection: Connection,
}

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
        Some(self.requests.as_ref()?.local)
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
        let stale =
            matches!(&answer, Err(Failure::Refused(words)) if words.contains("invalid auth token"));
        if !stale {
            return answer;
        }
        // A token's time has passed, or its file has a new one.
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
        let sent = timeout(TO_ANSWER, connection.sender.send_request(request)).await;
        let response = answered(sent, &self.server())?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        Ok(Watch {
            body: response.into_body(),
            buffer: Vec::new(),
            searched: 0,
            _connection: connection,
        })
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
        let sent = async {
            connection.sender.ready().await?;
            connection.sender.send_request(request).await
        };
        let response = answered(timeout(TO_ANSWER, sent).await, &server)?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let body = read(response, &server).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::Nonsense(format!(
                "{server} answers {path} with what makes no sense: {error}"
            ))
        })
    }

    async fn refused(&self, response: Response<Incoming>) -> Failure {
        let (server, status) = (self.server(), response.status());
        let Ok(body) = read(response, &server).await else {
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
        let away = |error: &dyn fmt::Display| {
            Failure::Away(format!("{endpoint} cannot be reached: {error}"))
        };
        let connect = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        let stream = match timeout(TO_CONNECT, connect).await {
            Err(_) => return Err(away(&"no answer")),
            Ok(stream) => stream.map_err(|error| away(&error))?,
        };
        let local = stream.local_addr().map_err(|error| away(&error))?.ip();
        settle(&stream).map_err(|error| away(&error))?;
        if !endpoint.tls {
            return shake(stream, local, &away).await;
        }
        let connector = tls::connector(&self.access).map_err(Failure::Refused)?;
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| away(&error))?;
        match timeout(TO_ANSWER, connector.connect(name, stream)).await {
            Err(_) => Err(away(&"no answer to TLS's greeting")),
            Ok(Err(error)) => Err(away(&error)),
            Ok(Ok(stream)) => shake(stream, local, &away).await,
        }
    }
}

/// A way that carries nothing any more is noticed within five seconds, without a word to the server's program.
fn settle(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(2))
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(5)))
}

async fn shake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    local: IpAddr,
    away: &impl Fn(&dyn fmt::Display) -> Failure,
) -> Result<Connection> {
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| away(&error))?;
    let task = tokio::spawn(async move {
        // Its end is told to whoever uses the sender.
        let _ = connection.await;
    });
    Ok(Connection {
        sender,
        local,
        task,
    })
}

fn answered(
    sent: std::result::Result<hyper::Result<Response<Incoming>>, tokio::time::error::Elapsed>,
    server: &str,
) -> Result<Response<Incoming>> {
    match sent {
        Err(_) => Err(Failure::Away(format!(
            "{server} has not answered for {TO_ANSWER:?}"
        ))),
        Ok(Err(error)) if error.is_parse() => Err(Failure::Nonsense(format!(
            "{server} does not speak HTTP as expected: {error}"
        ))),
        Ok(Err(error)) => Err(Failure::Away(format!(
            "{server} broke the connection off: {error}"
        ))),
        Ok(Ok(response)) => Ok(response),
    }
}

async fn read(response: Response<Incoming>, server: &str) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), MOST_BYTES).collect();
    match timeout(TO_ANSWER, body).await {
        Err(_) => Err(Failure::Away(format!("{server} does not end its answer"))),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Failure::Refused(TOO_LARGE.to_owned()))
        }
        Ok(Err(error)) => Err(Failure::Away(format!(
            "{server} broke its answer off: {error}"
        ))),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// What an answer is called that has more bytes than are read.
pub(super) const TOO_LARGE: &str = "the answer is larger than any that makes sense";

fn secret(path: &Path) -> Result<String> {
    let unread = |error: &dyn fmt::Display| {
        Failure::Refused(format!("could not read {}: {error}", path.display()))
    };
    let length = fs::metadata(path).map_err(|error| unread(&error))?.len();
    if length > LONGEST_SECRET {
        return Err(unread(&"it is too long for a secret"));
    }
    let text = fs::read_to_string(path).map_err(|error| unread(&error))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl Watch {
    /// The next message. It may be dropped at any await point, and loses nothing.
    ///
    /// # Errors
    /// [`Failure`]: then the watch has ended.
    pub async fn next(&mut self) -> Result<WatchAnswer> {
        loop {
            if let Some(line) = self.line() {
                let broken = |error| {
                    Failure::Nonsense(format!("the watch tells what makes no sense: {error}"))
                };
                let message: Streamed<WatchAnswer> =
                    serde_json::from_slice(&line).map_err(broken)?;
                return match (message.result, message.error) {
                    (Some(answer), _) => Ok(answer),
                    (None, Some(error)) => {
                        Err(Failure::Away(format!("the watch has ended: {error}")))
                    }
                    (None, None) => Err(Failure::Nonsense("the watch tells nothing".to_owned())),
                };
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.data_ref().into_iter().flatten()),
                Some(Err(error)) => {
                    return Err(Failure::Away(format!("the watch has ended: {error}")));
                }
                None => return Err(Failure::Away("the server has ended the watch".to_owned())),
            }
            if self.buffer.len() > 2 * MOST_BYTES {
                return Err(Failure::Nonsense(
                    "a message of the watch has no end".to_owned(),
                ));
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let fresh = self.buffer.get(self.searched..)?;
        let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let rest = self.buffer.split_off(self.searched + end + 1);
        self.searched = 0;
        Some(std::mem::replace(&mut self.buffer, rest))
    }
}

impl Failure {
    /// Whether a server had a hand in it.
    pub fn reached(&self) -> bool {
        !matches!(self, Self::Away(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Away(words) | Self::Refused(words) | Self::Nonsense(words)) = self;
        f.write_str(words)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
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
