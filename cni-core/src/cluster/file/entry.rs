//! One node's entry, and the values in it.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::check::{Places, Role};
use super::reader::{Fault, Reader, Result, quote};
use super::special;
use crate::cluster::{Capability, Node, NodeUid};
use crate::host::netlink::MacAddr;
use crate::spec::json::parse_prefix;

/// The longest name of a Kubernetes node, which is a DNS name (RFC 1123), in bytes.
const MAX_NAME: usize = 253;

/// The least that IPv6 asks of a link (RFC 8200, section 5).
const MIN_MTU: u32 = 1280;

/// The largest packet of IP.
const MAX_MTU: u32 = 65_535;

/// The fewest bytes that an entry takes.
const LEAST_ENTRY: usize = r#"{"name":"n","podPrefixes":[],"addresses":["::2"]}"#.len();

const KEYS: [&str; 8] = [
    "name",
    "uid",
    "podPrefixes",
    "addresses",
    "furtherAddresses",
    "vtepMac",
    "mtu",
    "capabilities",
];

/// An entry as far as it has been read.
#[derive(Default)]
struct Draft<'a> {
    name: Option<(Cow<'a, str>, usize)>,
    uid: Option<(Cow<'a, str>, usize)>,
    prefixes: Option<Vec<IpNetwork>>,
    underlay: Option<Vec<IpAddr>>,
    addresses: Vec<IpAddr>,
    vtep_mac: Option<MacAddr>,
    mtu: Option<u32>,
    capabilities: Option<Vec<Capability>>,
}

/// A key that exists and stands for the first time.
pub(super) fn known_key<const N: usize>(
    key: &str,
    at: usize,
    keys: &[&'static str; N],
    seen: &mut [bool; N],
) -> Result<&'static str> {
    for (known, seen) in keys.iter().zip(seen) {
        if *known == key {
            if std::mem::replace(seen, true) {
                let sentence =
                    format!("the key `{known}` stands here for the second time; take one out");
                return Err(Fault::new(at, sentence));
            }
            return Ok(known);
        }
    }
    let sentence = format!(
        "there is no key {}; the keys are {}",
        quote(key),
        keys.join(", ")
    );
    Err(Fault::new(at, sentence))
}

pub(super) fn cluster_prefixes(reader: &mut Reader<'_>) -> Result<Vec<IpNetwork>> {
    let mut prefixes = Vec::new();
    let start = list(reader, "clusterPrefixes", "prefixes", |what, value, at| {
        prefixes.push(prefix(what, value, at)?);
        Ok(())
    })?;
    if prefixes.is_empty() {
        let sentence = "`clusterPrefixes` is empty; name the prefixes that hold all pods, or leave the key out";
        return Err(Fault::new(start, sentence));
    }
    Ok(prefixes)
}

pub(super) fn nodes(
    reader: &mut Reader<'_>,
    text: &str,
    nodes: &mut Vec<Node>,
    places: &mut Places,
) -> Result<()> {
    reader.array(&"`nodes`", "objects")?;
    // As many as there can be, in one piece: a list that grows is there twice at times.
    let braces = text.bytes().filter(|byte| *byte == b'{').count();
    nodes.reserve_exact(braces.min(text.len() / LEAST_ENTRY));
    let mut first = true;
    while reader.element(&mut first)? {
        let start = reader.place();
        let mut draft = Draft::default();
        let node =
            read(reader, &mut draft, places).and_then(|()| finish(&mut draft, start, places));
        match node {
            Ok(node) => nodes.push(node),
            Err(fault) => {
                let name = draft.name.map(|(name, _)| name.into_owned());
                let label = match name.or_else(|| name_ahead(text, start)) {
                    Some(name) => format!("node `{name}`"),
                    None => format!("node number {}", nodes.len() + 1),
                };
                return Err(Fault::new(fault.at, format!("{label}: {}", fault.sentence)));
            }
        }
    }
    Ok(())
}

fn read<'a>(reader: &mut Reader<'a>, draft: &mut Draft<'a>, places: &mut Places) -> Result<()> {
    reader.object(&"a node")?;
    let mut seen = [false; KEYS.len()];
    let mut first = true;
    while let Some((key, at)) = reader.key(&mut first)? {
        match known_key(&key, at, &KEYS, &mut seen)? {
            "name" => draft.name = Some(name(reader, &"`name`")?),
            "uid" => draft.uid = Some(name(reader, &"`uid`")?),
            "podPrefixes" => draft.prefixes = Some(pod_prefixes(reader, places)?),
            "addresses" => draft.underlay = Some(underlay(reader, places)?),
            "furtherAddresses" => draft.addresses = further(reader, places)?,
            "vtepMac" => draft.vtep_mac = Some(vtep_mac(reader, places)?),
            "mtu" => draft.mtu = Some(reader.integer(&"`mtu`", MIN_MTU, MAX_MTU)?),
            _ => draft.capabilities = Some(capabilities(reader)?),
        }
    }
    Ok(())
}

