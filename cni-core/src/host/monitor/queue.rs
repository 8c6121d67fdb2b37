//! Events that wait.

use std::collections::VecDeque;

use super::KernelEvent;
use crate::channel::{Receiver, Sender};

/// Events that wait at most; some hundred bytes each.
const MOST_WAITING: usize = 4096;

/// Appends an event to those that wait. What happens before the receiver takes [`KernelEvent::Overrun`] is a part of it.
pub(crate) fn tell(to: &Sender<KernelEvent>, event: KernelEvent) {
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

/// The next event, for ever if there will be none.
pub(crate) async fn next(events: &mut Receiver<KernelEvent>) -> KernelEvent {
    match events.next().await {
        Some(event) => event,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::channel;

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
