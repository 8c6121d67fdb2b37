//! A JSON object as a typed view over the original text: members keep their exact bytes, keys match exactly first and
//! else without regard to ASCII case.
//!
//! The reference implementation matches keys without regard to case, and real runtimes depend on it: containerd sends
//! `HostPort` where the conventions say `hostPort`. A value of `null` counts as absent everywhere.
//!
//! Getters name the key with its path (`ipam.subnet`), the value and the rule. A value of the wrong JSON type is
//! [`ErrorKind::Decode`], a value of the right type that breaks a rule is [`ErrorKind::InvalidConfig`].
//!
//! ```
//! use cni_core::spec::json::Object;
//!
//! let object = Object::parse(r#"{"HostPort": 8080, "subnet": "10.1.0.0/16", "mtu": 1e3}"#)?;
//! assert_eq!(object.u32("hostPort")?, Some(8080));
//! assert_eq!(object.prefix("subnet")?.map(|subnet| subnet.prefix()), Some(16));
//! assert_eq!(object.string("absent")?, None);
//! let error = object.u32("mtu").unwrap_err();
//! assert_eq!(error.to_string(), "`mtu` must be an integer, and is the number 1e3");
//! # Ok::<(), cni_core::Error>(())
//! ```

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};

/// The longest text that is read: 16 MiB, some 100,000 valid attachments in a GC.
pub const MAX_BYTES: usize = 16 << 20;

/// The deepest nesting of arrays and objects that is read (what `serde_json` allows too).
pub const MAX_DEPTH: usize = 127;

/// Values longer than this are cut in messages.
const SHOWN: usize = 80;

