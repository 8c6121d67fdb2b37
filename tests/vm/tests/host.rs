//! The machine's side: packs, boots, and reads what the guest says on its serial console.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cni_testkit::{Test, cargo, require, skip, tests, workspace_plugin_dir};
use serde_json::Value;

use crate::archive::Archive;
use crate::init;
use crate::kernel::Kernel;

pub(crate) const TESTS: &[Test] = &tests![
    vlans_part_pods_on_a_kernel_that_filters_by_them,
    what_passes_on_this_kernel_passes_on_another,
    what_passes_of_nftables_passes_on_another,
];

/// From start to power-off, which takes about a minute of a processor that does nothing else; less than the harness allows
/// a test.
const LIMIT: Duration = Duration::from_secs(800);

/// Plugins that the guest's tests run.
const PLUGINS: [&str; 5] = ["bridge", "host-local", "loopback", "ptp", "static"];

/// Test programs of other packages that run in the guest, too. After a colon: a part of the names of the tests to run,
/// where all of them would take too long on an emulated processor.
const OTHERS: [&str; 4] = [
    "kernel_netlink",
    "kernel:the_kernel_keeps",
    "kernel:the_first_packet",
    "kernel:every_way_works",
];
/// The same, in a guest of their own: they take as long as all the others.
const OF_NFTABLES: [&str; 1] = ["kernel_firewall"];

/// Programs of the machine that tests in the guest use (Debian: iproute2, nftables, util-linux, dash).
const TOOLS: [&str; 7] = ["bridge", "ip", "nft", "setpriv", "sh", "tc", "unshare"];

/// Modules by what of the product needs them.
const MODULES: [&str; 32] = [
    "af_packet",
    "bridge",
    "dummy",
    "veth",
    "vxlan",
    "8021q",
    "nf_tables",
    "nft_chain_nat",
    "nft_compat",
    "nft_connlimit",
    "nft_ct",
    "nft_fib",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_hash",
    "nft_limit",
    "nft_log",
    "nft_masq",
    "nft_meta_bridge",
    "nft_nat",
    "nft_numgen",
    "nft_redir",
    "nft_reject",
    "nft_reject_bridge",
    "nft_reject_inet",
    "nf_conntrack_netlink",
    "ifb",
    "sch_tbf",
    "sch_ingress",
    "cls_u32",
    "act_mirred",
];

fn vlans_part_pods_on_a_kernel_that_filters_by_them() {
    let this = std::env::current_exe().expect("this program");
    pass(&["vm"], || Ok(vec![("vm".to_owned(), this)]));
}

fn what_passes_on_this_kernel_passes_on_another() {
    pass(&OTHERS, || test_programs(&OTHERS));
}

fn what_passes_of_nftables_passes_on_another() {
    pass(&OF_NFTABLES, || test_programs(&OF_NFTABLES));
}

/// Boots a guest in which `runs` have to pass: names of programs, with a colon and a part of the names of tests.
fn pass(runs: &[&str], programs: impl FnOnce() -> io::Result<Vec<(String, PathBuf)>>) {
    if !cfg!(target_arch = "x86_64") {
        skip("the guest is booted on x86-64 only");
    }
    let qemu = installed("qemu-system-x86_64");
    let qemu = require(qemu, "qemu-system-x86_64 (Debian: qemu-system-x86)");
    let what =
        "a kernel to boot (Debian: linux-image-cloud-amd64; or unpack it into target/vm/kernel)";
    let kernel = require(Kernel::find(), what);

    let programs = programs().expect("the test programs");
    let initramfs = std::env::temp_dir().join(format!("cni-vm-{}.cpio", std::process::id()));
    let packed = pack(&initramfs, &kernel, &programs);
    let console = packed.and_then(|()| boot(&qemu, &kernel, &initramfs, runs));
    let _ = fs::remove_file(&initramfs);
    let console = console.expect("the guest runs");
    for run in runs {
        let passed = format!("{} {run} passed", init::ENDED);
        assert!(
            console.lines().any(|line| line.starts_with(&passed)),
            "{run} did not pass on {}:\n{console}",
            kernel.version
        );
    }
    // What is packed is all there is: a test that lacks something has to be told of here, or nobody sees it.
    let skipped = console.lines().find(|line| line.contains("SKIPPED"));
    assert_eq!(skipped, None, "on {}:\n{console}", kernel.version);
    println!("{console}");
}

