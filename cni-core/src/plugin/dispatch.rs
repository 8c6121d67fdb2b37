//! One request, from its parts to its answer, without globals: tests call this in parallel.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::Plugin;
use super::caught::panicked;
use super::input::Options;
use super::verbs::{self, Serve};
use crate::backend::NetworkBackend;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::ipam::Ipam;
use crate::spec::json::MAX_BYTES;
use crate::spec::{Environment, NetworkConfig, SpecVersion, Verb, VersionReply, wire_error};

/// What a plugin serves its requests with.
#[derive(Debug)]
pub enum Service<'a> {
    /// A way of connecting pods.
    Backend(&'a dyn NetworkBackend),
    /// Address management: it is asked for addresses and touches no namespace.
    Ipam(&'a dyn Ipam),
}

/// Everything of a process that a request is made of.
pub struct Call<'a> {
    /// A variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The configuration. It is read for every verb but an unknown one.
    pub stdin: Box<dyn Read + Send>,
    /// Takes one JSON document, in one write, or nothing.
    pub stdout: &'a mut dyn Write,
    /// Takes what is meant for people: the introduction, the plan of a dry run.
    pub stderr: &'a mut dyn Write,
    /// Opens the host's side of the kernel. VERSION and address management do not need it.
    pub host: &'a dyn Fn() -> Result<Host>,
    /// Sets address management up as the configuration asks for it.
    pub ipam: &'a IpamFactory<'a>,
    /// Called once stdin has been read: gives the means to stop the request. `CNI_TIMEOUT_MS` is added to it.
    pub cancel: &'a dyn Fn() -> Result<Cancel>,
}

/// Sets address management up as a configuration's `ipam` asks for it; `CNI_PATH` is in the environment.
pub type IpamFactory<'a> =
    dyn Fn(&NetworkConfig, &Environment) -> Result<Box<dyn Ipam>> + Send + Sync + 'a;

/// How long VERSION waits for stdin when it neither ends nor holds a whole document. The verb needs no input; the wait
/// only serves to echo the caller's `cniVersion`.
const VERSION_STDIN_WAIT: Duration = Duration::from_millis(500);

/// Serves one request and returns the exit status. Whatever happens, `stdout` gets one JSON document or nothing.
pub fn dispatch(plugin: &Plugin, service: &Service<'_>, call: Call<'_>) -> u8 {
    let Call {
        env,
        stdin,
        stdout,
        stderr,
        host,
        ipam,
        cancel,
    } = call;
    let means = Means {
        service,
        host,
        ipam,
        cancel,
    };
    let mut session = Session {
        plugin,
        stdout,
        stderr,
        echo: None,
        answered: false,
    };
    let served = catch_unwind(AssertUnwindSafe(|| session.serve(&means, env, stdin)));
    let error = match served {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error,
        Err(payload) => panicked(&plugin.name, payload.as_ref()),
    };
    tracing::debug!(error = error.chain(), "failed");
    session.refuse(&error);
    1
}

/// What a request is served with.
pub(super) struct Means<'a> {
    pub(super) service: &'a Service<'a>,
    pub(super) host: &'a dyn Fn() -> Result<Host>,
    pub(super) ipam: &'a IpamFactory<'a>,
    cancel: &'a dyn Fn() -> Result<Cancel>,
}

/// A request under way: what its answer needs.
pub(super) struct Session<'a> {
    pub(super) plugin: &'a Plugin,
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
    /// `cniVersion` of the input, as far as it is known.
    echo: Option<SpecVersion>,
    /// Something has been written to stdout.
    answered: bool,
}

