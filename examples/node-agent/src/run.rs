//! What the program does: one of its tasks, from the arguments to the end.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use cni_core::cluster::View;
use cni_core::fabric::Engine;
use cni_core::host::Host;
use cni_core::host::monitor::KernelMonitor;
use cni_core::host::sysctl::KernelSysctl;
use cni_core::host::zones as firewalld;
use cni_core::node::state::AgentLock;
use cni_core::node::zones::{self, Keeper};
use cni_core::{Error, ErrorKind, Result};
use tokio::net::TcpListener;

use crate::agent::{Agent, Order, Orders as _, Setup, Shared};
use crate::args::{Args, Task};
use crate::http;
use crate::notify::{self, Notify};
use crate::programmer::{Connection, Programmer as _};
use crate::setup::Maker;
use crate::signals::Signals;
use crate::site::Site;
use crate::status::Status;
use crate::unhurried::{beside, unhurried};
use crate::{install, uninstall};

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What is to be said on stdout.
    pub text: String,
    /// Everything was done.
    pub complete: bool,
}

/// What the service manager says in the environment.
#[derive(Debug, Clone, Default)]
pub struct Manager {
    /// `NOTIFY_SOCKET`.
    pub socket: Option<OsString>,
    /// `WATCHDOG_USEC`.
    pub watchdog_usec: Option<String>,
    /// `WATCHDOG_PID`.
    pub watchdog_pid: Option<String>,
}

/// Does what the arguments ask for.
///
/// # Errors
/// What kept it from being begun.
pub async fn run(args: Args, manager: &Manager) -> Result<Done> {
    let task = args.task;
    if task == Task::Install {
        return install(&args);
    }
    let mut host = unhurried(Host::open()?);
    if let Some(root) = &args.sysctl_dir {
        host.sysctl = Arc::new(KernelSysctl::at(root));
    }
    let maker = Maker::new(args.clone(), host)?;
    match task {
        Task::Run => serve(args, maker, manager).await,
        Task::Once => once(&maker).await,
        Task::DryRun => dry_run(&maker).await,
        Task::Cleanup => clean_up(&maker).await,
        Task::Uninstall => uninstall::run(&args, &maker).await,
        Task::Install => install(&args),
    }
}

fn install(args: &Args) -> Result<Done> {
    let outcome = install::install(&install::source()?, &args.plugins)?;
    Ok(Done {
        text: outcome.text("installed"),
        complete: true,
    })
}

async fn serve(args: Args, maker: Maker, manager: &Manager) -> Result<Done> {
    let failed = |what: String| move |error| Error::new(ErrorKind::Io, what).with_source(error);
    let mut signals = Signals::new().map_err(failed("could not take signals".to_owned()))?;
    let _lock = tokio::select! {
        biased;
        lock = alone(&maker) => lock?,
        () = stop(&mut signals) => return Ok(Done { text: String::new(), complete: true }),
    };
    // Before the first look at the kernel: what happens from here on is noticed.
    let monitor =
        KernelMonitor::open().map_err(failed("could not follow the kernel".to_owned()))?;
    let status = Shared::default();
    if let Some(address) = args.listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(failed(format!("could not listen at {address}")))?;
        let site = Site {
            status: status.clone(),
            drops: maker.drops(),
        };
        tokio::spawn(http::serve(listener, Arc::new(site)));
    }
    let environment = notify::Environment {
        socket: manager.socket.as_deref(),
        watchdog_usec: manager.watchdog_usec.as_deref(),
        watchdog_pid: manager.watchdog_pid.as_deref(),
    };
    let notify = Notify::new(&environment)
        .map_err(failed("could not reach the service manager".to_owned()))?;
    let setup = maker.setup()?;
    let keeper = zone_keeper(&maker).map_err(failed("could not start a thread".to_owned()))?;
    tracing::info!(
        network = %maker.network().node.network,
        config = %args.config.display(),
        "started; nothing is changed before all nodes are known"
    );
    let mut agent = Agent::new(
        setup,
        Box::new(monitor),
        Box::new(maker),
        notify,
        args.sweep,
        status,
    );
    agent.keep_zones(keeper);
    agent.run(&mut signals).await;
    Ok(Done {
        text: String::new(),
        complete: true,
    })
}

/// From the start on firewalld is told what it was told before: the source may be away, and the kernel stays as it was meanwhile.
fn zone_keeper(maker: &Maker) -> io::Result<Keeper> {
    let dir = maker.state_dir();
    let keeper = Keeper::start(maker.host().zones.clone(), dir.clone())?;
    if let Some(wanted) = maker.zoning().former(&dir) {
        keeper.want(wanted, false, true);
    }
    Ok(keeper)
}

