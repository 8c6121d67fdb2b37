//! DEL and GC without faults.

use crate::spec::config::NetworkConfig;

use super::Fixture;
use super::scene::Scene;

pub(super) async fn del_succeeds_whatever_is_missing(
    fixture: &dyn Fixture,
    config: &NetworkConfig,
) {
    let scene = Scene::warm(fixture, config).await;
    let pod = scene.pod("never").await;
    let before = scene.state(&[&pod]).await;
    scene.detach_as("DEL of what was never added", &pod).await;
    let after = scene.state(&[&pod]).await;
    assert_eq!(
        before,
        after,
        "{}DEL of what was never added changed something",
        scene.rule()
    );
    for (name, netns, prev, gone) in [
        ("all", true, true, false),
        ("no-result", true, false, false),
        ("no-netns", false, true, false),
        ("neither", false, false, false),
        ("gone", true, true, true),
        ("gone-no-netns", false, false, true),
    ] {
        let pod = scene.pod(name).await;
        let (inside, host) = (scene.state(&[&pod]).await, scene.host_state().await);
        let result = scene.attach(&pod).await.result;
        if gone {
            scene.end(&pod).await;
        }
        let path = pod.path();
        for time in ["first", "second"] {
            let netns = netns.then_some(&path);
            let prev = prev.then_some(&result);
            if let Err(error) = scene.del(&pod, netns, prev).await {
                panic!(
                    "{}the {time} DEL ({name}) failed: {}",
                    scene.rule(),
                    error.chain()
                );
            }
        }
        let after = scene.host_state().await;
        assert_eq!(host, after, "{}DEL ({name}) left something", scene.rule());
        if !gone {
            let after = scene.state(&[&pod]).await;
            assert_eq!(inside, after, "{}DEL ({name}) left something", scene.rule());
        }
        let held = scene.holds(&pod).await;
        assert_eq!(held, "[]", "{}DEL ({name}) leaks addresses", scene.rule());
    }
}

pub(super) async fn gc_removes_what_is_not_valid(fixture: &dyn Fixture, config: &NetworkConfig) {
    let scene = Scene::warm(fixture, config).await;
    let pods = [
        scene.pod("a").await,
        scene.pod("b").await,
        scene.pod("c").await,
    ];
    let [a, b, c] = &pods;
    let all = [a, b, c];
    let empty = scene.state(&all).await;
    let first = scene.attach(a).await;
    let only_a = scene.state(&all).await;
    scene.attach(b).await;
    scene.attach(c).await;
    let full = scene.state(&all).await;
    for (valid, wanted, what) in [
        (&all[..], &full, "removed something valid"),
        (&[a][..], &only_a, "did not leave exactly what is valid"),
    ] {
        if let Err(error) = scene.gc(valid).await {
            panic!("{}GC failed: {}", scene.rule(), error.chain());
        }
        let after = scene.state(&all).await;
        assert_eq!(*wanted, after, "{}GC {what}", scene.rule());
    }
    scene.passes(a, &first.result).await;
    if let Err(error) = scene.gc(&[]).await {
        panic!("{}GC failed: {}", scene.rule(), error.chain());
    }
    for pod in all {
        let held = scene.holds(pod).await;
        assert_eq!(held, "[]", "{}GC leaks addresses", scene.rule());
    }
    assert!(
        scene.check(a, &first.result).await.is_err(),
        "{}GC of an empty set removed nothing",
        scene.rule()
    );
    // Shared objects may go with the last attachment; what is left must serve the next one.
    let again = scene.attach(a).await;
    scene.passes(a, &again.result).await;
    scene.detach(a).await;
    let after = scene.state(&all).await;
    assert_eq!(empty, after, "{}GC left something", scene.rule());
}
