//! Watches.

use cni_testkit::{Test, tests};

use super::*;

pub(crate) const TESTS: &[Test] = &tests![
    a_watch_tells_what_happens_to_what_is_selected,
    a_watch_ends_when_its_time_is_up,
    bookmarks_bring_the_revision_up_to_date,
    a_streaming_list_says_where_it_ends,
    a_revision_that_is_too_old_is_said_to_be_so,
    a_revision_that_is_still_to_come_is_waited_for,
    a_long_list_is_streamed_over_the_network,
];

fn a_watch_tells_what_happens_to_what_is_selected() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    let ours = format!("labelSelector={LABEL}%3Dnet");
    let list = client.list(NodeNetworks, &ours).ok();
    let from = format!("{ours}&resourceVersion={}", revision(&list));
    let following = watch(&client, &from);
    client.create(NodeNetworks, &network("w1", "net")).ok();
    client.create(NodeNetworks, &network("w2", "else")).ok();
    let label = |label: &str| json!({ "metadata": { "labels": { LABEL: label } } });
    client.merge(NodeNetworks, &named("w2"), &label("net")).ok();
    let changed = client
        .merge(
            NodeNetworks,
            &named("w1"),
            &json!({ "spec": { "mtu": 1400 } }),
        )
        .ok();
    let left = client
        .merge(NodeNetworks, &named("w2"), &label("else"))
        .ok();
    client.delete(NodeNetworks, &named("w2")).ok();
    client.delete(NodeNetworks, &named("w1")).ok();
    for watch in [&following, &watch(&client, &from)] {
        assert_eq!(seen(watch), pair("ADDED", "w1"));
        assert_eq!(seen(watch), pair("ADDED", "w2"));
        let (kind, _, object) = watch.event();
        assert_eq!((kind.as_str(), &object), ("MODIFIED", &changed));
        let (kind, _, object) = watch.event();
        assert_eq!(
            (kind.as_str(), &object["metadata"]["labels"][LABEL]),
            ("DELETED", &json!("net"))
        );
        assert_eq!(
            revision(&object),
            revision(&left),
            "as it was, at the revision of the change"
        );
        let (kind, name, object) = watch.event();
        assert_eq!((kind.as_str(), name), ("DELETED", named("w1")));
        assert!(
            revision(&object).parse::<u64>().expect("a number")
                > revision(&left).parse().expect("a number")
        );
    }
    // From now on, with what is there first.
    client.create(NodeNetworks, &network("w3", "net")).ok();
    for from in ["", "&resourceVersion=0"] {
        assert_eq!(
            seen(&watch(&client, &format!("{ours}{from}"))),
            pair("ADDED", "w3")
        );
    }
    let named_one = format!(
        "fieldSelector=metadata.name%3D{}&resourceVersion={}",
        named("w4"),
        revision(&list)
    );
    let one = watch(&client, &named_one);
    client.create(NodeNetworks, &network("w4", "x")).ok();
    assert_eq!(seen(&one), pair("ADDED", "w4"));
}

fn a_watch_ends_when_its_time_is_up() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    let list = client.list(NodeNetworks, "limit=1").ok();
    let watch = watch(
        &client,
        &format!(
            "resourceVersion={}&timeoutSeconds=1&allowWatchBookmarks=true",
            revision(&list)
        ),
    );
    loop {
        match watch.next(SOON) {
            Next::Event(event) => assert_eq!(event["type"], "BOOKMARK", "{event}"),
            other => {
                assert_eq!(other, Next::End);
                break;
            }
        }
    }
}

fn bookmarks_bring_the_revision_up_to_date() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    let list = client.list(NodeNetworks, "limit=1").ok();
    // A real server's come once a minute, and shortly before the end of a watch; ours often.
    let seconds = if kube::is_real() { 4 } else { 60 };
    let parameters = format!(
        "labelSelector={LABEL}%3Dnone&resourceVersion={}&allowWatchBookmarks=true&timeoutSeconds={seconds}",
        revision(&list)
    );
    let watch = watch(&client, &parameters);
    let made = client.create(NodeNetworks, &network("b", "net")).ok();
    let number = |object: &Value| revision(object).parse::<u64>().expect("a number");
    loop {
        let (kind, object) = watch.message();
        assert_eq!(kind, "BOOKMARK", "{object}");
        assert_eq!(
            (&object["kind"], &object["apiVersion"]),
            (
                &json!("NodeNetwork"),
                &json!("cni-fabric.internal/v1alpha1")
            )
        );
        assert!(object["metadata"].get("name").is_none());
        if number(&object) >= number(&made) {
            break;
        }
    }
}

