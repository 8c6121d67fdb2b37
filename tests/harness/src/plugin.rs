//! Running plugin binaries as a runtime does: environment, stdin, one JSON document on stdout.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use serde_json::{Value, json};

use crate::Pod;

/// One run of a plugin. It runs in the calling thread's namespace; use [`Pod::run`] for another node.
#[derive(Debug, Clone)]
pub struct Invocation {
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
}

/// A run under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    invocation: Invocation,
}

/// What a plugin's run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status, stdout and stderr.
    pub output: Output,
    what: String,
}

/// A plugin's error document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `code`.
    pub code: u64,
    /// `msg`.
    pub msg: String,
    /// `details`, empty when absent.
    pub details: String,
    /// `cniVersion`, when present.
    pub cni_version: Option<String>,
}

/// A configuration list, run as libcni runs it.
#[derive(Debug, Clone)]
pub struct Chain {
    list: Value,
    directories: Vec<PathBuf>,
    capabilities: Value,
    args: Option<String>,
}

impl Invocation {
    /// A run with nothing but `PATH` and `CNI_COMMAND` in its environment and nothing on stdin.
    pub fn new(program: impl Into<PathBuf>, verb: &str) -> Self {
        let program = program.into();
        Self {
            program,
            environment: Vec::new(),
            stdin: Vec::new(),
        }
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CNI_COMMAND", verb)
    }

    /// A run for an attachment: `CNI_CONTAINERID` and `CNI_NETNS` from the pod, `CNI_IFNAME` `eth0`, and the program's own
    /// directory as `CNI_PATH`.
    pub fn attachment(program: impl Into<PathBuf>, verb: &str, pod: &Pod) -> Self {
        let program = program.into();
        let directory = program.parent().unwrap_or(Path::new("/")).to_owned();
        Self::new(program, verb)
            .env("CNI_CONTAINERID", pod.id())
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", directory)
    }

    /// Sets, or replaces, a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl AsRef<OsStr>) -> Self {
        let name = name.into();
        self = self.without(&name);
        self.environment.push((name, value.as_ref().to_owned()));
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn without(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.retain(|(have, _)| have != name.as_ref());
        self
    }

    /// The configuration on stdin.
    #[must_use]
    pub fn config(self, config: &Value) -> Self {
        self.stdin(config.to_string())
    }

    /// Any bytes on stdin.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn run(&self) -> Outcome {
        self.start().finish()
    }

    /// Starts it, and hands it its stdin.
    ///
    /// # Panics
    /// As [`Invocation::run`].
    pub fn start(&self) -> Running {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let room = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).expect("a pipe's size");
        let fits = usize::try_from(room).is_ok_and(|room| self.stdin.len() <= room);
        // A plugin may judge its environment and end without reading.
        let mut write = || drop(writer.write_all(&self.stdin));
        // Where it can, all of it is there before the plugin is: VERSION waits for it but a moment.
        if fits {
            write();
        }
        let child = self.spawn_with(reader.into());
        if !fits {
            write();
        }
        Running {
            child,
            invocation: self.clone(),
        }
    }

    /// Starts it, with its three streams as pipes and nothing on stdin yet.
    pub(crate) fn spawn(&self) -> Child {
        self.spawn_with(Stdio::piped())
    }

    fn spawn_with(&self, stdin: Stdio) -> Child {
        Command::new(&self.program)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.program.display()))
    }

    /// What it is to find on stdin.
    pub(crate) fn input(&self) -> &[u8] {
        &self.stdin
    }
}

impl Running {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL, unless it has ended already.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn kill(&mut self) {
        self.child.kill().expect("killing the plugin");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When its output cannot be read.
    pub fn finish(self) -> Outcome {
        let output = self.child.wait_with_output().expect("the plugin's end");
        Outcome::new(output, self.invocation.to_string())
    }

    /// As [`Running::finish`]. One that answers that it is to be tried again is run again, as a runtime does; but not for ever.
    ///
    /// # Panics
    /// As [`Running::finish`].
    pub fn finish_or_try_again(self) -> Outcome {
        let invocation = self.invocation.clone();
        let mut outcome = self.finish();
        for _ in 0..5 {
            if !outcome.asks_for_another_try() {
                break;
            }
            outcome = invocation.run();
        }
        outcome
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(f, "{}={} ", name.to_string_lossy(), value.to_string_lossy())?;
        }
        let stdin = String::from_utf8_lossy(&self.stdin);
        write!(f, "{} <<< '{stdin}'", self.program.display())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n{}\nstdout: {}\nstderr: {}",
            self.what,
            self.output.status,
            String::from_utf8_lossy(&self.output.stdout),
            String::from_utf8_lossy(&self.output.stderr)
        )
    }
}

impl Outcome {
    pub(crate) fn new(output: Output, what: String) -> Self {
        Self { output, what }
    }

    /// Whether it exited with 0.
    pub fn is_success(&self) -> bool {
        self.output.status.success()
    }

    /// Code 11 of the specification.
    pub(crate) fn asks_for_another_try(&self) -> bool {
        let document = serde_json::from_slice::<Value>(&self.output.stdout);
        !self.is_success() && document.is_ok_and(|document| document["code"] == 11)
    }

    /// The one JSON document of a success.
    ///
    /// # Panics
    /// When it failed, or printed anything but one document.
    #[track_caller]
    pub fn result(&self) -> Value {
        assert!(self.is_success(), "a success was expected: {self}");
        self.document()
    }

