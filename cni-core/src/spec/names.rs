//! Names that identify an attachment, and the mark that everything made for it bears.
//!
//! The rules are those of the specification (section "Parameters") as the reference library enforces them.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// A network's name: ASCII alphanumeric first, then alphanumeric, `_`, `.` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkName(String);

/// A container's ID, of the same form as a [`NetworkName`]. It has no length limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

/// An interface's name inside the container: 1 to 15 bytes, not `.` or `..`, without `/`, `:` and white space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(String);

/// What an attachment is known by: network, container and interface together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attachment {
    /// The network's name.
    pub network: NetworkName,
    /// The container's ID.
    pub container: ContainerId,
    /// The interface's name inside the container.
    pub interface: InterfaceName,
}

/// The text that marks a kernel object as made for one attachment: the alias of its host-side link, the comment of
/// its nftables elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(String);

macro_rules! name {
    ($type:ident, $kind:expr, $what:literal, $rule:path) => {
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                match $rule(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(rule) => Err(Error::new($kind, format!("{} {text:?} {rule}", $what))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    NetworkName,
    ErrorKind::InvalidConfig,
    "network name",
    identifier
);
name!(
    ContainerId,
    ErrorKind::InvalidEnvironment,
    "CNI_CONTAINERID",
    identifier
);
name!(
    InterfaceName,
    ErrorKind::InvalidEnvironment,
    "CNI_IFNAME",
    interface_name
);

fn identifier(text: &str) -> Result<(), &'static str> {
    let mut bytes = text.bytes();
    match bytes.next() {
        None => return Err("is empty"),
        Some(first) if first.is_ascii_alphanumeric() => {}
        Some(_) => return Err("must begin with an ASCII letter or digit"),
    }
    if bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')) {
        Ok(())
    } else {
        Err("may hold only ASCII letters, digits, '_', '.' and '-'")
    }
}

fn interface_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        Err("is empty")
    } else if text.len() > 15 {
        Err("is longer than the 15 bytes that the kernel allows (IFNAMSIZ - 1)")
    } else if text == "." || text == ".." {
        Err("must not be '.' or '..'")
    } else if text
        .chars()
        .any(|c| c == '/' || c == ':' || c.is_whitespace() || c == '\0')
    {
        Err("must not hold '/', ':' or white space")
    } else {
        Ok(())
    }
}

/// Aliases hold 255 bytes (`IFALIASZ` - 1), nftables comments 128 (`NFTNL_UDATA_COMMENT_MAXLEN`, with its NUL).
const MARK_MAX: usize = 127;

impl Attachment {
    /// The mark of everything made for this attachment: `cni:NETWORK/CONTAINER/INTERFACE`.
    ///
    /// Names that do not fit (network names and container IDs have no length limit) are replaced by hashes, so that
    /// the mark of an attachment stays a pure function of its names and [`Mark::is_of`] can be asked of any mark.
    pub fn mark(&self) -> Mark {
        let plain = format!("cni:{}/{}/{}", self.network, self.container, self.interface);
        if plain.len() <= MARK_MAX {
            return Mark(plain);
        }
        let network = short_network(&self.network);
        let container = hash128(&[self.container.as_str()]);
        Mark(format!(
            "cni:{network}/#{container:032x}/{}",
            self.interface
        ))
    }

    /// The name of the host's end of the pair: `veth`, three characters of the network, eight of the whole
    /// attachment. A pure function of the three names, so that DEL needs neither state nor namespace.
    ///
    /// The name is set by the very message that creates the link: even an ADD that was killed between two messages
    /// leaves an object that can be told to be ours ([`host_name_is_of`]).
    pub fn host_name(&self) -> InterfaceName {
        let whole = hash128(&[
            self.network.as_str(),
            self.container.as_str(),
            self.interface.as_str(),
        ]);
        let mut name = host_name_prefix(&self.network);
        base32(whole as u64, 8, &mut name);
        InterfaceName(name)
    }
}

/// Whether a host-side link's name is one that [`Attachment::host_name`] gives for this network.
pub fn host_name_is_of(name: &str, network: &NetworkName) -> bool {
    name.len() == 15 && name.starts_with(&host_name_prefix(network))
}

fn host_name_prefix(network: &NetworkName) -> String {
    let mut name = String::from("veth");
    base32(hash128(&[network.as_str()]) as u64, 3, &mut name);
    name
}

/// A network name as it stands in a mark: itself where it leaves room for the rest, else its hash.
fn short_network(network: &NetworkName) -> String {
    if network.as_str().len() <= 64 {
        network.to_string()
    } else {
        format!("#{:032x}", hash128(&[network.as_str()]))
    }
}

impl Mark {
    /// The mark as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a mark from an alias or comment; `None` when the text is not one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("cni:")?;
        let mut parts = rest.split('/');
        let all = [parts.next()?, parts.next()?, parts.next()?];
        (parts.next().is_none() && all.iter().all(|part| !part.is_empty()))
            .then(|| Self(text.to_owned()))
    }

    /// Whether this is the mark of an attachment to `network`.
    pub fn is_of(&self, network: &NetworkName) -> bool {
        let part = self
            .0
            .strip_prefix("cni:")
            .and_then(|rest| rest.split('/').next());
        part == Some(network.as_str()) || part == Some(&short_network(network))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container, self.interface)
    }
}

/// FNV-1a over the parts, each ended by a byte that no name holds. Names of kernel objects are derived from it, so it
/// must never change; `std`'s hasher gives no such promise.
pub(crate) fn hash128(parts: &[&str]) -> u128 {
    struct Fnv(u128);
    impl Hasher for Fnv {
        fn finish(&self) -> u64 {
            self.0 as u64
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 ^= u128::from(*byte);
                self.0 = self
                    .0
                    .wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B);
            }
        }
    }
    let mut fnv = Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    for part in parts {
        fnv.write(part.as_bytes());
        fnv.write(&[0xff]);
    }
    // The low bits of FNV mix best after a fold.
    fnv.0 ^ (fnv.0 >> 61)
}

fn base32(mut value: u64, digits: usize, into: &mut String) {
    const ALPHABET: [char; 32] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r',
        's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7',
    ];
    for _ in 0..digits {
        if let Some(digit) = ALPHABET.get((value & 31) as usize) {
            into.push(*digit);
        }
        value >>= 5;
    }
}
