//! The plugins as processes: signals, streams, variables. What needs no privilege is tested here; the kernel's part is
//! tested in `tests/kernel`. This test binary is also the plugins that those need beside them.

// Without libtest no function is a `#[test]`, by which clippy would know that these are tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};

use async_trait::async_trait;
use cni_core::Result;
use cni_core::ipam::{Ipam, IpamRequest};
use cni_core::ipnetwork::IpNetwork;
use cni_core::plugin::Plugin;
use cni_core::spec::ValidAttachments;
use cni_core::spec::{AddResult, NetworkConfig, NetworkName};
use cni_core::testing::noop;
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use tempfile::TempDir;

type Test = (&'static str, fn());

macro_rules! tests {
    ($($body:ident),* $(,)?) => { &[$((stringify!($body), $body as fn())),*] };
}

const TESTS: &[Test] = tests![
    sigterm_while_an_add_waits_is_answered_with_code_11_and_leaves_nothing,
    a_timeout_while_an_add_waits_is_answered_with_code_11_and_leaves_nothing,
    a_result_that_nobody_takes_is_undone,
    a_panic_is_one_document_and_what_was_reserved_is_released,
    version_is_answered_with_the_version_that_asked,
    unknown_variables_change_nothing,
    a_delegate_gets_this_request_as_the_parent_of_its_trace,
    the_log_is_json_lines_with_the_attachment_and_stdout_stays_pure,
    the_log_can_go_to_a_file,
    success_is_silent,
];

const HOST_LOCAL: &str = env!("CARGO_BIN_EXE_host-local");
const PLUGINS: [&str; 4] = [
    env!("CARGO_BIN_EXE_bridge"),
    HOST_LOCAL,
    env!("CARGO_BIN_EXE_static"),
    env!("CARGO_BIN_EXE_loopback"),
];

fn main() -> ExitCode {
    if noop::is_asked() {
        let name = std::env::args().next().unwrap_or_default();
        if name.ends_with("/panics") {
            return Plugin::new("panics", "0").run_ipam(Panics);
        }
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

/// Panics in ADD, and makes the file that `MARK` names in DEL.
#[derive(Debug)]
struct Panics;

#[async_trait]
impl Ipam for Panics {
    async fn allocate(&self, _: &IpamRequest<'_>) -> Result<AddResult> {
        panic!("the cat is on the keyboard")
    }
    async fn preview(&self, _: &IpamRequest<'_>) -> Result<Option<AddResult>> {
        Ok(None)
    }
    async fn held(&self, _: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>> {
        Ok(None)
    }
    async fn release(&self, _: &IpamRequest<'_>) -> Result<()> {
        File::create(std::env::var_os("MARK").unwrap()).unwrap();
        Ok(())
    }
    async fn check(&self, _: &IpamRequest<'_>) -> Result<()> {
        Ok(())
    }
    async fn gc(&self, _: &NetworkName, _: &NetworkConfig, _: &ValidAttachments) -> Result<()> {
        Ok(())
    }
    async fn status(&self, _: &NetworkName, _: &NetworkConfig) -> Result<()> {
        Ok(())
    }
}

/// A store of its own for host-local.
struct Store {
    dir: TempDir,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn network(&self) -> PathBuf {
        self.dir.path().join("net")
    }

    fn config(&self) -> Value {
        json!({"cniVersion": "1.1.0", "name": "net", "type": "x", "ipam": {
            "type": "host-local", "dataDir": self.dir.path(),
            "ranges": [[{"subnet": "10.1.2.0/24"}]]}})
    }

    fn reserved(&self) -> Vec<String> {
        let names = fs::read_dir(self.network()).into_iter().flatten();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect()
    }

    fn ask(&self, verb: &str) -> Command {
        command(Path::new(HOST_LOCAL), verb)
    }
}

/// A call with everything that a verb can need, and nothing else in its environment.
fn command(program: &Path, verb: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_NETNS", "/nonexistent/c1")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", program.parent().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn start(command: &mut Command, config: &Value) -> Child {
    // All of it is there before the plugin is: VERSION waits for it but a moment. A pipe takes a page at least.
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(config.to_string().as_bytes()).unwrap();
    command.stdin(reader).spawn().unwrap()
}

fn run(command: &mut Command, config: &Value) -> Output {
    start(command, config).wait_with_output().unwrap()
}

#[track_caller]
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[track_caller]
fn silent_success(output: &Output) {
    let streams = (output.stdout.as_slice(), output.stderr.as_slice());
    assert!(
        output.status.success() && streams == (b"", b""),
        "{output:?}"
    );
}

/// Waits until a thread of the process waits for the store's lock; by then the signal handlers stand.
fn wait_for_lock(pid: u32) {
    let waits = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads.flatten().any(|thread| {
            fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == "ipam-lock\n")
        })
    };
    while !waits() {
        std::thread::yield_now();
    }
}

fn held_lock(store: &Store) -> File {
    fs::create_dir_all(store.network()).unwrap();
    let lock = File::create(store.network().join("lock")).unwrap();
    lock.lock().unwrap();
    lock
}

fn sigterm_while_an_add_waits_is_answered_with_code_11_and_leaves_nothing() {
    let store = Store::new();
    let lock = held_lock(&store);
    let child = start(&mut store.ask("ADD"), &store.config());
    wait_for_lock(child.id());
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(document(&output)["code"], 11);
    assert!(
        document(&output).to_string().contains("signal"),
        "{output:?}"
    );
    drop(lock);
    assert!(store.reserved().is_empty());
    // Nothing is stuck either.
    assert!(run(&mut store.ask("ADD"), &store.config()).status.success());
    assert_eq!(store.reserved().len(), 1);
}

fn a_timeout_while_an_add_waits_is_answered_with_code_11_and_leaves_nothing() {
    let store = Store::new();
    let _lock = held_lock(&store);
    let mut command = store.ask("ADD");
    let output = run(command.env("CNI_TIMEOUT_MS", "50"), &store.config());
    assert_eq!(document(&output)["code"], 11);
    assert!(
        document(&output).to_string().contains("deadline"),
        "{output:?}"
    );
    assert!(store.reserved().is_empty());
}

fn a_result_that_nobody_takes_is_undone() {
    let store = Store::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = File::options().write(true).open("/dev/full").unwrap();
    for stdout in [Stdio::from(writer), Stdio::from(full)] {
        let output = run(store.ask("ADD").stdout(stdout), &store.config());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("stdout"), "{text}");
        assert!(store.reserved().is_empty());
    }
}

fn a_panic_is_one_document_and_what_was_reserved_is_released() {
    let dir = tempfile::tempdir().unwrap();
    noop::install(dir.path(), ["panics"]).unwrap();
    let mark = dir.path().join("released");
    let mut command = command(&dir.path().join("panics"), "ADD");
    let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "x"});
    let output = run(command.env("MARK", &mark), &config);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let document = document(&output);
    assert_eq!(
        (&document["code"], &document["cniVersion"]),
        (&json!(999), &json!("1.0.0"))
    );
    assert!(
        document["msg"]
            .as_str()
            .unwrap()
            .contains("the cat is on the keyboard")
    );
    assert!(mark.exists());
}

