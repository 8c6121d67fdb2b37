//! What the keys are, and what stands in them: pure.
//!
//! Ours, below `PREFIX`:
//!
//! | key | value | lease |
//! |---|---|---|
//! | `nodes/UID` | a node's entry, as in a cluster file | `leaseSeconds` |
//! | `claims/10.244.7.0-24` | `{"uid": UID, "name": NAME}`: whose the prefix is | `graceSeconds` |
//!
//! Flannel's has `subnets/10.244.7.0-24` alone (`pkg/subnet/etcd` of flannel-io/flannel), which is both.

use std::net::IpAddr;

use cni_core::cluster::{Capability, ClusterFile, Node, NodeUid};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::api::KeyValue;
use super::config::{EtcdConfig, LayoutKind};

/// The largest value that is read: a node of sixteen prefixes and sixteen further addresses has less than 2 KiB.
pub const MOST_BYTES: usize = 4096;
const MOST_PREFIXES: usize = 16;

/// How nodes are written.
#[derive(Debug, Clone)]
pub struct Layout {
    kind: LayoutKind,
    /// What all keys that are followed begin with.
    base: String,
    /// Prefixes that hold all pods.
    networks: Vec<IpNetwork>,
    tunnel: Tunnel,
}

/// What Flannel calls the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// `vxlan`, with this network identifier.
    Vxlan(u32),
    /// `host-gw`.
    None,
}

/// What a key says.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// This is a node, or why that cannot be used.
    Node(NodeUid, Result<Node, String>),
    /// A prefix is this node's, or nobody can tell whose.
    Claim(IpNetwork, Option<NodeUid>),
    /// Nothing that is ours.
    Other,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    uid: String,
    name: String,
}

/// Flannel's `LeaseAttrs`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Subnet {
    #[serde(rename = "PublicIP", default)]
    address: String,
    #[serde(default)]
    backend_type: String,
    #[serde(default)]
    backend_data: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct BackendData {
    #[serde(rename = "VNI")]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    mac: String,
}

impl Layout {
    /// As configured.
    pub fn new(config: &EtcdConfig, tunnel: Tunnel) -> Self {
        let below = match config.layout {
            LayoutKind::Nodes => "",
            LayoutKind::Flannel => "subnets/",
        };
        Self {
            kind: config.layout,
            base: format!("{}/{below}", config.prefix),
            networks: config.networks.iter().map(|range| range.prefix()).collect(),
            tunnel,
        }
    }

    /// What these prefixes hold are all pods from now on: for what is read after that.
    pub fn set_networks(&mut self, networks: Vec<IpNetwork>) {
        self.networks = networks;
    }

    /// How packets get from node to node.
    pub fn tunnel(&self) -> Tunnel {
        self.tunnel
    }

    /// What all keys that are followed begin with.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Prefixes that hold all pods.
    pub fn networks(&self) -> &[IpNetwork] {
        &self.networks
    }

    /// Whether a node's entry and its claim are one key.
    pub fn is_one_key(&self) -> bool {
        self.kind == LayoutKind::Flannel
    }

    /// The key of a node.
    pub fn node_key(&self, node: &Node) -> String {
        self.key_of(&node.uid)
    }

    /// The key of the node with this uid.
    pub fn key_of(&self, uid: &NodeUid) -> String {
        match self.kind {
            LayoutKind::Nodes => format!("{}nodes/{uid}", self.base),
            LayoutKind::Flannel => format!("{}{uid}", self.base),
        }
    }

    /// The key of a claim.
    pub fn claim_key(&self, prefix: IpNetwork) -> String {
        match self.kind {
            LayoutKind::Nodes => format!("{}claims/{}", self.base, dashed(prefix)),
            LayoutKind::Flannel => format!("{}{}", self.base, dashed(prefix)),
        }
    }

    /// The value of a claim.
    pub fn claim_value(&self, node: &Node) -> String {
        match self.kind {
            LayoutKind::Nodes => {
                json!({ "uid": node.uid.as_str(), "name": *node.name }).to_string()
            }
            LayoutKind::Flannel => self.node_value(node),
        }
    }

