//! The way from a test's network to the server: it can be cut, held up and slowed down.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::way::Backend;
use crate::Pod;

/// What is done to what passes.
#[derive(Debug, Clone, Copy, Default)]
struct Gate {
    frozen: bool,
    delay: Duration,
    /// How often all connections have been cut.
    cuts: u64,
}

/// A listener in a pod, and what it hands on.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    pod: &'a Pod,
    address: SocketAddr,
    backend: Arc<Backend>,
    runtime: Handle,
    gate: watch::Sender<Gate>,
    task: Option<JoinHandle<()>>,
}

impl<'a> Relay<'a> {
    pub(super) fn start(
        pod: &'a Pod,
        (address, port): (IpAddr, u16),
        backend: Backend,
        runtime: &Handle,
    ) -> Self {
        let mut relay = Self {
            pod,
            address: SocketAddr::new(address, port),
            backend: Arc::new(backend),
            runtime: runtime.clone(),
            gate: watch::Sender::new(Gate::default()),
            task: None,
        };
        relay.open();
        relay
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, if it does not.
    pub(super) fn open(&mut self) {
        if self.task.is_some() {
            return;
        }
        let address = self.address;
        let listener = self.pod.run(|| StdListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("{address}: {error}"));
        listener.set_nonblocking(true).expect("a socket");
        let _entered = self.runtime.enter();
        let listener = TcpListener::from_std(listener).expect("a listener");
        let (backend, gate) = (Arc::clone(&self.backend), self.gate.clone());
        self.task = Some(self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, Arc::clone(&backend), gate.subscribe()));
            }
        }));
    }

    /// Ends all connections; new ones are refused if `closed`.
    pub(super) fn cut(&mut self, closed: bool) {
        if closed && let Some(task) = self.task.take() {
            task.abort();
            // The port is free when the task has gone.
            let _ = self.wait(task);
        }
        self.gate.send_modify(|gate| gate.cuts += 1);
    }

    fn wait(&self, task: JoinHandle<()>) -> Option<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            let _ = task.await;
            let _ = sender.send(());
        });
        receiver.recv().ok()
    }

    pub(super) fn freeze(&self, frozen: bool) {
        self.gate.send_modify(|gate| gate.frozen = frozen);
    }

    pub(super) fn delay(&self, delay: Duration) {
        self.gate.send_modify(|gate| gate.delay = delay);
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        self.cut(true);
    }
}

async fn serve(mut stream: TcpStream, backend: Arc<Backend>, mut gate: watch::Receiver<Gate>) {
    let cuts = gate.borrow_and_update().cuts;
    let (inside, outside) = (gate.clone(), gate.clone());
    let pass = async {
        let (mut from_client, mut to_client) = stream.split();
        let (mut from_server, mut to_server) = tokio::io::split(backend.connect().await?);
        tokio::try_join!(
            pump(&mut from_client, &mut to_server, inside),
            pump(&mut from_server, &mut to_client, outside),
        )
        .map(drop)
    };
    tokio::select! {
        _ = pass => {}
        _ = gate.wait_for(|gate| gate.cuts != cuts) => {}
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut gate: watch::Receiver<Gate>,
) -> io::Result<()> {
    let mut buffer = vec![0; 8 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        let open = gate.wait_for(|gate| !gate.frozen).await;
        let delay = open.map_err(io::Error::other)?.delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}
