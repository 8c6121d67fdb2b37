//! A queue from a thread to a task, which needs no runtime.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A queue's two ends.
pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(Shared {
        waiting: VecDeque::new(),
        waker: None,
        ended: false,
    }));
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// Where values go in. The queue ends when it is dropped.
pub(crate) struct Sender<T>(Arc<Mutex<Shared<T>>>);

/// Where values come out.
pub(crate) struct Receiver<T>(Arc<Mutex<Shared<T>>>);

struct Shared<T> {
    waiting: VecDeque<T>,
    waker: Option<Waker>,
    ended: bool,
}

impl<T> Sender<T> {
    /// Alters what waits: to append something, or to take back what it makes worthless. It is so that a receiver that
    /// does not come round costs no more memory than the sender grants.
    pub(crate) fn alter(&self, change: impl FnOnce(&mut VecDeque<T>)) {
        let waker = {
            let mut shared = lock(&self.0);
            change(&mut shared.waiting);
            match shared.waiting.is_empty() {
                true => None,
                false => shared.waker.take(),
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl<T> Sender<T> {
    /// Whether nobody will ever take anything.
    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut shared = lock(&self.0);
            shared.ended = true;
            shared.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The next value; `None` when the sender is gone and everything has been taken. May be dropped, and loses nothing.
    pub(crate) async fn next(&mut self) -> Option<T> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut shared = lock(&self.0);
        if let Some(value) = shared.waiting.pop_front() {
            return Poll::Ready(Some(value));
        }
        if shared.ended {
            return Poll::Ready(None);
        }
        shared.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({} waiting)", lock(&self.0).waiting.len())
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({} waiting)", lock(&self.0).waiting.len())
    }
}

fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn values_come_out_in_their_order_and_then_the_end() {
        let (sender, mut receiver) = channel();
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(receiver.poll(&mut context), Poll::Pending);
        sender.alter(|waiting| waiting.extend([1, 2]));
        assert_eq!(receiver.poll(&mut context), Poll::Ready(Some(1)));
        drop(sender);
        assert_eq!(receiver.poll(&mut context), Poll::Ready(Some(2)));
        assert_eq!(receiver.poll(&mut context), Poll::Ready(None));
    }

    #[tokio::test]
    async fn a_waiting_task_is_woken_by_a_value_and_by_the_end() {
        let (sender, mut receiver) = channel();
        let thread = thread::spawn(move || {
            for value in 0..100 {
                thread::yield_now();
                sender.alter(|waiting| waiting.push_back(value));
            }
        });
        for value in 0..100 {
            assert_eq!(receiver.next().await, Some(value));
        }
        assert_eq!(receiver.next().await, None);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_loses_nothing() {
        let (sender, mut receiver) = channel();
        let given_up = tokio::time::timeout(Duration::from_millis(1), receiver.next()).await;
        assert!(given_up.is_err());
        sender.alter(|waiting| waiting.push_back(7));
        assert_eq!(receiver.next().await, Some(7));
    }

    #[test]
    fn the_sender_knows_when_there_is_no_receiver() {
        let (sender, receiver) = channel::<u8>();
        assert!(!sender.is_abandoned());
        drop(receiver);
        assert!(sender.is_abandoned());
    }

    #[test]
    fn what_waits_can_be_taken_back() {
        let (sender, mut receiver) = channel();
        sender.alter(|waiting| waiting.extend(0..1000));
        sender.alter(|waiting| {
            waiting.clear();
            waiting.push_back(7);
        });
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(receiver.poll(&mut context), Poll::Ready(Some(7)));
        assert_eq!(receiver.poll(&mut context), Poll::Pending);
    }
}
