//! `CNI_ARGS`.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use crate::error::{Error, ErrorKind, Result};

/// `CNI_ARGS`: `KEY=VALUE` pairs separated by semicolons (spec section "Parameters"; the rules are the reference
/// library's).
///
/// Keys are case sensitive, the last of duplicates wins, and nothing can be escaped. Unknown keys are an error
/// ([`CniArgs::reject_unknown`]) unless `IgnoreUnknown` is set, wherever in the string it stands.
#[derive(Debug, Clone, Default)]
pub struct CniArgs {
    pairs: BTreeMap<String, String>,
}

const IGNORE_UNKNOWN: &str = "IgnoreUnknown";

impl CniArgs {
    /// Reads the variable's value; the empty string has no pairs.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEnvironment`] for a pair without exactly one `=`, hence also for a `;` at the end, and for
    /// an `IgnoreUnknown` that is none of 1, true, 0 and false.
    pub fn parse(text: &str) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        if text.is_empty() {
            return Ok(Self { pairs });
        }
        for pair in text.split(';') {
            let Some((key, value)) = split(pair) else {
                return Err(Error::new(
                    ErrorKind::InvalidEnvironment,
                    format!("CNI_ARGS {text:?} holds {pair:?}, which is not of the form KEY=VALUE"),
                ));
            };
            pairs.insert(key.to_owned(), value.to_owned());
        }
        let args = Self { pairs };
        args.ignores_unknown()?;
        Ok(args)
    }

    /// As [`CniArgs::parse`], of a value as the environment holds it. Bytes that are not UTF-8 are replaced: they can
    /// only stand in values that the plugin does not know, or that it will refuse as no address.
    ///
    /// # Errors
    /// Those of [`CniArgs::parse`].
    pub fn parse_os(text: &OsStr) -> Result<Self> {
        Self::parse(&text.to_string_lossy())
    }

    /// As [`CniArgs::parse_os`], for DEL: what is not of the right form is passed over.
    pub fn parse_lenient(text: &OsStr) -> Self {
        let text = text.to_string_lossy();
        let pairs = text.split(';').filter_map(split);
        Self {
            pairs: pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    /// The value of a key; keys are case sensitive.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).map(String::as_str)
    }

    /// All pairs, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Refuses keys that are not in `known`, unless `IgnoreUnknown` is set.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidEnvironment`], naming all unknown keys.
    pub fn reject_unknown(&self, known: &[&str]) -> Result<()> {
        if self.ignores_unknown()? {
            return Ok(());
        }
        let unknown: Vec<String> = self
            .pairs
            .iter()
            .filter(|(key, _)| *key != IGNORE_UNKNOWN && !known.contains(&key.as_str()))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidEnvironment,
            format!(
                "CNI_ARGS holds keys that this plugin does not know: {}; it knows {}, and IgnoreUnknown=1 admits others",
                unknown.join(", "),
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                },
            ),
        ))
    }

    fn ignores_unknown(&self) -> Result<bool> {
        match self
            .value(IGNORE_UNKNOWN)
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("1" | "true") => Ok(true),
            None | Some("0" | "false") => Ok(false),
            Some(other) => Err(Error::new(
                ErrorKind::InvalidEnvironment,
                format!("CNI_ARGS holds IgnoreUnknown={other}, which must be 1, true, 0 or false"),
            )),
        }
    }
}

/// Key and value of a pair with exactly one `=`.
fn split(pair: &str) -> Option<(&str, &str)> {
    let (key, value) = pair.split_once('=')?;
    (!value.contains('=')).then_some((key, value))
}