fn version_is_answered_with_the_version_that_asked() {
    for program in PLUGINS {
        for (stdin, expected) in [
            ("0.3.1", "0.3.1"),
            ("1.0.0", "1.0.0"),
            ("7.0.0", "7.0.0"),
            ("junk", "1.1.0"),
        ] {
            let mut command = Command::new(program);
            command
                .env_clear()
                .env("CNI_COMMAND", "VERSION")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let output = run(&mut command, &json!({ "cniVersion": stdin }));
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{output:?}"
            );
            assert_eq!(document(&output)["cniVersion"], expected, "{program}");
        }
    }
}

fn unknown_variables_change_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let store = Store::new();
    let junk = |verb: &str| {
        let mut command = store.ask(verb);
        command
            .env("CNI_SOMETHING", "new")
            .env("NOT_UTF8", std::ffi::OsStr::from_bytes(b"\xff\xfe"))
            .env("CNI_DRY_RUN", "perhaps")
            .env("CNI_LOG", "everything")
            .env("TRACEPARENT", "junk");
        run(&mut command, &store.config())
    };
    let added = junk("ADD");
    assert_eq!(document(&added)["ips"][0]["address"], "10.1.2.2/24");
    assert!(added.stderr.is_empty(), "{added:?}");
    silent_success(&junk("DEL"));
    assert!(store.reserved().is_empty());
}

fn a_delegate_gets_this_request_as_the_parent_of_its_trace() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let dir = tempfile::tempdir().unwrap();
    noop::install(dir.path(), ["remote"]).unwrap();
    let record = dir.path().join("record");
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge",
        "ipam": {"type": "remote", "noop": {"record": record}}});
    let ask = |trace: &str| {
        let mut command = command(Path::new(PLUGINS[0]), "STATUS");
        command
            .env("CNI_PATH", dir.path())
            .env("TRACEPARENT", trace)
            .env("TRACESTATE", "vendor=1")
            .env("BAGGAGE", "pod=web");
        silent_success(&run(&mut command, &config));
        noop::calls(&record).unwrap().pop().unwrap().environment
    };
    let environment = ask(TRACE);
    assert_eq!(environment["CNI_COMMAND"], "STATUS");
    assert_eq!(environment["TRACESTATE"], "vendor=1");
    assert_eq!(environment["BAGGAGE"], "pod=web");
    let fields: Vec<&str> = environment["TRACEPARENT"].split('-').collect();
    assert_eq!(
        (fields[0], fields[1], fields[3]),
        ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    );
    assert_ne!(fields[2], "b7ad6b7169203331");
    assert_eq!(fields[2].len(), 16);
    assert_eq!(ask("something else")["TRACEPARENT"], "something else");
}

fn the_log_is_json_lines_with_the_attachment_and_stdout_stays_pure() {
    let store = Store::new();
    let mut command = store.ask("ADD");
    command
        .env("CNI_LOG", "debug")
        .env("CNI_LOG_FORMAT", "json");
    let output = run(&mut command, &store.config());
    assert_eq!(document(&output)["ips"][0]["address"], "10.1.2.2/24");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.lines().count() >= 2, "{text}");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let span = &line["spans"][0];
        assert_eq!(
            (&span["network"], &span["container"], &span["ifname"]),
            (&json!("net"), &json!("c1"), &json!("eth0")),
            "{line}"
        );
    }
}

fn the_log_can_go_to_a_file() {
    let store = Store::new();
    let file = store.dir.path().join("log");
    for verb in ["ADD", "DEL"] {
        let mut command = store.ask(verb);
        command.env("CNI_LOG", "debug").env("CNI_LOG_FILE", &file);
        assert!(run(&mut command, &store.config()).stderr.is_empty());
    }
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains("ADD") && text.contains("DEL"), "{text}");
}

fn success_is_silent() {
    let store = Store::new();
    let added = run(&mut store.ask("ADD"), &store.config());
    assert!(
        added.status.success() && added.stderr.is_empty(),
        "{added:?}"
    );
    let mut config = store.config();
    config["prevResult"] = document(&added);
    config["cni.dev/valid-attachments"] = json!([{"containerID": "c1", "ifname": "eth0"}]);
    for verb in ["CHECK", "STATUS", "GC", "DEL", "DEL"] {
        silent_success(&run(&mut store.ask(verb), &config));
    }
}
