//! Makes the zone be as it is wanted: only the differences, and each of them written down before it is made.

use std::collections::{BTreeMap, BTreeSet};

use super::{Record, Wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::host::zones::{Added, HostZones, ZoneMember};
use crate::node::StateDir;

/// What a pass has done, and what is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Passed {
    /// firewalld rules this host.
    pub running: bool,
    /// What keeps pods' packets from being let through, in words.
    pub flaws: Vec<String>,
    /// What was put into zones.
    pub added: Vec<ZoneMember>,
    /// What was taken out of them.
    pub removed: Vec<ZoneMember>,
}

/// How many members are told of by name.
const WORDS_MAX: usize = 4;

/// How many commands are told to whoever has to give them himself.
const COMMANDS_MAX: usize = 8;

/// Compares and makes the difference; nothing is done where firewalld does not run. What has not begun when `goes_on` says no is left
/// to the next pass. The caller is the only one who does it.
pub fn pass(
    zones: &dyn HostZones,
    dir: &StateDir,
    wanted: &Wanted,
    removal: bool,
    goes_on: &dyn Fn() -> bool,
) -> Passed {
    let mut passed = Passed::default();
    if let Err(error) = attempt(zones, dir, wanted, removal, goes_on, &mut passed) {
        passed.flaws.push(error.chain());
    }
    passed
}

fn attempt(
    zones: &dyn HostZones,
    dir: &StateDir,
    wanted: &Wanted,
    removal: bool,
    goes_on: &dyn Fn() -> bool,
    passed: &mut Passed,
) -> Result<()> {
    let before = Record::read(dir)?;
    let running = zones.is_running()?;
    // Before anything is asked that may have no answer: by what is written there, others see what is lacking. One that does not
    // run has forgotten everything when it comes, and what is wanted then must not be what once was.
    let is_written = before
        .as_ref()
        .is_some_and(|before| before.wanted == *wanted);
    if !is_written && (running || before.is_some()) {
        Record::alter(dir, |record| record.wanted.clone_from(wanted))?;
    }
    if !running {
        return Ok(());
    }
    passed.running = true;
    let look = look(zones, wanted, goes_on)?;
    let lacking = look.lacking;
    let record = Record::alter(dir, |record| record.added.extend(lacking.iter().cloned()))?;
    let mut work = Work::new((zones, dir), record, goes_on, passed);
    let mut outcome = work.add(&lacking);
    if outcome.is_ok() && removal {
        outcome = work.remove(&look.wanted);
    }
    work.write()?;
    outcome?;
    passed.flaws.extend(closed(zones, wanted, goes_on)?);
    Ok(())
}

/// Where the tunnel's port must not be opened to everybody, and nobody else has opened it, be it to some.
fn closed(
    zones: &dyn HostZones,
    wanted: &Wanted,
    goes_on: &dyn Fn() -> bool,
) -> Result<Vec<String>> {
    let (Some((port, links)), Some(why)) = (&wanted.port, &wanted.withheld) else {
        return Ok(Vec::new());
    };
    let mut flaws = BTreeMap::new();
    for link in links {
        in_time(goes_on)?;
        let zone = zones.zone_of(link)?;
        if !zones.has(&zone, &ZoneMember::Port(*port))? && !zones.opens(&zone, *port)? {
            let words = format!(
                "the tunnel's port {port}/udp is not opened in firewalld's zone {zone}, as {why}: where peers are not let in by other \
                 means, do it for them alone: firewall-cmd --zone={zone} --add-rich-rule='rule family=\"ipv4\" source \
                 address=\"NODES\" port port=\"{port}\" protocol=\"udp\" accept', NODES being a prefix of their addresses"
            );
            flaws.insert(zone, words);
        }
    }
    Ok(flaws.into_values().collect())
}

/// What is wanted, by zone, and what of it is not there.
struct Look {
    wanted: BTreeSet<InZone>,
    lacking: Vec<InZone>,
}

type InZone = (String, ZoneMember);

/// Asks what there is, for as long as it goes on.
fn look(zones: &dyn HostZones, wanted: &Wanted, goes_on: &dyn Fn() -> bool) -> Result<Look> {
    in_time(goes_on)?;
    let present: BTreeSet<ZoneMember> = zones.members(&wanted.zone)?.into_iter().collect();
    let in_zone = |member: &ZoneMember| (wanted.zone.clone(), member.clone());
    let mut look = Look {
        wanted: wanted.members.iter().map(in_zone).collect(),
        lacking: wanted.members.difference(&present).map(in_zone).collect(),
    };
    if let Some((port, links)) = wanted.open() {
        for link in links {
            in_time(goes_on)?;
            let zone = zones.zone_of(link)?;
            let port = ZoneMember::Port(*port);
            if look.wanted.contains(&(zone.clone(), port.clone())) {
                continue;
            }
            if !zones.has(&zone, &port)? {
                look.lacking.push((zone.clone(), port.clone()));
            }
            look.wanted.insert((zone, port));
        }
    }
    Ok(look)
}

