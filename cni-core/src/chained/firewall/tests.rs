//! The contract, on the fake kernel: with faults at every write, beside legacy tables and a firewalld that refuses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Firewall, Zones, bridge_table, table};
use crate::backend::{
    AddRequest, CheckRequest, Context, DelRequest, GcRequest, NetworkBackend, StatusRequest,
};
use crate::host::firewall::{
    Action, ChainKind, ChainSpec, Family, FirewallChange, Hook, HookPoint, Rule, Table, TableSpec,
};
use crate::host::netlink::{NetlinkChange, NetlinkExt, NewLink, NewLinkKind};
use crate::host::{Host, HostLock};
use crate::spec::{AddResult, Attachment, CniArgs, NetworkConfig, ValidAttachments};
use crate::testing::{FakeKernel, Faults, Faulty, MockIpam, snapshot};
use crate::{Cancel, Error, ErrorKind, Result};

/// A firewalld of which a test knows what it holds.
#[derive(Debug, Default)]
struct Fake {
    running: bool,
    sources: Mutex<BTreeSet<IpAddr>>,
    refuses: bool,
    /// A lock that nobody may hold while it is asked.
    lock: Option<Arc<dyn HostLock>>,
    /// How many of the next removals fail.
    silent: AtomicUsize,
}

#[async_trait]
impl Zones for Fake {
    async fn running(&self) -> bool {
        self.running
    }
    async fn has(&self, _: &str, address: IpAddr) -> Result<bool> {
        Ok(self.sources.lock().unwrap().contains(&address))
    }
    async fn add(&self, _: &str, address: IpAddr) -> Result<()> {
        if self.refuses && address.is_ipv6() {
            return Err(Error::new(ErrorKind::Io, "refused"));
        }
        self.sources.lock().unwrap().insert(address);
        Ok(())
    }
    async fn remove(&self, address: IpAddr) -> Result<()> {
        if let Some(lock) = &self.lock {
            let free = lock.try_exclusive().await?.is_some();
            assert!(free, "others wait for an answer of firewalld's");
        }
        let silent = |left: usize| left.checked_sub(1);
        if self.silent.fetch_update(Relaxed, Relaxed, silent).is_ok() {
            return Err(Error::new(ErrorKind::Io, "no answer"));
        }
        self.sources.lock().unwrap().remove(&address);
        Ok(())
    }
}

fn filter(family: Family) -> Table {
    let name = "filter".to_owned();
    Table { family, name }
}

/// A host with a bridge, whose iptables drop something, and which has a legacy table, too.
async fn node() -> FakeKernel {
    let kernel = FakeKernel::new().with_legacy_filter(Family::Ip);
    let host = kernel.host();
    for family in [Family::Ip, Family::Ip6] {
        let spec = TableSpec {
            table: filter(family),
            sets: Vec::new(),
            chains: vec![ChainSpec {
                name: "FORWARD".to_owned(),
                hook: Some(Hook {
                    kind: ChainKind::Filter,
                    point: HookPoint::Forward,
                    priority: 0,
                }),
                rules: vec![Rule {
                    matches: Vec::new(),
                    action: Action::Drop { counter: false },
                }],
            }],
        };
        host.firewall.commit(&spec.converge()).await.unwrap();
    }
    let bridge = NewLink::new(
        "br0",
        NewLinkKind::Bridge {
            vlan_filtering: false,
        },
    );
    let change = NetlinkChange::LinkAdd(bridge);
    host.netlink.apply_one(change).await.unwrap();
    kernel
}

/// A container on the bridge, and what the bridge plugin has said of it.
struct Pod {
    attachment: Attachment,
    config: NetworkConfig,
    result: AddResult,
    sandbox: crate::host::Sandbox,
}

