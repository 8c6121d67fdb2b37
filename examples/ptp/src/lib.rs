//! A whole backend: one routed veth pair for each container, as the reference `ptp` plugin makes it.
//!
//! A backend says what must exist (`declare`, a pure function) and waits until it works (`finish`). Creating, taking
//! back, finding again, comparing and collecting are `cni_core`'s.

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

/// One attachment's pair.
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
        let host = self.attachment.host_name().to_string();
        let container = self.attachment.interface.as_str();
        let mut desired = Desired::new();

        let kind = NewLinkKind::Veth {
            peer: container.to_owned(),
            peer_mac: None,
            peer_netns: Some(self.netns.clone()),
        };
        let mut end = LinkSpec::new(&host, Some(kind));
        end.mtu = self.mtu;
        end.alias = Some(self.attachment.mark().to_string());
        desired.own(Place::Host, Object::Link(end));
        inside::parameters(&mut desired, container, &result, Dad::Off);
        let mut end = LinkSpec::new(container, None);
        end.mtu = self.mtu;
        desired.own(Place::Container, Object::Link(end));

        for ip in &mut result.ips {
            ip.interface = Some(1);
            let gateway = ip.gateway.ok_or_else(|| no_gateway(ip.address))?;
            let (pod, gateway) = (IpNetwork::from(ip.address.ip()), IpNetwork::from(gateway));
            // Neither end believes that the prefix is on the link: only the two addresses are.
            for (place, link, address) in [
                (Place::Host, host.as_str(), gateway),
                (Place::Container, container, ip.address),
            ] {
                let mut address = Address::new(link, address);
                address.no_prefix_route = true;
                desired.own(place, Object::Address(address));
            }
            let on_link = |to, link: &str| {
                let mut route = Route::new(to, link);
                route.scope = if pod.is_ipv4() { Route::SCOPE_LINK } else { 0 };
                route
            };
            desired.own(Place::Host, Object::Route(on_link(pod, &host)));
            desired.own(Place::Container, Object::Route(on_link(gateway, container)));
            let prefix = IpNetwork::new(ip.address.network(), ip.address.prefix());
            if let Some(prefix) = prefix.ok().filter(|prefix| *prefix != pod) {
                let mut route = Route::new(prefix, container);
                route.gateway = Some(gateway.ip());
                route.source = Some(pod.ip());
                desired.own(Place::Container, Object::Route(route));
            }
            let forwarding = match pod {
                IpNetwork::V4(_) => "net/ipv4/ip_forward",
                IpNetwork::V6(_) => "net/ipv6/conf/all/forwarding",
            };
            let (key, value) = (forwarding.to_owned(), "1".to_owned());
            desired.share(Place::Host, Object::Sysctl { key, value });
        }
        inside::routes(&mut desired, container, &result);
        if self.masquerades {
            let addresses: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
            nat::declare(&mut desired, self.attachment, &addresses);
        }

        let mut inner = Interface::new(container);
        inner.sandbox = self.netns.to_string();
        result.interfaces = vec![Interface::new(host), inner];
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

fn no_gateway(address: IpNetwork) -> Error {
    let message =
        format!("{address} has no gateway, and a routed pair needs one: give it in \"ipam\"");
    Error::new(ErrorKind::InvalidConfig, message)
}
