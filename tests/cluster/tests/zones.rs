//! Nodes that firewalld rules.

use std::process::{Command, Output};
use std::time::Duration;

use cni_testkit::cluster::{Layout, Matrix, Node, await_condition};
use cni_testkit::firewalld::{self, Firewalld};
use cni_testkit::{Chain, Ping, Test, tests, workspace_plugin, workspace_plugin_dir};
use serde_json::{Value, json};

use crate::world::{
    CLUSTER, Classic, DEVICE, DataPath, Flow, HostGw, NETWORK, Net, Over, await_ready, page,
};

pub(crate) const TESTS: &[Test] = &tests![
    pods_of_all_nodes_talk_where_firewalld_rules::<Flow>,
    pods_of_all_nodes_talk_where_firewalld_rules::<Classic>,
    pods_of_all_nodes_talk_where_firewalld_rules::<HostGw>,
    an_agent_tells_firewalld_again_what_it_has_forgotten::<HostGw>,
    what_firewalld_was_told_is_kept_by_an_agent_whose_source_is_away::<Flow>,
    what_others_told_firewalld_stays_and_what_is_in_another_zone_is_reported::<Flow>,
    who_does_not_reach_firewalld_does_not_take_it_for_stopped::<Flow>,
    uninstalling_is_not_done_before_firewalld_is_reached::<Flow>,
    another_zone_takes_over_what_is_not_permanent_in_the_former_one::<Flow>,
    the_port_is_not_opened_to_everybody_where_another_device_hears_everybody::<Classic>,
    networks_of_one_port_open_it_if_all_have_filters_and_leave_it_to_each_other,
    firewalld_that_does_not_answer_holds_nobody_up::<Flow>,
    that_firewalld_is_not_reached_is_told_where_its_rules_are_in_force_and_not_when_it_ends::<Flow>,
];

/// What is in the trusted zone, and which ports are open where eth0 is.
fn members(node: &Node) -> Vec<String> {
    node.run(|| [firewalld::members("trusted"), firewalld::members("public")].concat())
}

fn tell(node: &Node, method: &str, arguments: &[&str]) {
    node.run(|| firewalld::tell(method, arguments));
}

/// What the first node of these needs to be there.
fn wanted(nodes: &[&Node], path: DataPath) -> Vec<String> {
    let direct = !path.is_tunnel();
    let nodes = nodes.iter().take(if direct { usize::MAX } else { 1 });
    let mut sources: Vec<String> = nodes
        .flat_map(|node| node.pod_prefixes().to_vec())
        .collect();
    sources.sort();
    if path.is_tunnel() {
        sources.insert(0, DEVICE.to_owned());
        sources.push(format!("{}/udp", path.port()));
    }
    sources
}

fn agent(node: &Node, task: &str) -> Output {
    let output = attempt(node, task);
    assert!(output.status.success(), "{output:?}");
    output
}

fn attempt(node: &Node, task: &str) -> Output {
    let mut agent = Command::new(workspace_plugin("node-agent"));
    agent.args(["--config", NETWORK, task]).env_clear();
    node.run(|| agent.output()).expect("the agent")
}

fn pods_of_all_nodes_talk_where_firewalld_rules<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let nodes: Vec<&Node> = net.cluster.nodes().iter().collect();
    let ruled = nodes[0];
    let _firewalld = ruled.run(Firewalld::start);
    let wanted = wanted(&nodes, P::PATH);
    let told = String::from_utf8(agent(ruled, "--dry-run").stdout).expect("text");
    let commands = told.lines().filter(|line| line.starts_with("firewall-cmd"));
    assert_eq!(commands.count(), wanted.len(), "{told}");
    let mut pods: Vec<_> = nodes.iter().map(|node| node.attach(&net.chain)).collect();
    assert_eq!(members(ruled), wanted);
    Matrix::of(&pods).assert_all(4);
    for target in &net.cluster.outside().addresses {
        let answer = pods[0].pod.run(|| Ping::to(&target.to_string()).send());
        assert!(answer.is_ok(), "no way to {target}: {answer:?}");
    }
    ruled.check(&net.chain, &pods[0]).expect("all is well");
    net.call(ruled, "STATUS").silent_success();
    // It forgets, which is told; the next ADD tells it again.
    ruled.run(firewalld::reload);
    assert_eq!(members(ruled), [""; 0]);
    // A pod of which no connection knows.
    pods.push(nodes[1].attach(&net.chain));
    let target = pods[2].addresses[0].to_string();
    let ping = || Ping::to(&target).timeout(Duration::from_millis(250)).send();
    let answer = pods[0].pod.run(ping);
    assert!(answer.is_err(), "firewalld lets everything through");
    let failure = ruled.check(&net.chain, &pods[0]).expect_err("it is told");
    let words = format!("firewalld does not know {} in its zone trusted", wanted[0]);
    assert!(failure.to_string().contains(&words), "{failure}");
    let failure = net.call(ruled, "STATUS").failure();
    assert!(
        failure.code == 51 && failure.msg.contains(&words),
        "{failure:?}"
    );
    pods.push(ruled.attach(&net.chain));
    assert_eq!(members(ruled), wanted);
    Matrix::of(&pods).assert_all(24);
    if !P::PATH.is_tunnel() {
        // What holds all pods stands for all peers.
        let mut described = net.cluster.describe(0..2);
        described["clusterPrefixes"] = json!(["10.244.0.0/16", "fd00:244::/32"]);
        ruled.write(CLUSTER, &described.to_string());
        drop(ruled.attach(&net.chain));
        assert_eq!(members(ruled), ["10.244.0.0/16", "fd00:244::/32"]);
    }
    agent(ruled, "--cleanup");
    assert_eq!(members(ruled), [""; 0]);
    assert_eq!(ruled.read("/run/cni-fabric/167/zones.json"), None);
}

