//! The verbs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_trait::async_trait;

use crate::attach;
use crate::backend::{
    AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest, NetworkBackend, StatusRequest,
};
use crate::chained::flow;
use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::NetlinkExt;
use crate::host::{Sandbox, disk};
use crate::plan::{Handles, Plan, Scope, apply, diff, observe, remove};
use crate::spec::{AddResult, Attachment};

use super::allow_list::{ALLOW_LIST, AllowList};
use super::backup::{self, Backup};
use super::config::{TuningConfig, check_data_dir};
use super::desired::{desired, restoration, writes};

/// The `tuning` plugin.
#[derive(Debug, Clone)]
pub struct TuningPlugin {
    allow_list: PathBuf,
}

/// `CNI_ARGS` that this plugin understands.
const KNOWN_ARGS: [&str; 1] = ["MAC"];

impl Default for TuningPlugin {
    fn default() -> Self {
        Self {
            allow_list: PathBuf::from(ALLOW_LIST),
        }
    }
}

impl TuningPlugin {
    /// With the list of allowed kernel parameters elsewhere than at [`ALLOW_LIST`].
    #[must_use]
    pub fn with_allow_list(path: impl Into<PathBuf>) -> Self {
        Self {
            allow_list: path.into(),
        }
    }

    fn allowed(&self, config: &TuningConfig) -> Result<()> {
        match AllowList::read(&self.allow_list)? {
            Some(list) => list.require(&config.parameters),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl NetworkBackend for TuningPlugin {
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added> {
        let mut result = flow::previous(request)?.clone();
        request.args.reject_unknown(&KNOWN_ARGS)?;
        let attachment = request.attachment;
        let config = TuningConfig::parse(request.config, request.args, &attachment.interface)?;
        check_data_dir(request.config)?;
        self.allowed(&config)?;
        require_interface(request.sandbox, attachment).await?;
        let write_only = write_only(request.sandbox, &config).await;
        let desired = desired(&attachment.interface, &config, &write_only);
        let handles = Handles {
            host: cx.host,
            sandbox: Some(request.sandbox),
        };
        let observed = observe(&handles, &desired, Scope::All).await?;
        let mut plan = diff(&desired, &observed)?;
        let compared = plan.clone();
        plan.append(writes(&config, &write_only));
        if !cx.dry_run {
            let kept = Kept::write(request, &compared)?;
            match apply(&plan, &handles, cx.cancel).await {
                Ok(journal) => journal.keep(),
                Err(error) => {
                    let now = observe(&handles, &desired, Scope::All).await;
                    let now = now.and_then(|now| diff(&desired, &now));
                    // What could not be taken back, DEL still has to put back.
                    return Err(match now.is_ok_and(|now| now == compared) {
                        true => kept.undo(error),
                        false => error,
                    });
                }
            }
        }
        tell(&mut result, attachment, &config);
        Ok(Added::new(result, plan))
    }

    async fn del(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<()> {
        if cx.dry_run {
            return Err(attach::not_in_a_dry_run("DEL"));
        }
        let Removal {
            file,
            plan,
            sandbox,
        } = removal(cx, request).await?;
        let handles = Handles {
            host: cx.host,
            sandbox: sandbox.as_ref(),
        };
        match Error::join(remove(&plan, &handles).await) {
            // DEL will be repeated.
            Some(error) => Err(error),
            None => file.map_or(Ok(()), |file| backup::remove(&file)),
        }
    }

    async fn del_plan(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<Option<Plan>> {
        let removal = removal(cx, request).await?;
        let file = removal
            .file
            .filter(|file| file.exists())
            .map(|file| format!("rm {}", file.display()));
        Ok(Some(removal.plan.after(file)))
    }

    async fn check(&self, cx: &Context<'_>, request: &CheckRequest<'_>) -> Result<()> {
        let attachment = request.attachment;
        let config = TuningConfig::parse(request.config, request.args, &attachment.interface)?;
        let write_only = write_only(request.sandbox, &config).await;
        let desired = desired(&attachment.interface, &config, &write_only);
        attach::check(cx, request, &desired, false, Vec::new()).await
    }

    async fn gc(&self, cx: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
        if cx.dry_run {
            return Err(attach::not_in_a_dry_run("GC"));
        }
        let marks = request.valid.marks(request.network);
        let files = backup::all(&TuningConfig::data_dir(request.config))?;
        let stale = files
            .into_iter()
            .filter(|(_, mark)| mark.is_of(request.network) && !marks.contains(mark));
        let errors = stale.filter_map(|(file, _)| backup::remove(&file).err());
        Error::join(errors.collect()).map_or(Ok(()), Err)
    }

    async fn status(&self, _: &Context<'_>, request: &StatusRequest<'_>) -> Result<()> {
        check_data_dir(request.config)?;
        AllowList::read(&self.allow_list)
            .map_err(|error| error.with_kind(ErrorKind::NotAvailable))?;
        let directory = TuningConfig::data_dir(request.config);
        let there = directory.ancestors().find(|path| path.exists());
        match there.is_some_and(|path| path.is_dir() && disk::can_be_written(path)) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::NotAvailable,
                format!(
                    "nothing can be written below {}, where tuning keeps what DEL has to put back: name another directory in \
                     \"dataDir\"",
                    directory.display()
                ),
            )),
        }
    }
}

async fn require_interface(sandbox: &Sandbox, attachment: &Attachment) -> Result<()> {
    let name = &attachment.interface;
    match sandbox.netlink.link(name.as_str()).await? {
        Some(_) => Ok(()),
        None => Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "the container {} has no interface {name}: tuning sets what another plugin has attached, so put it behind \
                 that one in a list of plugins",
                sandbox.path
            ),
        )),
    }
}

