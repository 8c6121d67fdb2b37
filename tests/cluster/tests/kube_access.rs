//! Who a node says it is to Kubernetes, and what it may do.

use std::fs;
use std::time::Duration;

use cni_testkit::kube::{ApiServer, User, named, only_ours};
use cni_testkit::{Pod, Test, tests};
use node_agent::kube::client::Client;
use node_agent::kube::layout::Layout;
use serde_json::Value;

use crate::kube_source::{LOOPBACK, Seen, in_pod, is_away, numbered, origin, write};

pub(crate) const TESTS: &[Test] = &tests![
    a_token_that_is_renewed_counts_at_once,
    a_certificate_is_as_good_as_a_token,
    rights_that_are_missing_are_named,
    a_connection_that_the_server_has_ended_is_made_anew,
];

fn a_token_that_is_renewed_counts_at_once() {
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    let server = &mut server;
    write(server, &numbered(0));
    fs::write("/run/token", server.token(User::Agent)).expect("a token");
    let origin = origin(&server.kubeconfig_with_token_file("/run/token"));
    let path = Layout::object(&named("n0"));
    in_pod(&pod, async || {
        let mut client = Client::new(origin);
        client.connect().await.expect("a connection");
        client.get::<Value>(&path).await.expect("an object");
        let old = server.token(User::Agent).to_owned();
        let fresh = server.rotate(User::Agent);
        fs::write("/run/token", format!("{fresh}\n")).expect("a token");
        server.revoke(User::Agent);
        client.get::<Value>(&path).await.expect("an object");
        // One that is not renewed is refused, and told by nobody.
        server.rotate(User::Agent);
        server.revoke(User::Agent);
        let refused = loop {
            match client.get::<Value>(&path).await {
                // A real server may take some seconds.
                Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(trouble) => break trouble.to_string(),
            }
        };
        assert!(refused.contains("401"), "{refused}");
        let all = format!("{refused} {client:?}");
        assert!(!all.contains(&fresh) && !all.contains(&old), "{all}");
    });
}

fn a_certificate_is_as_good_as_a_token() {
    only_ours();
    let pod = Pod::new("api");
    let server = ApiServer::start(&pod, LOOPBACK);
    write(&server, &numbered(0));
    in_pod(&pod, async || {
        let good = origin(&server.kubeconfig_with_certificate(true));
        Seen::start(&good).has(1).await;
        let other = origin(&server.kubeconfig_with_certificate(false));
        Seen::start(&other).until("it is refused", is_away).await;
    });
}

fn rights_that_are_missing_are_named() {
    let pod = Pod::new("api");
    let server = ApiServer::start(&pod, LOOPBACK);
    let origin = origin(&server.kubeconfig(User::Stranger));
    in_pod(&pod, async || {
        let mut seen = Seen::start(&origin);
        seen.until("it is refused", is_away).await;
        let why = seen.view.away().unwrap_or_default();
        assert!(why.contains("403") && why.contains("nodenetworks"), "{why}");
        assert!(!why.contains(server.token(User::Stranger)), "{why}");
    });
}

fn a_connection_that_the_server_has_ended_is_made_anew() {
    let pod = Pod::new("api");
    let mut server = ApiServer::start(&pod, LOOPBACK);
    write(&server, &numbered(0));
    let origin = origin(&server.kubeconfig(User::Agent));
    let path = Layout::object(&named("n0"));
    in_pod(&pod, async || {
        let mut client = Client::new(origin);
        client.connect().await.expect("a connection");
        for _ in 0..2 {
            client.get::<Value>(&path).await.expect("an object");
            assert!(!client.is_closed());
            server.reset();
            while !client.is_closed() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        client.get::<Value>(&path).await.expect("an object");
    });
}
