//! What is left of an ADD or a DEL that fails or dies half-way: nothing, after one DEL.

use std::thread;
use std::time::{Duration, Instant};

use cni_core::backend::{AddRequest, Context, DelRequest};
use cni_core::chained::portmap::Portmap;
use cni_core::host::Host;
use cni_core::host::conntrack::{Flow, FlowFilter};
use cni_core::host::netns::NetnsPath;
use cni_core::spec::{AddResult, Attachment, CniArgs, NetworkConfig};
use cni_core::testing::{FakeIpam, Faults, Faulty};
use cni_core::{Cancel, NetworkBackend};
use cni_testkit::{Pod, Snapshot, Test, tests};
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

/// Moments that cover a run: each waits for as long as its number says, in a different order each time a test runs.
fn moments(whole: Duration) -> impl Iterator<Item = Duration> {
    const COUNT: u32 = 40;
    (0..COUNT).map(move |number| whole * (number * 17 % COUNT) / (COUNT - 4))
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

    /// Runs a verb and kills it after a while, which is the point: whether it was still at work is left to chance.
    fn kill_after(&self, verb: &str, moment: Duration) -> bool {
        let start = Instant::now();
        let mut running = self.network.portmap(verb, &self.pod, &self.result).start();
        thread::sleep(moment.saturating_sub(start.elapsed()));
        running.kill();
        let outcome = running.finish();
        outcome.is_success() || !outcome.output.stdout.is_empty()
    }

    fn duration_of(&self, verb: &str) -> Duration {
        let start = Instant::now();
        let outcome = self.network.portmap(verb, &self.pod, &self.result).run();
        assert!(outcome.is_success(), "{outcome}");
        start.elapsed()
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
    let whole = scene.duration_of("ADD");
    scene.del();
    let before = state();
    let mut died = 0;
    for moment in moments(whole) {
        died += u32::from(!scene.kill_after("ADD", moment));
        if !elements("ports4")
            .iter()
            .all(|element| element.key.last() != Some(&cni_core::host::firewall::Value::Port(5353)))
        {
            scene.talk();
        }
        scene.del();
        assert_as_before(&before, &format!("ADD killed after {moment:?}"));
    }
    assert!(died > 5, "only {died} runs were killed in time");
}

fn an_add_killed_anywhere_can_be_repeated() {
    let scene = Scene::new(true);
    let whole = scene.duration_of("ADD");
    scene.del();
    let before = state();
    for moment in moments(whole) {
        scene.kill_after("ADD", moment);
        scene.duration_of("ADD");
        let check = scene.network.portmap("CHECK", &scene.pod, &scene.result);
        check.run().silent_success();
        scene.talk();
        scene.del();
        assert_as_before(&before, &format!("ADD killed after {moment:?}"));
    }
}

fn a_del_killed_anywhere_can_be_repeated() {
    let scene = Scene::new(true);
    let before = state();
    scene.duration_of("ADD");
    let whole = scene.duration_of("DEL");
    for moment in moments(whole) {
        scene.duration_of("ADD");
        scene.talk();
        scene.kill_after("DEL", moment);
        scene.del();
        assert_as_before(&before, &format!("DEL killed after {moment:?}"));
    }
}

fn a_first_add_killed_anywhere_is_cleaned_up_by_del_and_gc() {
    let scene = Scene::new(false);
    let key = "net/ipv4/conf/br9/route_localnet";
    let whole = scene.duration_of("ADD");
    scene.del();
    scene.network.gc(&[]).silent_success();
    let before = state();
    for moment in moments(whole) {
        scene.kill_after("ADD", moment);
        let open = cni_testkit::sysctl(key).as_deref() == Some("1");
        assert!(
            !open || !elements("localnet").is_empty(),
            "open without the guard"
        );
        scene.del();
        scene.network.gc(&[]).silent_success();
        assert_as_before(&before, &format!("first ADD killed after {moment:?}"));
        assert_eq!(cni_testkit::sysctl(key).as_deref(), Some("0"));
    }
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
        scene.duration_of("ADD");
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
