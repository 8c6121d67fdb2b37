//! Requests and answers of etcd's API as JSON: bytes in base64, 64-bit integers as strings, what is zero left out
//! (`api/etcdserverpb/rpc.proto` of etcd-io/etcd, and the proto3 JSON mapping).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// A key with its value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct KeyValue {
    /// The key; etcd's may be any bytes, ours are text.
    #[serde(default, deserialize_with = "bytes")]
    pub key: Vec<u8>,
    /// The value.
    #[serde(default, deserialize_with = "bytes")]
    pub value: Vec<u8>,
    /// The revision in which the key came into being.
    #[serde(default, deserialize_with = "integer")]
    pub create_revision: i64,
    /// The revision in which it was written last.
    #[serde(default, deserialize_with = "integer")]
    pub mod_revision: i64,
    /// The lease that it goes with; 0 is none.
    #[serde(default, deserialize_with = "integer")]
    pub lease: i64,
}

/// What every answer begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// The store's revision.
    #[serde(default, deserialize_with = "integer")]
    pub revision: i64,
    /// Which cluster of servers it is.
    #[serde(default, deserialize_with = "text")]
    pub cluster_id: String,
}

/// `RangeResponse`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RangeAnswer {
    /// The header.
    #[serde(default)]
    pub header: Header,
    /// What was found.
    #[serde(default)]
    pub kvs: Vec<KeyValue>,
    /// Whether there is more than was asked for.
    #[serde(default)]
    pub more: bool,
}

/// `TxnResponse`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TxnAnswer {
    /// The header; its revision is that of what was written.
    #[serde(default)]
    pub header: Header,
    /// Whether the comparisons held.
    #[serde(default)]
    pub succeeded: bool,
    /// What the requests of the one or the other branch came to.
    #[serde(default)]
    pub responses: Vec<TxnPart>,
}

/// One of them.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TxnPart {
    /// Of a range.
    pub response_range: Option<RangeAnswer>,
}

/// `LeaseGrantResponse`, and `LeaseKeepAliveResponse`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct LeaseAnswer {
    /// The lease.
    #[serde(default, rename = "ID", deserialize_with = "integer")]
    pub id: i64,
    /// How long it lives from now on, in seconds; 0 or less when there is no such lease.
    #[serde(default, rename = "TTL", deserialize_with = "integer")]
    pub ttl: i64,
}

/// `AuthenticateResponse`. It does not show its token.
#[derive(Default, Deserialize)]
pub struct AuthAnswer {
    /// What further requests are to bear.
    #[serde(default)]
    pub token: String,
}

/// A message of a stream: the answer or an error.
#[derive(Debug, Clone, Deserialize)]
pub struct Streamed<T> {
    /// The answer.
    pub result: Option<T>,
    /// What went wrong.
    pub error: Option<Refusal>,
}

/// What went wrong, as the gateway tells.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Refusal {
    /// gRPC's code.
    #[serde(default, alias = "grpc_code")]
    pub code: i64,
    /// The words.
    #[serde(default)]
    pub message: String,
    /// The words, in other versions.
    #[serde(default)]
    pub error: String,
}

/// `WatchResponse`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct WatchAnswer {
    /// The header.
    #[serde(default)]
    pub header: Header,
    /// The watch has begun.
    #[serde(default)]
    pub created: bool,
    /// The watch has ended.
    #[serde(default)]
    pub canceled: bool,
    /// What is older than this is not known to the server any more: the reason of the end, if not 0.
    #[serde(default, deserialize_with = "integer")]
    pub compact_revision: i64,
    /// Another reason.
    #[serde(default)]
    pub cancel_reason: String,
    /// Some events of a revision have yet to come.
    #[serde(default)]
    pub fragment: bool,
    /// What has changed.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// A change of a key.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Event {
    /// `PUT`, which is left out, or `DELETE`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The key, and for a put its value.
    #[serde(default)]
    pub kv: KeyValue,
}

/// What has to hold for a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Of this key
    pub key: String,
    /// the last write was in this revision; 0: there is no such key.
    pub mod_revision: i64,
}

