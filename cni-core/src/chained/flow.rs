//! What all chained plugins do alike.

use ipnetwork::IpNetwork;

use crate::attach::{self, Elements};
use crate::backend::{AddRequest, Added, Context, GcRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::host::firewall::FirewallChange;
use crate::plan::{Desired, Establishing, Handles, Plan, establish};
use crate::spec::{AddResult, Attachment};

/// The result of the plugin before this one.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] when there is none: nothing has been attached that could be added to.
pub fn previous<'a>(request: &AddRequest<'a>) -> Result<&'a AddResult> {
    request.prev_result.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidConfig,
            "the network configuration has no `prevResult`: this plugin adds to what another one has attached, so put \
             it behind that one in a list of plugins",
        )
    })
}

/// The addresses of the attachment's own interface, with their prefix lengths.
pub fn addresses(attachment: &Attachment, result: &AddResult) -> Vec<IpNetwork> {
    let own = attach::of_own_interface(attachment, result);
    own.ips.iter().map(|ip| ip.address).collect()
}

/// Makes what is declared, and passes the previous result on. On an error everything is as before.
///
/// # Errors
/// Those of [`previous`] and [`establish`].
pub async fn add(cx: &Context<'_>, request: &AddRequest<'_>, desired: &Desired) -> Result<Added> {
    let result = previous(request)?.clone();
    let handles = Handles {
        host: cx.host,
        sandbox: Some(request.sandbox),
    };
    let mode = match cx.dry_run {
        true => Establishing::DryRun,
        false => Establishing::Apply,
    };
    let (plan, journal): (Plan, _) = establish(desired, &handles, cx.cancel, mode).await?;
    journal.keep();
    Ok(Added::new(result, plan))
}

/// What deletes the attachment's elements from these sets and maps.
///
/// # Errors
/// All failures to read, together.
pub async fn elements_of(
    cx: &Context<'_>,
    attachment: &Attachment,
    places: &[Elements],
) -> Result<Vec<FirewallChange>> {
    let mark = attachment.mark();
    let (mut changes, mut errors) = (Vec::new(), Vec::new());
    for place in places {
        match attach::elements_in(cx.host.firewall.as_ref(), place, &mark).await {
            Ok(found) => changes.extend(found),
            Err(error) => errors.push(error.into()),
        }
    }
    Error::join(errors).map_or(Ok(changes), Err)
}

/// What deletes the elements of this network's attachments that are not valid any more from these sets and maps.
///
/// # Errors
/// The kernel's, where it cannot be read.
pub async fn stale(
    cx: &Context<'_>,
    request: &GcRequest<'_>,
    places: &[Elements],
) -> Result<Vec<FirewallChange>> {
    let mut changes = Vec::new();
    for place in places {
        changes.extend(attach::stale_in(cx, request, place).await?);
    }
    Ok(changes)
}
