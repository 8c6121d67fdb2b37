//! The backend of a node in a cluster: the node's part first, then the attachment, which is the inner backend's.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::inner::{self, Given};
use super::state::State;
use super::update::{self, Updater};
use super::{Inner, Scheme, former, source};
use crate::backend::{
    AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest, NetworkBackend, StatusRequest,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fabric::Difference;
use crate::ipam::{HostLocal, Ipam, IpamRequest};
use crate::plan::Plan;
use crate::spec::config::NetworkConfig;

/// A backend whose pods reach those of other nodes.
///
/// ADD sees to it that the node is connected with its cluster, which costs next to nothing when it is, and then attaches the pod
/// by an inner backend, with addresses of the node's own prefixes. If the inner ADD fails, nothing of the attachment stays; the
/// node's part does. DEL, GC, and the attachment's part of CHECK and STATUS are the inner backend's.
///
/// ```
/// # use cni_core::{NetworkBackend, node::{NodeBackend, Scheme}};
/// # fn backend(vxlan: impl Scheme + 'static, bridge: impl NetworkBackend + 'static, ptp: impl NetworkBackend + 'static) {
/// let backend = NodeBackend::new(vxlan).with("bridge", bridge).with("ptp", ptp);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct NodeBackend {
    scheme: Arc<dyn Scheme>,
    inners: Vec<(String, Arc<dyn NetworkBackend>)>,
}

/// How many differences CHECK tells of.
const WORDS_MAX: usize = 16;

impl NodeBackend {
    /// A backend that connects nodes in this way. It needs an inner one.
    pub fn new(scheme: impl Scheme + 'static) -> Self {
        Self {
            scheme: Arc::new(scheme),
            inners: Vec::new(),
        }
    }

    /// Pods are attached by `backend` where the configuration's `attach.type` is `kind`.
    #[must_use]
    pub fn with(mut self, kind: &str, backend: impl NetworkBackend + 'static) -> Self {
        self.inners.push((kind.to_owned(), Arc::new(backend)));
        self
    }

    fn inner(&self, attach: &Inner) -> Result<&dyn NetworkBackend> {
        let found = self.inners.iter().find(|(kind, _)| *kind == attach.kind);
        if let Some((_, backend)) = found {
            return Ok(&**backend);
        }
        let known: Vec<&str> = self.inners.iter().map(|(kind, _)| kind.as_str()).collect();
        let message = format!(
            "`attach.type` is {:?}, and this plugin attaches pods by: {}",
            attach.kind,
            known.join(", ")
        );
        Err(Error::new(ErrorKind::InvalidConfig, message))
    }

    /// For verbs that clean up: whatever can be told from the configuration, and the first backend where nothing can. Every backend
    /// finds what it made by the attachment's mark.
    fn leavings(&self, config: &NetworkConfig) -> Result<(&dyn NetworkBackend, NetworkConfig)> {
        let attach = Inner::parse(config).unwrap_or_default();
        let backend = match (self.inner(&attach), self.inners.first()) {
            (Ok(backend), _) => backend,
            (Err(_), Some((_, first))) => &**first,
            (Err(error), None) => return Err(error),
        };
        Ok((backend, inner::config(config, &attach, None)?))
    }
}

/// Address management for the inner backend: the one that the configuration names, else `host-local`, which it need not name.
struct Addresses<'a> {
    named: &'a dyn Ipam,
    own: HostLocal,
    is_named: bool,
}

impl<'a> Addresses<'a> {
    fn of(cx: &Context<'a>, config: &NetworkConfig) -> Self {
        Self {
            named: cx.ipam,
            own: HostLocal::new(),
            is_named: !matches!(config.ipam_type(), Ok(None)),
        }
    }

    fn context<'b>(&'b self, cx: &Context<'b>) -> Context<'b> {
        Context {
            host: cx.host,
            ipam: match self.is_named {
                true => self.named,
                false => &self.own,
            },
            cancel: cx.cancel,
            dry_run: cx.dry_run,
        }
    }
}

