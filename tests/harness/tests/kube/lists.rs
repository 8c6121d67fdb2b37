//! Lists.

use cni_testkit::{Test, tests};

use super::*;

pub(crate) const TESTS: &[Test] = &tests![lists_come_whole_in_pages_and_as_they_were,];

fn lists_come_whole_in_pages_and_as_they_were() {
    let pod = Pod::new("api");
    let server = server(&pod);
    let client = server.admin();
    let empty = client
        .list(NodeNetworks, &format!("labelSelector={LABEL}%3Dnet"))
        .ok();
    assert_eq!(
        (&empty["kind"], names(&empty).len()),
        (&json!("NodeNetworkList"), 0)
    );
    for index in 0..5 {
        client
            .create(NodeNetworks, &network(&format!("l{index}"), "net"))
            .ok();
    }
    client.create(NodeNetworks, &network("other", "else")).ok();
    let ours = format!("labelSelector={LABEL}%3Dnet");
    let all = client.list(NodeNetworks, &ours).ok();
    let expected: Vec<String> = (0..5).map(|index| named(&format!("l{index}"))).collect();
    assert_eq!(names(&all), expected);
    assert_eq!(all["items"][0]["kind"], "NodeNetwork");
    let cached = client
        .list(NodeNetworks, &format!("{ours}&resourceVersion=0"))
        .ok();
    // As old as the server likes, and of what was asked for alone.
    let cached = names(&cached);
    assert!(
        cached
            .iter()
            .all(|name| expected.iter().any(|one| one == name)),
        "{cached:?}"
    );
    let first = client.list(NodeNetworks, &format!("{ours}&limit=2")).ok();
    assert_eq!(names(&first), expected[..2]);
    let token = |list: &Value| {
        list["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .replace('=', "%3D")
    };
    // What happens meanwhile is not in the pages that follow.
    client.delete(NodeNetworks, &expected[4]).ok();
    let second = client
        .list(
            NodeNetworks,
            &format!("{ours}&limit=2&continue={}", token(&first)),
        )
        .ok();
    assert_eq!(names(&second), expected[2..4]);
    assert_eq!(revision(&second), revision(&first));
    let third = client
        .list(
            NodeNetworks,
            &format!("{ours}&limit=2&continue={}", token(&second)),
        )
        .ok();
    assert_eq!(
        (names(&third), token(&third).as_str()),
        (vec![expected[4].as_str()], "")
    );
    let then = format!(
        "{ours}&resourceVersion={}&resourceVersionMatch=Exact",
        revision(&all)
    );
    assert_eq!(names(&client.list(NodeNetworks, &then).ok()), expected);
    let since = format!(
        "{ours}&resourceVersion={}&resourceVersionMatch=NotOlderThan",
        revision(&all)
    );
    assert_eq!(
        names(&client.list(NodeNetworks, &since).ok()),
        expected[..4]
    );
    let future = format!("{ours}&resourceVersion=999999999&resourceVersionMatch=NotOlderThan");
    assert_eq!(client.list(NodeNetworks, &future).code, 504);
    let one = client
        .list(
            NodeNetworks,
            &format!("fieldSelector=metadata.name%3D{}", expected[1]),
        )
        .ok();
    assert_eq!(names(&one), expected[1..2]);
    for (selector, count) in [("in%20(net,else)", 5), ("notin%20(net)", 1), ("", 5)] {
        let found = client
            .list(NodeNetworks, &format!("labelSelector={LABEL}%20{selector}"))
            .ok();
        let found = names(&found)
            .into_iter()
            .filter(|name| name.starts_with("cni-test-"))
            .count();
        assert_eq!(found, count, "{selector}");
    }
    assert_eq!(
        client
            .list(NodeNetworks, "labelSelector=a%20b%20c")
            .refused(400),
        "BadRequest"
    );
    assert_eq!(client.list(NodeNetworks, "continue=junk").code, 400);
    let whole = client.list(NodeNetworks, "limit=1").ok();
    assert!(
        whole["metadata"]["remainingItemCount"]
            .as_u64()
            .is_some_and(|count| count >= 4),
        "{}",
        whole["metadata"]
    );
    client.create(Nodes, &node("listed")).ok();
    let nodes = client
        .list(
            Nodes,
            &format!("fieldSelector=metadata.name%3D{}", named("listed")),
        )
        .ok();
    assert_eq!(
        (&nodes["kind"], nodes["items"][0].get("kind")),
        (&json!("NodeList"), None)
    );
}
