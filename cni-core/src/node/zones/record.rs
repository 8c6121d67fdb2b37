//! What was put into zones, and what is wanted in them: `zones.json`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Wanted;
use crate::error::{Error, ErrorKind, Result};
use crate::host::zones::ZoneMember;
use crate::node::StateDir;

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
        dir.path().join("zones.json")
    }

    /// Reads it; `None` where there is none. What is none, such as a file of another version, counts as none.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read.
    pub fn read(dir: &StateDir) -> Result<Option<Self>> {
        let path = Self::path(dir);
        match fs::read(&path) {
            Ok(text) => Ok(parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", dir, error)),
        }
    }

    /// Replaces it, as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be written.
    pub fn write(&self, dir: &StateDir) -> Result<()> {
        let fresh = dir.path().join(FRESH);
        let put = || {
            fs::create_dir_all(dir.path())?;
            fs::write(&fresh, text(self))?;
            fs::rename(&fresh, Self::path(dir))
        };
        put().map_err(|error| failed("write", dir, error))
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be removed.
    pub fn remove(dir: &StateDir) -> Result<()> {
        for path in [dir.path().join(FRESH), Self::path(dir)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", dir, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A new file, until it takes the old one's place.
const FRESH: &str = ".zones.json.new";

fn failed(verb: &str, dir: &StateDir, error: io::Error) -> Error {
    let message = format!("could not {verb} {}", Record::path(dir).display());
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
