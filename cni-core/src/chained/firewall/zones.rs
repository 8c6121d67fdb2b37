//! firewalld's zones.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};

use crate::host::zones::bus::{Answer, Bus, Call, Refused};

/// firewalld, as far as this plugin asks it for something.
#[async_trait]
pub trait Zones: Send + Sync + std::fmt::Debug {
    /// Whether it rules this host now. It is not started by being asked.
    async fn running(&self) -> bool;

    /// Whether packets from the address are in the zone.
    ///
    /// # Errors
    /// When there is no such zone, or firewalld does not answer.
    async fn has(&self, zone: &str, address: IpAddr) -> Result<bool>;

    /// Puts packets from the address into the zone; done already is success.
    ///
    /// # Errors
    /// As [`Zones::has`], and when the address is in another zone.
    async fn add(&self, zone: &str, address: IpAddr) -> Result<()>;

    /// Takes packets from the address out of whichever zone they are in.
    ///
    /// # Errors
    /// When firewalld does not answer.
    async fn remove(&self, address: IpAddr) -> Result<()>;
}

/// firewalld on the system's message bus.
#[derive(Debug, Default)]
pub struct Firewalld {
    bus: Mutex<Option<Bus>>,
}

const NAME: &str = "org.fedoraproject.FirewallD1";
const ZONE: &str = "org.fedoraproject.FirewallD1.zone";

impl Firewalld {
    /// Connects when it is first asked.
    pub fn new() -> Self {
        Self::default()
    }

    fn call(&self, call: &Call<'_>) -> Result<Result<Answer, Refused>> {
        let mut kept = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bus = match kept.take() {
            Some(bus) => bus,
            None => Bus::connect().map_err(unreachable)?,
        };
        let answer = bus.call(call).map_err(unreachable)?;
        *kept = Some(bus);
        Ok(answer)
    }

    fn zone(&self, member: &str, arguments: &[&str]) -> Result<Result<Answer, Refused>> {
        self.call(&Call {
            destination: NAME,
            path: "/org/fedoraproject/FirewallD1",
            interface: ZONE,
            member,
            arguments,
        })
    }
}

fn unreachable(error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        "firewalld could not be asked on the system's message bus",
    )
    .with_source(error)
}

/// firewalld refuses with a code in front of its words (`firewall/errors.py`).
fn refused(what: String, refused: &Refused) -> Error {
    let kind = match refused.message.starts_with("INVALID_ZONE") {
        true => ErrorKind::InvalidConfig,
        false => ErrorKind::Io,
    };
    let message = format!("firewalld refuses to {what}: {}", refused.message);
    Error::new(kind, message)
}

/// As the reference plugin writes it.
fn source(address: IpAddr) -> String {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{bits}")
}

#[async_trait]
impl Zones for Firewalld {
    async fn running(&self) -> bool {
        let asked = self.call(&Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "NameHasOwner",
            arguments: &[NAME],
        });
        match asked {
            Ok(Ok(Answer::Truth(running))) => running,
            Ok(other) => {
                tracing::debug!(
                    ?other,
                    "the message bus does not tell whether firewalld runs"
                );
                false
            }
            Err(error) => {
                tracing::debug!(error = error.chain(), "firewalld does not run");
                false
            }
        }
    }

    async fn has(&self, zone: &str, address: IpAddr) -> Result<bool> {
        let source = source(address);
        match self.zone("querySource", &[zone, &source])? {
            Ok(answer) => Ok(answer == Answer::Truth(true)),
            Err(error) => Err(refused(format!("look for {source} in zone {zone}"), &error)),
        }
    }

    async fn add(&self, zone: &str, address: IpAddr) -> Result<()> {
        let source = source(address);
        match self.zone("addSource", &[zone, &source])? {
            Err(error) if !error.message.starts_with("ALREADY_ENABLED") => {
                Err(refused(format!("put {source} into zone {zone}"), &error))
            }
            _ => Ok(()),
        }
    }

    async fn remove(&self, address: IpAddr) -> Result<()> {
        let source = source(address);
        let zone = match self.zone("getZoneOfSource", &[&source])? {
            Ok(Answer::Text(zone)) if !zone.is_empty() => zone,
            Ok(_) => return Ok(()),
            Err(error) => return Err(refused(format!("look for {source}"), &error)),
        };
        match self.zone("removeSource", &[&zone, &source])? {
            Err(error)
                if !["UNKNOWN_SOURCE", "NOT_ENABLED"]
                    .iter()
                    .any(|code| error.message.starts_with(code)) =>
            {
                Err(refused(format!("take {source} out of zone {zone}"), &error))
            }
            _ => Ok(()),
        }
    }
}
