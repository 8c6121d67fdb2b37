//! The agent puts its plugins on a node, tells the runtime when pods can come, and takes everything out again.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use cni_testkit::cluster::{Layout, Node, await_condition};
use cni_testkit::{Chain, Process, Test, tests, workspace_plugin, workspace_plugin_dir};
use serde_json::json;

use crate::agent::said;
use crate::world::{CLUSTER, Flow, HostGw, NETWORK, Net, Over, await_ready, page, page_at};

pub(crate) const TESTS: &[Test] = &tests![
    a_node_is_as_before_when_it_has_left_the_network::<Flow>,
    a_node_is_as_before_when_it_has_left_the_network::<HostGw>,
    the_runtime_is_told_once_the_node_is_connected,
    uninstalling_waits_for_the_agent_and_tells_when_it_is_done,
    an_install_that_is_killed_leaves_whole_plugins,
    the_image_installs_itself,
];

/// Where the image is laid out, and what the node has from it.
const IMAGE: &str = "/run/image";
const BIN: &str = "/run/opt/cni/bin";
const CONFLIST: &str = "/run/etc/cni/net.d/10-net.conflist";

/// The plugin's program in an image with the agent.
fn lay_out(node: &Node, plugins: &[&str]) {
    node.sh(&format!("mkdir -p {IMAGE}/plugins /run/etc/cni/net.d"));
    show(node, "node-agent", &format!("{IMAGE}/node-agent"));
    for plugin in plugins {
        show(node, plugin, &format!("{IMAGE}/plugins/{plugin}"));
    }
}

/// A program of this workspace under another path, as if it were a copy.
fn show(node: &Node, program: &str, path: &str) {
    let from = workspace_plugin(program);
    node.sh(&format!(
        "touch {path} && mount --bind {} {path}",
        from.display()
    ));
}

fn take_down(node: &Node) {
    node.sh(&format!(
        "for file in {IMAGE}/node-agent {IMAGE}/plugins/*; do umount $file; done; rm -r {IMAGE} /run/etc /run/mount"
    ));
}

/// The agent of the image.
fn agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(format!("{IMAGE}/node-agent"));
    command.args(arguments).env_clear();
    command
}

fn task(node: &Node, arguments: &[&str]) -> Output {
    node.run(|| agent(arguments).output().expect("the agent's program"))
}

fn start(node: &Node) -> Process {
    node.start(&mut agent(&[
        "--config",
        NETWORK,
        "--publish-conflist",
        CONFLIST,
    ]))
}

fn uninstall(node: &Node) -> Output {
    let arguments = [
        "--config",
        NETWORK,
        "--publish-conflist",
        CONFLIST,
        "--uninstall",
        BIN,
    ];
    task(node, &arguments)
}

/// What a task says that could not do everything.
#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let both = [&output.stdout, &output.stderr];
    both.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

fn a_node_is_as_before_when_it_has_left_the_network<P: Over>() {
    let mut net = Net::build(&Layout::new(2), P::PATH.plugin(&json!({})));
    net.chain = Chain::new(
        json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [net.plugin.clone()] }),
        &[Path::new(BIN)],
    );
    let plugin = net.plugin["type"].as_str().expect("a type").to_owned();
    let node = net.cluster.node(0);
    let before = node.snapshot();

    lay_out(node, &[&plugin]);
    assert_eq!(
        said(&task(node, &["--install", BIN])),
        format!("installed: {plugin}\n")
    );
    let running = start(node);
    await_ready(node, &running);
    await_condition("the runtime is told", || node.read(CONFLIST).is_some());
    let pod = node.attach(&net.chain);

    // Not under a living agent, which would put back what is removed.
    let text = refused(&uninstall(node));
    assert!(text.contains("another agent runs"), "{text}");
    assert!(node.read(CONFLIST).is_some());
    running.stop().expect("an end");

    // No pod comes any more; what the pod's end needs stays.
    let text = refused(&uninstall(node));
    assert!(
        text.contains("pods are attached to network `net` ("),
        "{text}"
    );
    assert_eq!(node.read(CONFLIST), None);
    assert_eq!(node.read("/run/cni-fabric/167/state.json"), None);
    node.detach(&net.chain, &pod);

    let text = said(&uninstall(node));
    assert!(
        text.contains(&format!("plugins removed: {plugin}\n")),
        "{text}"
    );
    assert_eq!(said(&uninstall(node)), "nothing to do\n");
    assert_eq!(
        node.sh(&format!("ls -A {BIN} /run/etc/cni/net.d")),
        format!("/run/etc/cni/net.d:\n\n{BIN}:\n")
    );
    node.sh(&format!("rmdir -p --ignore-fail-on-non-empty {BIN}"));
    take_down(node);
    drop(pod);
    // Which address was given last is kept for whoever comes next, as the reference plugin keeps it; no address is taken.
    let left =
        node.sh("cd /var/lib/cni/networks; find net -type f | sort; rm -r /var/lib/cni/networks");
    assert_eq!(
        left,
        "net/last_reserved_ip.0\nnet/last_reserved_ip.1\nnet/lock\n"
    );
    node.sh("rmdir --ignore-fail-on-non-empty /var/lib/cni");
    node.snapshot().assert_unchanged_since(&before);
}

