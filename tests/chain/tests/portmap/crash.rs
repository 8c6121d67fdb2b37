//! What is left of an ADD or a DEL that fails or dies half-way: nothing, after one DEL.

use cni_core::backend::{AddRequest, Context, DelRequest};
use cni_core::chained::portmap::Portmap;
use cni_core::host::Host;
use cni_core::host::conntrack::{Flow, FlowFilter};
use cni_core::host::netns::NetnsPath;
use cni_core::spec::{AddResult, Attachment, CniArgs, NetworkConfig};
use cni_core::testing::{FakeIpam, Faults, Faulty};
use cni_core::{Cancel, NetworkBackend};
use cni_testkit::{Fate, Pod, Snapshot, Test, at_every_moment, tests};
use serde_json::{Value, json};

use super::world::*;

pub(crate) const TESTS: &[Test] = &tests![
    an_add_killed_anywhere_is_cleaned_up_by_one_del,
    an_add_killed_anywhere_can_be_repeated,
    a_del_killed_anywhere_can_be_repeated,
    a_first_add_killed_anywhere_is_cleaned_up_by_del_and_gc,
    an_add_that_fails_at_any_write_changes_nothing_on_a_fresh_node,
    an_add_that_fails_at_any_write_changes_nothing_on_a_used_node,
    a_del_that_fails_at_any_write_is_made_good_by_the_next,
];

fn network() -> Network {
    Network::new()
        .with(json!({ "conditionsV4": ["!", "-s", OTHER4], "markMasqBit": 3 }))
        .publishing(&["8080:80/tcp", "5353:53/udp", "192.0.2.1:8443:443/tcp"])
}

/// The kernel's objects, the parameter that is opened, and who answers what is asked on the UDP port.
fn state() -> (Snapshot, Vec<Flow>) {
    let host = Host::open().expect("the kernel");
    let mut flows = block(host.conntrack.flows(&FlowFilter::of(false, 17))).expect("flows");
    flows.retain(|flow| flow.reply_source.port() == 53);
    // The bridge's link-local address gets its routes two seconds after the bridge was made.
    (Snapshot::take().without("dst fe80::"), flows)
}

#[track_caller]
fn assert_as_before(before: &(Snapshot, Vec<Flow>), what: &str) {
    let after = state();
    let changes = after.0.since(&before.0);
    assert!(changes.is_empty(), "{what}: the state changed:\n{changes}");
    assert_eq!(after.1, before.1, "{what}: flows");
}

struct Scene {
    outside: Pod,
    network: Network,
    pod: Pod,
    result: Value,
    _server: Named,
    _first: Pod,
}

impl Scene {
    /// With `used` the table has been made by another attachment.
    fn new(used: bool) -> Self {
        let (outside, network) = (outside(), network());
        let (first, pod) = (Pod::new("first"), Pod::new("pod"));
        if used {
            let ports = ["1:1/tcp", "192.0.2.1:2:2/udp"];
            network.clone().publishing(&ports).add(&first);
        }
        let result = network.attach(&pod);
        let _server = pod.run(|| Named::here("[::]:53", "pod"));
        Self {
            outside,
            network,
            pod,
            result,
            _server,
            _first: first,
        }
    }

    fn killed_at(&self, verb: &str, number: usize) -> Fate {
        self.network
            .portmap(verb, &self.pod, &self.result)
            .killed_at(number)
    }

    fn add(&self) {
        let add = self.network.portmap("ADD", &self.pod, &self.result);
        add.run().result();
    }

    fn del(&self) {
        self.network.bare_del(&self.pod).silent_success();
    }

    fn talk(&self) {
        let client = Client::of(&self.outside, "192.0.2.1:5353");
        assert_eq!(client.ask().expect("an answer"), "pod");
    }
}

fn an_add_killed_anywhere_is_cleaned_up_by_one_del() {
    let scene = Scene::new(true);
    let before = state();
    let died = at_every_moment(|number| {
        let fate = scene.killed_at("ADD", number);
        if !elements("ports4")
            .iter()
            .all(|element| element.key.last() != Some(&cni_core::host::firewall::Value::Port(5353)))
        {
            scene.talk();
        }
        scene.del();
        assert_as_before(&before, &format!("ADD {fate}"));
        fate
    });
    assert!(died > 3, "{died} moments");
}

fn an_add_killed_anywhere_can_be_repeated() {
    let scene = Scene::new(true);
    let before = state();
    let died = at_every_moment(|number| {
        let fate = scene.killed_at("ADD", number);
        scene.add();
        let check = scene.network.portmap("CHECK", &scene.pod, &scene.result);
        check.run().silent_success();
        scene.talk();
        scene.del();
        assert_as_before(&before, &format!("ADD {fate}"));
        fate
    });
    assert!(died > 3, "{died} moments");
}

