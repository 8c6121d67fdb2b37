//! The loopback interface of a container.

use async_trait::async_trait;
use cni_core::backend::{AddRequest, Added, CheckRequest, Context, DelRequest};
use cni_core::host::netlink::{LinkSettings, NetlinkChange, NetlinkExt};
use cni_core::host::{Netlink, Sandbox};
use cni_core::plan::{Change, Handles, Place, Plan, Step, apply};
use cni_core::spec::{AddResult, Interface, IpConfig};
use cni_core::{Error, ErrorKind, NetworkBackend, Result};

/// `lo`, whatever `CNI_IFNAME` says: a namespace has one, and the kernel gives it its addresses.
const LO: &str = "lo";

/// Brings `lo` up in ADD and down in DEL. In a chain it passes the result of the plugin before it on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loopback;

#[async_trait]
impl NetworkBackend for Loopback {
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added> {
        let netlink = request.sandbox.netlink.as_ref();
        let mut plan = Plan::new();
        if !is_up(netlink).await? {
            plan.push(
                Step::new(Place::Container, set_up(true), "lo is down").undone_by(set_up(false)),
            );
        }
        let handles = Handles {
            host: cx.host,
            sandbox: Some(request.sandbox),
        };
        let mut journal = None;
        if !cx.dry_run {
            journal = Some(apply(&plan, &handles, cx.cancel).await?);
        }
        let result = match request.prev_result {
            Some(result) => Ok(result.clone()),
            None => observed(request.sandbox).await,
        };
        match (result, journal) {
            (Ok(result), _) => Ok(Added::new(result, plan)),
            (Err(error), None) => Err(error),
            (Err(error), Some(journal)) => Err(match journal.unwind(&handles).await {
                Ok(()) => error,
                Err(undo) => Error::join(vec![error, undo])
                    .unwrap_or_else(|| Error::new(ErrorKind::Internal, "unwinding failed")),
            }),
        }
    }

    async fn del(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<()> {
        let Some(netns) = request.netns else {
            return Ok(());
        };
        // A namespace that is gone has taken its `lo` with it.
        let Ok(sandbox) = cx.host.namespaces.open(netns).await else {
            return Ok(());
        };
        if let Change::Netlink(change) = set_up(false) {
            sandbox.netlink.apply_one(change).await?;
        }
        Ok(())
    }

    async fn del_plan(&self, _: &Context<'_>, request: &DelRequest<'_>) -> Result<Option<Plan>> {
        let mut plan = Plan::new();
        if request.netns.is_some() {
            plan.push(Step::new(Place::Container, set_up(false), "lo is up"));
        }
        Ok(Some(plan))
    }

    async fn check(&self, _: &Context<'_>, request: &CheckRequest<'_>) -> Result<()> {
        let netlink = request.sandbox.netlink.as_ref();
        if !is_up(netlink).await? {
            return Err(Error::new(
                ErrorKind::Internal,
                "the loopback interface lo is down",
            ));
        }
        let present = netlink.addresses(Some(LO)).await?;
        for ip in ips_of_lo(request.prev_result) {
            if !present.iter().any(|have| have.address == ip.address) {
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!(
                        "the loopback interface lo has lost its address {}",
                        ip.address
                    ),
                ));
            }
        }
        Ok(())
    }
}

async fn is_up(netlink: &dyn Netlink) -> Result<bool> {
    match netlink.link(LO).await? {
        Some(link) => Ok(link.up),
        None => Err(Error::new(
            ErrorKind::InvalidNetns,
            "the container's namespace has no interface lo",
        )),
    }
}

fn set_up(up: bool) -> Change {
    let mut settings = LinkSettings::default();
    settings.up = Some(up);
    NetlinkChange::LinkSet {
        link: LO.into(),
        settings,
    }
    .into()
}

/// The result of a `loopback` that begins a chain: `lo`, with the addresses that the kernel gave it.
async fn observed(sandbox: &Sandbox) -> Result<AddResult> {
    let mut lo = Interface::new(LO);
    lo.mac = "00:00:00:00:00:00".into();
    lo.sandbox = sandbox.path.to_string();
    let mut result = AddResult::default();
    result.interfaces.push(lo);
    for have in sandbox.netlink.addresses(Some(LO)).await? {
        let mut ip = IpConfig::new(have.address);
        ip.interface = Some(0);
        result.ips.push(ip);
    }
    Ok(result)
}

/// The addresses that a result gives to an interface `lo` inside a container. In a chain, others belong to others.
fn ips_of_lo(result: &AddResult) -> impl Iterator<Item = &IpConfig> {
    result.ips.iter().filter(|ip| {
        let interface = ip
            .interface
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| result.interfaces.get(index));
        interface.is_some_and(|interface| interface.name == LO && !interface.sandbox.is_empty())
    })
}
