//! Connections with a server: with our own, within this process, or with a real one, by the socket that the process that
//! runs the tests has opened before the test entered its namespaces.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_rustls::TlsAcceptor;

use super::core::Core;
use super::service::{self, Peer};
use super::tls;

/// A connection of whichever kind.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Where a relay's connections end.
pub(super) enum Backend {
    Own {
        core: Arc<Core>,
        tls: Option<Tls>,
        /// The test itself asks.
        own: bool,
    },
    Real(PathBuf),
}

/// What makes a server's connection a TLS one.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) clients: Arc<tls::Clients>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Own { .. } => "Own",
            Self::Real(_) => "Real",
        })
    }
}

impl Backend {
    pub(super) async fn connect(&self) -> io::Result<Pin<Box<dyn Wire>>> {
        match self {
            Self::Real(path) => Ok(Box::pin(UnixStream::connect(path).await?)),
            Self::Own { core, tls, own } => {
                let (near, far) = tokio::io::duplex(64 << 10);
                if !own {
                    core.counts().connections += 1;
                }
                tokio::spawn(serve(Arc::clone(core), tls.clone(), *own, far));
                Ok(Box::pin(near))
            }
        }
    }
}

async fn serve(core: Arc<Core>, tls: Option<Tls>, own: bool, stream: tokio::io::DuplexStream) {
    let mut peer = Peer {
        certified: None,
        own,
    };
    let Some(tls) = tls else {
        return speak(core, peer, stream).await;
    };
    if let Ok(stream) = tls.acceptor.accept(stream).await {
        let certificates = stream.get_ref().1.peer_certificates();
        peer.certified = certificates.map(|all| tls.clients.user(all));
        speak(core, peer, stream).await;
    }
}

async fn speak(core: Arc<Core>, peer: Peer, stream: impl AsyncRead + AsyncWrite + Send + Unpin) {
    let answer = service_fn(|request| service::serve(Arc::clone(&core), peer, request));
    // What ends a connection is the client's business.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}
