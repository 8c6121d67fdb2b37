//! What the agent may do in the API server.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{document, documents, read, texts, yaml};

/// Resource and verbs, of rules and of rows of the documentation's table.
type Rights = BTreeMap<String, BTreeSet<String>>;

fn of_rules(rules: &Value) -> Rights {
    let mut rights = Rights::new();
    for rule in rules.as_array().expect("rules") {
        let keys: BTreeSet<&str> = rule
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            keys,
            BTreeSet::from(["apiGroups", "resources", "verbs"]),
            "{rule}"
        );
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                // As `kubectl auth can-i --list` writes it.
                let (resource, part) = resource.split_once('/').unwrap_or((&resource, ""));
                let group = Some(group.as_str()).filter(|group| !group.is_empty());
                let group = group.map_or_else(String::new, |group| format!(".{group}"));
                let name = format!("{resource}{group}/{part}");
                let name = name.trim_end_matches('/').to_owned();
                assert!(!name.contains('*'), "{rule}");
                let verbs = rights.entry(name).or_default();
                verbs.extend(texts(&rule["verbs"]));
            }
        }
    }
    rights
}

/// `| nodes | get, list | why |` below a heading.
fn of_table(heading: &str) -> Rights {
    let text = read("../README.md");
    let section = text
        .split_once(heading)
        .unwrap_or_else(|| panic!("no {heading}"))
        .1;
    let rows = section.lines().skip_while(|line| !line.starts_with("| `"));
    let rows = rows.take_while(|line| line.starts_with('|'));
    let rights: Rights = rows
        .map(|row| {
            let mut cells = row.split('|').skip(1).map(str::trim);
            let name = cells.next().unwrap().trim_matches('`').to_owned();
            let verbs = cells.next().unwrap().split(", ").map(str::to_owned);
            (name, verbs.collect())
        })
        .collect();
    assert!(!rights.is_empty(), "{heading}");
    rights
}

#[test]
fn the_roles_rights_are_those_that_the_documentation_gives_reasons_for() {
    let rbac = documents("base/rbac.yaml");
    let role = rbac
        .iter()
        .find(|document| document["kind"] == "ClusterRole")
        .unwrap();
    let rights = of_rules(&role["rules"]);
    assert_eq!(rights, of_table("### Rights\n"));
    let never = [
        "*",
        "delete",
        "deletecollection",
        "update",
        "impersonate",
        "escalate",
        "bind",
    ];
    for verbs in rights.values() {
        assert!(never.iter().all(|verb| !verbs.contains(*verb)), "{verbs:?}");
    }
    for (component, heading) in [
        ("flannel", "### Rights beside Flannel\n"),
        ("uninstall", "### Rights to uninstall\n"),
    ] {
        let mut wanted = of_table("### Rights\n");
        wanted.extend(of_table(heading));
        assert_eq!(
            of_rules(&patched(&role["rules"], component)),
            wanted,
            "{component}"
        );
    }
}

/// What a component makes of the rules, by a JSON patch (RFC 6902).
fn patched(rules: &Value, component: &str) -> Value {
    let component = document(&format!("components/{component}/kustomization.yaml"));
    let patches = component["patches"].as_array().unwrap();
    let patch = patches.iter().find_map(|patch| patch["patch"].as_str());
    let mut role = json!({ "rules": rules });
    for step in yaml::documents(patch.unwrap())
        .remove(0)
        .as_array()
        .unwrap()
    {
        let (path, value) = (step["path"].as_str().unwrap(), step["value"].clone());
        match step["op"].as_str().unwrap() {
            "replace" => *role.pointer_mut(path).unwrap() = value,
            "add" => {
                let list = role.pointer_mut(path.strip_suffix("/-").unwrap());
                list.unwrap().as_array_mut().unwrap().push(value);
            }
            op => panic!("{op} is not understood here"),
        }
    }
    role["rules"].take()
}

#[test]
fn the_binding_and_the_policy_are_about_the_agents_account() {
    let rbac = documents("base/rbac.yaml");
    let of = |kind: &str| {
        rbac.iter()
            .find(|document| document["kind"] == kind)
            .unwrap()
    };
    let account = of("ServiceAccount")["metadata"]["name"].as_str().unwrap();
    let binding = of("ClusterRoleBinding");
    assert_eq!(
        binding["subjects"],
        json!([{ "kind": "ServiceAccount", "name": account }])
    );
    assert_eq!(
        binding["roleRef"]["name"],
        of("ClusterRole")["metadata"]["name"]
    );
    let daemonset = document("base/daemonset.yaml");
    assert_eq!(
        daemonset["spec"]["template"]["spec"]["serviceAccountName"],
        account
    );
    let namespace = document("base/kustomization.yaml")["namespace"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        document("base/namespace.yaml")["metadata"]["name"],
        namespace.as_str()
    );
    let user = format!("system:serviceaccount:{namespace}:{account}");
    let policy = &documents("components/admission/policy.yaml")[0];
    let condition = &policy["spec"]["matchConditions"][0]["expression"];
    assert_eq!(condition, &format!("request.userInfo.username == '{user}'"));
}
