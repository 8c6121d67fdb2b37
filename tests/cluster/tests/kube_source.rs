//! The agent's client of Kubernetes by itself, against a server.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use cni_core::cluster::{Identity, Node, NodeUid, PeerEvent, PeerSource, View};
use cni_core::testing::conformance::{PeerStore, peer_source};
use cni_testkit::kube::{ApiServer, Fault, Resource, Streaming, User, named, only_ours};
use cni_testkit::{Pod, Test, tests};
use node_agent::kube::access::{Origin, Place};
use node_agent::kube::layout::{Layout, Way};
use node_agent::kube::{KubernetesConfig, KubernetesSource};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = &tests![
    kubernetes_keeps_what_a_source_of_nodes_promises,
    an_older_server_is_read_by_pages,
    a_server_that_does_not_stream_is_noticed,
    what_changed_before_a_compaction_is_told_by_value,
    a_list_that_is_too_old_for_its_next_page_begins_anew,
    a_watch_goes_on_from_the_last_bookmark,
    a_server_that_counts_anew_is_read_anew,
    a_server_that_answers_errors_or_nonsense_is_not_believed,
    a_watch_that_breaks_or_says_nonsense_removes_nobody,
    a_bad_record_is_told_by_name_and_the_rest_goes_on,
];

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// A name that no other network of a real server has.
pub(crate) const NETWORK: &str = "cni-test-net";
const KUBECONFIG: &str = "/run/kubeconfig";

/// Runs something of tokio's in a pod.
pub(crate) fn in_pod<T: Send>(pod: &Pod, body: impl AsyncFnOnce() -> T + Send) -> T {
    pod.run(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().expect("a runtime");
        runtime.block_on(body())
    })
}

/// By a kubeconfig with this text.
pub(crate) fn origin(kubeconfig: &str) -> Origin {
    fs::write(KUBECONFIG, kubeconfig).expect("a kubeconfig");
    Origin {
        place: Place::Kubeconfig(KUBECONFIG.into()),
        server: None,
    }
}

pub(crate) fn layout(more: &str) -> Layout {
    let networks = "\"podNetworks\":[\"10.244.0.0/16\",\"fd00:244::/32\"]";
    let config = KubernetesConfig::parse(&format!("{{{networks}{more}}}")).expect("a section");
    Layout::new(&config, NETWORK, Way::default())
}

/// The object of a node, by a name without `cni-test-`.
pub(crate) fn object(name: &str, prefixes: &[String], addresses: &[String]) -> Value {
    json!({
        "apiVersion": Resource::NodeNetworks.api_version(), "kind": "NodeNetwork",
        "metadata": { "name": named(name), "labels": { "cni-fabric.internal/network": NETWORK } },
        "spec": {
            "network": NETWORK, "nodeUID": name, "podCIDRs": prefixes, "addresses": addresses,
            "backend": { "type": "host-gw" },
        },
    })
}

/// The object of node N.
pub(crate) fn numbered(number: u16) -> Value {
    let (high, low) = (number / 250, number % 250 + 1);
    object(
        &format!("n{number}"),
        &[format!("10.244.{}.{}/32", high + 10, low)],
        &[format!("192.0.{}.{low}", high + 2)],
    )
}

/// Makes an object, or makes it be so.
pub(crate) fn write(server: &ApiServer<'_>, object: &Value) {
    let name = object["metadata"]["name"].as_str().expect("a name");
    let admin = server.admin();
    if admin.create(Resource::NodeNetworks, object).code == 409 {
        let change = json!({ "spec": object["spec"] });
        admin.merge(Resource::NodeNetworks, name, &change).ok();
    }
}

/// A server whose objects a test writes.
struct Store<'a> {
    server: ApiServer<'a>,
    origin: Origin,
    held: Vec<Node>,
}

/// Names on a real server begin as those of tests have to.
#[derive(Debug)]
struct Renamed(KubernetesSource);

