//! The lock of the fake's host namespace, between everything that shares the fake.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use async_trait::async_trait;

use crate::error::Result;
use crate::host::lock::{Guard, HostLock};

/// `flock(2)` without files.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeLock(Arc<Mutex<Holders>>);

#[derive(Debug, Default)]
struct Holders {
    shared: usize,
    exclusive: bool,
}

#[derive(Debug)]
struct Held {
    lock: FakeLock,
    exclusive: bool,
}

impl Guard for Held {}

#[async_trait]
impl HostLock for FakeLock {
    async fn shared(&self) -> Result<Box<dyn Guard>> {
        poll_fn(|context| {
            let mut holders = self.holders();
            if holders.exclusive {
                // Whoever holds it runs on this executor or another thread: ask again.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            holders.shared += 1;
            Poll::Ready(())
        })
        .await;
        Ok(Box::new(Held {
            lock: self.clone(),
            exclusive: false,
        }))
    }

    async fn try_exclusive(&self) -> Result<Option<Box<dyn Guard>>> {
        let mut holders = self.holders();
        if holders.exclusive || holders.shared > 0 {
            return Ok(None);
        }
        holders.exclusive = true;
        Ok(Some(Box::new(Held {
            lock: self.clone(),
            exclusive: true,
        })))
    }
}

impl FakeLock {
    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut holders = self.lock.holders();
        if self.exclusive {
            holders.exclusive = false;
        } else {
            holders.shared -= 1;
        }
    }
}
