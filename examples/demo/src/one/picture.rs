//! What was built, in characters.

use std::fmt::Write;

use super::node::{Node, UPLINK};
use super::pods::{BRIDGE, Pods};
use crate::attached::join;

pub(crate) fn draw(node: &Node, pods: &Pods) -> String {
    let gateways = pods
        .pods
        .first()
        .map(|pod| pod.gateways.join("  "))
        .unwrap_or_default();
    let mut text = String::new();
    let rows = [
        "outside host".to_owned(),
        format!("  eth0     {}", join(&node.outside_addresses)),
        "    │".to_owned(),
        "    │ cable".to_owned(),
        "    │".to_owned(),
        format!("  {UPLINK}   {}          node", join(&node.addresses)),
        "    ╎".to_owned(),
        "    ╎ routed; masqueraded on the way out (nftables)".to_owned(),
        "    ╎".to_owned(),
        format!("  {BRIDGE}     {gateways}          bridge"),
    ];
    for row in rows {
        let _ = writeln!(text, "{row}");
    }
    let count = pods.pods.len();
    for (position, pod) in pods.pods.iter().enumerate() {
        let corner = if position + 1 == count { '└' } else { '├' };
        let _ = writeln!(
            text,
            "    {corner}── {} ═══ eth0   {:<32} {}",
            pod.port,
            join(&pod.addresses),
            pod.name
        );
    }
    text
}
