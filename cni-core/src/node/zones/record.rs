//! What was put into zones, and what is wanted in them: `zones.json`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Wanted;
use crate::error::{Error, ErrorKind, Result};
use crate::host::zones::ZoneMember;
use crate::node::StateDir;
use crate::node::state::take_within;

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// What the node is to have in its zone.
    pub wanted: Wanted,
    /// What this node has added, or was about to add when it ended, by zone.
    pub added: BTreeSet<(String, ZoneMember)>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    zone: String,
    wanted: Members,
    port: Option<(u16, BTreeSet<String>)>,
    withheld: Option<String>,
    added: Vec<(String, Members)>,
}

#[derive(Serialize, Deserialize, Default)]
struct Members {
    interfaces: Vec<String>,
    sources: Vec<String>,
    ports: Vec<u16>,
}

impl Record {
    /// Where it is.
    pub fn path(dir: &StateDir) -> PathBuf {
        dir.path().join(NAME)
    }

    /// Reads it; `None` where there is none. What is none, such as a file of another version, counts as none.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read.
    pub fn read(dir: &StateDir) -> Result<Option<Self>> {
        read(dir.path())
    }

    /// Changes it while nobody else does, or makes it; what it is then. It is replaced as a whole, and only if it has changed.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be written, [`ErrorKind::TryAgain`] when somebody else does not come to an end.
    pub fn alter(dir: &StateDir, change: impl FnOnce(&mut Self)) -> Result<Self> {
        let directory = dir.path();
        let made = fs::create_dir_all(directory);
        made.map_err(|error| failed("write", directory, error))?;
        let _alone = alone(directory)?;
        let before = read(directory)?;
        let mut record = before.clone().unwrap_or_default();
        change(&mut record);
        if before.as_ref() != Some(&record) {
            record.write(directory)?;
        }
        Ok(record)
    }

    /// Leaves a port that was opened in a zone by this network to another one of the node that needs it, as `needs` tells by the
    /// links of that one; whether there is one. Whoever dies then leaves it to both, and who closes it asks the other again.
    ///
    /// # Errors
    /// As [`Record::alter`], and what `needs` answers.
    pub fn hand_over(
        dir: &StateDir,
        (zone, port): (&str, u16),
        needs: &dyn Fn(&BTreeSet<String>) -> Result<bool>,
    ) -> Result<bool> {
        let of_port = |wanted: &Wanted| {
            let (number, links) = wanted.open()?;
            (*number == port).then(|| links.clone())
        };
        let needs_it = |wanted: &Wanted| match of_port(wanted) {
            Some(links) => needs(&links),
            None => Ok(false),
        };
        for directory in others(dir) {
            match read(&directory)? {
                Some(record) if needs_it(&record.wanted)? => {}
                _ => continue,
            }
            let _alone = alone(&directory)?;
            // It may have left meanwhile: from then on it does not look what else is its own.
            if let Some(mut record) = read(&directory)?
                && of_port(&record.wanted).is_some()
            {
                record
                    .added
                    .insert((zone.to_owned(), ZoneMember::Port(port)));
                record.write(&directory)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn write(&self, directory: &Path) -> Result<()> {
        let fresh = directory.join(FRESH);
        let put = || {
            fs::write(&fresh, text(self))?;
            fs::rename(&fresh, directory.join(NAME))
        };
        put().map_err(|error| failed("write", directory, error))
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be removed.
    pub fn remove(dir: &StateDir) -> Result<()> {
        for name in [FRESH, NAME] {
            match fs::remove_file(dir.path().join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", dir.path(), error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

const NAME: &str = "zones.json";

/// A new file, until it takes the old one's place.
const FRESH: &str = ".zones.json.new";

/// For how long another process is waited for, which holds the lock for as long as a small file takes to be written.
const PATIENCE: Duration = Duration::from_secs(2);

fn read(directory: &Path) -> Result<Option<Record>> {
    match fs::read(directory.join(NAME)) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", directory, error)),
    }
}

/// Keeps others from changing it, by a lock of the directory: a file of its own would have to be removed, too.
fn alone(directory: &Path) -> Result<File> {
    let file = File::open(directory).map_err(|error| failed("lock", directory, error))?;
    match take_within(&file, PATIENCE) {
        Ok(true) => Ok(file),
        Ok(false) => {
            let message = format!("another process holds the lock of {}", directory.display());
            Err(Error::new(ErrorKind::TryAgain, message))
        }
        Err(error) => Err(failed("lock", directory, error)),
    }
}

/// The directories of other networks that have put something into zones.
fn others(dir: &StateDir) -> Vec<PathBuf> {
    let above = dir.path().parent();
    let entries = above.and_then(|above| fs::read_dir(above).ok());
    let paths = entries.into_iter().flatten().flatten();
    let paths = paths.map(|entry| entry.path());
    paths
        .filter(|path| path != dir.path() && path.join(NAME).exists())
        .collect()
}

fn failed(verb: &str, directory: &Path, error: io::Error) -> Error {
    let message = format!("could not {verb} {}", directory.join(NAME).display());
    Error::new(ErrorKind::Io, message).with_source(error)
}

fn text(record: &Record) -> String {
    let mut zones: Vec<&String> = record.added.iter().map(|(zone, _)| zone).collect();
    zones.dedup();
    let added = zones.into_iter().map(|zone| {
        let of_zone = record.added.iter().filter(|(other, _)| other == zone);
        (zone.clone(), members(of_zone.map(|(_, member)| member)))
    });
    let wire = Wire {
        zone: record.wanted.zone.clone(),
        wanted: members(record.wanted.members.iter()),
        port: record.wanted.port.clone(),
        withheld: record.wanted.withheld.clone(),
        added: added.collect(),
    };
    // Strings and lists of them always are JSON.
    let mut text = serde_json::to_string(&wire).unwrap_or_default();
    text.push('\n');
    text
}

fn members<'a>(all: impl Iterator<Item = &'a ZoneMember>) -> Members {
    let mut members = Members::default();
    for member in all {
        match member {
            ZoneMember::Interface(name) => members.interfaces.push(name.clone()),
            ZoneMember::Source(prefix) => members.sources.push(prefix.to_string()),
            ZoneMember::Port(port) => members.ports.push(*port),
        }
    }
    members
}

fn parse(text: &[u8]) -> Option<Record> {
    let wire: Wire = serde_json::from_slice(text).ok()?;
    let mut added = BTreeSet::new();
    for (zone, members) in wire.added {
        let members = parsed(members)?.into_iter();
        added.extend(members.map(|member| (zone.clone(), member)));
    }
    Some(Record {
        wanted: Wanted {
            zone: wire.zone,
            members: parsed(wire.wanted)?,
            port: wire.port,
            withheld: wire.withheld,
        },
        added,
    })
}

fn parsed(members: Members) -> Option<BTreeSet<ZoneMember>> {
    let interfaces = members.interfaces.into_iter();
    let interfaces = interfaces.map(|name| Some(ZoneMember::Interface(name)));
    let sources = members.sources.into_iter();
    let sources = sources.map(|source| Some(ZoneMember::Source(source.parse().ok()?)));
    let ports = members.ports.into_iter();
    let ports = ports.map(|port| Some(ZoneMember::Port(port)));
    interfaces.chain(sources).chain(ports).collect()
}
