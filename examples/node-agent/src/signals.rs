//! Orders by signal.

use std::fmt;
use std::io;

use async_trait::async_trait;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::agent::{Order, Orders};

/// SIGTERM and SIGINT stop, SIGHUP has the configuration read again.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From here on these signals are orders.
    ///
    /// # Errors
    /// A handler cannot be installed.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

#[async_trait]
impl Orders for Signals {
    async fn next(&mut self) -> Order {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.hang_up.recv() => Order::Reload,
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals")
    }
}
