//! The backend: reads facts, declares, and leaves the rest to the flows of `cni_core::attach`.

use std::net::IpAddr;

use async_trait::async_trait;
use cni_core::attach::{self, Declaration, Elements, Wiring, ready};
use cni_core::backend::{
    AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest, NetworkBackend, StatusRequest,
};
use cni_core::host::firewall::FirewallChange;
use cni_core::host::netlink::{
    Link, LinkFilter, LinkKind, MacAddr, NetlinkChange, NetlinkError, NetlinkExt, errno,
};
use cni_core::plan::{Handles, Plan};
use cni_core::spec::{AddResult, NetworkConfig};
use cni_core::{Cancel, Error, ErrorKind, Result, nat};

use crate::config::BridgeConfig;
use crate::desired::{Expected, Facts, Input, declare, made_by_us, vlan_interface, vlan_port};
use crate::{facts, spoof};

/// The bridge backend. It has no state of its own: all of it is in the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bridge;

/// `CNI_ARGS` that this backend or address management beside it understands.
const KNOWN_ARGS: [&str; 3] = ["MAC", "IP", "GATEWAY"];

#[async_trait]
impl NetworkBackend for Bridge {
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added> {
        request.args.reject_unknown(&KNOWN_ARGS)?;
        let config = BridgeConfig::parse(request.config, Some(request.args))?;
        let facts = facts::read(cx.host, request.attachment, &config).await?;
        let wiring = BridgeWiring {
            input: Input {
                attachment: request.attachment,
                netns: &request.sandbox.path,
                config: &config,
                facts: &facts,
            },
        };
        let elements = spoof_elements(request.attachment.host_name().as_str(), None);
        attach::add(cx, request, &wiring, &elements).await
    }

    async fn seal(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<()> {
        attach::seal(cx, request).await
    }

    async fn del(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<()> {
        let Detach {
            uses_ipam,
            masquerades,
            elements,
        } = Detach::read(cx, request).await;
        attach::del(cx, request, uses_ipam, masquerades, &elements).await
    }

    async fn del_plan(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<Option<Plan>> {
        let Detach {
            uses_ipam,
            masquerades,
            elements,
        } = Detach::read(cx, request).await;
        let plan = attach::del_plan(cx, request, uses_ipam, masquerades, &elements).await?;
        Ok(Some(plan))
    }

    async fn check(&self, cx: &Context<'_>, request: &CheckRequest<'_>) -> Result<()> {
        let config = BridgeConfig::parse(request.config, Some(request.args))?;
        let mut facts = facts::read(cx.host, request.attachment, &config).await?;
        let drifts = expect(request, &config, &mut facts).await?;
        let ours = attach::of_prev_result(request);
        if config.has_ipam && ours.ips.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "prevResult has no address of {}: it is not this network's result",
                    request.attachment.interface
                ),
            ));
        }
        let input = Input {
            attachment: request.attachment,
            netns: &request.sandbox.path,
            config: &config,
            facts: &facts,
        };
        let Declaration { desired, .. } = declare(&input, ours)?;
        attach::check(cx, request, &desired, config.has_ipam, drifts).await
    }

    async fn gc(&self, cx: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
        // As in DEL.
        let config = BridgeConfig::parse(request.config, None);
        let elements = spoof_elements("", None);
        let mut errors = attach::gc(cx, request, uses_ipam(request.config), &elements).await;
        if let (Ok(config), true, false) = (&config, request.valid.is_empty(), cx.dry_run) {
            errors.extend(remove_shared(cx, request, config).await.err());
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    async fn status(&self, cx: &Context<'_>, request: &StatusRequest<'_>) -> Result<()> {
        let config = BridgeConfig::parse(request.config, None)?;
        let unavailable = |what: String, error: NetlinkError| {
            Error::new(ErrorKind::NotAvailable, what).with_source(error)
        };
        let bridge = cx.host.netlink.link(&config.bridge).await;
        let bridge =
            bridge.map_err(|error| unavailable("links cannot be read".to_owned(), error))?;
        if let Some(link) = bridge
            && !matches!(link.kind, LinkKind::Bridge { .. })
        {
            let name = &config.bridge;
            let message = format!(
                "{name} exists and is no bridge: remove it, or name another one in \"bridge\""
            );
            return Err(Error::new(ErrorKind::NotAvailable, message));
        }
        let wanted = [
            (config.ip_masq, nat::table(), "\"ipMasq\""),
            (config.mac_spoof_check, spoof::table(), "\"macspoofchk\""),
        ];
        for (_, table, key) in wanted.into_iter().filter(|(wanted, ..)| *wanted) {
            let read = cx.host.firewall.table(&table).await;
            read.map_err(|error| unavailable(format!("{key} needs nftables"), error))?;
        }
        match config.has_ipam {
            true => cx.ipam.status(request.network, request.config).await,
            false => Ok(()),
        }
    }
}

/// How one attachment is wired.
struct BridgeWiring<'a> {
    input: Input<'a>,
}

