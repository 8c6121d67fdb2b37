//! A node with thousands of peers.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

mod low;
mod messages;
mod peers;
mod spent;

/// Runs the section.
pub(crate) fn run(runs: usize) {
    println!("\n== A node with thousands of peers");
    low::run(runs.min(11));
}

/// The result of a future that never waits, as those of the kernel implementations.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the kernel implementation waited"),
    }
}
