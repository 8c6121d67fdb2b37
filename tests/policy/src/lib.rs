//! What holds for the workspace as a whole, as tests: the licences of all that is linked, what each crate may depend on,
//! which room of the house names what, and how long a file may be.

#[cfg(test)]
mod licences;
#[cfg(test)]
mod rooms;
#[cfg(test)]
mod trees;

/// The workspace's directory.
#[cfg(test)]
fn root() -> &'static std::path::Path {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// What a cargo command prints.
#[cfg(test)]
fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let output = std::process::Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}
