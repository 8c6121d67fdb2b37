//! ADD, CHECK and STATUS without faults.

use crate::spec::config::NetworkConfig;

use super::Fixture;
use super::scene::Scene;

pub(super) async fn add_then_check_then_del_leaves_the_node_as_it_was(
    fixture: &dyn Fixture,
    config: &NetworkConfig,
) {
    let scene = Scene::warm(fixture, config).await;
    let pod = scene.pod("a").await;
    let before = scene.state(&[&pod]).await;
    let added = scene.attach(&pod).await;
    let attached = scene.state(&[&pod]).await;
    assert_ne!(before, attached, "{}ADD made nothing", scene.rule());
    scene.passes(&pod, &added.result).await;
    let after = scene.state(&[&pod]).await;
    assert_eq!(attached, after, "{}CHECK changed something", scene.rule());
    scene.detach(&pod).await;
    let after = scene.state(&[&pod]).await;
    assert_eq!(before, after, "{}DEL left something", scene.rule());
}

pub(super) async fn a_second_add_after_seal_is_an_error_and_changes_nothing(
    fixture: &dyn Fixture,
    config: &NetworkConfig,
) {
    let scene = Scene::cold(fixture, config).await;
    let pod = scene.pod("a").await;
    let added = scene.attach(&pod).await;
    let before = scene.state(&[&pod]).await;
    let second = scene.add(&pod).await;
    assert!(
        second.is_err(),
        "{}a second ADD of a finished attachment succeeded",
        scene.rule()
    );
    let after = scene.state(&[&pod]).await;
    assert_eq!(
        before,
        after,
        "{}a refused second ADD changed something",
        scene.rule()
    );
    scene.passes(&pod, &added.result).await;
}

pub(super) async fn an_add_clears_an_unsealed_leftover_away(
    fixture: &dyn Fixture,
    config: &NetworkConfig,
) {
    let scene = Scene::warm(fixture, config).await;
    let pod = scene.pod("a").await;
    let before = scene.state(&[&pod]).await;
    if let Err(error) = scene.add(&pod).await {
        panic!("{}ADD failed: {}", scene.rule(), error.chain());
    }
    // The process died before it could seal; the runtime asks again.
    let what = "ADD over the leftover of an ADD that died";
    let added = scene.attach_as(what, &pod).await;
    scene.passes(&pod, &added.result).await;
    scene.detach(&pod).await;
    let after = scene.state(&[&pod]).await;
    assert_eq!(
        before,
        after,
        "{}DEL left something of a leftover",
        scene.rule()
    );
}

pub(super) async fn two_attachments_are_independent(fixture: &dyn Fixture, config: &NetworkConfig) {
    let scene = Scene::cold(fixture, config).await;
    let (a, b) = (scene.pod("a").await, scene.pod("b").await);
    let first = scene.attach(&a).await;
    let alone = scene.state(&[&a]).await;
    let second = scene.attach(&b).await;
    for ip in &first.result.ips {
        let twice = second
            .result
            .ips
            .iter()
            .any(|other| other.address == ip.address);
        assert!(!twice, "{}{} was given twice", scene.rule(), ip.address);
    }
    scene.passes(&a, &first.result).await;
    scene.passes(&b, &second.result).await;
    scene.detach(&b).await;
    scene.passes(&a, &first.result).await;
    let after = scene.state(&[&a]).await;
    assert_eq!(
        alone,
        after,
        "{}a neighbour's ADD and DEL changed an attachment",
        scene.rule()
    );
    assert!(
        scene.check(&b, &second.result).await.is_err(),
        "{}CHECK passes after DEL",
        scene.rule()
    );
}

pub(super) async fn check_names_every_drift_and_changes_nothing(
    fixture: &dyn Fixture,
    config: &NetworkConfig,
) {
    for drift in fixture.drifts() {
        let scene = Scene::cold(fixture, config).await;
        let pod = scene.pod("a").await;
        let added = scene.attach(&pod).await;
        let changes = (drift.change)(&pod.attachment, &added.result);
        if changes.is_empty() {
            continue;
        }
        for (place, change) in changes {
            scene.disturb(&pod, place, &change).await;
        }
        let before = scene.state(&[&pod]).await;
        scene.faults.reset();
        let text = match scene.check(&pod, &added.result).await {
            Ok(()) => panic!("{}CHECK overlooks {drift:?}", scene.rule()),
            Err(error) => error.chain(),
        };
        for word in &drift.words {
            assert!(
                text.to_lowercase().contains(&word.to_lowercase()),
                "{}CHECK does not say {word:?}: {text}",
                scene.rule()
            );
        }
        assert_eq!(scene.faults.writes(), 0, "{}CHECK wrote", scene.rule());
        let after = scene.state(&[&pod]).await;
        assert_eq!(before, after, "{}CHECK changed something", scene.rule());
        scene.detach(&pod).await;
    }
}

pub(super) async fn status_changes_nothing(fixture: &dyn Fixture, config: &NetworkConfig) {
    for warm in [false, true] {
        let scene = if warm {
            Scene::warm(fixture, config).await
        } else {
            Scene::cold(fixture, config).await
        };
        let before = scene.host_state().await;
        if let Err(error) = scene.status().await {
            panic!("{}STATUS failed: {}", scene.rule(), error.chain());
        }
        assert_eq!(scene.faults.writes(), 0, "{}STATUS wrote", scene.rule());
        let after = scene.host_state().await;
        assert_eq!(before, after, "{}STATUS changed something", scene.rule());
    }
}

pub(super) async fn a_dry_run_plans_what_add_does_and_changes_nothing(
    fixture: &dyn Fixture,
    config: &NetworkConfig,
) {
    let scene = Scene::cold(fixture, config).await;
    let pod = scene.pod("a").await;
    let before = scene.state(&[&pod]).await;
    let planned = match scene.plan(&pod).await {
        Ok(added) => added.plan.to_string(),
        Err(error) => panic!("{}a dry run failed: {}", scene.rule(), error.chain()),
    };
    assert_eq!(scene.faults.writes(), 0, "{}a dry run wrote", scene.rule());
    let after = scene.state(&[&pod]).await;
    assert_eq!(before, after, "{}a dry run changed something", scene.rule());
    let done = scene.attach(&pod).await.plan.to_string();
    assert_eq!(
        planned,
        done,
        "{}the dry run's plan is not what ADD did",
        scene.rule()
    );
}
