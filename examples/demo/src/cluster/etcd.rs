//! Nodes that know each other from an etcd, and get their prefixes there.

use cni_testkit::Snapshot;
use cni_testkit::cluster::Host;
use cni_testkit::etcd::{Etcd, Kept, program};

use super::agents::Agents;
use super::pods::Pods;
use super::site::Site;
use super::{damage, reach};
use crate::{Result, heading};

/// What all keys begin with: the default for a network of this name.
const PREFIX: &str = "/cni/demo/";

/// Whether there is an etcd to show it with.
pub(super) fn installed() -> Result<()> {
    let words = "there is no etcd on this machine, which --source etcd is about: install one (Debian: apt-get install etcd-server), \
                 or put the program `etcd` of a release (https://github.com/etcd-io/etcd/releases) into /usr/local/bin";
    program().map(drop).ok_or_else(|| words.to_owned())
}

pub(super) fn run(site: &Site, host: &Host, before: &[Snapshot]) -> Result<()> {
    let address = host.addresses.first().ok_or("etcd's host has no address")?;
    let mut etcd = Etcd::start(&host.pod, *address);
    heading("An agent on each node: it claims prefixes in etcd");
    let mut agents = Agents::start(site)?;
    agents.await_peers(site, site.nodes().len() - 1)?;
    let kept = etcd.keys(PREFIX);
    println!("what etcd holds:");
    for Kept { key, value, .. } in &kept {
        println!("  {key}\n    {value}");
    }
    heading("Attaching");
    let pods = Pods::attach(site)?;
    heading("Checking");
    pods.check(site)?;
    heading("Who reaches whom");
    print!("{}", reach::measure(site, &pods)?);

    heading("etcd goes, and an agent, while packets flow");
    damage::lose_etcd(site, &pods, &mut agents, &mut etcd)?;
    if etcd.keys(PREFIX) != kept {
        return Err("what etcd holds is not what it held".to_owned());
    }
    println!("etcd holds what it held, under the same leases and at the same revisions");

    heading("Detaching");
    pods.detach(site)?;
    agents.end(site)?;
    let left = etcd.keys(PREFIX);
    if let Some(Kept { key, .. }) = left.first() {
        return Err(format!("{key} is left in etcd"));
    }
    println!("etcd     holds nothing of any node any more");
    site.nothing_changed(before)?;
    site.say_goodbye();
    Ok(())
}