/// What is being done to zones, and what of it is ours.
struct Work<'a> {
    zones: &'a dyn HostZones,
    dir: &'a StateDir,
    goes_on: &'a dyn Fn() -> bool,
    /// What was ours when it began.
    before: BTreeSet<InZone>,
    added: BTreeSet<InZone>,
    /// What firewalld does not have where it is wanted.
    refused: BTreeSet<ZoneMember>,
    passed: &'a mut Passed,
}

impl<'a> Work<'a> {
    fn new(
        (zones, dir): (&'a dyn HostZones, &'a StateDir),
        record: Record,
        goes_on: &'a dyn Fn() -> bool,
        passed: &'a mut Passed,
    ) -> Self {
        Self {
            zones,
            dir,
            goes_on,
            before: record.added.clone(),
            added: record.added,
            refused: BTreeSet::new(),
            passed,
        }
    }

    /// Writes down what is not ours any more. What others have left to this network meanwhile is.
    fn write(&self) -> Result<()> {
        if self.added != self.before {
            let gone: BTreeSet<&InZone> = self.before.difference(&self.added).collect();
            Record::alter(self.dir, |record| {
                record.added.retain(|in_zone| !gone.contains(in_zone));
            })?;
        }
        Ok(())
    }

    fn add(&mut self, lacking: &[InZone]) -> Result<()> {
        for (place, (zone, member)) in lacking.iter().enumerate() {
            if !(self.goes_on)() {
                return Err(late(self.forget(lacking, place)));
            }
            let strangers = match self.put(zone, member) {
                Ok(Added::New) => {
                    tracing::debug!(zone, %member, "put into firewalld's zone");
                    self.passed.added.push(member.clone());
                    false
                }
                Ok(Added::Already) => true,
                Err(error) if is_refusal(&error) => {
                    self.passed.flaws.push(error.chain());
                    self.refused.insert(member.clone());
                    true
                }
                Err(error) => {
                    // That one may have been done.
                    self.forget(lacking, place + 1);
                    return Err(error);
                }
            };
            if strangers {
                self.added.remove(&(zone.clone(), member.clone()));
            }
        }
        Ok(())
    }

    /// Into the zone, be it out of one that it was put into here: between the two it would be in none.
    fn put(&mut self, zone: &str, member: &ZoneMember) -> Result<Added> {
        let Some(former) = former(self.zones, &self.added, zone, member)? else {
            return self.zones.add(zone, member);
        };
        self.zones.change(&former, zone, member)?;
        self.added.remove(&(former, member.clone()));
        Ok(Added::New)
    }

    /// What was not begun is not ours; how much that is.
    fn forget(&mut self, lacking: &[InZone], from: usize) -> usize {
        let rest = lacking.get(from..).unwrap_or_default();
        for in_zone in rest {
            self.added.remove(in_zone);
        }
        rest.len()
    }

    /// What was added and is not wanted any more. What is not where it is wanted is better where it was.
    fn remove(&mut self, wanted: &BTreeSet<InZone>) -> Result<()> {
        let surplus = self.added.difference(wanted);
        let surplus = surplus.filter(|(_, member)| !self.refused.contains(member));
        let surplus: Vec<InZone> = surplus.cloned().collect();
        for (place, (zone, member)) in surplus.iter().enumerate() {
            if !(self.goes_on)() {
                return Err(late(surplus.len() - place));
            }
            if self.hand_over(zone, member)? {
                tracing::debug!(zone, %member, "left to another network in firewalld's zone");
            } else {
                self.zones.remove(zone, member)?;
                tracing::debug!(zone, %member, "taken out of firewalld's zone");
                self.passed.removed.push(member.clone());
            }
            self.added.remove(&(zone.clone(), member.clone()));
        }
        Ok(())
    }

