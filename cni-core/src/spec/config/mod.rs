//! The configuration that arrives on stdin, and `CNI_ARGS`.
//!
//! Spec section "Section 1: Network configuration format" (plugin configuration objects as they reach a plugin) and
//! "Section 3: Execution of Network Configurations" (what the runtime derives); CONVENTIONS.md of the specification
//! for `args`, `runtimeConfig` and `CNI_ARGS`.

mod args;
#[cfg(test)]
mod args_tests;
#[cfg(test)]
mod properties;
mod runtime;
#[cfg(test)]
mod tests;

pub use args::CniArgs;
pub use runtime::{
    AddressRange, Bandwidth, PortMapping, Protocol, RequestedAddress, RuntimeConfig,
};

use serde_json::value::RawValue;

use super::result::parse::require_family;
use super::{AddResult, ContainerId, Dns, InterfaceName, NetworkName};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::ValidAttachments;
use crate::spec::json::Object;
use crate::spec::version::SpecVersion;

/// A network's configuration: the original bytes, and what every plugin needs of them.
///
/// Accessors read from the text when they are asked, so that a broken member fails the verbs that need it, and not
/// DEL.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    raw: Box<str>,
    version: SpecVersion,
    name: NetworkName,
}

impl NetworkConfig {
    /// Decodes the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] (6) for what is no JSON object, [`ErrorKind::InvalidConfig`] (7) for a missing or bad
    /// `name`, [`ErrorKind::IncompatibleVersion`] (1) for a `cniVersion` that is not supported.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = text_of(bytes)?;
        let object = Object::parse(text)
            .map_err(|error| error.context("the network configuration could not be decoded"))?;
        let Some(name) = object.string("name")?.filter(|name| !name.is_empty()) else {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the network configuration has no `name`",
            ));
        };
        Ok(Self {
            name: name.parse()?,
            version: SpecVersion::of(&object)?,
            raw: text.into(),
        })
    }

    /// The version that a configuration names, as far as that can be read: what an error about it has to carry.
    pub fn version_of(bytes: &[u8]) -> Option<SpecVersion> {
        let object = Object::parse(text_of(bytes).ok()?).ok()?;
        SpecVersion::of(&object).ok()
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

    /// The `type` member: the plugin that the configuration is for.
    pub fn plugin_type(&self) -> Result<Option<String>> {
        self.object()?.string("type")
    }

    /// The `ipam` member, when there is one that is not empty.
    pub fn ipam(&self) -> Result<Option<Object<'_>>> {
        let ipam = self.object()?.object("ipam")?;
        Ok(ipam.filter(|ipam| !ipam.is_empty()))
    }

    /// `ipam.type`: the address management to use. Absent and empty mean none.
    pub fn ipam_type(&self) -> Result<Option<String>> {
        match self.ipam()? {
            Some(ipam) => Ok(ipam.string("type")?.filter(|name| !name.is_empty())),
            None => Ok(None),
        }
    }

    /// The `dns` member.
    pub fn dns(&self) -> Result<Dns> {
        match self.object()?.object("dns")? {
            Some(dns) => Dns::read(&dns),
            None => Ok(Dns::default()),
        }
    }

    /// The `args` member (spec 0.2.0 and later), for namespaces other than `cni`.
    pub fn args(&self) -> Result<Option<Object<'_>>> {
        self.object()?.object("args")
    }

    /// A member of `args.cni`, such as `mac` or `ips`. It takes precedence over `CNI_ARGS` (CONVENTIONS.md).
    pub fn arg(&self, name: &str) -> Result<Option<&RawValue>> {
        Ok(self.cni_args()?.member(name))
    }

    /// All members of `args.cni`; none when it is absent.
    pub fn cni_args(&self) -> Result<Object<'_>> {
        let cni = match self.args()? {
            Some(args) => args.object("cni")?,
            None => None,
        };
        Ok(cni.unwrap_or_default().at("args.cni"))
    }

    /// Whether the plugin declares a capability. The runtime should not pass `capabilities` on, but does.
    pub fn capability(&self, name: &str) -> Result<bool> {
        match self.object()?.object("capabilities")? {
            Some(capabilities) => Ok(capabilities.bool(name)?.unwrap_or_default()),
            None => Ok(false),
        }
    }

    /// The `runtimeConfig` member.
    pub fn runtime_config(&self) -> Result<RuntimeConfig> {
        match self.object()?.object("runtimeConfig")? {
            Some(object) => RuntimeConfig::read(&object, &self.name),
            None => Ok(RuntimeConfig::default()),
        }
    }

    /// The `prevResult` member; absent, `null` and `{}` are `None`. Without a `cniVersion` of its own it has the
    /// configuration's.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when it is no result, or one of another family than the configuration's version.
    pub fn prev_result(&self) -> Result<Option<AddResult>> {
        let object = self.object()?;
        let Some(value) = object.member("prevResult") else {
            return Ok(None);
        };
        if object.object("prevResult")?.is_some_and(|o| o.is_empty()) {
            return Ok(None);
        }
        let result = AddResult::parse(value.get(), self.version).map_err(|error| {
            error
                .context("`prevResult` could not be decoded")
                .with_kind(ErrorKind::Decode)
        })?;
        require_family(&result, self.version)?;
        Ok(Some(result))
    }

    /// `cni.dev/valid-attachments`: absent is `None` (the runtime does not know), `null` and `[]` are an empty set.
    ///
    /// Its old name `cni.dev/attachments` counts when the new one is absent.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when an entry is not a `containerID` and an `ifname`: nothing may be collected on the
    /// strength of a list that was not understood.
    pub fn valid_attachments(&self) -> Result<Option<ValidAttachments>> {
        let object = self.object()?;
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            if object.find(key).is_some() {
                return attachments(&object, key).map(Some);
            }
        }
        Ok(None)
    }

    /// The paths of keys that stand more than once in one object, anywhere in the configuration: `ipam.subnet`.
    /// Which of them counts is a matter of the reader, so that ADD refuses them ([`NetworkConfig::reject_duplicates`]).
    pub fn duplicates(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut open = vec![self.object()?];
        while let Some(object) = open.pop() {
            found.extend(
                object
                    .duplicates()
                    .into_iter()
                    .map(|key| object.path_of(key)),
            );
            for (key, value) in object.iter() {
                collect_objects(value, object.path_of(key), &mut open)?;
            }
        }
        found.sort();
        Ok(found)
    }

    /// Refuses a configuration with duplicate keys.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], naming all of them.
    pub fn reject_duplicates(&self) -> Result<()> {
        let found = self.duplicates()?;
        if found.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "the network configuration has keys that stand more than once: {}; remove all but one",
                found.join(", ")
            ),
        ))
    }
}