async fn once(maker: &Maker) -> Result<Done> {
    let _lock = alone(maker).await?;
    let mut setup = maker.setup()?;
    let view = learn(&mut setup).await?;
    let outcome = maker.connector().full(&view).await;
    let (mut status, mut text) = (Status::default(), String::new());
    status.see(&view);
    if let Some(connection) = &outcome.connection {
        let zoning = maker.zoning();
        let wanted = zoning.wanted(&view, setup.source.cluster_prefixes(), connection);
        let zones = maker.host().zones.as_ref();
        let passed = zones::pass(zones, &maker.state_dir(), &wanted, true, &|| true);
        for (count, what) in [
            (passed.added.len(), "added"),
            (passed.removed.len(), "removed"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "firewalld: {count} {what}");
            }
        }
        status.zones = passed.flaws;
    }
    status.record(&outcome, &[]);
    maker
        .publisher()
        .publish(&view, setup.source.cluster_prefixes(), &status)?;
    for (kind, count) in &outcome.changes {
        let _ = writeln!(text, "{kind}: {count}");
    }
    text.push_str(&status.readiness().text());
    Ok(Done {
        text,
        complete: status.readiness().is_ready(),
    })
}

async fn dry_run(maker: &Maker) -> Result<Done> {
    let mut setup = maker.setup()?;
    let view = learn(&mut setup).await?;
    let fabric = Arc::clone(&maker.network().fabric);
    let engine = Engine::new(maker.host().clone(), fabric);
    let difference = engine.compare(&view).await?;
    let mut text = String::new();
    let unreachable = difference.unreachable.iter().map(|(_, why)| why);
    let conflicts: Vec<String> = view.conflicts().map(ToString::to_string).collect();
    let connection = Connection {
        entrance: difference.entrance.clone(),
        ..Connection::default()
    };
    let cluster = setup.source.cluster_prefixes();
    let wanted = maker.zoning().wanted(&view, cluster, &connection);
    let commands = zones::commands(maker.host().zones.as_ref(), &maker.state_dir(), &wanted)?;
    let remarks = unreachable.chain(&difference.clashes).chain(&conflicts);
    for remark in remarks {
        let _ = writeln!(text, "# {remark}");
    }
    match difference.is_empty() && commands.is_empty() {
        true => text.push_str("nothing to do\n"),
        false => text.push_str(&difference.to_string()),
    }
    for command in commands {
        let _ = writeln!(text, "{command}");
    }
    Ok(Done {
        text,
        complete: true,
    })
}

async fn clean_up(maker: &Maker) -> Result<Done> {
    let _lock = alone(maker).await?;
    let mut text = String::new();
    // First, so that others stop sending; and while what is known of this node's prefixes is still there.
    let told = remove_from_source(maker, &mut text).await;
    let mut complete = told.unwrap_or_else(|error| {
        let _ = writeln!(text, "{}", error.chain());
        false
    });
    complete &= remove_from_kernel(maker, &mut text).await;
    maker.publisher().withdraw()?;
    if text.is_empty() {
        text.push_str("nothing to do\n");
    }
    Ok(Done { text, complete })
}

/// Says what was removed, and what could not be; the value tells whether everything was.
pub(crate) async fn remove_from_kernel(maker: &Maker, text: &mut String) -> bool {
    let fabric = Arc::clone(&maker.network().fabric);
    let report = Engine::new(maker.host().clone(), fabric).cleanup().await;
    for (thing, count) in &report.made {
        let _ = writeln!(text, "{thing}: {} removed", count.removed);
    }
    for (what, error) in &report.errors {
        let _ = writeln!(text, "{what}: {}", error.chain());
    }
    let ruled = firewalld::rules(maker.host()).await;
    let left = zones::withdraw(maker.host().zones.as_ref(), &maker.state_dir(), ruled);
    match &left {
        Ok(0) => {}
        Ok(count) => {
            let _ = writeln!(text, "firewalld: {count} removed");
        }
        Err(error) => {
            let _ = writeln!(text, "{}", error.chain());
        }
    }
    report.is_complete() && left.is_ok()
}

/// Says what a service has been told of this node and has not any more; the value tells whether that is all.
///
/// # Errors
/// What is wrong in the configuration.
pub(crate) async fn remove_from_source(maker: &Maker, text: &mut String) -> Result<bool> {
    let (withdrawn, left) = maker.withdraw().await?;
    for line in withdrawn {
        let _ = writeln!(text, "{line}");
    }
    if let Some(left) = &left {
        let _ = writeln!(text, "{left}");
    }
    Ok(left.is_none())
}

/// Sees to it that nobody else works on the network: no other agent, and no plugin, which leaves the work to an agent from now
/// on, but may be about to end some of its own.
pub(crate) async fn alone(maker: &Maker) -> Result<AgentLock> {
    let dir = maker.state_dir();
    beside(async move { dir.agent_lock() }).await
}

/// Waits for the order to stop.
async fn stop(signals: &mut Signals) {
    while signals.next().await != Order::Stop {}
}

/// Waits until the source has told of all nodes.
async fn learn(setup: &mut Setup) -> Result<View> {
    let mut view = View::default();
    while !view.in_sync() {
        view.apply(setup.source.next().await);
        let nothing = view.is_empty().then(|| view.rejected()).flatten();
        if let Some(why) = view.away().or(nothing) {
            return Err(Error::new(ErrorKind::TryAgain, why));
        }
    }
    let identity = setup.locator.identity(&view).await?;
    view.set_identity(identity);
    Ok(view)
}
