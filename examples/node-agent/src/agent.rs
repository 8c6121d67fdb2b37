//! The loop: what happens, what is decided, what is done.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cni_core::cluster::{Identity, Node, NodeChange, PeerEvent, PeerSource, View};
use cni_core::host::{KernelEvent, Monitor};
use cni_core::node::zones::Keeper;
use tokio::time::Instant;

use crate::heart::Heart;
use crate::luck;
use crate::moved::Moved;
use crate::news::News;
use crate::notify::Notify;
use crate::pace::{Pace, Step};
use crate::pending::Pending;
use crate::programmer::{Connection, Outcome, Programmer};
use crate::publish::Publisher;
use crate::status::Status;
use crate::telling::Telling;
use crate::tenure::Tenure;
use crate::zoning::{Zones, Zoning};

/// How many events are taken in before the next step, from each side: then it is time to act even if there are more.
const MOST_EVENTS: usize = 100_000;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// End, and leave the kernel as it is.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// Who brings orders.
#[async_trait]
pub trait Orders: Send + fmt::Debug {
    /// The next order. It may be dropped at any await point, and loses nothing.
    async fn next(&mut self) -> Order;
}

/// What follows from the configuration.
#[derive(Debug)]
pub struct Setup {
    /// Tells of the nodes.
    pub source: Box<dyn PeerSource>,
    /// Makes the kernel be so.
    pub programmer: Box<dyn Programmer>,
    /// Says which node this is.
    pub locator: Box<dyn Locator>,
    /// Tells the plugins.
    pub publisher: Publisher,
    /// Whether the node's prefixes are its own, where the source has to do with that.
    pub tenure: Option<Tenure>,
    /// Tells the source how this node is, where the source tells others.
    pub telling: Option<Telling>,
    /// Tells the source when the host's addresses may have changed.
    pub moved: Moved,
    /// What firewalld has to know, where it may rule the host.
    pub zoning: Option<Zoning>,
}

/// Says which node this is.
#[async_trait]
pub trait Locator: Send + fmt::Debug {
    /// By what this node is told from its peers: a name, or the addresses that the host has now.
    ///
    /// # Errors
    /// The host cannot tell: it stays as it was.
    async fn identity(&mut self, view: &View) -> cni_core::Result<Identity>;
}

/// Reads the configuration again.
pub trait Reload: Send {
    /// The new setup.
    ///
    /// # Errors
    /// Why it cannot be used: the old one stays in force.
    fn reload(&mut self) -> cni_core::Result<Setup>;
}

/// The status, for whoever serves it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Status>>);

impl Shared {
    /// The status, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a node connected.
pub struct Agent {
    setup: Setup,
    monitor: Box<dyn Monitor>,
    reload: Box<dyn Reload>,
    view: View,
    pace: Pace,
    pending: Pending,
    news: News,
    heart: Heart,
    status: Shared,
    /// Something has happened that somebody may want to know.
    news_to_tell: bool,
    /// Which node this is has to be found out anew.
    lost: bool,
    zones: Zones,
}

enum Happening {
    Order(Order),
    Peer(PeerEvent),
    Kernel(KernelEvent),
    Zones,
    Time,
}

impl Agent {
    /// An agent that has not done anything yet.
    pub fn new(
        setup: Setup,
        monitor: Box<dyn Monitor>,
        reload: Box<dyn Reload>,
        notify: Notify,
        sweep: Duration,
        status: Shared,
    ) -> Self {
        Self {
            view: View::default(),
            setup,
            monitor,
            reload,
            pace: Pace::new(sweep),
            pending: Pending::default(),
            news: News::default(),
            heart: Heart::new(notify),
            status,
            news_to_tell: true,
            lost: true,
            zones: Zones::default(),
        }
    }

    /// Has firewalld told what it has to know.
    pub fn keep_zones(&mut self, keeper: Keeper) {
        self.zones = Zones::kept(keeper);
    }

