//! The configuration that arrives on stdin, and `CNI_ARGS`.

use std::collections::BTreeMap;

use super::{AddResult, Dns, NetworkName};
use crate::backend::ValidAttachments;
use crate::error::Result;
use crate::spec::json::Object;
use crate::spec::version::SpecVersion;

/// A network's configuration: the original bytes, and what every plugin needs of them.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    raw: Box<str>,
    version: SpecVersion,
    name: NetworkName,
}

/// `CNI_ARGS`: `KEY=VALUE` pairs separated by semicolons.
#[derive(Debug, Clone, Default)]
pub struct CniArgs {
    pairs: BTreeMap<String, String>,
}

/// `runtimeConfig`: what the runtime passes for the capabilities that a plugin declares.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RuntimeConfig {}

impl NetworkConfig {
    /// Decodes the configuration.
    pub fn parse(_bytes: &[u8]) -> Result<Self> {
        Err(crate::Error::new(crate::ErrorKind::Decode, "x"))
    }

    /// The bytes as they came, for delegates.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The version of the configuration, and so of the result.
    pub fn version(&self) -> SpecVersion {
        self.version
    }

    /// The network's name.
    pub fn name(&self) -> &NetworkName {
        &self.name
    }

    /// All members, for a plugin's own keys.
    pub fn object(&self) -> Result<Object<'_>> {
        Object::parse(&self.raw)
    }

    /// The `ipam` member, when there is one that is not empty.
    pub fn ipam(&self) -> Result<Option<Object<'_>>> {
        Ok(None)
    }

    /// The `dns` member.
    pub fn dns(&self) -> Result<Dns> {
        Ok(Dns::default())
    }

    /// The `runtimeConfig` member.
    pub fn runtime_config(&self) -> Result<RuntimeConfig> {
        Ok(RuntimeConfig::default())
    }

    /// The `prevResult` member; absent, `null` and `{}` are `None`.
    pub fn prev_result(&self) -> Result<Option<AddResult>> {
        Ok(None)
    }

    /// `cni.dev/valid-attachments`: absent is `None` (the runtime does not know), `null` and `[]` are an empty set.
    pub fn valid_attachments(&self) -> Result<Option<ValidAttachments>> {
        Ok(None)
    }
}

impl CniArgs {
    /// The value of a key; keys are case sensitive.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).map(String::as_str)
    }

    /// Refuses keys that are not in `known`, unless `IgnoreUnknown` is set.
    pub fn reject_unknown(&self, _known: &[&str]) -> Result<()> {
        Ok(())
    }
}
