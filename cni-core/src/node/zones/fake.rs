//! A firewalld of the tests, and a network's directory.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Passed, Wanted, pass};
use crate::error::{Error, ErrorKind, Result};
use crate::host::zones::{Added, Following, HostZones, NoZones, ZoneMember};
use crate::node::{NodeConfig, StateDir};
use crate::spec::config::NetworkConfig;

pub(crate) type Members = BTreeSet<(String, ZoneMember)>;

/// A firewalld that falls silent with its `silent_at`-th call, be it before or after that one is done.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) members: Mutex<Members>,
    pub(crate) calls: AtomicU32,
    pub(crate) changes: AtomicU32,
    pub(crate) silent_at: Option<(u32, bool)>,
    pub(crate) stopped: bool,
    /// What it refuses to have in another zone.
    pub(crate) permanent: Option<&'static str>,
    /// The zone in which a rule lets somebody in to the port.
    pub(crate) opened: Option<&'static str>,
    /// Is called whenever it is asked what is in a zone, or to add to it.
    pub(crate) asked: Option<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    pub(crate) fn with(members: &[(&str, &str)]) -> Self {
        let members = members
            .iter()
            .map(|(zone, text)| (zone.to_string(), member(text)));
        Self {
            members: Mutex::new(members.collect()),
            ..Self::default()
        }
    }

    pub(crate) fn members_of(&self, zone: &str) -> Vec<String> {
        let members = self.members.lock().unwrap();
        let of_zone = members.iter().filter(|(other, _)| other == zone);
        of_zone.map(|(_, member)| member.to_string()).collect()
    }

    fn call<T>(&self, act: impl FnOnce(&mut Members) -> Result<T>) -> Result<T> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let silent = || Err(Error::new(ErrorKind::Io, "no answer").with_source("timed out"));
        match self.silent_at {
            Some((at, done)) if number == at && done => {
                let _ = act(&mut self.members.lock().unwrap());
                silent()
            }
            Some((at, _)) if number >= at => silent(),
            _ => act(&mut self.members.lock().unwrap()),
        }
    }
}

impl HostZones for Fake {
    fn is_running(&self) -> Result<bool> {
        self.call(|_| Ok(!self.stopped))
    }

    fn zone_of(&self, interface: &str) -> Result<String> {
        self.call(|members| {
            let own = |(_, member): &&(String, ZoneMember)| member.to_string() == interface;
            let found = members.iter().find(own);
            Ok(found.map_or("public".to_owned(), |(zone, _)| zone.clone()))
        })
    }

    fn has(&self, zone: &str, member: &ZoneMember) -> Result<bool> {
        self.call(|members| Ok(members.contains(&(zone.to_owned(), member.clone()))))
    }

    fn opens(&self, zone: &str, _: u16) -> Result<bool> {
        self.call(|_| Ok(self.opened == Some(zone)))
    }

    fn members(&self, zone: &str) -> Result<Vec<ZoneMember>> {
        if let Some(asked) = &self.asked {
            asked();
        }
        self.call(|members| {
            let of_zone = members.iter().filter(|(other, _)| other == zone);
            Ok(of_zone.map(|(_, member)| member.clone()).collect())
        })
    }

    fn add(&self, zone: &str, member: &ZoneMember) -> Result<Added> {
        if let Some(asked) = &self.asked {
            asked();
        }
        self.call(|members| {
            self.changes.fetch_add(1, Ordering::Relaxed);
            // A port may be open in several.
            let is_port = matches!(member, ZoneMember::Port(_));
            if !is_port && members.iter().any(|(_, other)| other == member) {
                return Err(Error::new(ErrorKind::Io, "ZONE_CONFLICT"));
            }
            members.insert((zone.to_owned(), member.clone()));
            Ok(Added::New)
        })
    }

    fn change(&self, from: &str, zone: &str, member: &ZoneMember) -> Result<()> {
        self.call(|members| {
            self.changes.fetch_add(1, Ordering::Relaxed);
            if self.permanent == Some(&*member.to_string()) {
                return Err(Error::new(ErrorKind::Io, "PERMANENT"));
            }
            assert!(members.remove(&(from.to_owned(), member.clone())));
            members.insert((zone.to_owned(), member.clone()));
            Ok(())
        })
    }

    fn remove(&self, zone: &str, member: &ZoneMember) -> Result<()> {
        self.call(|members| {
            self.changes.fetch_add(1, Ordering::Relaxed);
            members.remove(&(zone.to_owned(), member.clone()));
            Ok(())
        })
    }

    fn follow(&self, _: Box<dyn Fn() + Send>) -> Result<Box<dyn Following>> {
        Ok(Box::new(NoZones))
    }
}

pub(crate) fn member(text: &str) -> ZoneMember {
    match (text.parse(), text.parse()) {
        (Ok(prefix), _) => ZoneMember::Source(prefix),
        (_, Ok(port)) => ZoneMember::Port(port),
        _ => ZoneMember::Interface(text.to_owned()),
    }
}

pub(crate) fn needs(members: &[&str]) -> Wanted {
    Wanted {
        zone: "trusted".to_owned(),
        members: members.iter().map(|text| member(text)).collect(),
        port: None,
        withheld: None,
    }
}

/// A directory that goes with the test.
pub(crate) struct Dir {
    pub(crate) path: PathBuf,
    pub(crate) config: NodeConfig,
    pub(crate) state: StateDir,
}

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cni-zones-{}-{number}", std::process::id());
        Self::of(std::env::temp_dir().join(name), 167)
    }

    /// Another network's on the same node.
    pub(crate) fn beside(&self) -> Self {
        Self::of(self.path.clone(), 168)
    }

    fn of(path: PathBuf, protocol: u8) -> Self {
        let text = format!(
            r#"{{"cniVersion":"1.1.0","name":"n","type":"vxlan","cluster":{{"file":"/f"}},"stateDir":"{}","routeProtocol":{protocol}}}"#,
            path.display()
        );
        let config = NetworkConfig::parse(text.as_bytes()).unwrap();
        let config = NodeConfig::parse(&config).unwrap();
        let state = StateDir::of(&config);
        Self {
            path,
            config,
            state,
        }
    }

    pub(crate) fn pass(&self, zones: &Fake, wanted: &Wanted) -> Passed {
        pass(zones, &self.state, wanted, true, &|| true)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
