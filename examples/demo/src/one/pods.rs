//! Attaching and detaching pods, as a runtime does: a process for each plugin of the list, JSON on stdin, the result passed
//! on and kept.

use std::path::PathBuf;
use std::time::Instant;

use cni_testkit::{Chain, Invocation, Snapshot};
use serde_json::{Value, json};

use crate::Result;
use crate::attached::{Attached, join};
use crate::table::milliseconds;

pub(crate) const BRIDGE: &str = "cni0";
const NETWORK: &str = "demo";

pub(crate) struct Pods {
    binaries: PathBuf,
    chain: Chain,
    pub(crate) pods: Vec<Attached>,
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
            pod.raise_loopback(&self.binaries)?;
            let start = Instant::now();
            let result = self.chain.add(&pod.pod, "eth0");
            let took = start.elapsed();
            let result = result.map_err(|outcome| format!("ADD of {}: {outcome}", pod.name))?;
            pod.learn(result)?;
            println!(
                "{:<8} {}   port {}   in {}",
                pod.name,
                join(&pod.addresses),
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
