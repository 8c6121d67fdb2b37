//! Brings the node up to date, and knows when nothing has to be done for that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::inner::Given;
use super::state::{Fingerprint, KnownLink, Moment};
use super::{Network, State, StateDir, source};
use crate::cancel::Cancel;
use crate::cluster::{Node, View};
use crate::error::{Error, ErrorKind, Result};
use crate::fabric::{Base, Engine, Removal, Report};
use crate::host::Host;
use crate::host::netlink::NetlinkExt;
use crate::spec::names::{base32, hash128};

/// One number for each boot.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The namespace of the calling thread, whose number tells it from others.
const NETNS: &str = "/proc/thread-self/ns/net";

/// A node's part of a network, from the plugin's side.
#[derive(Debug)]
pub(super) struct Updater<'a> {
    pub(super) host: &'a Host,
    pub(super) network: &'a Network,
    pub(super) dir: StateDir,
}

impl<'a> Updater<'a> {
    pub(super) fn new(host: &'a Host, network: &'a Network) -> Self {
        Self {
            host,
            network,
            dir: StateDir::of(&network.node),
        }
    }

    /// Where state is kept.
    pub(super) fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// Sees to it that the node is connected, and says how. With a living agent it is the agent's work; else, where file,
    /// configuration, boot and links are what they were, nothing is to be done: that costs a look at each of them, however
    /// large the cluster is.
    pub(super) async fn connected(&self, cancel: &Cancel) -> Result<Given> {
        if let Some(given) = self.by_agent()? {
            return Ok(given);
        }
        if let Some(state) = self.current().await? {
            // firewalld forgets what it was told whenever it is reloaded.
            self.let_through(cancel).await;
            return given(state);
        }
        let _alone = self.dir.update_lock(cancel)?;
        // Meanwhile another process may have done it, or an agent have come.
        if let Some(given) = self.by_agent()? {
            return Ok(given);
        }
        match self.current().await? {
            Some(state) => given(state),
            None => given(self.update(cancel).await?),
        }
    }

    /// What [`Updater::connected`] would do; nothing is changed.
    pub(super) async fn preview(&self) -> Result<(Given, Vec<String>)> {
        if let Some(given) = self.by_agent()? {
            return Ok((given, Vec::new()));
        }
        if let Some(state) = self.current().await? {
            let wanted = self.written()?;
            let ahead = wanted.map(|wanted| self.commands(&wanted));
            return Ok((given(state)?, ahead.unwrap_or_default()));
        }
        let (view, cluster) = source::view(self.host, &self.network.node.cluster).await?;
        let difference = self.engine().compare(&view).await?;
        let wanted = self.wanted(&view, &cluster, &difference.entrance);
        let ahead = difference.to_string();
        let mut ahead: Vec<String> = ahead.lines().map(str::to_owned).collect();
        ahead.extend(self.commands(&wanted));
        let given = Given {
            prefixes: prefixes(&view),
            mtu: Some(difference.mtu),
        };
        Ok((given, ahead))
    }

    /// What the agent says, where one lives.
    fn by_agent(&self) -> Result<Option<Given>> {
        if !self.dir.has_agent()? {
            return Ok(None);
        }
        let Some(state) = self.dir.read()? else {
            let message = "the node agent has just started, and has not connected this node yet";
            return Err(Error::new(ErrorKind::TryAgain, message));
        };
        given(state).map(Some)
    }

    /// The state, if it still describes what is there.
    async fn current(&self) -> Result<Option<State>> {
        // First of all: it may be another network's.
        let state = self.dir.read()?;
        let (Some(now), Some(state)) = (self.source()?, state) else {
            return Ok(None);
        };
        let Some(made) = state.fingerprint.as_ref().filter(|made| made.source == now) else {
            return Ok(None);
        };
        for known in &made.links {
            if self.look(&known.name).await?.as_ref() != Some(known) {
                return Ok(None);
            }
        }
        Ok(Some(state))
    }

    /// All that the node is made from, but its links, in one hash.
    fn source(&self) -> Result<Option<String>> {
        let Some(file) = source::stamp(source::file_of(&self.network.node.cluster)?)? else {
            return Ok(None);
        };
        let boot = fs::read_to_string(BOOT).unwrap_or_default();
        let netns = fs::metadata(NETNS).map(|netns| format!("{}.{}", netns.dev(), netns.ino()));
        let hash = hash128(&[
            env!("CARGO_PKG_VERSION"),
            &format!("{:?}", self.network.fabric),
            &file,
            &boot,
            &netns.unwrap_or_default(),
        ]);
        let mut text = String::new();
        base32(hash as u64, 13, &mut text);
        base32((hash >> 64) as u64, 13, &mut text);
        Ok(Some(text))
    }

    async fn look(&self, link: &str) -> Result<Option<KnownLink>> {
        let link = self.host.netlink.link(link).await?;
        Ok(link.map(|link| KnownLink {
            index: link.index,
            mtu: link.mtu,
            up: link.up && link.carrier,
            name: link.name,
        }))
    }

