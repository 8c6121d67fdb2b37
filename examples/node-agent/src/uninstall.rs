//! Takes the network out of a node.
//!
//! In this order: the runtime's configuration, so that no pod comes; what the agent made in the kernel; what it told a service of
//! this node; what plugins have left; the directory of state; the plugins. Every step is attempted, whatever became of those
//! before. While pods are attached, the runtime still needs the plugins to detach them: these stay until the last pod has gone,
//! and so does what pods share.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cni_core::host::netlink::LinkFilter;
use cni_core::runtime::Runtime;
use cni_core::spec::{Mark, ValidAttachments};
use cni_core::{Error, ErrorKind, Result};
use tokio::net::TcpListener;

use crate::agent::{Order, Orders as _};
use crate::args::Args;
use crate::http::{self, Page, Pages};
use crate::install;
use crate::run::{Done, alone, remove_from_kernel, remove_from_source};
use crate::setup::Maker;
use crate::signals::Signals;

/// From one attempt to the next.
const PAUSE: Duration = Duration::from_secs(2);

/// How many pods are told by themselves.
const WORDS_MAX: usize = 8;

/// Uninstalls; with `--wait` until it is done and told to stop.
///
/// # Errors
/// What kept it from being begun: an agent that runs, most likely.
pub async fn run(args: &Args, maker: &Maker) -> Result<Done> {
    match args.wait {
        false => attempt(args, maker).await,
        true => persist(args, maker).await,
    }
}

async fn persist(args: &Args, maker: &Maker) -> Result<Done> {
    let failed = |what: String| move |error| Error::new(ErrorKind::Io, what).with_source(error);
    let mut signals = Signals::new().map_err(failed("could not take signals".to_owned()))?;
    let progress = Progress::default();
    if let Some(address) = args.listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(failed(format!("could not listen at {address}")))?;
        tokio::spawn(http::serve(listener, Arc::new(progress.clone())));
    }
    loop {
        // An agent that has not ended yet is one of the things to be waited for.
        let done = attempt(args, maker).await.unwrap_or_else(|error| Done {
            text: format!("{}\n", error.chain()),
            complete: false,
        });
        let complete = done.complete;
        progress.tell(&done);
        let stopped = async {
            // There is nothing to be read again.
            while signals.next().await != Order::Stop {}
        };
        match complete {
            true => stopped.await,
            false => tokio::select! {
                () = stopped => {}
                () = tokio::time::sleep(PAUSE) => continue,
            },
        }
        // What was to be said has been logged.
        return Ok(Done {
            text: String::new(),
            complete,
        });
    }
}

async fn attempt(args: &Args, maker: &Maker) -> Result<Done> {
    let lock = alone(maker).await?;
    let mut steps = Steps::default();
    if let Some(conflist) = maker.conflist() {
        let words = format!("{}: removed", conflist.path.display());
        steps.done(conflist.withdraw().map(|there| there.then_some(words)));
    }
    steps.complete &= remove_from_kernel(maker, &mut steps.text).await;
    match remove_from_source(maker, &mut steps.text).await {
        Ok(all) => steps.complete &= all,
        Err(error) => steps.done(Err(error)),
    }
    let pods = attached(maker).await;
    let nobody = matches!(&pods, Ok(pods) if pods.is_empty());
    let mut leave = nobody;
    match pods {
        Ok(pods) if pods.is_empty() => {
            let collected = collect(args, maker).await;
            leave = collected.is_ok();
            steps.done(collected.map(|()| None));
        }
        Ok(pods) => steps.missing(&told(&pods, maker.network().node.network.as_str())),
        Err(error) => steps.done(Err(error)),
    }
    steps.done(maker.publisher().withdraw().map(|()| None));
    steps.done(maker.state_dir().dismantle(lock).map(|()| None));
    if leave {
        let removed = install::remove(&args.plugins);
        steps.done(removed.map(|outcome| Some(outcome.text("plugins removed"))));
    }
    if steps.text.is_empty() {
        steps.text.push_str("nothing to do\n");
    }
    Ok(Done {
        text: steps.text,
        complete: steps.complete,
    })
}

