//! firewalld's zones.

use std::net::IpAddr;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::error::Result;
use crate::host::zones::bus::Answer;
use crate::host::zones::{HostZones, ZoneMember, refused};

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

    /// Takes packets from the address out of whichever zone they are in. What is in the permanent configuration, too, stays: that
    /// is somebody else's.
    ///
    /// # Errors
    /// When firewalld does not answer.
    async fn remove(&self, address: IpAddr) -> Result<()>;
}

/// The address alone, with its full length: as the reference plugin writes it.
fn source(address: IpAddr) -> ZoneMember {
    ZoneMember::Source(IpNetwork::from(address))
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
        let source = source(address).to_string();
        match self.zone("querySource", &[zone, &source])? {
            Ok(answer) => Ok(answer == Answer::Truth(true)),
            Err(error) => Err(refused(format!("look for {source} in zone {zone}"), &error)),
        }
    }

    async fn add(&self, zone: &str, address: IpAddr) -> Result<()> {
        HostZones::add(self, zone, &source(address)).map(|_| ())
    }

    async fn remove(&self, address: IpAddr) -> Result<()> {
        let source = source(address);
        match self.zone("getZoneOfSource", &[&source.to_string()])? {
            Ok(Answer::Text(zone)) if !zone.is_empty() => HostZones::remove(self, &zone, &source),
            Ok(_) => Ok(()),
            Err(error) => Err(refused(format!("look for {source}"), &error)),
        }
    }
}
