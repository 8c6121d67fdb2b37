//! The loop with a scripted source, monitor and programmer, on paused time: what takes no time there takes none here.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use cni_core::cluster::{Node, NodeChange, NodeUid};
use cni_core::node::{NodeConfig, StateDir};
use cni_core::spec::NetworkConfig;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{advance, sleep};

use super::*;

mod doubles;
mod orders;

use doubles::{Answers, Fixed, Queue, Scripted, Unchanged, Work};

const SWEEP: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

struct Stage {
    peers: UnboundedSender<PeerEvent>,
    kernel: UnboundedSender<KernelEvent>,
    orders: UnboundedSender<Order>,
    work: UnboundedReceiver<(Instant, Work)>,
    answers: Answers,
    identity: Arc<Mutex<Identity>>,
    status: Shared,
    reloads: Unchanged,
    directory: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn new(takes: Duration) -> Self {
        Self::with(takes, Notify::default())
    }

    fn with(takes: Duration, notify: Notify) -> Self {
        let (peers, source) = unbounded_channel();
        let (kernel, monitor) = unbounded_channel();
        let (orders, orders_out) = unbounded_channel();
        let (work_in, work) = unbounded_channel();
        let answers = Answers::default();
        let identity = Arc::new(Mutex::new(Identity {
            name: Some("n0".to_owned()),
            addresses: Vec::new(),
        }));
        let directory = tempfile::tempdir().unwrap();
        let setup = Setup {
            moved: Moved::default(),
            zoning: None,
            source: Box::new(Queue(source)),
            programmer: Box::new(Scripted {
                work: work_in,
                answers: Arc::clone(&answers),
                takes,
            }),
            locator: Box::new(Fixed(Arc::clone(&identity))),
            publisher: Publisher {
                network: "pods".parse().unwrap(),
                state: state_dir(directory.path()),
                subnet_env: Some(directory.path().join("subnet.env")),
                conflist: None,
                masquerade: true,
            },
            tenure: None,
            telling: None,
        };
        let (status, reloads) = (Shared::default(), Unchanged::default());
        let mut agent = Agent::new(
            setup,
            Box::new(Queue(monitor)),
            Box::new(reloads.clone()),
            notify,
            SWEEP,
            status.clone(),
        );
        let task = tokio::spawn(async move { agent.run(&mut Queue(orders_out)).await });
        Self {
            peers,
            kernel,
            orders,
            work,
            answers,
            identity,
            status,
            reloads,
            directory,
            task,
        }
    }

    /// In sync with three nodes, and programmed.
    async fn settled(takes: Duration) -> Self {
        let mut stage = Self::new(takes);
        stage.peer(PeerEvent::Reset(vec![node(0), node(1), node(2)]));
        stage.peer(PeerEvent::InSync);
        assert_eq!(stage.next().await, (Duration::ZERO, full(2)));
        sleep(takes + MS).await;
        stage
    }

    fn peer(&self, event: PeerEvent) {
        self.peers.send(event).unwrap();
    }

    fn disturb(&self) {
        self.kernel.send(KernelEvent::Overrun).unwrap();
    }

    /// The next piece of work, and how long it was waited for.
    async fn next(&mut self) -> (Duration, Work) {
        let before = Instant::now();
        let (at, work) = self.work.recv().await.unwrap();
        (at.saturating_duration_since(before), work)
    }

    /// Whether nothing is done for this long.
    async fn idle_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.work.recv()).await.is_err()
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }
}

fn state_dir(directory: &std::path::Path) -> StateDir {
    let text = format!(
        r#"{{"cniVersion":"1.1.0","name":"pods","cluster":{{"file":"/c"}},"stateDir":"{}"}}"#,
        directory.display()
    );
    let config = NetworkConfig::parse(text.as_bytes()).unwrap();
    StateDir::of(&NodeConfig::parse(&config).unwrap())
}

fn node(number: u8) -> Node {
    let name = format!("n{number}");
    let mut node = Node::new(NodeUid::new(&name), &name);
    node.prefixes = vec![format!("10.244.{number}.0/24").parse().unwrap()];
    node.underlay = vec![
        format!("192.0.2.{}", number.wrapping_add(1))
            .parse()
            .unwrap(),
    ];
    node
}

fn full(peers: usize) -> Work {
    Work::Full {
        peers,
        in_sync: true,
    }
}

