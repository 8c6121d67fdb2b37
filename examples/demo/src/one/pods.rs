//! Attaching and detaching pods, as a runtime does: a process for each plugin of the list, JSON on stdin, the result passed
//! on and kept.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cni_testkit::{Chain, Invocation, Pod, Snapshot};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::Result;

pub(crate) const BRIDGE: &str = "cni0";
const NETWORK: &str = "demo";

pub(crate) struct Pods {
    binaries: PathBuf,
    chain: Chain,
    pub(crate) pods: Vec<Attached>,
}

pub(crate) struct Attached {
    pub(crate) pod: Pod,
    pub(crate) name: String,
    /// The result of the ADD; null before.
    pub(crate) result: Value,
    pub(crate) addresses: Vec<IpNetwork>,
    /// The bridge's addresses, as the pod was told.
    pub(crate) gateways: Vec<String>,
    /// The host's end of its pair.
    pub(crate) port: String,
}

impl Pods {
    pub(crate) fn new(binaries: PathBuf, count: usize) -> Result<Self> {
        let list = json!({ "cniVersion": "1.1.0", "name": NETWORK, "plugins": [plugin()] });
        let chain = Chain::new(list, &[&binaries]);
        let pods = (1..=count)
            .map(|number| Attached::new(&format!("pod{number}")))
            .collect();
        Ok(Self {
            binaries,
            chain,
            pods,
        })
    }

    /// What the first ADD would do.
    pub(crate) fn plan(&self) -> Result<String> {
        let pod = self.pods.first().ok_or("there is no pod")?;
        let mut config = plugin();
        set(&mut config, "cniVersion", json!("1.1.0"));
        set(&mut config, "name", json!(NETWORK));
        let outcome = Invocation::attachment(self.binaries.join("bridge"), "ADD", &pod.pod)
            .env("CNI_DRY_RUN", "1")
            .config(&config)
            .run();
        if !outcome.is_success() {
            return Err(format!("the dry run failed: {outcome}"));
        }
        Ok(String::from_utf8_lossy(&outcome.output.stderr).into_owned())
    }

    /// Nothing has changed since.
    pub(crate) fn untouched(&self, before: &Snapshot) -> Result<()> {
        let changes = Snapshot::take().since(before);
        if changes.is_empty() {
            println!("\n(nothing was changed by it)");
            return Ok(());
        }
        Err(format!("the dry run changed something:\n{changes}"))
    }

    pub(crate) fn attach(&mut self) -> Result<()> {
        for pod in &mut self.pods {
            let loopback = Chain::new(
                json!({ "cniVersion": "1.1.0", "name": "lo", "plugins": [{ "type": "loopback" }] }),
                &[&self.binaries],
            );
            let up = loopback.add(&pod.pod, "lo");
            up.map_err(|outcome| format!("loopback for {}: {outcome}", pod.name))?;
            let start = Instant::now();
            let result = self.chain.add(&pod.pod, "eth0");
            let took = start.elapsed();
            let result = result.map_err(|outcome| format!("ADD of {}: {outcome}", pod.name))?;
            pod.learn(result)?;
            println!(
                "{:<8} {}   port {}   in {}",
                pod.name,
                crate::node::join(&pod.addresses),
                pod.port,
                milliseconds(took)
            );
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<()> {
        for pod in &self.pods {
            let outcome = self.chain.check(&pod.pod, "eth0", &pod.result);
            outcome.map_err(|outcome| format!("CHECK of {}: {outcome}", pod.name))?;
        }
        println!("{} attachments are what ADD made them", self.pods.len());
        Ok(())
    }

    pub(crate) fn detach(&self) -> Result<()> {
        for pod in &self.pods {
            let start = Instant::now();
            let outcome = self.chain.del(&pod.pod, "eth0", &pod.result);
            let took = start.elapsed();
            outcome.map_err(|outcome| format!("DEL of {}: {outcome}", pod.name))?;
            println!("{:<8} gone in {}", pod.name, milliseconds(took));
        }
        // No attachment is valid any more: the bridge, which pods share, may go, too.
        let mut config = plugin();
        set(&mut config, "cniVersion", json!("1.1.0"));
        set(&mut config, "name", json!(NETWORK));
        set(&mut config, "cni.dev/valid-attachments", json!([]));
        let outcome = Invocation::new(self.binaries.join("bridge"), "GC")
            .env("CNI_PATH", &self.binaries)
            .config(&config)
            .run();
        if !outcome.is_success() {
            return Err(format!("GC: {outcome}"));
        }
        println!(
            "{:<8} gone with the last of them (GC with no valid attachment)",
            BRIDGE
        );
        Ok(())
    }

    /// The node is as it was; what stays is the address store's memory of the last address.
    pub(crate) fn nothing_left(&self, before: &Snapshot) -> Result<()> {
        let strip = |snapshot: Snapshot| snapshot.without("/var/lib/cni");
        let left = strip(Snapshot::take()).since(&strip(before.clone()));
        if !left.is_empty() {
            return Err(format!("something is left behind:\n{left}"));
        }
        for pod in &self.pods {
            let snapshot = Snapshot::of(&pod.pod);
            let left = snapshot.lines("eth0");
            if !left.is_empty() {
                return Err(format!("{} still has eth0: {left:?}", pod.name));
            }
            for address in &pod.addresses {
                let record = format!("/var/lib/cni/networks/{NETWORK}/{}", address.ip());
                if std::path::Path::new(&record).exists() {
                    return Err(format!("{} is still reserved", address.ip()));
                }
            }
        }
        Ok(())
    }
}

impl Attached {
    fn new(name: &str) -> Self {
        Self {
            pod: Pod::new(name),
            name: name.to_owned(),
            result: Value::Null,
            addresses: Vec::new(),
            gateways: Vec::new(),
            port: String::new(),
        }
    }

    /// Takes addresses and port from the result.
    fn learn(&mut self, result: Value) -> Result<()> {
        let ips = result
            .get("ips")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        for ip in ips {
            let text = |key: &str| ip.get(key).and_then(Value::as_str).unwrap_or_default();
            let address = text("address");
            self.addresses.push(
                address
                    .parse()
                    .map_err(|error| format!("{address}: {error}"))?,
            );
            self.gateways.push(text("gateway").to_owned());
        }
        let port = result.pointer("/interfaces/1/name").and_then(Value::as_str);
        port.unwrap_or_default().clone_into(&mut self.port);
        if self.addresses.len() != 2 {
            return Err(format!(
                "{} has no address of each family: {result}",
                self.name
            ));
        }
        self.result = result;
        Ok(())
    }
}

fn plugin() -> Value {
    json!({
        "type": "bridge",
        "bridge": BRIDGE,
        "isDefaultGateway": true,
        "ipMasq": true,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd00:88::/64" }]]
        }
    })
}

fn set(config: &mut Value, key: &str, value: Value) {
    if let Some(object) = config.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
