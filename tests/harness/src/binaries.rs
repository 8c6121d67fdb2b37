//! Where the plugins are: ours, built from the current code, and the reference ones, where installed.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A directory with this workspace's plugins, already built. Without it the harness has cargo build them.
pub(crate) const DIRECTORY: &str = "CNI_TEST_BIN_DIR";

/// Where other reference plugins than Debian's are.
const REFERENCE: &str = "CNI_TEST_REFERENCE_DIR";

/// A plugin of this workspace, such as `bridge`.
///
/// # Panics
/// When it is not there: the binary's `main` must call [`run_with_plugins`](crate::run_with_plugins).
pub fn workspace_plugin(name: &str) -> PathBuf {
    let path = workspace_plugin_dir().join(name);
    assert!(path.is_file(), "no plugin {}", path.display());
    path
}

/// The directory that holds this workspace's plugins, for `CNI_PATH`.
///
/// # Panics
/// As [`workspace_plugin`].
pub fn workspace_plugin_dir() -> PathBuf {
    env::var_os(DIRECTORY)
        .map(PathBuf::from)
        .expect("main calls run_with_plugins, which names the directory of the plugins")
}

/// A reference plugin, where one is installed: Debian's `containernetworking-plugins` puts them into `/usr/lib/cni`.
pub fn reference_plugin(name: &str) -> Option<PathBuf> {
    let directory = env::var_os(REFERENCE).map_or_else(|| "/usr/lib/cni".into(), PathBuf::from);
    Some(directory.join(name)).filter(|path| path.is_file())
}

/// The cargo that runs this program, else the one that built it, to build with: without what it has told this program of its package,
/// which build scripts that look at their own would take for a change, here and when cargo is next run by hand.
pub fn cargo() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Builds every binary of the workspace once, in the profile of this test, and tells where they are.
pub(crate) fn build() -> io::Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT
        .get_or_init(build_now)
        .as_deref()
        .map_err(|error| io::Error::other(error.clone()))
}

fn build_now() -> Result<PathBuf, String> {
    if let Some(directory) = env::var_os(DIRECTORY) {
        return Ok(directory.into());
    }
    let executable = env::current_exe().map_err(|error| error.to_string())?;
    // target/PROFILE/deps/TEST
    let directory = executable
        .ancestors()
        .nth(2)
        .ok_or("the test binary lies in target/PROFILE/deps")?;
    let mut command = cargo();
    command
        .args(["build", "--quiet", "--workspace", "--bins", "--target-dir"])
        .arg(directory.ancestors().nth(1).ok_or("target/PROFILE")?)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "cannot build the plugins: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(directory.to_owned())
}