    /// Networks of one port find it open once one of them has opened it: then that is written down there alone.
    fn hand_over(&self, zone: &str, member: &ZoneMember) -> Result<bool> {
        let ZoneMember::Port(port) = member else {
            return Ok(false);
        };
        Record::hand_over(self.dir, (zone, *port), &|links| {
            for link in links {
                if self.zones.zone_of(link)? == zone {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}

/// Another zone that a member was put into here, and still is in. A port may be open in several.
fn former(
    zones: &dyn HostZones,
    added: &BTreeSet<InZone>,
    zone: &str,
    member: &ZoneMember,
) -> Result<Option<String>> {
    if matches!(member, ZoneMember::Port(_)) {
        return Ok(None);
    }
    for (other, _) in added.iter().filter(|(_, known)| known == member) {
        if other != zone && zones.has(other, member)? {
            return Ok(Some(other.clone()));
        }
    }
    Ok(None)
}

/// What the zone lacks, in words; `None` where it lacks nothing, or firewalld does not run.
///
/// # Errors
/// When firewalld does not answer, or not before `goes_on` says no, or has no such zone.
pub fn lacking(
    zones: &dyn HostZones,
    wanted: &Wanted,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<String>> {
    if !zones.is_running()? {
        return Ok(None);
    }
    let lacking = look(zones, wanted, goes_on)?.lacking;
    let words = lacking.iter().take(WORDS_MAX);
    let mut words: Vec<String> = words
        .map(|(zone, member)| format!("{member} in its zone {zone}"))
        .collect();
    if let Some(more @ 1..) = lacking.len().checked_sub(WORDS_MAX) {
        words.push(format!("{more} more"));
    }
    Ok((!words.is_empty()).then(|| {
        format!(
            "firewalld does not know {}, and may reject what pods send",
            words.join(", ")
        )
    }))
}

/// What a pass would do, as commands.
///
/// # Errors
/// As [`lacking`], and when the file cannot be read.
pub fn commands(zones: &dyn HostZones, dir: &StateDir, wanted: &Wanted) -> Result<Vec<String>> {
    if !zones.is_running()? {
        return Ok(Vec::new());
    }
    let look = look(zones, wanted, &|| true)?;
    let mut added = Record::read(dir)?.unwrap_or_default().added;
    let mut commands = Vec::new();
    for (zone, member) in &look.lacking {
        let former = former(zones, &added, zone, member)?;
        let verb = former.as_ref().map_or("add", |_| "change");
        commands.push(member.command(zone, verb));
        added.retain(|(other, known)| known != member || former.as_ref() != Some(other));
    }
    let surplus = added.difference(&look.wanted);
    commands.extend(surplus.map(|(zone, member)| member.command(zone, "remove")));
    Ok(commands)
}

/// Takes out all that was added; how much that was. `ruled` says whether firewalld's rules are in force
/// ([`rules`](crate::host::zones::rules)): then who does not seem to run has forgotten nothing, and only is not reached.
///
/// # Errors
/// What could not be taken out: the file still tells of it.
pub fn withdraw(zones: &dyn HostZones, dir: &StateDir, ruled: bool) -> Result<usize> {
    let Some(record) = Record::read(dir)? else {
        return Ok(0);
    };
    let mut passed = Passed::default();
    if !record.added.is_empty() && zones.is_running()? {
        // Of two networks that leave at once, one at least must see that nobody needs the port any more.
        let record = Record::alter(dir, |record| record.wanted.port = None)?;
        let mut work = Work::new((zones, dir), record, &|| true, &mut passed);
        let removed = work.remove(&BTreeSet::new());
        if removed.is_err() {
            work.write()?;
            return removed.map(|()| 0);
        }
    } else if ruled && !record.added.is_empty() {
        return Err(unreached(dir, &record));
    }
    Record::remove(dir)?;
    Ok(passed.removed.len())
}

fn unreached(dir: &StateDir, record: &Record) -> Error {
    let commands = record.added.iter().take(COMMANDS_MAX);
    let mut commands: Vec<String> = commands
        .map(|(zone, member)| member.command(zone, "remove"))
        .collect();
    let file = Record::path(dir);
    if let Some(more @ 1..) = record.added.len().checked_sub(COMMANDS_MAX) {
        commands.push(format!("{more} more of {}", file.display()));
    }
    let message = format!(
        "firewalld's rules are in force here, {} of its members are this network's, and this process does not reach firewalld on the \
         system's message bus: in a container it needs /run/dbus; one that has died forgets them when it starts; or do it yourself, and \
         remove {}: {}",
        record.added.len(),
        file.display(),
        commands.join("; ")
    );
    Error::new(ErrorKind::NotAvailable, message)
}

fn in_time(goes_on: &dyn Fn() -> bool) -> Result<()> {
    match goes_on() {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::TryAgain,
            "firewalld takes long to tell what is in its zones",
        )),
    }
}

fn late(left: usize) -> Error {
    let message =
        format!("firewalld takes long, and has {left} members of the zone left to see to");
    Error::new(ErrorKind::TryAgain, message)
}

/// firewalld says no, and has answered.
fn is_refusal(error: &Error) -> bool {
    std::error::Error::source(error).is_none()
}
