//! Routes that another program has left on our device.

use crate::fabric::diff::{Act, Why};
use crate::fabric::hash::Seed;
use crate::fabric::index::Index;
use crate::fabric::items::Item;
use crate::host::forwarding::{Entry, Hop, Route, Via};

use super::tiny::{PROTOCOL, route};

/// `PREFIX via GATEWAY dev LINK onlink`, which nobody's protocol marks.
fn by_hand(prefix: &str, gateway: &str, link: &str) -> Route {
    Route {
        destination: prefix.parse().unwrap(),
        table: 254,
        metric: 0,
        protocol: 3,
        via: Via::Hop(Box::new(Hop {
            link: link.into(),
            gateway: Some(gateway.parse().unwrap()),
            onlink: true,
            encap: None,
        })),
    }
}

#[test]
fn a_route_as_flannel_makes_it_goes_where_the_device_is_ours_and_others_stay() {
    let flannels = by_hand("10.244.1.0/24", "10.244.1.0", "flannel.1");
    let of_nobody = by_hand("10.244.9.0/24", "10.244.9.0", "flannel.1");
    let marked = Route {
        protocol: 84,
        ..flannels.clone()
    };
    let ours = route(flannels.destination, 0, Via::NextHop(1));
    let all = [
        flannels.clone(),
        of_nobody.clone(),
        by_hand("10.244.1.0/24", "10.244.1.0", "eth1"),
        by_hand("10.7.0.0/24", "10.244.1.0", "flannel.1"),
        marked,
    ];
    for (device, gone, clashes) in [
        (Some("flannel.1".into()), vec![&flannels, &of_nobody], 2),
        (None, Vec::new(), 3),
    ] {
        let mut index = Index::new(Seed::random(), PROTOCOL).with_device(device);
        index.want(&ours, 1);
        index.seal();
        for route in &all {
            index.see(Item::Entry(Entry::Route(route.clone())), None);
        }
        assert_eq!(index.clashes().len(), clashes);
        // Ours is asked first, before Flannel's has gone.
        let mut steps = Vec::new();
        index.steps(ours.clone(), 1, &mut steps);
        assert_eq!(steps[0].told.act, Act::Prepend);
        let removals = index.removals();
        assert!(removals.iter().all(|step| step.told.why == Why::Left));
        let gone = gone.into_iter().cloned();
        let gone: Vec<Item> = gone.map(|route| Item::Entry(Entry::Route(route))).collect();
        let removed: Vec<Item> = removals.into_iter().map(|step| step.item).collect();
        assert_eq!(removed, gone);
    }
}
