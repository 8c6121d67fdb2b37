//! What was there before, in a file: the kernel has no place for it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::{LinkSettings, MacAddr, NetlinkChange};
use crate::plan::{Change, Plan};
use crate::spec::names::hash128;
use crate::spec::{Attachment, Mark};

/// Where the reference keeps it. It is in memory and ends with the boot, as do the namespaces.
pub const DATA_DIR: &str = "/run/cni/tuning";

/// Longer names of files are cut by hashing: a container's ID has no length limit, a file's name has (`NAME_MAX`).
const NAME_MAX: usize = 240;

/// What an ADD has changed, as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backup {
    /// The mark of the attachment; `None` in a file of the reference's.
    pub mark: Option<String>,
    /// Hardware address.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Promiscuous mode.
    pub promiscuous: Option<bool>,
    /// All-multicast mode.
    pub all_multicast: Option<bool>,
    /// Transmit queue length in packets.
    pub tx_queue_len: Option<u32>,
    /// Kernel parameters by path.
    pub parameters: BTreeMap<String, Restored>,
}

/// A kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Before the ADD.
    pub was: String,
    /// What the ADD has set.
    pub set: String,
}

impl Backup {
    /// What the steps of an ADD's plan change, as it was before.
    pub fn of(plan: &Plan, attachment: &Attachment) -> Self {
        let mut backup = Self {
            mark: Some(attachment.mark().to_string()),
            ..Self::default()
        };
        for step in plan.steps() {
            for undo in &step.undo {
                match (undo, &step.change) {
                    (Change::Netlink(NetlinkChange::LinkSet { settings, .. }), _) => {
                        backup.take(settings);
                    }
                    (Change::Sysctl { key, value: was }, Change::Sysctl { value: set, .. }) => {
                        let (was, set) = (was.clone(), set.clone());
                        backup.parameters.insert(key.clone(), Restored { was, set });
                    }
                    _ => {}
                }
            }
        }
        backup
    }

    fn take(&mut self, before: &LinkSettings) {
        self.mac = self.mac.or(before.mac);
        self.mtu = self.mtu.or(before.mtu);
        self.promiscuous = self.promiscuous.or(before.promiscuous);
        self.all_multicast = self.all_multicast.or(before.all_multicast);
        self.tx_queue_len = self.tx_queue_len.or(before.tx_queue_len);
    }

    /// Together with that of an ADD before: what was there first is what DEL puts back.
    #[must_use]
    pub fn after(self, first: Option<Self>) -> Self {
        let first = first.unwrap_or_default();
        let mut parameters = self.parameters;
        for (key, earlier) in first.parameters {
            let set = parameters
                .remove(&key)
                .map_or(earlier.set, |later| later.set);
            let was = earlier.was;
            parameters.insert(key, Restored { was, set });
        }
        Self {
            mark: self.mark,
            mac: first.mac.or(self.mac),
            mtu: first.mtu.or(self.mtu),
            promiscuous: first.promiscuous.or(self.promiscuous),
            all_multicast: first.all_multicast.or(self.all_multicast),
            tx_queue_len: first.tx_queue_len.or(self.tx_queue_len),
            parameters,
        }
    }

    /// Whether it is this attachment's: the reference does not say whose.
    pub fn is_of(&self, attachment: &Attachment) -> bool {
        let mark = attachment.mark();
        self.mark
            .as_ref()
            .is_none_or(|found| found == mark.as_str())
    }

    /// Whose it is, when it is one of this crate's.
    pub fn mark(&self) -> Option<Mark> {
        self.mark.as_deref().and_then(Mark::parse)
    }