fn pod(kernel: &FakeKernel, number: u8, policy: &str) -> Pod {
    let config = format!(
        r#"{{"cniVersion":"1.1.0","name":"n","type":"firewall","ingressPolicy":"{policy}"}}"#
    );
    let result = format!(
        r#"{{"cniVersion":"1.1.0","interfaces":[{{"name":"br0"}},{{"name":"eth0","sandbox":"/run/netns/c{number}"}}],
           "ips":[{{"address":"10.1.0.{number}/24","interface":1}},{{"address":"fd00::{number}/64","interface":1}}]}}"#
    );
    let container = format!("c{number}");
    Pod {
        attachment: Attachment {
            network: "n".parse().unwrap(),
            container: container.parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        },
        config: NetworkConfig::parse(config.as_bytes()).unwrap(),
        result: parsed(&result),
        sandbox: kernel.sandbox(format!("/run/netns/{container}")),
    }
}

fn parsed(text: &str) -> AddResult {
    let config = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"x","prevResult":{text}}}"#);
    let config = NetworkConfig::parse(config.as_bytes()).unwrap();
    config.prev_result().unwrap().unwrap()
}

async fn add(firewall: &Firewall, host: &Host, pod: &Pod) -> Result<AddResult> {
    let (args, cancel, ipam) = (CniArgs::default(), Cancel::new(), MockIpam::new());
    let cx = context(host, &ipam, &cancel);
    let request = AddRequest {
        attachment: &pod.attachment,
        sandbox: &pod.sandbox,
        config: &pod.config,
        args: &args,
        prev_result: Some(&pod.result),
    };
    firewall.add(&cx, &request).await.map(|added| added.result)
}

async fn del(firewall: &Firewall, host: &Host, pod: &Pod) -> Result<()> {
    let (args, cancel, ipam) = (CniArgs::default(), Cancel::new(), MockIpam::new());
    let request = DelRequest {
        attachment: &pod.attachment,
        netns: None,
        config: &pod.config,
        args: &args,
        prev_result: None,
    };
    firewall.del(&context(host, &ipam, &cancel), &request).await
}

async fn check(firewall: &Firewall, host: &Host, pod: &Pod) -> Result<()> {
    let (args, cancel, ipam) = (CniArgs::default(), Cancel::new(), MockIpam::new());
    let request = CheckRequest {
        attachment: &pod.attachment,
        sandbox: &pod.sandbox,
        config: &pod.config,
        args: &args,
        prev_result: &pod.result,
    };
    firewall
        .check(&context(host, &ipam, &cancel), &request)
        .await
}

fn context<'a>(host: &'a Host, ipam: &'a MockIpam, cancel: &'a Cancel) -> Context<'a> {
    Context {
        host,
        ipam,
        cancel,
        dry_run: false,
    }
}

async fn state(kernel: &FakeKernel) -> String {
    let tables = [
        table(),
        bridge_table(),
        filter(Family::Ip),
        filter(Family::Ip6),
    ];
    let mut text = snapshot(&kernel.host(), &tables).await.unwrap();
    for rule in kernel.legacy_rules() {
        text.push_str(&format!("legacy {rule:?}\n"));
    }
    text
}

fn plain() -> Firewall {
    Firewall::with_zones(Arc::new(Fake::default()))
}

#[tokio::test]
async fn the_last_del_leaves_the_state_before_whatever_the_policies_were() {
    let kernel = node().await;
    let host = kernel.host();
    let before = state(&kernel).await;
    for policies in [
        ["open", "open"],
        ["same-bridge", "isolated"],
        ["isolated", "open"],
    ] {
        let pods = [pod(&kernel, 2, policies[0]), pod(&kernel, 3, policies[1])];
        let mut between = Vec::new();
        for pod in &pods {
            let result = add(&plain(), &host, pod).await.unwrap();
            assert_eq!(format!("{result:?}"), format!("{:?}", pod.result));
            check(&plain(), &host, pod).await.unwrap();
            between.push(state(&kernel).await);
        }
        assert!(between[0].contains("cni: accepted by") && between[0].contains("legacy"));
        del(&plain(), &host, &pods[1]).await.unwrap();
        // Of the bridge's table nothing but what the first one needs.
        assert_eq!(state(&kernel).await, between[0], "{policies:?}");
        check(&plain(), &host, &pods[0]).await.unwrap();
        for _ in 0..2 {
            del(&plain(), &host, &pods[0]).await.unwrap();
            assert_eq!(state(&kernel).await, before, "{policies:?}");
        }
    }
}

