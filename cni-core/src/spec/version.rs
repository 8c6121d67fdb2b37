//! Specification versions: exact strings only, and what each version knows.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::value::RawValue;

use super::env::Command;
use super::json::Object;
use crate::error::{Error, ErrorKind, Result};

/// A version of the specification that this crate speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum SpecVersion {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

/// Versions whose results have the same structure; a `prevResult` must be of its configuration's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// 0.1.0 and 0.2.0: `ip4` and `ip6`.
    Ip4Ip6,
    /// 0.3.0, 0.3.1 and 0.4.0: `ips`, each with a `version`.
    IpsWithVersion,
    /// 1.0.0 and 1.1.0: `ips`.
    Ips,
}

impl SpecVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// The newest version.
    pub const NEWEST: Self = Self::V1_1_0;

    /// The text of `cniVersion`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The versions with the same structure of results.
    pub const fn family(self) -> Family {
        match self {
            Self::V0_1_0 | Self::V0_2_0 => Family::Ip4Ip6,
            Self::V0_3_0 | Self::V0_3_1 | Self::V0_4_0 => Family::IpsWithVersion,
            Self::V1_0_0 | Self::V1_1_0 => Family::Ips,
        }
    }

    /// Whether `command` exists at this version: CHECK since 0.4.0, GC and STATUS since 1.1.0.
    ///
    /// VERSION exists since 0.2.0, but is answered before any configuration is read, hence always.
    pub fn allows(self, command: Command) -> bool {
        match command {
            Command::Add | Command::Del | Command::Version => true,
            Command::Check => self >= Self::V0_4_0,
            Command::Gc | Command::Status => self >= Self::V1_1_0,
        }
    }

    /// Refuses a command that does not exist at this version.
    ///
    /// # Errors
    /// [`ErrorKind::IncompatibleVersion`], naming the version and the oldest that has the command.
    pub fn require(self, command: Command) -> Result<()> {
        if self.allows(command) {
            return Ok(());
        }
        let since = Self::ALL
            .into_iter()
            .find(|version| version.allows(command))
            .unwrap_or(Self::NEWEST);
        Err(Error::new(
            ErrorKind::IncompatibleVersion,
            format!(
                "{command} needs a configuration of cniVersion {since} or newer, and this one is {self}"
            ),
        ))
    }

    /// Reads the `cniVersion` of an object: absent, `null` and empty mean 0.1.0 (spec 0.1.0 had no such key).
    ///
    /// # Errors
    /// As [`SpecVersion::from_str`], and [`ErrorKind::Decode`] when it is not a string.
    pub fn of(object: &Object<'_>) -> Result<Self> {
        match object.string("cniVersion")? {
            None => Ok(Self::V0_1_0),
            Some(text) if text.is_empty() => Ok(Self::V0_1_0),
            Some(text) => text.parse(),
        }
    }
}

impl FromStr for SpecVersion {
    type Err = Error;

    /// Exact strings only: "1.0" and "01.1.0" are versions, but unsupported ones.
    ///
    /// # Errors
    /// [`ErrorKind::IncompatibleVersion`] for a version that is not supported, [`ErrorKind::Decode`] for what is no
    /// version at all.
    fn from_str(text: &str) -> Result<Self> {
        if let Some(version) = Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
        {
            return Ok(version);
        }
        if is_version(text) {
            let all: Vec<&str> = Self::ALL.iter().map(|version| version.as_str()).collect();
            Err(Error::new(
                ErrorKind::IncompatibleVersion,
                format!(
                    "cniVersion {text:?} is not supported; use one of {}",
                    all.join(", ")
                ),
            ))
        } else {
            Err(Error::new(
                ErrorKind::Decode,
                format!("cniVersion {text:?} is not a version; it must be of the form \"1.1.0\""),
            ))
        }
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One to three numbers separated by dots: what the reference implementation can compare.
fn is_version(text: &str) -> bool {
    text.split('.').count() <= 3
        && text.split('.').all(|part| {
            !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit())
        })
}

/// The answer to VERSION (spec section "VERSION").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionReply {
    /// The version that the request named, echoed.
    pub cni_version: String,
    /// Versions that the plugin speaks, as it wrote them: it may be newer than this crate.
    pub supported: Vec<String>,
}

impl VersionReply {
    /// Our answer to the request that came on stdin: its `cniVersion` is echoed when it is a version, known to this
    /// crate or not; anything else, also no stdin at all, is answered with the newest.
    pub fn to_request(stdin: &[u8], supported: &[SpecVersion]) -> Self {
        let asked = std::str::from_utf8(stdin)
            .ok()
            .and_then(|text| Object::parse(text).ok())
            .and_then(|object| object.string("cniVersion").ok().flatten())
            .filter(|version| is_version(version));
        let newest = supported.iter().max().copied();
        Self {
            cni_version: asked
                .unwrap_or_else(|| newest.unwrap_or(SpecVersion::NEWEST).as_str().to_owned()),
            supported: supported.iter().map(|v| v.as_str().to_owned()).collect(),
        }
    }

    /// The JSON text.
    pub fn render(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            cni_version: &'a str,
            supported_versions: &'a [String],
        }
        // Strings always serialize.
        serde_json::to_string(&Wire {
            cni_version: &self.cni_version,
            supported_versions: &self.supported,
        })
        .unwrap_or_default()
    }

    /// Reads a plugin's answer. The form of spec 0.2.0 without `supportedVersions` means 0.1.0 and 0.2.0.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when `cniVersion` is missing, or `supportedVersions` is and it is not that old form.
    pub fn parse(text: &str) -> Result<Self> {
        let object = Object::parse(text)?.at("VERSION reply");
        let missing = |name: &str| object.missing(name).with_kind(ErrorKind::Decode);
        let cni_version = object
            .string("cniVersion")?
            .ok_or_else(|| missing("cniVersion"))?;
        let supported = match object.member("supportedVersions").map(RawValue::get) {
            Some(_) => object.strings("supportedVersions")?,
            None if cni_version == "0.2.0" => vec!["0.1.0".to_owned(), "0.2.0".to_owned()],
            None => return Err(missing("supportedVersions")),
        };
        Ok(Self {
            cni_version,
            supported,
        })
    }

    /// What the failure of a plugin that knows no VERSION means: spec 0.1.0, when its message says that the command is
    /// unknown to it. `None` for any other failure.
    pub fn of_failure(message: &str) -> Option<Self> {
        message
            .contains("unknown CNI_COMMAND: VERSION")
            .then(|| Self {
                cni_version: "0.1.0".to_owned(),
                supported: vec!["0.1.0".to_owned()],
            })
    }

    /// Whether the plugin speaks `version`.
    pub fn supports(&self, version: SpecVersion) -> bool {
        self.supported.iter().any(|text| text == version.as_str())
    }
}

#[cfg(test)]
mod tests;
