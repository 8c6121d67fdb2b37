//! What the services have in common that are asked for the nodes of a cluster: connections, TLS, waits, and what this node
//! tells of itself.

use std::fmt;

pub mod backoff;
pub(crate) mod body;
pub(crate) mod connect;
pub mod facts;
pub mod pods;
pub mod tls;

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No server can be reached, or one does not answer.
    Away(String),
    /// The server has answered that it does not do this.
    Refused(String),
    /// The server has answered what makes no sense, or broke off.
    Nonsense(String),
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Whether a server had a hand in it.
    pub fn reached(&self) -> bool {
        !matches!(self, Self::Away(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Away(words) | Self::Refused(words) | Self::Nonsense(words)) = self;
        f.write_str(words)
    }
}
