//! Who may what.

use cni_testkit::{Test, tests};

use super::*;

pub(crate) const TESTS: &[Test] = &tests![
    each_user_may_what_the_table_says,
    tokens_rotate,
    certificates_are_taken_too,
];

fn each_user_may_what_the_table_says() {
    let pod = Pod::new("api");
    let server = server(&pod);
    server.admin().create(Nodes, &node("r")).ok();
    let name = named("r");
    let agent = server.client(Some(User::Agent));
    agent.get(Nodes, &name).ok();
    assert_eq!(agent.list(Nodes, "").refused(403), "Forbidden");
    let refused = agent.watch(Nodes, "").expect_err("refused");
    assert_eq!(refused.refused(403), "Forbidden");
    let words = refused.body["message"].as_str().unwrap_or_default();
    assert!(words.contains("cannot watch resource \"nodes\""), "{words}");
    assert_eq!(
        agent.merge(Nodes, &name, &json!({})).refused(403),
        "Forbidden"
    );
    let applied = agent.apply(
        NodeNetworks,
        &name,
        "cni-fabric",
        true,
        &network("r", "net"),
    );
    assert_eq!(applied.code, 201);
    assert_eq!(agent.delete(NodeNetworks, &name).refused(403), "Forbidden");
    assert_eq!(
        agent.update(NodeNetworks, &applied.body).refused(403),
        "Forbidden"
    );
    let flannel = server.client(Some(User::FlannelAgent));
    flannel.list(Nodes, "").ok();
    flannel
        .merge(
            Nodes,
            &name,
            &json!({ "metadata": { "annotations": { "x": "y" } } }),
        )
        .ok();
    let stranger = server.client(Some(User::Stranger));
    assert_eq!(stranger.list(NodeNetworks, "").refused(403), "Forbidden");
    let cleaner = server.client(Some(User::Cleaner));
    cleaner.delete(NodeNetworks, &name).ok();
    assert_eq!(cleaner.delete(Nodes, &name).refused(403), "Forbidden");
    assert_eq!(
        server
            .client_with("no-token-at-all")
            .list(Nodes, "")
            .refused(401),
        "Unauthorized"
    );
    assert_eq!(
        server.client(None).list(Nodes, "").refused(403),
        "Forbidden"
    );
}

fn tokens_rotate() {
    let pod = Pod::new("api");
    let mut server = server(&pod);
    let before = server.client(Some(User::Agent));
    let fresh = server.rotate(User::Agent);
    for client in [&before, &server.client_with(&fresh)] {
        client.list(NodeNetworks, "").ok();
    }
    server.revoke(User::Agent);
    // A real server may think for ten seconds that it is still good.
    cni_testkit::cluster::await_condition("the old token is worth nothing", || {
        before.list(NodeNetworks, "").code == 401
    });
    server.client(Some(User::Agent)).list(NodeNetworks, "").ok();
}

fn certificates_are_taken_too() {
    kube::only_ours();
    let pod = Pod::new("api");
    let server = server(&pod);
    server
        .client_with_certificate(&pod, true)
        .list(NodeNetworks, "")
        .ok();
    let refused = server
        .client_with_certificate(&pod, false)
        .list(NodeNetworks, "");
    assert_eq!(refused.refused(401), "Unauthorized");
    let text = server.kubeconfig_with_certificate(true);
    assert!(
        text.contains("client-key-data: ") && text.contains("server: https://127.0.0.1:6443\n"),
        "{text}"
    );
    let plain = Pod::new("plain");
    let plain_server = ApiServer::start_plain(&plain, "127.0.0.1".parse().expect("an address"));
    plain_server
        .client_from(&plain, Some(User::Agent))
        .list(NodeNetworks, "")
        .ok();
    assert!(
        plain_server
            .kubeconfig(User::Agent)
            .contains("server: http://127.0.0.1:6443\n")
    );
}
