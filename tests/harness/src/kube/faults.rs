//! What the server can be told to do wrong, and what it has been asked.

use std::collections::BTreeMap;
use std::time::Duration;

use super::resource::Resource;

/// Something that goes wrong with requests that come over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every answer, and every message of a watch, takes so long.
    Slow(Duration),
    /// A list ends in the middle, and so does the next line of a watch.
    BreakOff,
    /// Answers are no JSON, and neither are lines of a watch.
    NotJson,
    /// A proxy's page in HTML, with status 502.
    BadGateway,
    /// Answers are JSON of another kind.
    WrongKind,
    /// Status 500.
    Internal,
    /// Status 429, and after so many seconds it may be asked again.
    TooMany(u32),
    /// Status 410.
    Gone,
    /// No answer comes.
    Silent,
}

/// How an older server takes being asked for a streaming list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streaming {
    /// It does them.
    Done,
    /// Status 422, as with the feature switched off.
    Invalid,
    /// Status 200, and a watch with an error of code 500, as on an etcd of before 3.4.31.
    Error,
    /// It does not know what is meant, and watches from now on.
    Unknown,
}

/// What has been asked of the server over the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests by verb (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`) and resource.
    pub requests: BTreeMap<(&'static str, Resource), u64>,
    /// Bytes of answers, before TLS.
    pub bytes: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Watches that are under way.
    pub watches: u64,
}

impl Counts {
    /// Requests of a verb, of both resources.
    pub fn of(&self, verb: &str) -> u64 {
        let fitting = self.requests.iter().filter(|((have, _), _)| *have == verb);
        fitting.map(|(_, count)| count).sum()
    }
}

/// What is wrong at the moment, by verb; `None` is every verb.
pub(super) type Faults = Vec<(Option<&'static str>, Fault)>;
