//! The lock of the fake's host namespace, between everything that shares the fake.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::host::lock::{Guard, HostLock, Sign};

/// `flock(2)` without files.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeLock(Arc<Mutex<Holders>>);

#[derive(Debug, Default)]
struct Holders {
    shared: usize,
    alone: usize,
    waiting: usize,
    working: usize,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Shared,
    Alone,
    Shows(Sign),
}

#[derive(Debug)]
struct Held {
    lock: FakeLock,
    how: How,
}

impl Guard for Held {}

#[async_trait]
impl HostLock for FakeLock {
    async fn try_shared(&self) -> Result<Option<Box<dyn Guard>>> {
        Ok(self.hold(How::Shared, |holders| holders.alone == 0))
    }

    async fn try_alone(&self) -> Result<Option<Box<dyn Guard>>> {
        let free = |holders: &Holders| holders.alone == 0 && holders.shared == 0;
        Ok(self.hold(How::Alone, free))
    }

    async fn show(&self, sign: Sign) -> Result<Box<dyn Guard>> {
        *self.holders().count(How::Shows(sign)) += 1;
        Ok(Box::new(Held {
            lock: self.clone(),
            how: How::Shows(sign),
        }))
    }

    async fn is_shown(&self, sign: Sign) -> Result<bool> {
        Ok(*self.holders().count(How::Shows(sign)) > 0)
    }

    /// Whoever holds it may run on this executor: it comes to its turn.
    async fn pause(&self, _: Duration) {
        let mut asked = false;
        poll_fn(|context| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl FakeLock {
    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, how: How, may: impl Fn(&Holders) -> bool) -> Option<Box<dyn Guard>> {
        let mut holders = self.holders();
        if !may(&holders) {
            return None;
        }
        *holders.count(how) += 1;
        Some(Box::new(Held {
            lock: self.clone(),
            how,
        }))
    }
}

impl Holders {
    fn count(&mut self, how: How) -> &mut usize {
        match how {
            How::Shared => &mut self.shared,
            How::Alone => &mut self.alone,
            How::Shows(Sign::Waiting) => &mut self.waiting,
            How::Shows(Sign::Working) => &mut self.working,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.lock.holders().count(self.how) -= 1;
    }
}