#[async_trait]
impl Wiring for BridgeWiring<'_> {
    fn uses_ipam(&self) -> bool {
        self.input.config.has_ipam
    }

    fn declare(&self, addresses: AddResult) -> Result<Declaration> {
        declare(&self.input, addresses)
    }

    async fn finish(
        &self,
        handles: &Handles<'_>,
        result: &mut AddResult,
        cancel: &Cancel,
    ) -> Result<()> {
        let config = self.input.config;
        let host = handles.host.netlink.as_ref();
        let container = self.input.attachment.interface.as_str();
        let Some(sandbox) = handles.sandbox else {
            return Ok(());
        };
        // Links as they are once they are ready; the rest is read for the result.
        let (mut outside, mut inside): (Vec<Link>, Vec<Link>) = (Vec::new(), Vec::new());
        if !config.disable_container_interface {
            let ours = self.input.attachment.network.shared_alias();
            let foreign = |bridge: &Link| !made_by_us(bridge, &ours);
            let until = match &self.input.facts.bridge {
                Some(bridge) if foreign(bridge) => ready::Until::ForwardingIfPossible,
                _ => ready::Until::Forwarding,
            };
            let name = self.input.attachment.host_name();
            outside.push(ready::link(host, name.as_str(), until, cancel).await?);
            let inner = sandbox.netlink.as_ref();
            let link = ready::link(inner, container, ready::Until::Up, cancel).await?;
            if config.is_gateway {
                outside.push(ready::link(host, &config.bridge, ready::Until::Up, cancel).await?);
            }
            if config.enable_dad && result.ips.iter().any(|ip| ip.address.is_ipv6()) {
                ready::addresses(inner, container, cancel).await?;
            }
            if config.is_gateway {
                let gateways = result.ips.iter().filter_map(|ip| ip.gateway);
                ready::delivered(host, gateways.collect::<Vec<_>>(), cancel).await?;
            }
            let own: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
            ready::delivered(inner, own, cancel).await?;
            if !result.ips.is_empty() {
                ready::announce(inner, &link).await?;
            }
            inside.push(link);
        }
        for interface in &mut result.interfaces {
            let (netlink, known) = match interface.sandbox.is_empty() {
                true => (host, &outside),
                false => (sandbox.netlink.as_ref(), &inside),
            };
            let link = match known.iter().find(|link| link.name == interface.name) {
                Some(link) => Some(link.clone()),
                None => netlink.link(&interface.name).await?,
            };
            if let Some(link) = link {
                interface.mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
                interface.mtu = link.mtu;
            }
        }
        Ok(())
    }
}

/// What DEL needs of the configuration. What cannot be read of that is no reason to leave something behind.
struct Detach {
    uses_ipam: bool,
    masquerades: bool,
    elements: Vec<Elements>,
}

impl Detach {
    async fn read(cx: &Context<'_>, request: &DelRequest<'_>) -> Self {
        let asked = BridgeConfig::parse(request.config, Some(request.args));
        let config = asked.or_else(|_| BridgeConfig::parse(request.config, None));
        let config = config.ok();
        Self {
            uses_ipam: uses_ipam(request.config),
            masquerades: config.as_ref().is_none_or(|config| config.ip_masq),
            elements: elements_of(cx, request, config.as_ref()).await,
        }
    }
}

/// Whether addresses may have been reserved; where `ipam` makes no sense, releasing says why.
fn uses_ipam(config: &NetworkConfig) -> bool {
    let kind = config.ipam_type();
    kind.map_or(true, |kind| kind.is_some_and(|kind| !kind.is_empty()))
}

/// Where the spoof check keeps elements of a port: under the keys of `macs` where these are known.
fn spoof_elements(port: &str, macs: Option<Vec<MacAddr>>) -> Vec<Elements> {
    let allowed = macs.map(|macs| {
        macs.into_iter()
            .map(|mac| spoof::allowed_key(port, mac))
            .collect()
    });
    vec![
        Elements {
            table: spoof::table(),
            set: spoof::GUARDED.to_owned(),
            keys: Some(vec![spoof::guarded_key(port)]),
        },
        Elements {
            table: spoof::table(),
            set: spoof::ALLOWED.to_owned(),
            keys: allowed,
        },
    ]
}