fn an_agent_tells_firewalld_again_what_it_has_forgotten<P: Over>() {
    let net = Net::build(&Layout::new(3), P::PATH.plugin(&json!({})));
    let nodes: Vec<&Node> = net.cluster.nodes().iter().collect();
    let ruled = nodes[0];
    let mut firewalld = ruled.run(Firewalld::start);
    firewalld.stop();
    let agents = net.start_agents(&[0, 1]);
    let pods: Vec<_> = nodes.iter().map(|node| node.attach(&net.chain)).collect();
    let mut wanted = wanted(&nodes, P::PATH);
    let again = |what: &str, wanted: &[String]| {
        await_condition(&format!("{what}: {}", agents[0].log()), || {
            members(ruled) == wanted
        });
    };
    ruled.run(|| firewalld.restart());
    again("it is told when it comes", &wanted);
    Matrix::of(&pods).assert_all(12);
    ruled.run(firewalld::reload);
    again("it is told again after a reload", &wanted);
    ruled.run(|| firewalld.restart());
    again("it is told again after a start", &wanted);
    tell(
        ruled,
        "removeSource",
        &["trusted", &ruled.pod_prefixes()[0]],
    );
    again("what somebody takes out is put back", &wanted);
    Matrix::of(&pods).assert_all(12);
    // A node that leaves, and what somebody else told it.
    tell(ruled, "addSource", &["trusted", "203.0.113.0/24"]);
    net.tell(&net.cluster.describe(0..2));
    wanted.retain(|member| !nodes[2].pod_prefixes().contains(member));
    wanted.insert(2, "203.0.113.0/24".to_owned());
    again("it is told of no node that has left", &wanted);
    for [prefix, words] in [
        [&ruled.pod_prefixes()[0], "firewalld was told of"],
        [&nodes[2].pod_prefixes()[0], "firewalld was told to forget"],
    ] {
        await_condition(&format!("{words} {prefix}: {}", agents[0].log()), || {
            agents[0].log().contains(&format!("{words} {prefix}"))
        });
    }
    drop(agents);
    // One that finds everything as it is to be changes nothing: firewalld would tell of that.
    let watched = ruled.run(|| {
        cni_testkit::Process::start(Command::new("/usr/bin/dbus-monitor").args([
            "--system",
            "type='signal',sender='org.fedoraproject.FirewallD1'",
        ]))
    });
    await_condition("the bus is watched", || {
        watched.log().contains("NameAcquired")
    });
    let agents = net.start_agents(&[0]);
    tell(ruled, "removeSource", &["trusted", "203.0.113.0/24"]);
    await_condition("the last change is told", || {
        watched.log().contains("SourceRemoved")
    });
    assert!(!watched.log().contains("Added"), "{}", watched.log());
    drop(agents);
    agent(ruled, "--cleanup");
    assert_eq!(members(ruled), [""; 0]);
}

