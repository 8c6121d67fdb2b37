//! Networks with chains of plugins, and the pods that are attached to them as a runtime does it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use cni_testkit::{Chain, Invocation};
use serde_json::{Value, json};

use crate::Result;
use crate::attached::{Attached, join};
use crate::table::milliseconds;

/// On the node, and in the pod.
pub(crate) const PORT: [u16; 2] = [8080, 80];
/// Bits a second, each way.
pub(crate) const RATE: u64 = 50_000_000;
/// Bits.
const BURST: u64 = 1_000_000;

pub(crate) struct Network {
    list: Value,
    binaries: PathBuf,
}

/// Who is attached.
pub(crate) struct Pods<'a> {
    /// Its port is published, and it is limited.
    pub(crate) site: Attached,
    /// In the same network.
    pub(crate) neighbour: Attached,
    /// In another one.
    pub(crate) guest: Attached,
    web: &'a Network,
    guests: &'a Network,
}

impl Network {
    /// Prefixes `10.NUMBER.0.0/24` and `fd00:NUMBER::/64`.
    pub(crate) fn new(name: &str, number: u8, binaries: &Path) -> Self {
        let list = json!({
            "cniVersion": "1.1.0",
            "name": name,
            "plugins": [
                {
                    "type": "bridge", "bridge": format!("br-{name}"), "isDefaultGateway": true, "ipMasq": true,
                    "ipam": { "type": "host-local", "ranges": [
                        [{ "subnet": format!("10.{number}.0.0/24") }],
                        [{ "subnet": format!("fd00:{number}::/64") }],
                    ] },
                },
                { "type": "portmap", "capabilities": { "portMappings": true } },
                { "type": "firewall", "ingressPolicy": "same-bridge" },
                { "type": "bandwidth", "capabilities": { "bandwidth": true } },
            ],
        });
        Self {
            list,
            binaries: binaries.to_owned(),
        }
    }

    /// The list, a plugin a line.
    pub(crate) fn describe(&self) -> String {
        let lines = self
            .plugins()
            .iter()
            .map(|plugin| format!("\n    {plugin}"));
        format!("{}:{}", self.name(), lines.collect::<String>())
    }

    fn plugins(&self) -> &[Value] {
        let plugins = self.list.get("plugins").and_then(Value::as_array);
        plugins.map(Vec::as_slice).unwrap_or_default()
    }

    fn name(&self) -> &str {
        let name = self.list.get("name").and_then(Value::as_str);
        name.unwrap_or_default()
    }

    fn chain(&self, capabilities: &Value) -> Chain {
        Chain::new(self.list.clone(), &[&self.binaries]).capabilities(capabilities.clone())
    }

    fn attach(&self, name: &str, capabilities: &Value) -> Result<Attached> {
        let mut pod = Attached::new(name);
        pod.raise_loopback(&self.binaries)?;
        let start = Instant::now();
        let result = self.chain(capabilities).add(&pod.pod, "eth0");
        let took = start.elapsed();
        pod.learn(result.map_err(|outcome| format!("ADD of {name}: {outcome}"))?)?;
        println!(
            "{name:<10} {}   network {}   in {}",
            join(&pod.addresses),
            self.name(),
            milliseconds(took)
        );
        Ok(pod)
    }

    /// A plugin's configuration as the runtime hands it over.
    fn config(&self, plugin: &Value, more: Value) -> Value {
        let mut config = plugin.clone();
        let all = [("cniVersion", "1.1.0".into()), ("name", self.name().into())];
        let more = more.as_object().cloned().unwrap_or_default();
        if let Some(object) = config.as_object_mut() {
            object.extend(all.map(|(key, value): (&str, Value)| (key.to_owned(), value)));
            object.extend(more);
        }
        config
    }

    fn program(&self, plugin: &Value) -> PathBuf {
        let kind = plugin.get("type").and_then(Value::as_str);
        self.binaries.join(kind.unwrap_or_default())
    }

    /// GC by every plugin: no attachment is valid any more, so that what pods share may go, too.
    pub(crate) fn collect(&self) -> Result<()> {
        for plugin in self.plugins() {
            let config = self.config(plugin, json!({ "cni.dev/valid-attachments": [] }));
            let outcome = Invocation::new(self.program(plugin), "GC")
                .env("CNI_PATH", &self.binaries)
                .config(&config)
                .run();
            if !outcome.is_success() {
                return Err(format!("GC of {}: {outcome}", self.name()));
            }
        }
        println!(
            "{:<10} collected (GC with no valid attachment)",
            self.name()
        );
        Ok(())
    }
}

/// What the runtime is asked for with the site.
fn of_the_site() -> Value {
    let [host, container] = PORT;
    json!({
        "portMappings": [{ "hostPort": host, "containerPort": container, "protocol": "tcp" }],
        "bandwidth": { "ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST },
    })
}

impl<'a> Pods<'a> {
    pub(crate) fn attach(web: &'a Network, guests: &'a Network) -> Result<Self> {
        let pods = Self {
            site: web.attach("site", &of_the_site())?,
            neighbour: web.attach("neighbour", &json!({}))?,
            guest: guests.attach("guest", &json!({}))?,
            web,
            guests,
        };
        let [host, container] = PORT;
        println!(
            "\nsite's port {container} is published as the node's {host}, and it has {} Mbit/s each way",
            RATE / 1_000_000
        );
        Ok(pods)
    }

    fn all(&self) -> [(&Attached, &Network, Value); 3] {
        [
            (&self.site, self.web, of_the_site()),
            (&self.neighbour, self.web, json!({})),
            (&self.guest, self.guests, json!({})),
        ]
    }

    pub(crate) fn check(&self) -> Result<()> {
        for (pod, network, capabilities) in self.all() {
            let outcome = network
                .chain(&capabilities)
                .check(&pod.pod, "eth0", &pod.result);
            outcome.map_err(|outcome| format!("CHECK of {}: {outcome}", pod.name))?;
        }
        println!("3 attachments are what four ADDs each made them");
        Ok(())
    }

    /// What portmap would do for a port of the neighbour.
    pub(crate) fn plan(&self) -> Result<String> {
        let plugin = json!({ "type": "portmap" });
        let more = json!({
            "runtimeConfig": { "portMappings": [{ "hostPort": 9090, "containerPort": 90, "protocol": "udp" }] },
            "prevResult": self.neighbour.result,
        });
        let outcome = Invocation::attachment(self.web.program(&plugin), "ADD", &self.neighbour.pod)
            .env("CNI_DRY_RUN", "1")
            .config(&self.web.config(&plugin, more))
            .run();
        if !outcome.is_success() {
            return Err(format!("the dry run failed: {outcome}"));
        }
        Ok(String::from_utf8_lossy(&outcome.output.stderr).into_owned())
    }

    pub(crate) fn detach(&self) -> Result<()> {
        for (pod, network, capabilities) in self.all() {
            let start = Instant::now();
            let outcome = network
                .chain(&capabilities)
                .del(&pod.pod, "eth0", &pod.result);
            let took = start.elapsed();
            outcome.map_err(|outcome| format!("DEL of {}: {outcome}", pod.name))?;
            println!("{:<10} gone in {}", pod.name, milliseconds(took));
        }
        Ok(())
    }
}
