//! What a failed request says.

use std::fmt;

/// A failed request to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetlinkError {
    /// What was asked, as the command that an operator would type.
    pub operation: String,
    /// The positive errno; 0 when the failure was not the kernel's (a socket or a message that cannot be decoded).
    pub errno: i32,
    /// The kernel's own sentence (extended acknowledgement), or the reason of a failure that is not the kernel's.
    pub message: Option<String>,
}

/// A failed [`Netlink::apply`](super::Netlink::apply): which change failed, and how. All changes before it are in force, none after it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApplyError {
    /// Index of the failed change; equally the number of changes in force.
    pub index: usize,
    /// What the kernel said.
    pub error: NetlinkError,
}

/// Errnos that decisions are made on (`include/uapi/asm-generic/errno-base.h`, `errno.h`).
pub mod errno {
    #![allow(missing_docs)]
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const ESRCH: i32 = 3;
    pub const EAGAIN: i32 = 11;
    pub const ENOMEM: i32 = 12;
    pub const EACCES: i32 = 13;
    pub const EBUSY: i32 = 16;
    pub const EEXIST: i32 = 17;
    pub const ENODEV: i32 = 19;
    pub const EINVAL: i32 = 22;
    pub const ERANGE: i32 = 34;
    pub const EXFULL: i32 = 54;
    pub const EPROTONOSUPPORT: i32 = 93;
    /// Not supported: by this kind of device, family or kernel.
    pub const EOPNOTSUPP: i32 = 95;
    pub const EAFNOSUPPORT: i32 = 97;
    pub const EADDRINUSE: i32 = 98;
    pub const EADDRNOTAVAIL: i32 = 99;
    pub const ENETDOWN: i32 = 100;
    pub const ENETUNREACH: i32 = 101;
    pub const ENOBUFS: i32 = 105;
    pub const ENOTCONN: i32 = 107;
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed", self.operation)?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if self.errno != 0 {
            write!(f, " ({})", std::io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for NetlinkError {}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}

impl NetlinkError {
    /// A failure with the kernel's errno (positive).
    pub fn new(operation: impl Into<String>, errno: i32) -> Self {
        Self {
            operation: operation.into(),
            errno,
            message: None,
        }
    }

    /// The same failure with the kernel's sentence.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

impl ApplyError {
    /// The change at `index` failed.
    pub fn new(index: usize, error: NetlinkError) -> Self {
        Self { index, error }
    }
}
