//! What happens to the API server and to the way to it, and what becomes of pods meanwhile.

use std::time::{Duration, Instant};

use cni_testkit::cluster::{
    Attached, Cluster, Host, Layout, Matrix, Node, Segment, Stream, await_condition,
};
use cni_testkit::kube::{self, ApiServer, Fault, Resource, Streaming, User, named};
use cni_testkit::{Ping, Pod, Process, Test, tests};
use serde_json::json;

use crate::etcd::{await_peers, await_word, prefixes};
use crate::kube::{Site, entry, far, name, put, register, server};
use crate::world::{Flow, Over, await_ready, metric, page};

pub(crate) const TESTS: &[Test] = &tests![
    a_partition_a_restart_a_freeze_and_slowness_of_kubernetes_cost_no_packet::<Flow>,
    an_agent_that_starts_while_kubernetes_is_away_keeps_the_data_path_and_attaches_nobody::<Flow>,
    what_kubernetes_has_forgotten_is_read_anew::<Flow>,
    nonsense_of_kubernetes_takes_nothing_away::<Flow>,
    kubernetes_restored_from_a_backup_is_followed::<Flow>,
    kubernetes_that_has_lost_everything_is_filled_again::<Flow>,
    kubernetes_without_streaming_lists_is_read_page_by_page::<Flow>,
];

/// The promise after a heal.
const SOON: Duration = Duration::from_secs(1);

struct Running<'a> {
    api: ApiServer<'a>,
    site: Site,
    agents: Vec<Process>,
    pods: Vec<Attached>,
    streams: Vec<Stream>,
    far: u8,
}

impl Running<'_> {
    fn nodes(&self) -> &[Node] {
        self.site.net.cluster.nodes()
    }

    fn plug(&self, plugged: bool) {
        let cluster = &self.site.net.cluster;
        cluster.set_strangers_cable(Segment::A, plugged);
    }

    /// The way to the server is there again: a switch takes a moment to forward to a port that has come back.
    fn heal(&self) {
        self.plug(true);
        for node in self.nodes() {
            await_condition(
                &format!("{} reaches the server's host", node.name()),
                || {
                    let ping = Ping::to("192.0.2.222").timeout(Duration::from_millis(200));
                    node.network().run(|| ping.send()).is_ok()
                },
            );
        }
    }

    fn await_away(&self) {
        for node in self.nodes() {
            await_condition(&format!("{} misses the server", node.name()), || {
                metric(node, "cni_agent_source_connected") == 0.0
            });
        }
    }

    /// Moves a node that is nowhere, which everybody has to follow.
    fn change(&mut self) {
        self.far = self.far % 100 + 1;
        let object = far(
            "far",
            crate::world::DataPath::Flow,
            "10.244.77.0/24",
            &self.address(),
        );
        put(&self.api, &object);
    }

    fn address(&self) -> String {
        format!("192.0.2.{}", 100 + self.far)
    }

    /// How long it takes until everybody has followed.
    fn follow(&self) -> Duration {
        let start = Instant::now();
        let address = self.address();
        for node in self.nodes() {
            await_condition(&format!("{} knows {address}", node.name()), || {
                node.sh("ip nexthop show").contains(&format!("{address} "))
            });
        }
        start.elapsed()
    }

    /// Some traffic, while something is not as it should be.
    fn pings(&self) {
        for _ in 0..100 {
            for target in &self.pods[1].addresses {
                let ping = Ping::to(&target.to_string()).timeout(Duration::from_secs(5));
                let answer = self.pods[0].pod.run(|| ping.send());
                assert!(answer.is_ok(), "{answer:?}");
            }
        }
    }

    /// Everything went on all the time, and is as it should be.
    fn finish(mut self) {
        for stream in &self.streams {
            stream.await_sent(21);
            stream.stop();
        }
        for stream in self.streams.drain(..) {
            let tally = stream.finish();
            assert!(tally.sent > 20 && tally.lost == 0, "{tally:?}");
        }
        let count = self.pods.len();
        Matrix::of(&self.pods).assert_all(count * (count - 1) * 2);
        for node in self.nodes() {
            let page = page(node, "/readyz");
            assert!(
                page.as_ref()
                    .is_some_and(|page| page.starts_with("HTTP/1.1 200")),
                "{page:?}"
            );
        }
    }
}

fn running<'a, P: Over>(nodes: usize, prepare: impl Fn(&Cluster) -> &'a Host) -> Running<'a> {
    let cluster = Cluster::build(&Layout::new(nodes));
    let host = prepare(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let agents = site.agents();
    let pods = site.pods();
    Matrix::of(&pods).assert_all(nodes * (nodes - 1) * 2);
    let streams = streams(&pods);
    Running {
        api,
        site,
        agents,
        pods,
        streams,
        far: 0,
    }
}

