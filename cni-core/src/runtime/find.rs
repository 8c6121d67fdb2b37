//! Finding a network's configuration in a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::list::{NetworkList, PluginConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::json::Object;

/// Reads the configuration of the network `name` from the files of a directory, in the order of their names: first
/// lists (`*.conflist`), then single plugins (`*.conf`, `*.json`). Directories in it are not looked into.
///
/// Files of other networks may be broken: in the reference library they hide every network after them. When the network
/// is not found, the error names them.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] when no file is about this network, the errors of [`load_list`] when the file that is
/// cannot be decoded, [`ErrorKind::Io`] when the directory cannot be read.
pub fn load(directory: &Path, name: &str) -> Result<NetworkList> {
    let mut broken = Vec::new();
    for path in files(directory, &["conflist", "conf", "json"])? {
        match name_in(&path) {
            Ok(found) if found.as_deref() == Some(name) => return load_list(&path),
            Ok(_) => {}
            Err(error) => broken.push(error.chain()),
        }
    }
    let mut message = format!(
        "there is no configuration of the network {name:?} in {}",
        directory.display()
    );
    if !broken.is_empty() {
        message.push_str(&format!("; not readable: {}", broken.join("; ")));
    }
    Err(Error::new(ErrorKind::InvalidConfig, message))
}

/// Reads a file: a list, or by any other ending than `.conflist` a single plugin.
///
/// A list's plugins are followed by those in `<directory of the file>/<network name>/*.conf`, in the order of the files'
/// names, unless it says `loadOnlyInlinedPlugins`.
///
/// # Errors
/// [`ErrorKind::Io`] when a file cannot be read, and those of [`NetworkList::parse`].
pub fn load_list(path: &Path) -> Result<NetworkList> {
    let in_file = |error: Error| error.context(format!("in {}", path.display()));
    let text = read(path)?;
    if path.extension().is_none_or(|ending| ending != "conflist") {
        return NetworkList::parse_single(&text).map_err(in_file);
    }
    let mut list = NetworkList::parse_without_plugins(&text).map_err(in_file)?;
    if !NetworkList::only_inlined(&text).map_err(in_file)? {
        let directory = path.parent().unwrap_or(Path::new("."));
        list.plugins
            .extend(drop_ins(&directory.join(list.name.as_str()))?);
    }
    if list.plugins.is_empty() {
        return Err(in_file(Error::new(
            ErrorKind::InvalidConfig,
            format!("the network {} has no plugins", list.name),
        )));
    }
    Ok(list)
}

fn drop_ins(directory: &Path) -> Result<Vec<PluginConfig>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    files(directory, &["conf"])?
        .iter()
        .map(|path| {
            PluginConfig::parse(&read(path)?)
                .map_err(|error| error.context(format!("in {}", path.display())))
        })
        .collect()
}

fn name_in(path: &Path) -> Result<Option<String>> {
    let text = read(path)?;
    Object::parse(&text)
        .and_then(|object| object.string("name"))
        .map_err(|error| error.context(format!("in {}", path.display())))
}

/// The directory's files with one of the endings, ordered by ending and name.
fn files(directory: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let failed = |error: io::Error| {
        Error::new(
            ErrorKind::Io,
            format!("could not read the directory {}", directory.display()),
        )
        .with_source(error)
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        let Some(place) = endings.iter().position(|wanted| Some(*wanted) == ending) else {
            continue;
        };
        if path.is_file() {
            // Lists are preferred; the other two endings are equal.
            found.push((place.min(1), path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("could not read {}", path.display())).with_source(error)
    })
}
