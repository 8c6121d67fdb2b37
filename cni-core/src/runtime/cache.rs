//! The results of ADD, kept for CHECK, DEL and GC, in the reference library's format (`libcni/api.go`, `cniCacheV1`).
//!
//! That library names a file `<network>-<container>-<interface>`; as all three may hold hyphens, two attachments can
//! share one, and the second ADD overwrites the first's result. Ours are joined by a colon, which none of the three may
//! hold. Files under the reference library's names are read, and removed, if they are this attachment's.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Target;
use super::list::NetworkList;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::json::Object;
use crate::spec::{ContainerId, InterfaceName, NetworkName};

const KIND: &str = "cniCacheV1";

/// A directory of results.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    directory: PathBuf,
}

/// One attachment that the cache knows.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) container: String,
    pub(super) interface: String,
    pub(super) netns: String,
    pub(super) args: Vec<[String; 2]>,
    pub(super) capability_args: Vec<(String, Box<RawValue>)>,
    /// The result's text.
    pub(super) result: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    kind: &'a str,
    container_id: &'a str,
    config: String,
    if_name: &'a str,
    network_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    netns: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cni_args: Vec<[&'a str; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability_args: Option<Box<RawValue>>,
    result: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Args {
    cni_args: Option<Vec<[String; 2]>>,
}

impl Cache {
    /// Results below `<directory>/results`.
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.join("results"),
        }
    }

    /// Keeps a result. A reader sees the old file or the new one, never a part: it is written beside and renamed.
    pub(super) fn write(&self, list: &NetworkList, target: &Target, result: &str) -> Result<()> {
        let path = self.path(list.name.as_str(), &target.container, &target.interface);
        self.put(&path, list, target, result).map_err(|error| {
            Error::new(
                ErrorKind::Io,
                format!("could not keep the result in {}", path.display()),
            )
            .with_source(error)
        })
    }

    fn put(
        &self,
        path: &Path,
        list: &NetworkList,
        target: &Target,
        result: &str,
    ) -> io::Result<()> {
        let netns = target.netns.as_deref().map(Path::to_string_lossy);
        let args = target
            .args
            .split(';')
            .filter_map(|pair| pair.split_once('='));
        let text = serde_json::to_vec(&Written {
            kind: KIND,
            container_id: target.container.as_str(),
            config: base64(list.raw.as_bytes()),
            if_name: target.interface.as_str(),
            network_name: list.name.as_str(),
            netns: netns.as_deref().unwrap_or_default(),
            cni_args: args.map(|(key, value)| [key, value]).collect(),
            capability_args: object_of(&target.capability_args)?,
            result: serde_json::from_str(result)?,
        })?;
        fs::create_dir_all(&self.directory)?;
        fs::set_permissions(&self.directory, Permissions::from_mode(0o700))?;
        let beside = self.directory.join(temporary_name());
        let written = write_synced(&beside, &text).and_then(|()| fs::rename(&beside, path));
        if written.is_err() {
            // What is left of it is never read; a second failure has nothing to add to the first.
            let _ = fs::remove_file(&beside);
        }
        written
    }

    /// What is kept of an attachment; `None` when nothing is.
    pub(super) fn read(&self, list: &NetworkList, target: &Target) -> Result<Option<Entry>> {
        let name = list.name.as_str();
        let own = self.path(name, &target.container, &target.interface);
        if let Some((_, entry)) = read_entry(&own)? {
            return Ok(Some(entry));
        }
        let legacy = self.legacy_path(name, &target.container, &target.interface);
        let entry = read_entry(&legacy)?;
        Ok(entry.and_then(|(network, mut entry)| {
            if network.is_empty() {
                // The bare result of an old runtime.
                entry.container = target.container.to_string();
                entry.interface = target.interface.to_string();
                return Some(entry);
            }
            is_of(&network, &entry, name, target).then_some(entry)
        }))
    }

    /// Every attachment of a network that is kept. Files that cannot be read are passed over.
    pub(super) fn of_network(&self, network: &NetworkName) -> Result<Vec<Entry>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Error::new(
                    ErrorKind::Io,
                    format!("could not list the results in {}", self.directory.display()),
                )
                .with_source(error));
            }
        };
        let mut found: Vec<Entry> = entries
            .filter_map(Result::ok)
            .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
            .filter_map(|entry| read_entry(&entry.path()).ok()?)
            .filter(|(name, _)| name == network.as_str())
            .map(|(_, entry)| entry)
            .collect();
        found.sort_by(|a, b| (&a.container, &a.interface).cmp(&(&b.container, &b.interface)));
        found.dedup_by(|a, b| (&a.container, &a.interface) == (&b.container, &b.interface));
        Ok(found)
    }

    /// Forgets an attachment.
    pub(super) fn remove(&self, list: &NetworkList, target: &Target) -> Result<()> {
        let name = list.name.as_str();
        let legacy = self.legacy_path(name, &target.container, &target.interface);
        // A broken file is nobody's.
        let others = matches!(read_entry(&legacy), Ok(Some((network, entry)))
            if !network.is_empty() && !is_of(&network, &entry, name, target));
        if !others {
            remove_file(&legacy)?;
        }
        remove_file(&self.path(name, &target.container, &target.interface))
    }

    fn path(&self, network: &str, container: &ContainerId, interface: &InterfaceName) -> PathBuf {
        self.directory
            .join(format!("{network}:{container}:{interface}"))
    }

    fn legacy_path(
        &self,
        network: &str,
        container: &ContainerId,
        interface: &InterfaceName,
    ) -> PathBuf {
        self.directory
            .join(format!("{network}-{container}-{interface}"))
    }
}