#[tokio::test]
async fn an_add_that_fails_at_any_write_changes_nothing() {
    for others in [0, 1] {
        let kernel = node().await;
        let neighbour = pod(&kernel, 9, "open");
        if others == 1 {
            add(&plain(), &kernel.host(), &neighbour).await.unwrap();
        }
        let pod = pod(&kernel, 2, "isolated");
        let before = state(&kernel).await;
        let mut n = 1;
        loop {
            let faults = Faults::new();
            faults.fail_write(n, 105);
            let host = Faulty::host(&kernel.host(), &faults);
            let outcome = add(&plain(), &host, &pod).await;
            if faults.fired() == 0 {
                outcome.unwrap();
                break;
            }
            assert!(outcome.is_err(), "write {n}");
            assert_eq!(state(&kernel).await, before, "write {n}");
            n += 1;
        }
        assert!(n > 1, "{n} writes");
    }
}

#[tokio::test]
async fn a_process_that_dies_at_any_write_leaves_what_one_del_removes() {
    let kernel = node().await;
    let pod = pod(&kernel, 2, "isolated");
    let before = state(&kernel).await;
    for n in 1..20 {
        for verb in ["ADD", "DEL"] {
            if verb == "DEL" {
                add(&plain(), &kernel.host(), &pod).await.unwrap();
            }
            let faults = Faults::new();
            faults.crash_at(n);
            let host = Faulty::host(&kernel.host(), &faults);
            let outcome = match verb {
                "ADD" => add(&plain(), &host, &pod).await.map(|_| ()),
                _ => del(&plain(), &host, &pod).await,
            };
            assert_eq!(outcome.is_err(), faults.fired() > 0, "{verb}, write {n}");
            del(&plain(), &kernel.host(), &pod).await.unwrap();
            assert_eq!(state(&kernel).await, before, "{verb}, write {n}");
        }
    }
}

#[tokio::test]
async fn an_address_that_firewalld_refuses_takes_everything_back() {
    let kernel = node().await;
    let host = kernel.host();
    let before = state(&kernel).await;
    let zones = Arc::new(Fake {
        running: true,
        refuses: true,
        ..Fake::default()
    });
    let pod = pod(&kernel, 2, "open");
    let error = add(&Firewall::with_zones(zones.clone()), &host, &pod).await;
    assert!(error.is_err());
    assert_eq!(state(&kernel).await, before);
    assert!(zones.sources.lock().unwrap().is_empty());
}