/// The same for DEL: an attachment that is not guarded costs one look.
async fn elements_of(
    cx: &Context<'_>,
    request: &DelRequest<'_>,
    config: Option<&BridgeConfig>,
) -> Vec<Elements> {
    let port = request.attachment.host_name();
    let (table, key) = (spoof::table(), spoof::guarded_key(port.as_str()));
    let guarded = cx.host.firewall.element(&table, spoof::GUARDED, &key).await;
    let asked = config.is_none_or(|config| config.mac_spoof_check);
    match guarded {
        Ok(None) if !asked => return Vec::new(),
        // Where there are no tables of the bridge family, there is nothing in one.
        Err(error) if error.errno == errno::EOPNOTSUPP => return Vec::new(),
        _ => {}
    }
    let interface = request.attachment.interface.as_str();
    let known = request
        .prev_result
        .into_iter()
        .flat_map(|result| &result.interfaces)
        .filter(|found| found.name == interface && !found.sandbox.is_empty())
        .filter_map(|found| found.mac.parse().ok());
    let mut macs: Vec<MacAddr> = known.collect();
    if macs.is_empty() {
        return spoof_elements(port.as_str(), None);
    }
    // The result is the chain's: a later plugin may have changed the address.
    macs.push(facts::container_mac(request.attachment));
    macs.extend(config.and_then(|config| config.mac));
    spoof_elements(port.as_str(), Some(macs))
}

/// What the previous result says of the links goes into `facts`; what is wrong with the result itself is returned.
async fn expect(
    request: &CheckRequest<'_>,
    config: &BridgeConfig,
    facts: &mut Facts,
) -> Result<Vec<String>> {
    let interfaces = &request.prev_result.interfaces;
    let interface = request.attachment.interface.as_str();
    let port = request.attachment.host_name();
    let of_host = |name: &str| {
        let found =
            |found: &&cni_core::spec::Interface| found.name == name && found.sandbox.is_empty();
        interfaces.iter().find(found)
    };
    let mac =
        |found: Option<&cni_core::spec::Interface>| found.and_then(|found| found.mac.parse().ok());
    let mtu = |found: Option<&cni_core::spec::Interface>| {
        found.map(|found| found.mtu).filter(|mtu| *mtu != 0)
    };
    let container = interfaces
        .iter()
        .find(|found| found.name == interface && !found.sandbox.is_empty());
    let mut drifts = Vec::new();
    let netns = request.sandbox.path.to_string();
    match container {
        Some(found) if found.sandbox != netns => drifts.push(format!(
            "prevResult has {interface} in {}, CNI_NETNS is {netns}",
            found.sandbox
        )),
        // Results before 0.3.0 have no interfaces.
        None if !interfaces.is_empty() => {
            drifts.push(format!(
                "prevResult has no interface {interface} in the container"
            ));
        }
        _ => {}
    }
    match mac(container) {
        Some(mac) => facts.container_mac = mac,
        None => {
            let link = request.sandbox.netlink.link(interface).await?;
            if let Some(mac) = link.and_then(|link| link.mac) {
                facts.container_mac = mac;
            }
        }
    }
    facts.expected = Some(Expected {
        bridge_mac: mac(of_host(&config.bridge)),
        host_mac: mac(of_host(port.as_str())),
        mtu: mtu(of_host(port.as_str())).or(facts.bridge.as_ref().map(|bridge| bridge.mtu)),
        container_mtu: mtu(container),
    });
    Ok(drifts)
}

/// With no attachment left: the bridge that we made, if nothing else is plugged in, and the spoof check's table.
async fn remove_shared(
    cx: &Context<'_>,
    request: &GcRequest<'_>,
    config: &BridgeConfig,
) -> Result<()> {
    let Some(_alone) = cx.host.lock.try_exclusive().await? else {
        return Ok(());
    };
    let (netlink, firewall) = (cx.host.netlink.as_ref(), cx.host.firewall.as_ref());
    let table = spoof::table();
    if firewall.table(&table).await?.is_some()
        && firewall.elements(&table, spoof::GUARDED).await?.is_empty()
        && firewall.elements(&table, spoof::ALLOWED).await?.is_empty()
    {
        firewall
            .commit(&[FirewallChange::TableDel(table.clone())])
            .await?;
    }
    let Some(bridge) = netlink.link(&config.bridge).await? else {
        return Ok(());
    };
    if !made_by_us(&bridge, &request.network.shared_alias()) {
        return Ok(());
    }
    let gateway_port = vlan_port(config);
    let ports = netlink.links(LinkFilter::Master(&config.bridge)).await?;
    if ports
        .iter()
        .any(|port| Some(&port.name) != gateway_port.as_ref())
    {
        return Ok(());
    }
    let gateway = vlan_interface(config).filter(|_| !ports.is_empty());
    for link in gateway.into_iter().chain([config.bridge.clone()]) {
        netlink.apply_one(NetlinkChange::LinkDel { link }).await?;
    }
    Ok(())
}
