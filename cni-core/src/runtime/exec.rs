//! Runs a plugin: environment and stdin in, stdout and exit status out.
//!
//! Standard library only, and blocking: a caller on an executor uses a thread of its own.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};

/// How often a waiting caller asks whether it has been cancelled.
const ASK_EVERY: Duration = Duration::from_millis(20);
const POLL_FOR: u8 = 20;
/// How long a program file that is just being written ("text file busy") is tried again.
const BUSY_FOR: Duration = Duration::from_secs(2);
/// How long more output is waited for once the plugin has ended: a process it left behind may hold the pipe open.
const DRAIN_FOR: Duration = Duration::from_millis(500);
/// More output than this is no result.
const MAX_OUTPUT: usize = 16 << 20;

/// One run of a plugin.
///
/// The plugin gets exactly the given environment, and a process group of its own. When `cancel` says no, the group
/// gets SIGTERM, and SIGKILL after `grace`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Invocation {
    /// The program's path.
    pub program: PathBuf,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What is written to stdin.
    pub stdin: Vec<u8>,
    /// What becomes of stderr.
    pub stderr: Stderr,
    /// When to stop it.
    pub cancel: Cancel,
    /// How long it may take to end by itself after SIGTERM.
    pub grace: Duration,
}

/// What becomes of a plugin's stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Stderr {
    /// It goes where ours goes, at once.
    #[default]
    Forward,
    /// It is handed back in [`Output::stderr`].
    Capture,
}

/// What a plugin answered.
#[derive(Debug)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr, if that was captured.
    pub stderr: Vec<u8>,
}

/// The first regular file `name` in the directories of `CNI_PATH`. An empty entry is passed over: the reference
/// library takes it for the current directory, which is not a place to run programs from.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for a name with a path separator, and for one that is nowhere to be found.
pub fn find(name: &str, path: &[PathBuf]) -> Result<PathBuf> {
    check_name(name)?;
    let mut candidates = path
        .iter()
        .filter(|dir| !dir.as_os_str().is_empty())
        .map(|dir| dir.join(name));
    candidates
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            let dirs: Vec<String> = path.iter().map(|dir| dir.display().to_string()).collect();
            Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "there is no plugin {name:?} in CNI_PATH ({}): install it there",
                    dirs.join(":")
                ),
            )
        })
}

/// Refuses plugin names that are not plain file names.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`].
pub fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("plugin name {name:?} must be a plain file name, without path separators"),
        ));
    }
    Ok(())
}

impl Invocation {
    /// A run of `program` with nothing on stdin and an empty environment.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            environment: Vec::new(),
            stdin: Vec::new(),
            stderr: Stderr::default(),
            cancel: Cancel::new(),
            grace: Duration::from_secs(2),
        }
    }

    /// Sets a variable, replacing an earlier value.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let key = key.as_ref();
        self.environment.retain(|(other, _)| other != key);
        self.environment
            .push((key.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it to its end. How it ended is in the output; only what kept us from that is an error.
    ///
    /// # Errors
    /// [`ErrorKind::TryAgain`] when cancelled, [`ErrorKind::Io`] when it could not be started or talked to.
    pub fn run(&self) -> Result<Output> {
        let mut child = self.spawn()?;
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let stdout = Pipe::of(child.stdout.take());
        let stderr = Pipe::of(child.stderr.take());
        let started = self.write_stdin(&mut child);
        let (sender, receiver) = mpsc::channel();
        let ended = waiter(child, sender);
        let mut running = Running {
            program: &self.program,
            group,
            end: receiver,
            pipes: [Pipe::default(), Pipe::default()],
            drain_for: DRAIN_FOR,
        };
        let started = started.and(ended).and_then(|()| {
            running.pipes = [stdout?, stderr?];
            Ok(())
        });
        let output = running.collect(&self.cancel, self.grace, started);
        output.map_err(|error| {
            error.context(format!("plugin {} did not finish", self.program.display()))
        })
    }

    fn spawn(&self) -> Result<Child> {
        let since = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let mut command = Command::new(&self.program);
            command
                .env_clear()
                .envs(self.environment.iter().map(|(key, value)| (key, value)))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(match self.stderr {
                    Stderr::Forward => Stdio::inherit(),
                    Stderr::Capture => Stdio::piped(),
                })
                .process_group(0);
            match command.spawn() {
                Ok(child) => return Ok(child),
                Err(error)
                    if error.kind() == io::ErrorKind::ExecutableFileBusy
                        && since.elapsed() < BUSY_FOR =>
                {
                    self.cancel.check("the plugin's file was free to be run")?;
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                Err(error) => {
                    let message = format!("could not run plugin {}", self.program.display());
                    return Err(Error::new(ErrorKind::Io, message).with_source(error));
                }
            }
        }
    }

    fn write_stdin(&self, child: &mut Child) -> io::Result<()> {
        let Some(mut pipe) = child.stdin.take() else {
            return Ok(());
        };
        let bytes = self.stdin.clone();
        // A plugin need not read its stdin; a broken pipe is its own affair.
        let write = move || drop(pipe.write_all(&bytes));
        thread::Builder::new()
            .name("plugin-stdin".to_owned())
            .spawn(write)
            .map(drop)
    }
}

/// What comes out of a plugin by one of its streams.
#[derive(Debug, Default)]
struct Pipe {
    /// `None` once it has ended.
    file: Option<File>,
    bytes: Vec<u8>,
}

impl Pipe {
    fn of(stream: Option<impl Into<OwnedFd>>) -> io::Result<Self> {
        let Some(stream) = stream else {
            return Ok(Self::default());
        };
        let file = File::from(stream.into());
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
        fcntl(&file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self {
            file: Some(file),
            bytes: Vec::new(),
        })
    }

    /// Takes what is in it now.
    fn take(&mut self) {
        let mut buffer = [0; 16 << 10];
        while let Some(file) = &mut self.file {
            match file.read(&mut buffer) {
                Ok(count @ 1..) => self.bytes.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => self.file = None,
            }
            if self.bytes.len() >= MAX_OUTPUT {
                self.bytes.truncate(MAX_OUTPUT);
                self.file = None;
            }
        }
    }
}

struct Running<'a> {
    program: &'a Path,
    group: Pid,
    /// Tells of the plugin's end.
    end: Receiver<io::Result<ExitStatus>>,
    /// Its stdout and stderr.
    pipes: [Pipe; 2],
    drain_for: Duration,
}

