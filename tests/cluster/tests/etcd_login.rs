//! How agents say who they are: certificates, passwords and tokens, and what becomes of the connection when those change.

use cni_testkit::Process;
use cni_testkit::cluster::{Cluster, Layout, Matrix, await_condition};
use cni_testkit::etcd::{Certificates, Etcd, encode};
use cni_testkit::{Test, tests};
use serde_json::{Value, json};

use crate::etcd::{PREFIX, Site, await_peers, await_word, prefixes, server};
use crate::world::{Flow, NETWORK, Over, await_ready, metric};

pub(crate) const TESTS: &[Test] = &tests![
    a_server_that_asks_for_certificates_gets_them::<Flow>,
    a_password_is_read_again_when_it_has_changed::<Flow>,
    a_token_is_read_again_when_the_server_does_not_take_it::<Flow>,
    signed_tokens_that_the_servers_users_outdate_are_renewed::<Flow>,
];

/// A user `agent` with the least rights that work, and `root`.
fn enable_users(etcd: &Etcd<'_>) {
    for (path, body) in [
        ("/v3/auth/role/add", json!({ "name": "nodes" })),
        // The least that works: this network's keys, to read and to write.
        (
            "/v3/auth/role/grant",
            json!({ "name": "nodes", "perm": {
                "permType": "READWRITE", "key": "L2NuaS9uZXQv", "range_end": "L2NuaS9uZXQw",
            }}),
        ),
        (
            "/v3/auth/user/add",
            json!({ "name": "root", "password": "of-root" }),
        ),
        (
            "/v3/auth/user/grant",
            json!({ "user": "root", "role": "root" }),
        ),
        (
            "/v3/auth/user/add",
            json!({ "name": "agent", "password": "first-secret" }),
        ),
        (
            "/v3/auth/user/grant",
            json!({ "user": "agent", "role": "nodes" }),
        ),
        ("/v3/auth/enable", json!({})),
    ] {
        etcd.call(path, &body);
    }
}

fn a_server_that_asks_for_certificates_gets_them<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let files = Certificates::make(host.addresses[0]);
    let _etcd = Etcd::with_certificates(&host.pod, host.addresses[0], &files);
    let keys = json!({
        "endpoints": [format!("https://{}:2379", host.addresses[0])],
        "caFile": "/run/tls/ca.pem", "certFile": "/run/tls/client.pem", "keyFile": "/run/tls/client.key",
    });
    let site = Site::over(cluster, P::PATH, &host, &keys);
    for node in site.net.cluster.nodes() {
        node.write("/run/tls/ca.pem", &files.text("ca.pem"));
        node.write("/run/tls/client.pem", &files.text("other.pem"));
        node.write("/run/tls/client.key", &files.text("other.key"));
    }
    let agents: Vec<Process> = (0..2).map(|position| site.agent(position)).collect();
    for node in site.net.cluster.nodes() {
        await_word(node, "the source has not told of all nodes yet: ");
        await_condition("the server is away", || {
            metric(node, "cni_agent_source_connected") == 0.0
        });
    }
    // The right ones are read when they are there: no restart.
    for node in site.net.cluster.nodes() {
        node.write("/run/tls/client.pem", &files.text("client.pem"));
        node.write("/run/tls/client.key", &files.text("client.key"));
    }
    for (position, agent) in agents.iter().enumerate() {
        await_ready(site.node(position), agent);
        await_peers(site.node(position), 1);
        assert!(!agent.log().contains("PRIVATE KEY"));
    }
    Matrix::of(&site.pods()).assert_all(4);
}

fn a_password_is_read_again_when_it_has_changed<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    enable_users(&etcd);
    let keys = json!({ "user": "agent", "passwordFile": "/run/password" });
    let site = Site::over(cluster, P::PATH, &host, &keys);
    let node = site.node(0);
    node.write("/run/password", "stale-secret\n");
    let agent = site.agent(0);
    await_word(node, "authentication failed");
    node.write("/run/password", "first-secret\n");
    await_ready(node, &agent);
    assert_eq!(prefixes(node).len(), 2);
    let log = agent.log();
    assert!(!log.contains("secret"), "{log}");
}

