//! ADD: addresses first, then the kernel; a failure takes back the kernel's part, then the addresses.

use crate::backend::{AddRequest, Added, Context, DelRequest};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::{LinkSettings, NetlinkChange, NetlinkExt, errno};
use crate::ipam::IpamRequest;
use crate::plan::{Establishing, Handles, Journal, Plan, establish};
use crate::spec::AddResult;

use super::del::remove_kernel_part;
use super::{Declaration, Elements, Wiring};

/// Attaches the container: either everything is made, or everything is as before.
///
/// What an ADD that died has left under the attachment's name, not sealed, is cleared away. `elements` says where the
/// backend keeps nftables elements besides the masquerade's.
///
/// # Errors
/// Of address management, of the kernel, of the backend's own functions; [`ErrorKind::InvalidConfig`] when the
/// attachment exists.
pub async fn add(
    cx: &Context<'_>,
    request: &AddRequest<'_>,
    wiring: &dyn Wiring,
    elements: &[Elements],
) -> Result<Added> {
    let ipam = ipam_request(request, cx.cancel);
    if cx.dry_run {
        let preview = match wiring.uses_ipam() {
            true => cx.ipam.preview(&ipam).await?.ok_or_else(no_preview)?,
            false => AddResult::default(),
        };
        let Declaration { desired, result } = wiring.declare(preview)?;
        let handles = handles(cx, request);
        let (plan, _) = establish(&desired, &handles, cx.cancel, Establishing::DryRun).await?;
        return Ok(Added::new(result, plan));
    }
    let addresses = match wiring.uses_ipam() {
        true => reserve(cx, request, elements).await?,
        false => AddResult::default(),
    };
    match wire(cx, request, wiring, elements, addresses).await {
        Ok(added) => Ok(added),
        Err(error) if wiring.uses_ipam() => {
            // The way back is not to be cancelled.
            let cancel = Cancel::new();
            match cx.ipam.release(&ipam_request(request, &cancel)).await {
                Ok(()) => Err(error),
                Err(second) => Err(with_second(error, "releasing the addresses", &second)),
            }
        }
        Err(error) => Err(error),
    }
}

/// Marks the attachment as finished: from now on it is no leftover.
///
/// # Errors
/// The kernel's.
pub async fn seal(cx: &Context<'_>, request: &AddRequest<'_>) -> Result<()> {
    if cx.dry_run {
        return Ok(());
    }
    let change = NetlinkChange::LinkSet {
        link: request.attachment.host_name().to_string(),
        settings: LinkSettings {
            alias: Some(request.attachment.mark().to_string()),
            ..LinkSettings::default()
        },
    };
    Ok(cx.host.netlink.apply_one(change).await?)
}

fn handles<'a>(cx: &Context<'a>, request: &AddRequest<'a>) -> Handles<'a> {
    Handles {
        host: cx.host,
        sandbox: Some(request.sandbox),
    }
}

fn ipam_request<'a>(request: &AddRequest<'a>, cancel: &'a Cancel) -> IpamRequest<'a> {
    IpamRequest {
        attachment: request.attachment,
        netns: Some(&request.sandbox.path),
        config: request.config,
        args: request.args,
        cancel,
    }
}

fn no_preview() -> Error {
    Error::new(
        ErrorKind::UnsupportedField,
        "a dry run needs addresses, and the plugin of \"ipam.type\" cannot tell them without reserving them",
    )
}

fn with_second(error: Error, what: &str, second: &Error) -> Error {
    let message = format!("{error}; and {what} failed: {}", second.chain());
    error.context(message)
}

/// Reserves addresses. Should that fail because an ADD that died still holds some, they are given back first.
async fn reserve(
    cx: &Context<'_>,
    request: &AddRequest<'_>,
    elements: &[Elements],
) -> Result<AddResult> {
    let ipam = ipam_request(request, cx.cancel);
    let error = match cx.ipam.allocate(&ipam).await {
        Ok(addresses) => return Ok(addresses),
        Err(error) => error,
    };
    cx.cancel.check("reserving addresses")?;
    let leftover = clear_leftover(cx, request, elements).await?;
    let held = cx.ipam.held(&ipam).await.ok().flatten();
    if !leftover && held.is_none_or(|held| held.is_empty()) {
        return Err(error);
    }
    cx.ipam.release(&ipam).await?;
    cx.ipam.allocate(&ipam).await
}

async fn wire(
    cx: &Context<'_>,
    request: &AddRequest<'_>,
    wiring: &dyn Wiring,
    elements: &[Elements],
    addresses: AddResult,
) -> Result<Added> {
    let Declaration {
        desired,
        mut result,
    } = wiring.declare(addresses)?;
    let handles = handles(cx, request);
    let attempt = establish(&desired, &handles, cx.cancel, Establishing::Apply);
    let (plan, journal): (Plan, Journal) = match attempt.await {
        Ok(done) => done,
        Err(error) if error.errno() == Some(errno::EEXIST) => {
            if !clear_leftover(cx, request, elements).await? {
                return Err(explain_existing(request, error).await);
            }
            establish(&desired, &handles, cx.cancel, Establishing::Apply).await?
        }
        Err(error) => return Err(error),
    };
    match wiring.finish(&handles, &mut result, cx.cancel).await {
        Ok(()) => Ok(Added::new(result, plan)),
        Err(error) => match journal.unwind(&handles).await {
            Ok(()) => Err(error),
            Err(second) => Err(with_second(error, "taking back what was done", &second)),
        },
    }
}

/// Whether a link that an ADD left behind half-made was in the way, and is gone now.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] when the attachment is there and finished.
async fn clear_leftover(
    cx: &Context<'_>,
    request: &AddRequest<'_>,
    elements: &[Elements],
) -> Result<bool> {
    let attachment = request.attachment;
    let name = attachment.host_name();
    let Some(link) = cx.host.netlink.link(name.as_str()).await? else {
        return Ok(false);
    };
    let mark = attachment.mark();
    match link.alias.as_deref().unwrap_or_default() {
        "" => {}
        alias if alias == mark.as_str() => {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{attachment} is attached already, by {name}: DEL it first"),
            ));
        }
        _ => return Ok(false),
    }
    tracing::warn!(link = %name, "clearing away what an ADD that died has left");
    let del = DelRequest {
        attachment,
        netns: None,
        config: request.config,
        args: request.args,
        prev_result: None,
    };
    let errors = remove_kernel_part(cx, &del, None, true, elements).await;
    Error::join(errors).map_or(Ok(true), Err)
}

/// The kernel's "file exists", in words that say which.
async fn explain_existing(request: &AddRequest<'_>, error: Error) -> Error {
    let interface = &request.attachment.interface;
    match request.sandbox.netlink.link(interface.as_str()).await {
        Ok(Some(_)) => error.context(format!(
            "the container {} has an interface {interface} already: CNI_IFNAME must name a new one",
            request.sandbox.path
        )),
        _ => error,
    }
}
