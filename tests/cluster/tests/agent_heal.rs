//! What others do to a node while its agent runs, and how soon it is right again.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use cni_testkit::cluster::{Attached, Damage, Layout, Matrix, Node, await_condition};
use cni_testkit::{Ping, Process, Snapshot, Test, tests};
use serde_json::json;

use crate::world::{Classic, Flow, HostGw, Net, Over, metric, page};

pub(crate) const TESTS: &[Test] = &tests![
    what_is_damaged_is_right_again::<Flow>,
    what_is_damaged_is_right_again::<Classic>,
    what_is_damaged_is_right_again::<HostGw>,
    a_foreign_route_on_a_peers_prefix_is_overtaken_and_left_alone::<Flow>,
    a_foreign_route_on_a_peers_prefix_is_overtaken_and_left_alone::<Classic>,
    a_foreign_route_on_a_peers_prefix_is_overtaken_and_left_alone::<HostGw>,
    an_uplink_that_flaps_or_is_renamed_takes_nothing_along_for_long::<Flow>,
    an_uplink_that_flaps_or_is_renamed_takes_nothing_along_for_long::<Classic>,
    an_uplink_that_flaps_or_is_renamed_takes_nothing_along_for_long::<HostGw>,
    a_node_that_moves_to_another_address_is_followed::<Flow>,
    a_node_that_moves_to_another_address_is_followed::<Classic>,
    a_node_that_moves_to_another_address_is_followed::<HostGw>,
];

/// How long a machine under load may take; what only the sweep finds takes longer (`--sweep`, 60 s). How long it takes when
/// nothing else is going on is the benchmark's (`cargo run --release -p cni-bench -- heal`).
const PATIENCE: Duration = Duration::from_secs(40);

/// A cluster under its agents.
struct Healthy {
    net: Net,
    pods: Vec<Attached>,
    agents: RefCell<Vec<Process>>,
}

impl Healthy {
    fn build<P: Over>() -> Self {
        let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
        let agents = net.start_agents(&[0, 1, 2]);
        let nodes = net.cluster.nodes().iter();
        let pods: Vec<Attached> = nodes.map(|node| node.attach(&net.chain)).collect();
        Matrix::of(&pods).assert_all(12);
        Self {
            net,
            pods,
            agents: RefCell::new(agents),
        }
    }

    fn node(&self) -> &Node {
        self.net.cluster.node(0)
    }

    /// The agent must not mend between one command and the next.
    fn inflict(&self, damage: &Damage) {
        self.agents.borrow_mut()[0].freeze(true);
        damage.inflict(self.node());
        self.agents.borrow_mut()[0].freeze(false);
    }

    /// Does this on the first node, and waits for its state to be as before.
    fn heals(&self, damage: &Damage) {
        let before = settled(self.node());
        self.becomes(damage, |now| now.since(&before));
    }

    /// Does this on the first node, and waits for nothing to be wrong with its state.
    fn becomes(&self, damage: &Damage, wrong: impl Fn(&Snapshot) -> String) {
        let repaired = metric(self.node(), "cni_agent_drift_repaired_total");
        self.inflict(damage);
        let start = Instant::now();
        let words = loop {
            let words = wrong(&state(self.node()));
            if words.is_empty() || start.elapsed() > PATIENCE {
                break words;
            }
        };
        let took = start.elapsed();
        println!("{took:?}: {damage}");
        assert!(words.is_empty(), "{damage}: after {took:?}\n{words}");
        await_condition(&format!("a repair is counted: {damage}"), || {
            metric(self.node(), "cni_agent_drift_repaired_total") > repaired
        });
        for target in &self.pods[1].addresses {
            let ping = Ping::to(&target.to_string()).timeout(Duration::from_secs(5));
            let answer = self.pods[0].pod.run(|| ping.send());
            assert!(answer.is_ok(), "{damage}: no way to {target}: {answer:?}");
        }
    }
}

/// What the kernel has.
pub(crate) fn state(node: &Node) -> Snapshot {
    node.snapshot().without("/run/").without("/var/lib/")
}

/// So many looks in a row have to be alike: a machine that is busy may stand still between two.
const LOOKS: usize = 6;

/// Waits until a node is again as it was before.
#[track_caller]
pub(crate) fn comes_back_to(node: &Node, before: &Snapshot) {
    let end = Instant::now() + PATIENCE;
    loop {
        let words = settled(node).since(before);
        if words.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "the state has changed:\n{words}");
    }
}

/// What the kernel has once it has done what it does a moment later by itself, such as an IPv6 address's local route.
pub(crate) fn settled(node: &Node) -> Snapshot {
    let (mut last, mut same) = (state(node), 0);
    await_condition("the node's state stays as it is", || {
        std::thread::sleep(Duration::from_millis(25));
        let before = std::mem::replace(&mut last, state(node));
        same = if last.since(&before).is_empty() {
            same + 1
        } else {
            0
        };
        same == LOOKS
    });
    last
}

fn what_is_damaged_is_right_again<P: Over>() {
    let healthy = Healthy::build::<P>();
    for damage in Damage::all(P::PATH.name()) {
        healthy.heals(&damage);
    }
    Matrix::of(&healthy.pods).assert_all(12);
    let page = page(healthy.node(), "/readyz").expect("the agent's page");
    assert!(page.ends_with("\r\n\r\nready\n"), "{page}");
}

