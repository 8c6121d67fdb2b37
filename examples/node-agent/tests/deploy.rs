//! What an operator applies, as far as it can be checked without a server: `deploy/` and what the documentation says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cni_core::host::Host;
use cni_core::node::Origin;
use node_agent::args::{Args, Task};
use node_agent::setup::Maker;
use serde_json::{Value, json};

const CONFLIST: &str = "10-cni-fabric.conflist";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: &str) -> String {
    let path = deploy().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a file.
fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn document(path: &str) -> Value {
    let mut all = documents(path);
    assert_eq!(all.len(), 1, "{path}");
    all.remove(0)
}

fn texts(value: &Value) -> Vec<String> {
    let array = value
        .as_array()
        .unwrap_or_else(|| panic!("{value} is no list"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    array
        .iter()
        .map(|value| text(value).expect("a text"))
        .collect()
}

/// Every file below `deploy/`, as a path below it.
fn files() -> Vec<String> {
    fn collect(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => collect(&path, found),
                false => found.push(path.strip_prefix(deploy()).unwrap().display().to_string()),
            }
        }
    }
    let mut found = Vec::new();
    collect(&deploy(), &mut found);
    found.sort();
    found
}

#[test]
fn every_file_is_used_and_every_file_that_is_named_is_there() {
    let mut used = BTreeSet::from(["Containerfile".to_owned()]);
    for path in files()
        .iter()
        .filter(|path| path.ends_with("kustomization.yaml"))
    {
        used.insert(path.clone());
        let directory = Path::new(path).parent().unwrap();
        let kustomization = document(path);
        let mut named = Vec::new();
        for key in ["resources", "components"] {
            named.extend(kustomization.get(key).map(texts).unwrap_or_default());
        }
        for generator in kustomization["configMapGenerator"]
            .as_array()
            .into_iter()
            .flatten()
        {
            named.extend(texts(&generator["files"]));
        }
        for patch in kustomization["patches"].as_array().into_iter().flatten() {
            named.extend(patch["path"].as_str().map(str::to_owned));
        }
        for name in named {
            let there = deploy().join(directory).join(&name);
            assert!(there.exists(), "{path} names {name}");
            match there.is_dir() {
                true => assert!(
                    there.join("kustomization.yaml").is_file(),
                    "{path} names {name}"
                ),
                false => drop(used.insert(directory.join(&name).display().to_string())),
            }
        }
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), files());
}

