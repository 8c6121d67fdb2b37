//! The state file's JSON.

use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{Fingerprint, KnownLink, Moment, State};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    network: String,
    node: Option<String>,
    prefixes: Vec<String>,
    /// A file of an earlier version has no such member: what may be acted upon is what is known there.
    confirmed: Option<Vec<String>>,
    mtu: Option<u32>,
    device: Option<String>,
    ready: bool,
    reason: Option<String>,
    unreachable: usize,
    unreachable_words: Vec<String>,
    problems: Vec<String>,
    choices: Vec<String>,
    expires: Option<Expires>,
    fingerprint: Option<Made>,
}

#[derive(Serialize, Deserialize)]
struct Expires {
    boot: String,
    millis: u64,
}

#[derive(Serialize, Deserialize)]
struct Made {
    source: String,
    links: Vec<(String, u32, u32, bool)>,
}

pub(super) fn text(state: &State) -> String {
    let few = |words: &[String]| words.iter().take(State::WORDS_MAX).cloned().collect();
    let links = |links: &[KnownLink]| {
        let links = links.iter();
        links
            .map(|link| (link.name.clone(), link.index, link.mtu, link.up))
            .collect()
    };
    let texts = |prefixes: &[IpNetwork]| prefixes.iter().map(ToString::to_string).collect();
    let wire = Wire {
        network: state.network.to_string(),
        node: state.node.clone(),
        prefixes: texts(&state.prefixes),
        confirmed: Some(texts(&state.confirmed)),
        mtu: state.mtu,
        device: state.device.clone(),
        ready: state.ready,
        reason: state.reason.clone(),
        unreachable: state.unreachable,
        unreachable_words: few(&state.unreachable_words),
        problems: few(&state.problems),
        choices: few(&state.choices),
        expires: state.expires.as_ref().map(|moment| Expires {
            boot: moment.boot.clone(),
            millis: u64::try_from(moment.since.as_millis()).unwrap_or(u64::MAX),
        }),
        fingerprint: state.fingerprint.as_ref().map(|made| Made {
            source: made.source.clone(),
            links: links(&made.links),
        }),
    };
    // Strings, numbers and lists of them always are JSON.
    let mut text = serde_json::to_string(&wire).unwrap_or_default();
    text.push('\n');
    text
}

pub(super) fn parse(text: &[u8]) -> Option<State> {
    let wire: Wire = serde_json::from_slice(text).ok()?;
    let prefixes = |texts: &[String]| -> Option<Vec<IpNetwork>> {
        let prefixes = texts.iter().map(|prefix| prefix.parse().ok());
        prefixes.collect()
    };
    Some(State {
        network: wire.network.parse().ok()?,
        node: wire.node,
        prefixes: prefixes(&wire.prefixes)?,
        confirmed: prefixes(wire.confirmed.as_ref().unwrap_or(&wire.prefixes))?,
        mtu: wire.mtu,
        device: wire.device,
        ready: wire.ready,
        reason: wire.reason,
        unreachable: wire.unreachable,
        unreachable_words: wire.unreachable_words,
        problems: wire.problems,
        choices: wire.choices,
        expires: wire.expires.map(|expires| Moment {
            boot: expires.boot,
            since: Duration::from_millis(expires.millis),
        }),
        fingerprint: wire.fingerprint.map(|made| Fingerprint {
            source: made.source,
            links: made
                .links
                .into_iter()
                .map(|(name, index, mtu, up)| KnownLink {
                    name,
                    index,
                    mtu,
                    up,
                })
                .collect(),
        }),
    })
}
