//! What must exist for the limits: pure.

use crate::attach::derived_mac;
use crate::host::netlink::{Link, NetlinkChange, NewLink, NewLinkKind, Qdisc, Tbf, Traffic};
use crate::plan::{Desired, LinkSpec, Object, Place, Plan, Step};
use crate::spec::{Attachment, Interface};

use super::config::{BandwidthConfig, Limit};

/// How long a packet may wait in a queue, in milliseconds: what the reference plugin has. More than that is dropped.
const LATENCY_MS: u64 = 25;

/// `ETH_HLEN`: an MTU is without it, a token bucket counts it.
const ETHERNET_HEADER: u32 = 14;

/// The limits of the attachment whose end on the host this is.
pub fn desired(attachment: &Attachment, host_end: &Link, config: &BandwidthConfig) -> Desired {
    let mut desired = Desired::new();
    let tbf = |link: &str, limit: Limit| Object::Tbf {
        link: link.to_owned(),
        tbf: bucket(limit, host_end.mtu),
    };
    if let Some(limit) = config.ingress {
        desired.own(Place::Host, tbf(&host_end.name, limit));
    }
    if let Some(limit) = config.egress {
        let ifb = ifb(attachment, host_end);
        let name = ifb.name.clone();
        desired.own(Place::Host, Object::Link(ifb));
        desired.own(Place::Host, tbf(&name, limit));
        // To exchange the discipline of a link that is up, the kernel waits for all its readers.
        let mut up = LinkSpec::new(&name, None);
        // Nobody speaks IPv6 there.
        up.ipv6_link_local = false;
        desired.own(Place::Host, Object::Link(up));
        // Last, so that nothing is led to where it is not limited.
        let redirect = Object::Redirect {
            link: host_end.name.clone(),
            to: name,
        };
        desired.own(Place::Host, redirect);
    }
    desired
}

fn ifb(attachment: &Attachment, host_end: &Link) -> LinkSpec {
    let mut spec = LinkSpec::new(attachment.ifb_name().as_str(), Some(NewLinkKind::Ifb));
    // What is led through it is as large as what comes in.
    spec.mtu = Some(host_end.mtu);
    spec.mac = Some(derived_mac(&[
        "ifb",
        attachment.network.as_str(),
        attachment.container.as_str(),
        attachment.interface.as_str(),
    ]));
    spec.alias = Some(attachment.mark().to_string());
    spec.up = false;
    spec
}

/// The device as it goes into the result, when what the container sends is limited.
pub(super) fn interface(attachment: &Attachment, host_end: &Link) -> Interface {
    let spec = ifb(attachment, host_end);
    let mut interface = Interface::new(spec.name);
    interface.mac = spec.mac.map(|mac| mac.to_string()).unwrap_or_default();
    interface.mtu = host_end.mtu;
    interface
}

/// A limit as a token bucket on a link with this MTU.
///
/// A packet that is larger than the bucket is dropped, so that one with less room than a full packet would let nothing
/// through but the smallest: it is given that room. The rate is what was asked for.
fn bucket(limit: Limit, mtu: u32) -> Tbf {
    let rate = limit.rate / 8;
    let burst = u32::try_from(limit.burst / 8).unwrap_or(u32::MAX);
    let burst = burst.max(mtu.saturating_add(ETHERNET_HEADER));
    let waiting = u128::from(rate) * u128::from(LATENCY_MS) / 1000;
    Tbf {
        rate,
        burst,
        limit: u32::try_from(waiting + u128::from(burst)).unwrap_or(u32::MAX),
    }
}

/// Whether a limit's burst is too small for a full packet of this MTU, in bits, and what it is raised to.
pub(super) fn raised(limit: Limit, mtu: u32) -> Option<u64> {
    let burst = u64::from(bucket(limit, mtu).burst);
    (limit.burst / 8 < burst).then_some(burst * 8)
}

/// What removes the limits: from the host's end of the pair, of which this is known, and the device if it is there. What
/// others have set stays.
pub fn limits_to_remove(host_end: Option<(&str, &Traffic)>, ifb: Option<&str>) -> Plan {
    let mut plan = Plan::new();
    let mut push = |change: NetlinkChange, reason: String| {
        plan.push(Step::new(Place::Host, change.into(), reason));
    };
    if let Some((link, traffic)) = host_end {
        let place = || link.to_owned();
        let alone = traffic.ingress.as_deref() == Some("ingress") && !traffic.other_filters;
        // An ADD may have died between the place and its filter. That there is a device says that it was one of ours.
        if alone && (traffic.redirect.is_some() || ifb.is_some()) {
            let (link, qdisc) = (place(), Qdisc::Ingress);
            let reason = format!("what comes in by {link} is led away");
            push(NetlinkChange::QdiscDel { link, qdisc }, reason);
        } else if traffic.redirect.is_some() {
            let (link, to) = (place(), ifb.unwrap_or("-").to_owned());
            let reason = format!("what comes in by {link} is led away");
            push(NetlinkChange::RedirectDel { link, to }, reason);
        }
        if let Some(found) = traffic.tbf {
            let (link, qdisc) = (place(), Qdisc::Tbf(found.to_tbf()));
            let reason = format!("limit of {link}");
            push(NetlinkChange::QdiscDel { link, qdisc }, reason);
        }
    }
    if let Some(link) = ifb {
        let link = link.to_owned();
        let reason = format!("link {link}");
        push(NetlinkChange::LinkDel { link }, reason);
    }
    plan
}

/// Everything that limits need of the kernel, each with the drivers that do it: to be tried out in an empty namespace.
pub fn probe() -> [(NetlinkChange, &'static str); 4] {
    let (ifb, lo) = (|| "probe".to_owned(), || "lo".to_owned());
    let tbf = Tbf {
        rate: 125_000,
        burst: 15_000,
        limit: 30_000,
    };
    [
        (
            NetlinkChange::LinkAdd(NewLink::new(ifb(), NewLinkKind::Ifb)),
            "ifb",
        ),
        (
            NetlinkChange::QdiscAdd {
                link: ifb(),
                qdisc: Qdisc::Tbf(tbf),
            },
            "sch_tbf",
        ),
        (
            NetlinkChange::QdiscAdd {
                link: lo(),
                qdisc: Qdisc::Ingress,
            },
            "sch_ingress",
        ),
        (
            NetlinkChange::RedirectAdd {
                link: lo(),
                to: ifb(),
            },
            "cls_u32 and act_mirred",
        ),
    ]
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
