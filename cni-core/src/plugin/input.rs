//! What this crate reads from the environment beside the specification's variables.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Command;

/// How a request is to be carried out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// `CNI_DRY_RUN`: plan, but change nothing.
    pub(super) dry_run: bool,
    /// `CNI_TIMEOUT_MS`, counted from the start of the request.
    deadline: Option<Instant>,
}

impl Options {
    /// Reads the variables. A wrong timeout is an error, but not for DEL, which cleans up in any case.
    pub(super) fn from_env(
        env: &dyn Fn(&str) -> Option<OsString>,
        command: Command,
    ) -> Result<Self> {
        let value = |name: &str| env(name).filter(|value| !value.is_empty());
        let deadline = match value("CNI_TIMEOUT_MS").map(parse_timeout).transpose() {
            Ok(deadline) => deadline,
            Err(_) if command == Command::Del => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            dry_run: value("CNI_DRY_RUN").is_some_and(|value| is_true(&value)),
            deadline,
        })
    }

    /// The same means to stop, with the deadline that the environment asks for.
    pub(super) fn with_deadline(&self, cancel: Cancel) -> Cancel {
        match self.deadline {
            Some(deadline) => cancel.with_deadline(deadline),
            None => cancel,
        }
    }
}

fn parse_timeout(value: OsString) -> Result<Instant> {
    let milliseconds = value.to_str().and_then(|text| text.parse::<u64>().ok());
    milliseconds
        .and_then(|milliseconds| Instant::now().checked_add(Duration::from_millis(milliseconds)))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidEnvironment,
                format!("CNI_TIMEOUT_MS {value:?} is not a number of milliseconds"),
            )
        })
}

fn is_true(value: &OsStr) -> bool {
    value == "1" || value.eq_ignore_ascii_case("true")
}