/// A real server on an old etcd has no streaming lists, and says so.
fn require_streaming(client: &Client<'_>) {
    let parameters =
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let (kind, object) = watch(client, parameters).message();
    if kube::is_real() && kind == "ERROR" && object["code"] == 500 {
        cni_testkit::skip("this server does not stream lists");
    }
}

fn a_streaming_list_says_where_it_ends() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    require_streaming(&client);
    for name in ["s1", "s2"] {
        client.create(NodeNetworks, &network(name, "net")).ok();
    }
    client.create(NodeNetworks, &network("s3", "else")).ok();
    let parameters = format!(
        "labelSelector={LABEL}%3Dnet&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let watch = watch(&client, &parameters);
    let mut names = vec![seen(&watch), seen(&watch)];
    names.sort();
    assert_eq!(names, [pair("ADDED", "s1"), pair("ADDED", "s2")]);
    let (kind, object) = watch.message();
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(
        object["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let at = revision(&object).to_owned();
    client.create(NodeNetworks, &network("s4", "net")).ok();
    assert_eq!(seen(&watch), pair("ADDED", "s4"));
    let follow = self::watch(
        &client,
        &format!("labelSelector={LABEL}%3Dnet&resourceVersion={at}"),
    );
    assert_eq!(seen(&follow), pair("ADDED", "s4"));
    for wrong in [
        "sendInitialEvents=true&allowWatchBookmarks=true",
        "resourceVersionMatch=NotOlderThan",
    ] {
        let refused = client.watch(NodeNetworks, wrong).expect_err("refused");
        assert_eq!(refused.refused(422), "Invalid", "{}", refused.text);
    }
}

fn a_revision_that_is_too_old_is_said_to_be_so() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    // A real server knows what happened before it forgets it, hours later; the first revision is always forgotten.
    let watch = watch(&client, "resourceVersion=1");
    let (kind, object) = watch.message();
    assert_eq!(kind, "ERROR");
    assert_eq!(
        (&object["kind"], &object["code"], &object["reason"]),
        (&json!("Status"), &json!(410), &json!("Expired"))
    );
    assert_eq!(watch.next(SOON), Next::End);
}

/// As after a restore of a backup: a watch from a revision that was is silent.
fn a_revision_that_is_still_to_come_is_waited_for() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    require_streaming(&client);
    let future = "resourceVersion=999999999";
    let silent = watch(
        &client,
        &format!("{future}&timeoutSeconds=2&allowWatchBookmarks=true"),
    );
    client.create(NodeNetworks, &network("f", "net")).ok();
    assert_eq!(silent.next(SOON), Next::End);
    let streamed = format!(
        "{future}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let (kind, object) = watch(&client, &streamed).message();
    assert_eq!(
        (kind.as_str(), &object["code"], &object["reason"]),
        ("ERROR", &json!(504), &json!("Timeout"))
    );
    assert_eq!(client.list(NodeNetworks, future).refused(504), "Timeout");
}

fn a_long_list_is_streamed_over_the_network() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    require_streaming(&client);
    for index in 0..300 {
        client
            .create(NodeNetworks, &network(&format!("long{index}"), "net"))
            .ok();
    }
    let parameters = format!(
        "labelSelector={LABEL}%3Dnet&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let client = server.client_from(&pod, Some(User::Agent));
    let watch = watch(&client, &parameters);
    for _ in 0..300 {
        assert_eq!(watch.message().0, "ADDED");
    }
    let (kind, object) = watch.message();
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(
        object["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let first = client.list(NodeNetworks, "limit=100").ok();
    assert_eq!(names(&first).len(), 100);
}