fn what_firewalld_was_told_is_kept_by_an_agent_whose_source_is_away<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let nodes: Vec<&Node> = net.cluster.nodes().iter().collect();
    let ruled = nodes[0];
    let _firewalld = ruled.run(Firewalld::start);
    let mut agents = net.start_agents(&[0, 1]);
    let pods: Vec<_> = nodes.iter().map(|node| node.attach(&net.chain)).collect();
    let wanted = wanted(&nodes, P::PATH);
    assert_eq!(members(ruled), wanted);
    drop(agents.remove(0));
    ruled.sh(&format!("rm {CLUSTER}"));
    ruled.run(firewalld::reload);
    assert_eq!(members(ruled), [""; 0]);
    let agent = net.start_agent(ruled);
    let again = |what: &str| {
        await_condition(&format!("{what}: {}", agent.log()), || {
            members(ruled) == wanted
        });
    };
    again("it is told by an agent that starts");
    ruled.run(firewalld::reload);
    again("it is told again after a reload");
    Matrix::of(&pods).assert_all(4);
    await_condition("the source is away", || {
        let page = page(ruled, "/readyz").unwrap_or_default();
        page.contains("the source has not told of all nodes yet")
    });
    // One that knows the nodes again sees to what is wanted then.
    let file = net.cluster.describe(0..2);
    ruled.write(CLUSTER, &file.to_string());
    await_ready(ruled, &agent);
    ruled.run(firewalld::reload);
    again("it is told again when the source is back");
}

fn what_others_told_firewalld_stays_and_what_is_in_another_zone_is_reported<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let ruled = net.cluster.node(0);
    let _firewalld = ruled.run(Firewalld::start);
    let [first, second] = [0, 1].map(|place| ruled.pod_prefixes()[place].as_str());
    let port = format!("{}/udp", P::PATH.port());
    let number = P::PATH.port().to_string();
    tell(ruled, "addSource", &["trusted", first]);
    tell(ruled, "addPort", &["public", &number, "udp", "0"]);
    tell(ruled, "addSource", &["work", second]);
    let pod = ruled.attach(&net.chain);
    assert_eq!(members(ruled), [DEVICE, first, &port]);
    let words = format!("firewalld does not know {second} in its zone trusted");
    let failure = ruled.check(&net.chain, &pod).expect_err("it is told");
    assert!(failure.to_string().contains(&words), "{failure}");
    let running = net.start_agents(&[0]);
    await_condition("the agent tells", || {
        let page = page(ruled, "/readyz").unwrap_or_default();
        page.contains(&format!("put {second} into zone trusted: ZONE_CONFLICT"))
    });
    await_condition("the agent warns", || {
        let log = running[0].log();
        let mut lines = log.lines();
        lines.any(|line| line.contains("WARN") && line.contains("ZONE_CONFLICT"))
    });
    let failure = net.call(ruled, "STATUS").failure();
    assert!(
        failure.code == 51 && failure.msg.contains(second),
        "{failure:?}"
    );
    drop(running);
    agent(ruled, "--cleanup");
    assert_eq!(members(ruled), [first, &port]);
    assert_eq!(ruled.run(|| firewalld::members("work")), [second]);
    // What has been made permanent meanwhile is somebody else's, too.
    drop(ruled.attach(&net.chain));
    ruled.sh(&format!(
        "firewall-cmd --permanent --zone=trusted --add-interface={DEVICE}"
    ));
    agent(ruled, "--cleanup");
    assert_eq!(members(ruled), [DEVICE, first, &port]);
}

fn who_does_not_reach_firewalld_does_not_take_it_for_stopped<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let nodes: Vec<&Node> = net.cluster.nodes().iter().collect();
    let ruled = nodes[0];
    let mut firewalld = ruled.run(Firewalld::start);
    drop(ruled.attach(&net.chain));
    // As in a container that has no bus.
    ruled.sh("mv /run/dbus /run/dbus.away");
    let output = attempt(ruled, "--cleanup");
    assert!(!output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    let command = format!("firewall-cmd --zone=trusted --remove-interface={DEVICE}");
    assert!(told.contains(&command), "{output:?}");
    ruled.sh("mv /run/dbus.away /run/dbus");
    assert_eq!(members(ruled), wanted(&nodes, P::PATH));
    agent(ruled, "--cleanup");
    assert_eq!(members(ruled), [""; 0]);
    // One that has ended has no rules any more.
    drop(ruled.attach(&net.chain));
    firewalld.stop();
    agent(ruled, "--cleanup");
    assert_eq!(ruled.read("/run/cni-fabric/167/zones.json"), None);
}

/// The network of a node with another `firewalldZone`.
fn in_zone(node: &Node, path: DataPath, zone: &str) -> Chain {
    let plugin = path.plugin(&json!({ "firewalldZone": zone }));
    let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [plugin] });
    node.write(NETWORK, &list.to_string());
    Chain::new(list, &[&workspace_plugin_dir()])
}

