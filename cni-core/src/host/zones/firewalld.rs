//! firewalld on the system's message bus.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::bus::{Answer, Bus, Call, Refused};
use super::{Added, Following, HostZones, Listener, ZoneMember};
use crate::error::{Error, ErrorKind, Result};

/// firewalld on the system's message bus.
#[derive(Debug)]
pub struct Firewalld {
    bus: Mutex<Option<Bus>>,
    patience: Duration,
}

/// firewalld's name on the bus.
const NAME: &str = "org.fedoraproject.FirewallD1";
const PATH: &str = "/org/fedoraproject/FirewallD1";
const ZONE: &str = "org.fedoraproject.FirewallD1.zone";

/// firewalld may apply a thousand rules before it answers; libdbus waits as long by default.
const PATIENCE: Duration = Duration::from_secs(25);

impl Default for Firewalld {
    fn default() -> Self {
        Self::new()
    }
}

impl Firewalld {
    /// Connects when it is first asked.
    pub fn new() -> Self {
        Self::patient(PATIENCE)
    }

    /// As [`Firewalld::new`], for a caller that waits for no answer longer than this.
    pub fn patient(patience: Duration) -> Self {
        Self {
            bus: Mutex::default(),
            patience,
        }
    }

    pub(crate) fn call(&self, call: &Call<'_>) -> Result<Result<Answer, Refused>> {
        self.ask(call).map_err(unreachable)
    }

    pub(crate) fn zone(&self, member: &str, arguments: &[&str]) -> Result<Result<Answer, Refused>> {
        self.call(&zone_call(member, arguments))
    }

    /// Does something to a member of a zone, or asks for it. What is added is added without an end.
    fn of_member(
        &self,
        verb: &str,
        zone: &str,
        member: &ZoneMember,
    ) -> Result<Result<Answer, Refused>> {
        let (kind, text) = match member {
            ZoneMember::Interface(name) => ("Interface", name.clone()),
            ZoneMember::Source(prefix) => ("Source", prefix.to_string()),
            ZoneMember::Port(port) => ("Port", port.to_string()),
        };
        let (method, is_port) = (format!("{verb}{kind}"), kind == "Port");
        let arguments: &[&str] = match is_port {
            true => &[zone, &text, "udp"],
            false => &[zone, &text],
        };
        self.call(&Call {
            number: (is_port && verb == ADD).then_some(0),
            ..zone_call(&method, arguments)
        })
    }

    fn ask(&self, call: &Call<'_>) -> io::Result<Result<Answer, Refused>> {
        let mut kept = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut bus) = kept.take() {
            match bus.call(call) {
                Ok(answer) => {
                    *kept = Some(bus);
                    return Ok(answer);
                }
                Err(error) if is_late(&error) => return Err(error),
                // A bus that has been started anew knows nothing of this connection.
                Err(_) => {}
            }
        }
        let mut bus = Bus::connect(self.patience)?;
        let answer = bus.call(call)?;
        *kept = Some(bus);
        Ok(answer)
    }

    /// Whether it is in the configuration that firewalld has after a reload.
    fn is_permanent(&self, zone: &str, member: &ZoneMember) -> Result<bool> {
        let found = self.call(&Call {
            path: "/org/fedoraproject/FirewallD1/config",
            interface: "org.fedoraproject.FirewallD1.config",
            ..zone_call("getZoneByName", &[zone])
        })?;
        let Ok(Answer::Text(path)) = found else {
            return Ok(false);
        };
        let text = member.to_string();
        let (method, arguments): (&str, &[&str]) = match member {
            ZoneMember::Interface(_) => ("queryInterface", &[&text]),
            ZoneMember::Source(_) => ("querySource", &[&text]),
            ZoneMember::Port(port) => ("queryPort", &[&port.to_string(), "udp"]),
        };
        let found = self.call(&Call {
            path: &path,
            interface: "org.fedoraproject.FirewallD1.config.zone",
            ..zone_call(method, arguments)
        })?;
        Ok(found == Ok(Answer::Truth(true)))
    }

    fn owned(&self) -> io::Result<bool> {
        let asked = self.ask(&Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "NameHasOwner",
            arguments: &[NAME],
            number: None,
        });
        match asked {
            Ok(answer) => Ok(answer == Ok(Answer::Truth(true))),
            Err(error) if is_absent(&error) => {
                tracing::debug!(%error, "there is no message bus, and so no firewalld");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn listed(&self, member: &str, zone: &str) -> Result<Vec<String>> {
        match self.zone(member, &[zone])? {
            Ok(Answer::Texts(texts)) => Ok(texts),
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(refused(format!("list what is in zone {zone}"), &error)),
        }
    }
}

const ADD: &str = "add";

fn zone_call<'a>(member: &'a str, arguments: &'a [&'a str]) -> Call<'a> {
    Call {
        destination: NAME,
        path: PATH,
        interface: ZONE,
        member,
        arguments,
        number: None,
    }
}

