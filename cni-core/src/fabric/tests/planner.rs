//! What is planned, applied change by change.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use proptest::prelude::*;

use super::cluster::{Cluster, cluster, forms, history};
use super::kernel::Model;
use super::tiny::{ALL, CLASSIC, FLOW, INLINE, PROTOCOL, Tiny, route};
use crate::cluster::{Node, NodeUid};
use crate::fabric::diff::{Act, Step, Steps, Told, Why, delta, in_order};
use crate::fabric::hash::Seed;
use crate::fabric::ids::{Ids, Source};
use crate::fabric::index::{Index, Part, Whose};
use crate::fabric::items::{Item, Member};
use crate::fabric::{Base, Fabric, Facts};
use crate::host::forwarding::{Change, Entry, Route, Via};

/// The kernel with the members of its sets.
#[derive(Default)]
struct World {
    kernel: Model,
    members: BTreeSet<Member>,
}

impl World {
    fn apply(&mut self, steps: &Steps) {
        for step in steps.makes.iter().chain(&steps.removals) {
            match (step.change(), &step.item) {
                (Some(change), _) => self.kernel.apply(&change).unwrap_or_else(|errno| {
                    panic!("{change:?} fails with {errno}, because {:?}", step.told.why)
                }),
                (None, Item::Member(member)) if step.told.act == Act::Add => {
                    assert!(self.members.insert(member.clone()), "{step:?}");
                }
                (None, Item::Member(member)) => assert!(self.members.remove(member), "{step:?}"),
                _ => unreachable!(),
            }
        }
    }

    /// The prefixes that a route must lead to at every moment from now on.
    fn watch(&mut self, cluster: &Cluster, next: &Cluster) {
        let prefixes = |cluster: &Cluster| -> BTreeSet<(u32, IpNetwork)> {
            let reachable = cluster
                .values()
                .filter(|node| node.underlay(false).is_some());
            let all = reachable.flat_map(|node| &node.prefixes);
            all.map(|prefix| (254, *prefix)).collect()
        };
        let both = prefixes(cluster)
            .intersection(&prefixes(next))
            .copied()
            .collect();
        self.kernel.state().watched = both;
    }

    fn state(&self) -> (BTreeSet<String>, BTreeSet<Member>) {
        (self.kernel.entries(), self.members.clone())
    }
}

fn items(fabric: Tiny, node: &Node, ids: &Ids, whose: Whose) -> Vec<(Item, Whose)> {
    let (base, facts) = (Base::default(), Facts::default());
    let items = fabric.peer(
        &Node::new(NodeUid::new("me"), "me"),
        &base,
        &facts,
        ids,
        node,
    );
    items.items.into_iter().map(|item| (item, whose)).collect()
}

fn all_items(fabric: Tiny, cluster: &Cluster, ids: &Ids) -> Vec<(Item, Whose)> {
    let nodes = cluster.values().zip(1..);
    nodes
        .flat_map(|(node, whose)| items(fabric, node, ids, whose))
        .collect()
}

/// A pass over everything.
fn full(fabric: Tiny, world: &World, cluster: &Cluster, ids: &Ids) -> Steps {
    let mut index = Index::new(Seed::random(), PROTOCOL);
    let wanted = all_items(fabric, cluster, ids);
    for (item, whose) in &wanted {
        index.want(item, *whose);
    }
    index.seal();
    for entry in world.kernel.state().all() {
        index.see(Item::Entry(entry), None);
    }
    for member in &world.members {
        index.see(Item::Member(member.clone()), None);
    }
    let mut steps = Steps::default();
    for part in [Part::Members, Part::Entries] {
        let lacking = index.lacking(part);
        let of_part = wanted.iter().filter(|(item, _)| part.has(item));
        for (item, whose) in of_part.filter(|(_, whose)| lacking.contains(*whose)) {
            index.steps(item.clone(), *whose, &mut steps.makes);
        }
        assert!((0..99).all(|whose| !index.lacking(part).contains(whose)));
    }
    in_order(&mut steps.makes);
    steps.removals = index.removals();
    steps
}

/// What one change of the cluster comes to, of the nodes that changed alone.
fn update(fabric: Tiny, before: &Cluster, after: &Cluster, ids: &Ids) -> Steps {
    let uids: BTreeSet<&NodeUid> = before.keys().chain(after.keys()).collect();
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for (uid, whose) in uids.into_iter().zip(1..) {
        let (was, is) = (before.get(uid), after.get(uid));
        if was != is {
            old.extend(
                was.into_iter()
                    .flat_map(|node| items(fabric, node, ids, whose)),
            );
            new.extend(
                is.into_iter()
                    .flat_map(|node| items(fabric, node, ids, whose)),
            );
        }
    }
    delta(Seed::random(), PROTOCOL, old, new)
}

