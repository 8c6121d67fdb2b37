//! What is done with a connection, and without one.

use std::sync::Arc;
use std::time::Duration;

use cni_core::cluster::PeerEvent;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::api::WatchAnswer;
use super::client::{Client, Failure, Watch};
use super::config::EtcdConfig;
use super::join::meet;
use super::layout::MOST_BYTES;
use super::list::list;
use super::member::Member;
use super::source::Networks;
use super::table::Table;
use crate::luck;
use crate::remote::backoff::Backoff;
use crate::remote::facts::{Facts, Knows, TO_SETTLE, changed};
use crate::tenure::{Standing, Start, Tenure, Term};

/// A watch that is asked for has to begin within this time.
const TO_BEGIN: Duration = Duration::from_secs(5);
/// How long others have for making themselves known again after leases have run out because etcd was away.
const TO_RETURN: Duration = Duration::from_secs(10);
/// Whoever finds this time over by more than that was stopped meanwhile, and has what was told then still to read.
const LATE: Duration = Duration::from_secs(1);
/// What others do to this node's own keys is put right at most this often.
const BETWEEN_REPAIRS: Duration = Duration::from_secs(1);

/// Follows what etcd holds, and keeps this node's own part in it.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) table: Table,
    pub(super) events: UnboundedSender<PeerEvent>,
    /// `None`: it looks on.
    pub(super) own: Option<Own>,
    /// As configured.
    config: EtcdConfig,
    /// Prefixes that hold all pods, for whoever listens.
    networks: Networks,
    seen: Seen,
    away: bool,
    backoff: Backoff,
    /// Until then, nodes that seem to have gone are kept.
    holding: Option<Instant>,
}

/// This node's own part.
pub(super) struct Own {
    pub(super) member: Member,
    pub(super) knows: Arc<dyn Knows>,
    pub(super) tenure: Tenure,
    pub(super) facts: Option<Facts>,
}

/// Up to where everything is in the table.
#[derive(Debug, Default)]
struct Seen {
    /// `None`: everything has to be listed.
    revision: Option<i64>,
    /// The highest that there ever was.
    highest: i64,
    cluster: String,
}

