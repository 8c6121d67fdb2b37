//! One node, and chains of plugins on it: a port that is published, pods that are limited, networks that are closed.

mod network;
mod shown;

use std::path::PathBuf;

use cni_testkit::Snapshot;

use crate::one::Node;
use crate::{Result, heading};
use network::{Network, Pods};

/// What it runs, and the packages that it comes from.
pub(crate) const PROGRAMS: [&str; 6] = [
    "bridge",
    "host-local",
    "loopback",
    "portmap",
    "firewall",
    "bandwidth",
];
pub(crate) const PACKAGES: [&str; 1] = ["cni-plugins"];

pub(crate) fn run(binaries: PathBuf) -> Result<()> {
    heading("A throwaway node");
    let node = Node::build()?;
    println!("{}", node.describe());
    let before = Snapshot::take();

    heading("Two networks: the list of plugins that a runtime reads for each");
    let web = Network::new("web", 88, &binaries);
    let guests = Network::new("guests", 89, &binaries);
    println!("{}", web.describe());
    println!("{}", guests.describe());

    heading("Attaching");
    let pods = Pods::attach(&web, &guests)?;
    heading("Checking");
    pods.check()?;
    heading("What one more published port would be (portmap, CNI_DRY_RUN=1)");
    println!("{}", pods.plan()?.trim_end());

    heading("Who gets an answer");
    shown::answers(&node, &pods)?;
    heading("Who is limited");
    shown::limits(&pods)?;

    heading("Detaching");
    pods.detach()?;
    web.collect()?;
    guests.collect()?;
    // What the address store remembers.
    let strip = |snapshot: Snapshot| snapshot.without("/var/lib/cni");
    let left = strip(Snapshot::take()).since(&strip(before));
    if !left.is_empty() {
        return Err(format!("something is left behind:\n{left}"));
    }
    println!("\nNothing is left.");
    Ok(())
}
