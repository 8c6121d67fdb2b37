//! What the host is like.

use std::net::IpAddr;

use crate::error::Result;
use crate::host::Host;
use crate::host::firewall::Value;

use crate::spec::Attachment;

use super::config::PortmapConfig;
use super::desired::{Facts, localnet_key};
use super::hairpin;
use super::publication::Publication;
use super::table::{LOCALNET, table};

/// Reads what the declaration depends on: a handful of requests, whatever the host's size.
pub(super) async fn read(
    host: &Host,
    config: &PortmapConfig,
    attachment: &Attachment,
    publications: &[Publication],
) -> Result<Facts> {
    let mut facts = Facts::default();
    if !config.snat {
        return Ok(facts);
    }
    let pod = |v4: bool| {
        let mut pods = publications.iter().map(|publication| publication.pod);
        pods.find(|pod| pod.is_ipv4() == v4)
    };
    facts.link4 = link_to(host, pod(true)).await?;
    facts.link6 = link_to(host, pod(false)).await?;
    facts.hairpin_port = hairpin::port(host, attachment).await?;
    if let Some(link) = &facts.link4 {
        let open = host.sysctl.read(&localnet_key(link)).await?;
        let key = [Value::Interface(link.clone())];
        facts.localnet_is_open = open.as_deref() == Some("1")
            && host
                .firewall
                .element(&table(), LOCALNET, &key)
                .await?
                .is_none();
    }
    Ok(facts)
}

async fn link_to(host: &Host, pod: Option<IpAddr>) -> Result<Option<String>> {
    let Some(pod) = pod else {
        return Ok(None);
    };
    let link = host.netlink.link_to(pod).await?;
    // Where the pod's address is the host's own nothing leads to the pod.
    let link = link.filter(|link| link != "lo");
    if link.is_none() {
        tracing::warn!(%pod, "no route leads to the pod: its ports can be published, and will not be reached");
    }
    Ok(link)
}
