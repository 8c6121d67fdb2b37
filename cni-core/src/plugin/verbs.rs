//! The verbs: gates, requests, and what happens around the backend's part.

use tracing::Instrument;

use super::caught::caught;
use super::dispatch::{Means, Service, Session};
use super::input::Options;
use super::ipam::UnusableIpam;
use super::serve_ipam;
use crate::backend::{
    AddRequest, CheckRequest, Context, DelRequest, GcRequest, NetworkBackend, StatusRequest,
};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, NamespaceOpener, NetnsPath};
use crate::ipam::Ipam;
use crate::spec::{
    AddResult, Attachment, CniArgs, Command, ContainerId, Environment, InterfaceName,
    NetworkConfig, Verb,
};

/// What a request is served from.
pub(super) struct Serve<'a> {
    pub(super) means: &'a Means<'a>,
    pub(super) environment: &'a Environment,
    pub(super) options: &'a Options,
    pub(super) bytes: &'a [u8],
    pub(super) cancel: &'a Cancel,
}

/// The parts of a request that every verb has.
pub(super) struct Asked<'a> {
    pub(super) verb: &'a Verb,
    pub(super) config: &'a NetworkConfig,
    pub(super) args: &'a CniArgs,
    pub(super) dry_run: bool,
    pub(super) cancel: &'a Cancel,
    environment: &'a Environment,
}

/// Carries out any verb but VERSION.
pub(super) async fn serve(session: &mut Session<'_>, serve: Serve<'_>) -> Result<()> {
    let verb = &serve.environment.verb;
    let config = NetworkConfig::parse(serve.bytes)?;
    gate(session, verb.command(), &config)?;
    let span = tracing::info_span!(
        "cni",
        verb = verb.command().as_str(),
        network = config.name().as_str(),
        container = verb.container().map(ContainerId::as_str),
        ifname = verb.interface().map(InterfaceName::as_str),
    );
    async {
        tracing::debug!("begins");
        let args = serve.environment.cni_args()?;
        let asked = Asked {
            verb,
            config: &config,
            args: &args,
            dry_run: serve.options.dry_run,
            cancel: serve.cancel,
            environment: serve.environment,
        };
        let outcome = match serve.means.service {
            Service::Backend(backend) => with_backend(session, *backend, serve.means, &asked).await,
            Service::Ipam(ipam) => serve_ipam::serve(session, *ipam, &asked).await,
        };
        match &outcome {
            Ok(()) => tracing::debug!("done"),
            Err(error) => tracing::error!(code = error.kind().code(), "{}", error.chain()),
        }
        outcome
    }
    .instrument(span)
    .await
}

/// Refuses versions that the plugin does not speak, verbs that a version does not have, and keys that stand twice.
///
/// Which of two equal keys an operator meant cannot be told; but whatever was once accepted has to be cleaned up, so DEL
/// and GC take the last one, as the reference library does.
fn gate(session: &Session<'_>, command: Command, config: &NetworkConfig) -> Result<()> {
    let version = config.version();
    version.require(command)?;
    let supported = session.plugin.supported();
    if !supported.contains(&version) {
        let supported: Vec<&str> = supported.iter().map(|version| version.as_str()).collect();
        return Err(Error::new(
            ErrorKind::IncompatibleVersion,
            format!("the configuration's cniVersion {version} is not supported by this plugin"),
        )
        .with_source(format!(
            "config is {version:?}, plugin supports {supported:?}",
            version = version.as_str()
        )));
    }
    match command {
        Command::Del | Command::Gc => Ok(()),
        _ => config.reject_duplicates(),
    }
}