#[test]
fn documents_are_yaml_and_say_what_they_are() {
    let mut kinds = BTreeMap::<String, usize>::new();
    for path in files().iter().filter(|path| path.ends_with(".yaml")) {
        for document in documents(path) {
            assert!(document["apiVersion"].is_string(), "{path}: {document}");
            let kind = document["kind"]
                .as_str()
                .unwrap_or_else(|| panic!("{path}: no kind"));
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    let wanted = [
        ("ClusterRole", 1),
        ("ClusterRoleBinding", 1),
        ("Component", 4),
        ("CustomResourceDefinition", 1),
        ("DaemonSet", 2),
        ("Kustomization", 5),
        ("Namespace", 1),
        ("ServiceAccount", 1),
        ("ValidatingAdmissionPolicy", 1),
        ("ValidatingAdmissionPolicyBinding", 1),
    ];
    let wanted = wanted.map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(kinds, BTreeMap::from(wanted));
}

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
                let name = match group.as_str() {
                    "" => resource,
                    group => format!("{resource}.{group}"),
                };
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
    // Flannel's component: a JSON patch of the first rule.
    let component = document("components/flannel/kustomization.yaml");
    let patch = component["patches"][0]["patch"].as_str().unwrap();
    let patch: Value = serde_saphyr::from_str(patch).unwrap();
    assert_eq!(patch[0]["path"], "/rules/0/verbs");
    assert_eq!(role["rules"][0]["resources"], json!(["nodes"]));
    let mut more = role["rules"].clone();
    more[0]["verbs"] = patch[0]["value"].clone();
    let mut wanted = of_table("### Rights\n");
    wanted.extend(of_table("### Rights beside Flannel\n"));
    assert_eq!(of_rules(&more), wanted);
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

/// The arguments of a container, as the agent takes them.
fn parsed(container: &Value) -> Args {
    let words = texts(&container["args"]);
    let words = words
        .iter()
        .map(|word| word.replace("$(NODE_NAME)", "node-1"));
    Args::parse(words)
        .expect("arguments")
        .expect("no call for help")
}

/// Where a container has volumes, with what is mounted there.
fn mounts(container: &Value) -> BTreeMap<PathBuf, String> {
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    let mounts = mounts.map(|mount| {
        let text = |key: &str| mount[key].as_str().expect("a text").to_owned();
        (text("mountPath").into(), text("name"))
    });
    mounts.collect()
}

fn hosts_paths(pod: &Value) -> BTreeMap<String, String> {
    let volumes = pod["volumes"].as_array().expect("volumes").iter();
    let volumes = volumes.filter_map(|volume| {
        let path = volume["hostPath"]["path"].as_str()?;
        Some((volume["name"].as_str()?.to_owned(), path.to_owned()))
    });
    volumes.collect()
}

/// The path on the host that a path in the container is.
#[track_caller]
fn on_host(
    path: &Path,
    mounts: &BTreeMap<PathBuf, String>,
    paths: &BTreeMap<String, String>,
) -> PathBuf {
    let (at, name) = mounts
        .iter()
        .find(|(at, _)| path.starts_with(at))
        .unwrap_or_else(|| panic!("{} is in no volume", path.display()));
    Path::new(&paths[name]).join(path.strip_prefix(at).unwrap())
}

#[test]
fn the_agents_arguments_are_ones_that_it_takes_and_lead_to_the_host() {
    let daemonset = document("base/daemonset.yaml");
    let pod = &daemonset["spec"]["template"]["spec"];
    let paths = hosts_paths(pod);
    let installer = &pod["initContainers"][0];
    let install = parsed(installer);
    assert_eq!(install.task, Task::Install);
    assert_eq!(
        on_host(&install.plugins, &mounts(installer), &paths),
        Path::new("/opt/cni/bin")
    );

    let container = &pod["containers"][0];
    let args = parsed(container);
    let mounts = mounts(container);
    assert_eq!(args.task, Task::Run);
    assert_eq!(args.node.as_deref(), Some("node-1"));
    assert_eq!(
        container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"],
        "spec.nodeName"
    );
    assert_eq!(mounts[args.config.parent().unwrap()], "config");
    assert_eq!(args.config.file_name().unwrap(), CONFLIST);
    let runtimes = args.publish_conflist.as_deref().unwrap();
    assert_eq!(
        on_host(runtimes, &mounts, &paths),
        Path::new("/etc/cni/net.d").join(CONFLIST)
    );
    let sysctls = args.sysctl_dir.as_deref().unwrap().join("net");
    assert_eq!(
        on_host(&sysctls, &mounts, &paths),
        Path::new("/proc/sys/net")
    );
    // Where the plugins look, too.
    let state = Path::new("/run/cni-fabric");
    assert_eq!(on_host(state, &mounts, &paths), state);
    for probe in ["livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        let at = format!("{}:{}", get["host"].as_str().unwrap(), get["port"]);
        assert_eq!(args.listen.unwrap().to_string(), at, "{probe}");
    }
}

#[test]
fn uninstalling_undoes_what_the_agents_arguments_do() {
    let base = document("base/daemonset.yaml");
    let patch = document("components/uninstall/daemonset.yaml");
    assert_eq!(patch["metadata"]["name"], base["metadata"]["name"]);
    let pod = |daemonset: &Value| daemonset["spec"]["template"]["spec"].clone();
    let (before, after) = (pod(&base), pod(&patch));
    assert_eq!(after["initContainers"][0]["$patch"], "delete");
    assert_eq!(
        after["initContainers"][0]["name"],
        before["initContainers"][0]["name"]
    );
    let container = &after["containers"][0];
    assert_eq!(container["name"], before["containers"][0]["name"]);
    let (args, was) = (parsed(container), parsed(&before["containers"][0]));
    assert_eq!(args.task, Task::Uninstall);
    assert!(args.wait);
    assert_eq!(
        (
            args.config,
            args.node,
            args.publish_conflist,
            args.sysctl_dir,
            args.listen
        ),
        (
            was.config,
            was.node,
            was.publish_conflist,
            was.sysctl_dir,
            was.listen
        )
    );
    assert_eq!(args.plugins, parsed(&before["initContainers"][0]).plugins);
    let mut paths = hosts_paths(&before);
    paths.extend(hosts_paths(&after));
    let mounts = mounts(container);
    assert_eq!(
        on_host(&args.plugins, &mounts, &paths),
        Path::new("/opt/cni/bin")
    );
    let addresses = Path::new("/var/lib/cni/networks");
    assert_eq!(on_host(addresses, &mounts, &paths), addresses);
}

#[test]
fn containers_have_no_more_rights_than_they_need() {
    let pod = &document("base/daemonset.yaml")["spec"]["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    assert!(pod.get("hostPID").is_none() && pod.get("hostIPC").is_none());
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    for (container, capabilities) in [
        (&pod["initContainers"][0], json!({ "drop": ["ALL"] })),
        (
            &pod["containers"][0],
            json!({ "drop": ["ALL"], "add": ["NET_ADMIN"] }),
        ),
    ] {
        let context = &container["securityContext"];
        assert_eq!(context["capabilities"], capabilities);
        assert_eq!(context["privileged"], false);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert!(container["resources"]["limits"]["memory"].is_string());
    }
    let hosts: Vec<String> = hosts_paths(pod).into_values().collect();
    let wanted = [
        "/opt/cni/bin",
        "/etc/cni/net.d",
        "/run/cni-fabric",
        "/proc/sys/net",
    ];
    assert_eq!(
        BTreeSet::from_iter(hosts),
        BTreeSet::from(wanted.map(str::to_owned))
    );
}

/// What an agent makes of a configuration, by the code that the plugins have, too.
fn made(path: &str) -> Maker {
    let file = deploy().join(path).display().to_string();
    let words = ["--config", &file].map(str::to_owned);
    let args = Args::parse(words.into_iter()).unwrap().unwrap();
    Maker::new(args, Host::open().unwrap()).unwrap_or_else(|error| panic!("{}", error.chain()))
}

#[test]
fn configurations_are_taken_by_the_agent_as_the_plugins_take_them() {
    for (path, plugin) in [
        ("base", "vxlan"),
        ("components/host-gw", "host-gw"),
        ("components/flannel", "vxlan"),
    ] {
        let maker = made(&format!("{path}/{CONFLIST}"));
        let types: Vec<&str> = maker
            .list()
            .plugins
            .iter()
            .map(|plugin| &*plugin.plugin_type)
            .collect();
        assert_eq!(types, [plugin, "portmap"], "{path}");
        assert_eq!(maker.network().node.network.as_str(), "pods");
        match &maker.network().node.cluster.origin {
            Origin::Agent { kind, section } => {
                assert_eq!(*kind, "kubernetes", "{path}");
                assert!(section.contains("\"podNetworks\""), "{path}: {section}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn the_image_has_every_plugin_that_a_configuration_names() {
    let image = read("Containerfile");
    let copied: BTreeSet<&str> = image
        .lines()
        .filter_map(|line| line.strip_prefix("COPY ")?.strip_suffix(" /plugins/"))
        .flat_map(|line| line.split_whitespace())
        .map(|path| path.strip_prefix("${BIN}/").expect("a program"))
        .collect();
    for path in files().iter().filter(|path| path.ends_with(".conflist")) {
        for plugin in &made(path).list().plugins {
            assert!(
                copied.contains(&*plugin.plugin_type),
                "{path}: {}",
                plugin.plugin_type
            );
        }
    }
    // Nothing else gets into the build's context.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let ignore = fs::read_to_string(root.join(".containerignore")).expect("a .containerignore");
    let kept = ignore
        .lines()
        .filter_map(|line| line.strip_prefix("!target/*/release/"));
    let kept: BTreeSet<&str> = kept.filter(|name| *name != "node-agent").collect();
    assert_eq!(kept, copied);
    let version = format!("newTag: {}\n", env!("CARGO_PKG_VERSION"));
    assert!(read("base/kustomization.yaml").contains(&version));
}
