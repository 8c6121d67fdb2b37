//! Process 1 of the guest: prepares the system, runs the programs, tells how they ended, and powers off.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

/// Set in the environment of the programs that the guest runs.
pub(crate) const GUEST: &str = "CNI_VM_GUEST";
/// Where the modules are, named so that their order is that in which they are inserted.
pub(crate) const MODULES: &str = "/modules";
/// Where the plugins are.
pub(crate) const PLUGINS: &str = "/plugins";
/// Where the programs are that are to be run.
pub(crate) const PROGRAMS: &str = "/programs";
/// Begins the line that tells a program's end: its argument to process 1, then `passed` or `failed`.
pub(crate) const ENDED: &str = "VM-ENDED:";
/// Where the guest finds programs, and the machine the same.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Never returns: the machine goes off.
pub(crate) fn run() -> ! {
    if let Err(error) = prepare_and_run() {
        println!("{ENDED} init failed: {error}");
    }
    let _ = std::io::stdout().flush();
    let _ = reboot(RebootMode::RB_POWER_OFF);
    unreachable!("the machine is off")
}

fn prepare_and_run() -> Result<(), Box<dyn Error>> {
    for (kind, directory) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/var/lib"),
    ] {
        mount(
            Some(kind),
            directory,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )?;
    }
    for path in sorted(MODULES)? {
        let module = fs::File::open(&path)?;
        finit_module(module, c"", ModuleInitFlags::empty())
            .map_err(|errno| format!("cannot insert {}: {errno}", path.display()))?;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let uptime = fs::read_to_string("/proc/uptime")?;
    println!(
        "kernel {}, ready at {} s",
        release.trim(),
        uptime.split(' ').next().unwrap_or("")
    );
    for run in std::env::args().skip(1) {
        let start = Instant::now();
        let (program, filter) = run.split_once(':').unwrap_or((&run, ""));
        let status = Command::new(Path::new(PROGRAMS).join(program))
            .args((!filter.is_empty()).then_some(filter))
            .env_clear()
            .env(GUEST, "1")
            .env("CI", "true")
            .env("PATH", PATH)
            .env("CNI_TEST_BIN_DIR", PLUGINS)
            .current_dir("/")
            .status()?;
        let end = if status.success() { "passed" } else { "failed" };
        println!(
            "{ENDED} {run} {end} ({:.1} s)",
            start.elapsed().as_secs_f32()
        );
    }
    Ok(())
}

fn sorted(directory: &str) -> std::io::Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(Path::new(directory))?;
    let mut paths: Vec<_> = entries
        .map(|entry| Ok::<_, std::io::Error>(entry?.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    Ok(paths)
}
