//! The pods of the DaemonSet: their arguments, what of the host they have, and what they may do there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cni_core::ipam::DEFAULT_DATA_DIR;
use node_agent::args::{Args, Task};
use serde_json::{Value, json};

use crate::{CONFLIST, document, files, read, texts};

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
    // The innermost one.
    let (at, name) = mounts
        .iter()
        .rfind(|(at, _)| path.starts_with(at))
        .unwrap_or_else(|| panic!("{} is in no volume", path.display()));
    Path::new(&paths[name]).join(path.strip_prefix(at).unwrap())
}

/// What is at a path in the container may be written, as far as the mount has a say.
#[track_caller]
fn is_writable(path: &Path, container: &Value) -> bool {
    let mut mounts = container["volumeMounts"].as_array().into_iter().flatten();
    let mount = mounts.find(|mount| mount["mountPath"] == path.display().to_string());
    mount.expect("a mount")["readOnly"] != true
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
fn the_agent_reads_which_addresses_pods_have_where_plugins_keep_them() {
    let pod = &document("base/daemonset.yaml")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let (mounts, paths) = (mounts(container), hosts_paths(pod));
    let kept = Path::new(DEFAULT_DATA_DIR);
    assert_eq!(on_host(kept, &mounts, &paths), kept);
    assert!(!is_writable(kept, container));
    // No configuration has them elsewhere, and no component has other mounts in this place.
    for path in files() {
        let text = read(&path);
        if path.ends_with(".conflist") {
            let list: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(list["plugins"][0]["ipam"].get("dataDir"), None, "{path}");
        } else if path.starts_with("components") && !path.starts_with("components/uninstall") {
            assert!(!text.contains(DEFAULT_DATA_DIR), "{path}");
        }
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
    // The volumes are the base's.
    assert_eq!(after.get("volumes"), None);
    let paths = hosts_paths(&before);
    let mounts = mounts(container);
    assert_eq!(
        on_host(&args.plugins, &mounts, &paths),
        Path::new("/opt/cni/bin")
    );
    // Under the agent's path, so that it takes the place of the agent's mount: addresses that were left are given back.
    let kept = Path::new(DEFAULT_DATA_DIR);
    assert_eq!(on_host(kept, &mounts, &paths), kept);
    assert!(is_writable(kept, container));
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
        "/var/lib/cni/networks",
        "/proc/sys/net",
    ];
    assert_eq!(
        BTreeSet::from_iter(hosts),
        BTreeSet::from(wanted.map(str::to_owned))
    );
}
