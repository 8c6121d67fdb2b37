//! What the objects are, and what stands in them: pure.
//!
//! | layout | followed | prefixes | the rest |
//! |---|---|---|---|
//! | native | `NodeNetwork` | `spec.podCIDRs` | `spec` |
//! | flannel | `Node` | `spec.podCIDRs` | annotations, as `pkg/subnet/kube` of flannel-io/flannel has them |

use std::collections::BTreeMap;
use std::net::IpAddr;

use cni_core::cluster::{Capability, ClusterFile, Node, NodeUid};
use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::json;

use super::api::{Any, Backend, FLANNEL, GROUP, LABEL, Meta, NodeNetwork, NodeObject, Spec, plain};
use super::config::{KubernetesConfig, LayoutKind};
use super::time;

/// The largest `NodeNetwork` that is read: one has some 2 KiB with all that the server adds.
pub const MOST_BYTES: usize = 64 << 10;
const MOST_PREFIXES: usize = 8;

/// How packets go between nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Way {
    /// The network identifier of a VXLAN; `None`: routes alone.
    pub vni: Option<u32>,
    /// Its UDP port.
    pub port: Option<u32>,
}

/// How nodes are written.
#[derive(Debug, Clone)]
pub struct Layout {
    kind: LayoutKind,
    network: String,
    networks: Vec<IpNetwork>,
    way: Way,
}

/// What an object says.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its name, which is the node's.
    pub uid: NodeUid,
    /// What it is as of.
    pub version: String,
    /// The node, or why that cannot be used; `None`: it is none of this network.
    pub node: Option<Result<Node, String>>,
    /// The object, where that is a `NodeNetwork`.
    pub object: Option<NodeNetwork>,
}

/// What Flannel tells of a tunnel's end.
#[derive(Debug, Deserialize)]
struct BackendData {
    #[serde(rename = "VNI")]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    mac: String,
}

impl Way {
    /// What Kubernetes, and Flannel, call it.
    pub fn name(self) -> &'static str {
        match self.vni {
            Some(_) => "vxlan",
            None => "host-gw",
        }
    }
}

impl Layout {
    /// As configured, for this network.
    pub fn new(config: &KubernetesConfig, network: &str, way: Way) -> Self {
        Self {
            kind: config.layout,
            network: network.to_owned(),
            networks: config.networks.clone(),
            way,
        }
    }

    /// Prefixes that hold all pods.
    pub fn networks(&self) -> &[IpNetwork] {
        &self.networks
    }

    /// The network.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// How packets go.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Whether Nodes are followed, and Flannel's annotations written.
    pub fn is_flannel(&self) -> bool {
        self.kind == LayoutKind::Flannel
    }

    /// The path of all objects that are followed, with the beginning of a query.
    pub fn collection(&self) -> String {
        match self.kind {
            LayoutKind::Native => {
                let label = LABEL.replace('/', "%2F");
                format!("{}?labelSelector={label}%3D{}", Self::base(), self.network)
            }
            LayoutKind::Flannel => "/api/v1/nodes?pretty=false".to_owned(),
        }
    }

    fn base() -> String {
        format!("/apis/{GROUP}/nodenetworks")
    }

    /// How many objects are asked for at once: a Node has some 20 KiB.
    pub fn page(&self) -> u32 {
        match self.kind {
            LayoutKind::Native => 500,
            LayoutKind::Flannel => 100,
        }
    }

    /// The path of a `NodeNetwork`.
    pub fn object(name: &str) -> String {
        format!("{}/{name}", Self::base())
    }

    /// The path of a Node.
    pub fn node(name: &str) -> String {
        format!("/api/v1/nodes/{name}")
    }

    /// What an object says. `Err`: it has not even a name.
    ///
    /// # Errors
    /// A sentence.
    pub fn read(&self, text: &[u8]) -> Result<Record, String> {
        match self.kind {
            LayoutKind::Native => self.read_native(text),
            LayoutKind::Flannel => self.read_flannel(text),
        }
    }

