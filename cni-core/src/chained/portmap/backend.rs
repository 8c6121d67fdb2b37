//! The plugin: reads facts, declares, and forgets the flows whose port leads elsewhere now.

use async_trait::async_trait;

use crate::attach;
use crate::backend::{
    AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest, NetworkBackend, StatusRequest,
};
use crate::chained::flow;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Firewall;
use crate::host::netlink::errno;
use crate::plan::{Establishing, Handles, Journal, Plan, Scope, diff, establish, observe, taken};
use crate::spec::{AddResult, Attachment, Mark};

use super::config::PortmapConfig;
use super::desired::{Facts, Input, declare, publications};
use super::publication::Publication;
use super::table::{Names, V4, V6, table};
use super::{facts, flows, gc, hairpin, removal};

/// The `portmap` plugin. It has no state of its own: all of it is in the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Portmap;

#[async_trait]
impl NetworkBackend for Portmap {
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added> {
        let config = PortmapConfig::parse(request.config)?;
        let result = flow::previous(request)?;
        let publications = wanted(&config, request.attachment, result)?;
        let cleared = match cx.dry_run {
            true => Ok(()),
            false => removal::leftover(cx, request.attachment).await,
        };
        if publications.is_empty() {
            // A pod without ports needs no nftables.
            if let Err(error) = cleared {
                tracing::warn!(
                    error = error.chain(),
                    "cannot look for ports of an earlier ADD"
                );
            }
            return Ok(Added::new(result.clone(), Plan::new()));
        }
        cleared?;
        let facts = facts::read(cx.host, &config, request.attachment, &publications).await?;
        let input = Input {
            attachment: request.attachment,
            config: &config,
            publications: &publications,
            facts: &facts,
        };
        let plan = publish(cx, request, &input).await?;
        Ok(Added::new(result.clone(), plan))
    }

