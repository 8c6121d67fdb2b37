//! What a crate may pull in.

use crate::cargo;

/// The crates in the tree of normal dependencies.
fn tree(arguments: &[&str]) -> Vec<String> {
    let mut all = vec!["tree", "--edges=normal", "--prefix=none", "--format={p}"];
    all.extend(arguments);
    cargo(&all)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn assert_without(tree: &[String], unwanted: &[&str]) {
    assert!(tree.len() > 1, "cargo prints a tree");
    for name in unwanted {
        assert!(
            !tree.iter().any(|have| have == name),
            "{name} is in the tree: {tree:?}"
        );
    }
}

#[test]
fn cni_core_without_default_features_has_no_runtime_and_no_netlink() {
    let tree = tree(&["--package=cni-core", "--no-default-features"]);
    assert_without(
        &tree,
        &[
            "tokio",
            "rtnetlink",
            "netlink-sys",
            "netlink-packet-route",
            "nix",
            "libc",
            "mockall",
        ],
    );
}

#[test]
fn cni_core_for_the_kernel_has_no_log_writer_and_no_mocks() {
    let tree = tree(&["--package=cni-core"]);
    assert_without(&tree, &["tracing-subscriber", "mockall", "regex", "clap"]);
}

#[test]
fn no_backend_depends_on_an_asynchronous_runtime_of_its_own() {
    let tree = tree(&["--package=backend-bridge", "--depth=1"]);
    assert_without(&tree, &["tokio", "rtnetlink", "netlink-sys", "nix"]);
}

/// Log filters by regular expression, Kubernetes and etcd clients and argument parsers cost start-up time and size.
#[test]
fn no_plugin_carries_what_only_a_daemon_or_a_tool_needs() {
    let members = cargo(&[
        "tree",
        "--workspace",
        "--depth=0",
        "--prefix=none",
        "--format={p}",
    ]);
    let plugins = ["bridge", "host-local", "static", "loopback", "ptp"];
    for line in members.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let plugin = name
            .trim_start_matches("plugin-")
            .trim_end_matches("-plugin");
        if plugins.contains(&plugin) || name == "plugins" {
            let tree = tree(&["--package", name]);
            assert_without(
                &tree,
                &[
                    "regex",
                    "regex-automata",
                    "clap",
                    "kube",
                    "etcd-client",
                    "mockall",
                ],
            );
        }
    }
}

/// What asks a service for the nodes of a cluster is the agent's.
#[test]
fn nothing_but_the_agent_speaks_to_etcd_or_kubernetes() {
    let client = [
        "hyper",
        "http",
        "rustls",
        "tokio-rustls",
        "ring",
        "base64",
        "saphyr-parser",
        "etcd-client",
        "kube",
        "k8s-openapi",
    ];
    for package in [
        "cni-core",
        "backend-bridge",
        "backend-vxlan",
        "backend-host-gw",
        "cni-plugins",
    ] {
        let tree = tree(&["--package", package, "--all-features"]);
        assert_without(&tree, &client);
    }
}

/// A client of etcd's gRPC would need protoc where it is built, and three times as many crates; one of Kubernetes with types of
/// all its kinds would have twice as many.
#[test]
fn the_agents_clients_are_http_and_tls_and_no_more() {
    let tree = tree(&["--package=node-agent"]);
    assert_without(
        &tree,
        &[
            "axum",
            "h2",
            "reqwest",
            "tower",
            "openssl",
            "native-tls",
            "aws-lc-sys",
            "etcd-client",
            "kube",
            "k8s-openapi",
            "tonic",
            "prost",
            "clap",
            "regex",
            "mockall",
        ],
    );
}

/// Three pages need no framework, and a cluster file no client: an agent is on every node, and has to be small.
#[test]
fn the_node_agent_has_no_framework() {
    let tree = tree(&["--package=node-agent", "--no-default-features"]);
    assert_without(
        &tree,
        &[
            "hyper",
            "axum",
            "h2",
            "reqwest",
            "rustls",
            "openssl",
            "kube",
            "k8s-openapi",
            "etcd-client",
            "tonic",
            "prost",
            "prometheus",
            "clap",
            "regex",
            "mockall",
        ],
    );
}