fn another_zone_takes_over_what_is_not_permanent_in_the_former_one<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let ruled = net.cluster.node(0);
    let _firewalld = ruled.run(Firewalld::start);
    let of_zone = |zone: &str| ruled.run(|| firewalld::members(zone));
    let [first, second] = [0, 1].map(|place| ruled.pod_prefixes()[place].as_str());
    drop(ruled.attach(&net.chain));
    ruled.sh(&format!(
        "firewall-cmd --permanent --zone=trusted --add-source={first}"
    ));
    let pod = ruled.attach(&in_zone(ruled, P::PATH, "work"));
    assert_eq!(of_zone("work"), [DEVICE, second]);
    assert_eq!(of_zone("trusted"), [first]);
    let failure = ruled.check(&in_zone(ruled, P::PATH, "work"), &pod);
    let words = format!("firewalld does not know {first} in its zone work");
    let failure = failure.expect_err("it is told").to_string();
    assert!(failure.contains(&words), "{failure}");
    // A zone of pods and uplinks that lets nothing in by itself.
    tell(ruled, "changeZoneOfInterface", &["work", "eth0"]);
    drop(ruled.attach(&in_zone(ruled, P::PATH, "work")));
    let port = format!("{}/udp", P::PATH.port());
    assert_eq!(of_zone("work"), ["eth0", DEVICE, second, &port]);
    assert_eq!(of_zone("public"), [""; 0]);
    // What there is stays where it was as long as there is no place for it.
    drop(ruled.attach(&in_zone(ruled, P::PATH, "nowhere")));
    assert_eq!(of_zone("work"), ["eth0", DEVICE, second, &port]);
    let failure = net.call(ruled, "STATUS").failure();
    let told = failure.code == 51 && failure.msg.contains("zone nowhere: INVALID_ZONE");
    assert!(told, "{failure:?}");
    agent(ruled, "--cleanup");
    assert_eq!(of_zone("work"), ["eth0"]);
    assert_eq!(members(ruled), [first]);
}

fn the_port_is_not_opened_to_everybody_where_another_device_hears_everybody<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({ "vni": 2 })));
    let nodes = net.cluster.nodes();
    let ruled = &nodes[0];
    let _firewalld = ruled.run(Firewalld::start);
    let port = P::PATH.port();
    ruled.sh(&format!(
        "ip link add flannel.1 type vxlan id 1 dstport {port} nolearning"
    ));
    let pods: Vec<_> = nodes.iter().map(|node| node.attach(&net.chain)).collect();
    let once = || String::from_utf8(agent(ruled, "--once").stdout).expect("text");
    let told = once();
    let words = "nothing sees to who sends to flannel.1 at the same port";
    assert!(
        told.contains(words) && told.contains("--add-rich-rule="),
        "{told}"
    );
    let mut wanted = ruled.pod_prefixes().to_vec();
    wanted.insert(0, "vxlan.2".to_owned());
    assert_eq!(members(ruled), wanted);
    // As it is told.
    let mut addresses = nodes[1].addresses().iter();
    let peer = addresses.find(|address| address.is_ipv4());
    let rule = format!(
        r#"rule family="ipv4" source address="{}" port port="{port}" protocol="udp" accept"#,
        peer.expect("an underlay of IPv4")
    );
    tell(ruled, "addRichRule", &["public", &rule, "0"]);
    let told = once();
    assert!(!told.contains("flannel.1"), "{told}");
    assert_eq!(members(ruled), wanted);
    Matrix::of(&pods).assert_all(4);
    ruled.delete_link("flannel.1");
    once();
    wanted.push(format!("{port}/udp"));
    assert_eq!(members(ruled), wanted);
}

fn networks_of_one_port_open_it_if_all_have_filters_and_leave_it_to_each_other() {
    const FILE: &str = "/run/cni/other.json";
    let net = Net::build(&Layout::new(2), Classic::PATH.plugin(&json!({})));
    let ruled = net.cluster.node(0);
    let nodes = net.cluster.describe(0..2).to_string();
    let nodes = nodes.replace("10.244.", "10.245.");
    ruled.write(FILE, &nodes.replace("fd00:244:", "fd00:245:"));
    let _firewalld = ruled.run(Firewalld::start);
    let one = ruled.read(NETWORK).expect("the first network's");
    let other = |filter: bool| {
        let plugin = Classic::PATH.plugin(&json!({
            "cluster": { "file": FILE }, "attach": { "bridge": "cni1" },
            "vni": 3, "routeProtocol": 168, "filter": filter
        }));
        json!({ "cniVersion": "1.1.0", "name": "other", "plugins": [plugin] })
    };
    let attach = |list: Value| ruled.attach(&Chain::new(list, &[&workspace_plugin_dir()]));
    let told = |network: &str, task: &str| {
        ruled.write(NETWORK, network);
        String::from_utf8(agent(ruled, task).stdout).expect("text")
    };
    let port = format!("{}/udp", Classic::PATH.port());
    let is_open = || members(ruled).contains(&port);
    drop(ruled.attach(&net.chain));
    assert!(is_open());
    drop(attach(other(false)));
    let words = "nothing sees to who sends to vxlan.3 at the same port";
    let text = told(&one, "--once");
    assert!(text.contains(words) && !is_open(), "{text}");
    // That is the other one's flaw as well.
    let text = told(&other(false).to_string(), "--once");
    assert!(text.contains("the tunnel has no filter"), "{text}");
    drop(attach(other(true)));
    assert!(is_open());
    for network in [&one, &other(true).to_string()] {
        let text = told(network, "--once");
        assert!(!text.contains("is not opened"), "{text}");
    }
    told(&other(true).to_string(), "--cleanup");
    assert_eq!(members(ruled), wanted(&[ruled], Classic::PATH));
    told(&one, "--cleanup");
    assert_eq!(members(ruled), [""; 0]);
}