    /// Works until it is told to stop. The kernel is left as it is then: traffic goes on.
    pub async fn run(&mut self, orders: &mut dyn Orders) {
        let mut event = None;
        loop {
            match self.work(event.take(), orders).await {
                Some(Order::Stop) => break,
                Some(Order::Reload) => self.reload(),
                None => {}
            }
            if std::mem::take(&mut self.news_to_tell) {
                if self.zones.is_doubtful() {
                    self.zones.see(self.setup.programmer.is_ruled().await);
                }
                self.tell();
            }
            let until = self.wake();
            let happening = tokio::select! {
                biased;
                order = orders.next() => Happening::Order(order),
                event = self.setup.source.next() => Happening::Peer(event),
                event = self.monitor.next() => Happening::Kernel(event),
                () = self.zones.looked() => Happening::Zones,
                () = sleep_until(until) => Happening::Time,
            };
            match happening {
                Happening::Order(Order::Stop) => break,
                Happening::Order(Order::Reload) => self.reload(),
                Happening::Peer(event) => self.peer(event),
                Happening::Kernel(first) => event = Some(first),
                Happening::Zones => self.looked().await,
                Happening::Time => self.news_to_tell = true,
            }
        }
        self.heart.notify.stopping();
        tracing::info!("stopped; the node stays connected as it is");
    }

    /// Takes in what has happened already, without waiting for more.
    async fn gather(&mut self) {
        for _ in 0..MOST_EVENTS {
            let event = tokio::select! {
                biased;
                event = self.setup.source.next() => event,
                () = std::future::ready(()) => break,
            };
            self.peer(event);
        }
        for _ in 0..MOST_EVENTS {
            let event = tokio::select! {
                biased;
                event = self.monitor.next() => event,
                () = std::future::ready(()) => break,
            };
            self.kernel(&event).await;
        }
    }

    fn peer(&mut self, event: PeerEvent) {
        let now = Instant::now();
        let changes = self.view.apply(event);
        // Which node this is may depend on the names that there are.
        self.lost |= changes.iter().any(is_named_otherwise);
        self.news.changes(&changes, now);
        self.pending.add(changes, now);
        if self.view.in_sync() {
            self.pace.open();
        }
        self.news_to_tell = true;
    }

    async fn kernel(&mut self, event: &KernelEvent) {
        if matches!(event, KernelEvent::Address { .. } | KernelEvent::Overrun) {
            self.lost = true;
            self.setup.moved.tell();
        }
        if self.setup.programmer.concerns(event).await {
            if matches!(event, KernelEvent::Link { .. }) {
                // Its MTU, perhaps.
                self.setup.moved.tell();
            }
            tracing::debug!(
                ?event,
                "something that concerns us has changed in the kernel"
            );
            self.pace.disturbed(Instant::now());
        }
    }

    /// Takes in what has happened, and acts upon it. That may have to wait for other processes: orders come, and the service
    /// manager hears of progress, meanwhile. Nothing has to be finished to stop, no more than when the agent is killed; but it has
    /// to be to read the configuration again.
    async fn work(&mut self, event: Option<KernelEvent>, orders: &mut dyn Orders) -> Option<Order> {
        let mut heart = std::mem::take(&mut self.heart);
        let status = self.status.clone();
        let mut received = None;
        {
            let mut work = pin!(async {
                if let Some(event) = event {
                    self.kernel(&event).await;
                }
                self.gather().await;
                self.act().await;
            });
            while received != Some(Order::Stop) {
                tokio::select! {
                    biased;
                    () = &mut work => break,
                    order = orders.next() => received = Some(order),
                    () = heart.beat_on(&status) => {}
                }
            }
        }
        self.heart = heart;
        received
    }

    /// One step, if one is due.
    async fn act(&mut self) {
        if std::mem::take(&mut self.lost) {
            self.locate().await;
        }
        let now = Instant::now();
        match self.step(now) {
            Step::Full => self.full(now).await,
            Step::Update => self.update(now).await,
            Step::Wait(_) => {}
        }
    }

    async fn locate(&mut self) {
        match self.setup.locator.identity(&self.view).await {
            Err(error) => tracing::warn!("which node this is stays open: {}", error.chain()),
            Ok(identity) if *self.view.identity() == identity => {}
            Ok(identity) => {
                self.view.set_identity(identity);
                self.pace.want_full();
                self.news_to_tell = true;
            }
        }
    }

    fn step(&self, now: Instant) -> Step {
        // A node that is not in the cluster, be it by a slip of somebody's pen, goes on forwarding as it is.
        if self.view.me().is_none() {
            return Step::Wait(None);
        }
        self.pace
            .step(now, self.view.in_sync() && !self.pending.is_empty())
    }

