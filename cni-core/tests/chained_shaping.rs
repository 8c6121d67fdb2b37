//! The plugins `bandwidth` and `tuning` on the fake kernel: a fault, and a death, at every write.
#![cfg(feature = "testing")]
// Outside of a `#[test]` clippy takes this for a library.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use cni_core::backend::{AddRequest, CheckRequest, Context, DelRequest, GcRequest, StatusRequest};
use cni_core::chained::bandwidth::BandwidthPlugin;
use cni_core::chained::tuning::TuningPlugin;
use cni_core::host::netlink::{NetlinkChange, NetlinkExt, NewLink, NewLinkKind};
use cni_core::host::{Host, Sandbox};
use cni_core::spec::config::{CniArgs, NetworkConfig};
use cni_core::spec::{AddResult, Attachment, Interface, ValidAttachments};
use cni_core::testing::{FakeIpam, FakeKernel, Faults, Faulty, snapshot, snapshot_sandbox};
use cni_core::{Cancel, ErrorKind, NetworkBackend, Result};

const ENOMEM: i32 = 12;

/// A pod on a node, attached by a veth pair, and a plugin behind the one that has made it.
struct Scene {
    kernel: FakeKernel,
    host: Host,
    sandbox: Sandbox,
    faults: Faults,
    attachment: Attachment,
    config: NetworkConfig,
    previous: AddResult,
    plugin: Box<dyn NetworkBackend>,
    _directory: tempfile::TempDir,
    files: std::path::PathBuf,
}

fn bandwidth() -> (Box<dyn NetworkBackend>, &'static str) {
    let limits =
        r#""ingressRate":8000000,"ingressBurst":800000,"egressRate":8000000,"egressBurst":800000"#;
    (Box::new(BandwidthPlugin), limits)
}

fn tuning() -> (Box<dyn NetworkBackend>, &'static str) {
    let keys = r#""mac":"02:00:00:00:00:09","mtu":1400,"promisc":true,"allmulti":true,"txQLen":7,
        "sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1","net.ipv4.ip_unprivileged_port_start":"0"}"#;
    (
        Box::new(TuningPlugin::with_allow_list("/nonexistent")),
        keys,
    )
}

impl Scene {
    async fn new((plugin, keys): (Box<dyn NetworkBackend>, &str)) -> Self {
        Self::on(FakeKernel::new(), (plugin, keys)).await
    }

    async fn on(kernel: FakeKernel, (plugin, keys): (Box<dyn NetworkBackend>, &str)) -> Self {
        let raw = kernel.sandbox("/run/netns/pod");
        let kind = NewLinkKind::Veth {
            peer: "eth0".into(),
            peer_mac: None,
            peer_netns: Some(raw.path.clone()),
        };
        let mut pair = NewLink::new("vethx", kind);
        pair.up = true;
        let pair = NetlinkChange::LinkAdd(pair);
        kernel.host().netlink.apply_one(pair).await.unwrap();
        let mut interface = Interface::new("eth0");
        interface.sandbox = raw.path.to_string();
        let previous = {
            let mut previous = AddResult::default();
            previous.interfaces.push(interface);
            previous
        };
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("tuning");
        let text = format!(
            r#"{{"cniVersion":"1.1.0","name":"net","type":"x","dataDir":{files:?},{keys}}}"#
        );
        let faults = Faults::new();
        Self {
            host: Faulty::host(&kernel.host(), &faults),
            sandbox: Faulty::sandbox(&raw, &faults),
            kernel,
            faults,
            attachment: Attachment {
                network: "net".parse().unwrap(),
                container: "c1".parse().unwrap(),
                interface: "eth0".parse().unwrap(),
            },
            config: NetworkConfig::parse(text.as_bytes()).unwrap(),
            previous,
            plugin,
            _directory: directory,
            files,
        }
    }

