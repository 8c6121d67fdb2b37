//! A plugin that does what its configuration tells it to, for tests of what runs plugins.
//!
//! A test binary becomes the plugin when it is started as one: its `main` (`harness = false`) begins with
//!
//! ```no_run
//! use cni_core::testing::noop;
//! # fn tests() -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
//! fn main() -> std::process::ExitCode {
//!     if noop::is_asked() { noop::run() } else { tests() }
//! }
//! ```
//!
//! and a test puts it into a `CNI_PATH` with [`install`]. Its script is the member `noop` of its configuration, or of the
//! configuration's `ipam` when it runs as that:
//!
//! | member | meaning |
//! |---|---|
//! | `record` | path of a file: every call is appended to it, as one JSON object a line ([`calls`]) |
//! | `result` | the result of ADD, printed as it stands; without it, `prevResult`, else an empty result |
//! | `fail` | by verb: an error object, printed instead, with exit status 1 |
//! | `print` | by verb: any text, printed instead, with exit status 1 |
//! | `block` | by verb: path of a FIFO; the call waits until it can be read to its end |
//! | `stderr` | text for stderr |
//!
//! VERSION has no configuration: it is answered with the file `<program>.versions`, else with all versions.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::spec::SpecVersion;
use crate::spec::json::Object;

/// One call, as it was recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recorded {
    /// The file name that the plugin was run under.
    pub plugin: String,
    /// `CNI_COMMAND`.
    pub command: String,
    /// The environment, as far as it is UTF-8.
    pub environment: std::collections::BTreeMap<String, String>,
    /// The text on stdin.
    pub stdin: String,
}

/// Whether this process was started as a plugin.
pub fn is_asked() -> bool {
    std::env::var_os("CNI_COMMAND").is_some()
}

/// Makes this executable available as plugins of these names.
///
/// # Errors
/// Those of the file system.
pub fn install<'n>(directory: &Path, names: impl IntoIterator<Item = &'n str>) -> io::Result<()> {
    let program = std::env::current_exe()?;
    fs::create_dir_all(directory)?;
    names
        .into_iter()
        .try_for_each(|name| std::os::unix::fs::symlink(&program, directory.join(name)))
}

/// The calls that were recorded in a file, in their order. None when there is no such file.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn calls(record: &Path) -> io::Result<Vec<Recorded>> {
    let text = match fs::read_to_string(record) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(io::Error::from))
        .collect()
}

/// Serves this process's one request.
pub fn run() -> ExitCode {
    match serve() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("noop: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether the answer is a success.
fn serve() -> io::Result<bool> {
    let program = std::env::args_os()
        .next()
        .map_or_else(PathBuf::new, PathBuf::from);
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let command = std::env::var("CNI_COMMAND").unwrap_or_default();
    let mut stdin = String::new();
    io::stdin().read_to_string(&mut stdin)?;
    if command == "VERSION" {
        return say(&versions(&program)?).map(|()| true);
    }
    let config = Object::parse(&stdin).map_err(io::Error::other)?;
    let own = config
        .object("ipam")
        .map_err(io::Error::other)?
        .filter(|ipam| {
            ipam.string("type")
                .is_ok_and(|found| found.as_deref() == Some(&*name))
        });
    let script = own.as_ref().unwrap_or(&config).object("noop");
    let script = script.map_err(io::Error::other)?;
    let string = |member: &str| -> Option<String> { script.as_ref()?.string(member).ok()? };
    let by_verb = |member: &str| -> Option<&RawValue> {
        script.as_ref()?.object(member).ok()??.member(&command)
    };
    if let Some(path) = string("record") {
        record(Path::new(&path), &name, &command, &stdin)?;
    }
    if let Some(text) = string("stderr") {
        eprintln!("{text}");
    }
    if let Some(path) = by_verb("block") {
        fs::read(serde_json::from_str::<PathBuf>(path.get())?)?;
    }
    if let Some(error) = by_verb("fail") {
        return say(error.get()).map(|()| false);
    }
    if let Some(text) = by_verb("print") {
        return say(&serde_json::from_str::<String>(text.get())?).map(|()| false);
    }
    if command == "ADD" {
        let result = script.as_ref().and_then(|script| script.member("result"));
        match result.or_else(|| config.member("prevResult")) {
            Some(result) => say(result.get())?,
            None => {
                let version = config
                    .string("cniVersion")
                    .ok()
                    .flatten()
                    .unwrap_or_default();
                say(&serde_json::json!({ "cniVersion": version }).to_string())?;
            }
        }
    }
    Ok(true)
}

fn versions(program: &Path) -> io::Result<String> {
    let mut path = OsString::from(program);
    path.push(".versions");
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let all: Vec<&str> = SpecVersion::ALL
                .iter()
                .map(|version| version.as_str())
                .collect();
            Ok(serde_json::json!({"cniVersion": "1.1.0", "supportedVersions": all}).to_string())
        }
        text => text,
    }
}

fn record(path: &Path, plugin: &str, command: &str, stdin: &str) -> io::Result<()> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let line = serde_json::to_string(&Recorded {
        plugin: plugin.to_owned(),
        command: command.to_owned(),
        environment,
        stdin: stdin.to_owned(),
    })?;
    let mut file = File::options().create(true).append(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

fn say(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}
