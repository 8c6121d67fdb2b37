//! What goes wrong.

use cni_testkit::cluster::await_condition;
use cni_testkit::{Test, tests};

use super::*;

pub(crate) const TESTS: &[Test] = &tests![
    the_way_can_be_cut_frozen_and_slowed_down,
    it_can_be_told_to_misbehave,
    an_older_server_refuses_streaming_lists_in_its_way,
];

fn the_way_can_be_cut_frozen_and_slowed_down() {
    let pod = Pod::new("api");
    let mut server = server(&pod);
    let client = server.client_from(&pod, Some(User::Agent));
    client.list(NodeNetworks, "").ok();
    let watch = client.watch(NodeNetworks, "").expect("a watch");
    server.cut();
    assert!(matches!(last(&watch), Next::Broken | Next::End));
    assert_eq!(client.list(NodeNetworks, "").code, 0);
    server.heal();
    client.list(NodeNetworks, "").ok();
    server.slow(Duration::from_millis(30));
    let start = std::time::Instant::now();
    client.list(NodeNetworks, "").ok();
    assert!(start.elapsed() >= Duration::from_millis(60));
    server.slow(Duration::ZERO);
    server.freeze(true);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.list(NodeNetworks, ""));
        let start = std::time::Instant::now();
        server.admin().list(NodeNetworks, "").ok();
        assert!(!waiting.is_finished() || start.elapsed() > SOON);
        server.freeze(false);
        waiting.join().expect("an answer").ok();
    });
}

fn it_can_be_told_to_misbehave() {
    kube::only_ours();
    let pod = Pod::new("api");
    let mut server = server(&pod);
    let client = server.client_from(&pod, Some(User::Agent));
    let list = || client.list(NodeNetworks, "");
    let admin = server.admin();
    admin.create(NodeNetworks, &network("m", "net")).ok();
    for (fault, code) in [
        (Fault::BadGateway, 502),
        (Fault::Internal, 500),
        (Fault::TooMany(3), 429),
        (Fault::Gone, 410),
        (Fault::NotJson, 200),
        (Fault::WrongKind, 200),
        (Fault::BreakOff, 0),
    ] {
        server.fail(Some("list"), fault);
        let answer = list();
        assert_eq!(answer.code, code, "{fault:?}: {answer:?}");
        assert_ne!(answer.body["kind"], "NodeNetworkList");
        assert_eq!(answer.retry_after, (code == 429).then_some(3));
        admin.list(NodeNetworks, "").ok();
        server.mend();
    }
    list().ok();
    for (fault, expected) in [
        (Fault::BreakOff, Next::Broken),
        (Fault::NotJson, Next::Broken),
        (Fault::Gone, Next::End),
    ] {
        let from = list().ok();
        let watch = client.watch(
            NodeNetworks,
            &format!("resourceVersion={}", revision(&from)),
        );
        let watch = watch.expect("a watch");
        server.fail(Some("watch"), fault);
        let mtu = 1400
            + revision(&from).len()
            + from["items"][0]["spec"]["mtu"].as_u64().unwrap_or_default() as usize % 7;
        admin
            .merge(
                NodeNetworks,
                &named("m"),
                &json!({ "spec": { "mtu": mtu } }),
            )
            .ok();
        assert_eq!(last(&watch), expected, "{fault:?}");
        server.mend();
        admin
            .merge(
                NodeNetworks,
                &named("m"),
                &json!({ "spec": { "mtu": null } }),
            )
            .ok();
    }
    await_condition("all watches have ended", || server.counts().watches == 0);
    assert!(server.counts().of("list") > 8 && server.counts().bytes > 0);
    // Compaction and restart.
    let first = client.list(NodeNetworks, "").ok();
    admin.create(NodeNetworks, &network("m2", "net")).ok();
    let page = client.list(NodeNetworks, "limit=1").ok();
    let token = page["metadata"]["continue"]
        .as_str()
        .expect("a token")
        .to_owned();
    admin.delete(NodeNetworks, &named("m2")).ok();
    let following = client
        .watch(
            NodeNetworks,
            &format!("resourceVersion={}", revision(&first)),
        )
        .expect("a watch");
    assert_eq!(seen(&following), pair("ADDED", "m2"));
    server.compact();
    assert_eq!(
        seen(&following),
        pair("DELETED", "m2"),
        "a watch under way loses nothing"
    );
    let late = client
        .watch(
            NodeNetworks,
            &format!("resourceVersion={}", revision(&first)),
        )
        .expect("a watch");
    assert_eq!(late.message().1["code"], 410);
    let answer = client.list(NodeNetworks, &format!("limit=1&continue={token}"));
    assert_eq!(answer.refused(410), "Expired");
    let backup = server.backup();
    let before = client.list(NodeNetworks, "").ok();
    admin.create(NodeNetworks, &network("m3", "net")).ok();
    server.restore(&backup);
    assert!(matches!(last(&following), Next::Broken | Next::End));
    let after = client.list(NodeNetworks, "").ok();
    assert_eq!(after, before);
    server.lose_everything();
    assert_eq!(names(&client.list(NodeNetworks, "").ok()).len(), 0);
}

fn an_older_server_refuses_streaming_lists_in_its_way() {
    kube::only_ours();
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    client.create(NodeNetworks, &network("o", "net")).ok();
    let parameters =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    server.streaming(Streaming::Invalid);
    let refused = client.watch(NodeNetworks, parameters).expect_err("refused");
    assert_eq!(refused.refused(422), "Invalid");
    server.streaming(Streaming::Error);
    let (kind, object) = watch(&client, parameters).message();
    assert_eq!((kind.as_str(), &object["code"]), ("ERROR", &json!(500)));
    server.streaming(Streaming::Unknown);
    let unknown = watch(&client, parameters);
    assert_eq!(seen(&unknown), pair("ADDED", "o"));
    let (kind, object) = unknown.message();
    assert_eq!(kind, "BOOKMARK");
    assert!(object["metadata"].get("annotations").is_none(), "{object}");
}
