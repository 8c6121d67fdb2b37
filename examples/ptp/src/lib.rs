//! *The* example: a whole network backend, one routed veth pair for each container, as the reference `ptp` plugin makes it.
//!
//! ```text
//!   container                          host
//!  ┌──────────────────┐               ┌───────────────────────────────────────────┐
//!  │ eth0 10.1.0.5/24 ├──── veth ─────┤ vethXXXXXXXXXXX 10.1.0.1/32 ── routing ───┼── the others
//!  └──────────────────┘               └───────────────────────────────────────────┘
//! ```
//!
//! # How to read it
//!
//! A backend does not issue commands. It says what must exist, as plain values, and the engine compares that with what
//! does, applies the difference, and takes it back when a step fails.
//!
//! 1. [`Ptp`] implements [`NetworkBackend`]. Each verb is a line or two: it hands the request to the flow of that
//!    verb in [`cni_core::attach`], which creates, unwinds, finds leftovers again, compares and collects.
//! 2. `Pair` holds what the verbs need of the configuration. [`Wiring`] asks two things of it:
//! 3. `declare`, a pure function: given the addresses that were reserved, what must exist? `desired.own` is for what belongs
//!    to this attachment and goes with it, `desired.share` for what all of them need (`ip_forward`, the masquerade's table)
//!    and what DEL leaves. The order is the order in which it is made.
//!    * `pair`: the two ends. The host's is named after the attachment, so that DEL finds it without a state file.
//!    * `routed`: for each address the gateway's on the host's end, and routes for exactly these two addresses,
//!      because nothing else is on this link; everything else goes through the gateway.
//!    * `inside::routes`: the routes that address management asks for, as every backend needs them.
//!    * `nat::declare`: masquerade, one map element for each address.
//! 4. `finish`, once everything exists: wait until both ends are up and deliver packets, and fill in what only the kernel
//!    knows.
//!
//! What is left for a product's own backend is its `declare`. `main.rs` makes a plugin of it in five lines, and
//! `tests/conformance.rs` proves the contract of [`NetworkBackend`] (a failed ADD is a no-op, DEL succeeds twice, CHECK
//! sees every drift, ...) in one.

use std::net::IpAddr;

use async_trait::async_trait;
use cni_core::attach::inside::{self, Dad};
use cni_core::attach::ready::{self, Until};
use cni_core::attach::{self, Declaration, Wiring};
use cni_core::backend::{
    AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest, StatusRequest,
};
use cni_core::host::NetnsPath;
use cni_core::host::netlink::{Address, NewLinkKind, Route};
use cni_core::ipnetwork::IpNetwork;
use cni_core::plan::{Desired, Handles, LinkSpec, Object, Place, Plan};
use cni_core::spec::{AddResult, Attachment, Dns, Interface, NetworkConfig};
use cni_core::{Cancel, Error, ErrorKind, NetworkBackend, Result, nat};

/// The backend. It keeps no state: all of it is in the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ptp;

#[async_trait]
impl NetworkBackend for Ptp {
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added> {
        let pair = Pair::new(request.attachment, &request.sandbox.path, request.config)?;
        attach::add(cx, request, &pair, &[]).await
    }

