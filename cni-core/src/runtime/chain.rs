//! The verbs over a whole list.

use std::collections::BTreeSet;

use super::list::{Injected, NetworkList};
use super::{Runtime, Target, exec};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::ValidAttachments;
use crate::spec::json::Object;
use crate::spec::{AddResult, Command, SpecVersion};

/// What [`Runtime::validate`] found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The capabilities that the plugins declare.
    pub capabilities: BTreeSet<String>,
    /// What is wrong; empty when nothing is.
    pub problems: Vec<Error>,
}

impl Runtime {
    /// Attaches: runs the plugins in order, each with the result of the one before, and keeps the last result.
    ///
    /// # Errors
    /// That of the plugin that failed. What was made until then has been taken back by a DEL of the list; if that
    /// failed as well, the error says so.
    pub fn add(&self, list: &NetworkList, target: &Target) -> Result<AddResult> {
        if target.netns.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidEnvironment,
                "ADD needs the container's network namespace",
            ));
        }
        let added = self.add_chain(list, target).and_then(|text| {
            self.cache.write(list, target, &text)?;
            AddResult::parse(&text, list.version)
        });
        added.map_err(|error| match self.take_back(list, target) {
            Ok(()) => error,
            Err(undo) => Error::new(
                error.kind(),
                format!(
                    "{}; and taking it back failed: {}",
                    error.chain(),
                    undo.chain()
                ),
            ),
        })
    }

    /// The DEL of an ADD that failed, also when the ADD failed because it was cancelled.
    fn take_back(&self, list: &NetworkList, target: &Target) -> Result<()> {
        let runtime = self.clone().cancelled_by(Cancel::new());
        runtime.del_chain(list, target, None)
    }

    fn add_chain(&self, list: &NetworkList, target: &Target) -> Result<String> {
        let mut result: Option<String> = None;
        for plugin in &list.plugins {
            let stdin = list.stdin_of(
                plugin,
                &Injected {
                    prev_result: result.as_deref(),
                    capability_args: &target.capability_args,
                    more: &[],
                },
            )?;
            let text = self.call(plugin, Command::Add, Some(target), stdin)?;
            let text = at_version(&text, list.version).map_err(|error| {
                error.context(format!(
                    "plugin {:?} gave no valid result",
                    plugin.plugin_type
                ))
            })?;
            result = Some(text);
        }
        result.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("the network {} has no plugins", list.name),
            )
        })
    }

    /// Compares what is there with what ADD made. Nothing is done for a list with `disableCheck`.
    ///
    /// # Errors
    /// That of the first plugin that finds a difference; [`ErrorKind::IncompatibleVersion`] before 0.4.0;
    /// [`ErrorKind::Decode`] when the kept result is broken.
    pub fn check(&self, list: &NetworkList, target: &Target) -> Result<()> {
        list.version.require(Command::Check)?;
        if list.disable_check {
            return Ok(());
        }
        let kept = self.kept(list, target)?;
        for plugin in &list.plugins {
            let stdin = list.stdin_of(
                plugin,
                &Injected {
                    prev_result: kept.as_deref(),
                    capability_args: &target.capability_args,
                    more: &[],
                },
            )?;
            self.call(plugin, Command::Check, Some(target), stdin)?;
        }
        Ok(())
    }

    /// Detaches: runs all plugins in reverse order, whichever of them fail, and forgets the result when none has. A kept
    /// result that is broken counts as none.
    ///
    /// # Errors
    /// All failures together, with the code of the first.
    pub fn del(&self, list: &NetworkList, target: &Target) -> Result<()> {
        let kept = self.kept(list, target).unwrap_or_else(|error| {
            tracing::warn!(error = error.chain(), "the kept result is not used");
            None
        });
        let kept = kept.filter(|_| list.version >= SpecVersion::V0_4_0);
        self.del_chain(list, target, kept.as_deref())?;
        self.cache.remove(list, target)
    }

    fn del_chain(
        &self,
        list: &NetworkList,
        target: &Target,
        prev_result: Option<&str>,
    ) -> Result<()> {
        let mut errors = Vec::new();
        for plugin in list.plugins.iter().rev() {
            let injected = Injected {
                prev_result,
                capability_args: &target.capability_args,
                more: &[],
            };
            let done = list
                .stdin_of(plugin, &injected)
                .and_then(|stdin| self.call(plugin, Command::Del, Some(target), stdin));
            errors.extend(done.err());
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    /// Removes every attachment of the network that is not valid: those that are kept by a DEL each, the others by the
    /// plugins' GC (since 1.1.0). Nothing is done for a list with `disableGC`.
    ///
    /// # Errors
    /// All failures together.
    pub fn gc(&self, list: &NetworkList, valid: &ValidAttachments) -> Result<()> {
        if list.disable_gc {
            return Ok(());
        }
        let mut errors = Vec::new();
        let kept = self.cache.of_network(&list.name).unwrap_or_else(|error| {
            // The plugins can still collect what they know of.
            errors.push(error);
            Vec::new()
        });
        for entry in kept {
            let (Ok(container), Ok(interface)) = (entry.container.parse(), entry.interface.parse())
            else {
                continue;
            };
            if valid.contains(&container, &interface) {
                continue;
            }
            let mut target = Target::new(container, interface);
            target.netns = Some(entry.netns)
                .filter(|path| !path.is_empty())
                .map(Into::into);
            let args: Vec<String> = entry.args.iter().map(|pair| pair.join("=")).collect();
            target.args = args.join(";");
            target.capability_args = entry.capability_args;
            errors.extend(self.del(list, &target).err());
        }
        if list.version.require(Command::Gc).is_ok() {
            errors.extend(self.gc_chain(list, valid));
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    fn gc_chain(&self, list: &NetworkList, valid: &ValidAttachments) -> Vec<Error> {
        let entries: Vec<String> = valid
            .iter()
            // Both are names of ASCII without quotes, or an interface's, which may hold any other byte.
            .map(|(container, interface)| {
                serde_json::json!({"containerID": container.as_str(), "ifname": interface.as_str()})
                    .to_string()
            })
            .collect();
        let text = format!("[{}]", entries.join(","));
        // The second is the key's name in early texts of 1.1.0.
        let more = [
            ("cni.dev/valid-attachments", text.as_str()),
            ("cni.dev/attachments", text.as_str()),
        ];
        let injected = Injected {
            more: &more,
            ..Injected::default()
        };
        list.plugins
            .iter()
            .filter_map(|plugin| {
                list.stdin_of(plugin, &injected)
                    .and_then(|stdin| self.call(plugin, Command::Gc, None, stdin))
                    .err()
            })
            .collect()
    }

    /// Asks the plugins whether an ADD could work. Before 1.1.0 nobody can tell, which counts as yes.
    ///
    /// # Errors
    /// That of the first plugin that says no, with its code (50 or 51).
    pub fn status(&self, list: &NetworkList) -> Result<()> {
        if list.version.require(Command::Status).is_err() {
            return Ok(());
        }
        for plugin in &list.plugins {
            let stdin = list.stdin_of(plugin, &Injected::default())?;
            self.call(plugin, Command::Status, None, stdin)?;
        }
        Ok(())
    }

    /// Whether every plugin of the list is there and speaks the list's version.
    pub fn validate(&self, list: &NetworkList) -> Report {
        let mut report = Report::default();
        for plugin in &list.plugins {
            report
                .capabilities
                .extend(plugin.capabilities.iter().cloned());
            let name = &plugin.plugin_type;
            match exec::find(name, &self.path).and_then(|_| self.version(name)) {
                Err(error) => report.problems.push(error),
                Ok(reply) if !reply.supports(list.version) => report.problems.push(Error::new(
                    ErrorKind::IncompatibleVersion,
                    format!(
                        "plugin {name:?} does not support the version {} of network {}, but only {}",
                        list.version,
                        list.name,
                        reply.supported.join(", ")
                    ),
                )),
                Ok(_) => {}
            }
        }
        report
    }

    /// The kept result at the list's version.
    fn kept(&self, list: &NetworkList, target: &Target) -> Result<Option<String>> {
        match self.cache.read(list, target)? {
            Some(entry) => at_version(&entry.result, list.version).map(Some),
            None => Ok(None),
        }
    }
}

/// A result's text at a version: unchanged where it is of that version.
fn at_version(text: &str, version: SpecVersion) -> Result<String> {
    let parsed = AddResult::parse(text, version)?;
    let said = Object::parse(text).and_then(|object| object.string("cniVersion"));
    if said.is_ok_and(|said| said.as_deref() == Some(version.as_str())) {
        return Ok(text.trim().to_owned());
    }
    parsed.render(version)
}