/// A write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// The lease that it goes with; 0 is none.
    pub lease: i64,
}

/// The bytes as etcd's JSON has them.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The end of the range of keys that begin with this, which must not be empty.
pub fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        // Keys are UTF-8, in which there is no byte 255.
        *last = last.saturating_add(1);
    }
    end
}

/// `RangeRequest`.
pub fn range(key: &[u8], end: &[u8], limit: u32, revision: i64) -> Value {
    json!({ "key": encode(key), "range_end": encode(end), "limit": limit.to_string(), "revision": revision.to_string() })
}

/// `TxnRequest`: these puts if all guards hold, else what is there under the guards' keys.
pub fn txn(guards: &[Guard], puts: &[Put]) -> Value {
    let compare: Vec<Value> = guards.iter().map(compare).collect();
    let success = puts.iter().map(|put| {
        json!({ "request_put": {
            "key": encode(&put.key), "value": encode(&put.value), "lease": put.lease.to_string(),
        }})
    });
    let failure = guards
        .iter()
        .map(|guard| json!({ "request_range": { "key": encode(&guard.key) } }));
    json!({
        "compare": compare,
        "success": success.collect::<Vec<_>>(),
        "failure": failure.collect::<Vec<_>>(),
    })
}

/// `TxnRequest`: these keys go if all guards hold.
pub fn removal(guards: &[Guard], keys: &[String]) -> Value {
    let compare: Vec<Value> = guards.iter().map(compare).collect();
    let success = keys
        .iter()
        .map(|key| json!({ "request_delete_range": { "key": encode(key) } }));
    json!({ "compare": compare, "success": success.collect::<Vec<_>>() })
}

fn compare(guard: &Guard) -> Value {
    json!({
        "key": encode(&guard.key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": guard.mod_revision.to_string(),
    })
}

/// `WatchRequest` from a revision on.
pub fn watch(prefix: &str, revision: i64) -> Value {
    json!({ "create_request": {
        "key": encode(prefix),
        "range_end": encode(end_of(prefix)),
        "start_revision": revision.to_string(),
        "fragment": true,
    }})
}

impl fmt::Debug for AuthAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthAnswer").finish_non_exhaustive()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = if self.message.is_empty() {
            &self.error
        } else {
            &self.message
        };
        write!(f, "{words} (code {})", self.code)
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    STANDARD
        .decode(text.as_bytes())
        .map_err(|_| D::Error::invalid_value(Unexpected::Str("other text"), &"base64"))
}

/// A number as a string, or as a number.
fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => text.parse().map_err(D::Error::custom),
        Value::Number(number) => number
            .as_i64()
            .ok_or_else(|| D::Error::custom("a number out of range")),
        _ => Err(D::Error::custom("no integer")),
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        other => Ok(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's etcd 3.4.23 answers.
    #[test]
    fn answers_are_understood() {
        let range: RangeAnswer = serde_json::from_str(
            r#"{"header":{"cluster_id":"324","member_id":"33","revision":"2","raft_term":"2"},
                "kvs":[{"key":"L2EvMQ==","create_revision":"2","mod_revision":"2","version":"1","value":"aGVsbG8="}],"count":"1"}"#,
        )
        .unwrap();
        assert_eq!(range.kvs[0].value, b"hello");
        assert_eq!(
            (range.header.revision, range.kvs[0].create_revision),
            (2, 2)
        );
        let end: Streamed<WatchAnswer> = serde_json::from_str(
            r#"{"result":{"header":{"cluster_id":"324"},"canceled":true,"compact_revision":"2"}}"#,
        )
        .unwrap();
        let end = end.result.unwrap();
        assert!(end.canceled && end.compact_revision == 2);
        let gone: Streamed<LeaseAnswer> =
            serde_json::from_str(r#"{"result":{"header":{"revision":"2"},"ID":"123"}}"#).unwrap();
        assert_eq!(gone.result.unwrap().ttl, 0);
    }

    #[test]
    fn a_prefix_ends_before_what_does_not_begin_with_it() {
        assert_eq!(end_of("/cni/pods/"), b"/cni/pods0");
    }
}