fn a_token_is_read_again_when_the_server_does_not_take_it<P: Over>() {
    let cluster = Cluster::build(&Layout::new(1));
    let host = server(&cluster);
    let etcd = Etcd::start(&host.pod, host.addresses[0]);
    enable_users(&etcd);
    let site = Site::over(
        cluster,
        P::PATH,
        &host,
        &json!({ "tokenFile": "/run/token", "leaseSeconds": 5 }),
    );
    let node = site.node(0);
    node.write("/run/token", "no-token\n");
    let agent = site.agent(0);
    await_word(node, "invalid auth token");
    let first = etcd.token("agent", "first-secret");
    node.write("/run/token", &first);
    await_ready(node, &agent);
    let own = prefixes(node);
    assert_eq!(own.len(), 2);
    // With the password, what was given for it does not count any more.
    let root = etcd.token("root", "of-root");
    let changed = json!({ "name": "agent", "password": "second-secret" });
    etcd.call_as(&root, "/v3/auth/user/changepw", &changed);
    let root = etcd.token("root", "of-root");
    let entry = encode(format!("{PREFIX}/nodes/n1").as_bytes());
    etcd.call_as(&root, "/v3/kv/deleterange", &json!({ "key": entry }));
    await_word(node, "invalid auth token");
    let second = etcd.token("agent", "second-secret");
    assert_ne!(first, second);
    node.write("/run/token", &second);
    await_ready(node, &agent);
    await_condition("it has its prefixes again", || prefixes(node) == own);
    let log = agent.log();
    assert!(!log.contains(&first) && !log.contains(&second), "{log}");
}

/// A signed token holds for every server and over restarts, but says at which revision of users and roles it was made.
fn signed_tokens_that_the_servers_users_outdate_are_renewed<P: Over>() {
    let cluster = Cluster::build(&Layout::new(2));
    let host = server(&cluster);
    let files = Certificates::make(host.addresses[0]);
    let mut etcd = Etcd::with_signed_tokens(&host.pod, host.addresses[0], &files);
    enable_users(&etcd);
    let site = Site::over(
        cluster,
        P::PATH,
        &host,
        &json!({ "tokenFile": "/run/token" }),
    );
    site.node(0)
        .write("/run/token", &etcd.token("agent", "first-secret"));
    // The other one has a password.
    let mut plugin = site.net.plugin.clone();
    let etcd_keys = plugin["cluster"]["etcd"]
        .as_object_mut()
        .expect("a section");
    etcd_keys.remove("tokenFile");
    etcd_keys.insert("user".to_owned(), json!("agent"));
    etcd_keys.insert("passwordFile".to_owned(), json!("/run/password"));
    let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [plugin] });
    site.node(1).write(NETWORK, &list.to_string());
    site.node(1).write("/run/password", "first-secret");
    let _agents = site.agents();
    etcd.kill();
    for node in site.net.cluster.nodes() {
        await_condition("the agent has noticed", || {
            metric(node, "cni_agent_source_connected") == 0.0
        });
    }
    etcd.restart();
    for node in site.net.cluster.nodes() {
        await_condition("the token still holds", || {
            metric(node, "cni_agent_source_connected") == 1.0
        });
    }
    let root = etcd.token("root", "of-root");
    etcd.call_as(
        &root,
        "/v3/auth/user/add",
        &json!({ "name": "other", "password": "x" }),
    );
    site.node(0)
        .write("/run/token", &etcd.token("agent", "first-secret"));
    // Both have to write again, with what they have not been asked for before.
    let root = etcd.token("root", "of-root");
    let key = |name: &str| encode(format!("{PREFIX}/nodes/{name}").as_bytes());
    for name in ["n1", "n2"] {
        etcd.call_as(&root, "/v3/kv/deleterange", &json!({ "key": key(name) }));
        await_condition(&format!("{name} has written itself anew"), || {
            let answer = etcd.call_as(&root, "/v3/kv/range", &json!({ "key": key(name) }));
            answer["count"] != Value::Null
        });
    }
    for node in site.net.cluster.nodes() {
        await_peers(node, 1);
    }
    Matrix::of(&site.pods()).assert_all(4);
}
