//! Flows that would go on where their port led before.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::conntrack::{Flow, FlowFilter};
use crate::host::netlink::{NetlinkError, errno};

use super::publication::Publication;

/// Forgets the flows of these ports that lead elsewhere: to the host itself, or to a pod that is gone. Flows to other hosts
/// that pass through this one are nobody's here.
pub(super) async fn forget_before(host: &Host, publications: &[Publication]) -> Result<()> {
    let mut is_local = BTreeMap::new();
    forget(
        host,
        publications,
        |port| FlowFilter {
            destination: port.host,
            destination_port: Some(port.host_port),
            ..FlowFilter::of(port.pod.is_ipv6(), port.protocol)
        },
        |flow, port| flow.reply_source != port.target(),
        Some(&mut is_local),
    )
    .await
}

/// Forgets the flows that these ports have led to the pod.
pub(super) async fn forget_after(host: &Host, publications: &[Publication]) -> Result<()> {
    forget(
        host,
        publications,
        |port| FlowFilter {
            destination: port.host,
            destination_port: Some(port.host_port),
            reply_source: Some(port.pod),
            reply_source_port: Some(port.port),
            ..FlowFilter::of(port.pod.is_ipv6(), port.protocol)
        },
        |_, _| true,
        None,
    )
    .await
}

/// One look at the kernel's flows for a family's ports, however many they are: it goes through all of them each time.
async fn forget(
    host: &Host,
    publications: &[Publication],
    filter: impl Fn(&Publication) -> FlowFilter,
    is_meant: impl Fn(&Flow, &Publication) -> bool,
    mut only_local: Option<&mut BTreeMap<IpAddr, bool>>,
) -> Result<()> {
    let mut errors = Vec::new();
    for is_ipv6 in [false, true] {
        let ports: Vec<&Publication> = publications
            .iter()
            .filter(|port| port.is_connectionless() && port.pod.is_ipv6() == is_ipv6)
            .collect();
        let Some(first) = ports.first() else {
            continue;
        };
        let wide = match ports.len() {
            1 => filter(first),
            _ => FlowFilter::of(is_ipv6, first.protocol),
        };
        let mut found = match host.conntrack.flows(&wide).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => continue,
            Err(error) => {
                errors.push(error.into());
                continue;
            }
        };
        found.retain(|flow| {
            let meant = |port: &&Publication| filter(port).matches(flow) && is_meant(flow, port);
            ports.iter().any(meant)
        });
        if let Some(known) = only_local.as_deref_mut() {
            found = local(host, found, known).await?;
        }
        if !found.is_empty() {
            tracing::debug!(count = found.len(), "forgetting flows");
            errors.extend(host.conntrack.delete(&found).await.err().map(Error::from));
        }
    }
    Error::join(errors).map_or(Ok(()), Err)
}

/// Without connection tracking over netlink a port can still be published; flows then end when they are silent.
fn is_missing(error: &NetlinkError) -> bool {
    let missing = [errno::EOPNOTSUPP, errno::EPROTONOSUPPORT].contains(&error.errno);
    if missing {
        tracing::warn!(%error, "flows of the ports before cannot be forgotten");
    }
    missing
}

/// Those that go to an address of this host.
async fn local(
    host: &Host,
    flows: Vec<Flow>,
    known: &mut BTreeMap<IpAddr, bool>,
) -> Result<Vec<Flow>> {
    let mut all = Vec::new();
    for flow in flows {
        let address = flow.destination.ip();
        let is_local = match known.get(&address) {
            Some(is_local) => *is_local,
            None => {
                let is_local = host.netlink.is_local(address).await?;
                known.insert(address, is_local);
                is_local
            }
        };
        if is_local {
            all.push(flow);
        }
    }
    Ok(all)
}