#[async_trait]
impl PeerSource for Renamed {
    async fn next(&mut self) -> PeerEvent {
        let plain = |mut node: Node| {
            let name = node.name.strip_prefix(&named("")).unwrap_or(&node.name);
            (node.uid, node.name) = (NodeUid::new(name), name.into());
            node
        };
        match self.0.next().await {
            PeerEvent::Reset(nodes) => PeerEvent::Reset(nodes.into_iter().map(plain).collect()),
            PeerEvent::Put(node) => PeerEvent::Put(plain(node)),
            PeerEvent::Remove(uid) => {
                PeerEvent::Remove(plain(Node::new(uid.clone(), uid.as_str())).uid)
            }
            event => event,
        }
    }
}

#[async_trait]
impl PeerStore for Store<'_> {
    async fn source(&mut self) -> Box<dyn PeerSource> {
        let source = KubernetesSource::observer(self.origin.clone(), layout(""));
        Box::new(Renamed(source))
    }

    async fn hold(&mut self, nodes: &[Node]) {
        for node in nodes {
            let texts = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>();
            let prefixes = texts(&mut node.prefixes.iter().map(ToString::to_string));
            let addresses = texts(&mut node.underlay.iter().map(ToString::to_string));
            write(&self.server, &object(&node.name, &prefixes, &addresses));
        }
        let admin = self.server.admin();
        for gone in &self.held {
            if nodes.iter().all(|node| node.uid != gone.uid) {
                admin
                    .delete(Resource::NodeNetworks, &named(&gone.name))
                    .ok();
            }
        }
        self.held = nodes.to_vec();
    }

    async fn spoil(&mut self) -> bool {
        let bad = object(
            "node-2",
            &["10.9.0.0/24".to_owned()],
            &["192.0.2.2".to_owned()],
        );
        write(&self.server, &bad);
        let uid = NodeUid::new("node-2");
        if self.held.iter().all(|node| node.uid != uid) {
            self.held.push(Node::new(uid, "node-2"));
        }
        true
    }

    async fn go_away(&mut self) -> bool {
        self.server.cut();
        true
    }

    async fn come_back(&mut self) {
        self.server.heal();
    }
}

fn kubernetes_keeps_what_a_source_of_nodes_promises() {
    let pod = Pod::new("api");
    let server = ApiServer::start(&pod, LOOPBACK);
    let origin = origin(&server.kubeconfig(User::Agent));
    let mut store = Store {
        server,
        origin,
        held: Vec::new(),
    };
    in_pod(&pod, async || peer_source(&mut store).await);
}

/// A source, and what it has told.
pub(crate) struct Seen<S> {
    pub(crate) source: S,
    pub(crate) view: View,
    removed: usize,
}

impl Seen<KubernetesSource> {
    pub(crate) fn start(origin: &Origin) -> Self {
        Self::of(KubernetesSource::observer(origin.clone(), layout("")))
    }
}

impl<S: PeerSource> Seen<S> {
    pub(crate) fn of(source: S) -> Self {
        Self {
            source,
            view: View::new(Identity::default()),
            removed: 0,
        }
    }

    /// Takes events until this is so.
    pub(crate) async fn until(&mut self, what: &str, so: impl Fn(&View) -> bool) {
        while !so(&self.view) {
            let event = tokio::time::timeout(Duration::from_secs(30), self.source.next()).await;
            let event =
                event.unwrap_or_else(|_| panic!("not within 30 seconds: {what}; {:?}", self.view));
            self.removed += usize::from(matches!(event, PeerEvent::Remove(_)));
            self.view.apply(event);
        }
    }

    /// Takes the events that are there already.
    pub(crate) async fn so_far(&mut self) -> &View {
        while let Ok(event) = tokio::time::timeout(Duration::ZERO, self.source.next()).await {
            self.view.apply(event);
        }
        &self.view
    }

    /// How many nodes it has told the end of.
    pub(crate) fn removed(&self) -> usize {
        self.removed
    }

    pub(crate) async fn has(&mut self, count: usize) {
        self.until(&format!("{count} nodes"), |view| {
            view.in_sync() && view.len() == count
        })
        .await;
    }
}

