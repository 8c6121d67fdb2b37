//! Who makes the kernel be as it must, as the loop sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cni_core::cluster::{NodeChange, View};
use cni_core::fabric::Entrance;
use cni_core::host::KernelEvent;

/// Makes the kernel be as the view says. [`Connector`](crate::connector::Connector) is the real one.
#[async_trait]
pub trait Programmer: Send + fmt::Debug {
    /// Compares everything and makes the difference. Nothing is removed while the view is not in sync.
    async fn full(&mut self, view: &View) -> Outcome;

    /// Acts upon these changes alone.
    async fn update(&mut self, view: &View, changes: &[NodeChange]) -> Outcome;

    /// Whether an event in the kernel may have touched what is ours, or what it was made from. May take a look.
    async fn concerns(&mut self, event: &KernelEvent) -> bool;

    /// Whether firewalld's rules are in force now.
    async fn is_ruled(&mut self) -> bool;
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Everything was compared, be it because that was asked for or because it had to be.
    pub full: bool,
    /// Changes made in the kernel, by kind.
    pub changes: BTreeMap<&'static str, u64>,
    /// How much was found to be otherwise than it had been left.
    pub drift_found: u64,
    /// How much of that was put right.
    pub drift_repaired: u64,
    /// What was put right, in words; no more of them than a person reads.
    pub repaired: Vec<String>,
    /// What could not be done, in words.
    pub errors: Vec<String>,
    /// All peers that cannot be reached, by name, and why, in words that name the peer.
    pub unreachable: Vec<(Arc<str>, String)>,
    /// What others, or two nodes, want at once, and what the kernel has too little room for, in words.
    pub clashes: Vec<String>,
    /// What the node was given, where it is connected at all.
    pub connection: Option<Connection>,
}

/// How the node is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// The largest packet of a pod, in bytes.
    pub mtu: u32,
    /// The tunnel's device, where there is one.
    pub device: Option<String>,
    /// By what peers' packets come in.
    pub entrance: Entrance,
    /// firewalld's rules are in force.
    pub firewalld: bool,
    /// What was chosen of several possibilities, for people.
    pub choices: Vec<String>,
}