async fn with_backend(
    session: &mut Session<'_>,
    backend: &dyn NetworkBackend,
    means: &Means<'_>,
    asked: &Asked<'_>,
) -> Result<()> {
    let config = asked.config;
    if asked.verb.command() == Command::Gc && config.valid_attachments()?.is_none() {
        tracing::debug!("the runtime names no valid attachments, so nothing is collected");
        return Ok(());
    }
    // What the request says is judged before anything is opened on the strength of it.
    let prev_result = asked.prev_result()?;
    let host = (means.host)()?;
    asked.refuse_own_namespace(host.namespaces.as_ref()).await?;
    let ipam = ipam_of(means, asked)?;
    let cx = Context {
        host: &host,
        ipam: ipam.as_ref(),
        cancel: asked.cancel,
        dry_run: asked.dry_run,
    };
    match asked.verb {
        Verb::Add {
            container,
            netns,
            interface,
        } => {
            let target = Target {
                attachment: asked.attachment(container, interface),
                netns: NetnsPath::new(netns),
                prev_result,
            };
            add(session, backend, &cx, asked, &target).await
        }
        Verb::Del {
            container,
            netns,
            interface,
        } => {
            let attachment = asked.attachment(container, interface);
            let netns = netns.as_ref().map(NetnsPath::new);
            del(session, backend, &cx, asked, &attachment, netns.as_ref()).await
        }
        Verb::Check {
            container,
            netns,
            interface,
        } => {
            let target = Target {
                attachment: asked.attachment(container, interface),
                netns: NetnsPath::new(netns),
                prev_result,
            };
            check(backend, &cx, asked, &target).await
        }
        Verb::Gc => gc(backend, &cx, config).await,
        Verb::Status | Verb::Version => {
            let network = config.name();
            let request = StatusRequest { network, config };
            backend.status(&cx, &request).await
        }
    }
}

/// What ADD and CHECK are about.
struct Target {
    attachment: Attachment,
    netns: NetnsPath,
    prev_result: Option<AddResult>,
}

async fn add(
    session: &mut Session<'_>,
    backend: &dyn NetworkBackend,
    cx: &Context<'_>,
    asked: &Asked<'_>,
    target: &Target,
) -> Result<()> {
    let Target {
        attachment,
        netns,
        prev_result,
    } = target;
    cx.cancel.check("the ADD has changed anything")?;
    let sandbox = cx.host.namespaces.open(netns).await?;
    let request = AddRequest {
        attachment,
        sandbox: &sandbox,
        config: asked.config,
        args: asked.args,
        prev_result: prev_result.as_ref(),
    };
    let plugin = session.plugin.name();
    let mut del = DelRequest {
        attachment,
        netns: Some(netns),
        config: asked.config,
        args: asked.args,
        prev_result: prev_result.as_ref(),
    };
    let mut panicked = true;
    let adding = async {
        let added = backend.add(cx, &request).await;
        panicked = false;
        added
    };
    let added = match caught(plugin, adding).await {
        Ok(added) => added,
        // A backend that fails has undone its part; one that panicked had no chance to.
        Err(error) if panicked && !cx.dry_run => {
            return Err(undone(error, take_back(plugin, backend, cx, &del).await));
        }
        Err(error) => return Err(error),
    };
    if cx.dry_run {
        return session.print(&added.plan.to_string());
    }
    let delivered = added
        .result
        .render(asked.config.version())
        .and_then(|document| session.deliver(&document));
    if let Err(error) = delivered {
        del.prev_result = Some(&added.result);
        return Err(undone(error, take_back(plugin, backend, cx, &del).await));
    }
    if let Err(error) = caught(plugin, backend.seal(cx, &request)).await {
        // The runtime has its result, and the attachment works.
        tracing::warn!(
            error = error.chain(),
            "could not mark the attachment as finished"
        );
    }
    Ok(())
}

/// The DEL of an ADD that cannot stand. It is not stopped by what may have stopped the ADD.
async fn take_back(
    plugin: &str,
    backend: &dyn NetworkBackend,
    cx: &Context<'_>,
    request: &DelRequest<'_>,
) -> Result<()> {
    let cx = Context {
        host: cx.host,
        ipam: cx.ipam,
        cancel: &Cancel::new(),
        dry_run: false,
    };
    caught(plugin, backend.del(&cx, request)).await
}

async fn del(
    session: &mut Session<'_>,
    backend: &dyn NetworkBackend,
    cx: &Context<'_>,
    asked: &Asked<'_>,
    attachment: &Attachment,
    netns: Option<&NetnsPath>,
) -> Result<()> {
    let prev_result = asked.config.prev_result().unwrap_or_else(|error| {
        tracing::debug!(error = error.chain(), "prevResult is ignored");
        None
    });
    let request = DelRequest {
        attachment,
        netns: match netns {
            Some(netns) => asked.foreign(cx.host, netns).await,
            None => None,
        },
        config: asked.config,
        args: asked.args,
        prev_result: prev_result.as_ref(),
    };
    if !cx.dry_run {
        return backend.del(cx, &request).await;
    }
    match backend.del_plan(cx, &request).await? {
        Some(plan) => session.print(&plan.to_string()),
        None => Err(no_dry_run(Command::Del)),
    }
}