    async fn seal(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<()> {
        attach::seal(cx, request).await
    }

    async fn del(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<()> {
        attach::del(cx, request, true, true, &[]).await
    }

    async fn del_plan(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<Option<Plan>> {
        attach::del_plan(cx, request, true, true, &[])
            .await
            .map(Some)
    }

    async fn check(&self, cx: &Context<'_>, request: &CheckRequest<'_>) -> Result<()> {
        let pair = Pair::new(request.attachment, &request.sandbox.path, request.config)?;
        let Declaration { desired, .. } = pair.declare(attach::of_prev_result(request))?;
        attach::check(cx, request, &desired, true, Vec::new()).await
    }

    async fn gc(&self, cx: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
        let errors = attach::gc(cx, request, true, &[]).await;
        Error::join(errors).map_or(Ok(()), Err)
    }

    async fn status(&self, cx: &Context<'_>, request: &StatusRequest<'_>) -> Result<()> {
        cx.ipam.status(request.network, request.config).await
    }
}

/// The container's end comes second in a result's interfaces.
const CONTAINER: i64 = 1;

/// One attachment's pair, and what the configuration says of it.
struct Pair<'a> {
    attachment: &'a Attachment,
    netns: &'a NetnsPath,
    mtu: Option<u32>,
    masquerades: bool,
    dns: Dns,
}

impl<'a> Pair<'a> {
    fn new(
        attachment: &'a Attachment,
        netns: &'a NetnsPath,
        config: &NetworkConfig,
    ) -> Result<Self> {
        let keys = config.object()?;
        Ok(Self {
            attachment,
            netns,
            mtu: keys.u32_in("mtu", 0, 65535)?.filter(|mtu| *mtu != 0),
            masquerades: keys.bool("ipMasq")?.unwrap_or_default(),
            dns: config.dns()?,
        })
    }
}

#[async_trait]
impl Wiring for Pair<'_> {
    fn declare(&self, mut result: AddResult) -> Result<Declaration> {
        let mut desired = Desired::new();
        self.pair(&mut desired, &result);
        for ip in &mut result.ips {
            ip.interface = Some(CONTAINER);
            let gateway = ip.gateway.ok_or_else(|| no_gateway(ip.address))?;
            self.routed(&mut desired, ip.address, IpNetwork::from(gateway));
        }
        inside::routes(&mut desired, self.attachment.interface.as_str(), &result);
        if self.masquerades {
            let addresses: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
            nat::declare(&mut desired, self.attachment, &addresses);
        }

        let mut container = Interface::new(self.attachment.interface.as_str());
        container.sandbox = self.netns.to_string();
        let host = Interface::new(self.attachment.host_name().as_str());
        result.interfaces = vec![host, container];
        if !self.dns.is_empty() {
            result.dns = self.dns.clone();
        }
        Ok(Declaration { desired, result })
    }

    async fn finish(
        &self,
        handles: &Handles<'_>,
        result: &mut AddResult,
        cancel: &Cancel,
    ) -> Result<()> {
        for interface in &mut result.interfaces {
            let netlink = match handles.sandbox {
                Some(sandbox) if !interface.sandbox.is_empty() => sandbox.netlink.as_ref(),
                _ => handles.host.netlink.as_ref(),
            };
            let link = ready::link(netlink, &interface.name, Until::Up, cancel).await?;
            interface.mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
            interface.mtu = link.mtu;
        }
        let gateways: Vec<IpAddr> = result.ips.iter().filter_map(|ip| ip.gateway).collect();
        ready::delivered(handles.host.netlink.as_ref(), gateways, cancel).await?;
        if let Some(sandbox) = handles.sandbox {
            let own: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
            ready::delivered(sandbox.netlink.as_ref(), own, cancel).await?;
        }
        Ok(())
    }
}

impl Pair<'_> {
    /// Both ends: creating the host's brings the container's, in its namespace.
    fn pair(&self, desired: &mut Desired, result: &AddResult) {
        let container = self.attachment.interface.as_str();
        let kind = NewLinkKind::Veth {
            peer: container.to_owned(),
            peer_mac: None,
            peer_netns: Some(self.netns.clone()),
        };
        let mut end = LinkSpec::new(self.attachment.host_name().as_str(), Some(kind));
        end.mtu = self.mtu;
        end.alias = Some(self.attachment.mark().to_string());
        desired.own(Place::Host, Object::Link(end));
        if result.ips.iter().any(|ip| ip.address.is_ipv6()) {
            // The kernel forwards only once the link-local address is usable: not a second later than the link is.
            let host = self.attachment.host_name();
            let (key, value) = (format!("net/ipv6/conf/{host}/accept_dad"), "0".to_owned());
            desired.own(Place::Host, Object::Sysctl { key, value });
        }
        inside::parameters(desired, container, result, Dad::Off);
        let mut end = LinkSpec::new(container, None);
        end.mtu = self.mtu;
        desired.own(Place::Container, Object::Link(end));
    }

    /// One address: neither end believes that its prefix is on the link, only that the other's address is.
    fn routed(&self, desired: &mut Desired, address: IpNetwork, gateway: IpNetwork) {
        let pod = IpNetwork::from(address.ip());
        let host = self.attachment.host_name().to_string();
        let container = self.attachment.interface.to_string();
        for (place, link, address) in [
            (Place::Host, &host, gateway),
            (Place::Container, &container, address),
        ] {
            let mut address = Address::new(link, address);
            address.no_prefix_route = true;
            desired.own(place, Object::Address(address));
        }
        for (place, link, other) in [
            (Place::Host, &host, pod),
            (Place::Container, &container, gateway),
        ] {
            let mut route = Route::new(other, link);
            route.scope = if pod.is_ipv4() { Route::SCOPE_LINK } else { 0 };
            desired.own(place, Object::Route(route));
        }
        let prefix = IpNetwork::new(address.network(), address.prefix());
        if let Some(prefix) = prefix.ok().filter(|prefix| *prefix != pod) {
            let mut route = Route::new(prefix, &container);
            route.gateway = Some(gateway.ip());
            route.source = Some(pod.ip());
            // Another address of the same prefix brings one like it.
            route.beside_others = true;
            desired.own(Place::Container, Object::Route(route));
        }
        let key = match pod {
            IpNetwork::V4(_) => "net/ipv4/ip_forward",
            IpNetwork::V6(_) => "net/ipv6/conf/all/forwarding",
        };
        let (key, value) = (key.to_owned(), "1".to_owned());
        desired.share(Place::Host, Object::Sysctl { key, value });
    }
}

fn no_gateway(address: IpNetwork) -> Error {
    let message =
        format!("{address} has no gateway, and a routed pair needs one: give it in \"ipam\"");
    Error::new(ErrorKind::InvalidConfig, message)
}
