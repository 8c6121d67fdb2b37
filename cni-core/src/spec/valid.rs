//! Which attachments of a network are still valid: what GC is told (`cni.dev/valid-attachments`, spec v1.1.0).

use std::collections::BTreeSet;

use super::{Attachment, ContainerId, InterfaceName, Mark, NetworkName};

/// The attachments of a network that are still valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidAttachments(BTreeSet<(ContainerId, InterfaceName)>);

impl ValidAttachments {
    /// From pairs of container and interface.
    pub fn new(pairs: impl IntoIterator<Item = (ContainerId, InterfaceName)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// Whether the attachment of `container` by `interface` is valid.
    pub fn contains(&self, container: &ContainerId, interface: &InterfaceName) -> bool {
        self.0.contains(&(container.clone(), interface.clone()))
    }

    /// Whether none is valid.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The valid pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&ContainerId, &InterfaceName)> {
        self.0
            .iter()
            .map(|(container, interface)| (container, interface))
    }

    /// The marks of all valid attachments to `network`.
    pub fn marks(&self, network: &NetworkName) -> BTreeSet<Mark> {
        self.attachments(network)
            .map(|attachment| attachment.mark())
            .collect()
    }

    /// All valid attachments to `network`.
    pub fn attachments(&self, network: &NetworkName) -> impl Iterator<Item = Attachment> {
        self.0.iter().map(|(container, interface)| Attachment {
            network: network.clone(),
            container: container.clone(),
            interface: interface.clone(),
        })
    }
}