impl Session<'_> {
    fn serve(
        &mut self,
        means: &Means<'_>,
        env: &dyn Fn(&str) -> Option<OsString>,
        stdin: Box<dyn Read + Send>,
    ) -> Result<()> {
        let Some(environment) = Environment::read(env)? else {
            return self.introduce();
        };
        if environment.verb == Verb::Version {
            let reply = VersionReply::to_request(&version_stdin(stdin), self.plugin.supported());
            return self.deliver(&reply.render());
        }
        let options = Options::from_env(env, environment.command())?;
        let bytes = read_all(stdin)?;
        self.echo = NetworkConfig::version_of(&bytes);
        let serve = Serve {
            means,
            environment: &environment,
            options: &options,
            bytes: &bytes,
            cancel: &options.with_deadline((means.cancel)()?),
        };
        block_on(self.plugin, verbs::serve(self, serve))?
    }

    fn introduce(&mut self) -> Result<()> {
        let text = self.plugin.introduction();
        // Nobody is left to tell when stderr is closed.
        let _ = self.stderr.write_all(text.as_bytes());
        Ok(())
    }

    /// Prints what a dry run would do, for people.
    pub(super) fn print(&mut self, plan: &str) -> Result<()> {
        self.stderr.write_all(plan.as_bytes()).map_err(|error| {
            Error::new(ErrorKind::Io, "could not write the plan to stderr").with_source(error)
        })
    }

    /// Writes the one document of this request.
    pub(super) fn deliver(&mut self, document: &str) -> Result<()> {
        self.answered = true;
        let line = format!("{document}\n");
        self.stdout
            .write_all(line.as_bytes())
            .and_then(|()| self.stdout.flush())
            .map_err(|error| {
                Error::new(ErrorKind::Io, "could not write the result to stdout").with_source(error)
            })
    }

    /// Writes an error object, unless a document has been written already; then, and when stdout refuses it, it goes to
    /// stderr.
    fn refuse(&mut self, error: &Error) {
        if !self.answered {
            let version = self.echo.unwrap_or_else(|| self.plugin.newest());
            let document = wire_error::render(error, version);
            if self.deliver(&document).is_ok() {
                return;
            }
        }
        let _ = writeln!(self.stderr, "{}: {}", self.plugin.name, error.chain());
    }
}

fn read_all(mut stdin: Box<dyn Read + Send>) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2048);
    match stdin.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Error::new(
            ErrorKind::Io,
            "could not read the network configuration from stdin",
        )
        .with_source(error)),
    }
}

/// Runs on a single-threaded executor. It has no I/O and no time driver unless the plugin asks for them: nothing in this
/// crate awaits a socket or a timer, and setting them up costs some 50 microseconds of every request.
fn block_on<F: Future>(plugin: &Plugin, future: F) -> Result<F::Output> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    if plugin.io {
        builder.enable_all();
    }
    builder
        .build()
        .map(|runtime| runtime.block_on(future))
        .map_err(|error| {
            Error::new(ErrorKind::Io, "could not start the async runtime").with_source(error)
        })
}

/// What stdin holds when VERSION is asked, for the sake of its `cniVersion`. It is taken as soon as it is a whole document,
/// and a stdin that never ends (a terminal, a pipe that somebody keeps open) is given up: the thread that waits for it
/// ends with the process.
fn version_stdin(mut stdin: Box<dyn Read + Send>) -> Vec<u8> {
    let (send, receive) = mpsc::sync_channel::<Vec<u8>>(1);
    let reader = std::thread::Builder::new()
        .name("stdin".into())
        .stack_size(64 * 1024)
        .spawn(move || {
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = stdin.read(&mut buffer) {
                let chunk = buffer.get(..count).unwrap_or_default().to_vec();
                if send.send(chunk).is_err() {
                    return;
                }
            }
        });
    let mut bytes = Vec::new();
    if reader.is_err() {
        return bytes;
    }
    let give_up = Instant::now() + VERSION_STDIN_WAIT;
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        match receive.recv_timeout(left) {
            Ok(chunk) => bytes.extend(chunk),
            Err(_) => return bytes,
        }
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok();
        if whole || bytes.len() > MAX_BYTES {
            return bytes;
        }
    }
}
