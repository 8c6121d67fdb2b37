//! The tool as a process. Its plugins are this test binary.

// Without libtest no function is a `#[test]`, by which clippy would know that these are tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::process::{Command, ExitCode, Stdio};

use cni_core::testing::noop::{self, Recorded};
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use tempfile::TempDir;

type Test = (&'static str, fn());

macro_rules! tests {
    ($($body:ident),* $(,)?) => { &[$((stringify!($body), $body as fn())),*] };
}

const TESTS: &[Test] = tests![
    add_check_and_del_make_one_round,
    the_container_is_named_as_the_reference_tool_names_it,
    a_failure_is_told_on_stderr_with_status_1,
    gc_removes_all_but_the_named,
    status_is_silent_or_fails,
    validate_tells_capabilities_or_problems,
    version_is_that_of_the_tool_or_of_the_plugins,
    other_words_are_answered_with_the_usage,
    sigterm_reaches_the_plugin_and_the_add_is_taken_back,
];

fn main() -> ExitCode {
    if noop::is_asked() {
        return noop::run();
    }
    let trials = TESTS
        .iter()
        .map(|&(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

struct Node {
    dir: TempDir,
}

struct Answer {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

impl Node {
    /// With the network `pods` of the plugins `one` and `two`; the script is for `two`.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        noop::install(&dir.path().join("bin"), ["one", "two"]).unwrap();
        let node = Self { dir };
        let record = node.dir.path().join("record");
        let record = record.display();
        let text = format!(
            r#"{{"cniVersion":"1.1.0","name":"pods","plugins":[
                {{"type":"one","capabilities":{{"mac":true}},"noop":{{"record":"{record}"}}}},
                {{"type":"two","noop":{{"record":"{record}"{script}}}}}]}}"#
        );
        fs::create_dir(node.dir.path().join("net.d")).unwrap();
        fs::write(node.dir.path().join("net.d/10.conflist"), text).unwrap();
        node
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cnitool"));
        command
            .args(arguments)
            .env_clear()
            .env("NETCONFPATH", self.dir.path().join("net.d"))
            .env("CNI_PATH", self.dir.path().join("bin"))
            .env("CNI_CACHE_DIR", self.dir.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        answer(&mut self.command(arguments))
    }

    fn calls(&self) -> Vec<Recorded> {
        let record = self.dir.path().join("record");
        let calls = noop::calls(&record).unwrap();
        let _ = fs::remove_file(record);
        calls
    }

    fn order(&self) -> Vec<String> {
        let calls = self.calls();
        let line = |call: &Recorded| format!("{} {}", call.command, call.plugin);
        calls.iter().map(line).collect()
    }
}

fn answer(command: &mut Command) -> Answer {
    let output = command.output().unwrap();
    Answer {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

impl Answer {
    #[track_caller]
    fn silent_success(&self) {
        assert_eq!(
            (self.code, self.stdout.as_str(), self.stderr.as_str()),
            (Some(0), "", "")
        );
    }

    #[track_caller]
    fn failure(&self) -> &str {
        assert_eq!((self.code, self.stdout.as_str()), (Some(1), ""));
        &self.stderr
    }
}

fn add_check_and_del_make_one_round() {
    let result = r#","result":{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.3/24"}],"dns":{"search":["a\"{,b"]}}"#;
    let node = Node::new(result);
    let added = answer(
        node.command(&["add", "pods", "/run/netns/a"])
            .env("CNI_CONTAINERID", "c1")
            .env("CNI_IFNAME", "net1")
            .env("CNI_ARGS", "A=1")
            .env(
                "CAP_ARGS",
                r#"{"mac":"c2:11:22:33:44:55","ips":["10.0.0.1/24"]}"#,
            ),
    );
    assert_eq!((added.code, added.stderr.as_str()), (Some(0), ""));
    let printed: Value = serde_json::from_str(&added.stdout).unwrap();
    assert_eq!(printed["ips"][0]["address"], "10.1.2.3/24");
    assert_eq!(printed["dns"]["search"][0], "a\"{,b");
    assert!(
        added
            .stdout
            .starts_with("{\n    \"cniVersion\": \"1.1.0\",\n"),
        "{}",
        added.stdout
    );
    let call = &node.calls()[0];
    for (name, value) in [
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "net1"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_ARGS", "A=1"),
    ] {
        assert_eq!(call.environment[name], value);
    }
    let config: Value = serde_json::from_str(&call.stdin).unwrap();
    assert_eq!(config["runtimeConfig"], json!({"mac": "c2:11:22:33:44:55"}));

    for verb in ["check", "del", "del"] {
        answer(
            node.command(&[verb, "pods", "/run/netns/a"])
                .env("CNI_CONTAINERID", "c1")
                .env("CNI_IFNAME", "net1"),
        )
        .silent_success();
    }
    let calls = node.calls();
    let order: Vec<String> = calls
        .iter()
        .map(|call| {
            format!(
                "{} {} {}",
                call.command,
                call.plugin,
                call.stdin.contains("10.1.2.3")
            )
        })
        .collect();
    assert_eq!(
        order,
        [
            "CHECK one true",
            "CHECK two true",
            "DEL two true",
            "DEL one true",
            // The plugin's own configuration names the address in its script.
            "DEL two true",
            "DEL one false"
        ]
    );
}

fn the_container_is_named_as_the_reference_tool_names_it() {
    let node = Node::new("");
    node.run(&["del", "pods", "/var/run/netns/testing"])
        .silent_success();
    let environment = &node.calls()[0].environment;
    assert_eq!(
        environment["CNI_CONTAINERID"],
        "cnitool-77383ca0a0715733ca6f"
    );
    assert_eq!(environment["CNI_IFNAME"], "eth0");
}

fn a_failure_is_told_on_stderr_with_status_1() {
    let node = Node::new(r#","fail":{"ADD":{"code":11,"msg":"come back later"}}"#);
    let answer = node.run(&["add", "pods", "/run/netns/a"]);
    assert!(
        answer.failure().contains("come back later"),
        "{}",
        answer.stderr
    );
    assert_eq!(node.order(), ["ADD one", "ADD two", "DEL two", "DEL one"]);

    for (arguments, word) in [
        (vec!["add", "absent", "/run/netns/a"], "absent"),
        (vec!["gc", "pods", "no-slash"], "no-slash"),
    ] {
        let answer = node.run(&arguments);
        assert!(answer.failure().contains(word), "{}", answer.stderr);
    }
    let answer = answer_with(&node, "CAP_ARGS", "[]");
    assert!(answer.failure().contains("CAP_ARGS"), "{}", answer.stderr);
    assert!(node.calls().is_empty());
}

fn answer_with(node: &Node, name: &str, value: &str) -> Answer {
    answer(
        node.command(&["del", "pods", "/run/netns/a"])
            .env(name, value),
    )
}

fn gc_removes_all_but_the_named() {
    let node = Node::new("");
    for container in ["c1", "c2"] {
        let mut command = node.command(&["add", "pods", "/run/netns/a"]);
        assert_eq!(
            answer(command.env("CNI_CONTAINERID", container)).code,
            Some(0)
        );
    }
    node.order();
    node.run(&["gc", "pods", "c2/eth0"]).silent_success();
    assert_eq!(node.order(), ["DEL two", "DEL one", "GC one", "GC two"]);
    node.run(&["gc", "pods"]).silent_success();
    assert_eq!(node.order(), ["DEL two", "DEL one", "GC one", "GC two"]);
    node.run(&["gc", "pods"]).silent_success();
    assert_eq!(node.order(), ["GC one", "GC two"]);
}

fn status_is_silent_or_fails() {
    Node::new("").run(&["status", "pods"]).silent_success();
    let node = Node::new(r#","fail":{"STATUS":{"code":50,"msg":"no daemon"}}"#);
    assert!(
        node.run(&["status", "pods"])
            .failure()
            .contains("no daemon")
    );
}

fn validate_tells_capabilities_or_problems() {
    let node = Node::new("");
    let answer = node.run(&["validate", "pods"]);
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert_eq!(
        answer.stdout,
        "network pods is valid at version 1.1.0; capabilities: mac\n"
    );
    let reply = r#"{"cniVersion":"0.4.0","supportedVersions":["0.4.0"]}"#;
    fs::write(node.dir.path().join("bin/two.versions"), reply).unwrap();
    fs::remove_file(node.dir.path().join("bin/one")).unwrap();
    let answer = node.run(&["validate", "pods"]);
    let text = answer.failure();
    assert!(
        text.contains("\"one\"") && text.contains("\"two\""),
        "{text}"
    );
}

fn version_is_that_of_the_tool_or_of_the_plugins() {
    let node = Node::new("");
    assert_eq!(
        node.run(&["version"]).stdout,
        format!("cnitool {}\n", env!("CARGO_PKG_VERSION"))
    );
    let reply = r#"{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}"#;
    fs::write(node.dir.path().join("bin/two.versions"), reply).unwrap();
    let text = node.run(&["version", "pods"]).stdout;
    assert!(
        text.ends_with("two: 0.3.1, 0.4.0\n") && text.starts_with("one: 0.1.0, "),
        "{text}"
    );
}

fn other_words_are_answered_with_the_usage() {
    let node = Node::new("");
    for arguments in [
        &[][..],
        &["add", "pods"],
        &["explode"],
        &["ADD", "pods", "/x"],
    ] {
        assert!(
            node.run(arguments)
                .failure()
                .contains("cnitool add NET NETNS")
        );
    }
    let help = node.run(&["help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
}

fn sigterm_reaches_the_plugin_and_the_add_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let node = Node::new(&format!(r#","block":{{"ADD":"{}"}}"#, fifo.display()));
    let child = node
        .command(&["add", "pods", "/run/netns/a"])
        .spawn()
        .unwrap();
    let record = node.dir.path().join("record");
    while noop::calls(&record).unwrap_or_default().len() < 2 {
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("stopped by a signal"), "{text}");
    assert_eq!(node.order(), ["ADD one", "ADD two", "DEL two", "DEL one"]);
}