    /// Asserts a success that prints nothing.
    ///
    /// # Panics
    /// When it failed, or printed something.
    #[track_caller]
    pub fn silent_success(&self) {
        assert!(self.is_success(), "a success was expected: {self}");
        assert!(
            self.output.stdout.is_empty(),
            "silence was expected: {self}"
        );
    }

    /// The one error document of a failure.
    ///
    /// # Panics
    /// When it succeeded, was killed, or printed anything but one error document.
    #[track_caller]
    pub fn failure(&self) -> Failure {
        let code = self.output.status.code();
        assert!(
            code.is_some_and(|code| code != 0),
            "a failure was expected: {self}"
        );
        let document = self.document();
        let text = |key: &str| Some(document.get(key)?.as_str()?.to_owned());
        let code = document.get("code").and_then(Value::as_u64);
        Failure {
            code: code.unwrap_or_else(|| panic!("the error has no code: {self}")),
            msg: text("msg").unwrap_or_else(|| panic!("the error has no msg: {self}")),
            details: text("details").unwrap_or_default(),
            cni_version: text("cniVersion"),
        }
    }

    #[track_caller]
    fn document(&self) -> Value {
        serde_json::from_slice(&self.output.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one JSON document ({error}): {self}"))
    }
}

impl Chain {
    /// A configuration list (`cniVersion`, `name`, `plugins`) whose programs are looked for in `directories`, in order.
    pub fn new(list: Value, directories: &[&Path]) -> Self {
        Self {
            list,
            directories: directories.iter().map(|path| (*path).to_owned()).collect(),
            capabilities: json!({}),
            args: None,
        }
    }

    /// Capability arguments: each plugin gets those that it declares.
    #[must_use]
    pub fn capabilities(mut self, arguments: Value) -> Self {
        self.capabilities = arguments;
        self
    }

    /// `CNI_ARGS`.
    #[must_use]
    pub fn args(mut self, args: &str) -> Self {
        self.args = Some(args.to_owned());
        self
    }

    /// Runs ADD of every plugin in order, each with the result of the one before; the last result.
    ///
    /// # Errors
    /// The outcome of the plugin that failed. Nothing is undone: a runtime calls [`Chain::del`] then.
    pub fn add(&self, pod: &Pod, interface: &str) -> Result<Value, Outcome> {
        let mut result = Value::Null;
        for plugin in self.plugins() {
            let outcome = self.one(plugin, "ADD", pod, interface, &result).run();
            if !outcome.is_success() {
                return Err(outcome);
            }
            result = outcome.result();
        }
        Ok(result)
    }

    /// Runs DEL of every plugin in reverse order, with the result of the ADD unless it is null.
    ///
    /// # Errors
    /// The outcome of the first plugin that failed, where libcni stops.
    pub fn del(&self, pod: &Pod, interface: &str, result: &Value) -> Result<(), Outcome> {
        self.each(self.plugins().rev(), "DEL", pod, interface, result)
    }

    /// Runs CHECK of every plugin in order.
    ///
    /// # Errors
    /// The outcome of the first plugin that failed.
    pub fn check(&self, pod: &Pod, interface: &str, result: &Value) -> Result<(), Outcome> {
        self.each(self.plugins(), "CHECK", pod, interface, result)
    }

    fn each<'a>(
        &self,
        plugins: impl Iterator<Item = &'a Value>,
        verb: &str,
        pod: &Pod,
        interface: &str,
        result: &Value,
    ) -> Result<(), Outcome> {
        for plugin in plugins {
            let outcome = self.one(plugin, verb, pod, interface, result).run();
            if !outcome.is_success() {
                return Err(outcome);
            }
        }
        Ok(())
    }

    fn plugins(&self) -> std::slice::Iter<'_, Value> {
        self.list["plugins"]
            .as_array()
            .expect("a list of plugins")
            .iter()
    }

    fn one(
        &self,
        plugin: &Value,
        verb: &str,
        pod: &Pod,
        interface: &str,
        previous: &Value,
    ) -> Invocation {
        let name = plugin["type"].as_str().expect("a plugin's type");
        let program = self
            .directories
            .iter()
            .map(|directory| directory.join(name))
            .find(|path| path.is_file())
            .unwrap_or_else(|| panic!("no plugin {name} in {:?}", self.directories));
        let path = std::env::join_paths(&self.directories).expect("directories without colons");
        let run = Invocation::attachment(program, verb, pod)
            .env("CNI_PATH", path)
            .env("CNI_IFNAME", interface)
            .config(&self.config(plugin, previous));
        match &self.args {
            Some(args) => run.env("CNI_ARGS", args),
            None => run,
        }
    }

    /// What libcni puts on a plugin's stdin.
    fn config(&self, plugin: &Value, previous: &Value) -> Value {
        let mut config = plugin.clone();
        config["cniVersion"] = self.list["cniVersion"].clone();
        config["name"] = self.list["name"].clone();
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        let declared = |name: &str| plugin["capabilities"][name] == Value::Bool(true);
        if let Some(arguments) = self.capabilities.as_object() {
            for (name, value) in arguments.iter().filter(|(name, _)| declared(name)) {
                config["runtimeConfig"][name] = value.clone();
            }
        }
        config
    }
}
