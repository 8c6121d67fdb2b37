//! Where the programs are.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;

/// The directory that this program is in, with the others beside it. Run by cargo, it has cargo build them first, so that
/// they are what the source says.
pub(crate) fn directory(packages: &[&str], programs: &[&str]) -> Result<PathBuf> {
    let program =
        env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let directory = program
        .parent()
        .ok_or("this program is in no directory")?
        .to_owned();
    if let Some(cargo) = env::var_os("CARGO") {
        let profile = directory
            .file_name()
            .ok_or("this program is in no target directory")?;
        let target = directory
            .parent()
            .ok_or("this program is in no target directory")?;
        let profile = if profile == "debug" {
            "dev".into()
        } else {
            profile.to_owned()
        };
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--bins"]);
        for package in packages {
            build.args(["--package", package]);
        }
        build.arg("--profile").arg(profile);
        build.arg("--target-dir").arg(target);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo has told this program of its package: build scripts that look at their own would take it for a change.
        for (name, _) in env::vars_os() {
            let told = name.to_string_lossy();
            if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
                build.env_remove(name);
            }
        }
        let status = build
            .status()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        if !status.success() {
            return Err("cargo could not build the programs; its messages are above".to_owned());
        }
    }
    for program in programs {
        if !directory.join(program).is_file() {
            return Err(format!(
                "there is no program {program} in {}: build it (`cargo build --release`), or use `cargo run`",
                directory.display()
            ));
        }
    }
    Ok(directory)
}