pub(crate) fn is_away(view: &View) -> bool {
    view.away().is_some()
}

fn is_back(view: &View) -> bool {
    view.away().is_none()
}

/// A source that is in sync with three nodes, in a pod, and what a test does with it.
fn with_three(
    pod: &Pod,
    server: &mut ApiServer<'_>,
    body: impl AsyncFnOnce(&mut Seen<KubernetesSource>, &mut ApiServer<'_>) + Send,
) {
    (0..3).for_each(|number| write(server, &numbered(number)));
    let origin = origin(&server.kubeconfig(User::Agent));
    in_pod(pod, async || {
        let mut seen = Seen::start(&origin);
        seen.has(3).await;
        body(&mut seen, server).await;
    });
}

fn an_older_server_is_read_by_pages() {
    only_ours();
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    server.streaming(Streaming::Invalid);
    (3..1100).for_each(|number| write(&server, &numbered(number)));
    (0..3).for_each(|number| write(&server, &numbered(number)));
    let origin = origin(&server.kubeconfig(User::Agent));
    in_pod(&pod, async || {
        let mut seen = Seen::start(&origin);
        seen.has(1100).await;
        assert_eq!(server.counts().of("list"), 3);
        // It is followed from there, without a further list.
        server
            .admin()
            .delete(Resource::NodeNetworks, &named("n7"))
            .ok();
        seen.has(1099).await;
        server.reset();
        write(&server, &numbered(7));
        seen.has(1100).await;
        // One object alone, for the version that the server has.
        assert_eq!(server.counts().of("list"), 4);
    });
}

fn a_server_that_does_not_stream_is_noticed() {
    only_ours();
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    let server = &mut server;
    (0..3).for_each(|number| write(server, &numbered(number)));
    let origin = origin(&server.kubeconfig(User::Agent));
    in_pod(&pod, async || {
        for how in [Streaming::Error, Streaming::Unknown, Streaming::Done] {
            let before = server.counts().of("list");
            server.streaming(how);
            Seen::start(&origin).has(3).await;
            let lists = server.counts().of("list") - before;
            assert_eq!(lists, u64::from(how != Streaming::Done), "{how:?}");
        }
    });
}

fn what_changed_before_a_compaction_is_told_by_value() {
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    with_three(&pod, &mut server, async |seen, server| {
        server.cut();
        seen.until("it is away", is_away).await;
        let mut moved = numbered(1);
        moved["spec"]["addresses"] = json!(["192.0.2.77"]);
        write(server, &moved);
        server
            .admin()
            .delete(Resource::NodeNetworks, &named("n0"))
            .ok();
        write(server, &numbered(3));
        if !cni_testkit::kube::is_real() {
            server.compact();
        }
        server.heal();
        let address: IpAddr = "192.0.2.77".parse().expect("an address");
        let n1 = NodeUid::new(&named("n1"));
        seen.until("what changed", |view| {
            let moved = view
                .known(&n1)
                .is_some_and(|node| node.underlay == [address]);
            moved && view.len() == 3 && view.known(&NodeUid::new(&named("n3"))).is_some()
        })
        .await;
        assert_eq!(seen.removed, 1);
    });
}

fn a_list_that_is_too_old_for_its_next_page_begins_anew() {
    only_ours();
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    let server = &mut server;
    server.streaming(Streaming::Invalid);
    (0..700).for_each(|number| write(server, &numbered(number)));
    let origin = origin(&server.kubeconfig(User::Agent));
    in_pod(&pod, async || {
        server.fail(Some("list"), Fault::Gone);
        let mut seen = Seen::start(&origin);
        let lists = || server.counts().of("list");
        while lists() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!seen.so_far().await.in_sync());
        server.mend();
        seen.has(700).await;
    });
}

