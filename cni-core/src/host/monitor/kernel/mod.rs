//! Multicast groups of rtnetlink and nfnetlink, read by a thread.

mod messages;
mod sockets;

use std::collections::VecDeque;
use std::io::{self, PipeWriter};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;

use self::messages::Messages;
use self::sockets::Sockets;
use super::{KernelEvent, Monitor};
use crate::channel::{Receiver, Sender, channel};

/// Events that wait at most; some hundred bytes each.
const MOST_WAITING: usize = 4096;

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
        match self.events.next().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
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

/// Appends an event to those that wait. What happens before the receiver takes [`KernelEvent::Overrun`] is a part of it.
fn tell(to: &Sender<KernelEvent>, event: KernelEvent) {
    to.alter(|waiting: &mut VecDeque<_>| match waiting.back() {
        Some(KernelEvent::Overrun) => {}
        Some(last) if *last == event => {}
        _ if waiting.len() >= MOST_WAITING || event == KernelEvent::Overrun => {
            waiting.clear();
            waiting.push_back(KernelEvent::Overrun);
        }
        _ => waiting.push_back(event),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(index: u32) -> KernelEvent {
        let name = "eth0".to_owned();
        KernelEvent::Address { index, name }
    }

    fn taken(receiver: &mut Receiver<KernelEvent>) -> Vec<KernelEvent> {
        let mut all = Vec::new();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while let std::task::Poll::Ready(Some(event)) =
            std::pin::pin!(receiver.next()).poll(&mut context)
        {
            all.push(event);
        }
        all
    }

    #[test]
    fn too_many_events_become_one_that_stands_for_all() {
        let (sender, mut receiver) = channel();
        for index in 0..10_000 {
            tell(&sender, address(index));
        }
        assert_eq!(taken(&mut receiver), [KernelEvent::Overrun]);
        tell(&sender, address(1));
        assert_eq!(taken(&mut receiver), [address(1)]);
    }

    #[test]
    fn an_overrun_stands_for_what_waits_and_for_what_follows_until_it_is_taken() {
        let (sender, mut receiver) = channel();
        tell(&sender, address(1));
        tell(&sender, KernelEvent::Overrun);
        tell(&sender, address(2));
        tell(&sender, KernelEvent::Overrun);
        assert_eq!(taken(&mut receiver), [KernelEvent::Overrun]);
    }

    #[test]
    fn the_same_event_again_is_told_once() {
        let (sender, mut receiver) = channel();
        for index in [1, 1, 2, 1] {
            tell(&sender, address(index));
        }
        assert_eq!(taken(&mut receiver), [address(1), address(2), address(1)]);
    }
}