/// Objects within a value, arrays of arrays included. The depth of the text is bounded, so the recursion is.
fn collect_objects<'a>(
    value: &'a RawValue,
    path: String,
    into: &mut Vec<Object<'a>>,
) -> Result<()> {
    match crate::spec::json::kind_of(value) {
        "object" => into.push(Object::read(value.get(), path)?),
        "array" => {
            let elements: Vec<&'a RawValue> =
                serde_json::from_str(value.get()).map_err(|error| {
                    Error::new(ErrorKind::Decode, format!("`{path}` is not valid JSON"))
                        .with_source(error)
                })?;
            for (index, element) in elements.into_iter().enumerate() {
                collect_objects(element, format!("{path}[{index}]"), into)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn attachments(object: &Object<'_>, key: &str) -> Result<ValidAttachments> {
    let mut pairs = Vec::new();
    for entry in object.objects(key)? {
        let text = |name: &str| -> Result<String> {
            entry
                .string(name)?
                .ok_or_else(|| entry.missing(name).with_kind(ErrorKind::Decode))
        };
        let wrong = |error: Error| {
            error
                .context(format!("`{}` is no attachment", entry.path()))
                .with_kind(ErrorKind::Decode)
        };
        let container: ContainerId = text("containerID")?.parse().map_err(wrong)?;
        let interface: InterfaceName = text("ifname")?.parse().map_err(wrong)?;
        pairs.push((container, interface));
    }
    Ok(ValidAttachments::new(pairs))
}

/// The text of stdin, with a sentence for what is commonly wrong with it.
fn text_of(bytes: &[u8]) -> Result<&str> {
    let wrong = |message: &str| Err(Error::new(ErrorKind::Decode, message));
    if bytes.trim_ascii().is_empty() {
        return wrong("no network configuration arrived on stdin: it is empty");
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return wrong(
            "the network configuration begins with a byte order mark; save it without one",
        );
    }
    std::str::from_utf8(bytes).map_err(|error| {
        Error::new(
            ErrorKind::Decode,
            "the network configuration is not valid UTF-8",
        )
        .with_source(error)
    })
}
