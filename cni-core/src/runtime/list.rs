//! Network configuration lists (spec section "Section 1: Network configuration format").

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::config::NetworkConfig;
use crate::spec::json::Object;
use crate::spec::{NetworkName, SpecVersion};

/// A network: the plugins to run, in order. The plugins' members keep their exact text.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetworkList {
    /// The network's name.
    pub name: NetworkName,
    /// The version that all plugins are run with: the newest of `cniVersions` and `cniVersion` that this crate speaks.
    pub version: SpecVersion,
    /// CHECK is not to be run.
    pub disable_check: bool,
    /// GC is not to be run.
    pub disable_gc: bool,
    /// The plugins, in the order of ADD.
    pub plugins: Vec<PluginConfig>,
    /// The text that it was read from.
    pub raw: String,
}

/// One plugin of a network.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PluginConfig {
    /// The program's name, to be found in `CNI_PATH`.
    pub plugin_type: String,
    /// The capabilities that it declares as `true`.
    pub capabilities: BTreeSet<String>,
    /// Its configuration object.
    pub raw: String,
}

/// What a runtime adds to a plugin's configuration.
#[derive(Debug, Default)]
pub(super) struct Injected<'a> {
    /// The result before it.
    pub(super) prev_result: Option<&'a str>,
    /// Arguments by capability; those that the plugin declares become its `runtimeConfig`.
    pub(super) capability_args: &'a [(String, Box<RawValue>)],
    /// More members, as key and JSON text.
    pub(super) more: &'a [(&'a str, &'a str)],
}

impl NetworkList {
    /// Reads a list (`.conflist`).
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for what is no such object, [`ErrorKind::InvalidConfig`] for a missing name or type or a
    /// list that is present but empty, [`ErrorKind::IncompatibleVersion`] when this crate speaks none of its versions.
    pub fn parse(text: &str) -> Result<Self> {
        let list = Self::parse_without_plugins(text)?;
        if list.plugins.is_empty() {
            return Err(no_plugins(&list.name));
        }
        Ok(list)
    }

    /// The same; but plugins may still come from other files.
    pub(super) fn parse_without_plugins(text: &str) -> Result<Self> {
        let object = Object::parse(text)?;
        let name = name(&object)?;
        let plugins = object
            .objects("plugins")?
            .iter()
            .zip(object.elements("plugins")?)
            .map(|(plugin, raw)| PluginConfig::read(plugin, raw.get()))
            .collect::<Result<Vec<_>>>()?;
        if object.member("plugins").is_some() && plugins.is_empty() {
            return Err(no_plugins(&name));
        }
        Ok(Self {
            name,
            version: version(&object)?,
            disable_check: flag(&object, "disableCheck")?,
            disable_gc: flag(&object, "disableGC")?,
            plugins,
            raw: text.to_owned(),
        })
    }

    /// Reads a single plugin's configuration (`.conf`) as a list of one.
    ///
    /// # Errors
    /// Those of [`NetworkList::parse`].
    pub fn parse_single(text: &str) -> Result<Self> {
        let object = Object::parse(text)?;
        if object.member("plugins").is_some() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "a single plugin's configuration holds a list of `plugins`; name the file .conflist",
            ));
        }
        Ok(Self {
            name: name(&object)?,
            version: version(&object)?,
            disable_check: false,
            disable_gc: false,
            plugins: vec![PluginConfig::read(&object, text)?],
            raw: text.to_owned(),
        })
    }

    /// Whether files of further plugins are to be left out.
    pub(super) fn only_inlined(text: &str) -> Result<bool> {
        flag(&Object::parse(text)?, "loadOnlyInlinedPlugins")
    }

    /// What a plugin of this network is configured as, without what a runtime adds at run time: for programs beside the
    /// plugin that have to mean the same.
    ///
    /// # Errors
    /// Those of [`NetworkConfig::parse`].
    pub fn config_of(&self, plugin: &PluginConfig) -> Result<NetworkConfig> {
        let text = self.stdin_of(plugin, &Injected::default())?;
        NetworkConfig::parse(text.as_bytes())
    }

    /// What a plugin of this network gets on stdin: its own members, unchanged, and the runtime's.
    pub(super) fn stdin_of(
        &self,
        plugin: &PluginConfig,
        injected: &Injected<'_>,
    ) -> Result<String> {
        let runtime_config = plugin.runtime_config(injected.capability_args);
        let mut ours: Vec<(&str, &str)> = injected.more.to_vec();
        if let Some(text) = &runtime_config {
            ours.push(("runtimeConfig", text));
        }
        if let Some(text) = injected.prev_result {
            ours.push(("prevResult", text));
        }
        let mut text = format!(
            r#"{{"cniVersion":"{}","name":"{}""#,
            self.version, self.name
        );
        for (key, value) in Object::parse(&plugin.raw)?.iter() {
            // What the specification calls the runtime's own, a configuration cannot set.
            let reserved = matches!(key, "cniVersion" | "name" | "capabilities" | "prevResult")
                || ours.iter().any(|(ours, _)| *ours == key);
            if !reserved {
                member(&mut text, key, value.get());
            }
        }
        for (key, value) in ours {
            member(&mut text, key, value);
        }
        text.push('}');
        Ok(text)
    }
}

