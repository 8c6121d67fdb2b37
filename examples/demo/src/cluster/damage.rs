//! Damage done to the first node while packets flow, and what became of them.

use std::thread;
use std::time::{Duration, Instant};

use cni_testkit::Ping;
use cni_testkit::cluster::{Stream, Tally};
use cni_testkit::etcd::Etcd;

use super::agents::Agents;
use super::pods::Pods;
use super::site::{PROTOCOL, Site};
use crate::Result;
use crate::table::milliseconds;

/// Between two packets of the streams.
const PACE: Duration = Duration::from_millis(5);

/// How long a stream runs undisturbed before and after.
const QUIET: Duration = Duration::from_millis(250);

/// How long healing may take before it is given up; it takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of what the agent says is shown.
const LINES: usize = 6;

/// Takes away what the agent has made, and waits until packets pass again.
pub(super) fn heal(site: &Site, pods: &Pods, agents: &Agents) -> Result<()> {
    let node = site.node(0)?;
    let before = agents.said(0, 0).len();
    let streams = Streams::start(pods)?;
    thread::sleep(QUIET);
    let done = match site.tunnel() {
        Some(device) => {
            node.delete_link(device);
            format!("ip link del {device}")
        }
        None => {
            let routes = node.flush_routes(PROTOCOL);
            format!("ip route flush protocol {PROTOCOL}   ({routes} routes, of both families)")
        }
    };
    println!("{} $ {done}", node.name());
    streams.await_passage()?;
    thread::sleep(QUIET);
    for (family, tally) in streams.finish() {
        println!("{}", told(family, &tally));
    }
    let said = agents.said(0, before);
    if !said.is_empty() {
        println!("what the agent of {} says about it:", node.name());
    }
    for line in said.iter().take(LINES) {
        println!("  {line}");
    }
    pods.check(site)
}

/// Kills the agent in the middle of everything, and starts it again: no packet may be lost by that.
pub(super) fn kill(site: &Site, pods: &Pods, agents: &mut Agents) -> Result<()> {
    let streams = Streams::start(pods)?;
    thread::sleep(QUIET);
    let id = agents.kill(0);
    println!("\n{} $ kill -9 {id}   (its agent)", site.node(0)?.name());
    thread::sleep(QUIET);
    let ready = agents.restart(site, 0)?;
    println!("started again, and ready after {}", milliseconds(ready));
    thread::sleep(QUIET);
    for (family, tally) in streams.finish() {
        println!("{}", told(family, &tally));
        if tally.lost > 0 {
            return Err("the end of an agent must not cost a packet".to_owned());
        }
    }
    Ok(())
}

/// Takes etcd and then an agent away, and brings them back: no packet may be lost by that.
pub(super) fn lose_etcd(
    site: &Site,
    pods: &Pods,
    agents: &mut Agents,
    etcd: &mut Etcd<'_>,
) -> Result<()> {
    let streams = Streams::start(pods)?;
    thread::sleep(QUIET);
    println!("etcd $ kill -9 {}", etcd.id().unwrap_or_default());
    etcd.kill();
    agents.await_source(site, false)?;
    println!("all agents miss it, and keep what they know");
    thread::sleep(QUIET);
    etcd.restart();
    let start = Instant::now();
    agents.await_source(site, true)?;
    let took = milliseconds(start.elapsed());
    println!("etcd is started again, and {took} after it answers all agents follow it");
    let node = site.node(1)?.name();
    println!("\n{node} $ kill -9 {}   (its agent)", agents.kill(1));
    thread::sleep(QUIET);
    let ready = agents.restart(site, 1)?;
    println!(
        "started again, and ready after {}, with the prefixes and leases that it had",
        milliseconds(ready)
    );
    thread::sleep(QUIET);
    for (family, tally) in streams.finish() {
        println!("{}", told(family, &tally));
        if tally.lost > 0 {
            return Err("the end of etcd or of an agent must not cost a packet".to_owned());
        }
    }
    Ok(())
}

/// A steady stream of each family between the first node and the last.
struct Streams<'a> {
    pods: &'a Pods,
    running: Vec<(&'static str, Stream)>,
}

impl<'a> Streams<'a> {
    fn start(pods: &'a Pods) -> Result<Self> {
        let (from, to) = pods.far()?;
        let mut running = Vec::new();
        for (family, name) in ["IPv4", "IPv6"].into_iter().enumerate() {
            let target = to.attached.address(family)?;
            running.push((name, Stream::start(&from.attached.pod, target, PACE)));
        }
        Ok(Self { pods, running })
    }

    /// Waits until packets pass in both families.
    fn await_passage(&self) -> Result<()> {
        let start = Instant::now();
        let (from, to) = self.pods.far()?;
        for family in 0..self.running.len() {
            let target = to.attached.address(family)?;
            let ping = Ping::to(&target.to_string()).timeout(PACE);
            let passes = || from.attached.pod.run(|| ping.send()).is_ok();
            while !passes() {
                if start.elapsed() > PATIENCE {
                    return Err(format!("{target} is out of reach after {PATIENCE:?}"));
                }
                // A refusal comes at once.
                thread::sleep(Duration::from_micros(200));
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<(&'static str, Tally)> {
        for (_, stream) in &self.running {
            stream.stop();
        }
        let running = self.running.into_iter();
        running
            .map(|(family, stream)| (family, stream.finish()))
            .collect()
    }
}

fn told(family: &str, tally: &Tally) -> String {
    let Tally { sent, lost, .. } = tally;
    let pace = PACE.as_millis();
    let gap = match lost {
        0 => String::new(),
        _ => format!("; the longest gap was {}", milliseconds(tally.longest)),
    };
    format!("{family}: {lost} of {sent} packets lost, one sent every {pace} ms{gap}")
}
