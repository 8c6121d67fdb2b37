//! A JSON object as a typed view over the original text: members keep their exact bytes, keys match exactly first and
//! else without regard to ASCII case.

use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};

/// An object whose members are borrowed from the text.
#[derive(Debug, Clone)]
pub struct Object<'a> {
    members: Vec<(String, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads the members of an object.
    pub fn parse(_text: &'a str) -> Result<Self> {
        Err(Error::new(ErrorKind::Decode, "x"))
    }

    /// A member by its name; `null` counts as absent.
    pub fn member(&self, name: &str) -> Option<&'a RawValue> {
        self.members
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| *value)
    }
}