fn ids(fabric: Tiny, cluster: &Cluster, bits: u32) -> Ids {
    let from = Source {
        protocol: PROTOCOL,
        addresses: fabric.hops_by_address(),
        mask: (1 << bits) - 1,
    };
    Ids::of(from, || cluster.values())
}

fn fresh(fabric: Tiny, cluster: &Cluster, bits: u32) -> World {
    let mut world = World::default();
    let steps = full(fabric, &world, cluster, &ids(fabric, cluster, bits));
    assert!(steps.removals.is_empty());
    world.apply(&steps);
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_history_ends_as_a_fresh_start_and_never_leaves_traffic_nowhere_to_go(
        history in history(),
        bits in prop_oneof![Just(5_u32), Just(30)],
    ) {
        for fabric in ALL {
            for form in forms(&history) {
                let (mut by_full, mut by_update) = (World::default(), World::default());
                let mut last = Cluster::new();
                for next in &form {
                    by_full.watch(&last, next);
                    by_update.watch(&last, next);
                    let new_ids = ids(fabric, next, bits);
                    by_full.apply(&full(fabric, &by_full, next, &new_ids));

                    let mut old_ids = ids(fabric, &last, bits);
                    let same = |node: &&Node, other: &Cluster| {
                        let other = other.get(&node.uid);
                        other.is_some_and(|other| !new_ids.differ(node, other))
                    };
                    let gone = last.values().filter(|node| !same(node, next));
                    let mut outcome = gone.map(|node| old_ids.remove(node)).collect::<Vec<_>>();
                    let come = next.values().filter(|node| !same(node, &last));
                    outcome.extend(come.map(|node| old_ids.add(node)));
                    let steps = if outcome.iter().all(Result::is_ok) {
                        update(fabric, &last, next, &new_ids)
                    } else {
                        full(fabric, &by_update, next, &new_ids)
                    };
                    by_update.apply(&steps);

                    let wanted = fresh(fabric, next, bits).state();
                    prop_assert_eq!(&by_full.state(), &wanted);
                    prop_assert_eq!(&by_update.state(), &wanted);
                    prop_assert_eq!(full(fabric, &by_full, next, &new_ids), Steps::default());
                    last = next.clone();
                }
            }
        }
    }

    #[test]
    fn a_change_of_the_way_peers_are_reached_leaves_no_remains(
        before in cluster(),
        after in cluster(),
        from in 0..ALL.len(),
        to in 0..ALL.len(),
    ) {
        let (from, to) = (ALL[from], ALL[to]);
        let mut world = fresh(from, &before, 30);
        world.watch(&before, &after);
        let steps = full(to, &world, &after, &ids(to, &after, 30));
        world.apply(&steps);
        prop_assert_eq!(world.state(), fresh(to, &after, 30).state());
    }

    #[test]
    fn whatever_is_damaged_is_mended_and_nothing_foreign_is_touched(
        cluster in cluster(),
        damage in proptest::collection::vec((0_usize..200, 0_u8..3), 0..12),
        foreign in proptest::collection::vec((0_u8..9, 0_u32..3, any::<bool>()), 0..4),
    ) {
        for fabric in ALL {
            let mut world = fresh(fabric, &cluster, 30);
            let wanted = world.state();
            for (place, how) in &damage {
                harm(&world, *place, *how);
            }
            let foreign: Vec<Entry> = foreign.iter().map(|(n, metric, first)| {
                strange(&world, *n, *metric, *first)
            }).collect();
            let steps = full(fabric, &world, &cluster, &ids(fabric, &cluster, 30));
            world.apply(&steps);
            let mut expected = wanted.0.clone();
            expected.extend(foreign.iter().map(|entry| format!("{entry:?}")));
            prop_assert_eq!(&world.state().0, &expected);
            prop_assert_eq!(full(fabric, &world, &cluster, &ids(fabric, &cluster, 30)), Steps::default());
            ours_first(&world);
        }
    }
}