    fn read_native(&self, text: &[u8]) -> Result<Record, String> {
        let any: Any = named(text)?;
        let mut record = Record {
            uid: NodeUid::new(&any.metadata.name),
            version: any.metadata.resource_version.clone(),
            node: None,
            object: None,
        };
        if text.len() > MOST_BYTES {
            record.node = Some(Err(format!(
                "it has more than {MOST_BYTES} bytes, which no node needs"
            )));
            return Ok(record);
        }
        match serde_json::from_slice::<NodeNetwork>(text) {
            Err(error) => record.node = Some(Err(format!("it cannot be read: {error}"))),
            Ok(object) => {
                if object.spec.network == self.network {
                    record.node = Some(self.node_of(&object));
                }
                record.object = Some(object);
            }
        }
        Ok(record)
    }

    /// What a `NodeNetwork` says; `None`: it is none of this network.
    pub fn record(&self, object: &NodeNetwork) -> Option<Record> {
        (object.spec.network == self.network).then(|| Record {
            uid: NodeUid::new(&object.metadata.name),
            version: object.metadata.resource_version.clone(),
            node: Some(self.node_of(object)),
            object: None,
        })
    }

    /// What a `NodeNetwork` says of its node.
    fn node_of(&self, object: &NodeNetwork) -> Result<Node, String> {
        let (meta, spec) = (&object.metadata, &object.spec);
        let owner = meta
            .owner_references
            .iter()
            .find(|owner| owner.kind == "Node");
        if let Some(owner) =
            owner.filter(|owner| owner.name != meta.name || owner.uid != spec.node_uid)
        {
            return Err(format!(
                "it says that it is Node {}'s with uid {}, and its name and nodeUID are others",
                plain(&owner.name, 80),
                plain(&owner.uid, 80)
            ));
        }
        self.same_way(&spec.backend)?;
        let mut entry = json!({
            "name": meta.name, "uid": meta.name, "podPrefixes": spec.pod_cidrs, "addresses": spec.addresses,
        });
        if let Some(members) = entry.as_object_mut() {
            let backend = &spec.backend;
            if let Some(mac) = backend.vtep_mac.as_ref().filter(|_| self.way.vni.is_some()) {
                members.insert("vtepMac".to_owned(), mac.as_str().into());
            }
            if let Some(mtu) = spec.mtu {
                members.insert("mtu".to_owned(), mtu.into());
            }
            if let Some(paths) = &backend.data_paths {
                members.insert("capabilities".to_owned(), paths.clone().into());
            }
        }
        self.checked(&entry, meta)
    }

    fn same_way(&self, backend: &Backend) -> Result<(), String> {
        let own = self.way.name();
        if backend.kind != own {
            return Err(format!(
                "its backend is {:?}, and this network's {own}",
                plain(&backend.kind, 40)
            ));
        }
        let both = [
            ("VNI", backend.vni, self.way.vni),
            ("port", backend.port, self.way.port),
        ];
        for (what, its, own) in both {
            if let (Some(its), Some(own)) = (its, own)
                && its != own
            {
                return Err(format!("its {what} is {its}, and this network's {own}"));
            }
        }
        Ok(())
    }

    /// The rules of a cluster file's entry are those of a record.
    fn checked(&self, entry: &serde_json::Value, meta: &Meta) -> Result<Node, String> {
        let within: Vec<String> = self.networks.iter().map(ToString::to_string).collect();
        let file = json!({ "clusterPrefixes": within, "nodes": [entry] }).to_string();
        let file = ClusterFile::parse(file.as_bytes()).map_err(|error| {
            // Whoever tells of it names the node.
            let named = format!("node `{}`: ", meta.name);
            let sentence = error.sentence.as_str();
            plain(sentence.strip_prefix(&named).unwrap_or(sentence), 300)
        })?;
        let Some(mut node) = file.nodes.into_iter().next() else {
            return Err("it holds no node".to_owned());
        };
        if node.prefixes.len() > MOST_PREFIXES {
            return Err(format!(
                "it has {} prefixes, and at most {MOST_PREFIXES} are taken",
                node.prefixes.len()
            ));
        }
        node.claimed = time::seconds(&meta.creation_timestamp).unwrap_or_default();
        Ok(node)
    }

