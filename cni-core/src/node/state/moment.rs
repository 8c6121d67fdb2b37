//! Time since the boot, which the agent and the plugins share whatever becomes of the wall clock.

use std::fs;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// One number for each boot.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The boot clock (`CLOCK_BOOTTIME`), in hundredths of a second (`proc_uptime(5)`).
const UPTIME: &str = "/proc/uptime";

/// A moment by the boot clock, which nobody sets, and which goes on while the machine sleeps: what others may do after some
/// time, they may do whether this machine slept or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The boot that it is counted from.
    pub(super) boot: String,
    /// How long after that.
    pub(super) since: Duration,
}

impl Moment {
    /// This one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when `/proc` does not tell.
    pub fn now() -> Result<Self> {
        let read = |path: &str| {
            let failed = |error| {
                Error::new(ErrorKind::Io, format!("could not read {path}")).with_source(error)
            };
            fs::read_to_string(path).map_err(failed)
        };
        let (boot, uptime) = (read(BOOT)?, read(UPTIME)?);
        let seconds = uptime.split(' ').next();
        let seconds = seconds.and_then(|text| text.parse::<f64>().ok());
        let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let Some(since) = since else {
            let message = format!("{UPTIME} says {:?}, which is no time", uptime.trim_end());
            return Err(Error::new(ErrorKind::Io, message));
        };
        Ok(Self {
            boot: boot.trim_end().to_owned(),
            // So that what is written is what is read.
            since: Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// The one that is so much later, to the millisecond before.
    #[must_use]
    pub fn plus(&self, length: Duration) -> Self {
        let millis = self.since.saturating_add(length).as_millis();
        Self {
            boot: self.boot.clone(),
            since: Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)),
        }
    }

    /// How much later this one is than another; nothing where it is not, or belongs to another boot.
    pub fn after(&self, other: &Self) -> Duration {
        match self.boot == other.boot {
            true => self.since.saturating_sub(other.since),
            false => Duration::ZERO,
        }
    }

    /// Whether it has passed by then. One of another boot has.
    pub fn has_passed(&self, now: &Self) -> bool {
        self.boot != now.boot || self.since <= now.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_ends_with_the_boot() {
        let now = Moment::now().unwrap();
        assert!(!now.boot.is_empty() && now.since > Duration::ZERO);
        assert!(now.has_passed(&now) && now.has_passed(&Moment::now().unwrap()));
        let later = now.plus(Duration::from_secs(5));
        assert!(!later.has_passed(&now));
        assert!(later.has_passed(&later.plus(Duration::from_millis(1))));
        assert_eq!(later.after(&now), Duration::from_secs(5));
        assert_eq!(now.after(&later), Duration::ZERO);
        let of_another_boot = Moment {
            boot: "another".to_owned(),
            ..later.clone()
        };
        assert!(of_another_boot.has_passed(&now));
        assert_eq!(of_another_boot.after(&now), Duration::ZERO);
    }
}
