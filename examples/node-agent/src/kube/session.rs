//! What is done with a connection, and without one.

use std::convert::Infallible;
use std::time::Duration;

use cni_core::cluster::PeerEvent;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::client::{Client, Trouble, Watch};
use super::line::{Line, escaped, take};
use super::member::Member;
use super::table::Table;
use crate::luck;
use crate::remote::Failure;
use crate::remote::backoff::Backoff;
use crate::remote::facts::{TO_SETTLE, changed};
use crate::tenure::{Standing, Tenure};

/// The next event of a list that is streamed has to come within this time.
const TO_STREAM: Duration = Duration::from_secs(5);
/// A watch is made anew after five to ten minutes: that spreads agents over servers.
const WATCH: Duration = Duration::from_secs(300);
/// How long after its time a watch may end.
const TO_END: Duration = Duration::from_secs(30);
/// A watch that ends sooner is none.
const SHORT: Duration = Duration::from_secs(1);
/// What others do to this node's own object is put right at most this often.
const BETWEEN_REPAIRS: Duration = Duration::from_secs(1);
/// The Node is read so often: always, and while something is missing in it.
const LOOK: Duration = Duration::from_secs(300);
const LOOK_SOON: Duration = Duration::from_secs(4);

/// Follows what the server holds, and keeps this node's own part in it.
pub(super) struct Session {
    client: Client,
    table: Table,
    events: UnboundedSender<PeerEvent>,
    /// `None`: it looks on.
    own: Option<Own>,
    /// Up to where everything is in the table; `None`: everything has to be listed.
    version: Option<String>,
    /// The server streams lists, as far as is known.
    streams: bool,
    /// Why the server is not followed, while it is not.
    away: Option<String>,
    backoff: Backoff,
}

/// This node's own part.
pub(super) struct Own {
    pub(super) member: Member,
    pub(super) tenure: Tenure,
}

