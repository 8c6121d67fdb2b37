//! A cluster: nodes that an agent on each keeps connected, pods on all of them, damage, and the end of it.

mod agents;
mod damage;
mod drawing;
mod etcd;
mod picture;
mod pods;
mod reach;
mod site;
mod trace;

use std::path::Path;

use agents::Agents;
use pods::Pods;
use site::Site;

use crate::args::{ClusterArgs, Source};
use crate::svg::File;
use crate::{Result, heading};

/// The packages that the programs come from.
pub(crate) const PACKAGES: [&str; 2] = ["cni-plugins", "node-agent"];

/// What it runs.
pub(crate) fn programs(args: &ClusterArgs) -> [&'static str; 3] {
    [args.backend.name(), "loopback", agents::PROGRAM]
}

/// Whether there is what it needs beside what is built here.
pub(crate) fn possible(args: &ClusterArgs) -> Result<()> {
    match args.source {
        Source::File => Ok(()),
        Source::Etcd => etcd::installed(),
    }
}

pub(crate) fn run(args: &ClusterArgs, binaries: &Path, drawing: Option<File>) -> Result<()> {
    heading("A throwaway cluster");
    let site = Site::build(args, binaries)?;
    print!("{site}");
    let before = site.snapshots();
    if let Some(host) = &site.store {
        return etcd::run(&site, host, &before);
    }

    heading("What a node needs: the plan of n1 (node-agent --dry-run)");
    println!("{}", agents::plan(&site)?.trim_end());
    site.nothing_changed(&before)?;
    println!("\n(nothing was changed by it)");

    heading("An agent on each node");
    let mut agents = Agents::start(&site)?;
    heading("Attaching");
    let pods = Pods::attach(&site)?;
    heading("Checking");
    pods.check(&site)?;

    heading("Who reaches whom");
    let reach = reach::measure(&site, &pods)?;
    print!("{reach}");
    heading("A packet's way");
    let ways = trace::follow(&site, &pods)?;
    let texts: Vec<String> = ways.iter().map(ToString::to_string).collect();
    print!("{}", texts.join("\n"));

    heading("What was built");
    print!("{}", picture::draw(&site, &pods, &ways));
    if let Some(file) = drawing {
        file.write(drawing::draw(&site, &pods, &reach, &ways))?;
    }

    heading("Damage, and what the agents make of it");
    damage::heal(&site, &pods, &agents)?;
    damage::kill(&site, &pods, &mut agents)?;

    heading("Detaching");
    pods.detach(&site)?;
    agents.end(&site)?;
    site.nothing_changed(&before)?;
    site.say_goodbye();
    Ok(())
}
