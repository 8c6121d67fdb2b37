//! The node agent's tasks: what it says, does and leaves.

use std::process::{Command, Output};

use cni_testkit::cluster::{Layout, Matrix};
use cni_testkit::{Test, tests, workspace_plugin};
use serde_json::json;

use crate::world::{Classic, Flow, HostGw, NETWORK, Net, Over};

pub(crate) const TESTS: &[Test] = &tests![
    a_dry_run_prints_what_once_does_and_changes_nothing::<Flow>,
    a_dry_run_prints_what_once_does_and_changes_nothing::<Classic>,
    a_dry_run_prints_what_once_does_and_changes_nothing::<HostGw>,
];

/// Runs a task of the agent on a node, to its end.
pub(crate) fn task(net: &Net, position: usize, arguments: &[&str]) -> Output {
    net.cluster.node(position).run(|| {
        Command::new(workspace_plugin("node-agent"))
            .args(["--config", NETWORK])
            .args(arguments)
            .env_clear()
            .output()
            .expect("the agent's program")
    })
}

/// What a task says when all went well.
#[track_caller]
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}: {}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn a_dry_run_prints_what_once_does_and_changes_nothing<O: Over>() {
    let net = Net::build(&Layout::new(3), O::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    let before = node.snapshot();
    let plan = said(&task(&net, 0, &["--dry-run"]));
    node.snapshot().assert_unchanged_since(&before);
    println!("{plan}");
    for prefix in ["10.244.2.0/24", "10.244.3.0/24", "fd00:244:3::/64"] {
        assert!(plan.contains(prefix), "{prefix} is missing in\n{plan}");
    }
    for position in 0..3 {
        let text = said(&task(&net, position, &["--once"]));
        assert!(text.ends_with("ready\n"), "{text}");
        assert_eq!(
            said(&task(&net, position, &["--dry-run"])),
            "nothing to do\n"
        );
        assert_eq!(said(&task(&net, position, &["--once"])), "ready\n");
    }
    let nodes = net.cluster.nodes().iter();
    let pods: Vec<_> = nodes.map(|node| node.attach(&net.chain)).collect();
    Matrix::of(&pods).assert_all(12);
}
