//! Programs that run beside a test, such as an agent.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A program under way, killed when dropped; what it writes is kept.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// Those that must not outlive this process, however it ends.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

impl Process {
    /// Starts a command in the calling thread's namespaces, with nothing on stdin.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let log =
            std::env::temp_dir().join(format!("cni-testkit-{}-{number}.log", std::process::id()));
        let file = File::create(&log).expect("a file for the program's output");
        let other = file.try_clone().expect("a second handle of the file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(other)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        running().push(child.id());
        Self { child, log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far, to stdout and stderr.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it has not ended after a minute.
    pub fn stop(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        self.wait(Duration::from_secs(60))
    }

    /// Kills it with SIGKILL, and waits for its end.
    pub fn kill(self) {
        drop(self);
    }

    /// Waits for its end by itself.
    ///
    /// # Errors
    /// When it takes longer.
    pub fn wait(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                let text = format!("it runs after {limit:?}: {}", self.log());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops it where it is, as a machine under pressure does (SIGSTOP), or lets it go on (SIGCONT).
    pub fn freeze(&mut self, frozen: bool) {
        self.signal(if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        });
    }

    /// Not after it has been waited for: its number may be another's by then.
    fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let id = i32::try_from(self.child.id()).expect("a process id");
            let _ = kill(Pid::from_raw(id), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let id = self.child.id();
        let _ = self.child.kill();
        let _ = self.child.wait();
        running().retain(|running| *running != id);
        if std::thread::panicking() {
            eprintln!("the log of process {id}:\n{}", self.log());
        }
        let _ = fs::remove_file(&self.log);
    }
}

/// Kills what still runs, before an end of this process that drops nothing.
pub(crate) fn end_all() {
    for id in running().drain(..) {
        let id = i32::try_from(id).expect("a process id");
        let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
    }
}

fn running() -> std::sync::MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