/// What has been done, and what could not be.
struct Steps {
    text: String,
    complete: bool,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            text: String::new(),
            complete: true,
        }
    }
}

impl Steps {
    /// What a step has to say.
    fn done(&mut self, outcome: Result<Option<String>>) {
        match outcome {
            Ok(words) => self.say(&words.unwrap_or_default()),
            Err(error) => self.missing(&error.chain()),
        }
    }

    fn missing(&mut self, words: &str) {
        self.complete = false;
        self.say(words);
    }

    fn say(&mut self, words: &str) {
        self.text.push_str(words);
        if !words.is_empty() && !words.ends_with('\n') {
            self.text.push('\n');
        }
    }
}

/// Attachments whose links are there: containers and interfaces.
async fn attached(maker: &Maker) -> Result<BTreeSet<String>> {
    let network = &maker.network().node.network;
    let links = maker.host().netlink.links(LinkFilter::All).await?;
    let marks = links
        .iter()
        .filter_map(|link| Mark::parse(link.alias.as_deref()?));
    let ours = marks.filter(|mark| mark.is_of(network));
    let words = ours.map(|mark| {
        let name = mark.as_str().split_once('/');
        name.map_or_else(String::new, |(_, attachment)| attachment.to_owned())
    });
    Ok(words.collect())
}

fn told(pods: &BTreeSet<String>, network: &str) -> String {
    let mut some: Vec<String> = pods.iter().take(WORDS_MAX).cloned().collect();
    if let Some(more @ 1..) = pods.len().checked_sub(WORDS_MAX) {
        some.push(format!("{more} more"));
    }
    format!(
        "pods are attached to network `{network}` ({}): delete them or drain the node. The runtime needs the plugins to detach \
         them; those stay until then",
        some.join(", ")
    )
}

/// Has each plugin of the network collect what no pod has any more: the bridge, elements of nftables, addresses.
async fn collect(args: &Args, maker: &Maker) -> Result<()> {
    let mut list = maker.list().clone();
    // Where an earlier attempt has removed them, there is nothing to be collected.
    list.plugins
        .retain(|plugin| args.plugins.join(&plugin.plugin_type).exists());
    // A runtime's own results of this network are not asked for: it keeps them for pods that are there.
    let nowhere = maker.state_dir().path().join("no-results");
    let runtime = Runtime::new([args.plugins.clone()])
        .cache_dir(nowhere)
        .environment([]);
    let nobody = ValidAttachments::new([]);
    runtime.gc(&list, &nobody)
}

/// How far it is, for `/readyz`.
#[derive(Debug, Clone, Default)]
struct Progress(Arc<Mutex<Option<Done>>>);

impl Progress {
    fn tell(&self, done: &Done) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref() == Some(done) {
            return;
        }
        for line in done.text.lines() {
            match done.complete {
                true => tracing::info!("{line}"),
                false => tracing::warn!("{line}"),
            }
        }
        if done.complete {
            tracing::info!("this node has left the network; waiting to be stopped");
        }
        *current = Some(done.clone());
    }
}

impl Pages for Progress {
    fn page<'a>(
        &'a self,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Option<Page>> + Send + 'a>> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (complete, text) = match current.as_ref() {
            None => (false, "not begun".to_owned()),
            Some(done) => (done.complete, done.text.clone()),
        };
        let page = |good, text| {
            Some(Page {
                good,
                kind: "text/plain; charset=utf-8",
                text,
            })
        };
        let page = match path {
            "/healthz" => page(true, "alive\n".to_owned()),
            "/readyz" if complete => page(true, format!("uninstalled\n{text}")),
            "/readyz" => page(false, format!("not uninstalled\n{text}")),
            _ => None,
        };
        Box::pin(std::future::ready(page))
    }
}