    /// Makes everything as the file has it, and writes down what came of it. The caller holds the lock.
    pub(super) async fn update(&self, cancel: &Cancel) -> Result<State> {
        // Before the file is read: a change in between has another one.
        let source = self.source()?;
        let (view, cluster) = source::view(self.host, &self.network.node.cluster).await?;
        let mut engine = self.engine().cancelled_by(cancel);
        let report = engine.full(&view, Removal::Allowed).await;
        if !report.is_complete() {
            cancel.check("this node was connected")?;
        }
        let Some(base) = engine.base() else {
            return Err(unconnected(report));
        };
        let device = base.device.as_deref();
        if let Some(device) = device
            && self.look(device).await?.is_none()
        {
            return Err(unconnected(report));
        }
        let entrance = engine.entrance().unwrap_or_default();
        self.pass(&self.wanted(&view, &cluster, &entrance));
        let mut state = told(&self.network.node.network, &view, base, &report);
        if let Some(source) = source.filter(|_| report.is_complete()) {
            state.fingerprint = Some(Fingerprint {
                source,
                links: self.links(&view, device).await?,
            });
        }
        if let Some(trouble) = state.trouble() {
            tracing::warn!("{trouble}");
        }
        self.dir.write(&state)?;
        Ok(state)
    }

    /// The links that the node's part rests on: the tunnel's device, and those that bear the underlay's addresses.
    async fn links(&self, view: &View, device: Option<&str>) -> Result<Vec<KnownLink>> {
        let own = |address| view.me().is_some_and(|me| me.underlay.contains(&address));
        let addresses = self.host.netlink.addresses(None).await?;
        let bearers = addresses
            .iter()
            .filter(|address| own(address.address.ip()))
            .map(|address| address.link.as_str());
        let mut names: Vec<&str> = device.into_iter().chain(bearers).collect();
        names.sort_unstable();
        names.dedup();
        let mut links = Vec::new();
        for name in names {
            links.extend(self.look(name).await?);
        }
        Ok(links)
    }

    pub(super) fn engine(&self) -> Engine {
        Engine::new(self.host.clone(), Arc::clone(&self.network.fabric))
    }
}

/// What a pod has to know of the state.
pub(super) fn given(state: State) -> Result<Given> {
    if state.expires.is_some()
        && let Some(message) = state.lapsed(&Moment::now()?)
    {
        return Err(Error::new(ErrorKind::TryAgain, message));
    }
    if state.prefixes.is_empty() || state.mtu.is_none() {
        let reason = state
            .reason
            .unwrap_or_else(|| "it does not say why".to_owned());
        let message = format!("the node agent has not connected this node yet: {reason}");
        return Err(Error::new(ErrorKind::TryAgain, message));
    }
    Ok(Given {
        prefixes: state.prefixes,
        mtu: state.mtu,
    })
}

/// This node's own prefixes.
pub(super) fn prefixes(view: &View) -> Vec<ipnetwork::IpNetwork> {
    view.me()
        .map(|me: &Arc<Node>| me.prefixes.clone())
        .unwrap_or_default()
}

fn told(network: &crate::spec::NetworkName, view: &View, base: &Base, report: &Report) -> State {
    let mut state = State::new(network.clone());
    state.node = view.me().map(|me| me.name.to_string());
    state.prefixes = prefixes(view);
    state.confirmed.clone_from(&state.prefixes);
    state.mtu = Some(base.mtu);
    state.device = base.device.as_deref().map(str::to_owned);
    state.ready = true;
    state.unreachable = report.unreachable.len();
    let unreachable = report.unreachable.iter().take(State::WORDS_MAX);
    state.unreachable_words = unreachable.map(|(_, reason)| reason.clone()).collect();
    let errors = report.errors.iter();
    let errors = errors.map(|(what, error)| format!("{what}: {}", error.chain()));
    let conflicts = view.conflicts().map(ToString::to_string);
    let problems = errors
        .chain(report.clashes.iter().chain(&report.limits).cloned())
        .chain(conflicts);
    state.problems = problems.take(State::WORDS_MAX).collect();
    state.choices.clone_from(&base.choices);
    state
}

/// Codes 50 and 51 are STATUS's alone: what keeps an ADD from working passes, once the operator has seen to it.
fn unconnected(report: Report) -> Error {
    let errors = report.errors.into_iter();
    let errors =
        errors.map(|(what, error)| error.context(format!("{what} could not be connected")));
    let error = Error::join(errors.collect()).unwrap_or_else(|| {
        Error::new(
            ErrorKind::Internal,
            "this node could not be connected, and nothing says why",
        )
    });
    match error.kind() {
        ErrorKind::NotAvailable | ErrorKind::LimitedConnectivity => {
            error.with_kind(ErrorKind::TryAgain)
        }
        _ => error,
    }
}
