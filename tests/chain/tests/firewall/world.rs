//! A node with a cable to the outside, and networks with the plugin behind their main one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cni_testkit::{Chain, Invocation, Outcome, Ping, Pod, Snapshot, skip, workspace_plugin_dir};
use serde_json::{Value, json};

use crate::cable;
pub(crate) use crate::cable::{NODE4, NODE6, OUTSIDE4, OUTSIDE6};

/// A host outside that has routes to all pods by this node.
pub(crate) fn outside() -> Pod {
    let outside = cable::lay();
    outside.run(|| {
        cable::route("10.0.0.0/8", NODE4, "eth0");
        cable::route("fd00::/8", NODE6, "eth0");
    });
    outside
}

/// A network: its name, its main plugin, and what the firewall is told.
#[derive(Clone)]
pub(crate) struct Network {
    name: &'static str,
    version: &'static str,
    main: Value,
    firewall: Value,
    directories: Vec<PathBuf>,
}

impl Network {
    /// On a bridge of the network's name, of both families; `number` makes it unlike others.
    pub(crate) fn bridge(name: &'static str, number: u8) -> Self {
        Self::of(
            name,
            json!({
                "type": "bridge",
                "bridge": format!("br-{name}"),
                "isDefaultGateway": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [
                        [{ "subnet": format!("10.{number}.0.0/24") }],
                        [{ "subnet": format!("fd00:{number}::/64") }],
                    ],
                },
            }),
        )
    }

    /// Routed pairs.
    pub(crate) fn ptp(name: &'static str, number: u8) -> Self {
        let mut network = Self::bridge(name, number);
        network.main["type"] = json!("ptp");
        network.main["ipam"]["routes"] = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
        network
    }

    fn of(name: &'static str, main: Value) -> Self {
        Self {
            name,
            version: "1.1.0",
            main,
            firewall: json!({ "type": "firewall" }),
            directories: vec![workspace_plugin_dir()],
        }
    }

    /// IPv4 alone.
    pub(crate) fn v4(mut self) -> Self {
        let first = self.main["ipam"]["ranges"][0].clone();
        self.main["ipam"]["ranges"] = json!([first]);
        self
    }

    pub(crate) fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// IPv6 alone.
    pub(crate) fn v6(mut self) -> Self {
        let second = self.main["ipam"]["ranges"][1].clone();
        self.main["ipam"]["ranges"] = json!([second]);
        self
    }

    /// With the main plugin from this directory.
    pub(crate) fn main_from(mut self, directory: &Path) -> Self {
        self.directories.insert(0, directory.to_owned());
        self
    }

    /// With some keys of the firewall.
    pub(crate) fn with(mut self, keys: Value) -> Self {
        for (key, value) in keys.as_object().expect("an object") {
            self.firewall[key] = value.clone();
        }
        self
    }

    fn chain_of(&self, plugins: &[&Value]) -> Chain {
        let list = json!({ "cniVersion": self.version, "name": self.name, "plugins": plugins });
        let directories: Vec<&Path> = self.directories.iter().map(PathBuf::as_path).collect();
        Chain::new(list, &directories)
    }

    pub(crate) fn chain(&self) -> Chain {
        self.chain_of(&[&self.main, &self.firewall])
    }

    /// The main plugin alone.
    pub(crate) fn bare(&self) -> Chain {
        self.chain_of(&[&self.main])
    }

    #[track_caller]
    pub(crate) fn add(&self, pod: &Pod) -> Value {
        self.add_as(pod, "eth0")
    }

    #[track_caller]
    pub(crate) fn add_as(&self, pod: &Pod, interface: &str) -> Value {
        let added = self.chain().add(pod, interface);
        added.unwrap_or_else(|outcome| panic!("{outcome}"))
    }

    /// DEL without the result.
    #[track_caller]
    pub(crate) fn del(&self, pod: &Pod) {
        self.del_as(pod, "eth0");
    }

    #[track_caller]
    pub(crate) fn del_as(&self, pod: &Pod, interface: &str) {
        let deleted = self.chain().del(pod, interface, &Value::Null);
        deleted.unwrap_or_else(|outcome| panic!("{outcome}"));
    }

    /// One verb of the firewall alone, as libcni calls it.
    pub(crate) fn run(&self, verb: &str, pod: &Pod, result: &Value) -> Invocation {
        let program = workspace_plugin_dir().join("firewall");
        Invocation::attachment(program, verb, pod)
            .config(&self.config(json!({ "prevResult": result })))
    }

    /// The firewall's configuration with these members besides; null takes one away.
    pub(crate) fn config(&self, more: Value) -> Value {
        let mut config = self.firewall.clone();
        config["cniVersion"] = json!(self.version);
        config["name"] = json!(self.name);
        for (key, value) in more.as_object().expect("an object") {
            match value {
                Value::Null => {
                    config.as_object_mut().expect("an object").remove(key);
                }
                value => config[key] = value.clone(),
            }
        }
        config
    }

    pub(crate) fn check(&self, pod: &Pod, result: &Value) -> Outcome {
        self.run("CHECK", pod, result).run()
    }

    /// GC or STATUS of the firewall alone.
    pub(crate) fn of_network(&self, verb: &str, more: Value) -> Outcome {
        Invocation::new(workspace_plugin_dir().join("firewall"), verb)
            .env("CNI_PATH", workspace_plugin_dir())
            .config(&self.config(more))
            .run()
    }
}