#[async_trait]
impl NetworkBackend for NodeBackend {
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added> {
        let network = self.scheme.network(request.config)?;
        let attach = &network.node.attach;
        let backend = self.inner(attach)?;
        inner::check_ipam(request.config)?;
        let updater = Updater::new(cx.host, &network);
        let (given, ahead) = match cx.dry_run {
            true => updater.preview().await?,
            false => (updater.connected(cx.cancel).await?, Vec::new()),
        };
        let config = inner::config(request.config, attach, Some(&given))?;
        let addresses = Addresses::of(cx, request.config);
        let request = AddRequest {
            config: &config,
            ..*request
        };
        let mut added = backend.add(&addresses.context(cx), &request).await?;
        // The node's part before the attachment's.
        added.plan = added.plan.after(ahead);
        Ok(added)
    }

    async fn seal(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<()> {
        let (backend, config) = self.leavings(request.config)?;
        let addresses = Addresses::of(cx, request.config);
        let request = AddRequest {
            config: &config,
            ..*request
        };
        backend.seal(&addresses.context(cx), &request).await
    }

    async fn del(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<()> {
        let (backend, config) = self.leavings(request.config)?;
        let addresses = Addresses::of(cx, request.config);
        let request = DelRequest {
            config: &config,
            ..*request
        };
        backend.del(&addresses.context(cx), &request).await
    }

    async fn del_plan(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<Option<Plan>> {
        let (backend, config) = self.leavings(request.config)?;
        let addresses = Addresses::of(cx, request.config);
        let request = DelRequest {
            config: &config,
            ..*request
        };
        backend.del_plan(&addresses.context(cx), &request).await
    }

    async fn check(&self, cx: &Context<'_>, request: &CheckRequest<'_>) -> Result<()> {
        let network = self.scheme.network(request.config)?;
        let attach = &network.node.attach;
        let backend = self.inner(attach)?;
        let updater = Updater::new(cx.host, &network);
        let view = source::view(cx.host, &network.node.cluster).await;
        let state = updater.dir().read()?;
        let mut errors = Vec::new();
        let view = match view {
            Ok(view) => Some(view),
            // The agent, and what it made, outlive a file that makes no sense at the moment.
            Err(_) if updater.dir().has_agent()? => None,
            Err(error) => {
                errors.push(error);
                None
            }
        };
        let given = Given {
            prefixes: match (&view, &state) {
                (Some((view, _)), _) => update::prefixes(view),
                (None, Some(state)) => state.prefixes.clone(),
                (None, None) => Vec::new(),
            },
            mtu: state.and_then(|state| state.mtu),
        };
        let config = inner::config(request.config, attach, Some(&given))?;
        let addresses = Addresses::of(cx, request.config);
        let of_inner = CheckRequest {
            config: &config,
            ..*request
        };
        let cx = addresses.context(cx);
        let checked = backend.check(&cx, &of_inner).await;
        errors.extend(checked.err());
        errors.extend(outside(&cx, &of_inner, &given).await);
        let mut wanted = None;
        if let Some((view, cluster)) = view {
            let compared = updater.engine().compare(&view).await;
            errors.extend(match compared {
                Ok(difference) => {
                    wanted = Some(updater.wanted(&view, &cluster, &difference.entrance));
                    drift(&view, &difference)
                }
                Err(error) => Some(error),
            });
        }
        errors.extend(updater.unknown(wanted.as_ref()));
        Error::join(errors).map_or(Ok(()), Err)
    }

    async fn gc(&self, cx: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
        let (backend, config) = self.leavings(request.config)?;
        let addresses = Addresses::of(cx, request.config);
        let request = GcRequest {
            config: &config,
            ..*request
        };
        backend.gc(&addresses.context(cx), &request).await
    }

    async fn status(&self, cx: &Context<'_>, request: &StatusRequest<'_>) -> Result<()> {
        let network = self.scheme.network(request.config)?;
        let attach = &network.node.attach;
        let backend = self.inner(attach)?;
        inner::check_ipam(request.config)?;
        let updater = Updater::new(cx.host, &network);
        let state = updater.dir().read()?;
        let mut limits: Vec<Error> = state.as_ref().and_then(limited).into_iter().collect();
        let given = match updater.dir().has_agent()? {
            true => by_agent(state, &mut limits)?,
            false => {
                let view = source::view(cx.host, &network.node.cluster).await;
                let view = view.map_err(|error| error.with_kind(ErrorKind::NotAvailable))?;
                let limited = |error: Error| error.with_kind(ErrorKind::LimitedConnectivity);
                limits.extend(updater.unknown(None).map(limited));
                Given {
                    prefixes: update::prefixes(&view.0),
                    mtu: state.as_ref().and_then(|state| state.mtu),
                }
            }
        };
        let config = inner::config(request.config, attach, Some(&given))?;
        let addresses = Addresses::of(cx, request.config);
        let request = StatusRequest {
            config: &config,
            ..*request
        };
        // That no pod can be attached weighs more than that some do not reach all others.
        backend.status(&addresses.context(cx), &request).await?;
        limits.extend(former::held(request.network, &config, &given.prefixes)?);
        Error::join(limits).map_or(Ok(()), Err)
    }
}

/// What CHECK says of a pod with an address of a former prefix.
async fn outside(cx: &Context<'_>, request: &CheckRequest<'_>, given: &Given) -> Option<Error> {
    let request = IpamRequest {
        attachment: request.attachment,
        netns: Some(&request.sandbox.path),
        config: request.config,
        args: request.args,
        cancel: cx.cancel,
    };
    let held = cx.ipam.held(&request).await.ok()??;
    former::of_pod(&held, &given.prefixes)
}

/// What STATUS says of an agent's state.
fn by_agent(state: Option<State>, limits: &mut Vec<Error>) -> Result<Given> {
    let not_yet = |message: String| Error::new(ErrorKind::NotAvailable, message);
    let Some(state) = state else {
        return Err(not_yet(
            "the node agent has just started, and has not connected this node yet".to_owned(),
        ));
    };
    let reason = state.reason.clone().unwrap_or_default();
    let given = update::given(state.clone()).map_err(|error| not_yet(error.to_string()))?;
    if !state.ready {
        let message = format!("the node agent is not ready: {reason}");
        limits.insert(0, Error::new(ErrorKind::LimitedConnectivity, message));
    }
    Ok(given)
}

/// Pods can be attached, but some do not reach all others.
fn limited(state: &State) -> Option<Error> {
    let trouble = state.trouble()?;
    Some(Error::new(ErrorKind::LimitedConnectivity, trouble))
}

/// The node's part, as CHECK tells of it. What nobody wants any more harms nobody.
fn drift(view: &crate::cluster::View, difference: &Difference) -> Option<Error> {
    let wrong = difference.steps.iter().filter(|step| !step.surplus);
    let wrong = wrong.map(|step| step.reason.as_str());
    let all: Vec<&str> = difference.base.reasons().chain(wrong).collect();
    if all.is_empty() {
        return None;
    }
    let some = all.iter().take(WORDS_MAX).copied();
    let mut words: Vec<String> = some.map(str::to_owned).collect();
    if all.len() > words.len() {
        words.push(format!("and {} more", all.len() - words.len()));
    }
    let node = view.me().map(|me| me.name.to_string()).unwrap_or_default();
    let message = format!(
        "node {node} is not connected as the cluster has it: {}",
        words.join("; ")
    );
    Some(Error::new(ErrorKind::Internal, message))
}

impl fmt::Debug for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses")
            .field("is_named", &self.is_named)
            .finish_non_exhaustive()
    }
}
