//! CHECK: the difference between what ADD made and what is there, in words.

use crate::backend::{CheckRequest, Context};
use crate::error::{Error, ErrorKind, Result};
use crate::ipam::IpamRequest;
use crate::plan::{Desired, Handles, Scope, diff, observe};
use crate::spec::{AddResult, Attachment};

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
    of_own_interface(request.attachment, request.prev_result)
}

/// As [`of_prev_result`], of any result.
pub(crate) fn of_own_interface(attachment: &Attachment, prev: &AddResult) -> AddResult {
    let name = attachment.interface.as_str();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::result::Route;
    use crate::spec::{CniArgs, Interface, IpConfig, NetworkConfig};
    use crate::testing::FakeKernel;

    fn of(prev: &AddResult) -> AddResult {
        let config = br#"{"cniVersion":"1.1.0","name":"n","type":"x"}"#;
        let request = CheckRequest {
            attachment: &Attachment {
                network: "n".parse().unwrap(),
                container: "c".parse().unwrap(),
                interface: "eth0".parse().unwrap(),
            },
            sandbox: &FakeKernel::new().sandbox("/run/netns/c"),
            config: &NetworkConfig::parse(config).unwrap(),
            args: &CniArgs::default(),
            prev_result: prev,
        };
        of_prev_result(&request)
    }

    fn interface(name: &str, sandbox: &str) -> Interface {
        let mut interface = Interface::new(name);
        interface.sandbox = sandbox.to_owned();
        interface
    }

    fn ip(address: &str, gateway: &str, interface: Option<i64>) -> IpConfig {
        let mut ip = IpConfig::new(address.parse().unwrap());
        ip.gateway = Some(gateway.parse().unwrap());
        ip.interface = interface;
        ip
    }

    fn route(to: &str, via: Option<&str>) -> Route {
        let mut route = Route::new(to.parse().unwrap());
        route.gw = via.map(|via| via.parse().unwrap());
        route
    }

    fn addresses(result: &AddResult) -> Vec<String> {
        let ips = result.ips.iter();
        ips.map(|ip| ip.address.to_string()).collect()
    }

    fn destinations(result: &AddResult) -> Vec<String> {
        let routes = result.routes.iter();
        routes.map(|route| route.dst.to_string()).collect()
    }

    #[test]
    fn addresses_of_other_interfaces_are_not_ours() {
        let prev = AddResult {
            // The host has a link of the same name.
            interfaces: vec![
                interface("eth0", ""),
                interface("eth0", "/run/netns/c"),
                interface("tun0", "/run/netns/c"),
            ],
            ips: vec![
                ip("10.0.0.1/24", "10.0.0.254", Some(0)),
                ip("10.1.0.2/24", "10.1.0.1", Some(1)),
                ip("10.2.0.2/24", "10.2.0.1", Some(2)),
            ],
            ..AddResult::default()
        };
        assert_eq!(addresses(&of(&prev)), ["10.1.0.2/24"]);
    }

    #[test]
    fn addresses_without_an_interface_or_with_one_that_is_not_listed_are_ours() {
        let prev = AddResult {
            interfaces: vec![interface("tun0", "/run/netns/c")],
            ips: vec![
                ip("10.1.0.2/24", "10.1.0.1", None),
                ip("10.1.0.3/24", "10.1.0.1", Some(7)),
                ip("10.1.0.4/24", "10.1.0.1", Some(-1)),
                ip("10.2.0.2/24", "10.2.0.1", Some(0)),
            ],
            ..AddResult::default()
        };
        let ours = addresses(&of(&prev));
        assert_eq!(ours, ["10.1.0.2/24", "10.1.0.3/24", "10.1.0.4/24"]);
    }

    #[test]
    fn routes_are_ours_by_their_gateway_or_by_their_family() {
        let prev = AddResult {
            interfaces: vec![interface("eth0", "/run/netns/c")],
            ips: vec![ip("10.1.0.2/24", "10.9.0.1", Some(0))],
            routes: vec![
                route("0.0.0.0/0", Some("10.9.0.1")),
                route("10.5.0.0/16", Some("10.1.0.77")),
                route("10.6.0.0/16", Some("192.0.2.1")),
                route("10.7.0.0/16", None),
                route("fd00::/8", None),
            ],
            ..AddResult::default()
        };
        let ours = destinations(&of(&prev));
        assert_eq!(ours, ["0.0.0.0/0", "10.5.0.0/16", "10.7.0.0/16"]);
    }
}