/// The server's host lives as long as the test's process does.
fn host(cluster: &Cluster) -> &'static Host {
    Box::leak(Box::new(server(cluster)))
}

fn streams(pods: &[Attached]) -> Vec<Stream> {
    let mut streams = Vec::new();
    for from in pods {
        for to in pods.iter().filter(|to| to.node != from.node) {
            let start = |target| Stream::start(&from.pod, target, Duration::from_millis(10));
            streams.extend(to.addresses.iter().copied().map(start));
        }
    }
    streams
}

/// Does something that ends in a heal, until everybody is right soon enough after it: within a second, and what a machine with other
/// work takes to follow and to be looked at anyway.
fn soon(what: &str, running: &mut Running<'_>, mut disturb: impl FnMut(&mut Running<'_>)) {
    let mut took = Vec::new();
    for _ in 0..10 {
        // What a watch tells shows that all is well: waits that have grown with earlier failures are short again.
        running.change();
        let anyway = running.follow();
        disturb(running);
        took.push(running.follow());
        if took.last().is_some_and(|took| *took < SOON + 2 * anyway) {
            println!("{what}: right {took:?} after the heal, {anyway:?} without a disturbance");
            return;
        }
    }
    panic!("{what}: right only {took:?} after the heal");
}

fn a_partition_a_restart_a_freeze_and_slowness_of_kubernetes_cost_no_packet<P: Over>() {
    let mut running = running::<P>(3, host);
    soon("a partition", &mut running, |running| {
        running.plug(false);
        running.await_away();
        running.change();
        running.heal();
    });
    soon("a restart", &mut running, |running| {
        running.api.cut();
        running.await_away();
        running.change();
        running.api.heal();
    });
    soon("a freeze of the server", &mut running, |running| {
        running.api.freeze(true);
        running.pings();
        running.change();
        running.api.freeze(false);
    });
    soon("a slow server", &mut running, |running| {
        running.api.slow(Duration::from_millis(100));
        running.api.reset();
        running.change();
        running.pings();
        running.api.slow(Duration::ZERO);
    });
    soon("a freeze of all agents", &mut running, |running| {
        for agent in &mut running.agents {
            agent.freeze(true);
        }
        running.change();
        running.pings();
        for agent in &mut running.agents {
            agent.freeze(false);
        }
    });
    running.finish();
}

fn an_agent_that_starts_while_kubernetes_is_away_keeps_the_data_path_and_attaches_nobody<
    P: Over,
>() {
    let mut running = running::<P>(2, host);
    let own = prefixes(running.site.node(0));
    running.plug(false);
    running.agents.remove(0).kill();
    let agent = running.site.agent(0);
    await_word(running.site.node(0), "not ready");
    // Whose the prefix is now, nobody here knows.
    let node = running.site.node(0);
    let words = "Kubernetes has not confirmed yet";
    let failure = running.site.net.call(node, "STATUS").failure();
    assert!(
        failure.code == 50 && failure.msg.contains(words),
        "{failure:?}"
    );
    let late = Pod::new("late");
    let outcome = node.run(|| running.site.net.chain.add(&late, "eth0"));
    let failure = outcome.expect_err("no new pod").failure();
    assert!(
        failure.code == 11 && failure.msg.contains(words),
        "{failure:?}"
    );
    running.pings();
    running.heal();
    await_ready(running.site.node(0), &agent);
    assert_eq!(prefixes(running.site.node(0)), own);
    let late = running.site.node(0).attach(&running.site.net.chain);
    running.pods.push(late);
    // Two pods of one node reach each other too, in both families.
    running.finish();
}

fn what_kubernetes_has_forgotten_is_read_anew<P: Over>() {
    kube::only_ours();
    let mut running = running::<P>(3, host);
    soon("a compaction during a partition", &mut running, |running| {
        running.plug(false);
        running.await_away();
        running.change();
        running.change();
        running.api.compact();
        running.heal();
    });
    soon(
        "a compaction while agents are frozen",
        &mut running,
        |running| {
            for agent in &mut running.agents {
                agent.freeze(true);
            }
            running.change();
            running.api.restart();
            running.pings();
            for agent in &mut running.agents {
                agent.freeze(false);
            }
        },
    );
    // A server may say so by status as well.
    running.api.fail(Some("watch"), Fault::Gone);
    running.api.reset();
    running.change();
    running.pings();
    running.api.mend();
    running.follow();
    // Somebody who left during it is not there any more.
    running.plug(false);
    running.await_away();
    running
        .api
        .admin()
        .delete(Resource::NodeNetworks, &named("far"))
        .ok();
    running.change();
    running
        .api
        .admin()
        .delete(Resource::NodeNetworks, &named("far"))
        .ok();
    running.api.compact();
    running.heal();
    let address = running.address();
    for node in running.nodes() {
        await_condition("nothing is left of it", || {
            let known = node.sh("ip nexthop show; ip route show");
            !known.contains("10.244.77.0/24") && !known.contains(&format!("{address} "))
        });
    }
    running.finish();
}

