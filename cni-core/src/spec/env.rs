//! The environment of a call (spec section "Parameters"), parsed into types. Nothing here reads the real environment.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{CniArgs, ContainerId, InterfaceName};
use crate::error::{Error, ErrorKind, Result};

/// The six verbs, `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Command {
    /// ADD.
    Add,
    /// DEL.
    Del,
    /// CHECK (0.4.0).
    Check,
    /// GC (1.1.0).
    Gc,
    /// STATUS (1.1.0).
    Status,
    /// VERSION (0.2.0).
    Version,
}

/// What the environment says of one call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Environment {
    /// The verb with what it cannot do without.
    pub verb: Verb,
    /// `CNI_ARGS` as it came, for delegates; empty when unset.
    pub args: OsString,
    /// `CNI_PATH`: directories to find plugins in, in order.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: the container's namespace may be the plugin's own.
    pub netns_override: bool,
    /// Trace context, for delegates and log lines.
    pub trace: TraceContext,
}

/// A verb with the variables that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    /// ADD.
    Add {
        container: ContainerId,
        netns: PathBuf,
        interface: InterfaceName,
    },
    /// DEL; the namespace may be unset, or gone.
    Del {
        container: ContainerId,
        netns: Option<PathBuf>,
        interface: InterfaceName,
    },
    /// CHECK.
    Check {
        container: ContainerId,
        netns: PathBuf,
        interface: InterfaceName,
    },
    /// GC.
    Gc,
    /// STATUS.
    Status,
    /// VERSION.
    Version,
}

/// W3C trace context as the runtime passes it; not interpreted here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceContext {
    /// `TRACEPARENT`.
    pub traceparent: Option<String>,
    /// `TRACESTATE`.
    pub tracestate: Option<String>,
    /// `BAGGAGE`.
    pub baggage: Option<String>,
}

/// How much a verb needs a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Required,
    Optional,
    Unused,
}

impl Command {
    /// All verbs.
    pub const ALL: [Self; 6] = [
        Self::Add,
        Self::Del,
        Self::Check,
        Self::Gc,
        Self::Status,
        Self::Version,
    ];

    /// The text of `CNI_COMMAND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// What the verb needs, in the order in which missing variables are named. `CNI_PATH` is optional but for GC: the
    /// specification requires it there, to find delegates, and the reference library everywhere.
    const fn needs(self) -> [(&'static str, Need); 4] {
        use Need::{Optional, Required, Unused};
        let (container, netns, interface, path) = match self {
            Self::Add | Self::Check => (Required, Required, Required, Optional),
            Self::Del => (Required, Optional, Required, Optional),
            Self::Gc => (Unused, Unused, Unused, Required),
            Self::Status => (Unused, Unused, Unused, Optional),
            Self::Version => (Unused, Unused, Unused, Unused),
        };
        [
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", interface),
            ("CNI_PATH", path),
        ]
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Command {
    type Err = Error;

    /// Verbs are case sensitive.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEnvironment`] for any other text.
    fn from_str(text: &str) -> Result<Self> {
        // The beginning is the reference library's wording: a runtime tells a plugin older than VERSION by it.
        Self::ALL
            .into_iter()
            .find(|command| command.as_str() == text)
            .ok_or_else(|| {
                let all: Vec<&str> = Self::ALL.iter().map(|command| command.as_str()).collect();
                Error::new(
                    ErrorKind::InvalidEnvironment,
                    format!(
                        "unknown CNI_COMMAND: {text}; it must be one of {}",
                        all.join(", ")
                    ),
                )
            })
    }
}

impl Environment {
    /// Reads the environment through `lookup` (`|name| std::env::var_os(name)`). An empty variable counts as unset.
    /// `None` when `CNI_COMMAND` is: somebody runs the plugin by hand.
    ///
    /// Variables that the verb does not need are not looked at: runtimes leave junk in them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEnvironment`], naming all missing variables at once, or the one that is invalid.
    pub fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let Some(command) = get("CNI_COMMAND") else {
            return Ok(None);
        };
        let command: Command = command.to_string_lossy().parse()?;
        let needs = command.needs();
        let missing: Vec<&str> = needs
            .iter()
            .filter(|(name, need)| *need == Need::Required && get(name).is_none())
            .map(|(name, _)| *name)
            .collect();
        if !missing.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidEnvironment,
                format!(
                    "required environment variables are missing or empty for {command}: {}",
                    missing.join(",")
                ),
            ));
        }
        let path_used = needs
            .iter()
            .any(|(name, need)| *name == "CNI_PATH" && *need != Need::Unused);
        let path = get("CNI_PATH").filter(|_| path_used);
        Ok(Some(Self {
            verb: verb(command, &get)?,
            args: get("CNI_ARGS").unwrap_or_default(),
            path: path.map(|path| split_path(&path)).unwrap_or_default(),
            netns_override: get("CNI_NETNS_OVERRIDE")
                .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true")),
            trace: TraceContext::read(&get),
        }))
    }

    /// The same from pairs, such as `std::env::vars_os()`. The last of duplicates wins.
    ///
    /// # Errors
    /// Those of [`Environment::read`].
    pub fn of_pairs(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Option<Self>> {
        let pairs: std::collections::HashMap<OsString, OsString> = pairs.into_iter().collect();
        Self::read(|name| pairs.get(OsStr::new(name)).cloned())
    }

    /// The verb.
    pub fn command(&self) -> Command {
        self.verb.command()
    }

    /// `CNI_ARGS`, decoded: strictly, but for DEL, which passes over what is not of the right form.
    ///
    /// # Errors
    /// Those of [`CniArgs::parse`].
    pub fn cni_args(&self) -> Result<CniArgs> {
        match self.command() {
            Command::Del => Ok(CniArgs::parse_lenient(&self.args)),
            _ => CniArgs::parse_os(&self.args),
        }
    }
}

