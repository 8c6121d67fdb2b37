//! The other side: what a container runtime does with plugins. It finds configurations, runs chains, keeps results.
//!
//! Where the reference library (`libcni`) is known to lose something, this differs, and says so:
//!
//! * a failed ADD is followed by a DEL of the whole list, which the specification asks of runtimes anyway;
//! * DEL goes on past a plugin that fails, and reports all failures: stopping leaks what the plugins before it made;
//! * a broken file of one network does not hide the others;
//! * kept results are replaced by renaming, and are never half written;
//! * configurations reach plugins with their numbers and members unchanged.
//!
//! ```no_run
//! use cni_core::runtime::{Runtime, Target, load};
//! # fn main() -> cni_core::Result<()> {
//! let list = load("/etc/cni/net.d".as_ref(), "pods")?;
//! let runtime = Runtime::new(["/opt/cni/bin".into()]);
//! let target = Target::new("container-1".parse()?, "eth0".parse()?).in_netns("/run/netns/pod1");
//! let result = runtime.add(&list, &target)?;
//! runtime.del(&list, &target)?;
//! # Ok(()) }
//! ```

mod cache;
mod call;
mod chain;
pub mod exec;
mod find;
mod list;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

pub use self::chain::Report;
pub use self::find::{load, load_list};
pub use self::list::{NetworkList, PluginConfig};
use crate::cancel::Cancel;
use crate::spec::{ContainerId, InterfaceName};

/// Where libcni keeps results.
pub const DEFAULT_CACHE_DIR: &str = "/var/lib/cni";

/// Runs plugins. Its methods block until they have ended.
#[derive(Debug, Clone)]
pub struct Runtime {
    path: Vec<PathBuf>,
    cache: cache::Cache,
    environment: Vec<(OsString, OsString)>,
    cancel: Cancel,
}

/// What is attached: a container, by an interface.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Target {
    /// The container's ID.
    pub container: ContainerId,
    /// The interface's name inside it.
    pub interface: InterfaceName,
    /// The container's namespace; DEL can do without.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: String,
    /// Arguments by capability, as JSON. Each plugin gets those that it declares.
    pub capability_args: Vec<(String, Box<RawValue>)>,
}

impl Runtime {
    /// Runs plugins from the first of these directories that has them. They inherit this process's environment.
    pub fn new(path: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            path: path.into_iter().collect(),
            cache: cache::Cache::new(Path::new(DEFAULT_CACHE_DIR)),
            environment: std::env::vars_os().collect(),
            cancel: Cancel::new(),
        }
    }

    /// Keeps results below another directory than [`DEFAULT_CACHE_DIR`].
    #[must_use]
    pub fn cache_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.cache = cache::Cache::new(directory.as_ref());
        self
    }

    /// Plugins get this environment instead of this process's; the specification's variables are added to it.
    #[must_use]
    pub fn environment(
        mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        self.environment = environment.into_iter().collect();
        self
    }

    /// Plugins are told to stop when this says so: SIGTERM first, so that they unwind.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }
}

impl Target {
    /// A container and an interface, without a namespace and without arguments.
    pub fn new(container: ContainerId, interface: InterfaceName) -> Self {
        Self {
            container,
            interface,
            netns: None,
            args: String::new(),
            capability_args: Vec::new(),
        }
    }

    /// The container's namespace.
    #[must_use]
    pub fn in_netns(mut self, path: impl Into<PathBuf>) -> Self {
        self.netns = Some(path.into());
        self
    }

    /// `CNI_ARGS`.
    #[must_use]
    pub fn args(mut self, args: impl Into<String>) -> Self {
        self.args = args.into();
        self
    }

    /// An argument of a capability, as JSON.
    #[must_use]
    pub fn capability(mut self, name: impl Into<String>, value: Box<RawValue>) -> Self {
        self.capability_args.push((name.into(), value));
        self
    }
}