/// The addresses of a result, without their prefix lengths.
pub(crate) fn ips(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().expect("addresses");
    let address = |ip: &Value| Some(ip["address"].as_str()?.split('/').next()?.to_owned());
    ips.iter().filter_map(address).collect()
}

fn answers(pod: &Pod, target: &str, millis: u64) -> bool {
    let ping = Ping::to(target).timeout(Duration::from_millis(millis));
    pod.run(|| ping.send()).is_ok()
}

/// Asserts that a packet gets through to every address, at the first try.
#[track_caller]
pub(crate) fn reaches<T: AsRef<str>>(pod: &Pod, targets: &[T]) {
    for target in targets {
        let target = target.as_ref();
        assert!(
            answers(pod, target, 900),
            "{} does not reach {target}",
            pod.id()
        );
    }
}

/// Asserts that a packet gets through to none of them.
#[track_caller]
pub(crate) fn misses<T: AsRef<str>>(pod: &Pod, targets: &[T]) {
    for target in targets {
        let target = target.as_ref();
        assert!(!answers(pod, target, 250), "{} reaches {target}", pod.id());
    }
}

/// Runs a program in the calling thread's namespace; its output. Skips where it is not installed.
#[track_caller]
pub(crate) fn run(line: &str) -> String {
    let (success, text) = try_run(line);
    assert!(success, "{line}: {text}");
    text
}

#[track_caller]
pub(crate) fn try_run(line: &str) -> (bool, String) {
    let mut words = line.split(' ');
    let program = words.next().expect("a program");
    let output = Command::new(program)
        .args(words)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output();
    match output {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            (output.status.success(), text)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip(&format!("{program} is not installed"))
        }
        Err(error) => panic!("{line}: {error}"),
    }
}

/// What a host drops by itself: both families, as Docker sets it.
pub(crate) fn forward_drops() {
    run("iptables-nft -P FORWARD DROP");
    run("ip6tables-nft -P FORWARD DROP");
}

/// The same in legacy tables. False in a user namespace, where the kernel does not tell that there are such tables; skips where it
/// has none.
pub(crate) fn legacy_forward_drops() -> bool {
    let (able, why) = try_run("iptables-legacy -P FORWARD DROP");
    if !able {
        skip(&format!("there are no legacy tables here: {why}"));
    }
    std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").is_ok()
}

/// The kernel's state without what belongs to nobody: the address store's memory, and routes that a link-local address gets
/// after a while.
pub(crate) fn state() -> Snapshot {
    Snapshot::take().without("/var/lib").without("dst fe80::")
}