impl PluginConfig {
    /// Reads a plugin's configuration object.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for what is no object, [`ErrorKind::InvalidConfig`] when `type` is missing.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(&Object::parse(text)?, text)
    }

    fn read(object: &Object<'_>, raw: &str) -> Result<Self> {
        let plugin_type = object
            .string("type")?
            .filter(|name| !name.is_empty())
            .ok_or_else(|| object.missing("type"))?;
        let mut capabilities = BTreeSet::new();
        if let Some(declared) = object.object("capabilities")? {
            for (name, _) in declared.iter() {
                if declared.bool(name)?.unwrap_or_default() {
                    capabilities.insert(name.to_owned());
                }
            }
        }
        Ok(Self {
            plugin_type,
            capabilities,
            raw: raw.to_owned(),
        })
    }

    /// `runtimeConfig`: of the arguments, those whose capability the plugin declares. `None` when there is none.
    fn runtime_config(&self, args: &[(String, Box<RawValue>)]) -> Option<String> {
        let mut text = String::new();
        for (name, value) in args {
            if self.capabilities.contains(name) {
                member(&mut text, name, value.get());
            }
        }
        let members = text.strip_prefix(',')?;
        Some(format!("{{{members}}}"))
    }
}

fn member(text: &mut String, key: &str, value: &str) {
    // A string always serializes, and so does writing to a string.
    let key = serde_json::to_string(key).unwrap_or_default();
    let _ = write!(text, ",{key}:{value}");
}

fn name(object: &Object<'_>) -> Result<NetworkName> {
    object
        .string("name")?
        .filter(|name| !name.is_empty())
        .ok_or_else(|| object.missing("name"))?
        .parse()
}

fn no_plugins(name: &NetworkName) -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        format!("the network {name} has no plugins"),
    )
}

/// The newest version that both the list and this crate speak. A list without any is one of 0.1.0.
fn version(object: &Object<'_>) -> Result<SpecVersion> {
    let mut named = object.strings("cniVersions")?;
    named.extend(object.string("cniVersion")?.filter(|text| !text.is_empty()));
    if named.is_empty() {
        return Ok(SpecVersion::V0_1_0);
    }
    let mut newest = None;
    for text in &named {
        match text.parse::<SpecVersion>() {
            Ok(version) => newest = newest.max(Some(version)),
            Err(error) if error.kind() == ErrorKind::IncompatibleVersion => {}
            Err(error) => return Err(error),
        }
    }
    newest.ok_or_else(|| {
        Error::new(
            ErrorKind::IncompatibleVersion,
            format!(
                "none of the list's versions is supported: {}",
                named.join(", ")
            ),
        )
    })
}

/// A boolean of a list; the reference library also takes the words, in any case.
fn flag(object: &Object<'_>, name: &str) -> Result<bool> {
    let Some(value) = object.member(name) else {
        return Ok(false);
    };
    match value.get().trim_matches('"').to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(object.wrong_type(name, value, "true or false")),
    }
}
