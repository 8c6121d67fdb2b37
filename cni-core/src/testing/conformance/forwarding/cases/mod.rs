//! Single changes, and how they are answered.

mod entries;
mod routes;

use super::super::netlink::build::set;
use super::build::Step;
use crate::host::forwarding::{Change, Entry};
use crate::host::netlink::NetlinkChange;

/// A rule, changes of which the last is judged, and its errno.
pub(super) type Case = (&'static str, Scene, i32);

/// Where changes are made.
pub(super) struct Scene {
    /// On a node, or else in an empty namespace.
    pub(super) on_node: bool,
    pub(super) steps: Vec<Step>,
}

impl Scene {
    /// Nothing is changed but entries.
    pub(super) fn leaves_links(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Entry(_)))
    }
}

pub(super) fn all() -> impl Iterator<Item = Case> {
    [
        entries::next_hops(),
        routes::routes(),
        routes::replacements(),
        routes::removals(),
        entries::neighbours(),
        entries::fdbs(),
        entries::rules(),
    ]
    .into_iter()
    .flatten()
}

fn add(entry: Entry) -> Step {
    Change::Add(entry).into()
}

fn put(entry: Entry) -> Step {
    Change::Replace(entry).into()
}

fn before(entry: Entry) -> Step {
    Change::Prepend(entry).into()
}

fn gone(entry: Entry) -> Step {
    Change::Del(entry).into()
}

fn down(link: &str) -> Step {
    set(link, |set| set.up = Some(false)).into()
}

/// Steps on a node.
fn on(steps: &[Step]) -> Scene {
    Scene {
        on_node: true,
        steps: steps.to_vec(),
    }
}

/// Steps in an empty namespace.
fn alone(steps: &[Step]) -> Scene {
    Scene {
        on_node: false,
        steps: steps.to_vec(),
    }
}

/// Steps in a namespace with these links.
fn with(links: &[NetlinkChange], steps: &[Step]) -> Scene {
    let links = links.iter().cloned().map(Step::from);
    alone(&links.chain(steps.iter().cloned()).collect::<Vec<_>>())
}
