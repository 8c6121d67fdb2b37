//! What the environment says.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cni_core::runtime::{DEFAULT_CACHE_DIR, Runtime, Target};
use cni_core::spec::json::Object;
use cni_core::{Cancel, Error, ErrorKind, Result};
use serde_json::value::RawValue;
use sha2::{Digest, Sha512};
use signal_hook::consts::{SIGINT, SIGTERM};

/// The variables, with their defaults.
pub(crate) struct Input {
    /// `NETCONFPATH`.
    pub(crate) configurations: PathBuf,
    plugins: Vec<PathBuf>,
    cache: PathBuf,
    container: Option<String>,
    interface: String,
    args: String,
    capability_args: Vec<(String, Box<RawValue>)>,
}

impl Input {
    pub(crate) fn from_environment() -> Result<Self> {
        let path = |name: &str, default: &str| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        let interface = text("CNI_IFNAME")?;
        Ok(Self {
            configurations: path("NETCONFPATH", "/etc/cni/net.d"),
            plugins: env::split_paths(&env::var_os("CNI_PATH").unwrap_or_default()).collect(),
            cache: path("CNI_CACHE_DIR", DEFAULT_CACHE_DIR),
            container: text("CNI_CONTAINERID")?,
            interface: interface.unwrap_or_else(|| "eth0".to_owned()),
            args: text("CNI_ARGS")?.unwrap_or_default(),
            capability_args: match text("CAP_ARGS")? {
                Some(text) => members(&text)
                    .map_err(|error| error.context("CAP_ARGS must be a JSON object"))?,
                None => Vec::new(),
            },
        })
    }

    /// A runtime that passes SIGINT and SIGTERM on: the plugins are in process groups of their own, where a terminal's
    /// Ctrl-C does not reach them.
    pub(crate) fn runtime(&self) -> Result<Runtime> {
        let flag = Arc::new(AtomicBool::new(false));
        let install = || -> io::Result<()> {
            signal_hook::flag::register_conditional_shutdown(SIGINT, 1, Arc::clone(&flag))?;
            signal_hook::flag::register(SIGINT, Arc::clone(&flag))?;
            signal_hook::flag::register(SIGTERM, Arc::clone(&flag))?;
            Ok(())
        };
        install().map_err(|error| {
            Error::new(ErrorKind::Io, "could not install the signal handlers").with_source(error)
        })?;
        Ok(Runtime::new(self.plugins.iter().cloned())
            .cache_dir(&self.cache)
            .cancelled_by(Cancel::from_flag(flag)))
    }

    /// The attachment of a namespace.
    pub(crate) fn target(&self, netns: &str) -> Result<Target> {
        let netns = absolute(netns)?;
        let container = match &self.container {
            Some(container) => container.clone(),
            None => container_of(&netns),
        };
        let mut target = Target::new(container.parse()?, self.interface.parse()?)
            .in_netns(netns)
            .args(self.args.clone());
        target.capability_args.clone_from(&self.capability_args);
        Ok(target)
    }
}

/// The ID that the reference tool gives to the container in a namespace: the first ten bytes of the path's SHA-512.
fn container_of(netns: &Path) -> String {
    let digest = Sha512::digest(netns.as_os_str().as_bytes());
    let digits: Vec<String> = digest
        .iter()
        .take(10)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("cnitool-{}", digits.concat())
}

fn absolute(netns: &str) -> Result<PathBuf> {
    // Not resolved: what counts is the path's text, as in the reference tool.
    std::path::absolute(OsStr::new(netns)).map_err(|error| {
        Error::new(
            ErrorKind::InvalidEnvironment,
            format!("the namespace's path {netns:?} cannot be made absolute"),
        )
        .with_source(error)
    })
}

fn text(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(value)) => Err(Error::new(
            ErrorKind::InvalidEnvironment,
            format!("{name} {value:?} is not UTF-8"),
        )),
    }
}

fn members(text: &str) -> Result<Vec<(String, Box<RawValue>)>> {
    let object = Object::parse(text)?;
    let owned = |(name, value): (&str, &RawValue)| (name.to_owned(), value.to_owned());
    Ok(object.iter().map(owned).collect())
}