/// Why a connection is given up.
enum End {
    Failed(Failure),
    /// This host's addresses are not those any more that the connection was made with.
    Moved(String),
    /// What has happened is not known to the server any more, or it is another one than it was.
    Behind(String),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Session {
    pub(super) fn new(
        client: Client,
        table: Table,
        events: UnboundedSender<PeerEvent>,
        own: Option<Own>,
        config: EtcdConfig,
    ) -> Self {
        let networks = Networks::default();
        networks.set(table.layout().networks());
        Self {
            client,
            table,
            events,
            own,
            config,
            networks,
            seen: Seen::default(),
            away: false,
            backoff: Backoff::default(),
            holding: None,
        }
    }

    /// Prefixes that hold all pods, as of the last reset that was told.
    pub(super) fn networks(&self) -> Networks {
        self.networks.clone()
    }

    /// Goes on until nobody listens.
    pub(super) async fn run(mut self) {
        while !self.events.is_closed() {
            let Err(end) = self.connected().await;
            let wait = match end {
                End::Behind(why) => {
                    tracing::info!("all nodes are read anew: {why}");
                    self.seen.revision = None;
                    self.backoff.next(true, luck::between_0_and_1())
                }
                End::Moved(why) => {
                    tracing::info!("etcd is connected with anew: {why}");
                    continue;
                }
                End::Failed(failure) => {
                    self.tell_away(&failure);
                    self.client.leave();
                    self.backoff
                        .next(failure.reached(), luck::between_0_and_1())
                }
            };
            let knows = self.own.as_ref().map(|own| Arc::clone(&own.knows));
            tokio::select! {
                () = sleep(wait) => {}
                // Another address may be the way.
                () = changed(knows.as_ref()) => sleep(TO_SETTLE.min(wait)).await,
            }
        }
    }

    async fn connected(&mut self) -> Result<std::convert::Infallible, End> {
        self.client.connect().await?;
        if self.has_lapsed() {
            self.keep_the_silent();
        }
        self.meet_flannel().await?;
        let revision = match self.seen.revision {
            Some(revision) => revision,
            None => self.list().await?,
        };
        let base = self.table.layout().base().to_owned();
        let mut watch = self.client.watch(&base, revision + 1).await?;
        self.begin(&mut watch, revision).await?;
        if std::mem::take(&mut self.away) {
            tracing::info!("etcd is reached again: {}", self.client.server());
            self.tell([PeerEvent::InSync]);
        }
        self.backoff.reset();
        // The leases may have gone meanwhile.
        self.keep().await?;
        self.follow(&mut watch).await
    }

    /// Takes over what Flannel's own configuration says of prefixes, where its keys are joined.
    async fn meet_flannel(&mut self) -> Result<(), End> {
        let met = meet(&mut self.client, &self.config, self.table.layout()).await?;
        let Some(range) = met else {
            return Ok(());
        };
        if self.table.layout().networks() != [range.prefix()] {
            self.table.set_networks(vec![range.prefix()]);
            self.seen.revision = None;
        }
        if let Some(own) = &mut self.own {
            own.member.set_networks(vec![range]);
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<i64, End> {
        let header = list(&mut self.client, &mut self.table).await?;
        let another = !self.seen.cluster.is_empty() && self.seen.cluster != header.cluster_id;
        if another || header.revision < self.seen.highest {
            tracing::warn!(
                "etcd has lost what it held, or is another one: who is not in it may be back in a moment"
            );
            self.keep_the_silent();
        }
        self.seen = Seen {
            revision: Some(header.revision),
            highest: header.revision,
            cluster: header.cluster_id,
        };
        let all = self.table.all();
        self.away = false;
        self.networks.set(self.table.layout().networks());
        self.tell(all);
        self.tell([PeerEvent::InSync]);
        Ok(header.revision)
    }

    /// Whoever seems to have gone is kept for a while.
    fn keep_the_silent(&mut self) {
        self.table.hold(true);
        self.holding = Some(Instant::now() + TO_RETURN);
    }

    /// Whoever has not made itself known by now has gone.
    fn let_go(&mut self) {
        if self.holding.is_some_and(|at| at.elapsed() > LATE) {
            return self.keep_the_silent();
        }
        self.holding = None;
        self.table.hold(false);
        let events = self.table.events();
        self.tell(events);
    }

    /// Waits until the watch has begun. From a revision that has been compacted it begins, too, and is cancelled then.
    async fn begin(&mut self, watch: &mut Watch, revision: i64) -> Result<(), End> {
        let silent = |_| Failure::Away("the server does not begin to watch".to_owned());
        let answer = timeout(TO_BEGIN, watch.next()).await.map_err(silent)??;
        if answer.canceled || !answer.created {
            return Err(cancelled(&answer));
        }
        if answer.header.cluster_id != self.seen.cluster {
            return Err(End::Behind("this is another etcd than it was".to_owned()));
        }
        if answer.header.revision < revision {
            let now = answer.header.revision;
            return Err(End::Behind(format!(
                "etcd is at revision {now} and was at {revision}"
            )));
        }
        Ok(())
    }

    async fn follow(&mut self, watch: &mut Watch) -> Result<std::convert::Infallible, End> {
        if self.holding.is_some() {
            // Of the time in which nobody was heard nothing counts.
            self.keep_the_silent();
        }
        let pace = self.own.as_ref().map(|own| own.member.pace());
        let mut next = pace.map(|pace| Instant::now() + pace);
        let mut repaired = Instant::now();
        let mut repair: Option<Instant> = None;
        let mut look: Option<Instant> = None;
        let knows = self.own.as_ref().map(|own| Arc::clone(&own.knows));
        loop {
            let pods = self.own.as_ref().and_then(|own| own.member.look());
            tokio::select! {
                answer = watch.next() => {
                    let answer = answer?;
                    if answer.canceled {
                        return Err(cancelled(&answer));
                    }
                    self.take(answer);
                    if repair.is_none() && !self.is_intact() {
                        self.doubt();
                        repair = Some((repaired + BETWEEN_REPAIRS).max(Instant::now()));
                    }
                }
                () = until(self.holding) => self.let_go(),
                () = until(repair) => {
                    repair = None;
                    // The leases may have gone with what went.
                    self.keep().await?;
                    repaired = Instant::now();
                }
                () = changed(knows.as_ref()), if look.is_none() => {
                    look = Some(Instant::now() + TO_SETTLE);
                }
                () = until(look) => {
                    look = None;
                    self.look().await?;
                }
                () = until(pods) => self.ensure().await?,
                () = until(next) => {
                    next = pace.map(|pace| Instant::now() + pace);
                    self.keep().await?;
                }
                () = self.events.closed() => return Err(Failure::Away("nobody listens".to_owned()).into()),
            }
        }
    }

    fn take(&mut self, answer: WatchAnswer) {
        for mut event in answer.events {
            match event.kind.as_str() {
                "DELETE" => self.table.delete(&event.kv.key, event.kv.mod_revision),
                _ => {
                    event.kv.value.truncate(MOST_BYTES + 1);
                    self.table.put(&event.kv);
                }
            }
            if !answer.fragment {
                self.seen.revision = self.seen.revision.max(Some(event.kv.mod_revision));
                self.seen.highest = self.seen.highest.max(event.kv.mod_revision);
            }
        }
        if answer.fragment {
            return;
        }
        let events = self.table.events();
        self.tell(events);
    }

    /// Whether etcd was away for longer than this node's lease, and so perhaps for longer than everybody's.
    fn has_lapsed(&self) -> bool {
        let deadline = self.own.as_ref().and_then(|own| own.member.deadline());
        self.away && deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    fn is_intact(&self) -> bool {
        let Some(own) = &self.own else {
            return true;
        };
        let facts = own.facts.as_ref();
        facts.is_none_or(|facts| own.member.is_intact(&self.table, facts))
    }

    /// Somebody has done something to this node's own keys: until that is put right, its prefixes may be another's.
    fn doubt(&mut self) {
        let Some(own) = &self.own else {
            return;
        };
        let claimed = own
            .facts
            .as_ref()
            .is_some_and(|facts| own.member.has_claims(&self.table, facts));
        let reason = "this node's claim on its prefix has gone from etcd, and it is not known yet whether it can be made good";
        if !claimed && matches!(own.tenure.standing(), Standing::Holds(_)) {
            own.tenure.set(Standing::Withheld(reason.to_owned()));
            tracing::warn!("{reason}");
            self.tell([PeerEvent::InSync]);
        }
    }

    /// A sign of life, and a look at what this node tells of itself.
    async fn keep(&mut self) -> Result<(), End> {
        let Some(own) = &mut self.own else {
            return Ok(());
        };
        let start = Start::now();
        if !own.member.keep(&mut self.client).await? {
            let reason = "this node's lease in etcd has run out, and it is not known yet whether its prefix is still its own";
            own.tenure.set(Standing::Withheld(reason.to_owned()));
            tracing::warn!("{reason}");
            self.tell([PeerEvent::InSync]);
        }
        self.ensure().await?;
        self.renew(start);
        Ok(())
    }

    /// Until when what has just been confirmed counts. Without a boot clock, what plugins are told runs out.
    fn renew(&self, start: Start) {
        let Some(own) = &self.own else {
            return;
        };
        if let (Some(until), Some(moment)) = (own.member.deadline(), start.moment) {
            let length = until.saturating_duration_since(start.instant);
            let until = moment.plus(length);
            if own.tenure.renew(Term { until, length }) {
                self.tell([PeerEvent::InSync]);
            }
        }
    }

    /// The host may have other addresses than it had: what this node tells of itself follows.
    async fn look(&mut self) -> Result<(), End> {
        let Some(own) = &self.own else {
            return Ok(());
        };
        match own.knows.facts(self.client.local()).await {
            Ok(facts) if own.facts.as_ref() == Some(&facts) => Ok(()),
            Ok(_) => self.ensure().await,
            Err(why) => Err(End::Moved(why)),
        }
    }

    /// Sees to this node's own part, whatever has become of it.
    async fn ensure(&mut self) -> Result<(), End> {
        let Some(own) = &mut self.own else {
            return Ok(());
        };
        let mut remembered = false;
        let standing = match own.knows.facts(self.client.local()).await {
            Err(reason) => Standing::Withheld(reason),
            Ok(facts) => {
                let ensured = own
                    .member
                    .ensure(&mut self.client, &mut self.table, &facts)
                    .await;
                own.facts = Some(facts);
                remembered = own.tenure.confirm(own.member.former());
                match ensured {
                    Ok(standing) => standing,
                    // What may be read can be followed even if nothing may be written.
                    Err(Failure::Refused(words)) => Standing::Withheld(words),
                    Err(failure) => return Err(failure.into()),
                }
            }
        };
        let words = match &standing {
            Standing::Holds(prefixes) => {
                let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
                format!("this node's prefixes in etcd: {}", prefixes.join(", "))
            }
            Standing::Withheld(reason) => format!("no new pods: {reason}"),
        };
        let mut events = Vec::new();
        if own.tenure.set(standing) {
            tracing::info!("{words}");
            remembered = true;
        }
        if remembered {
            events.push(PeerEvent::InSync);
        }
        events.extend(self.table.events());
        self.tell(events);
        Ok(())
    }

    fn tell_away(&mut self, failure: &Failure) {
        let mut reason = failure.to_string();
        let mut news = !std::mem::replace(&mut self.away, true);
        if let Some(own) = &self.own {
            let over = own
                .member
                .deadline()
                .is_some_and(|deadline| deadline <= Instant::now());
            if over && matches!(own.tenure.standing(), Standing::Holds(_)) {
                reason =
                    format!("this node's lease has run out, as etcd cannot be reached: {reason}");
                own.tenure.set(Standing::Withheld(reason.clone()));
                news = true;
            }
            if news {
                own.tenure.exhaust();
            }
        }
        if news {
            tracing::warn!("{reason}");
            self.tell([PeerEvent::Disconnected(reason)]);
        }
    }

    fn tell(&self, events: impl IntoIterator<Item = PeerEvent>) {
        for event in events {
            // Whoever has dropped the source does not want to know.
            let _ = self.events.send(event);
        }
    }
}

fn cancelled(answer: &WatchAnswer) -> End {
    if answer.compact_revision != 0 {
        return End::Behind(format!(
            "what is older than revision {} has been compacted",
            answer.compact_revision
        ));
    }
    let reason = if answer.cancel_reason.is_empty() {
        "it does not say why"
    } else {
        &answer.cancel_reason
    };
    End::Failed(Failure::Refused(format!(
        "the server has ended the watch: {reason}"
    )))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