fn update(names: &[&str]) -> Work {
    Work::Update(names.iter().map(|&name| name.to_owned()).collect())
}

fn failure() -> Outcome {
    Outcome {
        errors: vec!["the kernel refused a route".to_owned()],
        ..Outcome::default()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_before_the_source_is_in_sync_then_one_comparison() {
    let mut stage = Stage::new(Duration::ZERO);
    stage.peer(PeerEvent::Reset(vec![node(0), node(1)]));
    stage.peer(PeerEvent::Put(node(2)));
    stage.disturb();
    assert!(stage.idle_for(10 * SWEEP).await);
    stage.peer(PeerEvent::InSync);
    assert_eq!(stage.next().await, (Duration::ZERO, full(2)));
    assert!(stage.idle_for(SWEEP - MS).await);
}

#[tokio::test(start_paused = true)]
async fn an_idle_agent_compares_at_each_sweep_and_does_nothing_else() {
    let mut stage = Stage::settled(Duration::ZERO).await;
    assert_eq!(stage.next().await, (SWEEP - MS, full(2)));
    assert_eq!(stage.next().await, (SWEEP, full(2)));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_acted_upon_at_once_and_what_comes_meanwhile_is_one_batch() {
    let mut stage = Stage::settled(2 * MS).await;
    stage.peer(PeerEvent::Put(node(3)));
    assert_eq!(stage.next().await, (Duration::ZERO, update(&["n3"])));
    for number in 4..8 {
        stage.peer(PeerEvent::Put(node(number)));
    }
    stage.peer(PeerEvent::Remove(NodeUid::new("n7")));
    assert_eq!(stage.next().await, (2 * MS, update(&["n4", "n5", "n6"])));
    sleep(3 * MS).await;
    let text = stage.status.lock().counts.lag.render("lag", "");
    assert!(
        text.contains("lag_bucket{le=\"0.0025\"} 7\n"),
        "each of seven events took 2 ms: {text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_a_thousand_changes_is_done_in_one_batch_behind_the_first() {
    let mut stage = Stage::settled(MS).await;
    for number in 0..1000 {
        let name = format!("m{number}");
        stage.peer(PeerEvent::Put(Node::new(NodeUid::new(&name), &name)));
    }
    let mut done = 0;
    let start = Instant::now();
    while done < 1000 {
        let (_, Work::Update(names)) = stage.next().await else {
            panic!("updates are expected");
        };
        done += names.len();
    }
    assert!(start.elapsed() <= 2 * MS, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_shower_of_kernel_events_is_one_comparison_within_twenty_milliseconds() {
    let mut stage = Stage::settled(MS).await;
    for _ in 0..1000 {
        stage.disturb();
    }
    assert_eq!(stage.next().await, (5 * MS, full(2)));
    sleep(5 * MS).await;
    let start = Instant::now();
    for _ in 0..10 {
        stage.disturb();
        sleep(3 * MS).await;
    }
    let (first, _) = stage.work.recv().await.unwrap();
    let (second, _) = stage.work.recv().await.unwrap();
    assert_eq!(first - start, 20 * MS, "the first waits no longer");
    assert_eq!(second - start, (27 + 5) * MS, "5 ms after the last");
    assert!(stage.idle_for(SWEEP - 10 * MS).await);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_concern_us_is_ignored() {
    let mut stage = Stage::settled(MS).await;
    stage
        .kernel
        .send(KernelEvent::Address {
            index: 7,
            name: "eth0".to_owned(),
        })
        .unwrap();
    assert!(stage.idle_for(SWEEP / 2).await);
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_tried_again_ever_later_and_then_is_well() {
    let mut stage = Stage::settled(Duration::ZERO).await;
    stage
        .answers
        .lock()
        .unwrap()
        .extend([failure(), failure(), failure()]);
    stage.peer(PeerEvent::Put(node(3)));
    assert_eq!(stage.next().await.1, update(&["n3"]));
    for most in [100 * MS, 200 * MS, 400 * MS] {
        let (waited, work) = stage.next().await;
        assert_eq!(work, full(3));
        assert!(
            most / 2 <= waited && waited <= most + MS,
            "{waited:?} of {most:?}"
        );
    }
    sleep(MS).await;
    assert!(stage.status.lock().readiness().is_ready());
    assert_eq!(stage.status.lock().counts.write_errors, 3);
    assert!(stage.idle_for(SWEEP - 10 * MS).await);
}

#[tokio::test(start_paused = true)]
async fn while_the_source_is_away_what_is_known_is_kept_true() {
    let mut stage = Stage::settled(Duration::ZERO).await;
    stage.peer(PeerEvent::Disconnected("connection refused".to_owned()));
    stage.disturb();
    assert_eq!(stage.next().await, (5 * MS, full(2)));
    sleep(MS).await;
    let readiness = stage.status.lock().readiness();
    assert!(readiness.is_ready());
    assert_eq!(readiness.flaws, ["the source is away: connection refused"]);
    stage.peer(PeerEvent::Rejected("line 3: no prefix".to_owned()));
    assert!(stage.idle_for(SWEEP / 2).await);
    assert_eq!(
        stage.status.lock().rejected.as_deref(),
        Some("line 3: no prefix")
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_in_the_cluster_keeps_what_it_has() {
    let mut stage = Stage::settled(Duration::ZERO).await;
    stage.peer(PeerEvent::Remove(NodeUid::new("n0")));
    stage.peer(PeerEvent::Remove(NodeUid::new("n1")));
    stage.disturb();
    assert!(stage.idle_for(2 * SWEEP).await);
    let readiness = stage.status.lock().readiness();
    assert_eq!(
        readiness.missing,
        ["this node is not among the nodes of the cluster"]
    );
    assert!(stage.file("167/state.json").contains("not among the nodes"));
    stage.peer(PeerEvent::Put(node(0)));
    assert_eq!(stage.next().await, (Duration::ZERO, full(1)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_gets_the_address_of_its_entry_finds_itself() {
    let mut stage = Stage::new(Duration::ZERO);
    let with = |text: &str| Identity {
        name: None,
        addresses: vec![text.parse::<IpAddr>().unwrap()],
    };
    *stage.identity.lock().unwrap() = with("192.0.2.99");
    stage.peer(PeerEvent::Reset(vec![node(0), node(1), node(2)]));
    stage.peer(PeerEvent::InSync);
    assert!(stage.idle_for(SWEEP).await);
    *stage.identity.lock().unwrap() = with("192.0.2.2");
    stage
        .kernel
        .send(KernelEvent::Address {
            index: 2,
            name: "eth0".to_owned(),
        })
        .unwrap();
    assert_eq!(stage.next().await, (Duration::ZERO, full(2)));
    sleep(MS).await;
    assert_eq!(&*stage.status.lock().me.clone().unwrap().name, "n1");
}

#[tokio::test(start_paused = true)]
async fn plugins_are_told_when_the_node_is_connected_and_no_sooner() {
    let mut stage = Stage::new(10 * MS);
    let connected = Outcome {
        connection: Some(crate::programmer::Connection {
            mtu: 1464,
            ..Default::default()
        }),
        ..Outcome::default()
    };
    stage.answers.lock().unwrap().extend([failure(), connected]);
    let mut me = node(0);
    me.prefixes.push("fd00:244::/64".parse().unwrap());
    sleep(MS).await;
    assert!(
        stage
            .file("167/state.json")
            .contains("the source has not told")
    );
    stage.peer(PeerEvent::Reset(vec![me, node(1)]));
    stage.peer(PeerEvent::InSync);
    stage.next().await;
    sleep(11 * MS).await;
    assert!(
        stage
            .file("167/state.json")
            .contains("the kernel refused a route"),
        "{}",
        stage.file("167/state.json")
    );
    assert_eq!(stage.file("subnet.env"), "");
    stage.next().await;
    sleep(11 * MS).await;
    let state: serde_json::Value = serde_json::from_str(&stage.file("167/state.json")).unwrap();
    assert_eq!(state["network"], "pods");
    assert_eq!(state["node"], "n0");
    assert_eq!(
        state["prefixes"],
        serde_json::json!(["10.244.0.0/24", "fd00:244::/64"])
    );
    assert_eq!(
        (&state["mtu"], &state["ready"]),
        (&1464.into(), &true.into())
    );
    assert_eq!(
        stage.file("subnet.env"),
        "FLANNEL_NETWORK=10.244.0.0/23\nFLANNEL_SUBNET=10.244.0.1/24\nFLANNEL_IPV6_NETWORK=fd00:244::/64\n\
         FLANNEL_IPV6_SUBNET=fd00:244::1/64\nFLANNEL_MTU=1464\nFLANNEL_IPMASQ=true\n"
    );
}
