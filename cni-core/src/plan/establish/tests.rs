//! The lock under which plans are made, on the fake kernel.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::error::ErrorKind;
use crate::host::netlink::NewLinkKind;
use crate::host::{Host, Sandbox};
use crate::plan::{LinkSpec, Object, Place};
use crate::testing::{FakeKernel, Impatient};

const BRIDGE: NewLinkKind = NewLinkKind::Bridge {
    vlan_filtering: false,
};

/// A bridge that all share, and a port on it.
fn attachment(port: &str) -> Desired {
    let mut desired = Desired::new();
    let mut bridge = LinkSpec::new("br0", Some(BRIDGE));
    bridge.alias = Some("shared".to_owned());
    desired.share(Place::Host, Object::Link(bridge));
    let mut port = LinkSpec::new(port, Some(BRIDGE));
    port.alias = Some("own".to_owned());
    desired.own(Place::Host, Object::Link(port));
    desired
}

fn handles(host: &Host) -> Handles<'_> {
    Handles {
        host,
        sandbox: None::<&Sandbox>,
    }
}

async fn add(host: &Host, port: &str, cancel: &Cancel) -> Result<(Plan, Journal)> {
    let desired = attachment(port);
    establish(&desired, &handles(host), cancel, Establishing::Apply).await
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn cancelled() -> Cancel {
    let cancel = Cancel::new();
    cancel.cancel();
    cancel
}

#[tokio::test]
async fn who_has_made_nothing_shared_is_waited_for_by_nobody_and_is_no_leftover() {
    let host = FakeKernel::new().host();
    let (plan, first) = add(&host, "port1", &Cancel::new()).await.unwrap();
    assert!(plan.touches_shared());
    assert!(host.lock.try_shared().await.unwrap().is_none());
    drop(first);
    let (plan, second) = add(&host, "port2", &Cancel::new()).await.unwrap();
    assert!(!plan.touches_shared());
    assert!(host.lock.try_alone().await.unwrap().is_some());
    let unfinished = "its link would be taken for a leftover";
    assert!(
        host.lock.try_exclusive().await.unwrap().is_none(),
        "{unfinished}"
    );
    drop(second);
    assert!(host.lock.try_exclusive().await.unwrap().is_some());
}

#[tokio::test]
async fn who_waits_to_be_alone_shares_the_lock_once_another_one_has_made_everything() {
    let host = FakeKernel::new().host();
    let before = host.lock.try_shared().await.unwrap();
    let cancel = Cancel::new();
    let mut waiting = pin!(add(&host, "port1", &cancel));
    assert!(poll(waiting.as_mut()).is_pending(), "others share the lock");
    drop(before);
    let alone = host.lock.try_alone().await.unwrap().unwrap();
    let desired = attachment("port2");
    let observed = observe(&handles(&host), &desired, Scope::Shared).await;
    let plan = diff(&desired, &observed.unwrap()).unwrap();
    let made = apply(&plan, &handles(&host), &cancel).await.unwrap();
    assert!(poll(waiting.as_mut()).is_pending(), "another one is alone");
    made.keep();
    drop(alone);
    let _others = host.lock.try_shared().await.unwrap().unwrap();
    let (plan, _) = waiting.await.unwrap();
    assert!(!plan.touches_shared(), "{plan}");
}

#[tokio::test]
async fn who_shares_the_lock_waits_behind_who_waits_to_be_alone() {
    let host = FakeKernel::new().host();
    let cancel = Cancel::new();
    let others = host.lock.shared(&cancel).await.unwrap();
    let mut waiting = pin!(host.lock.exclusive(&cancel));
    assert!(poll(waiting.as_mut()).is_pending());
    let error = host.lock.shared(&cancelled()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    drop(others);
    drop(waiting.await.unwrap());
    host.lock.shared(&cancelled()).await.unwrap();
}

#[tokio::test]
async fn a_wait_for_the_lock_ends_when_it_is_cancelled_or_takes_too_long() {
    let mut host = FakeKernel::new().host();
    let alone = host.lock.try_alone().await.unwrap();
    let error = add(&host, "port1", &cancelled()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    assert!(error.to_string().contains("stopped by a signal"), "{error}");
    host.lock = Arc::new(Impatient(host.lock.clone()));
    let too_long = "other processes have held the lock of the network namespace for 0 seconds";
    let error = add(&host, "port1", &Cancel::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    assert!(error.to_string().contains(too_long), "{error}");
    drop(alone);
    let _others = host.lock.try_shared().await.unwrap();
    let error = add(&host, "port1", &Cancel::new()).await.unwrap_err();
    assert!(error.to_string().contains(too_long), "{error}");
    let error = host.lock.exclusive(&Cancel::new()).await.unwrap_err();
    assert!(error.to_string().contains(too_long), "{error}");
}