#[tokio::test]
async fn addresses_are_in_the_zone_for_as_long_as_their_attachment() {
    let kernel = node().await;
    let host = kernel.host();
    let zones = Arc::new(Fake {
        running: true,
        ..Fake::default()
    });
    let firewall = Firewall::with_zones(zones.clone());
    let pods = [pod(&kernel, 2, "open"), pod(&kernel, 3, "open")];
    for pod in &pods {
        add(&firewall, &host, pod).await.unwrap();
    }
    assert_eq!(zones.sources.lock().unwrap().len(), 4);
    check(&firewall, &host, &pods[0]).await.unwrap();
    let address: IpAddr = "10.1.0.2".parse().unwrap();
    zones.sources.lock().unwrap().remove(&address);
    let error = check(&firewall, &host, &pods[0]).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("10.1.0.2 is not in firewalld's zone"),
        "{error}"
    );
    del(&firewall, &host, &pods[0]).await.unwrap();
    assert_eq!(zones.sources.lock().unwrap().len(), 2);
    let (cancel, ipam) = (Cancel::new(), MockIpam::new());
    let request = GcRequest {
        network: &pods[1].attachment.network,
        config: &pods[1].config,
        valid: &ValidAttachments::default(),
    };
    firewall
        .gc(&context(&host, &ipam, &cancel), &request)
        .await
        .unwrap();
    assert!(zones.sources.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_lock_is_free_while_firewalld_is_asked_and_a_del_that_gets_no_answer_can_be_repeated() {
    let kernel = node().await;
    let host = kernel.host();
    let before = state(&kernel).await;
    let zones = Arc::new(Fake {
        running: true,
        lock: Some(host.lock.clone()),
        silent: AtomicUsize::new(1),
        ..Fake::default()
    });
    let firewall = Firewall::with_zones(zones.clone());
    let pod = pod(&kernel, 2, "open");
    add(&firewall, &host, &pod).await.unwrap();
    let made = state(&kernel).await;
    del(&firewall, &host, &pod).await.unwrap_err();
    assert_eq!(
        state(&kernel).await,
        made,
        "the next DEL finds the addresses"
    );
    del(&firewall, &host, &pod).await.unwrap();
    assert!(zones.sources.lock().unwrap().is_empty());
    assert_eq!(state(&kernel).await, before);
}

#[tokio::test]
async fn without_nftables_add_is_refused_and_del_has_nothing_to_do() {
    use crate::host::netlink::NetlinkError;
    use crate::host::netlink::errno::EPROTONOSUPPORT;
    use crate::testing::MockFirewall;

    let kernel = FakeKernel::new();
    let pod = pod(&kernel, 2, "open");
    let mut firewall = MockFirewall::new();
    let refused = || NetlinkError::new("nft list table", EPROTONOSUPPORT);
    firewall.expect_table().returning(move |_| Err(refused()));
    let host = Host {
        firewall: Arc::new(firewall),
        ..kernel.host()
    };
    assert!(add(&plain(), &host, &pod).await.is_err());
    del(&plain(), &host, &pod).await.unwrap();
    let (cancel, ipam) = (Cancel::new(), MockIpam::new());
    let request = StatusRequest {
        network: &pod.attachment.network,
        config: &pod.config,
    };
    let status = plain()
        .status(&context(&host, &ipam, &cancel), &request)
        .await;
    assert_eq!(status.unwrap_err().kind(), ErrorKind::NotAvailable);
}

#[tokio::test]
async fn firewalld_that_is_asked_for_must_run_for_add_and_not_for_del() {
    let kernel = node().await;
    let host = kernel.host();
    let mut pod = pod(&kernel, 2, "open");
    let config = br#"{"cniVersion":"1.1.0","name":"n","type":"firewall","backend":"firewalld"}"#;
    pod.config = NetworkConfig::parse(config).unwrap();
    let before = state(&kernel).await;
    let error = add(&plain(), &host, &pod).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    del(&plain(), &host, &pod).await.unwrap();
    assert_eq!(state(&kernel).await, before);
}

#[tokio::test]
async fn check_and_status_write_nothing() {
    let kernel = node().await;
    let pod = pod(&kernel, 2, "isolated");
    add(&plain(), &kernel.host(), &pod).await.unwrap();
    let table_del = [FirewallChange::TableDel(table())];
    for damaged in [false, true] {
        if damaged {
            kernel.host().firewall.commit(&table_del).await.unwrap();
        }
        let faults = Faults::new();
        let host = Faulty::host(&kernel.host(), &faults);
        let outcome = check(&plain(), &host, &pod).await;
        assert_eq!(outcome.is_err(), damaged, "{outcome:?}");
        let (cancel, ipam) = (Cancel::new(), MockIpam::new());
        let request = StatusRequest {
            network: &pod.attachment.network,
            config: &pod.config,
        };
        plain()
            .status(&context(&host, &ipam, &cancel), &request)
            .await
            .unwrap();
        assert_eq!(faults.writes(), 0);
    }
}
