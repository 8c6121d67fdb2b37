//! Every write fails once, and the process dies at every write.

use cni_core::chained::portmap::table;
use cni_core::host::NetlinkExt;
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

#[tokio::test]
async fn a_del_that_cannot_reset_hairpin_mode_removes_the_ports_and_says_so() {
    for ports in [PORTS, r#"{"hostPort":8080,"containerPort":80}"#] {
        let scene = Scene::warm(KEYS, ports).await;
        // Bridged packets pass the host's rules, so the pod's port needs hairpin mode to reach itself.
        let sysctl = &scene.host.sysctl;
        let filtered = "net/bridge/bridge-nf-call-iptables";
        sysctl.write(filtered, "1").await.unwrap();
        let before = scene.state().await;
        let published = async || {
            let all = scene.host.firewall.elements(&table(), "ports4").await;
            all.unwrap().len()
        };
        let others = published().await;
        let hairpin = async || {
            let name = scene.attachment.host_name();
            let link = scene.host.netlink.link(name.as_str()).await.unwrap();
            link.unwrap().port.unwrap().hairpin
        };
        scene.add().await.unwrap();
        assert!(hairpin().await && published().await > others);
        let flow = scene.flow("192.0.2.9:4000", "192.0.2.1:53", "10.88.0.5:5353");
        scene.kernel.faults().reset();
        scene.kernel.fail_write(1, errno::ENOMEM);
        let outcome = scene.del().await;
        scene.kernel.faults().reset();
        assert_eq!(outcome.unwrap_err().errno(), Some(errno::ENOMEM));
        assert!(hairpin().await, "the write that failed was another one");
        assert_eq!(published().await, others, "ports after a DEL");
        let is_forgotten = !scene.flows().await.contains(&flow);
        assert_eq!(is_forgotten, ports == PORTS, "flows of the UDP port");
        // What could not be done is remembered for the next one.
        scene.del().await.unwrap();
        assert!(!hairpin().await);
        assert_eq!(scene.state().await, before);
    }
}