    async fn with<T>(&self, verb: impl AsyncFnOnce(&Context<'_>) -> T) -> T {
        let ipam = FakeIpam::new([]);
        let cancel = Cancel::new();
        let cx = Context {
            host: &self.host,
            ipam: &ipam,
            cancel: &cancel,
            dry_run: false,
        };
        verb(&cx).await
    }

    async fn add(&self) -> Result<AddResult> {
        let request = AddRequest {
            attachment: &self.attachment,
            sandbox: &self.sandbox,
            config: &self.config,
            args: &CniArgs::default(),
            prev_result: Some(&self.previous),
        };
        self.with(async |cx| {
            let added = self.plugin.add(cx, &request).await?;
            self.plugin.seal(cx, &request).await?;
            Ok(added.result)
        })
        .await
    }

    async fn del(&self) -> Result<()> {
        let request = DelRequest {
            attachment: &self.attachment,
            netns: Some(&self.sandbox.path),
            config: &self.config,
            args: &CniArgs::default(),
            prev_result: None,
        };
        self.with(async |cx| self.plugin.del(cx, &request).await)
            .await
    }

    async fn check(&self, result: &AddResult) -> Result<()> {
        let request = CheckRequest {
            attachment: &self.attachment,
            sandbox: &self.sandbox,
            config: &self.config,
            args: &CniArgs::default(),
            prev_result: result,
        };
        self.with(async |cx| self.plugin.check(cx, &request).await)
            .await
    }

    async fn gc(&self) -> Result<()> {
        let request = GcRequest {
            network: &self.attachment.network,
            config: &self.config,
            valid: &ValidAttachments::new([]),
        };
        self.with(async |cx| self.plugin.gc(cx, &request).await)
            .await
    }

    async fn status(&self) -> Result<()> {
        let request = StatusRequest {
            network: &self.attachment.network,
            config: &self.config,
        };
        self.with(async |cx| self.plugin.status(cx, &request).await)
            .await
    }

    async fn state(&self) -> String {
        let host = snapshot(&self.kernel.host(), &[]).await.unwrap();
        let inside = self.kernel.sandbox("/run/netns/pod");
        let inside = snapshot_sandbox(&inside).await.unwrap();
        format!("{host}\n{inside}\n{}", listing(&self.files))
    }
}

fn listing(directory: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return String::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names.map(|name| format!("{name:?}\n")).collect()
}

async fn each(body: impl AsyncFn(&Scene)) {
    body(&Scene::new(bandwidth()).await).await;
    body(&Scene::new(tuning()).await).await;
}

#[tokio::test]
async fn an_add_and_a_del_leave_the_state_as_it_was() {
    each(async |scene| {
        let before = scene.state().await;
        let result = scene.add().await.unwrap();
        assert_ne!(scene.state().await, before);
        scene.check(&result).await.unwrap();
        let made = scene.state().await;
        scene.add().await.unwrap();
        assert_eq!(scene.state().await, made, "a second ADD");
        scene.del().await.unwrap();
        assert_eq!(scene.state().await, before);
        scene.del().await.unwrap();
        assert_eq!(scene.state().await, before);
    })
    .await;
}

#[tokio::test]
async fn an_add_that_fails_at_any_write_changes_nothing() {
    each(async |scene| {
        let before = scene.state().await;
        for n in 1.. {
            scene.faults.reset();
            scene.faults.fail_write(n, ENOMEM);
            let outcome = scene.add().await;
            let struck = scene.faults.fired() > 0;
            scene.faults.reset();
            match outcome {
                // The seal's: the runtime has its result.
                Err(_) if struck && scene.check(&scene.previous).await.is_err() => {
                    let after = scene.state().await;
                    if after != before {
                        assert!(after.contains("ifb"), "at write {n}: {after}");
                    }
                    scene.del().await.unwrap();
                    assert_eq!(scene.state().await, before, "at write {n}");
                }
                Err(error) => panic!("at write {n}: {error:?}"),
                Ok(_) => {
                    assert!(!struck && n > 5, "write {n} failed unseen");
                    return;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_add_that_dies_at_any_write_is_cleaned_up_by_del_and_can_be_repeated() {
    each(async |scene| {
        let before = scene.state().await;
        for again in [false, true] {
            for n in 1.. {
                scene.faults.reset();
                scene.faults.crash_at(n);
                let _ = scene.add().await;
                let struck = scene.faults.fired() > 0;
                scene.faults.reset();
                if again {
                    let result = scene.add().await.unwrap();
                    scene.check(&result).await.unwrap();
                }
                scene.del().await.unwrap();
                assert_eq!(scene.state().await, before, "died at write {n}");
                if !struck {
                    break;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_del_that_fails_or_dies_at_any_write_says_so_and_can_be_repeated() {
    each(async |scene| {
        let before = scene.state().await;
        for dies in [false, true] {
            for n in 1.. {
                scene.add().await.unwrap();
                scene.faults.reset();
                match dies {
                    true => scene.faults.crash_at(n),
                    false => scene.faults.fail_write(n, ENOMEM),
                }
                let outcome = scene.del().await;
                let struck = scene.faults.fired() > 0;
                scene.faults.reset();
                assert_eq!(outcome.is_err(), struck, "write {n}: {outcome:?}");
                scene.del().await.unwrap();
                assert_eq!(scene.state().await, before, "write {n}");
                if !struck {
                    break;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn gc_removes_what_a_lost_del_has_left_on_the_host() {
    each(async |scene| {
        scene.add().await.unwrap();
        let path = scene.sandbox.path.clone();
        scene.kernel.remove_namespace(&path);
        scene.gc().await.unwrap();
        let host = snapshot(&scene.kernel.host(), &[]).await.unwrap();
        assert!(!host.contains("ifb"), "{host}");
        assert_eq!(listing(&scene.files), "");
    })
    .await;
}

#[tokio::test]
async fn what_was_there_before_the_first_add_is_what_del_puts_back() {
    let scene = Scene::new(tuning()).await;
    let before = scene.state().await;
    scene.add().await.unwrap();
    let file = scene.files.join("c1_eth0.json");
    let first = std::fs::read_to_string(&file).unwrap();
    // The container has changed something, and the runtime asks again.
    let change = NetlinkChange::LinkSet {
        link: "eth0".into(),
        settings: {
            let mut settings = cni_core::host::netlink::LinkSettings::default();
            settings.mtu = Some(1300);
            settings
        },
    };
    scene.sandbox.netlink.apply_one(change).await.unwrap();
    let result = scene.add().await.unwrap();
    scene.check(&result).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
    scene.del().await.unwrap();
    assert_eq!(scene.state().await, before);
}

#[tokio::test]
async fn a_kernel_that_cannot_limit_traffic_says_so_in_status_and_add() {
    let kernel = FakeKernel::new().without_traffic_control();
    let scene = Scene::on(kernel, bandwidth()).await;
    let before = scene.state().await;
    let error = scene.status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAvailable);
    assert!(error.to_string().contains("needs ifb"), "{error}");
    let error = scene.add().await.unwrap_err();
    assert!(
        error.chain().contains("Specified qdisc kind is unknown"),
        "{error:?}"
    );
    assert_eq!(scene.state().await, before);
    scene.del().await.unwrap();
    Scene::new(bandwidth()).await.status().await.unwrap();
}

#[tokio::test]
async fn status_of_tuning_asks_for_a_place_to_write() {
    let scene = Scene::new(tuning()).await;
    scene.status().await.unwrap();
    assert_eq!(listing(&scene.files), "");
    let broken = Scene {
        config: NetworkConfig::parse(
            br#"{"cniVersion":"1.1.0","name":"net","type":"x","dataDir":"/dev/null/x"}"#,
        )
        .unwrap(),
        ..scene
    };
    let error = broken.status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAvailable, "{error:?}");
}
