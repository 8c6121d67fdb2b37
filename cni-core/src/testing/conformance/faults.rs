//! Every write fails once, and the process dies at every write.

use crate::host::netlink::errno::ENOMEM;
use crate::spec::config::NetworkConfig;

use super::Fixture;
use super::scene::Scene;

/// No ADD or DEL makes as many writes.
const MOST_WRITES: u64 = 1000;

pub(super) async fn a_failed_add_changes_nothing(fixture: &dyn Fixture, config: &NetworkConfig) {
    for warm in [false, true] {
        let scene = if warm {
            Scene::warm(fixture, config).await
        } else {
            Scene::cold(fixture, config).await
        };
        let pod = scene.pod("a").await;
        let mut before = scene.state(&[&pod]).await;
        for n in write_numbers(&scene) {
            scene.faults.reset();
            scene.faults.fail_write(n, ENOMEM);
            let outcome = scene.add(&pod).await;
            let struck = scene.faults.fired() > 0;
            scene.faults.reset();
            match outcome {
                Ok(added) => {
                    // A backend may do without the write; but then all that it says must be there.
                    assert!(
                        scene.seal(&pod).await.is_ok(),
                        "{}sealing failed",
                        scene.rule()
                    );
                    scene.passes(&pod, &added.result).await;
                    if !struck {
                        break;
                    }
                    scene.detach(&pod).await;
                    // Shared objects may have been made.
                    before = scene.state(&[&pod]).await;
                }
                Err(error) => {
                    assert!(
                        struck,
                        "{}ADD failed without a fault: {}",
                        scene.rule(),
                        error.chain()
                    );
                    let after = scene.state(&[&pod]).await;
                    assert_eq!(
                        before,
                        after,
                        "{}ADD that failed at write {n} ({}) left something",
                        scene.rule(),
                        error.chain()
                    );
                }
            }
        }
    }
}

pub(super) async fn after_a_crash_in_add_del_cleans_up(
    fixture: &dyn Fixture,
    config: &NetworkConfig,
) {
    let scene = Scene::warm(fixture, config).await;
    let pod = scene.pod("a").await;
    let before = scene.state(&[&pod]).await;
    for n in write_numbers(&scene) {
        let done = !crash_in_add(&scene, &pod, n).await;
        scene.detach(&pod).await;
        let after = scene.state(&[&pod]).await;
        assert_eq!(
            before,
            after,
            "{}DEL after an ADD that died at write {n} left something",
            scene.rule()
        );
        if done {
            break;
        }
    }
}

pub(super) async fn after_a_crash_in_add_another_add_succeeds(
    fixture: &dyn Fixture,
    config: &NetworkConfig,
) {
    for n in 1.. {
        let scene = Scene::cold(fixture, config).await;
        assert!(n <= MOST_WRITES, "{}", too_many(&scene));
        let pod = scene.pod("a").await;
        if !crash_in_add(&scene, &pod, n).await {
            break;
        }
        let what = format!("ADD after an ADD that died at write {n}");
        let added = scene.attach_as(&what, &pod).await;
        scene.passes(&pod, &added.result).await;
        scene.detach(&pod).await;
        let held = scene.holds(&pod).await;
        assert_eq!(held, "[]", "{}a crash leaks addresses", scene.rule());
    }
}

pub(super) async fn after_a_crash_in_del_another_del_cleans_up(
    fixture: &dyn Fixture,
    config: &NetworkConfig,
) {
    let scene = Scene::warm(fixture, config).await;
    let pod = scene.pod("a").await;
    let before = scene.state(&[&pod]).await;
    for n in write_numbers(&scene) {
        scene.attach(&pod).await;
        scene.faults.reset();
        scene.faults.crash_at(n);
        let first = scene.del(&pod, Some(&pod.path()), None).await;
        let struck = scene.faults.fired() > 0;
        scene.faults.reset();
        assert!(
            first.is_err() || !struck,
            "{}DEL hides that write {n} failed",
            scene.rule()
        );
        scene.detach(&pod).await;
        let after = scene.state(&[&pod]).await;
        assert_eq!(
            before,
            after,
            "{}DEL after a DEL that died at write {n} left something",
            scene.rule()
        );
        if !struck {
            break;
        }
    }
}

pub(super) async fn a_failed_write_in_del_is_reported_or_made_good(
    fixture: &dyn Fixture,
    config: &NetworkConfig,
) {
    let scene = Scene::warm(fixture, config).await;
    let pod = scene.pod("a").await;
    let before = scene.state(&[&pod]).await;
    for n in write_numbers(&scene) {
        scene.attach(&pod).await;
        scene.faults.reset();
        scene.faults.fail_write(n, ENOMEM);
        let first = scene.del(&pod, Some(&pod.path()), None).await;
        let struck = scene.faults.fired() > 0;
        scene.faults.reset();
        let after = scene.state(&[&pod]).await;
        match first {
            Ok(()) => assert_eq!(
                before,
                after,
                "{}DEL hides that write {n} failed",
                scene.rule()
            ),
            Err(error) => assert!(
                struck,
                "{}DEL failed without a fault: {}",
                scene.rule(),
                error.chain()
            ),
        }
        scene.detach(&pod).await;
        let after = scene.state(&[&pod]).await;
        assert_eq!(
            before,
            after,
            "{}DEL after a DEL whose write {n} failed left something",
            scene.rule()
        );
        if !struck {
            break;
        }
    }
}

/// The number of the write to disturb; an end to backends that never stop writing.
fn write_numbers<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = u64> + 'a {
    (1..).inspect(|n| assert!(*n <= MOST_WRITES, "{}", too_many(scene)))
}

fn too_many(scene: &Scene<'_>) -> String {
    format!(
        "{}more than {MOST_WRITES} writes for one attachment",
        scene.rule()
    )
}

/// Whether the process died: it does not when ADD makes fewer than `n` writes.
async fn crash_in_add(scene: &Scene<'_>, pod: &super::scene::Pod, n: u64) -> bool {
    scene.faults.reset();
    scene.faults.crash_at(n);
    let outcome = scene.add(pod).await;
    let struck = scene.faults.fired() > 0;
    scene.faults.reset();
    assert!(
        outcome.is_ok() || struck,
        "{}ADD failed without a fault",
        scene.rule()
    );
    struck
}