fn a_watch_goes_on_from_the_last_bookmark() {
    only_ours();
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    server.streaming(Streaming::Invalid);
    server.bookmarks(Duration::from_millis(20));
    with_three(&pod, &mut server, async |seen, server| {
        assert_eq!(server.counts().of("list"), 1);
        // Others change, which this watch is not told of.
        let mut other = numbered(9);
        other["metadata"]["labels"] = json!({ "cni-fabric.internal/network": "other" });
        other["spec"]["network"] = json!("other");
        write(server, &other);
        // Some hundreds of bytes for each bookmark; the second one from here on is after the change, and the others give the
        // client the time to read it.
        let bytes = server.counts().bytes;
        while server.counts().bytes < bytes + 8000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.restart();
        write(server, &numbered(3));
        seen.has(4).await;
        // One object alone was read, for the version that the server has.
        assert_eq!(server.counts().of("list"), 2, "everything was read anew");
    });
}

fn a_server_that_counts_anew_is_read_anew() {
    only_ours();
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    with_three(&pod, &mut server, async |seen, server| {
        let backup = server.backup();
        (3..30).for_each(|number| write(server, &numbered(number)));
        seen.has(30).await;
        server.restore(&backup);
        seen.has(3).await;
        write(server, &numbered(3));
        seen.has(4).await;
    });
}

const FAULTS: [Fault; 7] = [
    Fault::NotJson,
    Fault::BadGateway,
    Fault::WrongKind,
    Fault::Internal,
    Fault::TooMany(1),
    Fault::BreakOff,
    Fault::Gone,
];

fn a_server_that_answers_errors_or_nonsense_is_not_believed() {
    only_ours();
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    let server = &mut server;
    (0..3).for_each(|number| write(server, &numbered(number)));
    let origin = origin(&server.kubeconfig(User::Agent));
    in_pod(&pod, async || {
        for streaming in [Streaming::Done, Streaming::Invalid] {
            server.streaming(streaming);
            for fault in FAULTS {
                server.fail(None, fault);
                let mut seen = Seen::start(&origin);
                let asked = server.counts().connections;
                while server.counts().connections < asked + 6 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let view = seen.so_far().await;
                assert!(!view.in_sync() && view.is_empty(), "{fault:?}");
                server.mend();
                seen.has(3).await;
                assert!(is_back(&seen.view), "{fault:?}");
            }
        }
    });
}

fn a_watch_that_breaks_or_says_nonsense_removes_nobody() {
    only_ours();
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    with_three(&pod, &mut server, async |seen, server| {
        let faults = [
            Fault::NotJson,
            Fault::WrongKind,
            Fault::BreakOff,
            Fault::Internal,
        ];
        for (number, fault) in (3..).zip(faults) {
            server.fail(None, fault);
            // What goes wrong with a watch does so with its next line, or when it is made anew.
            write(server, &numbered(number));
            server.reset();
            let asked = server.counts().connections;
            while server.counts().connections < asked + 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            server.mend();
            seen.has(usize::from(number) + 1).await;
            seen.until("it is back", is_back).await;
        }
        assert_eq!(seen.removed, 0);
    });
}

fn a_bad_record_is_told_by_name_and_the_rest_goes_on() {
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    with_three(&pod, &mut server, async |seen, server| {
        let mut bad = numbered(1);
        bad["spec"]["podCIDRs"] = json!(["10.9.0.0/24"]);
        write(server, &bad);
        seen.until("it is rejected", |view| view.rejected().is_some())
            .await;
        let words = seen.view.rejected().unwrap_or_default().to_owned();
        assert!(
            words.contains(&named("n1")) && words.contains("10.9.0.0/24"),
            "{words}"
        );
        write(server, &numbered(3));
        seen.has(4).await;
        // Two claims are told as they are.
        let mut twin = numbered(4);
        twin["spec"]["podCIDRs"] = numbered(3)["spec"]["podCIDRs"].clone();
        write(server, &twin);
        seen.until("a conflict", |view| view.conflicts().len() == 1)
            .await;
        write(server, &numbered(1));
        seen.until("it is mended", |view| view.rejected().is_none())
            .await;
        seen.has(5).await;
    });
}