    async fn full(&mut self, now: Instant) {
        let disturbed = self.pace.disturbed_since();
        self.pace.begin_full(now);
        // While the view is not in sync nothing is removed: the removals have to be known afterwards.
        let arrivals = if self.view.in_sync() {
            self.pending.take().1
        } else {
            Vec::new()
        };
        self.status.lock().busy_since = Some(now);
        let outcome = self.setup.programmer.full(&self.view).await;
        let end = Instant::now();
        self.pace
            .end_full(end, !outcome.errors.is_empty(), luck::between_0_and_1());
        {
            let mut status = self.status.lock();
            status.counts.last_full = end - now;
            if let Some(since) = disturbed {
                status.counts.repair.observe(end - since);
            }
        }
        self.let_through(outcome.connection.as_ref(), outcome.full)
            .await;
        self.record(&outcome, &[], &arrivals, end);
    }

    async fn update(&mut self, now: Instant) {
        let (changes, arrivals) = self.pending.take();
        self.status.lock().busy_since = Some(now);
        let outcome = self.setup.programmer.update(&self.view, &changes).await;
        let end = Instant::now();
        let failed = !outcome.errors.is_empty();
        match outcome.full {
            true => self.pace.end_full(end, failed, luck::between_0_and_1()),
            false => self.pace.end_update(end, failed, luck::between_0_and_1()),
        }
        self.let_through(outcome.connection.as_ref(), outcome.full)
            .await;
        self.record(&outcome, &changes, &arrivals, end);
    }

    /// Has firewalld told, where it rules the host, what it has to know of a node that is connected so.
    async fn let_through(&mut self, connection: Option<&Connection>, look: bool) {
        let (Some(zoning), Some(connection)) = (&self.setup.zoning, connection) else {
            return;
        };
        let cluster = self.setup.source.cluster_prefixes();
        let wanted = || zoning.wanted(&self.view, cluster, connection);
        self.zones.see(connection.firewalld);
        self.zones.want(wanted, self.view.in_sync(), look).await;
    }

    /// There has been a look at what firewalld knows.
    async fn looked(&mut self) {
        self.news_to_tell = true;
        if self.zones.is_ignorant() {
            let connection = self.status.lock().connection.clone();
            self.let_through(connection.as_ref(), true).await;
        }
    }

    fn record(
        &mut self,
        outcome: &Outcome,
        changes: &[NodeChange],
        arrivals: &[Instant],
        end: Instant,
    ) {
        self.news.outcome(outcome, end);
        self.news_to_tell = true;
        let mut status = self.status.lock();
        status.busy_since = None;
        for arrival in arrivals {
            status.counts.lag.observe(end - *arrival);
        }
        status.record(outcome, changes);
    }

    /// Tells everybody how things are: the log, the plugins, the service manager, and whoever asks by HTTP.
    fn tell(&mut self) {
        let now = Instant::now();
        let mut status = self.status.lock();
        status.see(&self.view);
        status.zones = self.zones.flaws();
        self.news.zones(&self.zones.changes(), now);
        let tenure = self.setup.tenure.as_ref();
        status.standing = tenure.map(Tenure::standing);
        status.confirmed = tenure.and_then(Tenure::confirmed);
        status.until = tenure.and_then(Tenure::until);
        self.news.status(&status, now);
        let Setup {
            source, publisher, ..
        } = &self.setup;
        let published = publisher.publish(&self.view, source.cluster_prefixes(), &status);
        if let Err(error) = published {
            status.counts.file_errors += 1;
            tracing::warn!("{}", error.chain());
        }
        if let Some(telling) = &self.setup.telling {
            telling.tell(&status);
        }
        if status.readiness().is_ready() {
            self.heart.notify.ready();
        }
        self.heart.notify.status(&status.line());
        self.heart.beat(status.is_alive(now));
        for line in self.news.take(now) {
            match line.warning {
                true => tracing::warn!("{}", line.text),
                false => tracing::info!("{}", line.text),
            }
        }
    }

    /// When there is something to do even if nothing happens.
    fn wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let step = match self.step(now) {
            Step::Wait(until) => until,
            Step::Full | Step::Update => Some(now),
        };
        [step, self.news.due(), self.heart.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The nodes that are known stay in force until the new source tells others.
    fn reload(&mut self) {
        match self.reload.reload() {
            Err(error) => tracing::warn!(
                "the configuration was read again and stays as it was: {}",
                error.chain()
            ),
            Ok(setup) => {
                self.setup = setup;
                self.pace.want_full();
                self.lost = true;
                self.news_to_tell = true;
                self.status.lock().compared = false;
                tracing::info!("the configuration has been read again");
            }
        }
    }
}

/// A name has come or gone.
fn is_named_otherwise(change: &NodeChange) -> bool {
    let name = |node: &Option<Arc<Node>>| node.as_ref().map(|node| Arc::clone(&node.name));
    name(&change.before) != name(&change.after)
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