    fn read_flannel(&self, text: &[u8]) -> Result<Record, String> {
        let any: Any = named(text)?;
        let mut record = Record {
            uid: NodeUid::new(&any.metadata.name),
            version: any.metadata.resource_version,
            node: None,
            object: None,
        };
        let managed = any
            .metadata
            .annotations
            .get(&flannel("kube-subnet-manager"));
        if managed.is_some_and(|value| value == "true") {
            let node = serde_json::from_slice::<NodeObject>(text);
            let node = node.map_err(|error| format!("it cannot be read: {error}"));
            record.node = Some(node.and_then(|node| self.node_of_flannel(&node)));
        }
        Ok(record)
    }

    fn node_of_flannel(&self, object: &NodeObject) -> Result<Node, String> {
        let annotations = &object.metadata.annotations;
        let text = |key: &str| annotations.get(&flannel(key)).map(String::as_str);
        let backend = text("backend-type").unwrap_or_default();
        if backend != self.way.name() {
            let own = self.way.name();
            return Err(format!(
                "its backend is {:?}, and this network's {own}",
                plain(backend, 40)
            ));
        }
        let (mut prefixes, mut addresses, mut mac) = (Vec::new(), Vec::new(), None);
        for ipv6 in [false, true] {
            // Flannel has a device for each family, of which one of ours meets one.
            if !self
                .networks
                .iter()
                .any(|network| network.is_ipv6() == ipv6)
            {
                continue;
            }
            let of_family = pod_cidrs(object)
                .into_iter()
                .filter(|text| text.contains(':') == ipv6);
            prefixes.extend(of_family);
            let key = if ipv6 { "public-ipv6" } else { "public-ip" };
            addresses.extend(text(key).filter(|address| !address.is_empty()));
            let data = text(if ipv6 {
                "backend-v6-data"
            } else {
                "backend-data"
            });
            mac = self.mac(data)?.or(mac);
        }
        let name = &object.metadata.name;
        let mut entry =
            json!({ "name": name, "uid": name, "podPrefixes": prefixes, "addresses": addresses });
        if let (Some(mac), Some(members)) = (&mac, entry.as_object_mut()) {
            members.insert("vtepMac".to_owned(), mac.as_str().into());
        }
        let mut node = self.checked(&entry, &object.metadata)?;
        node.capabilities = mac.is_some().then(|| vec![Capability::Classic]);
        Ok(node)
    }

    fn mac(&self, data: Option<&str>) -> Result<Option<String>, String> {
        let Some(vni) = self.way.vni else {
            return Ok(None);
        };
        let data: Option<BackendData> = data.and_then(|data| serde_json::from_str(data).ok());
        match data {
            None => Err("it tells no hardware address of its VTEP".to_owned()),
            Some(data) if data.vni != vni => {
                Err(format!("its VNI is {}, and this network's {vni}", data.vni))
            }
            Some(data) => Ok(Some(data.mac)),
        }
    }

    /// This node as a `NodeNetwork` has it.
    pub fn spec(&self, node: &Node, node_uid: &str) -> Spec {
        let mac = self
            .way
            .vni
            .map(|_| cni_core::fabric::vtep_mac(node).to_string());
        let word = |capability: &Capability| match capability {
            Capability::Classic => Some("classic".to_owned()),
            Capability::Flow => Some("flow".to_owned()),
            _ => None,
        };
        let paths = node.capabilities.as_ref();
        Spec {
            network: self.network.clone(),
            node_uid: node_uid.to_owned(),
            pod_cidrs: node.prefixes.iter().map(ToString::to_string).collect(),
            addresses: node.underlay.iter().map(ToString::to_string).collect(),
            backend: Backend {
                kind: self.way.name().to_owned(),
                vni: self.way.vni,
                port: self.way.port,
                data_paths: paths.map(|paths| paths.iter().filter_map(word).collect()),
                vtep_mac: mac,
            },
            mtu: node.mtu,
        }
    }