fn finish(draft: &mut Draft<'_>, start: usize, places: &mut Places) -> Result<Node> {
    let missing = |key: &str, what: &str| Fault::new(start, format!("`{key}` is missing: {what}"));
    let Some((name, name_at)) = &draft.name else {
        return Err(missing("name", "what the node is called"));
    };
    let Some(prefixes) = draft.prefixes.take() else {
        let what =
            "the prefixes of its pods, such as [\"10.244.1.0/24\"]; [] for a node without pods";
        return Err(missing("podPrefixes", what));
    };
    let Some(underlay) = draft.underlay.take() else {
        let what = "where the other nodes reach it, such as [\"192.0.2.1\"]";
        return Err(missing("addresses", what));
    };
    let name: Arc<str> = Arc::from(&**name);
    let (uid, uid_at) = match &draft.uid {
        Some((uid, at)) => (NodeUid::new(uid), *at),
        None => (NodeUid::from(Arc::clone(&name)), *name_at),
    };
    places.end_of_node(*name_at, uid_at);
    Ok(Node {
        uid,
        name,
        claimed: 0,
        prefixes: fitted(prefixes),
        underlay: fitted(underlay),
        addresses: fitted(std::mem::take(&mut draft.addresses)),
        vtep_mac: draft.vtep_mac,
        mtu: draft.mtu,
        capabilities: draft.capabilities.take().map(fitted),
    })
}

/// Without room for more: there are very many of them, and they stay.
fn fitted<T>(mut list: Vec<T>) -> Vec<T> {
    list.shrink_to_fit();
    list
}

/// The name of an entry in which an error came before it, where the entry is JSON at least.
fn name_ahead(text: &str, start: usize) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let entry = serde_json::Deserializer::from_str(text.get(start..)?);
    let named = entry.into_iter::<Named>().next()?.ok()?;
    is_name(&named.name).then_some(named.name)
}

fn name<'a>(reader: &mut Reader<'a>, what: &dyn fmt::Display) -> Result<(Cow<'a, str>, usize)> {
    let (name, at) = reader.string(what)?;
    if is_name(&name) {
        return Ok((name, at));
    }
    let sentence = format!(
        "{what} is {}, and must be 1 to {MAX_NAME} bytes without spaces and control characters",
        quote(&name)
    );
    Err(Fault::new(at, sentence))
}

fn is_name(name: &str) -> bool {
    let visible = |c: char| !c.is_whitespace() && !c.is_control();
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(visible)
}

fn pod_prefixes(reader: &mut Reader<'_>, places: &mut Places) -> Result<Vec<IpNetwork>> {
    let mut prefixes = Vec::with_capacity(2);
    list(reader, "podPrefixes", "prefixes", |what, value, at| {
        let prefix = prefix(what, value, at)?;
        places.prefix(prefix, at);
        prefixes.push(prefix);
        Ok(())
    })?;
    Ok(prefixes)
}

fn underlay(reader: &mut Reader<'_>, places: &mut Places) -> Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(2);
    let start = list(reader, "addresses", "addresses", |what, value, at| {
        let address = address(what, value, at)?;
        if let Some(other) = addresses
            .iter()
            .find(|other| other.is_ipv6() == address.is_ipv6())
        {
            let sentence = format!(
                "{what} is the second address of its family beside {other}; the underlay has one of each, others are for `furtherAddresses`"
            );
            return Err(Fault::new(at, sentence));
        }
        places.address(address, Role::Underlay, at);
        addresses.push(address);
        Ok(())
    })?;
    if addresses.is_empty() {
        let sentence = "`addresses` is empty, and no other node can reach this one; name one address, or one of each family";
        return Err(Fault::new(start, sentence));
    }
    Ok(addresses)
}