fn the_runtime_is_told_once_the_node_is_connected() {
    let net = Net::build(&Layout::new(2), Flow::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    lay_out(node, &[]);
    node.sh(&format!("mv {CLUSTER} {CLUSTER}.away"));
    let running = start(node);
    await_condition("the agent has looked for the file", || {
        page(node, "/readyz").is_some_and(|page| page.contains("No such file"))
    });
    assert_eq!(node.read(CONFLIST), None);
    node.sh(&format!("mv {CLUSTER}.away {CLUSTER}"));
    await_condition("the runtime is told", || node.read(CONFLIST).is_some());
    assert_eq!(node.read(CONFLIST), node.read(NETWORK));
    // What an ADD needs is there by then.
    assert!(node.read("/run/cni-fabric/167/state.json").is_some());
    let modes = node.sh(&format!("stat -c %a {CONFLIST}; ls -A /run/etc/cni/net.d"));
    assert_eq!(modes, "600\n10-net.conflist\n");

    // Another configuration.
    let changed = Flow::PATH.plugin(&json!({ "mtu": 1300 }));
    let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": [changed] });
    node.write(NETWORK, &list.to_string());
    node.sh(&format!("kill -HUP {}", running.id()));
    await_condition("the runtime has the new one", || {
        node.read(CONFLIST) == node.read(NETWORK)
    });
    // One that is no good leaves the old one.
    node.write(NETWORK, "{");
    node.sh(&format!("kill -HUP {}", running.id()));
    await_condition("it has been refused", || {
        running.log().contains("stays as it was")
    });
    assert_eq!(node.read(CONFLIST), Some(list.to_string()));

    // It stays when the agent ends, and when the next one is not connected.
    running.stop().expect("an end");
    assert_eq!(node.read(CONFLIST), Some(list.to_string()));
    node.sh(&format!("mv {CLUSTER} {CLUSTER}.away"));
    node.write(NETWORK, &list.to_string().replace("1300", "1290"));
    let running = start(node);
    await_condition("the agent has looked for the file", || {
        page(node, "/readyz").is_some_and(|page| page.contains("No such file"))
    });
    assert_eq!(node.read(CONFLIST), Some(list.to_string()));
    node.sh(&format!("mv {CLUSTER}.away {CLUSTER}"));
    await_ready(node, &running);
    await_condition("the runtime has the new one", || {
        node.read(CONFLIST) == node.read(NETWORK)
    });
}

fn uninstalling_waits_for_the_agent_and_tells_when_it_is_done() {
    let net = Net::build(&Layout::new(2), Flow::PATH.plugin(&json!({})));
    let node = net.cluster.node(0);
    lay_out(node, &["vxlan"]);
    said(&task(node, &["--install", BIN]));
    let running = start(node);
    await_ready(node, &running);
    let arguments = [
        "--config",
        NETWORK,
        "--publish-conflist",
        CONFLIST,
        "--uninstall",
        BIN,
    ];
    // The agent has the usual port.
    let listen = ["--wait", "--listen", "127.0.0.1:9474"];
    let waiting = node.start(&mut agent(&[arguments.as_slice(), &listen].concat()));
    let tells = |status: &str, words: &str| {
        let page = page_at(node, 9474, "/readyz").unwrap_or_default();
        page.starts_with(&format!("HTTP/1.1 {status} ")) && page.contains(words)
    };
    await_condition("it waits for the agent", || {
        tells("503", "another agent runs")
    });
    assert!(node.read(CONFLIST).is_some());
    running.stop().expect("an end");
    await_condition("it has gone on", || tells("200", "plugins removed: vxlan"));
    assert_eq!(node.read(CONFLIST), None);
    assert_eq!(node.sh(&format!("ls -A {BIN}")), "");
    assert!(
        !node.sh("ip link").contains("vxlan"),
        "{}",
        node.sh("ip link")
    );
    assert!(waiting.stop().expect("an end").success());
}

/// Kills installs as soon as they write a plugin or have put one in place, until some have died within one and some between two.
fn an_install_that_is_killed_leaves_whole_plugins() {
    let image = Path::new("/run/image");
    let bin = Path::new("/run/bin");
    let names = ["a", "b", "vxlan"];
    // Every byte is another one in another version.
    let plugin = |name: &str, version: u8| -> Vec<u8> {
        let bytes = name.bytes().cycle().take(1_000_000);
        bytes.map(|byte| byte ^ version).chain([version]).collect()
    };
    let ship = |version: u8| {
        for name in names {
            let path = image.join("plugins").join(name);
            fs::write(path, plugin(name, version)).expect("a plugin");
        }
    };
    fs::create_dir_all(image.join("plugins")).expect("a directory");
    fs::copy(workspace_plugin("node-agent"), image.join("node-agent")).expect("a copy");
    let is_fresh = |name: &str| name.ends_with("-new") && !name.contains("json");
    let end = Instant::now() + Duration::from_secs(240);
    let (mut halves, mut mixtures, mut round) = (0, 0, 0_usize);
    while halves < 2 || mixtures < 2 {
        assert!(Instant::now() < end, "{halves} halves, {mixtures} mixtures");
        ship(u8::try_from(round % 200).expect("a version"));
        let before = listing(bin);
        let mut install = Process::start(&mut agent(&["--install", "/run/bin"]));
        let is_time = |now: &[(String, u64, u64)]| {
            let mut new = now.iter().filter(|file| !before.contains(file));
            match round % 2 {
                0 => new.any(|(name, ..)| is_fresh(name)),
                _ => new.any(|(name, ..)| names.contains(&name.as_str())),
            }
        };
        while install.is_running() && !is_time(&listing(bin)) {
            assert!(Instant::now() < end, "{}", install.log());
        }
        install.kill();
        let mut versions = BTreeSet::new();
        for name in names {
            let path = bin.join(name);
            let bytes = fs::read(&path).unwrap_or_default();
            versions.insert(bytes.last().copied());
            let Some(version) = bytes.last() else {
                continue;
            };
            assert!(bytes == plugin(name, *version), "{name} is half of one");
            let mode = fs::metadata(&path).expect("a plugin").permissions().mode();
            assert_eq!(mode & 0o7777, 0o755, "{name}");
        }
        halves += usize::from(listing(bin).iter().any(|(name, ..)| is_fresh(name)));
        mixtures += usize::from(versions.len() > 1);
        round += 1;
    }
    // What a killed one has put there is known for ours: the next version replaces it, and nothing is left half.
    ship(200);
    let done = |arguments: &[&str]| said(&agent(arguments).output().expect("the program"));
    assert_eq!(done(&["--install", "/run/bin"]), "installed: a, b, vxlan\n");
    let left: Vec<String> = listing(bin).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(left, [".cni-fabric.json", "a", "b", "vxlan"]);
}

/// Names, sizes and inodes.
fn listing(directory: &Path) -> Vec<(String, u64, u64)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let look = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        let name = entry.file_name().into_string().ok()?;
        Some((name, metadata.len(), metadata.ino()))
    };
    let mut all: Vec<_> = entries.filter_map(look).collect();
    all.sort();
    all
}

