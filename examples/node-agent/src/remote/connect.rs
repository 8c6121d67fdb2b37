//! A connection with a server: HTTP/1.1, one request at a time.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Failure, Result};

/// The first packet is sent again after a second.
const TO_CONNECT: Duration = Duration::from_millis(1500);
/// An answer, and the handshake of TLS, have to come within this time.
pub(crate) const TO_ANSWER: Duration = Duration::from_secs(5);

/// A connection. It ends when it is dropped.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// What the server is called.
    server: String,
    local: IpAddr,
    task: JoinHandle<()>,
}

/// Where to connect.
pub(crate) struct Target<'a> {
    /// What the server is called in words.
    pub(crate) server: String,
    /// Name or address.
    pub(crate) host: &'a str,
    /// Port.
    pub(crate) port: u16,
    /// How TLS is spoken, and the name that the server's certificate has to bear; `None`: it is not.
    pub(crate) tls: Option<(TlsConnector, &'a str)>,
}

impl Target<'_> {
    /// Connects.
    ///
    /// # Errors
    /// [`Failure::Away`].
    pub(crate) async fn open(self) -> Result<Connection> {
        let server = self.server;
        let away = |error: &dyn fmt::Display| {
            Failure::Away(format!("{server} cannot be reached: {error}"))
        };
        let connect = TcpStream::connect((self.host, self.port));
        let stream = match timeout(TO_CONNECT, connect).await {
            Err(_) => return Err(away(&"no answer")),
            Ok(stream) => stream.map_err(|error| away(&error))?,
        };
        let local = stream.local_addr().map_err(|error| away(&error))?.ip();
        settle(&stream).map_err(|error| away(&error))?;
        let shaken = match self.tls {
            None => shake(stream).await,
            Some((connector, name)) => {
                let name = ServerName::try_from(name.to_owned()).map_err(|error| away(&error))?;
                match timeout(TO_ANSWER, connector.connect(name, stream)).await {
                    Err(_) => return Err(away(&"no answer to TLS's greeting")),
                    Ok(Err(error)) => return Err(away(&error)),
                    Ok(Ok(stream)) => shake(stream).await,
                }
            }
        };
        let (sender, task) = shaken.map_err(|error| away(&error))?;
        Ok(Connection {
            sender,
            server,
            local,
            task,
        })
    }
}

impl Connection {
    /// This host's address on it.
    pub(crate) fn local(&self) -> IpAddr {
        self.local
    }

    /// Whether the server has ended it.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request, and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Failure::Away`] or [`Failure::Nonsense`].
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>> {
        let server = &self.server;
        let sender = &mut self.sender;
        let sent = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        match timeout(TO_ANSWER, sent).await {
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
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
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
) -> hyper::Result<(SendRequest<Full<Bytes>>, JoinHandle<()>)> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    let task = tokio::spawn(async move {
        // Its end is told to whoever uses the sender.
        let _ = connection.await;
    });
    Ok((sender, task))
}
