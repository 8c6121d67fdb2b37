//! What systemd is told (`sd_notify(3)`): a datagram to the socket that it names, and nothing where it names none.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager's socket, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    said: String,
    ready: bool,
}

/// What the environment says of the service manager.
#[derive(Debug, Clone, Copy, Default)]
pub struct Environment<'a> {
    /// `NOTIFY_SOCKET`.
    pub socket: Option<&'a OsStr>,
    /// `WATCHDOG_USEC`.
    pub watchdog_usec: Option<&'a str>,
    /// `WATCHDOG_PID`.
    pub watchdog_pid: Option<&'a str>,
}

impl Notify {
    /// Connects to the socket that the environment names.
    ///
    /// # Errors
    /// The socket's path cannot be connected to.
    pub fn new(environment: &Environment<'_>) -> io::Result<Self> {
        let Some(name) = environment.socket.filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address(name)?)?;
        // A manager that does not read must not stop the agent.
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Some(socket),
            watchdog: watchdog(environment, std::process::id()),
            said: String::new(),
            ready: false,
        })
    }

    /// How often [`Notify::alive`] has to be said: twice within the time after which the manager loses patience.
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|patience| patience / 2)
    }

    /// The node is connected. Sent once.
    pub fn ready(&mut self) {
        if !std::mem::replace(&mut self.ready, true) {
            self.send("READY=1");
        }
    }

    /// One line on how things are, for `systemctl status`. Sent only when it is another than before.
    pub fn status(&mut self, line: &str) {
        if self.said != line {
            line.clone_into(&mut self.said);
            self.send(&format!("STATUS={}", line.replace('\n', " ")));
        }
    }

    /// The agent is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The loop makes progress.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            tracing::debug!(%error, text, "the service manager does not listen");
        }
    }
}

/// `@` begins an abstract name.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// `WATCHDOG_PID` says whom it is about, where it is set.
fn watchdog(environment: &Environment<'_>, own_pid: u32) -> Option<Duration> {
    let ours = environment
        .watchdog_pid
        .is_none_or(|pid| pid.parse() == Ok(own_pid));
    let microseconds = environment
        .watchdog_usec?
        .parse()
        .ok()
        .filter(|number| *number > 0)?;
    ours.then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn notify(socket: &OsStr) -> Notify {
        let environment = Environment {
            socket: Some(socket),
            watchdog_usec: Some("120000000"),
            watchdog_pid: None,
        };
        Notify::new(&environment).unwrap()
    }

    #[test]
    fn a_socket_in_the_file_system_is_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut notify = notify(path.as_os_str());
        notify.ready();
        notify.ready();
        notify.status("3 peers");
        notify.status("3 peers");
        notify.status("4 peers\n");
        notify.alive();
        notify.stopping();
        for expected in [
            "READY=1",
            "STATUS=3 peers",
            "STATUS=4 peers ",
            "WATCHDOG=1",
            "STOPPING=1",
        ] {
            assert_eq!(read(&manager), expected);
        }
        assert_eq!(notify.interval(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn an_abstract_socket_is_written_to() {
        let name = format!("node-agent-test-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notify(OsStr::new(&format!("@{name}"))).ready();
        assert_eq!(read(&manager), "READY=1");
    }

    #[test]
    fn without_a_manager_nothing_is_said_and_the_watchdog_of_another_process_is_not_ours() {
        let mut silent = Notify::new(&Environment::default()).unwrap();
        silent.ready();
        silent.status("alone");
        silent.alive();
        assert_eq!(silent.interval(), None);
        let environment = |usec, pid| Environment {
            socket: None,
            watchdog_usec: usec,
            watchdog_pid: pid,
        };
        assert_eq!(watchdog(&environment(Some("1000"), Some("7")), 8), None);
        assert_eq!(
            watchdog(&environment(Some("1000"), Some("7")), 7),
            Some(Duration::from_millis(1))
        );
        assert_eq!(watchdog(&environment(Some("0"), None), 7), None);
        assert_eq!(watchdog(&environment(Some("soon"), None), 7), None);
    }
}