/// What the Containerfile copies, as pairs of a path in the sources and one in the image.
fn copies() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("examples/node-agent/deploy/Containerfile");
    let text = fs::read_to_string(file).expect("the Containerfile");
    let mut all = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let target = words.pop().expect("a target");
        for from in words {
            let name = from.rsplit('/').next().expect("a name");
            let to = match target.ends_with('/') {
                true => format!("{target}{name}"),
                false => target.to_owned(),
            };
            all.push((from.to_owned(), to));
        }
    }
    assert!(text.contains("\nFROM scratch\n") && text.contains("\nENTRYPOINT [\"/node-agent\"]\n"));
    all
}

fn the_image_installs_itself() {
    let image = Path::new("/run/image");
    let mut names = Vec::new();
    for (from, to) in copies() {
        let target = image.join(to.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("a directory")).expect("a directory");
        let source = match from.strip_prefix("${BIN}/") {
            Some(program) => workspace_plugin_dir().join(program),
            None => Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../..")
                .join(&from),
        };
        // One file after the other: together they are large where they are not optimised.
        std::os::unix::fs::symlink(&source, &target).expect("a link");
        assert!(target.is_file(), "{from} is not there");
        if let Some(name) = to.strip_prefix("/plugins/") {
            names.push(name.to_owned());
        }
    }
    // The program is known by where it lies, not by a link to it.
    fs::remove_file(image.join("node-agent")).expect("a link");
    fs::copy(workspace_plugin("node-agent"), image.join("node-agent")).expect("a copy");
    names.sort();
    let text = said(
        &agent(&["--install", "/run/bin"])
            .output()
            .expect("the program"),
    );
    assert_eq!(text, format!("installed: {}\n", names.join(", ")));
    for name in &names {
        let mut version = Command::new(Path::new("/run/bin").join(name));
        version.env_clear().env("CNI_COMMAND", "VERSION");
        let output = version.output().expect("a plugin that runs");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("1.1.0"),
            "{name}: {output:?}"
        );
    }
}
