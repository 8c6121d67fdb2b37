//! The verbs.

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::attach;
use crate::backend::{
    AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest, NetworkBackend, StatusRequest,
};
use crate::chained::flow;
use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::{
    Link, LinkFilter, LinkKind, LinkSettings, NetlinkChange, NetlinkExt, errno,
};
use crate::host::{Host, Sandbox};
use crate::plan::{Establishing, Handles, Place, Plan, Step, converge, establish, remove};
use crate::spec::Attachment;
use crate::spec::names::ifb_name_is_of;

use super::config::{BandwidthConfig, Limit};
use super::desired::{desired, interface, limits_to_remove, probe, raised};

/// The `bandwidth` plugin. It has no state of its own: all of it is in the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct BandwidthPlugin;

#[async_trait]
impl NetworkBackend for BandwidthPlugin {
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added> {
        let mut result = flow::previous(request)?.clone();
        let config = BandwidthConfig::parse(request.config)?;
        if config.is_empty() {
            return Ok(Added::new(result, Plan::new()));
        }
        let host_end = host_end(cx.host, request.sandbox, request.attachment).await?;
        tell_of_raised(&config, &host_end);
        let desired = desired(request.attachment, &host_end, &config);
        let handles = Handles {
            host: cx.host,
            sandbox: Some(request.sandbox),
        };
        let mode = match cx.dry_run {
            true => Establishing::DryRun,
            false => Establishing::Apply,
        };
        let (plan, journal) = match establish(&desired, &handles, cx.cancel, mode).await {
            // An ADD that died has left something, or somebody else is there.
            Err(error) if error.errno() == Some(errno::EEXIST) => {
                converge(&desired, &handles, cx.cancel, mode).await?
            }
            outcome => outcome?,
        };
        journal.keep();
        if config.egress.is_some() {
            let device = interface(request.attachment, &host_end);
            result.interfaces.push(device);
        }
        Ok(Added::new(result, plan))
    }

