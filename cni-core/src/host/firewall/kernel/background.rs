//! Work on a thread of its own, awaited without a runtime.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Runs `work` on a new thread, in the caller's network namespace, from the first poll on. Where no thread can be made
/// it runs on the caller's. `None` when it panicked.
pub(super) async fn run<T: Send + 'static>(
    work: impl Fn() -> T + Clone + Send + 'static,
) -> Option<T> {
    let slot = Arc::new(Mutex::new(Slot {
        result: None,
        ended: false,
        waker: None,
    }));
    let finish = Finish(Arc::clone(&slot));
    let job = work.clone();
    let thread = std::thread::Builder::new()
        .name("nft-commit".to_owned())
        .spawn(move || {
            let result = job();
            lock(&finish.0).result = Some(result);
            drop(finish);
        });
    if thread.is_err() {
        return Some(work());
    }
    poll_fn(|context| {
        let mut slot = lock(&slot);
        if slot.ended {
            return Poll::Ready(slot.result.take());
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await
}

struct Slot<T> {
    result: Option<T>,
    ended: bool,
    waker: Option<Waker>,
}

/// Tells the waiting side that the thread is done, also when it panics.
struct Finish<T>(Arc<Mutex<Slot<T>>>);

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.ended = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