    /// This node as Flannel's annotations have it.
    pub fn annotations(&self, node: &Node) -> BTreeMap<String, String> {
        let mac = cni_core::fabric::vtep_mac(node);
        // What Flannel writes where a backend has nothing to tell.
        let data = self.way.vni.map_or("null".to_owned(), |vni| {
            format!(r#"{{"VNI":{vni},"VtepMAC":"{mac}"}}"#)
        });
        let mut all = BTreeMap::from([
            (flannel("backend-type"), self.way.name().to_owned()),
            (flannel("kube-subnet-manager"), "true".to_owned()),
        ]);
        for (ipv6, address, backend) in [
            (false, "public-ip", "backend-data"),
            (true, "public-ipv6", "backend-v6-data"),
        ] {
            if !self
                .networks
                .iter()
                .any(|network| network.is_ipv6() == ipv6)
            {
                continue;
            }
            if let Some(underlay) = node.underlay(ipv6) {
                all.insert(flannel(address), underlay.to_string());
                all.insert(flannel(backend), data.clone());
            }
        }
        all
    }

    /// The prefixes of a Node's pods.
    ///
    /// # Errors
    /// A sentence: there are none yet, or they cannot be this network's.
    pub fn prefixes(&self, object: &NodeObject) -> Result<Vec<IpNetwork>, String> {
        let texts = pod_cidrs(object);
        let name = plain(&object.metadata.name, 80);
        if texts.is_empty() {
            return Err(format!(
                "Node {name} has no podCIDRs yet: the controller manager gives them, with --allocate-node-cidrs=true"
            ));
        }
        let mut prefixes = Vec::new();
        for text in texts {
            let prefix = text.parse::<IpNetwork>().ok();
            let prefix =
                prefix.and_then(|prefix| IpNetwork::new(prefix.network(), prefix.prefix()).ok());
            let inside = |prefix: &IpNetwork| {
                self.networks
                    .iter()
                    .any(|network| within(*prefix, *network))
            };
            match prefix.filter(inside) {
                Some(prefix) => prefixes.push(prefix),
                // A family that this network has not.
                None if self.is_flannel() && !self.has_family(text.contains(':')) => {}
                None => {
                    return Err(format!(
                        "Node {name} has the podCIDR {}, which is not in `cluster.kubernetes.podNetworks`",
                        plain(text, 60)
                    ));
                }
            }
        }
        match prefixes.is_empty() {
            true => Err(format!(
                "Node {name} has no podCIDR of a family that `podNetworks` has"
            )),
            false => Ok(prefixes),
        }
    }

    fn has_family(&self, ipv6: bool) -> bool {
        self.networks
            .iter()
            .any(|network| network.is_ipv6() == ipv6)
    }
}

/// The address that an operator wants Flannel to tell instead of the one that it finds.
pub fn overwritten(object: &NodeObject) -> Option<IpAddr> {
    let annotations = &object.metadata.annotations;
    let keys = ["public-ip-overwrite", "public-ipv6-overwrite"];
    let mut texts = keys.iter().filter_map(|key| annotations.get(&flannel(key)));
    texts.find_map(|text| text.parse().ok())
}

/// One of Flannel's annotations.
pub fn flannel(key: &str) -> String {
    format!("{FLANNEL}{key}")
}

fn pod_cidrs(object: &NodeObject) -> Vec<&str> {
    let spec = &object.spec;
    let all = spec.pod_cidrs.iter().map(String::as_str);
    let all: Vec<&str> = all.filter(|text| !text.is_empty()).collect();
    match all.is_empty() && !spec.pod_cidr.is_empty() {
        true => vec![&spec.pod_cidr],
        false => all,
    }
}

fn within(prefix: IpNetwork, network: IpNetwork) -> bool {
    prefix.is_ipv6() == network.is_ipv6()
        && prefix.prefix() >= network.prefix()
        && network.contains(prefix.ip())
}

fn named(text: &[u8]) -> Result<Any, String> {
    let any: Any = serde_json::from_slice(text)
        .map_err(|error| format!("an object has no name that can be read: {error}"))?;
    match any.metadata.name.is_empty() {
        true => Err("an object has no name".to_owned()),
        false => Ok(any),
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
