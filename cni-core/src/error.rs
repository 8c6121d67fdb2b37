//! The one error type of this crate, and its only conversion into a wire code.

use std::error::Error as StdError;
use std::fmt;

use crate::host::netlink::{NetlinkError, errno};

/// What went wrong, as the runtime has to understand it.
///
/// Codes 1 to 99 are reserved by the specification (section "Error", spec v1.1.0), 100 and above are a plugin's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Code 1: the configuration's version is not supported, or the verb does not exist at that version.
    IncompatibleVersion,
    /// Code 2: a configuration field is not supported. The message names key and value.
    UnsupportedField,
    /// Code 3: the container is unknown or gone; the runtime need not DEL it.
    UnknownContainer,
    /// Code 4: an environment variable is missing or invalid. The message names it.
    InvalidEnvironment,
    /// Code 5: reading or writing a file, a socket or the kernel's state failed.
    Io,
    /// Code 6: something could not be decoded: the configuration's JSON, a version, `prevResult`.
    Decode,
    /// Code 7: the configuration was decoded and is wrong.
    InvalidConfig,
    /// Code 8: `CNI_NETNS` does not name a usable network namespace (the reference library's constant).
    InvalidNetns,
    /// Code 11: a passing condition; the runtime should try again later.
    TryAgain,
    /// Code 50 (STATUS): the plugin cannot serve ADD.
    NotAvailable,
    /// Code 51 (STATUS): the plugin cannot serve ADD, and existing containers may have limited connectivity.
    LimitedConnectivity,
    /// Codes of 100 and above: a plugin's own.
    Plugin(u32),
    /// Code 999: none of the above (the reference library's constant).
    Internal,
}

impl ErrorKind {
    /// The number that goes into the error object's `code`.
    pub const fn code(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::InvalidNetns => 8,
            Self::TryAgain => 11,
            Self::NotAvailable => 50,
            Self::LimitedConnectivity => 51,
            Self::Plugin(code) => code,
            Self::Internal => 999,
        }
    }

    /// The kind that a delegate's error code stands for, so that it passes through unchanged.
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::Io,
            6 => Self::Decode,
            7 => Self::InvalidConfig,
            8 => Self::InvalidNetns,
            11 => Self::TryAgain,
            50 => Self::NotAvailable,
            51 => Self::LimitedConnectivity,
            999 => Self::Internal,
            other => Self::Plugin(other),
        }
    }
}

/// An error: its kind, one lower-case sentence that names the operands, and what caused it.
///
/// `Display` prints the sentence alone; [`Error::chain`] joins the causes, once, at the edge.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with one lower-case sentence that names the value and the rule.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// A new outer sentence; this error becomes its source. The kind stays.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            message: message.into(),
            source: Some(Box::new(self)),
        }))
    }

    /// The same error under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The errno of the kernel request that caused this error, when one did.
    pub fn errno(&self) -> Option<i32> {
        let mut next: Option<&(dyn StdError + 'static)> = self.source();
        while let Some(error) = next {
            if let Some(netlink) = error.downcast_ref::<NetlinkError>() {
                return Some(netlink.errno);
            }
            next = error.source();
        }
        None
    }

    /// The causes joined by `": "`, without this error's own sentence. Empty when there is no cause.
    pub fn causes(&self) -> String {
        let mut text = String::new();
        let mut next = self.source();
        while let Some(error) = next {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }

    /// Sentence and causes in one line.
    pub fn chain(&self) -> String {
        let causes = self.causes();
        if causes.is_empty() {
            self.to_string()
        } else {
            format!("{self}: {causes}")
        }
    }

    /// Several failures as one error: the first one's kind, all sentences. `None` when there is none.
    pub fn join(errors: Vec<Error>) -> Option<Error> {
        let mut errors = errors.into_iter();
        let first = errors.next()?;
        let rest: Vec<String> = errors.map(|error| error.chain()).collect();
        if rest.is_empty() {
            return Some(first);
        }
        let message = format!("{}; also: {}", first.chain(), rest.join("; also: "));
        Some(Error::new(first.kind(), message))
    }
}

/// A kernel request that failed. What passes by itself (memory, buffers, a lock) becomes [`ErrorKind::TryAgain`].
impl From<NetlinkError> for Error {
    fn from(error: NetlinkError) -> Self {
        let kind = match error.errno {
            errno::EAGAIN | errno::ENOMEM | errno::ENOBUFS | errno::EBUSY => ErrorKind::TryAgain,
            _ => ErrorKind::Io,
        };
        Self::new(kind, "the kernel refused a request").with_source(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_a_round_trip() {
        for code in (0..=1200).filter(|code| ![0].contains(code)) {
            assert_eq!(ErrorKind::from_code(code).code(), code);
        }
    }

    #[test]
    fn the_chain_names_every_cause_once() {
        let error = Error::new(ErrorKind::Io, "could not read the file")
            .with_source(std::io::Error::other("disk on fire"))
            .context("could not reserve an address");
        assert_eq!(error.to_string(), "could not reserve an address");
        assert_eq!(
            error.chain(),
            "could not reserve an address: could not read the file: disk on fire"
        );
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