/// Parameters that exist and cannot be read.
async fn write_only(sandbox: &Sandbox, config: &TuningConfig) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for parameter in &config.parameters {
        if sandbox.sysctl.read(&parameter.path).await.is_err() {
            found.insert(parameter.path.clone());
        }
    }
    found
}

/// The file of an ADD, and what it was before.
struct Kept {
    file: PathBuf,
    before: Option<String>,
    written: bool,
}

impl Kept {
    /// Before anything is changed, so that a process that dies has not changed anything that DEL does not know of.
    fn write(request: &AddRequest<'_>, plan: &Plan) -> Result<Self> {
        let directory = TuningConfig::data_dir(request.config);
        let file = backup::file(&directory, request.attachment);
        if plan.is_empty() {
            return Ok(Self {
                file,
                before: None,
                written: false,
            });
        }
        let before = backup::read(&file)?;
        let first = before.as_deref().and_then(Backup::parse);
        let first = first.filter(|first| first.is_of(request.attachment));
        let backup = Backup::of(plan, request.attachment).after(first);
        backup::write(&file, &backup.to_json())?;
        Ok(Self {
            file,
            before,
            written: true,
        })
    }

    /// Takes the file back, after this error.
    fn undo(self, error: Error) -> Error {
        let outcome = match (&self.before, self.written) {
            (_, false) => Ok(()),
            (Some(text), true) => backup::write(&self.file, text),
            (None, true) => backup::remove(&self.file),
        };
        match outcome {
            Ok(()) => error,
            Err(second) => {
                let message = format!("{error}; and {}", second.chain());
                error.context(message)
            }
        }
    }
}

/// The interface as it is now goes into the result.
fn tell(result: &mut AddResult, attachment: &Attachment, config: &TuningConfig) {
    let name = attachment.interface.as_str();
    let own = |interface: &&mut crate::spec::Interface| {
        interface.name == name && !interface.sandbox.is_empty()
    };
    for interface in result.interfaces.iter_mut().filter(own) {
        if let Some(mac) = config.mac {
            interface.mac = mac.to_string();
        }
        if let Some(mtu) = config.mtu {
            interface.mtu = mtu;
        }
    }
}

/// What DEL does.
struct Removal {
    /// The attachment's file, when it is ours to remove.
    file: Option<PathBuf>,
    plan: Plan,
    /// The container's namespace, where a step of the plan is in it.
    sandbox: Option<Sandbox>,
}

async fn removal(cx: &Context<'_>, request: &DelRequest<'_>) -> Result<Removal> {
    let directory = TuningConfig::data_dir(request.config);
    let file = backup::file(&directory, request.attachment);
    let mut removal = Removal {
        file: Some(file.clone()),
        plan: Plan::new(),
        sandbox: None,
    };
    let Some(text) = backup::read(&file)? else {
        return Ok(removal);
    };
    let Some(backup) = Backup::parse(&text) else {
        tracing::warn!(file = %file.display(), "nothing can be put back: the file is broken");
        return Ok(removal);
    };
    if !backup.is_of(request.attachment) {
        removal.file = None;
        return Ok(removal);
    }
    let Some(netns) = request.netns else {
        return Ok(removal);
    };
    // A namespace that is gone has taken with it whatever was set.
    let Ok(sandbox) = cx.host.namespaces.open(netns).await else {
        return Ok(removal);
    };
    let link = sandbox
        .netlink
        .link(request.attachment.interface.as_str())
        .await?;
    let mut parameters = BTreeMap::new();
    for key in backup.parameters.keys() {
        if let Some(value) = sandbox.sysctl.read(key).await? {
            parameters.insert(key.clone(), value);
        }
    }
    removal.plan = restoration(&backup, link.as_ref(), &parameters);
    removal.sandbox = Some(sandbox);
    Ok(removal)
}