/// An object whose members are borrowed from the text.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    path: String,
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads the members of an object.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when the text is not one JSON object, is longer than [`MAX_BYTES`] or nested deeper than
    /// [`MAX_DEPTH`].
    pub fn parse(text: &'a str) -> Result<Self> {
        check_bounds(text)?;
        Self::read(text, String::new())
    }

    pub(in crate::spec) fn read(text: &'a str, path: String) -> Result<Self> {
        match serde_json::from_str::<Members<'a>>(text) {
            Ok(Members(members)) => Ok(Self { path, members }),
            Err(error) => {
                let what = if path.is_empty() {
                    "the text".to_owned()
                } else {
                    format!("`{path}`")
                };
                let message = match serde_json::from_str::<&RawValue>(text) {
                    Ok(value) if kind_of(value) != "object" => {
                        format!("{what} must be a JSON object, and is {}", shown(value))
                    }
                    _ => format!("{what} is not valid JSON"),
                };
                Err(Error::new(ErrorKind::Decode, message).with_source(error))
            }
        }
    }

    /// A member by its name; `null` counts as absent. The last of duplicates wins.
    pub fn member(&self, name: &str) -> Option<&'a RawValue> {
        self.find(name).filter(|value| value.get() != "null")
    }

    /// A member by its name, also when it is `null`.
    pub fn find(&self, name: &str) -> Option<&'a RawValue> {
        let mut other = None;
        for (key, value) in self.members.iter().rev() {
            if key == name {
                return Some(value);
            }
            if other.is_none() && key.eq_ignore_ascii_case(name) {
                other = Some(*value);
            }
        }
        other
    }

    /// All members in the order of the text, duplicates and `null`s included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.members
            .iter()
            .map(|(key, value)| (key.as_ref(), *value))
    }

    /// Whether there is no member at all.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where this object stands in the whole text: `ipam`, `ipam.ranges[0]`; empty for the text itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of a member, as errors name it.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The same object under another name in errors.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Keys that stand more than once, each once, in order. Keys that differ in case only are not duplicates.
    pub fn duplicates(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.members.iter().map(|(key, _)| key.as_ref()).collect();
        keys.sort_unstable();
        let mut found: Vec<&str> = Vec::new();
        for pair in keys.windows(2) {
            if let [a, b] = pair
                && a == b
                && found.last() != Some(a)
            {
                found.push(a);
            }
        }
        found
    }

    /// A string.
    pub fn string(&self, name: &str) -> Result<Option<String>> {
        self.decode(name, "a string")
    }

    /// A boolean; the strings "true" and "false" are not.
    pub fn bool(&self, name: &str) -> Result<Option<bool>> {
        self.decode(name, "true or false")
    }

    /// An integer of 32 bits without sign. Fractions and exponents are refused, even where they denote an integer.
    pub fn u32(&self, name: &str) -> Result<Option<u32>> {
        self.u32_in(name, 0, u32::MAX)
    }

    /// An integer from `min` to `max`, both included.
    pub fn u32_in(&self, name: &str, min: u32, max: u32) -> Result<Option<u32>> {
        let number = self.integer(name, i128::from(min), i128::from(max))?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    /// An integer of 64 bits without sign.
    pub fn u64(&self, name: &str) -> Result<Option<u64>> {
        let number = self.integer(name, 0, i128::from(u64::MAX))?;
        Ok(number.and_then(|number| u64::try_from(number).ok()))
    }

    /// An integer of 64 bits with sign.
    pub fn i64(&self, name: &str) -> Result<Option<i64>> {
        let number = self.integer(name, i128::from(i64::MIN), i128::from(i64::MAX))?;
        Ok(number.and_then(|number| i64::try_from(number).ok()))
    }

    fn integer(&self, name: &str, min: i128, max: i128) -> Result<Option<i128>> {
        let Some(value) = self.member(name) else {
            return Ok(None);
        };
        if kind_of(value) != "number" {
            return Err(self.wrong_type(name, value, "an integer"));
        }
        let text = value.get();
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-')
        {
            return Err(self.wrong_type(name, value, "an integer"));
        }
        match text.parse::<i128>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(self.invalid(name, value, &format!("must be from {min} to {max}"))),
        }
    }

    /// An object.
    pub fn object(&self, name: &str) -> Result<Option<Object<'a>>> {
        match self.member(name) {
            None => Ok(None),
            Some(value) => Object::read(value.get(), self.path_of(name)).map(Some),
        }
    }

    /// An array of objects; absent and `null` are empty, an element of `null` is an error.
    pub fn objects(&self, name: &str) -> Result<Vec<Object<'a>>> {
        let elements = self.elements(name)?.into_iter().enumerate();
        elements
            .map(|(index, value)| {
                Object::read(value.get(), format!("{}[{index}]", self.path_of(name)))
            })
            .collect()
    }

    /// The elements of an array, unread; absent and `null` are empty.
    pub fn elements(&self, name: &str) -> Result<Vec<&'a RawValue>> {
        let Some(value) = self.member(name) else {
            return Ok(Vec::new());
        };
        serde_json::from_str(value.get()).map_err(|_| self.wrong_type(name, value, "an array"))
    }

    /// An array of strings; absent and `null` are empty.
    pub fn strings(&self, name: &str) -> Result<Vec<String>> {
        Ok(self
            .decode(name, "an array of strings")?
            .unwrap_or_default())
    }

    /// An IP address. An empty string counts as absent, as in the reference implementation.
    pub fn ip(&self, name: &str) -> Result<Option<IpAddr>> {
        let Some(text) = self.string(name)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(self.broken(
                name,
                &text,
                "must be an IP address without prefix length, such as 10.1.0.1 or fd00::1",
            )),
        }
    }

    /// An address with its prefix length (CIDR); host bits are kept. An empty string counts as absent.
    pub fn prefix(&self, name: &str) -> Result<Option<IpNetwork>> {
        let Some(text) = self.string(name)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        match parse_prefix(&text) {
            Some(prefix) => Ok(Some(prefix)),
            None => Err(self.broken(
                name,
                &text,
                "must be an IP address with its prefix length, such as 10.1.0.0/16 or fd00::/64",
            )),
        }
    }

    /// Refuses a member's value: an [`ErrorKind::InvalidConfig`] that names the member's path, the value and the rule.
    pub fn invalid(&self, name: &str, value: &RawValue, rule: &str) -> Error {
        let path = self.path_of(name);
        let message = format!("`{path}` is {}, and {rule}", shown(value));
        Error::new(ErrorKind::InvalidConfig, message)
    }

    /// The same for a value that was decoded already.
    pub fn broken(&self, name: &str, value: impl fmt::Debug, rule: &str) -> Error {
        let path = self.path_of(name);
        let message = format!("`{path}` is {}, and {rule}", cut(&format!("{value:?}")));
        Error::new(ErrorKind::InvalidConfig, message)
    }

    /// A member that must be there and is not.
    pub fn missing(&self, name: &str) -> Error {
        let path = self.path_of(name);
        Error::new(ErrorKind::InvalidConfig, format!("`{path}` is missing"))
    }

    /// A member as any type that `serde` reads; `what` names the type in the error ("an array of strings").
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when the value is not of the type.
    pub fn decode<T: Deserialize<'a>>(&self, name: &str, what: &str) -> Result<Option<T>> {
        match self.member(name) {
            None => Ok(None),
            Some(value) => match serde_json::from_str(value.get()) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(self.wrong_type(name, value, what)),
            },
        }
    }

    /// A value of the wrong JSON type: an [`ErrorKind::Decode`].
    pub fn wrong_type(&self, name: &str, value: &RawValue, what: &str) -> Error {
        let path = self.path_of(name);
        let message = format!("`{path}` must be {what}, and is {}", shown(value));
        Error::new(ErrorKind::Decode, message)
    }
}

/// Reads an address with its prefix length; unlike `IpNetwork`'s parser it accepts neither a lone address nor a
/// netmask.
pub fn parse_prefix(text: &str) -> Option<IpNetwork> {
    let (address, length) = text.split_once('/')?;
    if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    IpNetwork::new(address.parse().ok()?, length.parse().ok()?).ok()
}

/// `object`, `array`, `string`, `number`, `boolean` or `null`.
pub fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

fn shown(value: &RawValue) -> String {
    match kind_of(value) {
        "null" => "null".to_owned(),
        kind @ ("object" | "array") => format!("an {kind}"),
        kind => format!("the {kind} {}", cut(value.get())),
    }
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
    }
}

/// Nothing here recurses, but what other code makes of a value might.
fn check_bounds(text: &str) -> Result<()> {
    if text.len() > MAX_BYTES {
        return Err(Error::new(
            ErrorKind::Decode,
            format!(
                "the JSON text has {} bytes, more than the {MAX_BYTES} that are read",
                text.len()
            ),
        ));
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::Decode,
                format!("the JSON text is nested deeper than the {MAX_DEPTH} levels that are read"),
            ));
        }
    }
    Ok(())
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A key, borrowed unless it holds escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests;
