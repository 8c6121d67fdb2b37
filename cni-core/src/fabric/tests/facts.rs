//! What is read of the host.

use ipnetwork::IpNetwork;

use crate::fabric::{Fabric, facts};
use crate::host::forwarding::{Change, Entry, Hop, Route, Via};

use super::engine::node;
use super::tiny::{FLOW, PROTOCOL};

#[tokio::test]
async fn routes_of_people_say_what_is_in_a_segment_and_others_do_not() {
    let (_, host) = node().await;
    let route = |destination: &str, protocol, gateway: Option<&str>| {
        Change::Add(Entry::Route(Route {
            destination: destination.parse().unwrap(),
            table: 254,
            metric: 5,
            protocol,
            via: Via::Hop(Box::new(Hop {
                link: "eth0".into(),
                gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                onlink: false,
                encap: None,
            })),
        }))
    };
    let changes = [
        route("198.51.100.0/24", 4, None),
        route("203.0.113.0/24", 16, None),
        route("192.0.2.128/25", 4, Some("192.0.2.9")),
        // Its own, a routing daemon's, another network's for a pod, a point-to-point link's.
        route("10.244.1.0/24", PROTOCOL, None),
        route("10.1.0.0/24", 12, None),
        route("10.1.1.1/32", 80, None),
        route("0.0.0.0/0", 4, None),
    ];
    assert!(host.forwarding.write(&changes).await.is_empty());
    let read = facts::read(&host, &FLOW.owner()).await.unwrap();
    let uplinks = read.facts.uplinks;
    assert_eq!(uplinks.len(), 1);
    let expected = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];
    let expected = expected.map(|prefix| prefix.parse::<IpNetwork>().unwrap());
    assert_eq!(uplinks[0].on_link, expected);
}