/// Removes an entry, makes it lead elsewhere, or puts a stray one of ours there.
fn harm(world: &World, place: usize, how: u8) {
    let entries = world.kernel.state().all();
    let Some(entry) = entries.get(place % entries.len().max(1)) else {
        return;
    };
    if how == 0 {
        world.kernel.apply(&Change::Del(entry.clone())).unwrap();
        return;
    }
    let mut entry = entry.clone();
    match &mut entry {
        Entry::NextHop(hop) if how == 1 => hop.hop.onlink = !hop.hop.onlink,
        Entry::NextHop(hop) => hop.id = 7,
        Entry::Route(route) if how == 1 => route.via = Via::Unreachable,
        Entry::Route(route) => route.metric = 77,
        Entry::Neighbour(neighbour) if how == 1 => neighbour.mac.0[5] ^= 1,
        Entry::Neighbour(neighbour) => neighbour.address = "203.0.113.9".parse().unwrap(),
        Entry::Fdb(entry) if how == 1 => entry.remote = "203.0.113.9".parse().unwrap(),
        Entry::Fdb(entry) => entry.mac.0[4] ^= 1,
        Entry::Rule(rule) => rule.priority += 1,
    }
    world.kernel.apply(&Change::Replace(entry)).unwrap();
}

/// Another program's route, before or behind ours.
fn strange(world: &World, n: u8, metric: u32, first: bool) -> Entry {
    let destination: IpNetwork = format!("10.244.{n}.0/24").parse().unwrap();
    let route = Route {
        destination,
        table: 254,
        metric,
        protocol: 4,
        via: Via::Unreachable,
    };
    let mut state = world.kernel.state();
    if !state.routes.contains(&route) {
        if first {
            state.routes.insert(0, route.clone());
        } else {
            state.routes.push(route.clone());
        }
    }
    Entry::Route(route)
}

/// Of several routes of one key, ours is asked first.
fn ours_first(world: &World) {
    let mut seen = BTreeMap::new();
    for route in &world.kernel.state().routes {
        let key = (route.table, route.destination, route.metric);
        let first = *seen.entry(key).or_insert(route.protocol);
        assert!(first == PROTOCOL || route.protocol != PROTOCOL, "{route:?}");
    }
}

fn two_nodes() -> Cluster {
    let node = |n: u8| {
        let mut node = Node::new(NodeUid::new(&format!("uid-{n}")), &format!("n{n}"));
        node.prefixes = vec![format!("10.244.{n}.0/24").parse().unwrap()];
        node.underlay = vec![format!("192.0.2.{n}").parse().unwrap()];
        (node.uid.clone(), node)
    };
    [1, 2].map(node).into()
}

fn acts(steps: &Steps) -> Vec<(Act, &'static str)> {
    let name = |item: &Item| match item {
        Item::Member(_) => "member",
        Item::Entry(Entry::Fdb(_)) => "fdb",
        Item::Entry(Entry::Neighbour(_)) => "neighbour",
        Item::Entry(Entry::NextHop(_)) => "next hop",
        Item::Entry(Entry::Route(_)) => "route",
        Item::Entry(Entry::Rule(_)) => "rule",
    };
    let all = steps.makes.iter().chain(&steps.removals);
    let mut acts: Vec<_> = all.map(|step| (step.told.act, name(&step.item))).collect();
    acts.dedup();
    acts
}

#[test]
fn a_prefix_that_moves_between_peers_is_one_replacement_of_a_route() {
    let before = two_nodes();
    let mut after = before.clone();
    let moved: IpNetwork = "10.244.9.0/24".parse().unwrap();
    let mut before = before;
    before
        .get_mut(&NodeUid::new("uid-1"))
        .unwrap()
        .prefixes
        .push(moved);
    after
        .get_mut(&NodeUid::new("uid-2"))
        .unwrap()
        .prefixes
        .push(moved);
    for fabric in [FLOW, CLASSIC] {
        let steps = update(fabric, &before, &after, &ids(fabric, &before, 30));
        assert_eq!(
            acts(&steps),
            [
                (Act::Add, "member"),
                (Act::Replace, "route"),
                (Act::Del, "member")
            ]
        );
    }
    // Where each peer has its own metric, both stand beside each other for a moment.
    let steps = update(INLINE, &before, &after, &ids(INLINE, &before, 30));
    let order = [
        (Act::Add, "member"),
        (Act::Add, "route"),
        (Act::Del, "route"),
        (Act::Del, "member"),
    ];
    assert_eq!(acts(&steps), order);
}

