//! Every write fails once, and the process dies at every write.

use cni_core::host::netlink::errno;

use crate::scene::{KEYS, PORTS, Scene};

#[tokio::test]
async fn a_failed_add_changes_nothing() {
    for warm in [false, true] {
        let scene = match warm {
            true => Scene::warm(KEYS, PORTS).await,
            false => Scene::new(KEYS, PORTS).await,
        };
        let mut n = 1;
        loop {
            scene.flow("192.0.2.9:4000", "192.0.2.1:53", "192.0.2.1:53");
            let before = scene.state().await;
            scene.kernel.faults().reset();
            scene.kernel.fail_write(n, errno::ENOMEM);
            let outcome = scene.add().await;
            let struck = scene.kernel.faults().fired() > 0;
            assert_eq!(outcome.is_err(), struck, "write {n}: {outcome:?}");
            if !struck {
                break;
            }
            assert_eq!(scene.state().await, before, "write {n}");
            n += 1;
        }
        assert!(n > 3, "{n} writes");
        scene.check().await.unwrap();
    }
}

#[tokio::test]
async fn after_a_crash_in_add_del_or_another_add_makes_good() {
    let scene = Scene::warm(KEYS, PORTS).await;
    let before = scene.state().await;
    for again in [false, true] {
        for n in 1.. {
            scene.kernel.faults().reset();
            scene.kernel.crash_at(n);
            let outcome = scene.add().await;
            let struck = scene.kernel.faults().fired() > 0;
            scene.kernel.faults().reset();
            assert!(outcome.is_ok() || struck, "{outcome:?}");
            if again {
                scene.add().await.unwrap();
                scene.check().await.unwrap();
            }
            scene.del().await.unwrap();
            assert_eq!(scene.state().await, before, "ADD died at write {n}");
            if !struck {
                break;
            }
        }
    }
}

#[tokio::test]
async fn after_a_failure_or_a_crash_in_del_another_del_makes_good() {
    let scene = Scene::warm(KEYS, PORTS).await;
    let before = scene.state().await;
    for crash in [false, true] {
        for n in 1.. {
            scene.add().await.unwrap();
            let flow = scene.flow("192.0.2.9:4000", "192.0.2.1:53", "10.88.0.5:5353");
            scene.kernel.faults().reset();
            match crash {
                true => scene.kernel.crash_at(n),
                false => scene.kernel.fail_write(n, errno::ENOMEM),
            }
            let outcome = scene.del().await;
            let struck = scene.kernel.faults().fired() > 0;
            scene.kernel.faults().reset();
            assert_eq!(outcome.is_err(), struck, "DEL hides that write {n} failed");
            scene.del().await.unwrap();
            assert_eq!(scene.state().await, before, "DEL failed at write {n}");
            assert!(
                !scene.flows().await.contains(&flow),
                "DEL failed at write {n}"
            );
            if !struck {
                break;
            }
        }
    }
}

#[tokio::test]
async fn gc_that_fails_at_any_write_says_so_and_is_made_good() {
    let scene = Scene::new(KEYS, PORTS).await;
    let before = scene.state().await;
    for n in 1.. {
        scene.add().await.unwrap();
        scene.flow("192.0.2.9:4000", "192.0.2.1:53", "10.88.0.5:5353");
        scene.kernel.faults().reset();
        scene.kernel.fail_write(n, errno::ENOMEM);
        let outcome = scene.gc(&[]).await;
        let struck = scene.kernel.faults().fired() > 0;
        scene.kernel.faults().reset();
        assert_eq!(outcome.is_err(), struck, "write {n}: {outcome:?}");
        scene.gc(&[]).await.unwrap();
        assert_eq!(scene.state().await, before, "write {n}");
        if !struck {
            assert!(n > 4, "{n} writes");
            break;
        }
    }
}
