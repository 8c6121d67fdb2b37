//! For how long the plugins of a node rely on what its agent has told them, where that agent does not say more.

use std::path::PathBuf;

use cni_testkit::cluster::{Cluster, Layout, Node, await_condition};
use cni_testkit::etcd::Etcd;
use cni_testkit::{Invocation, Pod, Test, require, tests, workspace_plugin, workspace_plugin_dir};
use serde_json::json;

use crate::etcd::{PREFIX, Site, await_word, prefixes, server};
use crate::lab;
use crate::world::{Classic, Flow, HostGw, Over, await_ready, page};

pub(crate) const TESTS: &[Test] = &tests![
    a_frozen_agents_plugins_do_not_use_a_prefix_that_is_anothers_by_now::<Flow>,
    a_frozen_agents_plugins_do_not_use_a_prefix_that_is_anothers_by_now::<Classic>,
    a_frozen_agents_plugins_do_not_use_a_prefix_that_is_anothers_by_now::<HostGw>,
    time_that_a_machine_has_slept_counts::<Flow>,
];

const LATE: &str = "has not confirmed in time that this node's prefixes are still its own";

/// ADD is refused with code 11, and STATUS with 50, with these words.
fn refuses(site: &Site, node: &Node, words: &str) {
    let failure = site.net.call(node, "STATUS").failure();
    let told = failure.code == 50 && failure.msg.contains(words);
    assert!(told, "{failure:?}");
    let pod = Pod::new("late");
    let outcome = node.run(|| site.net.chain.add(&pod, "eth0"));
    let failure = outcome.expect_err("no new pod").failure();
    let told = failure.code == 11 && failure.msg.contains(words);
    assert!(told, "{failure:?}");
}

fn a_frozen_agents_plugins_do_not_use_a_prefix_that_is_anothers_by_now<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    // One prefix for two nodes.
    let keys = json!({
        "leaseSeconds": 5, "graceSeconds": 5,
        "podNetworks": [{ "prefix": "10.244.7.0/24", "nodeLength": 24 }],
    });
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &keys);
    let (node, heir) = (site.node(0), site.node(1));
    let mut first = site.agent(0);
    await_ready(node, &first);
    let pod = node.attach(&site.net.chain);
    let second = site.agent(1);
    await_word(heir, "no prefix of 10.244.7.0/24 is free");
    first.freeze(true);
    await_ready(heir, &second);
    assert_eq!(prefixes(heir), ["10.244.7.0/24"]);
    // It holds its lock, and what it has written last says that it is ready.
    refuses(&site, node, LATE);
    let late = heir.attach(&site.net.chain);
    // What is there can be taken down.
    node.detach(&site.net.chain, &pod);
    first.freeze(false);
    await_word(node, "no prefix of 10.244.7.0/24 is free");
    refuses(&site, node, "no prefix of 10.244.7.0/24 is free");
    // The other one leaves it, and it can go on.
    heir.detach(&site.net.chain, &late);
    second.kill();
    await_ready(node, &first);
    assert_eq!(prefixes(node), ["10.244.7.0/24"]);
    node.attach(&site.net.chain);
    let kept = etcd.keys(&format!("{PREFIX}/claims/"));
    assert!(kept.len() == 1 && kept[0].value.contains("n1"), "{kept:?}");
}

/// STATUS of a plugin on a machine whose boot clock is so many seconds ahead of what the agent has seen.
fn after_a_sleep(site: &Site, node: &Node, seconds: u32) -> cni_testkit::Outcome {
    let plugin = site.net.plugin["type"].as_str().expect("a type");
    let script = PathBuf::from("/run/slept");
    node.write(
        "/run/slept",
        &format!(
            "#!/bin/sh\nexec unshare --time --boottime {seconds} --fork {}\n",
            workspace_plugin(plugin).display()
        ),
    );
    node.sh("chmod +x /run/slept");
    let mut config = site.net.plugin.clone();
    config["cniVersion"] = "1.1.0".into();
    config["name"] = "net".into();
    let run = Invocation::new(script, "STATUS")
        .env("CNI_PATH", workspace_plugin_dir())
        .config(&config);
    node.run(|| run.run())
}

fn time_that_a_machine_has_slept_counts<P: Over>() {
    let _ = require(lab::which("unshare"), "unshare (util-linux)");
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let _etcd = Etcd::start(&host.pod, host.addresses[0]);
    let site = Site::over(cluster, P::PATH, &host, &json!({}));
    let node = site.node(0);
    let agent = site.agent(0);
    await_ready(node, &agent);
    await_condition("the plugins are told of a term", || {
        let state = node.read("/run/cni-fabric/167/state.json");
        state.is_some_and(|state| state.contains("\"expires\":{"))
    });
    let outcome = after_a_sleep(&site, node, 100);
    assert!(outcome.is_success(), "{outcome}");
    let failure = after_a_sleep(&site, node, 400).failure();
    let told = failure.code == 50 && failure.msg.contains(LATE);
    assert!(told, "{failure:?}");
    assert!(page(node, "/readyz").is_some_and(|page| page.starts_with("HTTP/1.1 200")));
}
