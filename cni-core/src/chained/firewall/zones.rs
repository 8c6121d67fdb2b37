//! firewalld's zones.

use std::net::IpAddr;

use async_trait::async_trait;

use crate::error::Result;
use crate::host::zones::bus::Answer;
use crate::host::zones::{HostZones, refused};

pub use crate::host::zones::Firewalld;

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

/// As the reference plugin writes it.
fn source(address: IpAddr) -> String {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{bits}")
}

#[async_trait]
impl Zones for Firewalld {
    async fn running(&self) -> bool {
        match self.is_running() {
            Ok(running) => running,
            Err(error) => {
                tracing::debug!(
                    error = error.chain(),
                    "the message bus does not tell whether firewalld runs"
                );
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
