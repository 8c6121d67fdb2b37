//! Panics as errors.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::error::{Error, ErrorKind, Result};

/// The outcome of a future, or an error (code 999) if it panics. A future that has panicked is not polled again, and
/// what it borrowed is only asked to undo things afterwards; hence the assertion.
pub(super) async fn caught<T>(plugin: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut future = pin!(future);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(payload) => Poll::Ready(Err(panicked(plugin, payload.as_ref()))),
        },
    )
    .await
}

/// The error that a panic becomes.
pub(super) fn panicked(plugin: &str, payload: &(dyn Any + Send)) -> Error {
    let text = if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "no message"
    };
    Error::new(
        ErrorKind::Internal,
        format!("the plugin {plugin:?} panicked: {text}"),
    )
}
