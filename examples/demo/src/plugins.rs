//! Where the programs are.

use std::env;
use std::path::PathBuf;

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
    if env::var_os("CARGO").is_some() {
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
        let mut build = cni_testkit::cargo();
        build.args(["build", "--quiet", "--bins"]);
        for package in packages {
            build.args(["--package", package]);
        }
        build.arg("--profile").arg(profile);
        build.arg("--target-dir").arg(target);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
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
