//! What the kernel does by itself and says nothing of: the contract names an event that stands for it.

use cni_core::host::KernelEvent;
use cni_core::host::forwarding::*;

use super::support::*;

/// A peer by each data path and family.
const PEER: &str = "
    ip nexthop add id 7 via 10.244.7.0 dev vx onlink protocol 167
    ip -6 nexthop add id 8 encap ip id 1 dst 192.0.2.2 dev flow protocol 167
    ip route add 10.244.7.0/24 nhid 7 proto 167
    ip route add 10.244.8.0/24 nhid 8 proto 167
    ip route add 10.244.9.0/24 via 10.244.9.0 dev vx onlink proto 167
    ip -6 route add fd00:244:8::/64 nhid 8 proto 167";

/// If a later kernel says more, nothing is lost; if it says less, this fails.
pub(crate) fn what_goes_with_a_link_is_told_by_the_links_event() {
    node();
    shell(PEER);
    let mut watch = Watch::open();
    let down = "for link in vx flow; do ip link set $link down; done";
    for (change, gone) in [(down, false), ("ip link del vx; ip link del flow", true)] {
        let events = watch.after(change);
        assert!(events.iter().any(link("vx", gone)), "{change}: {events:?}");
        assert!(
            events.iter().any(link("flow", gone)),
            "{change}: {events:?}"
        );
        assert_eq!(of_next_hops_and_ipv4_routes(&events), 0, "{events:?}");
        let left = shell("ip nexthop; ip route show proto 167; ip -6 route show proto 167");
        assert_eq!(left, "");
    }
}

pub(crate) fn what_goes_with_a_next_hop_is_told_by_the_next_hops_event() {
    node();
    shell(PEER);
    let mut watch = Watch::open();
    let events = watch.after("ip nexthop del id 8");
    let ipv6 = route("fd00:244:8::/64", 1024, Via::NextHop(8));
    assert!(events.contains(&removed(next_hop(8, tunnelled("192.0.2.2")))));
    assert!(events.contains(&removed(ipv6)), "{events:?}");
    assert_eq!(of_next_hops_and_ipv4_routes(&events), 1, "{events:?}");
    assert_eq!(shell("ip route show 10.244.8.0/24"), "");
}

fn of_next_hops_and_ipv4_routes(events: &[KernelEvent]) -> usize {
    let counts = |event: &&KernelEvent| match event {
        KernelEvent::Entry { entry, .. } => match entry {
            Entry::NextHop(_) => true,
            Entry::Route(route) => route.destination.is_ipv4(),
            _ => false,
        },
        _ => false,
    };
    events.iter().filter(counts).count()
}