async fn check(
    backend: &dyn NetworkBackend,
    cx: &Context<'_>,
    asked: &Asked<'_>,
    target: &Target,
) -> Result<()> {
    let prev_result = target.prev_result.as_ref().ok_or_else(no_prev_result)?;
    let sandbox = cx.host.namespaces.open(&target.netns).await?;
    let request = CheckRequest {
        attachment: &target.attachment,
        sandbox: &sandbox,
        config: asked.config,
        args: asked.args,
        prev_result,
    };
    backend.check(cx, &request).await
}

async fn gc(backend: &dyn NetworkBackend, cx: &Context<'_>, config: &NetworkConfig) -> Result<()> {
    let Some(valid) = config.valid_attachments()? else {
        return Ok(());
    };
    if cx.dry_run {
        return Err(no_dry_run(Command::Gc));
    }
    let request = GcRequest {
        network: config.name(),
        config,
        valid: &valid,
    };
    backend.gc(cx, &request).await
}

impl Asked<'_> {
    /// The attachment that the request is about.
    pub(super) fn attachment(
        &self,
        container: &ContainerId,
        interface: &InterfaceName,
    ) -> Attachment {
        Attachment {
            network: self.config.name().clone(),
            container: container.clone(),
            interface: interface.clone(),
        }
    }

    /// What ADD and CHECK build on. DEL must not fail over it, and reads it by itself.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when it is no result; [`ErrorKind::InvalidConfig`] when CHECK has none.
    fn prev_result(&self) -> Result<Option<AddResult>> {
        match self.verb.command() {
            Command::Add => self.config.prev_result(),
            Command::Check => match self.config.prev_result()? {
                Some(result) => Ok(Some(result)),
                None => Err(no_prev_result()),
            },
            _ => Ok(None),
        }
    }

    /// A recycled `/proc/PID/ns/net` may name the host's own namespace; attaching that would cut the node off.
    pub(super) async fn refuse_own_namespace(&self, opener: &dyn NamespaceOpener) -> Result<()> {
        let (Verb::Add { netns, .. } | Verb::Check { netns, .. }) = self.verb else {
            return Ok(());
        };
        let netns = NetnsPath::new(netns);
        if self.environment.netns_override || !opener.is_own(&netns).await {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidNetns,
            format!(
                "CNI_NETNS {netns} is the plugin's own network namespace; set CNI_NETNS_OVERRIDE=1 if that is meant"
            ),
        ))
    }

    /// The container's namespace, unless the path by now names the plugin's own: then the container's is gone.
    async fn foreign<'n>(&self, host: &Host, netns: &'n NetnsPath) -> Option<&'n NetnsPath> {
        if !self.environment.netns_override && host.namespaces.is_own(netns).await {
            tracing::warn!(%netns, "CNI_NETNS is the plugin's own namespace, and is left alone");
            return None;
        }
        Some(netns)
    }
}

/// Address management as the configuration asks for it. DEL and GC remove what stands in the kernel even if that cannot
/// be set up, and fail afterwards.
fn ipam_of(means: &Means<'_>, asked: &Asked<'_>) -> Result<Box<dyn Ipam>> {
    match ((means.ipam)(asked.config, asked.environment), asked.verb) {
        (Err(error), Verb::Del { .. } | Verb::Gc) => Ok(Box::new(UnusableIpam::new(&error))),
        (ipam, _) => ipam,
    }
}

fn no_prev_result() -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        "the network configuration has no `prevResult`, and CHECK compares with it",
    )
}

pub(super) fn no_dry_run(command: Command) -> Error {
    Error::new(
        ErrorKind::InvalidEnvironment,
        format!(
            "CNI_DRY_RUN is set, and this plugin cannot tell what {command} would do; unset it"
        ),
    )
}

/// The error of an ADD that has been undone, or could not be.
pub(super) fn undone(error: Error, undo: Result<()>) -> Error {
    match undo {
        Ok(()) => error,
        Err(undo) => {
            let message = format!(
                "{}; and undoing the ADD failed: {}",
                error.chain(),
                undo.chain()
            );
            Error::new(error.kind(), message)
        }
    }
}
