//! Flannel's own configuration, read where its keys are joined.

use super::api::{RangeAnswer, range};
use super::client::{Client, Failure};
use super::config::EtcdConfig;
use super::flannel::Shared;
use super::layout::Layout;
use super::ranges::Range;

/// Compares Flannel's configuration with this one; where nodes' prefixes come from by it. `None` where there is nothing to compare:
/// with another layout, or without the key.
///
/// # Errors
/// [`Failure`]; that it cannot be joined is a refusal that names both values.
pub(super) async fn meet(
    client: &mut Client,
    config: &EtcdConfig,
    layout: &Layout,
) -> Result<Option<Range>, Failure> {
    if !layout.is_one_key() {
        return Ok(None);
    }
    let key = format!("{}/config", config.prefix);
    let asked = range(key.as_bytes(), &[], 1, 0);
    let answer: RangeAnswer = client.call("/v3/kv/range", &asked).await?;
    let Some(found) = answer.kvs.first() else {
        if config.networks.is_empty() {
            return Err(Failure::Refused(format!(
                "there is no key {key} in etcd, which tells where prefixes come from: write Flannel's configuration there, or set \
                 `cluster.etcd.podNetworks`"
            )));
        }
        return Ok(None);
    };
    let refused =
        |why: String| Failure::Refused(format!("Flannel's network cannot be joined: {key}: {why}"));
    let shared = Shared::parse(&found.value).map_err(refused)?;
    let range = shared.join(config, layout.tunnel()).map_err(refused)?;
    if shared.has_ipv6() {
        tracing::info!("Flannel's network has IPv6, too, and is joined by IPv4 alone");
    }
    Ok(Some(range))
}