fn installed(program: &str) -> Option<PathBuf> {
    let directories = init::PATH.split(':').map(Path::new);
    let mut paths = directories.map(|directory| directory.join(program));
    paths.find(|path| path.is_file())
}

/// Packs the initramfs.
fn pack(path: &Path, kernel: &Kernel, programs: &[(String, PathBuf)]) -> io::Result<()> {
    let mut archive = Archive::new(io::BufWriter::new(fs::File::create(path)?));
    for directory in [
        "/proc", "/sys", "/dev", "/run", "/tmp", "/var/lib", "/usr/bin",
    ] {
        archive.directory(directory)?;
    }
    archive.device("/dev/console", 5, 1)?;
    for (number, (name, content)) in kernel.modules(&MODULES)?.iter().enumerate() {
        archive.file(&format!("{}/{number:03}-{name}", init::MODULES), content)?;
    }
    let mut libraries = BTreeSet::new();
    let mut program = |target: &str, source: &Path| {
        libraries.extend(libraries_of(source)?);
        archive.file(target, &fs::read(source)?)
    };
    program("/init", &std::env::current_exe()?)?;
    for name in PLUGINS {
        let source = workspace_plugin_dir().join(name);
        program(&format!("{}/{name}", init::PLUGINS), &source)?;
    }
    for name in TOOLS {
        let source = require(installed(name), name);
        program(&format!("/usr/bin/{name}"), &source)?;
    }
    for (name, source) in programs {
        program(&format!("{}/{name}", init::PROGRAMS), source)?;
    }
    for library in libraries {
        let content = fs::read(&library)?;
        archive.file(&library, &content)?;
    }
    archive.finish()?.into_inner()?.sync_data()
}

/// What the dynamic linker loads for a program, itself included.
fn libraries_of(program: &Path) -> io::Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(str::to_owned).collect())
}

/// Builds the other test programs, if they are not up to date, and tells where they are. The workspace as a whole, so that
/// the features are those of `cargo test --workspace` and nothing is built twice.
fn test_programs(runs: &[&str]) -> io::Result<Vec<(String, PathBuf)>> {
    let executable = std::env::current_exe()?;
    let target = executable.ancestors().nth(3).unwrap_or(Path::new("target"));
    let mut command = cargo();
    command
        .args([
            "test",
            "--quiet",
            "--workspace",
            "--no-run",
            "--message-format=json",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    let names: BTreeSet<&str> = runs
        .iter()
        .map(|run| run.split(':').next().unwrap_or(run))
        .collect();
    for name in &names {
        command.args(["--test", name]);
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!(
            "cannot build the test programs: {text}"
        )));
    }
    let mut found = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if let Some(path) = message["executable"].as_str()
            && names.contains(name)
        {
            found.push((name.to_owned(), path.into()));
        }
    }
    assert_eq!(found.len(), names.len(), "test programs: {found:?}");
    Ok(found)
}

/// Boots and waits for the power-off; what the console said.
fn boot(qemu: &Path, kernel: &Kernel, initramfs: &Path, runs: &[&str]) -> io::Result<String> {
    let mut child = Command::new(qemu)
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1024"])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(["-serial", "stdio"])
        .arg("-append")
        // The kernel says nothing between the lines of process 1, whose arguments are after the dashes, unless it dies.
        .arg(format!(
            "console=ttyS0 loglevel=1 panic=-1 -- {}",
            runs.join(" ")
        ))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let console = child.stdout.take().map(drain);
    let complaints = child.stderr.take().map(drain);
    let timed_out = !ends_within(&mut child, LIMIT)?;
    let texts = [console, complaints].into_iter().flatten();
    let mut text: String = texts.map(|text| text.join().unwrap_or_default()).collect();
    if timed_out {
        text.push_str(&format!("\nthe guest was not done after {LIMIT:?}"));
    }
    Ok(text.replace('\r', ""))
}

fn drain(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether it ended by itself; if not, it is ended.
fn ends_within(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}
