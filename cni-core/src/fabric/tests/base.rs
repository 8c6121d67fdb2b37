//! What becomes of the rest when the base changes.

use crate::cluster::NodeUid;
use crate::fabric::{Removal, Report, Thing, tables};
use crate::host::Host;
use crate::host::firewall::{ChainKind, FirewallChange, Hook, HookPoint};
use crate::testing::FakeKernel;

use super::cluster::Cluster;
use super::engine::{engine, fresh, node, peers, reset, state, view};
use super::observer::Watched;
use super::tiny::{ALL, CLASSIC, FLOW, INLINE};

/// The second of five peers has other prefixes.
fn with(prefixes: &[&str]) -> Cluster {
    let mut cluster = peers(5);
    let peer = cluster.get_mut(&NodeUid::new("uid-002")).unwrap();
    peer.prefixes = prefixes
        .iter()
        .map(|prefix| prefix.parse().unwrap())
        .collect();
    cluster
}

async fn observed() -> (FakeKernel, Host, Watched) {
    let (kernel, host) = node().await;
    let watched = Watched::default();
    let host = watched.host(&host);
    (kernel, host, watched)
}

fn history() -> Vec<Cluster> {
    vec![
        peers(5),
        with(&["10.244.2.0/25", "fd00:244:2::/64"]),
        with(&["10.244.2.0/26", "10.244.2.128/25", "fd00:244:2::/80"]),
        with(&["10.244.2.0/24"]),
        peers(3),
        with(&["10.244.2.0/25"]),
        with(&["10.244.2.128/25"]),
        peers(5),
    ]
}

async fn sets(host: &Host) -> Vec<String> {
    let table = tables::table(&"pods".parse().unwrap());
    let state = host.firewall.table(&table).await.unwrap().unwrap();
    state.sets.into_iter().map(|set| set.name).collect()
}

#[tokio::test]
async fn rules_and_sets_follow_the_lengths_of_prefixes_without_a_gap() {
    for fabric in ALL {
        for updates in [true, false] {
            let (_, host, watched) = observed().await;
            let mut now = view(&Cluster::new());
            let mut engine = engine(&host, fabric);
            engine.full(&now, Removal::Allowed).await;
            let mut last = Cluster::new();
            for cluster in history() {
                watched.set(&last, &cluster);
                let changes = now.apply(reset(&cluster));
                let report = match updates {
                    true => engine.update(&now, &changes).await,
                    false => engine.full(&now, Removal::Allowed).await,
                };
                assert!(report.is_complete(), "{report:?}");
                assert_eq!(state(&host).await, fresh(fabric, &cluster).await);
                last = cluster;
            }
            let names = sets(&host).await;
            assert!(names.iter().any(|name| name == "pods4_24"));
            assert!(!names.iter().any(|name| name == "pods4_25"), "{names:?}");
        }
    }
}

#[tokio::test]
async fn sets_of_nodes_that_are_not_known_yet_stay_in_force() {
    let (_, host, watched) = observed().await;
    let all = with(&["10.244.2.0/25", "fd00:244:2::/80"]);
    engine(&host, FLOW)
        .full(&view(&all), Removal::Allowed)
        .await;
    let wanted = state(&host).await;
    // The node with the odd lengths has not been told of yet.
    watched.set(&all, &all);
    let mut few = view(&peers(1));
    let mut engine = engine(&host, FLOW);
    let report = engine.full(&few, Removal::Withheld).await;
    assert_eq!(
        (report.changes(), report.errors.len()),
        (0, 0),
        "{report:?}"
    );
    assert_eq!(state(&host).await, wanted);
    let changes = few.apply(reset(&all));
    assert!(engine.update(&few, &changes).await.is_complete());
    assert_eq!(state(&host).await, wanted);
    watched.set(&peers(1), &peers(1));
    few.apply(reset(&peers(1)));
    engine.full(&few, Removal::Allowed).await;
    assert_eq!(state(&host).await, fresh(FLOW, &peers(1)).await);
}

#[tokio::test]
async fn a_device_of_another_name_takes_the_place_of_the_first_without_a_gap() {
    for (from, to) in [
        (FLOW, CLASSIC),
        (CLASSIC, FLOW),
        (FLOW, INLINE),
        (INLINE, FLOW),
    ] {
        let (_, host, watched) = observed().await;
        let mut old = engine(&host, from.elsewhere());
        assert!(
            old.full(&view(&peers(3)), Removal::Allowed)
                .await
                .is_complete()
        );
        watched.set(&peers(3), &peers(3));
        let report = engine(&host, to)
            .full(&view(&peers(3)), Removal::Allowed)
            .await;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(state(&host).await, fresh(to, &peers(3)).await);
    }
}

#[tokio::test]
async fn a_device_that_needs_the_vni_of_the_first_takes_its_place() {
    for fabric in ALL {
        let (_, host) = node().await;
        let view = view(&peers(3));
        let mut old = engine(&host, fabric.elsewhere());
        assert!(old.full(&view, Removal::Allowed).await.is_complete());
        let mut engine = engine(&host, fabric);
        let report = engine.full(&view, Removal::Withheld).await;
        assert!(
            !report.is_complete() && state(&host).await.len() > 20,
            "{report:?}"
        );
        let report = engine.full(&view, Removal::Allowed).await;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(state(&host).await, fresh(fabric, &peers(3)).await);
    }
}

fn told(report: &Report, words: &str) -> bool {
    report.drift.iter().any(|drift| drift.contains(words))
}

#[tokio::test]
async fn a_chain_with_another_hook_and_strange_chains_and_sets_are_mended() {
    let (_, host) = node().await;
    let view = view(&peers(2));
    let mut engine = engine(&host, CLASSIC);
    engine.full(&view, Removal::Allowed).await;
    let wanted = state(&host).await;
    let table = || tables::table(&"pods".parse().unwrap());
    let name = || "input".to_owned();
    let hook = Hook {
        kind: ChainKind::Filter,
        point: HookPoint::Forward,
        priority: 0,
    };
    let moved = [
        FirewallChange::ChainFlush {
            table: table(),
            chain: name(),
        },
        FirewallChange::ChainDel {
            table: table(),
            chain: name(),
        },
        FirewallChange::ChainAdd {
            table: table(),
            chain: name(),
            hook: Some(hook),
        },
    ];
    host.firewall.commit(&moved).await.unwrap();
    let report = engine.full(&view, Removal::Allowed).await;
    assert!(
        report.is_complete() && told(&report, "is attached as"),
        "{report:?}"
    );
    assert_eq!(state(&host).await, wanted);

    let strange = [
        FirewallChange::ChainAdd {
            table: table(),
            chain: "strange".to_owned(),
            hook: None,
        },
        FirewallChange::SetAdd {
            table: table(),
            set: crate::host::firewall::SetSpec::new(
                "strange",
                [crate::host::firewall::ValueType::Port],
            ),
        },
    ];
    host.firewall.commit(&strange).await.unwrap();
    let difference = engine.compare(&view).await.unwrap();
    assert!(
        difference.to_string().contains("delete set"),
        "{difference}"
    );
    let report = engine.full(&view, Removal::Allowed).await;
    assert!(
        told(&report, "chain strange") && told(&report, "set strange"),
        "{report:?}"
    );
    assert_eq!(report.made[&Thing::Table].removed, 1);
    assert!(!sets(&host).await.contains(&"strange".to_owned()));
    assert_eq!(engine.full(&view, Removal::Allowed).await.changes(), 0);
}