impl Verb {
    /// The verb without its variables.
    pub fn command(&self) -> Command {
        match self {
            Self::Add { .. } => Command::Add,
            Self::Del { .. } => Command::Del,
            Self::Check { .. } => Command::Check,
            Self::Gc => Command::Gc,
            Self::Status => Command::Status,
            Self::Version => Command::Version,
        }
    }

    /// The container, when the verb is about one.
    pub fn container(&self) -> Option<&ContainerId> {
        match self {
            Self::Add { container, .. }
            | Self::Del { container, .. }
            | Self::Check { container, .. } => Some(container),
            Self::Gc | Self::Status | Self::Version => None,
        }
    }

    /// The interface, when the verb is about one.
    pub fn interface(&self) -> Option<&InterfaceName> {
        match self {
            Self::Add { interface, .. }
            | Self::Del { interface, .. }
            | Self::Check { interface, .. } => Some(interface),
            Self::Gc | Self::Status | Self::Version => None,
        }
    }

    /// The container's namespace, when there is one.
    pub fn netns(&self) -> Option<&Path> {
        match self {
            Self::Add { netns, .. } | Self::Check { netns, .. } => Some(netns),
            Self::Del { netns, .. } => netns.as_deref(),
            Self::Gc | Self::Status | Self::Version => None,
        }
    }
}

impl TraceContext {
    fn read(get: &impl Fn(&str) -> Option<OsString>) -> Self {
        // Trace context is ASCII; what is not is no reason to fail a call.
        let text = |name: &str| get(name).and_then(|value| value.into_string().ok());
        Self {
            traceparent: text("TRACEPARENT"),
            tracestate: text("TRACESTATE"),
            baggage: text("BAGGAGE"),
        }
    }
}

fn verb(command: Command, get: &impl Fn(&str) -> Option<OsString>) -> Result<Verb> {
    match command {
        Command::Gc => return Ok(Verb::Gc),
        Command::Status => return Ok(Verb::Status),
        Command::Version => return Ok(Verb::Version),
        Command::Add | Command::Del | Command::Check => {}
    }
    let container: ContainerId = text(get, "CNI_CONTAINERID")?.parse()?;
    let interface: InterfaceName = text(get, "CNI_IFNAME")?.parse()?;
    let netns = get("CNI_NETNS").map(PathBuf::from);
    Ok(match (command, netns) {
        (Command::Check, Some(netns)) => Verb::Check {
            container,
            netns,
            interface,
        },
        (Command::Add, Some(netns)) => Verb::Add {
            container,
            netns,
            interface,
        },
        (Command::Del, netns) => Verb::Del {
            container,
            netns,
            interface,
        },
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidEnvironment,
                "CNI_NETNS is missing",
            ));
        }
    })
}

fn text(get: &impl Fn(&str) -> Option<OsString>, name: &str) -> Result<String> {
    get(name)
        .unwrap_or_default()
        .into_string()
        .map_err(|value| {
            Error::new(
                ErrorKind::InvalidEnvironment,
                format!("{name} {value:?} is not valid UTF-8"),
            )
        })
}

/// Directories of a search path, without empty elements: those would mean the current directory, which for a plugin
/// run by a daemon is any.
fn split_path(path: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(path)
        .filter(|directory| !directory.as_os_str().is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