impl Running<'_> {
    fn collect(
        mut self,
        cancel: &Cancel,
        grace: Duration,
        started: io::Result<()>,
    ) -> Result<Output> {
        let io_error =
            |error| Error::new(ErrorKind::Io, "could not talk to the plugin").with_source(error);
        let mut stop = started.err().map(io_error);
        let mut kill_at = None;
        let mut status: Option<(io::Result<ExitStatus>, Instant)> = None;
        loop {
            if stop.is_some() && kill_at.is_none() {
                self.signal(Signal::SIGTERM);
                kill_at = Some(Instant::now() + grace);
            }
            if kill_at.is_some_and(|at| Instant::now() >= at) {
                self.signal(Signal::SIGKILL);
                kill_at = Some(Instant::now() + grace);
            }
            match self.wait() {
                Ok(ended) => status = Some((ended, Instant::now())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if status.is_none() => break,
                Err(RecvTimeoutError::Disconnected) => {}
            }
            // After the look at its end: whatever it has written before that is taken, however late we are.
            self.pipes.iter_mut().for_each(Pipe::take);
            let open = self.pipes.iter().any(|pipe| pipe.file.is_some());
            match &status {
                Some((_, since)) if !open || since.elapsed() >= self.drain_for => break,
                _ => {}
            }
            if stop.is_none() && status.is_none() {
                stop = cancel.check("the plugin answered").err();
            }
        }
        let [stdout, stderr] = self.pipes.map(|pipe| pipe.bytes);
        match (stop, status) {
            (Some(error), _) => Err(error),
            (None, Some((Ok(status), _))) => Ok(Output {
                status,
                stdout,
                stderr,
            }),
            (None, Some((Err(error), _))) => Err(io_error(error)),
            (None, None) => Err(io_error(io::Error::other("its end was not seen"))),
        }
    }

    /// Waits a moment for output, or for the end where no more output can come; the end, if it has come.
    fn wait(&self) -> Result<io::Result<ExitStatus>, RecvTimeoutError> {
        let open = self.pipes.iter().filter_map(|pipe| pipe.file.as_ref());
        let mut open: Vec<PollFd<'_>> = open
            .map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN))
            .collect();
        if open.is_empty() {
            return self.end.recv_timeout(ASK_EVERY);
        }
        // What keeps it from waiting shows where the pipe is read.
        let _ = poll(&mut open, POLL_FOR);
        self.end.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = killpg(self.group, signal) {
            tracing::debug!(program = %self.program.display(), %signal, %error, "could not stop the plugin");
        }
    }
}

fn waiter(mut child: Child, sender: Sender<io::Result<ExitStatus>>) -> io::Result<()> {
    let wait = move || drop(sender.send(child.wait()));
    thread::Builder::new()
        .name("plugin-wait".to_owned())
        .spawn(wait)
        .map(drop)
}

#[cfg(test)]
mod tests;
