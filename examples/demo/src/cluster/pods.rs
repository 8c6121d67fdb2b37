//! Pods on all nodes, attached as a runtime on each of them does.

use std::time::Instant;

use cni_testkit::Invocation;
use cni_testkit::cluster::Node;

use super::site::Site;
use crate::Result;
use crate::attached::{Attached, join};
use crate::table::milliseconds;

pub(super) struct Pods {
    pub(super) all: Vec<Placed>,
}

/// A pod on a node.
pub(super) struct Placed {
    /// The node's position.
    pub(super) node: usize,
    pub(super) attached: Attached,
}

impl Pods {
    pub(super) fn attach(site: &Site) -> Result<Self> {
        let mut all = Vec::new();
        for (position, node) in site.nodes().iter().enumerate() {
            for letter in ["a", "b", "c", "d"].iter().take(site.args.pods) {
                let name = format!("{}-{letter}", node.name());
                let attached = attach(site, node, Attached::new(&name))?;
                all.push(Placed {
                    node: position,
                    attached,
                });
            }
        }
        Ok(Self { all })
    }

    pub(super) fn check(&self, site: &Site) -> Result<()> {
        for Placed { node, attached } in &self.all {
            let node = site.node(*node)?;
            let (pod, result) = (&attached.pod, &attached.result);
            let outcome = node.run(|| site.chain.check(pod, "eth0", result));
            outcome.map_err(|outcome| format!("CHECK of {}: {outcome}", attached.name))?;
        }
        // Of nodes in etcd only agents know; with a file, CHECK compares the ways to them, too.
        let more = match &site.store {
            None => ", and the way to every other node,",
            Some(_) => "",
        };
        println!(
            "{} attachments{more} are as they should be (CHECK)",
            self.all.len()
        );
        Ok(())
    }

    pub(super) fn detach(&self, site: &Site) -> Result<()> {
        for Placed { node, attached } in &self.all {
            let node = site.node(*node)?;
            let (pod, result) = (&attached.pod, &attached.result);
            let start = Instant::now();
            let outcome = node.run(|| site.chain.del(pod, "eth0", result));
            outcome.map_err(|outcome| format!("DEL of {}: {outcome}", attached.name))?;
            println!(
                "{:<8} gone in {}",
                attached.name,
                milliseconds(start.elapsed())
            );
        }
        // No attachment is valid any more: the bridge, which pods share, may go, too.
        let collect = Invocation::new(site.binaries.join(site.args.backend.name()), "GC")
            .env("CNI_PATH", &site.binaries)
            .config(&site.collection());
        for node in site.nodes() {
            let outcome = node.run(|| collect.run());
            if !outcome.is_success() {
                return Err(format!("GC on {}: {outcome}", node.name()));
            }
        }
        println!("bridges  gone with the last of them (GC with no valid attachment)");
        Ok(())
    }

    /// The first pod of the first node, and the first of the last: what is far away.
    pub(super) fn far(&self) -> Result<(&Placed, &Placed)> {
        let first = self.all.first();
        let last = self.all.last().map(|last| last.node);
        let other = self.all.iter().find(|pod| Some(pod.node) == last);
        first
            .zip(other)
            .ok_or_else(|| "there are no pods".to_owned())
    }

    /// Those of a node, given by its position.
    pub(super) fn on(&self, node: usize) -> impl Iterator<Item = &Attached> {
        let there = self.all.iter().filter(move |pod| pod.node == node);
        there.map(|pod| &pod.attached)
    }
}

fn attach(site: &Site, node: &Node, mut attached: Attached) -> Result<Attached> {
    attached.raise_loopback(&site.binaries)?;
    let start = Instant::now();
    let result = node.run(|| site.chain.add(&attached.pod, "eth0"));
    let took = start.elapsed();
    let result = result.map_err(|outcome| format!("ADD of {}: {outcome}", attached.name))?;
    attached.learn(result)?;
    println!(
        "{:<8} {:<36} port {}   in {}",
        attached.name,
        join(&attached.addresses),
        attached.port,
        milliseconds(took)
    );
    Ok(attached)
}
