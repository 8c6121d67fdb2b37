//! Processes that die, and writes that fail.

use crate::cluster::NodeUid;
use crate::fabric::Removal;

use super::cluster::Cluster;
use super::engine::{engine, fresh, node, peers, reset, state, view};
use super::observer::Watched;
use super::tiny::ALL;

const EIO: i32 = 5;

/// One goes, one comes, one moves, and a prefix goes to another.
fn later() -> Cluster {
    let mut cluster = peers(5);
    cluster.remove(&NodeUid::new("uid-002"));
    let uid = NodeUid::new("uid-003");
    let underlay = vec!["192.0.2.33".parse().unwrap()];
    cluster.get_mut(&uid).unwrap().underlay = underlay;
    let prefix = "10.244.2.0/24".parse().unwrap();
    cluster.get_mut(&uid).unwrap().prefixes.push(prefix);
    cluster
}

#[tokio::test]
async fn whoever_comes_after_a_death_finishes_and_unchanged_peers_are_reached_throughout() {
    for fabric in ALL {
        for by_update in [false, true] {
            for n in 1.. {
                let (kernel, host) = node().await;
                let watched = Watched::default();
                let observed = watched.host(&host);
                let mut now = view(&peers(4));
                let mut first = engine(&observed, fabric);
                first.full(&now, Removal::Allowed).await;
                watched.set(&peers(4), &later());
                let changes = now.apply(reset(&later()));
                kernel.faults().reset();
                kernel.crash_at(n);
                match by_update {
                    true => first.update(&now, &changes).await,
                    false => engine(&observed, fabric).full(&now, Removal::Allowed).await,
                };
                let died = kernel.faults().fired() > 0;
                kernel.revive();
                let mut next = engine(&observed, fabric);
                let report = next.full(&now, Removal::Allowed).await;
                assert!(report.is_complete(), "{report:?}");
                assert_eq!(state(&host).await, fresh(fabric, &later()).await);
                assert_eq!(next.full(&now, Removal::Allowed).await.changes(), 0);
                if !died {
                    assert!(n > 5, "{n}");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_write_that_fails_once_is_made_good_by_the_same_call() {
    for fabric in ALL {
        for by_update in [false, true] {
            for n in 1.. {
                let (kernel, host) = node().await;
                let mut now = view(&peers(4));
                let mut engine = engine(&host, fabric);
                engine.full(&now, Removal::Allowed).await;
                let changes = now.apply(reset(&later()));
                kernel.faults().reset();
                kernel.fail_write(n, EIO);
                let report = match by_update {
                    true => engine.update(&now, &changes).await,
                    false => engine.full(&now, Removal::Allowed).await,
                };
                assert!(report.is_complete(), "{report:?}");
                assert_eq!(state(&host).await, fresh(fabric, &later()).await);
                if kernel.faults().fired() == 0 {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn what_fails_for_good_is_told_of_by_the_peers_name_and_mended_later() {
    for fabric in ALL {
        let (kernel, host) = node().await;
        let mut now = view(&peers(4));
        let mut engine = engine(&host, fabric);
        engine.full(&now, Removal::Allowed).await;
        let changes = now.apply(reset(&peers(5)));
        kernel.faults().reset();
        kernel.crash_at(1);
        let report = engine.update(&now, &changes).await;
        assert!(report.errors.len() > 2, "{:?}", report.errors);
        for (words, error) in &report.errors {
            assert!(words.contains("node n5"), "{words}");
            assert!(error.chain().contains("failed"), "{}", error.chain());
        }
        kernel.revive();
        let report = engine.full(&now, Removal::Allowed).await;
        assert!(report.is_complete() && report.drifted == 0, "{report:?}");
        assert_eq!(state(&host).await, fresh(fabric, &peers(5)).await);
    }
}
