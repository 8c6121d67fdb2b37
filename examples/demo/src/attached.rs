//! A pod, and what its attachment came to.

use std::net::IpAddr;
use std::path::Path;

use cni_testkit::{Chain, Pod};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::Result;

pub(crate) struct Attached {
    pub(crate) pod: Pod,
    pub(crate) name: String,
    /// The result of the ADD; null before.
    pub(crate) result: Value,
    /// IPv4 before IPv6.
    pub(crate) addresses: Vec<IpNetwork>,
    /// The node's addresses to the pod, as the pod was told.
    pub(crate) gateways: Vec<String>,
    /// The host's end of its pair.
    pub(crate) port: String,
}

impl Attached {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            pod: Pod::new(name),
            name: name.to_owned(),
            result: Value::Null,
            addresses: Vec::new(),
            gateways: Vec::new(),
            port: String::new(),
        }
    }

    /// As a runtime does first.
    pub(crate) fn raise_loopback(&self, binaries: &Path) -> Result<()> {
        let loopback = Chain::new(
            json!({ "cniVersion": "1.1.0", "name": "lo", "plugins": [{ "type": "loopback" }] }),
            &[binaries],
        );
        let up = loopback.add(&self.pod, "lo");
        up.map_err(|outcome| format!("loopback for {}: {outcome}", self.name))?;
        Ok(())
    }

    /// Takes addresses and port from the result.
    pub(crate) fn learn(&mut self, result: Value) -> Result<()> {
        let list = |key: &str| {
            let list = result.get(key).and_then(Value::as_array);
            list.map(Vec::as_slice).unwrap_or_default()
        };
        let text = |value: &Value, key: &str| {
            let text = value.get(key).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        for ip in list("ips") {
            let address = text(ip, "address");
            let parsed = address.parse();
            self.addresses
                .push(parsed.map_err(|error| format!("{address}: {error}"))?);
            self.gateways.push(text(ip, "gateway"));
        }
        // The node's ends are those without a sandbox, the pair's after what it is plugged into.
        let mut ends = list("interfaces").iter();
        let end = ends.rfind(|end| text(end, "sandbox").is_empty());
        self.port = end.map(|end| text(end, "name")).unwrap_or_default();
        if self.addresses.len() != 2 {
            return Err(format!(
                "{} has no address of each family: {result}",
                self.name
            ));
        }
        self.result = result;
        Ok(())
    }

    /// Its address of one family: 0 is IPv4, 1 is IPv6.
    pub(crate) fn address(&self, family: usize) -> Result<IpAddr> {
        let address = self.addresses.get(family).map(IpNetwork::ip);
        address.ok_or_else(|| format!("{} has no address of each family", self.name))
    }
}

pub(crate) fn join(addresses: &[IpNetwork]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join("  ")
}
