//! Multicast groups of rtnetlink and nfnetlink, read by a thread.

mod messages;
mod sockets;

use std::io::{self, PipeWriter};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;

use self::messages::Messages;
use self::sockets::Sockets;
use super::queue::tell;
use super::{KernelEvent, Monitor};
use crate::channel::{Receiver, channel};

/// Tells of changes in the network namespace in which it was opened, whichever thread asks for them.
///
/// A thread of its own waits for them; it sleeps while nothing happens, and ends when this is dropped.
#[derive(Debug)]
pub struct KernelMonitor {
    events: Receiver<KernelEvent>,
    /// The thread ends when the other end is closed.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl KernelMonitor {
    /// Opens sockets in the calling thread's network namespace. Whatever changes from then on is told. Without nftables in
    /// the kernel there are no [`KernelEvent::Firewall`]s.
    ///
    /// # Errors
    /// The sockets': EPERM without `CAP_NET_ADMIN` in the namespace. When the links cannot be read, or no thread can be
    /// made.
    pub fn open() -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let mut sockets = Sockets::open(stopped)?;
        // After the sockets: what changes between the two is told, and then corrects what has been read.
        let mut messages = Messages::read()?;
        let (to, events) = channel();
        let thread = thread::Builder::new()
            .name("kernel-monitor".to_owned())
            .spawn(move || {
                let ended = sockets.run(&mut |datagram| match datagram {
                    Some(bytes) => messages.each(bytes, &mut |event| tell(&to, event)),
                    None => tell(&to, KernelEvent::Overrun),
                });
                if let Err(error) = ended {
                    tracing::error!(%error, "the kernel's changes cannot be followed any more");
                    tell(&to, KernelEvent::Overrun);
                }
            })?;
        Ok(Self {
            events,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

#[async_trait]
impl Monitor for KernelMonitor {
    async fn next(&mut self) -> KernelEvent {
        super::queue::next(&mut self.events).await
    }
}

impl Drop for KernelMonitor {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
