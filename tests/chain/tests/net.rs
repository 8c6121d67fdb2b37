//! A network whose configuration is a list of plugins, and the verbs on it as a runtime asks them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cni_testkit::{Invocation, Outcome, Pod, require, workspace_plugin_dir};
use serde_json::{Value, json};

/// A list of plugins.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    version: &'static str,
    plugins: Vec<Value>,
    directory: PathBuf,
    capabilities: Value,
    environment: Vec<(&'static str, String)>,
}

/// The bridge with a default gateway and masquerade, of both families.
pub(crate) fn bridge() -> Value {
    json!({
        "type": "bridge", "bridge": "br0", "isDefaultGateway": true, "ipMasq": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": "10.9.0.0/24" }], [{ "subnet": "fd00:9::/64" }]],
        },
    })
}

/// Where the bridge of [`bridge`] is.
pub(crate) const GATEWAY: &str = "10.9.0.1";

/// From now on no UDP flow lapses, however slow the machine is.
///
/// # Panics
/// When connection tracking is not there.
pub(crate) fn flows_last() {
    for name in [
        "nf_conntrack_udp_timeout",
        "nf_conntrack_udp_timeout_stream",
    ] {
        let lasting = format!("/proc/sys/net/netfilter/{name}");
        fs::write(lasting, "3600").expect("connection tracking");
    }
}

/// The keys in one object; those of the second win.
pub(crate) fn with(mut config: Value, keys: Value) -> Value {
    for (key, value) in keys.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

impl Net {
    /// A network `net` of these plugins.
    pub(crate) fn of(plugins: &[Value]) -> Self {
        Self {
            version: "1.1.0",
            plugins: plugins.to_vec(),
            directory: workspace_plugin_dir(),
            capabilities: json!({}),
            environment: Vec::new(),
        }
    }

    /// By other binaries than this workspace's.
    pub(crate) fn by(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    pub(crate) fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// What every plugin gets as `runtimeConfig`.
    pub(crate) fn capabilities(mut self, arguments: Value) -> Self {
        self.capabilities = arguments;
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    pub(crate) fn plugins(&self) -> &[Value] {
        &self.plugins
    }

    /// The plugin of a type.
    #[track_caller]
    pub(crate) fn plugin(&self, kind: &str) -> &Value {
        let mut plugins = self.plugins.iter();
        let found = plugins.find(|plugin| plugin["type"] == kind);
        found.unwrap_or_else(|| panic!("no plugin {kind}"))
    }

    /// A run of one plugin for the interface `eth0`, ready to be changed.
    pub(crate) fn run(
        &self,
        plugin: &Value,
        verb: &str,
        pod: &Pod,
        previous: &Value,
    ) -> Invocation {
        let program = self
            .directory
            .join(plugin["type"].as_str().expect("a type"));
        let run = Invocation::attachment(program, verb, pod).config(&self.config(plugin, previous));
        let variables = self.environment.iter();
        variables.fold(run, |run, (name, value)| run.env(*name, value))
    }

    /// What a plugin finds on its stdin.
    pub(crate) fn config(&self, plugin: &Value, previous: &Value) -> Value {
        let mut config = plugin.clone();
        config["cniVersion"] = self.version.into();
        config["name"] = "net".into();
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        if self.capabilities != json!({}) {
            config["runtimeConfig"] = self.capabilities.clone();
        }
        config
    }

    /// ADD of all, which must succeed; the last result.
    #[track_caller]
    pub(crate) fn add(&self, pod: &Pod) -> Value {
        let mut result = Value::Null;
        for plugin in &self.plugins {
            result = self.run(plugin, "ADD", pod, &result).run().result();
        }
        result
    }

    /// ADD of all but the last one, and a run of that.
    #[track_caller]
    pub(crate) fn add_last(&self, pod: &Pod) -> (Value, Outcome) {
        let (last, before) = self.plugins.split_last().expect("a plugin");
        let previous = Self {
            plugins: before.to_vec(),
            ..self.clone()
        };
        let result = previous.add(pod);
        let outcome = self.run(last, "ADD", pod, &result).run();
        (result, outcome)
    }

    /// DEL of all with nothing but the names, which must succeed.
    #[track_caller]
    pub(crate) fn del(&self, pod: &Pod) {
        for plugin in self.plugins.iter().rev() {
            let run = self.run(plugin, "DEL", pod, &Value::Null);
            run.without("CNI_NETNS").run().silent_success();
        }
    }

    /// DEL of all as a runtime asks it that knows everything.
    #[track_caller]
    pub(crate) fn del_with(&self, pod: &Pod, result: &Value) {
        for plugin in self.plugins.iter().rev() {
            self.run(plugin, "DEL", pod, result).run().silent_success();
        }
    }

    /// CHECK of all, which must pass.
    #[track_caller]
    pub(crate) fn check(&self, pod: &Pod, result: &Value) {
        for plugin in &self.plugins {
            self.run(plugin, "CHECK", pod, result)
                .run()
                .silent_success();
        }
    }

    /// GC of all with these attachments valid, which must succeed.
    #[track_caller]
    pub(crate) fn gc(&self, valid: &Value) {
        for plugin in &self.plugins {
            let mut config = self.config(plugin, &Value::Null);
            config["cni.dev/valid-attachments"] = valid.clone();
            let program = self
                .directory
                .join(plugin["type"].as_str().expect("a type"));
            let run = Invocation::new(program, "GC").env("CNI_PATH", &self.directory);
            run.config(&config).run().silent_success();
        }
    }

    /// STATUS of one plugin.
    pub(crate) fn status(&self, plugin: &Value) -> Outcome {
        let program = self
            .directory
            .join(plugin["type"].as_str().expect("a type"));
        let run = Invocation::new(program, "STATUS").env("CNI_PATH", &self.directory);
        run.config(&self.config(plugin, &Value::Null)).run()
    }
}

/// What a program prints; the test is skipped where there is no such program.
#[track_caller]
pub(crate) fn command(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output();
    let output = require(output.ok(), program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
pub(crate) fn tc(arguments: &str) -> String {
    command("tc", arguments)
}

/// The first IPv4 address of a result, without its prefix length.
pub(crate) fn ip(result: &Value) -> String {
    let text = result["ips"][0]["address"].as_str().expect("an address");
    text.split('/').next().unwrap_or_default().to_owned()
}

/// The interface of a result that has this name.
#[track_caller]
pub(crate) fn interface<'a>(result: &'a Value, name: &str) -> &'a Value {
    let mut all = result["interfaces"].as_array().expect("interfaces").iter();
    let found = all.find(|interface| interface["name"] == name);
    found.unwrap_or_else(|| panic!("no interface {name}: {result}"))
}

/// The host's end of the pair, by a plugin that names it last but one before the container's.
pub(crate) fn host_end(result: &Value) -> String {
    let all = result["interfaces"].as_array().expect("interfaces");
    let named = |interface: &&Value| {
        let name = interface["name"].as_str().unwrap_or_default();
        name.starts_with("veth") && interface["sandbox"].as_str().unwrap_or_default().is_empty()
    };
    let found = all.iter().find(named).expect("the host's end");
    found["name"].as_str().expect("a name").to_owned()
}

/// The files below a directory, with their contents.
pub(crate) fn files(directory: &str) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut all: Vec<(String, String)> = entries
        .flatten()
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read_to_string(entry.path()).unwrap_or_default())
        })
        .collect();
    all.sort();
    all
}