    /// The value of a node.
    pub fn node_value(&self, node: &Node) -> String {
        match self.kind {
            LayoutKind::Nodes => entry(node).to_string(),
            LayoutKind::Flannel => self.subnet(node),
        }
    }

    /// The uid of a node with these prefixes, which in Flannel's layout follows from them.
    pub fn uid(&self, configured: &NodeUid, prefixes: &[IpNetwork]) -> NodeUid {
        match (self.kind, prefixes.first()) {
            (LayoutKind::Flannel, Some(prefix)) => NodeUid::new(&dashed(*prefix)),
            _ => configured.clone(),
        }
    }

    /// The uid of the entry that a deleted key had, and the prefix of its claim.
    pub fn subject(&self, key: &[u8]) -> (Option<NodeUid>, Option<IpNetwork>) {
        let Some(rest) = self.below(key) else {
            return (None, None);
        };
        match self.kind {
            LayoutKind::Flannel => (
                Some(NodeUid::new(rest)),
                rest.split('&').next().and_then(undashed),
            ),
            LayoutKind::Nodes => (
                rest.strip_prefix("nodes/").map(NodeUid::new),
                rest.strip_prefix("claims/").and_then(undashed),
            ),
        }
    }

    /// What a key and its value say.
    pub fn read(&self, kv: &KeyValue) -> Fact {
        let Some(rest) = self.below(&kv.key) else {
            return Fact::Other;
        };
        if self.kind == LayoutKind::Flannel {
            return Fact::Node(
                NodeUid::new(rest),
                bounded(kv).and_then(|text| self.read_subnet(rest, text, kv)),
            );
        }
        if let Some(uid) = rest.strip_prefix("nodes/") {
            let node = bounded(kv).and_then(|text| self.read_entry(uid, text));
            return Fact::Node(NodeUid::new(uid), node);
        }
        match rest.strip_prefix("claims/").and_then(undashed) {
            Some(prefix) => {
                let claim: Option<Claim> = bounded(kv)
                    .ok()
                    .and_then(|text| serde_json::from_str(text).ok());
                Fact::Claim(prefix, claim.map(|claim| NodeUid::new(&claim.uid)))
            }
            None => Fact::Other,
        }
    }