fn firewalld_that_does_not_answer_holds_nobody_up<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let nodes = net.cluster.nodes();
    let mut firewalld = nodes[0].run(Firewalld::start);
    firewalld.freeze(true);
    drop(nodes[0].attach(&net.chain));
    let failure = net.call(&nodes[0], "STATUS").failure();
    let told = failure.code == 51 && failure.msg.contains("firewalld has not answered");
    assert!(told, "{failure:?}");
    let agent = net.start_agent(&nodes[0]);
    await_ready(&nodes[0], &agent);
    await_condition("the agent tells", || {
        let page = page(&nodes[0], "/readyz").unwrap_or_default();
        page.starts_with("HTTP/1.1 200") && page.contains("firewalld has not answered")
    });
    drop(nodes[0].attach(&net.chain));
    firewalld.freeze(false);
    await_condition("it is told when it answers", || {
        members(&nodes[0]) == wanted(&[&nodes[0], &nodes[1]], P::PATH)
    });
}

fn that_firewalld_is_not_reached_is_told_where_its_rules_are_in_force_and_not_when_it_ends<
    P: Over,
>() {
    const WORDS: &str = "does not reach firewalld";
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let nodes: Vec<&Node> = net.cluster.nodes().iter().collect();
    let ruled = nodes[0];
    let mut firewalld = ruled.run(Firewalld::start);
    let wanted = wanted(&nodes, P::PATH);
    let told = |agent: &cni_testkit::Process| {
        await_condition(&format!("it is told: {}", agent.log()), || {
            members(ruled) == wanted
        });
    };
    // Everything has been compared while firewalld ruled.
    let agent = net.start_agents(&[0]).remove(0);
    told(&agent);
    ruled.run(|| firewalld.restart());
    told(&agent);
    // Nor is it told of one that ends while it is asked.
    for words in [WORDS, "disconnected from message bus"] {
        assert!(!agent.log().contains(words), "{}", agent.log());
    }
    drop(agent);
    // As in a container without the message bus.
    ruled.sh("mv /run/dbus /run/elsewhere");
    let agent = net.start_agents(&[0]).remove(0);
    await_condition("it is told that firewalld is not reached", || {
        agent.log().contains(WORDS)
    });
}

fn uninstalling_is_not_done_before_firewalld_is_reached<P: Over>() {
    let net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    let ruled = net.cluster.node(0);
    let _firewalld = ruled.run(Firewalld::start);
    drop(ruled.attach(&net.chain));
    // As in a container without the message bus.
    ruled.sh("mv /run/dbus /run/dbus.away");
    let mut agent = Command::new(workspace_plugin("node-agent"));
    let arguments = ["--uninstall", "/run/opt/cni/bin", "--wait"];
    let agent = ruled.start(
        agent
            .args(["--config", NETWORK])
            .args(arguments)
            .env_clear(),
    );
    let tells = |status: &str, words: &str| {
        await_condition(&format!("it tells {words}: {}", agent.log()), || {
            let page = page(ruled, "/readyz").unwrap_or_default();
            page.starts_with(&format!("HTTP/1.1 {status}")) && page.contains(words)
        });
    };
    let command = format!("firewall-cmd --zone=trusted --remove-interface={DEVICE}");
    tells("503", &command);
    await_condition("it warns", || agent.log().contains(&command));
    ruled.sh("mv /run/dbus.away /run/dbus");
    tells("200", "uninstalled");
    assert_eq!(members(ruled), [""; 0]);
    assert_eq!(ruled.read("/run/cni-fabric/167/zones.json"), None);
}
