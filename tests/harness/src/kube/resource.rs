//! The two kinds of objects that are served.

use super::fields::ListKind;
use super::schema::Schema;

/// A kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `nodes` of the core group.
    Nodes,
    /// `nodenetworks` of `cni-fabric.internal`.
    NodeNetworks,
}

impl Resource {
    /// All.
    pub(super) const ALL: [Self; 2] = [Self::Nodes, Self::NodeNetworks];

    /// The group; empty is the core's.
    pub(super) fn group(self) -> &'static str {
        match self {
            Self::Nodes => "",
            Self::NodeNetworks => "cni-fabric.internal",
        }
    }

    /// As objects name it.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Nodes => "v1",
            Self::NodeNetworks => "cni-fabric.internal/v1alpha1",
        }
    }

    /// As objects name it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Nodes => "Node",
            Self::NodeNetworks => "NodeNetwork",
        }
    }

    /// As paths and rights name it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::NodeNetworks => "nodenetworks",
        }
    }

    /// As messages name it: `nodenetworks.cni-fabric.internal`.
    pub(super) fn qualified(self) -> String {
        Self::joined(self.plural(), self.group())
    }

    /// As messages name the kind: `NodeNetwork.cni-fabric.internal`.
    pub(super) fn qualified_kind(self) -> String {
        Self::joined(self.kind(), self.group())
    }

    fn joined(name: &str, group: &str) -> String {
        match group {
            "" => name.to_owned(),
            _ => format!("{name}.{group}"),
        }
    }

    /// The path of all objects.
    pub fn path(self) -> &'static str {
        match self {
            Self::Nodes => "/api/v1/nodes",
            Self::NodeNetworks => "/apis/cni-fabric.internal/v1alpha1/nodenetworks",
        }
    }

    /// What a list of this kind is, by the names on the way to it.
    pub(super) fn list_kind(self, names: &[&str], schema: &Schema) -> ListKind {
        let by = |key, whole| ListKind::Map { key, whole };
        match (self, names) {
            (_, ["metadata", "ownerReferences"]) => by("uid", true),
            (_, ["metadata", "finalizers"]) | (Self::Nodes, ["spec", "podCIDRs"]) => ListKind::Set,
            (Self::Nodes, ["status", "conditions" | "addresses"]) => by("type", false),
            (Self::Nodes, _) => ListKind::Atomic,
            (Self::NodeNetworks, names) => schema.list_kind(names),
        }
    }
}