fn nonsense_of_kubernetes_takes_nothing_away<P: Over>() {
    kube::only_ours();
    let mut running = running::<P>(2, host);
    for fault in [
        Fault::BadGateway,
        Fault::Internal,
        Fault::TooMany(1),
        Fault::NotJson,
        Fault::WrongKind,
        Fault::BreakOff,
        Fault::Slow(Duration::from_millis(200)),
    ] {
        let asked = running.api.counts().of("watch") + running.api.counts().of("list");
        running.api.fail(None, fault);
        // Watches under way, and those that are begun anew.
        running.change();
        running.api.compact();
        running.api.reset();
        await_condition(&format!("both have asked again, and got {fault:?}"), || {
            let counts = running.api.counts();
            counts.of("watch") + counts.of("list") >= asked + 2
                || fault == Fault::Slow(Duration::from_millis(200))
        });
        for node in running.nodes() {
            let peers = metric(node, "cni_agent_peers");
            assert!(peers >= 1.0, "{fault:?}: {} has {peers} peers", node.name());
        }
        running.pings();
        running.api.mend();
        running.follow();
        // What is told by the new watch shows that all is well, and the next failure is waited out but shortly.
        running.change();
        running.follow();
    }
    running.finish();
}

fn kubernetes_restored_from_a_backup_is_followed<P: Over>() {
    kube::only_ours();
    let mut running = running::<P>(2, host);
    running.change();
    running.follow();
    let (backup, then) = (running.api.backup(), running.far);
    for _ in 0..5 {
        running.change();
    }
    running.follow();
    running.api.restore(&backup);
    running.far = then;
    running.follow();
    // What happens from then on is followed, too.
    running.far += 50;
    running.change();
    running.follow();
    running.finish();
}

fn kubernetes_that_has_lost_everything_is_filled_again<P: Over>() {
    kube::only_ours();
    let mut running = running::<P>(2, host);
    let own: Vec<_> = running.nodes().iter().map(prefixes).collect();
    // With nobody there, the ways to the others go: that is what a complete list says.
    for stream in running.streams.drain(..) {
        stream.finish();
    }
    running.api.lose_everything();
    for node in running.nodes() {
        await_word(node, "is not there");
    }
    for node in running.site.net.cluster.nodes() {
        register(&running.api, node, node.pod_prefixes());
    }
    for (node, own) in running.nodes().iter().zip(own) {
        await_condition("it has its prefixes again", || prefixes(node) == own);
        await_peers(node, 1);
        assert!(entry(&running.api, &name(node)).is_some());
    }
    for (node, agent) in running.nodes().iter().zip(&running.agents) {
        await_ready(node, agent);
    }
    running.finish();
}

fn kubernetes_without_streaming_lists_is_read_page_by_page<P: Over>() {
    kube::only_ours();
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let api = ApiServer::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &api, &json!({}));
    let node = site.node(0);
    // More than one page.
    for index in 0..600 {
        let (third, fourth) = (index / 250 + 100, index % 250 + 1);
        let name = format!("far{index}");
        let prefix = format!("10.244.{third}.{fourth}/32");
        put(
            &api,
            &far(&name, P::PATH, &prefix, &format!("203.0.{third}.{fourth}")),
        );
    }
    for how in [
        Streaming::Done,
        Streaming::Invalid,
        Streaming::Error,
        Streaming::Unknown,
    ] {
        api.streaming(how);
        let before = api.counts();
        let agent = site.agent(0);
        await_ready(node, &agent);
        await_peers(node, 600);
        let lists = api.counts().of("list") - before.of("list");
        assert_eq!(lists, if how == Streaming::Done { 0 } else { 2 }, "{how:?}");
        put(&api, &far("last", P::PATH, "10.244.99.0/24", "203.0.99.1"));
        await_peers(node, 601);
        api.admin()
            .delete(Resource::NodeNetworks, &named("last"))
            .ok();
        await_peers(node, 600);
        // The token for the next page may have lapsed.
        agent.stop().expect("an end");
    }
    assert_eq!(site.user, User::Agent);
}
