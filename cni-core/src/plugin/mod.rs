//! The plugin side: from environment and stdin to a backend, and back to one JSON document and an exit status.
//!
//! ```no_run
//! # use cni_core::{NetworkBackend, Result, backend::*, plugin::Plugin};
//! # #[derive(Debug)] struct MyBackend;
//! # #[async_trait::async_trait] impl NetworkBackend for MyBackend {
//! #   async fn add(&self, _: &Context<'_>, _: &AddRequest<'_>) -> Result<Added> { unimplemented!() }
//! #   async fn del(&self, _: &Context<'_>, _: &DelRequest<'_>) -> Result<()> { Ok(()) }
//! #   async fn check(&self, _: &Context<'_>, _: &CheckRequest<'_>) -> Result<()> { Ok(()) }
//! # }
//! fn main() -> std::process::ExitCode {
//!     Plugin::new("my-network", env!("CARGO_PKG_VERSION")).run(MyBackend)
//! }
//! ```
//!
//! What it promises, whatever the backend does:
//!
//! * stdout carries one JSON document or nothing: the result of ADD, the answer to VERSION, or an error object. A panic
//!   becomes an error object (code 999), and in ADD it is followed by the backend's DEL first. SIGTERM and SIGINT become
//!   one of code 11. Logs go to stderr or a file.
//! * The verb is judged before stdin is read. An unknown verb is code 4, a missing variable is code 4 and all that are
//!   missing are named at once.
//! * Nothing is touched before everything that can be checked has been: names, versions, the configuration, and that
//!   `CNI_NETNS` is not the plugin's own namespace (code 8, unless `CNI_NETNS_OVERRIDE` is `1` or `true`).
//! * DEL cleans up even when what it was given is partly wrong: `prevResult`, `CNI_ARGS` and duplicate keys do not keep
//!   it from its work, and a `CNI_NETNS` that is the plugin's own namespace counts as gone.
//! * A result that cannot be delivered (stdout is closed or full) is undone with a DEL, and the exit status is 1.
//!
//! Variables beside those of the specification:
//!
//! | variable | meaning |
//! |---|---|
//! | `CNI_NETNS_OVERRIDE` | `1` or `true`: `CNI_NETNS` may be the plugin's own namespace |
//! | `CNI_TIMEOUT_MS` | milliseconds after which an ADD unwinds and answers with code 11 |
//! | `CNI_DRY_RUN` | `1` or `true`: ADD and DEL print their plan on stderr, nothing on stdout, and change nothing |
//! | `TRACEPARENT` | a W3C trace context; delegates get it with this request's span as the parent |
//! | `CNI_LOG`, `CNI_LOG_FORMAT`, `CNI_LOG_FILE` | see [`log`](crate::log) (feature `log`) |

mod caught;
mod connect;
mod dispatch;
mod input;
mod ipam;
mod process;
mod serve_ipam;
mod trace;
mod verbs;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

pub use dispatch::{Call, IpamFactory, Service, dispatch};
pub use ipam::UnusableIpam;

use crate::backend::NetworkBackend;
use crate::ipam::Ipam;
use crate::spec::SpecVersion;

/// A plugin: its name, its own version, and the specification versions that it speaks.
#[derive(Debug, Clone)]
pub struct Plugin {
    name: String,
    version: String,
    about: String,
    capabilities: Vec<String>,
    versions: Vec<SpecVersion>,
    io: bool,
}

impl Plugin {
    /// A plugin that speaks every version of the specification. `version` is its own.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            about: String::new(),
            capabilities: Vec::new(),
            versions: SpecVersion::ALL.to_vec(),
            io: false,
        }
    }

    /// One sentence on what it does, for somebody who runs it by hand.
    #[must_use]
    pub fn about(mut self, text: impl Into<String>) -> Self {
        self.about = text.into();
        self
    }

    /// The capabilities (`runtimeConfig` keys) that it honours, for somebody who runs it by hand: the runtime passes
    /// only those that the configuration declares.
    #[must_use]
    pub fn capabilities<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.capabilities = names.into_iter().map(Into::into).collect();
        self
    }

    /// Only these versions. An empty list is not a plugin: it leaves the versions as they were.
    #[must_use]
    pub fn versions(mut self, versions: impl IntoIterator<Item = SpecVersion>) -> Self {
        let mut versions: Vec<SpecVersion> = versions.into_iter().collect();
        versions.sort_unstable();
        versions.dedup();
        if !versions.is_empty() {
            self.versions = versions;
        }
        self
    }

    /// Runs the backend with tokio's I/O and time drivers, for one that awaits tokio's sockets or timers: a client of a
    /// daemon, say. That costs about 50 microseconds a request (an epoll instance, an eventfd and their registration).
    /// Without it the backend runs on a bare single-threaded executor, which costs nothing that can be measured, and on
    /// which tokio's sockets and timers panic when they are made (that is answered as any panic is, by code 999).
    #[cfg(feature = "io")]
    #[must_use]
    pub fn with_io(mut self) -> Self {
        self.io = true;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The versions that it speaks, oldest first.
    pub fn supported(&self) -> &[SpecVersion] {
        &self.versions
    }

    /// The newest version that it speaks.
    pub fn newest(&self) -> SpecVersion {
        self.versions.last().copied().unwrap_or(SpecVersion::NEWEST)
    }

    /// Serves this process's one request with a backend. The return value is the exit status of `main`.
    pub fn run(self, backend: impl NetworkBackend) -> ExitCode {
        process::run(&self, &Service::Backend(&backend))
    }

    /// Serves this process's one request as an address management plugin.
    pub fn run_ipam(self, ipam: impl Ipam) -> ExitCode {
        process::run(&self, &Service::Ipam(&ipam))
    }

    /// What it says of itself to somebody who runs it without `CNI_COMMAND`.
    pub fn introduction(&self) -> String {
        let mut text = format!("CNI plugin {} {}\n", self.name, self.version);
        if !self.about.is_empty() {
            text.push_str(&format!("{}\n", self.about));
        }
        let versions: Vec<&str> = self
            .versions
            .iter()
            .map(|version| version.as_str())
            .collect();
        text.push_str(&format!("CNI protocol versions: {}\n", versions.join(", ")));
        if !self.capabilities.is_empty() {
            text.push_str(&format!("Capabilities: {}\n", self.capabilities.join(", ")));
        }
        text
    }
}
