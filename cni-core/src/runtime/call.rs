//! One call of one plugin.

use std::ffi::{OsStr, OsString};
use std::io::Write;

use super::exec::{self, Invocation, Output, Stderr};
use super::list::PluginConfig;
use super::{Runtime, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{Command, SpecVersion, VersionReply, wire_error};

impl Runtime {
    /// Runs a plugin and returns what it wrote to stdout.
    pub(super) fn call(
        &self,
        plugin: &PluginConfig,
        command: Command,
        target: Option<&Target>,
        stdin: String,
    ) -> Result<String> {
        let name = &plugin.plugin_type;
        let failed = |error: Error| error.context(format!("plugin {name:?} failed to {command}"));
        let program = exec::find(name, &self.path)?;
        let mut invocation = Invocation::new(program);
        invocation.environment = self.environment.clone();
        let empty = OsStr::new("");
        let variables = [
            (
                "CNI_CONTAINERID",
                target.map(|t| OsStr::new(t.container.as_str())),
            ),
            (
                "CNI_NETNS",
                target.and_then(|t| t.netns.as_deref()).map(OsStr::new),
            ),
            (
                "CNI_IFNAME",
                target.map(|t| OsStr::new(t.interface.as_str())),
            ),
            ("CNI_ARGS", target.map(|t| OsStr::new(&t.args))),
        ];
        invocation = invocation.env("CNI_COMMAND", command.as_str());
        for (variable, value) in variables {
            invocation = invocation.env(variable, value.unwrap_or(empty));
        }
        invocation = invocation.env("CNI_PATH", self.path_variable());
        invocation.stdin = stdin.into_bytes();
        invocation.stderr = Stderr::Capture;
        invocation.cancel = self.cancel.clone();
        tracing::debug!(plugin = name, verb = command.as_str(), "runs");
        stdout_of(&invocation.run().map_err(failed)?).map_err(failed)
    }

    /// Asks a plugin for the versions that it speaks.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when it is not in the path; [`ErrorKind::Decode`] for an answer that is none; what
    /// the plugin failed with.
    pub fn version(&self, plugin_type: &str) -> Result<VersionReply> {
        let mut invocation = Invocation::new(exec::find(plugin_type, &self.path)?);
        invocation.environment = self.environment.clone();
        invocation = invocation
            .env("CNI_COMMAND", "VERSION")
            // Plugins of spec 0.1.0 check these before they look at the command.
            .env("CNI_CONTAINERID", "dummy")
            .env("CNI_NETNS", "dummy")
            .env("CNI_IFNAME", "dummy")
            .env("CNI_PATH", "dummy");
        invocation.stdin = format!(r#"{{"cniVersion":"{}"}}"#, SpecVersion::NEWEST).into_bytes();
        invocation.stderr = Stderr::Capture;
        invocation.cancel = self.cancel.clone();
        let failed =
            |error: Error| error.context(format!("plugin {plugin_type:?} failed to VERSION"));
        match stdout_of(&invocation.run().map_err(failed)?) {
            Ok(text) => VersionReply::parse(&text).map_err(failed),
            Err(error) => VersionReply::of_failure(&error.to_string()).ok_or_else(|| failed(error)),
        }
    }

    fn path_variable(&self) -> OsString {
        let mut joined = OsString::new();
        for (position, directory) in self.path.iter().enumerate() {
            if position > 0 {
                joined.push(":");
            }
            joined.push(directory);
        }
        joined
    }
}

/// What a plugin wrote, or what it failed with: its error object, else what it said on stderr, else how it ended.
fn stdout_of(output: &Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        // Nobody is left to tell when our stderr is closed.
        let _ = std::io::stderr().write_all(&output.stderr);
        return Ok(stdout.into_owned());
    }
    if let Ok(error) = wire_error::parse(&stdout) {
        return Err(error);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = match (stderr.trim(), stdout.trim()) {
        ("", "") => "it said nothing".to_owned(),
        ("", stdout) => format!("it said {stdout:?}"),
        (stderr, _) => format!("it said {stderr:?}"),
    };
    Err(Error::new(
        ErrorKind::Internal,
        format!("it ended with {}, and {said}", output.status),
    ))
}
