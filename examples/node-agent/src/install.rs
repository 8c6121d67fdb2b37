//! Puts the plugins of this image into a node's directory of plugins, and takes out what it has put there.
//!
//! ```text
//! /opt/cni/bin/
//!     vxlan, host-gw, ...         the plugins
//!     .cni-fabric.json            which of them are ours: hashes by name
//!     .vxlan.cni-fabric-new       while it is being written
//! ```
//!
//! The record says what is about to be put in place before it is: whatever moment a process is killed at, each plugin of ours
//! is in it. What it does not know is somebody else's, and stays. Processes that do this at once wait for each other, by a lock
//! (`flock(2)`) on the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cni_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::durable;

/// What lies beside the program, with the plugins in it.
pub const SOURCE: &str = "plugins";

/// The record's name.
pub const RECORD: &str = ".cni-fabric.json";

/// Plugins that the agent works with, and that have to be of its version. Of the others, one of somebody else's does as well.
const NEEDED: [&str; 2] = ["vxlan", "host-gw"];

const MODE: u32 = 0o755;

/// What became of the plugins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Put in place, or removed.
    pub changed: Vec<String>,
    /// Right already.
    pub unchanged: Vec<String>,
    /// Somebody else's of the same name: left as they are.
    pub foreign: Vec<String>,
}

/// Where the plugins of this program's image are.
///
/// # Errors
/// [`ErrorKind::Io`] when the program's own path is not known.
pub fn source() -> Result<PathBuf> {
    let program = std::env::current_exe()
        .map_err(|error| failed("find", Path::new("this program"), error))?;
    Ok(program.parent().unwrap_or(Path::new("/")).join(SOURCE))
}

/// Puts every file of `from` into `to`, which is made where it is missing. What is right already is not touched.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] when one that the agent needs is there and somebody else's, [`ErrorKind::Io`] for what cannot be
/// read or written. Each plugin is the old one or the new one then.
pub fn install(from: &Path, to: &Path) -> Result<Outcome> {
    let plugins = plugins(from)?;
    fs::create_dir_all(to).map_err(|error| failed("make", to, error))?;
    let _lock = lock(to)?;
    let mut record = Record::read(to)?;
    let mut outcome = Outcome::default();
    let mut new = Vec::new();
    for (name, path) in &plugins {
        let hash = File::open(path).and_then(hash);
        let hash = hash.map_err(|error| failed("read", path, error))?;
        match Found::look(&to.join(name), record.hashes(name))? {
            Found::Foreign(theirs) if theirs.as_ref() != Some(&hash) => {
                outcome.foreign.push(name.clone());
            }
            Found::Foreign(_) => outcome.unchanged.push(name.clone()),
            Found::Ours { hash: same, mode } if same == hash && mode == MODE => {
                outcome.unchanged.push(name.clone());
            }
            _ => new.push((name, path, hash)),
        }
    }
    if let Some(name) = NEEDED.iter().find(|name| is_in(&outcome.foreign, name)) {
        return Err(in_the_way(&to.join(name)));
    }
    if !new.is_empty() {
        for (name, _, hash) in &new {
            record.add(name, hash);
        }
        record.write(to)?;
    }
    for (name, path, hash) in new {
        // One at a time: all of them together would be most of what this container may use.
        let bytes = fs::read(path).map_err(|error| failed("read", path, error))?;
        let target = to.join(name);
        durable::put(&target, &bytes, MODE).map_err(|error| failed("write", &target, error))?;
        record.only(name, hash);
        outcome.changed.push(name.clone());
    }
    if !outcome.changed.is_empty() {
        record.write(to)?;
    }
    Ok(outcome)
}

/// Removes what [`install`] has put there and nobody has replaced since, and the record.
///
/// # Errors
/// [`ErrorKind::Io`] for what could not be removed, together; everything else has been, and the rest stays in the record.
pub fn remove(directory: &Path) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if !directory.is_dir() {
        return Ok(outcome);
    }
    let _lock = lock(directory)?;
    let record = Record::read(directory)?;
    let mut errors = Vec::new();
    for (name, hashes) in &record.0 {
        let path = directory.join(name);
        let removed = Found::look(&path, hashes).and_then(|found| {
            let beside = durable::beside(&path);
            match found {
                Found::Foreign(_) => {
                    outcome.foreign.push(name.clone());
                    gone(fs::remove_file(&beside)).map_err(|error| failed("remove", &beside, error))
                }
                _ => match durable::remove(&path) {
                    Ok(true) => {
                        outcome.changed.push(name.clone());
                        Ok(())
                    }
                    Ok(false) => Ok(()),
                    Err(error) => Err(failed("remove", &path, error)),
                },
            }
        });
        errors.extend(removed.err());
    }
    if errors.is_empty() {
        let path = directory.join(RECORD);
        durable::remove(&path).map_err(|error| failed("remove", &path, error))?;
    }
    Error::join(errors).map_or(Ok(outcome), Err)
}

