//! What of the API's objects is read. All else, of which a Node has much, is skipped and not held.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Group and version of our own objects.
pub const GROUP: &str = "cni-fabric.internal/v1alpha1";
/// Kind of our own objects.
pub const KIND: &str = "NodeNetwork";
/// The label by which agents of one network select.
pub const LABEL: &str = "cni-fabric.internal/network";
/// Who we are among those who write parts of objects.
pub const MANAGER: &str = "cni-fabric";
/// What Flannel's annotations begin with.
pub const FLANNEL: &str = "flannel.alpha.coreos.com/";
/// The annotation of the event that ends a streamed list.
pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What every object has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Name.
    pub name: String,
    /// Identity.
    #[serde(deserialize_with = "or_default")]
    pub uid: String,
    /// What the object is as of.
    #[serde(deserialize_with = "or_default")]
    pub resource_version: String,
    /// Counts changes of `spec`.
    #[serde(deserialize_with = "or_default")]
    pub generation: i64,
    /// When it came into being.
    #[serde(deserialize_with = "or_default")]
    pub creation_timestamp: String,
    /// Labels, ours alone.
    #[serde(deserialize_with = "ours")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, those alone that mean something here.
    #[serde(deserialize_with = "ours")]
    pub annotations: BTreeMap<String, String>,
    /// Without which objects it goes.
    #[serde(deserialize_with = "or_default")]
    pub owner_references: Vec<Owner>,
}

/// An object without which another one goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Identity.
    pub uid: String,
}

/// A node, as it tells others of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeNetwork {
    /// Name, uid and so on.
    pub metadata: Meta,
    /// What the others have to know.
    #[serde(deserialize_with = "or_default")]
    pub spec: Spec,
    /// How it is.
    #[serde(deserialize_with = "or_default")]
    pub status: Status,
}

/// What the others have to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The network.
    pub network: String,
    /// The Node's uid.
    #[serde(rename = "nodeUID")]
    pub node_uid: String,
    /// Prefixes of its pods.
    #[serde(rename = "podCIDRs", deserialize_with = "or_default")]
    pub pod_cidrs: Vec<String>,
    /// Where the underlay reaches it.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<String>,
    /// How packets get there.
    #[serde(deserialize_with = "or_default")]
    pub backend: Backend,
    /// MTU of its underlay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// How packets get to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Backend {
    /// `vxlan` or `host-gw`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Network identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// UDP port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// `classic`, `flow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_paths: Option<Vec<String>>,
    /// Hardware address of the tunnel's end.
    #[serde(rename = "vtepMAC", skip_serializing_if = "Option::is_none")]
    pub vtep_mac: Option<String>,
}

/// How an object is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Conditions.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
    /// Addresses, of a Node.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<Address>,
}

/// An address of a Node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Address {
    /// `InternalIP` and others.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address, or a name.
    pub address: String,
}

/// A condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
    /// Why, in a sentence.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
    /// Since when.
    #[serde(deserialize_with = "or_default")]
    pub last_transition_time: String,
}

/// A Node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeObject {
    /// Name, uid and so on.
    pub metadata: Meta,
    /// What it is to be.
    #[serde(deserialize_with = "or_default")]
    pub spec: NodeSpec,
    /// How it is.
    #[serde(deserialize_with = "or_default")]
    pub status: Status,
}

/// What a Node is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Prefixes of its pods.
    #[serde(rename = "podCIDRs", deserialize_with = "or_default")]
    pub pod_cidrs: Vec<String>,
    /// The first of them, which is all that old servers have.
    #[serde(rename = "podCIDR", deserialize_with = "or_default")]
    pub pod_cidr: String,
}

/// What a watch tells.
#[derive(Debug, Deserialize)]
pub struct Event<'a> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// The object, of which the kind is not known yet.
    #[serde(borrow)]
    pub object: &'a RawValue,
}

/// An object of which only what every object has is of interest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Any {
    /// Name, uid and so on.
    pub metadata: Meta,
}

/// A list without its items.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Envelope {
    /// `NodeList`, say.
    pub kind: String,
    /// What the list is as of.
    pub metadata: ListMeta,
    /// Empty: they have been taken out.
    pub items: Option<IgnoredAny>,
}

/// What every list has.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    /// What the list is as of.
    #[serde(deserialize_with = "or_default")]
    pub resource_version: String,
    /// Where the next page begins; empty: there is none.
    #[serde(rename = "continue", deserialize_with = "or_default")]
    pub next: String,
}

/// How a server says no.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// `Status`.
    #[serde(deserialize_with = "or_default")]
    pub kind: String,
    /// Why, in a sentence.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
    /// Why, in one word.
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
    /// As HTTP's.
    #[serde(deserialize_with = "or_default")]
    pub code: u16,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = plain(&self.message, 300);
        match (message.is_empty(), self.reason.is_empty()) {
            (false, _) => write!(f, "{message} ({})", self.code),
            (true, false) => write!(f, "{} ({})", plain(&self.reason, 80), self.code),
            (true, true) => write!(f, "status {}", self.code),
        }
    }
}

/// What a server says may be long, and hold what would look like a line of its own in a log.
pub fn plain(text: &str, most: usize) -> String {
    let plain = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    plain.take(most).collect()
}

/// What is `null` is as if it were not there: servers write both.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Labels and annotations that mean something here.
fn ours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Ours;
    impl<'de> Visitor<'de> for Ours {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("texts by name")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                if key == LABEL || key == INITIAL_EVENTS_END || key.starts_with(FLANNEL) {
                    all.insert(key.into_owned(), map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(Ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_no_interest_is_skipped_and_null_is_nothing() {
        let text = r#"{"kind":"Node","metadata":{"name":"n1","uid":null,"creationTimestamp":null,"annotations":
            {"volumes":"long","flannel.alpha.coreos.com/public-ip":"192.0.2.1"},"labels":null,"managedFields":[{"a":{"b":1}}]},
            "spec":{"podCIDRs":null,"taints":[{}]},"status":{"images":[{"names":["x"]}],"conditions":null}}"#;
        let node: NodeObject = serde_json::from_str(text).unwrap();
        assert_eq!(node.metadata.name, "n1");
        assert_eq!(node.metadata.annotations.len(), 1);
        assert_eq!(node.spec, NodeSpec::default());
        let nothing: NodeNetwork =
            serde_json::from_str(r#"{"metadata":{"name":"n1"},"spec":null,"status":null}"#)
                .unwrap();
        assert_eq!(nothing.spec, Spec::default());
    }

    #[test]
    fn an_event_is_read_without_its_object() {
        let text = r#"{"type":"BOOKMARK","object":{"kind":"NodeNetwork","metadata":{"resourceVersion":"7",
            "annotations":{"k8s.io/initial-events-end":"true"}},"spec":{}}}"#;
        let event: Event<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(event.kind, "BOOKMARK");
        let any: Any = serde_json::from_str(event.object.get()).unwrap();
        assert_eq!(any.metadata.resource_version, "7");
        assert_eq!(any.metadata.annotations[INITIAL_EVENTS_END], "true");
    }

    #[test]
    fn a_refusal_is_one_line() {
        let refusal = Refusal {
            message: "no\nsuch".to_owned(),
            code: 403,
            ..Refusal::default()
        };
        assert_eq!(refusal.to_string(), "no\u{fffd}such (403)");
        assert_eq!(
            Refusal {
                code: 502,
                ..Refusal::default()
            }
            .to_string(),
            "status 502"
        );
    }
}
