//! CHECK: the difference between what ADD made and what is there, in words.

use crate::backend::{CheckRequest, Context};
use crate::error::{Error, ErrorKind, Result};
use crate::ipam::IpamRequest;
use crate::plan::{Desired, Handles, Scope, diff, observe};
use crate::spec::AddResult;

/// Compares, and changes nothing. `drifts` are differences that the backend has found on its own.
///
/// # Errors
/// [`ErrorKind::Internal`], naming every difference; or that of address management.
pub async fn check(
    cx: &Context<'_>,
    request: &CheckRequest<'_>,
    desired: &Desired,
    uses_ipam: bool,
    mut drifts: Vec<String>,
) -> Result<()> {
    let handles = Handles {
        host: cx.host,
        sandbox: Some(request.sandbox),
    };
    let observed = observe(&handles, desired, Scope::All).await?;
    match diff(desired, &observed) {
        Ok(plan) => drifts.extend(plan.reasons().map(str::to_owned)),
        Err(error) => drifts.push(error.chain()),
    }
    if uses_ipam {
        let ipam = IpamRequest {
            attachment: request.attachment,
            netns: Some(&request.sandbox.path),
            config: request.config,
            args: request.args,
            cancel: cx.cancel,
        };
        if let Err(error) = cx.ipam.check(&ipam).await {
            drifts.push(error.chain());
        }
    }
    if drifts.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} is not as ADD made it: {}",
        request.attachment,
        drifts.join("; ")
    );
    Err(Error::new(ErrorKind::Internal, message))
}

/// What the previous result says of the attachment's own interface: its addresses, and the routes that go through it.
/// Plugins later in the chain may have added interfaces, addresses and routes; those are not ours to judge.
pub fn of_prev_result(request: &CheckRequest<'_>) -> AddResult {
    let prev = request.prev_result;
    let name = request.attachment.interface.as_str();
    let is_ours = |index: i64| {
        let interface = usize::try_from(index).ok();
        let interface = interface.and_then(|index| prev.interfaces.get(index));
        interface.is_none_or(|found| found.name == name && !found.sandbox.is_empty())
    };
    let mut ours = prev.clone();
    ours.ips.retain(|ip| ip.interface.is_none_or(is_ours));
    let ips = ours.ips.clone();
    ours.routes.retain(|route| match route.gw {
        Some(gateway) => ips
            .iter()
            .any(|ip| ip.gateway == Some(gateway) || ip.address.contains(gateway)),
        None => ips
            .iter()
            .any(|ip| ip.address.is_ipv4() == route.dst.is_ipv4()),
    });
    ours
}
