//! Sets: their names, types, and which a census asks for.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use crate::host::firewall::{SetSpec, ValueType};

use super::super::Census;

/// The sets of the table. `bool` is whether it is IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    Nodes(bool),
    Pods(bool, u8),
    From {
        outer: bool,
        inner: bool,
        length: u8,
    },
}

pub(super) const FAMILIES: [bool; 2] = [false, true];

impl Set {
    pub(super) fn spec(self) -> SetSpec {
        let of = |ipv6| {
            if ipv6 {
                ValueType::Ipv6
            } else {
                ValueType::Ipv4
            }
        };
        let key = match self {
            Self::Nodes(ipv6) | Self::Pods(ipv6, _) => vec![of(ipv6)],
            Self::From { outer, inner, .. } => vec![of(outer), of(inner)],
        };
        SetSpec::new(&*self.name(), key)
    }

    /// Its name, of which there is one copy in the process: ten thousand members bear it.
    pub(super) fn name(self) -> Arc<str> {
        static NAMES: [OnceLock<Arc<str>>; Set::PLACES] = [const { OnceLock::new() }; Set::PLACES];
        let text = || -> Arc<str> {
            let digit = |ipv6| if ipv6 { '6' } else { '4' };
            match self {
                Self::Nodes(ipv6) => format!("nodes{}", digit(ipv6)),
                Self::Pods(ipv6, length) => format!("pods{}_{length}", digit(ipv6)),
                Self::From {
                    outer,
                    inner,
                    length,
                } => format!("from{}{}_{length}", digit(outer), digit(inner)),
            }
            .into()
        };
        match NAMES.get(self.place()) {
            Some(name) => name.get_or_init(text).clone(),
            None => text(),
        }
    }

    /// A number of its own, below [`Set::PLACES`] for lengths up to 255.
    fn place(self) -> usize {
        let (kind, length) = match self {
            Self::Nodes(ipv6) => (usize::from(ipv6), 0),
            Self::Pods(ipv6, length) => (2 + usize::from(ipv6), length),
            Self::From {
                outer,
                inner,
                length,
            } => (4 + 2 * usize::from(outer) + usize::from(inner), length),
        };
        kind << 8 | usize::from(length)
    }

    const PLACES: usize = 8 << 8;
}

/// The inner family and the length of prefixes, by the name of a set that holds prefixes of pods.
pub(super) fn length_of(name: &str) -> Option<(bool, u8)> {
    let (kind, length) = name.split_once('_')?;
    let ipv6 = match kind {
        "pods4" | "from44" | "from64" => false,
        "pods6" | "from46" | "from66" => true,
        _ => return None,
    };
    let length = length.parse().ok()?;
    // A peer's own addresses are in sets of this length whatever its pods have.
    let may_be_pods = kind.starts_with("pods") || length < full_length(ipv6);
    may_be_pods.then_some((ipv6, length))
}

pub(super) fn pod_sets(census: &Census) -> Vec<SetSpec> {
    let mut sets = Vec::new();
    for ipv6 in FAMILIES {
        let lengths = lengths(census, ipv6).iter();
        sets.extend(lengths.map(|length| Set::Pods(ipv6, *length).spec()));
        sets.push(Set::Nodes(ipv6).spec());
    }
    sets
}

pub(super) fn peer_sets(census: &Census) -> Vec<SetSpec> {
    from_sets(census).map(Set::spec).collect()
}

pub(super) fn from_sets(census: &Census) -> impl Iterator<Item = Set> {
    FAMILIES.into_iter().flat_map(move |outer| {
        FAMILIES.into_iter().flat_map(move |inner| {
            let mut lengths = lengths(census, inner).clone();
            lengths.insert(full_length(inner));
            lengths.into_iter().map(move |length| Set::From {
                outer,
                inner,
                length,
            })
        })
    })
}

pub(super) fn lengths(census: &Census, ipv6: bool) -> &BTreeSet<u8> {
    if ipv6 {
        &census.lengths6
    } else {
        &census.lengths4
    }
}

pub(super) fn full_length(ipv6: bool) -> u8 {
    if ipv6 { 128 } else { 32 }
}