impl HostZones for Firewalld {
    fn is_running(&self) -> Result<bool> {
        self.owned().map_err(unreachable)
    }

    fn zone_of(&self, interface: &str) -> Result<String> {
        if let Ok(Answer::Text(zone)) = self.zone("getZoneOfInterface", &[interface])?
            && !zone.is_empty()
        {
            return Ok(zone);
        }
        let default = Call {
            interface: NAME,
            ..zone_call("getDefaultZone", &[])
        };
        match self.call(&default)? {
            Ok(Answer::Text(zone)) => Ok(zone),
            Ok(_) => Ok(String::new()),
            Err(error) => Err(refused("tell its default zone".to_owned(), &error)),
        }
    }

    fn has(&self, zone: &str, member: &ZoneMember) -> Result<bool> {
        let found = self.of_member("query", zone, member)?;
        Ok(found == Ok(Answer::Truth(true)))
    }

    fn opens(&self, zone: &str, port: u16) -> Result<bool> {
        let rules = self.listed("getRichRules", zone)?;
        let element = format!(" port port=\"{port}\" protocol=\"udp\" ");
        let opens = |rule: &String| rule.contains(&element) && rule.contains(" accept");
        Ok(rules.iter().any(opens))
    }

    fn members(&self, zone: &str) -> Result<Vec<ZoneMember>> {
        let interfaces = self.listed("getInterfaces", zone)?.into_iter();
        let mut members: Vec<ZoneMember> = interfaces.map(ZoneMember::Interface).collect();
        let sources = self.listed("getSources", zone)?;
        members.extend(sources.iter().filter_map(|text| ZoneMember::source(text)));
        Ok(members)
    }

    fn add(&self, zone: &str, member: &ZoneMember) -> Result<Added> {
        match self.of_member(ADD, zone, member)? {
            Ok(_) => Ok(Added::New),
            // How what is there is refused depends on the version.
            Err(_) if self.has(zone, member)? => Ok(Added::Already),
            Err(error) => Err(refused(format!("put {member} into zone {zone}"), &error)),
        }
    }

    fn change(&self, from: &str, zone: &str, member: &ZoneMember) -> Result<()> {
        let what = || format!("put {member} into zone {zone}");
        if self.is_permanent(from, member)? {
            let message = format!("its permanent configuration has it in zone {from}");
            return Err(refused(what(), &Refused { message }));
        }
        match self.of_member("changeZoneOf", zone, member)? {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(what(), &error)),
        }
    }

    fn remove(&self, zone: &str, member: &ZoneMember) -> Result<()> {
        if self.is_permanent(zone, member)? {
            return Ok(());
        }
        match self.of_member("remove", zone, member)? {
            Err(error) if self.has(zone, member)? => {
                let what = format!("take {member} out of zone {zone}");
                Err(refused(what, &error))
            }
            _ => Ok(()),
        }
    }

    fn follow(&self, tell: Box<dyn Fn() + Send>) -> Result<Box<dyn Following>> {
        let listener = Listener::start(self.patience, tell).map_err(unreachable)?;
        Ok(Box::new(listener))
    }
}

/// Nobody listens: there is no bus, or none for this process.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused)
}

fn is_late(error: &io::Error) -> bool {
    use io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

fn unreachable(error: io::Error) -> Error {
    let message = match is_late(&error) {
        true => "firewalld has not answered on the system's message bus",
        false => "firewalld could not be asked on the system's message bus",
    };
    Error::new(ErrorKind::Io, message).with_source(error)
}

/// firewalld refuses with a code in front of its words (`firewall/errors.py`).
pub(crate) fn refused(what: String, refused: &Refused) -> Error {
    let kind = match refused.message.starts_with("INVALID_ZONE") {
        true => ErrorKind::InvalidConfig,
        false => ErrorKind::Io,
    };
    let message = format!("firewalld refuses to {what}: {}", refused.message);
    Error::new(kind, message)
}
