//! What must be in the zone: a pure function.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::Wanted;
use crate::cluster::Node;
use crate::fabric::Entrance;
use crate::host::zones::ZoneMember;

/// What the members follow from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// `firewalldZone`.
    pub zone: &'a str,
    /// The node's own prefixes.
    pub own: &'a [IpNetwork],
    /// By what peers' packets come in.
    pub entrance: &'a Entrance,
    /// Peers' packets may come by the uplink ([`Network::direct`](crate::node::Network::direct)).
    pub direct: bool,
    /// Prefixes that hold all pods of the cluster, where they are known.
    pub cluster: &'a [IpNetwork],
}

/// The members: what holds all pods stands for each of them.
pub fn wanted<'a>(input: &Input<'_>, peers: impl Iterator<Item = &'a Node>) -> Wanted {
    let Entrance {
        device,
        port,
        withheld,
        uplinks,
    } = input.entrance;
    let interface = |device: &Arc<str>| ZoneMember::Interface(device.to_string());
    let mut members: BTreeSet<ZoneMember> = device.iter().map(interface).collect();
    if !input.direct {
        members.extend(input.own.iter().copied().map(ZoneMember::Source));
    } else {
        let peers = peers.flat_map(|peer| peer.prefixes.iter());
        let all = input.own.iter().chain(peers);
        members.extend(all.map(|prefix| ZoneMember::Source(holder(*prefix, input.cluster))));
    }
    Wanted {
        withheld: withheld.clone(),
        zone: input.zone.to_owned(),
        members,
        port: port.map(|port| (port, uplinks.iter().map(|link| link.to_string()).collect())),
    }
}

/// The cluster's prefix that a node's is in; itself where it is in none.
fn holder(prefix: IpNetwork, cluster: &[IpNetwork]) -> IpNetwork {
    let holds = |larger: &&IpNetwork| {
        larger.is_ipv6() == prefix.is_ipv6()
            && larger.prefix() <= prefix.prefix()
            && larger.contains(prefix.network())
    };
    cluster.iter().find(holds).copied().unwrap_or(prefix)
}