fn further(reader: &mut Reader<'_>, places: &mut Places) -> Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    list(
        reader,
        "furtherAddresses",
        "addresses",
        |what, value, at| {
            let address = address(what, value, at)?;
            places.address(address, Role::Further, at);
            addresses.push(address);
            Ok(())
        },
    )?;
    Ok(addresses)
}

fn vtep_mac(reader: &mut Reader<'_>, places: &mut Places) -> Result<MacAddr> {
    let (text, at) = reader.string(&"`vtepMac`")?;
    let digits = text
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b':');
    let mac: Option<MacAddr> = text.parse().ok().filter(|_| digits);
    let rule = match mac {
        None => "must be six bytes in hexadecimal, such as 0a:58:0a:f4:01:00",
        Some(mac) if mac.is_zero() => "must not be all zero",
        Some(MacAddr([first, ..])) if first & 1 == 1 => {
            "is a group's address: of one device, the first byte is even"
        }
        Some(mac) => {
            places.mac(mac, at);
            return Ok(mac);
        }
    };
    Err(Fault::new(
        at,
        format!("`vtepMac` is {}, and {rule}", quote(&text)),
    ))
}

fn capabilities(reader: &mut Reader<'_>) -> Result<Vec<Capability>> {
    let mut capabilities = Vec::new();
    let start = list(reader, "capabilities", "strings", |what, value, at| {
        let capability = match value {
            "classic" => Capability::Classic,
            "flow" => Capability::Flow,
            _ => {
                let sentence = format!(
                    "{what} is {}, and must be \"classic\" or \"flow\"",
                    quote(value)
                );
                return Err(Fault::new(at, sentence));
            }
        };
        if !capabilities.contains(&capability) {
            capabilities.push(capability);
        }
        Ok(())
    })?;
    if capabilities.is_empty() {
        let sentence = "`capabilities` is empty: no data path leads to such a node; name one, or leave the key out";
        return Err(Fault::new(start, sentence));
    }
    Ok(capabilities)
}

fn prefix(what: &Element<'_>, value: &str, at: usize) -> Result<IpNetwork> {
    let refused = |rule: String| {
        Err(Fault::new(
            at,
            format!("{what} is {}, and {rule}", quote(value)),
        ))
    };
    let Some(prefix) = parse_prefix(value) else {
        let example = match value.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                format!("has no prefix length; write for example {address}/24")
            }
            Ok(IpAddr::V6(address)) => {
                format!("has no prefix length; write for example {address}/64")
            }
            Err(_) => "must be a prefix, such as 10.244.1.0/24 or fd00:244:1::/64".to_owned(),
        };
        return refused(example);
    };
    if prefix.ip() != prefix.network() {
        let (network, length) = (prefix.network(), prefix.prefix());
        return refused(format!(
            "has bits set after its prefix length; write {network}/{length}"
        ));
    }
    match special::in_prefix(prefix) {
        Some(what) => refused(format!("has {what} in it, which no pod can have")),
        None => Ok(prefix),
    }
}

fn address(what: &Element<'_>, value: &str, at: usize) -> Result<IpAddr> {
    let refused = |rule: &str| {
        Err(Fault::new(
            at,
            format!("{what} is {}, and {rule}", quote(value)),
        ))
    };
    let Ok(address) = value.parse::<IpAddr>() else {
        return match parse_prefix(value) {
            Some(_) => refused("must be an address, without a prefix length"),
            None => refused("must be an address, such as 192.0.2.1 or 2001:db8::1"),
        };
    };
    match special::in_prefix(address.into()) {
        Some(what) => refused(&format!(
            "is one of {what}, by which no other node can reach it"
        )),
        None => Ok(address),
    }
}

/// An element of a list, as errors name it.
struct Element<'a> {
    key: &'a str,
    index: usize,
}

impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}[{}]`", self.key, self.index)
    }
}

/// A list of strings; the function gets the name of the element, its text and its place.
fn list(
    reader: &mut Reader<'_>,
    key: &str,
    of: &str,
    mut each: impl FnMut(&Element<'_>, &str, usize) -> Result<()>,
) -> Result<usize> {
    let start = reader.array(&format_args!("`{key}`"), of)?;
    let mut first = true;
    let mut element = Element { key, index: 0 };
    while reader.element(&mut first)? {
        let (value, at) = reader.string(&element)?;
        each(&element, &value, at)?;
        element.index += 1;
    }
    Ok(start)
}