fn a_del_killed_anywhere_can_be_repeated() {
    let scene = Scene::new(true);
    let before = state();
    let died = at_every_moment(|number| {
        scene.add();
        scene.talk();
        let fate = scene.killed_at("DEL", number);
        scene.del();
        assert_as_before(&before, &format!("DEL {fate}"));
        fate
    });
    assert!(died > 3, "{died} moments");
}

fn a_first_add_killed_anywhere_is_cleaned_up_by_del_and_gc() {
    let scene = Scene::new(false);
    let key = "net/ipv4/conf/br9/route_localnet";
    let before = state();
    let died = at_every_moment(|number| {
        let fate = scene.killed_at("ADD", number);
        let open = cni_testkit::sysctl(key).as_deref() == Some("1");
        assert!(
            !open || !elements("localnet").is_empty(),
            "ADD {fate}: open without the guard"
        );
        scene.del();
        scene.network.gc(&[]).silent_success();
        assert_as_before(&before, &format!("first ADD {fate}"));
        assert_eq!(cni_testkit::sysctl(key).as_deref(), Some("0"));
        fate
    });
    assert!(died > 3, "{died} moments");
}

/// A verb on the real kernel in this process, with the `n`-th write failing: its outcome, and whether there was such a write.
fn with_fault(scene: &Scene, verb: &str, n: u64) -> (Result<(), cni_core::Error>, bool) {
    const ENOMEM: i32 = 12;
    let config = scene.network.config(&scene.result).to_string();
    let config = NetworkConfig::parse(config.as_bytes()).unwrap();
    let result = AddResult::parse(&scene.result.to_string(), config.version()).unwrap();
    let faults = Faults::new();
    faults.fail_write(n, ENOMEM);
    let host = Faulty::host(&Host::open().unwrap(), &faults);
    let (args, cancel) = (CniArgs::default(), Cancel::new());
    let ipam = FakeIpam::new([]);
    let attachment = Attachment {
        network: config.name().clone(),
        container: scene.pod.id().parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    };
    block(async {
        let cx = Context {
            host: &host,
            ipam: &ipam,
            cancel: &cancel,
            dry_run: false,
        };
        let outcome = match verb {
            "ADD" => {
                let netns = NetnsPath::new(scene.pod.path());
                let sandbox = host.namespaces.open(&netns).await.unwrap();
                let request = AddRequest {
                    attachment: &attachment,
                    sandbox: &sandbox,
                    config: &config,
                    args: &args,
                    prev_result: Some(&result),
                };
                Portmap.add(&cx, &request).await.map(|_| ())
            }
            _ => {
                let request = DelRequest {
                    attachment: &attachment,
                    netns: None,
                    config: &config,
                    args: &args,
                    prev_result: None,
                };
                Portmap.del(&cx, &request).await
            }
        };
        (outcome, faults.fired() > 0)
    })
}

fn an_add_that_fails_at_any_write_changes_nothing_on_a_fresh_node() {
    fail_at_every_write(false);
}

fn an_add_that_fails_at_any_write_changes_nothing_on_a_used_node() {
    fail_at_every_write(true);
}

fn fail_at_every_write(used: bool) {
    let scene = Scene::new(used);
    let _host = Named::here("192.0.2.1:5353", "host");
    let before = state();
    let mut n = 1;
    loop {
        // A flow of the host's listener, which ADD has to delete.
        let client = Client::of(&scene.outside, "192.0.2.1:5353");
        assert_eq!(client.ask().expect("an answer"), "host");
        let (outcome, struck) = with_fault(&scene, "ADD", n);
        assert_eq!(outcome.is_err(), struck, "write {n}: {outcome:?}");
        if !struck {
            break;
        }
        assert_as_before(&before, &format!("write {n} failed"));
        n += 1;
    }
    assert!(n > 3, "{n} writes");
    scene.talk();
}

fn a_del_that_fails_at_any_write_is_made_good_by_the_next() {
    let scene = Scene::new(true);
    let before = state();
    let mut n = 1;
    loop {
        scene.add();
        scene.talk();
        let (outcome, struck) = with_fault(&scene, "DEL", n);
        assert_eq!(outcome.is_err(), struck, "write {n}: {outcome:?}");
        scene.del();
        assert_as_before(&before, &format!("write {n} failed"));
        if !struck {
            break;
        }
        n += 1;
    }
    assert!(n > 3, "{n} writes");
}
