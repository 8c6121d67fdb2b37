//! The agents: one on every node, which keeps it connected with the others.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cni_testkit::Process;
use cni_testkit::cluster::Node;

use super::site::{NETWORK, Site};
use crate::Result;
use crate::table::milliseconds;

pub(super) const PROGRAM: &str = "node-agent";

/// The port of its pages by default.
const PORT: u16 = 9473;

/// How long an agent may take to be ready; it takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Agents {
    /// In the order of the nodes.
    running: Vec<Process>,
}

/// What the agent of the first node would do.
pub(super) fn plan(site: &Site) -> Result<String> {
    once(site, site.node(0)?, "--dry-run")
}

impl Agents {
    /// Starts one on each node, and waits until all are ready.
    pub(super) fn start(site: &Site) -> Result<Self> {
        let start = Instant::now();
        let nodes = site.nodes().iter();
        let mut running: Vec<Process> = nodes.map(|node| launch(site, node)).collect();
        for (node, agent) in site.nodes().iter().zip(&mut running) {
            await_ready(node, agent)?;
        }
        println!(
            "{} of them ready {} after the first was started",
            running.len(),
            milliseconds(start.elapsed())
        );
        Ok(Self { running })
    }

    /// What the agent of a node has said since it had said so much.
    pub(super) fn said(&self, position: usize, before: usize) -> Vec<String> {
        let log = self.running.get(position).map(Process::log);
        let log = log.unwrap_or_default();
        log.lines().skip(before).map(str::to_owned).collect()
    }

    /// Kills the agent of a node with SIGKILL.
    pub(super) fn kill(&mut self, position: usize) -> u32 {
        let agent = self.running.remove(position);
        let id = agent.id();
        agent.kill();
        id
    }

    /// Starts the agent of a node that has been killed; how long it took to be ready.
    pub(super) fn restart(&mut self, site: &Site, position: usize) -> Result<Duration> {
        let start = Instant::now();
        let node = site.node(position)?;
        let mut agent = launch(site, node);
        await_ready(node, &mut agent)?;
        self.running.insert(position, agent);
        Ok(start.elapsed())
    }

    /// Waits until each knows so many others.
    pub(super) fn await_peers(&mut self, site: &Site, count: usize) -> Result<()> {
        let line = format!("\ncni_agent_peers {count}\n");
        self.await_all(site, "/metrics", "acquainted with all others", |page| {
            page.contains(&line)
        })
    }

    /// Waits until each has, or has not, its source of nodes.
    pub(super) fn await_source(&mut self, site: &Site, connected: bool) -> Result<()> {
        let (value, what) = match connected {
            true => (1, "connected with etcd"),
            false => (0, "aware that etcd is away"),
        };
        let line = format!("\ncni_agent_source_connected {value}\n");
        self.await_all(site, "/metrics", what, |page| page.contains(&line))
    }

    fn await_all(
        &mut self,
        site: &Site,
        path: &str,
        what: &str,
        is_so: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mut all = site.nodes().iter().zip(&mut self.running);
        all.try_for_each(|(node, agent)| await_page(node, agent, path, what, &is_so))
    }

    /// Stops all of them, and removes from each node what they made.
    pub(super) fn end(self, site: &Site) -> Result<()> {
        for (node, agent) in site.nodes().iter().zip(self.running) {
            let status = agent.stop().map_err(|error| error.to_string())?;
            if !status.success() {
                return Err(format!("the agent of {} ended with {status}", node.name()));
            }
        }
        for node in site.nodes() {
            once(site, node, "--cleanup")?;
        }
        println!("agents   stopped, and everything removed that they made (node-agent --cleanup)");
        Ok(())
    }
}

fn command(site: &Site, node: &Node) -> Command {
    // In earnest a machine's own name says which node it is; these nodes all have the one of this machine.
    let named = site.store.is_some().then(|| ["--node", node.name()]);
    let named = named.into_iter().flatten();
    let mut command = Command::new(site.binaries.join(PROGRAM));
    command
        .args(["--config", NETWORK])
        .args(named)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn launch(site: &Site, node: &Node) -> Process {
    node.start(&mut command(site, node))
}

/// Runs it to its end; its stdout.
fn once(site: &Site, node: &Node, task: &str) -> Result<String> {
    let output = node.run(|| command(site, node).arg(task).output());
    let output = output.map_err(|error| format!("cannot run {PROGRAM}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let (name, status) = (node.name(), output.status);
        return Err(format!("{PROGRAM} {task} on {name}: {status}\n{said}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn await_ready(node: &Node, agent: &mut Process) -> Result<()> {
    let ready = |page: &str| page.starts_with("HTTP/1.1 200");
    await_page(node, agent, "/readyz", "ready", ready)
}

/// Waits until a page of an agent is so.
fn await_page(
    node: &Node,
    agent: &mut Process,
    path: &str,
    what: &str,
    is_so: impl Fn(&str) -> bool,
) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let page = node.run(|| page(path));
        if page.as_deref().is_ok_and(&is_so) {
            return Ok(());
        }
        if Instant::now() > end || !agent.is_running() {
            let (name, log) = (node.name(), agent.log());
            let page = page.unwrap_or_else(|error| error.to_string());
            return Err(format!("the agent of {name} is not {what}: {page}\n{log}"));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A page of the agent in the calling thread's namespace.
fn page(path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}