#[test]
fn a_peer_that_moves_is_never_without_a_way() {
    let before = two_nodes();
    let mut after = before.clone();
    let peer = after.get_mut(&NodeUid::new("uid-1")).unwrap();
    peer.underlay = vec!["192.0.2.77".parse().unwrap()];
    let members = [(Act::Add, "member"), (Act::Del, "member")];
    for (fabric, what) in [(CLASSIC, "fdb"), (INLINE, "route")] {
        let steps = update(fabric, &before, &after, &ids(fabric, &before, 30));
        assert_eq!(acts(&steps), [members[0], (Act::Replace, what), members[1]]);
    }
    let steps = update(FLOW, &before, &after, &ids(FLOW, &before, 30));
    let order = [
        members[0],
        (Act::Add, "next hop"),
        (Act::Replace, "route"),
        (Act::Del, "next hop"),
        members[1],
    ];
    assert_eq!(acts(&steps), order);
}

#[test]
fn a_peer_is_made_from_the_far_end_and_removed_from_the_near_one() {
    let both = two_nodes();
    let mut one = both.clone();
    one.remove(&NodeUid::new("uid-2"));
    let steps = update(CLASSIC, &one, &both, &ids(CLASSIC, &both, 30));
    let order = ["member", "fdb", "neighbour", "next hop", "route"];
    assert_eq!(acts(&steps), order.map(|what| (Act::Add, what)));
    let steps = update(CLASSIC, &both, &one, &ids(CLASSIC, &both, 30));
    let reverse: Vec<_> = order.iter().rev().map(|what| (Act::Del, *what)).collect();
    assert_eq!(acts(&steps), reverse);
}

#[test]
fn what_two_nodes_want_is_the_first_ones_and_said_so() {
    let mut index = Index::new(Seed::random(), PROTOCOL);
    let prefix: IpNetwork = "10.244.1.0/24".parse().unwrap();
    let (one, two) = (
        route(prefix, 0, Via::NextHop(1)),
        route(prefix, 0, Via::NextHop(2)),
    );
    index.want(&two, 2);
    index.want(&one, 1);
    index.seal();
    let contested = index.contested();
    assert_eq!((contested[0].has, contested[0].lacks), (1, 2));
    assert!(contested[0].differ && contested[0].key == index.key_of(&one));
    let mut steps = Vec::new();
    index.steps(two, 2, &mut steps);
    assert_eq!(steps, []);
    index.steps(one.clone(), 1, &mut steps);
    index.steps(one, 1, &mut steps);
    assert_eq!(steps.len(), 1);
}

#[test]
fn a_route_of_another_program_that_wins_is_a_clash() {
    let mut index = Index::new(Seed::random(), PROTOCOL);
    let own: IpNetwork = "10.244.0.0/24".parse().unwrap();
    let prefix: IpNetwork = "fd00:244:1::/64".parse().unwrap();
    index.want(&route(prefix, 128, Via::NextHop(1)), 1);
    index.want(&route(own, 4096, Via::Unreachable), 0);
    index.seal();
    for (destination, metric) in [(prefix, 64), (prefix, 1024), (own, 0)] {
        let foreign = Route {
            destination,
            table: 254,
            metric,
            protocol: 4,
            via: Via::Other,
        };
        index.see(Item::Entry(Entry::Route(foreign)), None);
    }
    let clashes = index.clashes();
    assert_eq!(clashes.len(), 1);
    assert_eq!(clashes[0].whose, 1);
}

#[test]
fn a_reason_names_the_node_and_both_values() {
    let name = |_| Some("n7".into());
    let prefix: IpNetwork = "10.244.7.0/24".parse().unwrap();
    let step = |act, why, whose| Step {
        item: route(prefix, 0, Via::NextHop(7)),
        told: Told { act, whose, why },
    };
    let other = Box::new(route(prefix, 0, Via::Unreachable));
    let reasons = [
        step(Act::Add, Why::Missing, Some(3)),
        step(Act::Add, Why::Missing, Some(0)),
        step(Act::Replace, Why::Differs(other), Some(3)),
        step(Act::Del, Why::Surplus, None),
        step(Act::Del, Why::Surplus, Some(3)),
    ]
    .map(|step| step.reason(&name));
    assert_eq!(
        reasons,
        [
            "route to 10.244.7.0/24 of node n7 is missing",
            "route to 10.244.7.0/24 is missing",
            "route to 10.244.7.0/24 of node n7 is unreachable, should be by next hop 7",
            "route to 10.244.7.0/24 belongs to no node of the cluster",
            "route to 10.244.7.0/24 of node n7 is not wanted any more",
        ]
    );
}
