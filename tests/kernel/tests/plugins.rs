//! The plugins that this workspace builds, each with a configuration that works.

use cni_testkit::{Invocation, Pod, workspace_plugin_dir};
use serde_json::{Value, json};

/// The names under which operators install them.
pub(crate) const NAMES: [&str; 9] = [
    "bandwidth",
    "bridge",
    "firewall",
    "host-local",
    "loopback",
    "portmap",
    "ptp",
    "static",
    "tuning",
];

/// Those that need no other one before them; chains have tests of their own.
const FIRST: [&str; 5] = ["bridge", "host-local", "loopback", "ptp", "static"];

/// A plugin with a configuration that works.
pub(crate) struct Example {
    pub(crate) name: &'static str,
    pub(crate) config: Value,
}

/// All plugins that need no other one before them.
pub(crate) fn all() -> impl Iterator<Item = Example> {
    FIRST.into_iter().map(example)
}

pub(crate) fn example(name: &'static str) -> Example {
    let mut config = json!({ "cniVersion": "1.1.0", "name": "net", "type": name });
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{ "subnet": "10.9.0.0/24" }], [{ "subnet": "fd00:9::/64" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
    });
    match name {
        "bridge" => {
            config["bridge"] = json!("br0");
            config["isGateway"] = json!(true);
            config["ipMasq"] = json!(true);
            config["ipam"] = ipam;
        }
        "ptp" => {
            config["ipMasq"] = json!(true);
            config["ipam"] = ipam;
        }
        "host-local" => config["ipam"] = ipam,
        "static" => {
            config["ipam"] = json!({
                "type": "static",
                "addresses": [{ "address": "10.9.0.7/24", "gateway": "10.9.0.1" }],
            });
        }
        _ => {}
    }
    Example { name, config }
}

impl Example {
    /// Whether it manages addresses only, and leaves the namespace to others.
    pub(crate) fn is_ipam(&self) -> bool {
        matches!(self.name, "host-local" | "static")
    }

    /// A run that works.
    pub(crate) fn run(&self, verb: &str, pod: &Pod) -> Invocation {
        self.bare(verb, pod).config(&self.config)
    }

    /// A run that works but for its stdin, which is empty.
    pub(crate) fn bare(&self, verb: &str, pod: &Pod) -> Invocation {
        Invocation::attachment(workspace_plugin_dir().join(self.name), verb, pod)
    }

    /// Takes all pods of the network away, and what they shared.
    #[track_caller]
    pub(crate) fn clear(&self, pods: &[&Pod]) {
        for pod in pods {
            self.run("DEL", pod).run().silent_success();
        }
        Invocation::new(workspace_plugin_dir().join(self.name), "GC")
            .env("CNI_PATH", workspace_plugin_dir())
            .config(&self.with(json!({ "cni.dev/valid-attachments": [] })))
            .run()
            .silent_success();
    }

    /// The configuration with some keys replaced.
    pub(crate) fn with(&self, changes: Value) -> Value {
        let mut config = self.config.clone();
        for (key, value) in changes.as_object().expect("an object") {
            config[key] = value.clone();
        }
        config
    }
}
