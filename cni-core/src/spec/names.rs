//! Names that identify an attachment, and the mark that everything made for it bears.
//!
//! The rules are those of the specification (section "Parameters") as the reference library enforces them.

use std::fmt;
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

impl Attachment {
    /// The name of the device through which goes what the container sends, where that is limited: `ifb`, and what
    /// [`Attachment::host_name`] has behind `veth`, so that people see which two belong together.
    pub fn ifb_name(&self) -> InterfaceName {
        let host_name = self.host_name();
        let digits = host_name.as_str().strip_prefix(HOST).unwrap_or_default();
        InterfaceName(format!("{IFB}{digits}"))
    }
}

/// Whether a link's name is one that [`Attachment::ifb_name`] gives for this network.
pub fn ifb_name_is_of(name: &str, network: &NetworkName) -> bool {
    name.strip_prefix(IFB)
        .is_some_and(|digits| host_name_is_of(&format!("{HOST}{digits}"), network))
}

const HOST: &str = "veth";
const IFB: &str = "ifb";

/// Whether a host-side link's name is one that [`Attachment::host_name`] gives for this network.
pub fn host_name_is_of(name: &str, network: &NetworkName) -> bool {
    name.len() == 15 && name.starts_with(&host_name_prefix(network))
}

fn host_name_prefix(network: &NetworkName) -> String {
    let mut name = String::from(HOST);
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

impl NetworkName {
    /// The name where it has at most 64 bytes, else its hash behind a `#`: for what has to bear it in little room.
    pub fn short(&self) -> String {
        short_network(self)
    }

    /// The alias of a link that the network's attachments share, a bridge say: `cni:NETWORK`. It is no [`Mark`].
    pub fn shared_alias(&self) -> String {
        format!("cni:{}", self.short())
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

/// FNV-1a over the parts, each ended by a byte that no name holds, then mixed. Names of kernel objects are derived from
/// it, so it must never change; `std`'s hasher gives no such promise.
pub(crate) fn hash128(parts: &[&str]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    let mut state: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    for byte in bytes {
        state = (state ^ u128::from(byte)).wrapping_mul(PRIME);
    }
    // The names use only some low bits, and FNV's low bits know little of the high ones.
    let high = mix((state >> 64) as u64);
    let low = mix(state as u64 ^ high);
    u128::from(mix(high ^ low)) << 64 | u128::from(low)
}

/// MurmurHash3's finalizer (public domain).
pub(crate) fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

pub(crate) fn base32(mut value: u64, digits: usize, into: &mut String) {
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

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn attachment(network: &str, container: &str, interface: &str) -> Attachment {
        Attachment {
            network: network.parse().unwrap(),
            container: container.parse().unwrap(),
            interface: interface.parse().unwrap(),
        }
    }

    #[test]
    fn derived_names_never_change() {
        let attachment = attachment("podman", "c1", "eth0");
        assert_eq!(attachment.host_name().as_str(), DERIVED);
        assert_eq!(attachment.ifb_name().as_str(), "ifbrnnixnsgtcl");
        assert_eq!(attachment.mark().as_str(), "cni:podman/c1/eth0");
    }

    #[test]
    fn a_device_for_limits_is_of_its_network_alone() {
        let name = attachment("n", "c", "eth0").ifb_name();
        let other = attachment("n", "c", "eth1").ifb_name();
        assert_ne!(name, other);
        assert!(ifb_name_is_of(name.as_str(), &"n".parse().unwrap()));
        assert!(!ifb_name_is_of(name.as_str(), &"m".parse().unwrap()));
        assert!(!ifb_name_is_of("ifb0", &"n".parse().unwrap()));
        assert!(!host_name_is_of(name.as_str(), &"n".parse().unwrap()));
    }

    const DERIVED: &str = "vethrnnixnsgtcl";

    #[test]
    fn ten_thousand_attachments_have_ten_thousand_names() {
        let names: BTreeSet<String> = (0..10_000)
            .map(|i| {
                attachment("n", &format!("{i:064x}"), "eth0")
                    .host_name()
                    .to_string()
            })
            .collect();
        assert_eq!(names.len(), 10_000);
        let network = "n".parse().unwrap();
        assert!(names.iter().all(|name| host_name_is_of(name, &network)));
        let other = "m".parse().unwrap();
        assert!(!names.iter().any(|name| host_name_is_of(name, &other)));
    }

    #[test]
    fn a_mark_fits_a_comment_however_long_the_names_are() {
        let long = "x".repeat(300);
        for (network, container) in [("n", long.as_str()), (long.as_str(), "c"), (&long, &long)] {
            let attachment = attachment(network, container, "eth0");
            let mark = attachment.mark();
            assert!(mark.as_str().len() <= MARK_MAX, "{mark}");
            assert!(mark.is_of(&attachment.network));
            assert!(!mark.is_of(&"y".parse().unwrap()));
            assert_eq!(Mark::parse(mark.as_str()), Some(mark));
        }
    }

    #[test]
    fn names_that_differ_only_in_where_they_are_cut_have_different_marks() {
        let a = attachment("a-b", "c", "eth0");
        let b = attachment("a", "b-c", "eth0");
        assert_ne!(a.mark(), b.mark());
        assert_ne!(a.host_name(), b.host_name());
    }

    #[test]
    fn bad_names_are_refused_with_the_rule() {
        for (name, rule) in [
            ("", "empty"),
            ("-a", "begin"),
            ("a b", "only"),
            ("a\n", "only"),
            ("é", "begin"),
        ] {
            let error = name.parse::<ContainerId>().unwrap_err();
            assert!(error.to_string().contains(rule), "{error}");
            assert_eq!(error.kind(), ErrorKind::InvalidEnvironment);
            assert_eq!(
                name.parse::<NetworkName>().unwrap_err().kind(),
                ErrorKind::InvalidConfig
            );
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\u{a0}b",
            "éééééééé",
            "0123456789abcdef",
        ] {
            name.parse::<InterfaceName>().unwrap_err();
        }
        for name in ["eth0", "0123456789abcde", "ééééééé", "a.b"] {
            name.parse::<InterfaceName>().unwrap();
        }
    }
}