    async fn seal(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<()> {
        let config = BandwidthConfig::parse(request.config)?;
        if cx.dry_run || config.egress.is_none() {
            return Ok(());
        }
        let change = NetlinkChange::LinkSet {
            link: request.attachment.ifb_name().to_string(),
            settings: LinkSettings {
                alias: Some(request.attachment.mark().to_string()),
                ..LinkSettings::default()
            },
        };
        Ok(cx.host.netlink.apply_one(change).await?)
    }

    async fn del(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<()> {
        if cx.dry_run {
            return Err(attach::not_in_a_dry_run("DEL"));
        }
        let (plan, mut errors) = removal(cx, request).await;
        errors.extend(remove(&plan, &attach::host_handles(cx)).await);
        Error::join(errors).map_or(Ok(()), Err)
    }

    async fn del_plan(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<Option<Plan>> {
        let (plan, errors) = removal(cx, request).await;
        Error::join(errors).map_or(Ok(Some(plan)), Err)
    }

    async fn check(&self, cx: &Context<'_>, request: &CheckRequest<'_>) -> Result<()> {
        let config = BandwidthConfig::parse(request.config)?;
        if config.is_empty() {
            return Ok(());
        }
        let host_end = host_end(cx.host, request.sandbox, request.attachment).await?;
        let desired = desired(request.attachment, &host_end, &config);
        attach::check(cx, request, &desired, false, Vec::new()).await
    }

    async fn gc(&self, cx: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
        if cx.dry_run {
            return Err(attach::not_in_a_dry_run("GC"));
        }
        let plan = stale(cx, request).await?;
        let errors = remove(&plan, &attach::host_handles(cx)).await;
        Error::join(errors).map_or(Ok(()), Err)
    }

    async fn status(&self, cx: &Context<'_>, request: &StatusRequest<'_>) -> Result<()> {
        BandwidthConfig::parse(request.config)?;
        let unavailable = |message: String| Error::new(ErrorKind::NotAvailable, message);
        let scratch = cx.host.namespaces.scratch().await.map_err(|error| {
            unavailable("it cannot be told whether the kernel can limit traffic".to_owned())
                .with_source(error)
        })?;
        for (change, drivers) in probe() {
            scratch.netlink.apply_one(change).await.map_err(|error| {
                let message = format!(
                    "the kernel cannot limit traffic, for which it needs {drivers}: load the module, or take a kernel \
                     that has it"
                );
                unavailable(message).with_source(error)
            })?;
        }
        Ok(())
    }
}

fn tell_of_raised(config: &BandwidthConfig, host_end: &Link) {
    let tell = |direction: &str, limit: Option<Limit>| {
        if let Some((limit, burst)) =
            limit.and_then(|limit| Some((limit, raised(limit, host_end.mtu)?)))
        {
            tracing::warn!(
                "the burst of the {direction} limit, {} bits, is less than a packet of the MTU {}, which would never pass: \
                 taken as {burst} bits",
                limit.burst,
                host_end.mtu
            );
        }
    };
    tell("ingress", config.ingress);
    tell("egress", config.egress);
}

/// The host's end of the container's interface.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] when the container has no such interface, or it is not one end of a veth pair whose other end
/// is on the host; the kernel's.
async fn host_end(host: &Host, sandbox: &Sandbox, attachment: &Attachment) -> Result<Link> {
    let name = attachment.interface.as_str();
    let refused = |what: String| {
        let message = format!(
            "{what}: bandwidth limits the traffic of a veth pair, at its end on the host, so put it behind a plugin that \
             makes one (bridge, ptp, vxlan, host-gw)"
        );
        Error::new(ErrorKind::InvalidConfig, message)
    };
    let Some(inner) = sandbox.netlink.link(name).await? else {
        return Err(refused(format!("the container has no interface {name}")));
    };
    if inner.kind != LinkKind::Veth {
        let kind = match &inner.kind {
            LinkKind::Other(kind) => kind.clone(),
            other => format!("{other:?}"),
        };
        return Err(refused(format!(
            "the container's interface {name} is no veth, but: {kind}"
        )));
    }
    match peer_on_host(host, &inner).await? {
        Some(link) => Ok(link),
        None => Err(refused(format!(
            "the other end of the container's interface {name} is not in the host's namespace"
        ))),
    }
}

/// The link on the host that is the other end of one in a container.
async fn peer_on_host(host: &Host, inner: &Link) -> Result<Option<Link>> {
    let Some(index) = inner.peer.filter(|_| inner.peer_elsewhere) else {
        return Ok(None);
    };
    let found = host.netlink.links(LinkFilter::Index(index)).await?;
    // The index is of the namespace that the other end is in, which need not be the host's.
    let is_peer = |link: &Link| {
        link.kind == LinkKind::Veth && link.peer == Some(inner.index) && link.peer_elsewhere
    };
    Ok(found.into_iter().find(is_peer))
}

/// What is to be removed, and what could not be read.
async fn removal(cx: &Context<'_>, request: &DelRequest<'_>) -> (Plan, Vec<Error>) {
    let mut errors = Vec::new();
    let mut kept = |error: Error| {
        errors.push(error);
        None
    };
    let host_end = end_to_clear(cx.host, request)
        .await
        .unwrap_or_else(&mut kept);
    let traffic = match &host_end {
        Some(link) => match cx.host.netlink.traffic(&link.name).await {
            Ok(traffic) => Some(traffic),
            // It has gone meanwhile.
            Err(error) if error.errno == errno::ENODEV => None,
            Err(error) => {
                errors.push(error.into());
                None
            }
        },
        None => None,
    };
    let name = request.attachment.ifb_name();
    let ifb = match cx.host.netlink.link(name.as_str()).await {
        Ok(found) => found,
        Err(error) => {
            errors.push(error.into());
            None
        }
    };
    let known = host_end.as_ref().map(|link| link.name.as_str());
    let mut plan = limits_to_remove(
        known.zip(traffic.as_ref()),
        ifb.as_ref().map(|_| name.as_str()),
    );
    let led = traffic.map(|traffic| traffic.led_by_others);
    for index in led.unwrap_or_default() {
        match cx.host.netlink.links(LinkFilter::Index(index)).await {
            Ok(found) => plan.extend(found.iter().filter_map(of_the_reference)),
            Err(error) => errors.push(error.into()),
        }
    }
    (plan, errors)
}

/// Removes the reference plugin's device, which outlives the pair: it has limited this attachment before the node changed over.
fn of_the_reference(link: &Link) -> Option<Step> {
    let digits = link.name.strip_prefix("bwp")?;
    let is_named = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let change = NetlinkChange::LinkDel {
        link: link.name.clone(),
    };
    let step = Step::new(Place::Host, change.into(), format!("link {}", link.name));
    (is_named && is_ifb(link)).then_some(step)
}

fn is_ifb(link: &Link) -> bool {
    link.kind == LinkKind::Other("ifb".to_owned())
}

/// The host's end of the pair, as long as there is one: by the name that this crate's plugins give it, else by the container's
/// interface. A namespace that is gone has taken both ends with it.
async fn end_to_clear(host: &Host, request: &DelRequest<'_>) -> Result<Option<Link>> {
    let name = request.attachment.host_name();
    if let Some(link) = host.netlink.link(name.as_str()).await? {
        return Ok(Some(link));
    }
    let Some(netns) = request.netns else {
        return Ok(None);
    };
    let Ok(sandbox) = host.namespaces.open(netns).await else {
        return Ok(None);
    };
    let interface = request.attachment.interface.as_str();
    match sandbox.netlink.link(interface).await? {
        Some(inner) if inner.kind == LinkKind::Veth => peer_on_host(host, &inner).await,
        _ => Ok(None),
    }
}

/// Deletes the network's devices of attachments that are not valid.
async fn stale(cx: &Context<'_>, request: &GcRequest<'_>) -> Result<Plan> {
    let links = cx.host.netlink.links(LinkFilter::All).await?;
    let marks = request.valid.marks(request.network);
    let names: BTreeSet<String> = request
        .valid
        .attachments(request.network)
        .map(|attachment| attachment.ifb_name().to_string())
        .collect();
    // One without an alias is a leftover, or of an ADD that is at work now, and then its process holds the lock.
    let alone = cx.host.lock.try_exclusive().await?;
    let is_ours = |link: &Link| is_ifb(link) && ifb_name_is_of(&link.name, request.network);
    let stale = |link: &&Link| {
        is_ours(link)
            && match link.alias.as_deref().filter(|alias| !alias.is_empty()) {
                Some(alias) => attach::is_stale(alias, request.network, &marks),
                None => alone.is_some() && !names.contains(&link.name),
            }
    };
    let doomed: Vec<&Link> = links.iter().filter(stale).collect();
    Ok(attach::deletion_of_links(&links, &doomed))
}