fn is_of(network: &str, entry: &Entry, name: &str, target: &Target) -> bool {
    network == name
        && entry.container == target.container.as_str()
        && entry.interface == target.interface.as_str()
}

/// A name that is not a result's, as those begin with a letter or a digit, and not another thread's or process's.
fn temporary_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(".{}.{count}.new", std::process::id())
}

/// The text is on the disk before its name is: a crash leaves the old file or the new one, not an empty one.
fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.sync_data()
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::new(
            ErrorKind::Io,
            format!("could not remove {}", path.display()),
        )
        .with_source(error)),
        _ => Ok(()),
    }
}

/// The network's name (empty in an old file) and what is kept.
fn read_entry(path: &Path) -> Result<Option<(String, Entry)>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(
                Error::new(ErrorKind::Io, format!("could not read {}", path.display()))
                    .with_source(error),
            );
        }
    };
    let broken = |error: Error| {
        error
            .context(format!("the kept result {} is broken", path.display()))
            .with_kind(ErrorKind::Decode)
    };
    parse_entry(&text).map(Some).map_err(broken)
}

fn parse_entry(text: &str) -> Result<(String, Entry)> {
    let object = Object::parse(text)?;
    let string = |name: &str| -> Result<String> { Ok(object.string(name)?.unwrap_or_default()) };
    let mut entry = Entry {
        container: string("containerId")?,
        interface: string("ifName")?,
        netns: string("netns")?,
        args: Vec::new(),
        capability_args: Vec::new(),
        result: text.to_owned(),
    };
    if string("kind")? != KIND {
        return Ok((String::new(), entry));
    }
    let args: Option<Args> = serde_json::from_str(text).ok();
    entry.args = args.and_then(|args| args.cni_args).unwrap_or_default();
    if let Some(args) = object.object("capabilityArgs")? {
        entry.capability_args = args
            .iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
    }
    entry.result = object
        .member("result")
        .ok_or_else(|| object.missing("result"))?
        .get()
        .to_owned();
    Ok((string("networkName")?, entry))
}

fn object_of(members: &[(String, Box<RawValue>)]) -> io::Result<Option<Box<RawValue>>> {
    if members.is_empty() {
        return Ok(None);
    }
    let map: std::collections::BTreeMap<&str, &RawValue> = members
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_ref()))
        .collect();
    Ok(Some(serde_json::value::to_raw_value(&map)?))
}

/// RFC 4648, section 4: how the reference library's files hold the configuration.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let index = (bits >> (18 - 6 * position)) & 63;
            let digit = ALPHABET.get(index as usize).copied().unwrap_or(b'=');
            let padding = position > chunk.len();
            text.push(if padding { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