/// Why a connection is given up.
pub(super) enum End {
    Failed(Failure),
    /// The server wants a pause.
    Busy(Duration, String),
    /// What has happened is not known to the server any more.
    Behind(String),
    /// The watch has ended as watches do.
    Over(Duration),
    /// This host's addresses are not those any more that the connection was made with.
    Moved(String),
    /// The server does not stream lists.
    NoStream(String),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Failed(failure) => Self::Failed(failure),
            Trouble::Busy(wait, words) => Self::Busy(wait, words),
            Trouble::No { code: 410, words } => Self::Behind(words),
            Trouble::No { words, .. } => Self::Failed(Failure::Refused(words)),
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Session {
    pub(super) fn new(
        client: Client,
        mut table: Table,
        events: UnboundedSender<PeerEvent>,
        own: Option<Own>,
    ) -> Self {
        if let Some(own) = &own {
            table.be(own.member.uid(), &[]);
        }
        Self {
            client,
            table,
            events,
            own,
            version: None,
            streams: true,
            away: None,
            backoff: Backoff::default(),
        }
    }

    /// Goes on until nobody listens.
    pub(super) async fn run(mut self) {
        while !self.events.is_closed() {
            let Err(end) = self.connected().await;
            self.table.break_off();
            let wait = self.after(end);
            sleep(wait).await;
        }
    }

    /// What follows from an end, and how long to wait then.
    fn after(&mut self, end: End) -> Duration {
        let luck = luck::between_0_and_1();
        match end {
            End::Over(lived) if lived >= SHORT => Duration::ZERO,
            End::Over(_) => self.backoff.next(true, luck),
            End::Moved(why) => {
                tracing::info!("the API server is connected with anew: {why}");
                self.backoff.next(true, luck)
            }
            End::NoStream(why) => {
                tracing::info!("lists are read page by page: {why}");
                self.streams = false;
                Duration::ZERO
            }
            End::Behind(why) => {
                tracing::info!("all nodes are read anew: {why}");
                self.version = None;
                self.backoff.next(true, luck)
            }
            End::Busy(wait, words) => {
                self.tell_away(words);
                // Those who were told the same time do not come back all at once.
                self.backoff
                    .next(true, luck)
                    .max(wait.mul_f64(1.0 + luck / 2.0))
            }
            End::Failed(failure) => {
                self.tell_away(failure.to_string());
                self.client.disconnect();
                self.backoff.next(failure.reached(), luck)
            }
        }
    }

    async fn connected(&mut self) -> Result<Infallible, End> {
        self.client.connect().await?;
        let length = WATCH.mul_f64(1.0 + luck::between_0_and_1());
        let mut watch = match (self.version.clone(), self.streams) {
            (Some(version), _) => {
                self.is_ahead(&version).await?;
                self.watch(length).await?
            }
            (None, true) => self.stream(length).await?,
            (None, false) => {
                self.list().await?;
                self.watch(length).await?
            }
        };
        let begun = Instant::now();
        if self.away.take().is_some() {
            tracing::info!("{} is reached again", self.client.server());
            self.tell([PeerEvent::InSync]);
        }
        let Err(end) = self.follow(&mut watch, begun, length).await;
        if begun.elapsed() >= SHORT {
            // All was well, even if there was nothing to tell.
            self.backoff.reset();
        }
        Err(end)
    }

    /// Follows from where everything is known.
    async fn watch(&mut self, length: Duration) -> Result<Watch, End> {
        let path = format!(
            "{}&watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}",
            self.table.layout().collection(),
            length.as_secs(),
            self.version.as_deref().unwrap_or_default()
        );
        Ok(self.client.watch(&path).await?)
    }

    /// Makes sure that the server has not forgotten what it told: one whose etcd was restored from a copy counts from there on
    /// again, and a watch from a version that it will only come to again tells nothing until then.
    async fn is_ahead(&mut self, version: &str) -> Result<(), End> {
        let path = format!("{}&limit=1", self.table.layout().collection());
        let page = self.client.list(&path, |_| Ok(())).await?;
        let number = |version: &str| version.parse::<u64>().ok();
        match (number(version), number(&page.resource_version)) {
            (Some(ours), Some(its)) if its < ours => Err(End::Behind(format!(
                "the server is at version {its} and was at {ours}"
            ))),
            _ => Ok(()),
        }
    }

    /// Has everything told by the watch that then goes on.
    async fn stream(&mut self, length: Duration) -> Result<Watch, End> {
        let path = format!(
            "{}&watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds={}",
            self.table.layout().collection(),
            length.as_secs()
        );
        let mut watch = match self.client.watch(&path).await {
            Err(Trouble::No {
                code: 400 | 422,
                words,
            }) => return Err(End::NoStream(words)),
            watch => watch?,
        };
        self.table.begin();
        let mut version = None;
        let mut until = Instant::now() + TO_STREAM;
        loop {
            let Ok(line) = timeout_at(until, watch.next()).await else {
                return Err(End::NoStream("a streamed list does not go on".to_owned()));
            };
            let Some(line) = line? else {
                let words = "the server has ended a list before its end";
                return Err(Failure::Away(words.to_owned()).into());
            };
            match take(&mut self.table, &mut version, line) {
                Ok(Line::News) => until = Instant::now() + TO_STREAM,
                Ok(Line::Bookmark) => {}
                Ok(Line::Listed) => break,
                // Some say so only now.
                Err(End::Failed(Failure::Refused(words))) => return Err(End::NoStream(words)),
                Err(end) => return Err(end),
            }
        }
        self.version = version;
        self.complete();
        Ok(watch)
    }

    /// Reads everything, page by page, as of one version.
    async fn list(&mut self) -> Result<(), End> {
        self.table.begin();
        let base = format!(
            "{}&limit={}",
            self.table.layout().collection(),
            self.table.layout().page()
        );
        let mut next = String::new();
        loop {
            let path = match next.is_empty() {
                true => base.clone(),
                false => format!("{base}&continue={}", escaped(&next)),
            };
            let table = &mut self.table;
            let each = |item: &[u8]| {
                let record = table.layout().read(item).map_err(Failure::Nonsense)?;
                table.put(record);
                Ok(())
            };
            let page = match self.client.list(&path, each).await {
                Err(Trouble::No { code: 404, words }) => {
                    let words = format!("{words}; is the definition of NodeNetwork there?");
                    return Err(Failure::Refused(words).into());
                }
                page => page?,
            };
            if page.next.is_empty() {
                self.version = Some(page.resource_version);
                break;
            }
            next = page.next;
        }
        self.complete();
        Ok(())
    }

    /// A list has come to its end.
    fn complete(&mut self) {
        self.table.end();
        self.away = None;
        let events = self.table.events();
        self.tell(events);
        self.tell([PeerEvent::InSync]);
    }

    async fn follow(
        &mut self,
        watch: &mut Watch,
        begun: Instant,
        length: Duration,
    ) -> Result<Infallible, End> {
        let over = begun + length + TO_END;
        let knows = self.own.as_ref().map(|own| own.member.knows());
        let mut look = Some(self.keep().await?);
        let mut repaired = Instant::now();
        let mut repair: Option<Instant> = None;
        let mut settled: Option<Instant> = None;
        loop {
            let word = self.own.as_ref().and_then(|own| own.member.word_due());
            tokio::select! {
                line = watch.next() => {
                    let Some(line) = line? else {
                        return Err(End::Over(begun.elapsed()));
                    };
                    take(&mut self.table, &mut self.version, line)?;
                    self.backoff.reset();
                    let events = self.table.events();
                    self.tell(events);
                    if repair.is_none() && !self.is_intact() {
                        repair = Some((repaired + BETWEEN_REPAIRS).max(Instant::now()));
                    }
                }
                () = until(repair) => {
                    repair = None;
                    tracing::warn!("this node's NodeNetwork was changed or removed by somebody else, and is put right");
                    look = Some(self.keep().await?);
                    repaired = Instant::now();
                }
                () = until(look) => look = Some(self.keep().await?),
                () = until(word) => self.say().await?,
                () = news(self.own.as_mut()) => {}
                () = changed(knows.as_ref()), if settled.is_none() => {
                    settled = Some(Instant::now() + TO_SETTLE);
                }
                () = until(settled) => {
                    settled = None;
                    match self.has_moved().await {
                        Ok(true) => look = Some(self.keep().await?),
                        Ok(false) => {}
                        Err(why) => return Err(End::Moved(why)),
                    }
                }
                () = sleep_until(over) => return Err(End::Over(begun.elapsed())),
                () = self.events.closed() => return Err(Failure::Away("nobody listens".to_owned()).into()),
            }
        }
    }

    async fn has_moved(&self) -> Result<bool, String> {
        match &self.own {
            Some(own) => {
                let local = self.client.local();
                own.member.has_moved(self.table.layout(), local).await
            }
            None => Ok(false),
        }
    }

    fn is_intact(&self) -> bool {
        let own = self.own.as_ref();
        own.is_none_or(|own| own.member.is_intact(&self.table))
    }

    /// Sees to this node's own part, and tells when to look at it again.
    async fn keep(&mut self) -> Result<Instant, End> {
        let Some(own) = &mut self.own else {
            return Ok(Instant::now() + LOOK);
        };
        let kept = own.member.keep(&mut self.client, &mut self.table).await;
        let spread = 1.0 + luck::between_0_and_1() / 2.0;
        let standing = match kept {
            Ok(standing) => Some(standing),
            // What may be read can be followed even if nothing may be written.
            Err(Trouble::No { words, .. }) => Some(Standing::Withheld(words)),
            Err(Trouble::Failed(failure)) if !failure.reached() => return Err(failure.into()),
            // What was known of this node's right to its prefixes still is.
            Err(trouble) => {
                tracing::warn!("{trouble}");
                let held = matches!(own.tenure.standing(), Standing::Holds(_));
                (!held).then(|| Standing::Withheld(trouble.to_string()))
            }
        };
        let holds = matches!(standing, Some(Standing::Holds(_)));
        let mut events = Vec::new();
        if let Some(standing) = standing {
            let words = words(&standing);
            if own.tenure.set(standing) {
                tracing::info!("{words}");
                events.push(PeerEvent::InSync);
            }
        }
        if holds {
            own.member.doubt();
        }
        events.extend(self.table.events());
        self.tell(events);
        let wait = if holds { LOOK } else { LOOK_SOON };
        Ok(Instant::now() + wait.mul_f64(spread))
    }

    /// Tells how this node is.
    async fn say(&mut self) -> Result<(), End> {
        let Some(own) = &mut self.own else {
            return Ok(());
        };
        match own.member.say(&mut self.client, &mut self.table).await {
            Err(Trouble::Failed(failure)) if !failure.reached() => Err(failure.into()),
            Err(trouble) => {
                // Nothing depends on it but what people see; the next look tries again.
                tracing::warn!("{trouble}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn tell_away(&mut self, reason: String) {
        let before = self.away.replace(reason.clone());
        if before.as_ref() != Some(&reason) {
            tracing::warn!("{reason}");
        }
        if before.is_none() {
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

fn words(standing: &Standing) -> String {
    match standing {
        Standing::Holds(prefixes) => {
            let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
            format!(
                "this node's prefixes in Kubernetes: {}",
                prefixes.join(", ")
            )
        }
        Standing::Withheld(reason) => format!("no new pods: {reason}"),
    }
}

async fn news(own: Option<&mut Own>) {
    match own {
        Some(own) => own.member.news().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