impl Outcome {
    /// For people: a line for each kind.
    pub fn text(&self, changed: &str) -> String {
        let mut text = String::new();
        for (names, words) in [
            (&self.changed, changed),
            (&self.unchanged, "right already"),
            (
                &self.foreign,
                "somebody else's of the same name, left as they are",
            ),
        ] {
            if !names.is_empty() {
                let _ = writeln!(text, "{words}: {}", names.join(", "));
            }
        }
        text
    }
}

/// Hashes by name, of what we have put there or are about to.
#[derive(Debug, Default)]
struct Record(BTreeMap<String, BTreeSet<String>>);

impl Record {
    fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(RECORD);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed("read", &path, error)),
        };
        Self::parse(&text).ok_or_else(|| {
            let message = format!(
                "{} is no record of installed plugins: remove it, and the plugins that are to be installed anew",
                path.display()
            );
            Error::new(ErrorKind::Decode, message)
        })
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let mut record = Self::default();
        for (name, hashes) in value.get("plugins")?.as_object()? {
            let hashes = hashes.as_array()?.iter().map(|hash| hash.as_str());
            let hashes: Option<BTreeSet<String>> =
                hashes.map(|hash| hash.map(str::to_owned)).collect();
            // Names lead to files, and one of somebody else's making might lead elsewhere.
            if name.is_empty() || name.contains('/') || name == ".." || name == "." {
                return None;
            }
            record.0.insert(name.clone(), hashes?);
        }
        Some(record)
    }

    fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(RECORD);
        let text = format!("{:#}\n", json!({ "plugins": self.0 }));
        durable::put(&path, text.as_bytes(), 0o644).map_err(|error| failed("write", &path, error))
    }

    fn hashes(&self, name: &str) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        self.0.get(name).unwrap_or(&NONE)
    }

    fn add(&mut self, name: &str, hash: &str) {
        let hashes = self.0.entry(name.to_owned()).or_default();
        hashes.insert(hash.to_owned());
    }

    fn only(&mut self, name: &str, hash: String) {
        self.0.insert(name.to_owned(), [hash].into());
    }
}

/// What stands under a plugin's name.
enum Found {
    Nothing,
    /// One that we have put there.
    Ours {
        hash: String,
        mode: u32,
    },
    /// Something else; with its hash where it is a file.
    Foreign(Option<String>),
}

impl Found {
    fn look(path: &Path, ours: &BTreeSet<String>) -> Result<Self> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nothing),
            Err(error) => return Err(failed("read", path, error)),
        };
        if !metadata.is_file() {
            return Ok(Self::Foreign(None));
        }
        let hash = File::open(path).and_then(hash);
        let hash = hash.map_err(|error| failed("read", path, error))?;
        Ok(match ours.contains(&hash) {
            true => Self::Ours {
                mode: metadata.permissions().mode() & 0o7777,
                hash,
            },
            false => Self::Foreign(Some(hash)),
        })
    }
}

/// Files of the image's directory, by name.
fn plugins(from: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(from).map_err(|error| failed("read", from, error))?;
    for entry in entries {
        let path = entry.map_err(|error| failed("read", from, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| !name.starts_with('.'))
            && path.is_file()
        {
            found.push((name.to_owned(), path));
        }
    }
    if found.is_empty() {
        let message = format!("there are no plugins in {}", from.display());
        return Err(Error::new(ErrorKind::Io, message));
    }
    found.sort();
    Ok(found)
}

/// Ends with the process at the latest.
fn lock(directory: &Path) -> Result<File> {
    let file = File::open(directory).map_err(|error| failed("open", directory, error))?;
    file.lock()
        .map_err(|error| failed("lock", directory, error))?;
    Ok(file)
}

/// FNV-1a of 128 bits: it tells files apart, and nobody gains anything by two that have one hash, as whoever can write there
/// is root.
fn hash(mut bytes: impl io::Read) -> io::Result<String> {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut state = BASIS;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match bytes.read(&mut buffer) {
            Ok(0) => return Ok(format!("{state:032x}")),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for byte in buffer.iter().take(length) {
            state = (state ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }
}

fn in_the_way(path: &Path) -> Error {
    let message = format!(
        "{} is there and was not put there by --install: the agent needs its own in that place; move it away",
        path.display()
    );
    Error::new(ErrorKind::InvalidConfig, message)
}

fn is_in(names: &[String], name: &str) -> bool {
    names.iter().any(|have| have == name)
}

fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn failed(verb: &str, path: &Path, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("could not {verb} {}", path.display()),
    )
    .with_source(error)
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
