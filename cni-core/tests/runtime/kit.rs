//! A directory with plugins, a cache and a record of calls.

use std::fs;
use std::path::PathBuf;

use cni_core::runtime::{NetworkList, Runtime, Target};
use cni_core::testing::noop::{self, Recorded};
use serde_json::Value;
use tempfile::TempDir;

pub type Test = (&'static str, fn());

/// Lists test functions with their names.
macro_rules! tests {
    ($($body:ident),* $(,)?) => { &[$((stringify!($body), $body as fn())),*] };
}
pub(crate) use tests;

pub struct Node {
    pub dir: TempDir,
    pub runtime: Runtime,
}

impl Node {
    /// With the plugins `one`, `two` and `three`.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        noop::install(&bin, ["one", "two", "three"]).unwrap();
        let runtime = Runtime::new([bin]).cache_dir(dir.path().join("cache"));
        Self { dir, runtime }
    }

    pub fn record(&self) -> PathBuf {
        self.dir.path().join("record")
    }

    /// The calls since the last time.
    pub fn calls(&self) -> Vec<Recorded> {
        let calls = noop::calls(&self.record()).unwrap();
        let _ = fs::remove_file(self.record());
        calls
    }

    /// The calls since the last time, as `VERB plugin`.
    pub fn order(&self) -> Vec<String> {
        let calls = self.calls();
        let line = |call: &Recorded| format!("{} {}", call.command, call.plugin);
        calls.iter().map(line).collect()
    }

    /// One plugin's configuration: its type, more members of it, and more of its script.
    pub fn plugin(&self, name: &str, members: &str, script: &str) -> String {
        let record = self.record();
        format!(
            r#"{{"type":"{name}"{members},"noop":{{"record":"{}"{script}}}}}"#,
            record.display()
        )
    }

    /// The network `net` of these plugins.
    pub fn list(&self, version: &str, plugins: &[String]) -> NetworkList {
        self.list_with(version, "", plugins)
    }

    pub fn list_with(&self, version: &str, members: &str, plugins: &[String]) -> NetworkList {
        let plugins = plugins.join(",");
        NetworkList::parse(&format!(
            r#"{{"cniVersion":"{version}","name":"net"{members},"plugins":[{plugins}]}}"#
        ))
        .unwrap()
    }

    /// Plugins `one` and `two` without anything special.
    pub fn plain(&self, version: &str) -> NetworkList {
        let plugins = [self.plugin("one", "", ""), self.plugin("two", "", "")];
        self.list(version, &plugins)
    }

    pub fn results(&self) -> PathBuf {
        self.dir.path().join("cache/results")
    }

    /// The names of the files of kept results.
    pub fn kept(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.results()) else {
            return Vec::new();
        };
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    pub fn keep(&self, name: &str, text: &str) {
        fs::create_dir_all(self.results()).unwrap();
        fs::write(self.results().join(name), text).unwrap();
    }
}

pub fn target() -> Target {
    target_of("c1", "eth0")
}

pub fn target_of(container: &str, interface: &str) -> Target {
    Target::new(container.parse().unwrap(), interface.parse().unwrap()).in_netns("/run/netns/c1")
}

/// The call's configuration.
pub fn stdin(call: &Recorded) -> Value {
    serde_json::from_str(&call.stdin).unwrap()
}
