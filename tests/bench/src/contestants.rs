//! Who is measured.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory of plugins.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) directory: PathBuf,
}

pub(crate) struct Contestants {
    pub(crate) all: Vec<Contestant>,
    linked: &'static str,
}

impl Contestants {
    /// Builds ours, and looks for the reference plugins.
    pub(crate) fn find(dynamic: bool) -> Result<Self, String> {
        // As for the tests: instead of building them.
        let (ours, linked) = match env::var_os("CNI_TEST_BIN_DIR") {
            Some(directory) => (directory.into(), "as they are"),
            None => match build(true).filter(|_| !dynamic) {
                Some(directory) => (directory, "statically linked"),
                None => (
                    build(false).ok_or("cargo cannot build the plugins")?,
                    "dynamically linked",
                ),
            },
        };
        let mut all = vec![Contestant {
            name: "ours",
            directory: ours,
        }];
        let reference = cni_testkit::reference_plugin("bridge");
        if let Some(directory) = reference.as_deref().and_then(Path::parent) {
            all.push(Contestant {
                name: "reference",
                directory: directory.to_owned(),
            });
        }
        Ok(Self { all, linked })
    }

    pub(crate) fn introduce(&self) {
        for one in &self.all {
            let about = Command::new(one.directory.join("bridge"))
                .env_clear()
                .output();
            let about = about.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
            let line = about
                .unwrap_or_default()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            let linked = if one.name == "ours" { self.linked } else { "" };
            println!(
                "{:<10} {} {linked}   {line}",
                one.name,
                one.directory.display()
            );
        }
        if self.all.len() == 1 {
            println!(
                "reference  not installed (Debian: apt-get install containernetworking-plugins)"
            );
        }
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        println!("machine    Linux {}, {cores} cores", kernel.trim());
    }

    pub(crate) fn sizes(&self) {
        println!("\n== Size of the binaries, KiB");
        for plugin in [
            "bridge",
            "host-local",
            "static",
            "loopback",
            "ptp",
            "portmap",
            "firewall",
            "bandwidth",
            "tuning",
        ] {
            print!("{plugin:<12}");
            for one in &self.all {
                let size = fs::metadata(one.directory.join(plugin)).map_or(0, |data| data.len());
                print!("{:>12} {:>8}", one.name, size / 1024);
            }
            println!();
        }
    }
}

/// Builds the plugins in release mode; the directory that they are in. `None` when cargo fails, which for the static build
/// means that the C library's archive is not installed.
fn build(static_: bool) -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let target = program
        .parent()?
        .parent()?
        .join(if static_ { "static" } else { "dynamic" });
    let mut command = cni_testkit::cargo();
    command
        .args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "cni-plugins",
            "--package",
            "ptp",
            "--package",
            "node-agent",
        ])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut directory = target.clone();
    if static_ {
        let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
        command
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .args(["--target", &host]);
        directory.push(host);
    }
    let status = command.status().ok()?;
    status.success().then(|| directory.join("release"))
}