fn a_foreign_route_on_a_peers_prefix_is_overtaken_and_left_alone<P: Over>() {
    let healthy = Healthy::build::<P>();
    let node = healthy.node();
    let before = settled(node);
    // Beside ours it comes first.
    let foreign = "ip route del 10.244.2.0/24 via 192.0.2.254 2>/dev/null || true
                   ip route prepend 10.244.2.0/24 via 192.0.2.254 proto static";
    let ours_first = |_: &Snapshot| {
        let chosen = node.sh("ip route get 10.244.2.9");
        match chosen.contains("192.0.2.254") {
            true => chosen,
            false => String::new(),
        }
    };
    healthy.becomes(&Damage::Script(foreign.to_owned()), ours_first);
    let beside = settled(node).since(&before);
    assert_eq!(beside.lines().count(), 1, "theirs is left alone: {beside}");
    let text = page(node, "/readyz").expect("the agent's page");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(
        text.contains("10.244.2.0/24") && text.contains("n2"),
        "{text}"
    );
    assert_eq!(metric(node, "cni_agent_clashes"), 1.0);
    node.sh("ip route del 10.244.2.0/24 via 192.0.2.254");
    await_condition("the clash has an end", || {
        metric(node, "cni_agent_clashes") == 0.0
    });
    comes_back_to(node, &before);
    // The default metric of an IPv6 route is 1024: ours is the better one.
    node.sh("ip -6 route add fd00:244:2::/64 via 2001:db8:a::fe");
    let chosen = node.sh("ip -6 route get fd00:244:2::9");
    assert!(!chosen.contains("2001:db8:a::fe"), "{chosen}");
    Matrix::of(&healthy.pods).assert_all(12);
}

/// What a network manager does after its link has come back.
const CONFIGURE: &str = "ip address replace 192.0.2.1/24 dev $link; ip address replace 2001:db8:a::1/64 dev $link nodad; \
                         ip route replace default via 192.0.2.254 proto static; ip -6 route replace default via 2001:db8:a::fe proto static";

fn an_uplink_that_flaps_or_is_renamed_takes_nothing_along_for_long<P: Over>() {
    let healthy = Healthy::build::<P>();
    let before = settled(healthy.node());
    let same = |now: &Snapshot| now.since(&before);
    let flap = format!("link=eth0; ip link set eth0 down; ip link set eth0 up; {CONFIGURE}");
    settles(&healthy, &flap, same);
    let renamed = format!(
        "link=up0; ip link set eth0 down; ip link set eth0 name up0; ip link set up0 up; {CONFIGURE}"
    );
    settles(&healthy, &renamed, |now| {
        let wrong = now.since(&before);
        let lines = wrong.lines();
        let missing = lines
            .filter_map(|line| line.strip_prefix("- "))
            .map(|line| line.replace("eth0", "up0"));
        missing.filter(|line| now.lines(line).is_empty()).collect()
    });
    let back = format!(
        "link=eth0; ip link set up0 down; ip link set up0 name eth0; ip link set eth0 up; {CONFIGURE}"
    );
    settles(&healthy, &back, same);
    Matrix::of(&healthy.pods).assert_all(12);
}

/// As [`Healthy::becomes`], where nothing may have to be repaired: routes through a tunnel do not mind.
fn settles(healthy: &Healthy, damage: &str, wrong: impl Fn(&Snapshot) -> String) {
    healthy.node().sh(damage);
    let start = Instant::now();
    let mut words = String::from("nothing was looked at");
    while !words.is_empty() && start.elapsed() < PATIENCE {
        words = wrong(&state(healthy.node()));
    }
    let took = start.elapsed();
    println!("{took:?}: {damage}");
    assert!(words.is_empty(), "{damage}: after {took:?}\n{words}");
    // A switch forwards to a port that has come back a moment later.
    await_condition("all ways work again", || {
        Matrix::of(&healthy.pods).count() == (12, 12)
    });
}

fn a_node_that_moves_to_another_address_is_followed<P: Over>() {
    let healthy = Healthy::build::<P>();
    let mut file = healthy.net.cluster.describe([0, 1, 2]);
    file["nodes"][0]["addresses"] = json!(["192.0.2.101", "2001:db8:a::101"]);
    let node = healthy.node();
    node.sh(
        "ip address add 192.0.2.101/24 dev eth0; ip address del 192.0.2.1/24 dev eth0
         ip address replace 192.0.2.101/24 dev eth0
         ip address add 2001:db8:a::101/64 dev eth0 nodad; ip address del 2001:db8:a::1/64 dev eth0
         ip route replace default via 192.0.2.254 proto static; ip -6 route replace default via 2001:db8:a::fe proto static",
    );
    healthy.net.tell(&file);
    let start = Instant::now();
    let works = || Matrix::of(&healthy.pods).count() == (12, 12);
    await_condition("all ways work again", works);
    println!("{:?}", start.elapsed());
    await_condition("the node is ready", || {
        page(node, "/readyz").is_some_and(|page| page.ends_with("\r\n\r\nready\n"))
    });
}