    async fn del(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<()> {
        if cx.dry_run {
            return Err(attach::not_in_a_dry_run("DEL"));
        }
        removal::of(cx, request.attachment)
            .await?
            .carry_out(cx)
            .await
    }

    async fn del_plan(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<Option<Plan>> {
        let removal = removal::of(cx, request.attachment).await?;
        Ok(Some(removal.plan()))
    }

    async fn check(&self, cx: &Context<'_>, request: &CheckRequest<'_>) -> Result<()> {
        let config = PortmapConfig::parse(request.config)?;
        let publications = wanted(&config, request.attachment, request.prev_result)?;
        if publications.is_empty() {
            return Ok(());
        }
        let facts = facts::read(cx.host, &config, request.attachment, &publications).await?;
        let desired = declare(&Input {
            attachment: request.attachment,
            config: &config,
            publications: &publications,
            facts: &facts,
        });
        let mut drifts = unreachable(&config, &facts);
        if let Some(port) = &facts.hairpin_port
            && !hairpin::is_on(cx.host, port).await?
        {
            drifts.push(format!(
                "port {port} has hairpin off, should have hairpin on"
            ));
        }
        attach::check(cx, request, &desired, false, drifts).await
    }

    async fn gc(&self, cx: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
        if cx.dry_run {
            return Err(attach::not_in_a_dry_run("GC"));
        }
        gc::collect(cx, request).await
    }

    async fn status(&self, cx: &Context<'_>, request: &StatusRequest<'_>) -> Result<()> {
        PortmapConfig::parse(request.config)?;
        match cx.host.firewall.table(&table()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::new(
                ErrorKind::NotAvailable,
                "ports cannot be published: nftables cannot be used",
            )
            .with_source(error)),
        }
    }
}

fn wanted(
    config: &PortmapConfig,
    attachment: &Attachment,
    result: &AddResult,
) -> Result<Vec<Publication>> {
    let addresses = flow::addresses(attachment, result);
    let addresses: Vec<_> = addresses.iter().map(|address| address.ip()).collect();
    publications(config, &addresses)
}

/// What CHECK says of a pod that no route leads to.
fn unreachable(config: &PortmapConfig, facts: &Facts) -> Vec<String> {
    let lost = config.snat && facts.link4.is_none() && facts.link6.is_none();
    let words = || "no route of the host leads to the pod".to_owned();
    lost.then(words).into_iter().collect()
}

async fn publish(cx: &Context<'_>, request: &AddRequest<'_>, input: &Input<'_>) -> Result<Plan> {
    let firewall = cx.host.firewall.as_ref();
    let mark = request.attachment.mark();
    let handles = Handles {
        host: cx.host,
        sandbox: Some(request.sandbox),
    };
    refuse_overlaps(firewall, &mark, input.publications).await?;
    let desired = declare(input);
    let mode = match cx.dry_run {
        true => Establishing::DryRun,
        false => Establishing::Apply,
    };
    let (plan, journal) = match establish(&desired, &handles, cx.cancel, mode).await {
        Ok(made) => made,
        Err(error) if error.errno() == Some(errno::EEXIST) => {
            // Another ADD has claimed a port since it was looked at: now its name can be read.
            let observed = observe(&handles, &desired, Scope::Shared).await?;
            diff(&desired, &observed)?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    if cx.dry_run {
        return Ok(plan);
    }
    let port = input.facts.hairpin_port.as_deref();
    match settle(cx, &mark, input.publications, port).await {
        Ok(()) => journal.keep(),
        Err(error) => return Err(taken_back(error, port, journal, &handles).await),
    }
    Ok(plan)
}

/// Of two ADDs that claim overlapping ports at one time at least the later one sees the other's claim here.
async fn settle(
    cx: &Context<'_>,
    mark: &Mark,
    publications: &[Publication],
    hairpin_port: Option<&str>,
) -> Result<()> {
    refuse_overlaps(cx.host.firewall.as_ref(), mark, publications).await?;
    if let Some(port) = hairpin_port {
        hairpin::set(cx.host, port, true).await?;
    }
    flows::forget_before(cx.host, publications).await
}

async fn taken_back(
    error: Error,
    hairpin_port: Option<&str>,
    journal: Journal,
    handles: &Handles<'_>,
) -> Error {
    let mut errors = Vec::new();
    if let Some(port) = hairpin_port {
        errors.extend(hairpin::set(handles.host, port, false).await.err());
    }
    errors.extend(journal.unwind(handles).await.err());
    match Error::join(errors) {
        None => error,
        Some(second) => {
            let message = format!(
                "{error}; and taking back what was done failed: {}",
                second.chain()
            );
            error.context(message)
        }
    }
}

/// A port of all addresses and the same port of one address are the same port, as two sockets that bind them would find: the
/// maps know only equal keys.
async fn refuse_overlaps(
    firewall: &dyn Firewall,
    mark: &Mark,
    publications: &[Publication],
) -> Result<()> {
    for names in [V4, V6] {
        let of_family = publications.iter().filter(|one| one.names() == names);
        let (one, all): (Vec<&Publication>, Vec<_>) = of_family.partition(|one| one.host.is_some());
        for publication in one {
            let key = publication.key();
            let found = firewall.element(&table(), names.ports, &key).await?;
            refuse_other(found, mark, publication)?;
        }
        if !all.is_empty() {
            refuse_parts(firewall, mark, &names, &all).await?;
        }
    }
    Ok(())
}

async fn refuse_parts(
    firewall: &dyn Firewall,
    mark: &Mark,
    names: &Names,
    publications: &[&Publication],
) -> Result<()> {
    for address in firewall.elements(&table(), names.addresses).await? {
        for publication in publications {
            let key = [address.key.clone(), publication.key()].concat();
            let found = firewall.element(&table(), names.host_ports, &key).await?;
            refuse_other(found, mark, publication)?;
        }
    }
    Ok(())
}

fn refuse_other(
    found: Option<crate::host::firewall::Element>,
    mark: &Mark,
    publication: &Publication,
) -> Result<()> {
    match found {
        Some(found) if found.comment.as_deref() != Some(mark.as_str()) => {
            Err(taken(&format!("host port {publication}"), &found))
        }
        _ => Ok(()),
    }
}