    /// Reads what [`Backup::to_json`], or the reference, has written. `None` when it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let object = value.as_object()?;
        let text = |key: &str| object.get(key)?.as_str().map(str::to_owned);
        let flag = |key: &str| object.get(key)?.as_bool();
        let number = |key: &str| u32::try_from(object.get(key)?.as_u64()?).ok();
        let mut parameters = BTreeMap::new();
        for (key, value) in object
            .get("sysctl")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
            let (was, set) = (text("was")?, text("set")?);
            parameters.insert(key.clone(), Restored { was, set });
        }
        Some(Self {
            mark: text("mark"),
            mac: text("mac").and_then(|text| text.parse().ok()),
            mtu: number("mtu").filter(|mtu| *mtu != 0),
            promiscuous: flag("promisc"),
            all_multicast: flag("allmulti"),
            tx_queue_len: number("txQLen"),
            parameters,
        })
    }

    /// In the reference's format, with the members `mark` and `sysctl` besides.
    pub fn to_json(&self) -> String {
        let mut object = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(key.to_owned(), value);
            }
        };
        put("mac", self.mac.map(|mac| json!(mac.to_string())));
        put("promisc", self.promiscuous.map(Value::from));
        put("mtu", self.mtu.map(Value::from));
        put("allmulti", self.all_multicast.map(Value::from));
        put("txQLen", self.tx_queue_len.map(Value::from));
        put("mark", self.mark.as_ref().map(|mark| json!(mark)));
        if !self.parameters.is_empty() {
            let parameters = self.parameters.iter().map(|(key, value)| {
                let value = json!({"was": value.was, "set": value.set});
                (key.clone(), value)
            });
            put("sysctl", Some(Value::Object(parameters.collect())));
        }
        Value::Object(object).to_string()
    }
}

/// The file of an attachment, under the reference's name.
pub(super) fn file(directory: &Path, attachment: &Attachment) -> PathBuf {
    let (container, interface) = (&attachment.container, &attachment.interface);
    let mut name = format!("{container}_{interface}.json");
    if name.len() > NAME_MAX {
        let hash = hash128(&[container.as_str()]);
        name = format!("#{hash:032x}_{interface}.json");
    }
    directory.join(name)
}

/// Where the next one is written, until it is whole.
fn draft(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(DRAFT);
    PathBuf::from(name)
}

const DRAFT: &str = ".new";

/// # Errors
/// [`ErrorKind::Io`] when it is there and cannot be read.
pub(super) fn read(file: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", file, error)),
    }
}

/// Writes the file as a whole or not at all: whoever reads it, whenever, finds the one before or this one.
///
/// # Errors
/// [`ErrorKind::Io`]; the file is as it was.
pub(super) fn write(file: &Path, text: &str) -> Result<()> {
    let draft = draft(file);
    let outcome = write_draft(&draft, text).and_then(|()| std::fs::rename(&draft, file));
    outcome.map_err(|error| {
        // What a full disk has taken of it.
        let _ = std::fs::remove_file(&draft);
        failed("write", file, error)
    })
}

fn write_draft(draft: &Path, text: &str) -> io::Result<()> {
    let open = || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(draft)
    };
    let mut file = match (open(), draft.parent()) {
        (Err(error), Some(directory)) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(directory)?;
            std::fs::set_permissions(directory, Permissions::from_mode(0o700))?;
            open()?
        }
        (outcome, _) => outcome?,
    };
    file.write_all(text.as_bytes())
}

/// Removes the file, and what a process that died was writing.
///
/// # Errors
/// [`ErrorKind::Io`]; one that is not there is removed.
pub(super) fn remove(file: &Path) -> Result<()> {
    for path in [draft(file), file.to_owned()] {
        match std::fs::remove_file(&path) {
            Err(error) if !is_absent(&error) => return Err(failed("remove", &path, error)),
            _ => {}
        }
    }
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// All files of this crate's in a directory, with whose they are. Drafts count as the files that they would have become.
///
/// # Errors
/// [`ErrorKind::Io`] when the directory cannot be read.
pub(super) fn all(directory: &Path) -> Result<Vec<(PathBuf, Mark)>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", directory, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| failed("read", directory, error))?
            .path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some(mark) = Backup::parse(&text).and_then(|backup| backup.mark()) {
            let name = path.to_string_lossy();
            let file = PathBuf::from(name.strip_suffix(DRAFT).unwrap_or(&name));
            found.push((file, mark));
        }
    }
    Ok(found)
}

fn failed(verb: &str, path: &Path, error: io::Error) -> Error {
    let message = format!(
        "could not {verb} {}, where tuning keeps what DEL has to put back",
        path.display()
    );
    Error::new(ErrorKind::Io, message).with_source(error)
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
