//! The configuration's own keys: those of the reference `bandwidth` plugin, under the same names.

use crate::error::Result;
use crate::spec::config::NetworkConfig;
use crate::spec::json::Object;

/// What a configuration asks of this plugin: limits as the container sees them. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BandwidthConfig {
    /// `ingressRate`, `ingressBurst`: into the container.
    pub ingress: Option<Limit>,
    /// `egressRate`, `egressBurst`: out of the container.
    pub egress: Option<Limit>,
}

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Bits a second; at least 8.
    pub rate: u64,
    /// Bits that may be sent at once; at least 8, and less than 4 GiB of bytes.
    pub burst: u64,
}

/// The four keys, by direction.
const INGRESS: [&str; 2] = ["ingressRate", "ingressBurst"];
const EGRESS: [&str; 2] = ["egressRate", "egressBurst"];

/// What a TBF's bucket holds is a number of 32 bits, of bytes.
const BURST_MAX: u64 = (u32::MAX as u64) * 8 - 1;

impl BandwidthConfig {
    /// Reads the limits: the configuration's own keys where it has any of the four, else the capability `bandwidth`
    /// (`runtimeConfig.bandwidth`).
    ///
    /// # Errors
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode) for a member of the wrong type,
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for a rate without a burst, a burst without a rate, and
    /// values out of range.
    pub fn parse(config: &NetworkConfig) -> Result<Self> {
        let own = config.object()?;
        if INGRESS
            .iter()
            .chain(&EGRESS)
            .any(|key| own.member(key).is_some())
        {
            return Self::of(&own);
        }
        let runtime = own.object("runtimeConfig")?.unwrap_or_default();
        match runtime.object("bandwidth")? {
            Some(limits) => Self::of(&limits),
            None => Ok(Self::default()),
        }
    }

    fn of(object: &Object<'_>) -> Result<Self> {
        Ok(Self {
            ingress: limit(object, INGRESS)?,
            egress: limit(object, EGRESS)?,
        })
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

fn limit(object: &Object<'_>, [rate_key, burst_key]: [&str; 2]) -> Result<Option<Limit>> {
    let value = |key| Ok::<_, crate::Error>(object.u64(key)?.unwrap_or_default());
    let (rate, burst) = (value(rate_key)?, value(burst_key)?);
    match (rate, burst) {
        (0, 0) => Ok(None),
        (_, 0) => Err(object.broken(
            rate_key,
            rate,
            &format!("needs {burst_key} beside it: how many bits may be sent at once"),
        )),
        (0, _) => Err(object.broken(
            burst_key,
            burst,
            &format!("needs {rate_key} beside it: bits a second"),
        )),
        (..8, _) => Err(object.broken(rate_key, rate, "must be 0 or at least 8, a byte a second")),
        (_, ..8) => Err(object.broken(burst_key, burst, "must be 0 or at least 8, a byte")),
        (_, burst) if burst > BURST_MAX => Err(object.broken(
            burst_key,
            burst,
            &format!("must be at most {BURST_MAX}, less than 4 GiB"),
        )),
        (rate, burst) => Ok(Some(Limit { rate, burst })),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
