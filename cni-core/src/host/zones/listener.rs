//! Hears what firewalld tells of itself.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::Following;
use super::bus::{Bus, Call};

/// That it has started, ended or was reloaded, and that its zones were changed, whoever did it.
const RULES: [&str; 2] = [
    "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.fedoraproject.FirewallD1'",
    "type='signal',sender='org.fedoraproject.FirewallD1'",
];

/// A thread that waits on a connection of its own.
#[derive(Debug)]
pub(crate) struct Listener {
    stream: UnixStream,
    alive: Arc<AtomicBool>,
}

impl Listener {
    /// Listens, and tells from a thread.
    pub(crate) fn start(patience: Duration, tell: Box<dyn Fn() + Send>) -> io::Result<Self> {
        let mut bus = Bus::connect(patience)?;
        for rule in RULES {
            let answer = bus.call(&Call {
                destination: "org.freedesktop.DBus",
                path: "/org/freedesktop/DBus",
                interface: "org.freedesktop.DBus",
                member: "AddMatch",
                arguments: &[rule],
                number: None,
            })?;
            if let Err(refused) = answer {
                return Err(io::Error::other(refused.message));
            }
        }
        let stream = bus.listen()?;
        let alive = Arc::new(AtomicBool::new(true));
        let is_alive = Arc::clone(&alive);
        thread::Builder::new()
            .name("firewalld".to_owned())
            .stack_size(128 << 10)
            .spawn(move || {
                while let Ok(signal) = bus.is_signal() {
                    if signal {
                        tell();
                    }
                }
                is_alive.store(false, Ordering::Relaxed);
                // Whoever follows has to connect anew.
                tell();
            })?;
        Ok(Self { stream, alive })
    }
}

impl Following for Listener {
    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Ends the thread's wait.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
