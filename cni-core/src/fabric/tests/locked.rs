//! Beside processes that hold the host's lock.

use std::sync::Arc;

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind};
use crate::fabric::{Removal, Report};
use crate::testing::Impatient;

use super::engine::{engine, fresh, node, peers, state, view};
use super::tiny::FLOW;

fn lacks_the_base(report: &Report) -> bool {
    let about_base = |what: &str| what == "the node's own device, addresses and parameters";
    let mut errors = report.errors.iter();
    errors.any(|(what, error)| about_base(what) && error.kind() == ErrorKind::TryAgain)
}

#[tokio::test]
async fn peers_come_and_go_although_others_do_not_give_the_lock_back() {
    let (_, mut host) = node().await;
    host.lock = Arc::new(Impatient(host.lock.clone()));
    let mut engine = engine(&host, FLOW);
    let report = engine.full(&view(&peers(3)), Removal::Allowed).await;
    assert!(report.is_complete(), "{report:?}");
    let _others = host.lock.try_alone().await.unwrap().unwrap();
    let report = engine.full(&view(&peers(2)), Removal::Allowed).await;
    assert!(lacks_the_base(&report), "{report:?}");
    assert_eq!(report.errors.len(), 1, "it is waited for once: {report:?}");
    assert_eq!(state(&host).await, fresh(FLOW, &peers(2)).await);
}

#[tokio::test]
async fn without_a_device_there_is_nothing_to_do_but_wait() {
    let (kernel, mut host) = node().await;
    host.lock = Arc::new(Impatient(host.lock.clone()));
    let _others = host.lock.try_alone().await.unwrap().unwrap();
    let report = engine(&host, FLOW)
        .full(&view(&peers(3)), Removal::Allowed)
        .await;
    assert!(lacks_the_base(&report), "{report:?}");
    assert_eq!((report.errors.len(), kernel.writes()), (1, 0), "{report:?}");
}

#[tokio::test]
async fn who_is_told_to_stop_does_not_wait_for_the_lock_and_changes_nothing() {
    let (kernel, host) = node().await;
    let cancel = Cancel::new();
    let mut engine = engine(&host, FLOW).cancelled_by(&cancel);
    let report = engine.full(&view(&peers(3)), Removal::Allowed).await;
    assert!(report.is_complete(), "{report:?}");
    let writes = kernel.writes();
    let _others = host.lock.try_alone().await.unwrap().unwrap();
    cancel.cancel();
    let report = engine.full(&view(&peers(2)), Removal::Allowed).await;
    assert!(lacks_the_base(&report), "{report:?}");
    let stopped = |error: &Error| error.to_string().starts_with("stopped by a signal");
    assert!(
        report.errors.iter().all(|(_, error)| stopped(error)),
        "{report:?}"
    );
    assert_eq!(kernel.writes(), writes);
}