    fn below<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key).ok()?.strip_prefix(&self.base)
    }

    /// The rules of a cluster file's entry are those of a record.
    fn read_entry(&self, uid: &str, text: &str) -> Result<Node, String> {
        // One value and nothing behind it: what follows is made by putting it into a list.
        let alone: &RawValue =
            serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let within: Vec<String> = self.networks.iter().map(ToString::to_string).collect();
        let file = format!(
            "{{\"clusterPrefixes\":{},\"nodes\":[{alone}]}}",
            json!(within)
        );
        let file = ClusterFile::parse(file.as_bytes()).map_err(|error| error.sentence)?;
        let Some(node) = file.nodes.into_iter().next() else {
            return Err("it holds no node".to_owned());
        };
        if node.uid.as_str() != uid {
            return Err(format!(
                "its uid is `{}`, and not that of its key",
                node.uid
            ));
        }
        if node.prefixes.len() > MOST_PREFIXES {
            return Err(format!(
                "it has {} prefixes, and at most {MOST_PREFIXES} are taken",
                node.prefixes.len()
            ));
        }
        Ok(node)
    }

    fn read_subnet(&self, key: &str, text: &str, kv: &KeyValue) -> Result<Node, String> {
        // With both families in one key, Flannel has a device for each; one of ours meets the first of them.
        let prefix = key.split('&').next().and_then(undashed);
        let prefix = prefix.filter(|prefix| !prefix.is_ipv6());
        let prefix =
            prefix.ok_or_else(|| "its key is no prefix such as 10.244.7.0-24".to_owned())?;
        let subnet: Subnet = serde_json::from_str(text)
            .map_err(|error| format!("it is no lease of Flannel's: {error}"))?;
        let address = &subnet.address;
        let mac = self.mac(&subnet.backend_type, subnet.backend_data.as_deref())?;
        let mut entry = json!({
            "name": address, "uid": key, "podPrefixes": [prefix.to_string()], "addresses": [address],
        });
        if let (Some(mac), Some(members)) = (&mac, entry.as_object_mut()) {
            members.insert("vtepMac".to_owned(), mac.as_str().into());
        }
        let mut node = self.read_entry(key, &entry.to_string())?;
        node.claimed = u64::try_from(kv.create_revision).unwrap_or_default();
        node.capabilities = mac.is_some().then(|| vec![Capability::Classic]);
        Ok(node)
    }

    fn mac(&self, backend: &str, data: Option<&RawValue>) -> Result<Option<String>, String> {
        match (self.tunnel, backend) {
            (Tunnel::None, "host-gw") => Ok(None),
            (Tunnel::None, other) => Err(format!(
                "its backend is {other:?}, and this network's host-gw"
            )),
            (Tunnel::Vxlan(vni), "vxlan") => {
                let data: Option<BackendData> =
                    data.and_then(|data| serde_json::from_str(data.get()).ok());
                match data {
                    None => Err("it tells no hardware address of its VTEP".to_owned()),
                    Some(data) if data.vni != vni => {
                        Err(format!("its VNI is {}, and this network's {vni}", data.vni))
                    }
                    Some(data) => Ok(Some(data.mac)),
                }
            }
            (Tunnel::Vxlan(_), other) => Err(format!(
                "its backend is {other:?}, and this network's vxlan"
            )),
        }
    }

    /// Member by member as Flannel writes it.
    fn subnet(&self, node: &Node) -> String {
        let address = node.underlay(false).map(|address| address.to_string());
        let address = address.unwrap_or_default();
        match self.tunnel {
            Tunnel::None => {
                format!(r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"host-gw"}}"#)
            }
            Tunnel::Vxlan(vni) => {
                let mac = cni_core::fabric::vtep_mac(node);
                format!(
                    r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":{vni},"VtepMAC":"{mac}"}}}}"#
                )
            }
        }
    }
}

fn bounded(kv: &KeyValue) -> Result<&str, String> {
    if kv.value.len() > MOST_BYTES {
        return Err(format!(
            "it has more than {MOST_BYTES} bytes, which no node needs"
        ));
    }
    std::str::from_utf8(&kv.value).map_err(|_| "it is not UTF-8".to_owned())
}

/// A node as an entry of a cluster file.
fn entry(node: &Node) -> Value {
    let mut entry = json!({
        "name": *node.name,
        "uid": node.uid.as_str(),
        "podPrefixes": texts(&node.prefixes),
        "addresses": texts(&node.underlay),
    });
    let Some(members) = entry.as_object_mut() else {
        return entry;
    };
    if !node.addresses.is_empty() {
        members.insert("furtherAddresses".to_owned(), texts(&node.addresses));
    }
    if let Some(mac) = node.vtep_mac {
        members.insert("vtepMac".to_owned(), mac.to_string().into());
    }
    if let Some(mtu) = node.mtu {
        members.insert("mtu".to_owned(), mtu.into());
    }
    if let Some(capabilities) = &node.capabilities {
        let words = capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::Classic => Some("classic"),
                Capability::Flow => Some("flow"),
                _ => None,
            });
        members.insert("capabilities".to_owned(), words.collect());
    }
    entry
}

fn texts<T: ToString>(values: &[T]) -> Value {
    values
        .iter()
        .map(|value| Value::from(value.to_string()))
        .collect()
}

/// `10.244.7.0-24`: a slash would be a level of its own.
pub fn dashed(prefix: IpNetwork) -> String {
    format!("{}-{}", prefix.network(), prefix.prefix())
}

fn undashed(text: &str) -> Option<IpNetwork> {
    let (address, length) = text.rsplit_once('-')?;
    let prefix = IpNetwork::new(address.parse::<IpAddr>().ok()?, length.parse().ok()?).ok()?;
    // There is one key for each prefix, and not another that says the same.
    (dashed(prefix) == text).then_some(prefix)
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
