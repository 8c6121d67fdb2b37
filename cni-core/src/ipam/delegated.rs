//! Address management by another plugin, executed.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use super::{Ipam, IpamRequest};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::exec::{self, Invocation, Output};
use crate::spec::ValidAttachments;
use crate::spec::config::NetworkConfig;
use crate::spec::{AddResult, Command, NetworkName, wire_error};

/// Any other IPAM plugin on `CNI_PATH` (spec section 4, "Plugin Delegation").
///
/// It gets the configuration's original bytes on stdin and our own environment with another `CNI_COMMAND`; its stderr
/// goes to ours; its errors pass through with their codes. GC and STATUS are forwarded when the configuration's
/// version has these verbs (1.1.0); a plugin that answers that it does not know the verb, or not at this version
/// (codes 1 and 4), is taken to have nothing to collect and nothing to say.
#[derive(Debug, Clone)]
pub struct Delegated {
    name: String,
    path: Vec<PathBuf>,
    environment: Vec<(OsString, OsString)>,
}

impl Delegated {
    /// The plugin `name`, looked for in `path` when it is run, with these environment variables.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a name with a path separator in it.
    pub fn new(
        name: &str,
        path: &[PathBuf],
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        exec::check_name(name).map_err(|error| error.context("`ipam.type` is not valid"))?;
        Ok(Self {
            name: name.to_owned(),
            path: path.to_vec(),
            environment: environment.into_iter().collect(),
        })
    }

    fn run(&self, command: Command, config: &NetworkConfig, cancel: &Cancel) -> Result<Vec<u8>> {
        self.run_with(command, config, cancel, &[])
    }

    fn run_for(&self, command: Command, request: &IpamRequest<'_>) -> Result<Vec<u8>> {
        let attachment = request.attachment;
        let mut variables = vec![
            ("CNI_CONTAINERID", OsStr::new(attachment.container.as_str())),
            ("CNI_IFNAME", OsStr::new(attachment.interface.as_str())),
        ];
        if let Some(netns) = request.netns {
            variables.push(("CNI_NETNS", netns.as_path().as_os_str()));
        }
        self.run_with(command, request.config, request.cancel, &variables)
    }

    fn run_with(
        &self,
        command: Command,
        config: &NetworkConfig,
        cancel: &Cancel,
        variables: &[(&str, &OsStr)],
    ) -> Result<Vec<u8>> {
        let path = std::env::join_paths(&self.path).unwrap_or_default();
        let mut invocation = Invocation::new(exec::find(&self.name, &self.path)?);
        invocation.environment = self.environment.clone();
        invocation.stdin = config.raw().as_bytes().to_vec();
        invocation.cancel = cancel.clone();
        invocation = invocation
            .env("CNI_PATH", path)
            .env("CNI_COMMAND", command.as_str());
        for (key, value) in variables {
            invocation = invocation.env(key, value);
        }
        let output = invocation.run()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(self.failure(command, &output))
    }

    /// The error that a plugin printed, or a sentence about how it ended.
    fn failure(&self, command: Command, output: &Output) -> Error {
        let text = String::from_utf8_lossy(&output.stdout);
        let error = wire_error::parse(text.trim()).unwrap_or_else(|_| {
            Error::new(
                ErrorKind::Internal,
                format!(
                    "it printed no error object ({}); its stderr may say more",
                    output.status
                ),
            )
        });
        error.context(format!(
            "IPAM plugin {:?} failed at {}",
            self.name,
            command.as_str()
        ))
    }

    fn forward(&self, command: Command, config: &NetworkConfig, cancel: &Cancel) -> Result<()> {
        if !config.version().allows(command) {
            return Ok(());
        }
        match self.run(command, config, cancel) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::IncompatibleVersion | ErrorKind::InvalidEnvironment
                ) =>
            {
                tracing::debug!(plugin = %self.name, error = %error.chain(), "the verb is not known");
                Ok(())
            }
            done => done.map(drop),
        }
    }
}

#[async_trait]
impl Ipam for Delegated {
    async fn allocate(&self, request: &IpamRequest<'_>) -> Result<AddResult> {
        let stdout = self.run_for(Command::Add, request)?;
        let parsed = std::str::from_utf8(&stdout)
            .map_err(|error| {
                Error::new(ErrorKind::Decode, "its output is not UTF-8").with_source(error)
            })
            .and_then(|text| AddResult::parse(text, request.config.version()));
        parsed.map_err(|error| {
            let message = format!("IPAM plugin {:?} answered ADD with no result", self.name);
            let error = error.context(message);
            // It has answered, so it may have reserved something that nobody else would give back.
            let undone = self.run_for(Command::Del, request).err();
            let both = std::iter::once(error).chain(undone).collect::<Vec<_>>();
            Error::join(both).unwrap_or_else(|| Error::new(ErrorKind::Decode, "no result"))
        })
    }

    async fn preview(&self, _: &IpamRequest<'_>) -> Result<Option<AddResult>> {
        Ok(None)
    }

    async fn held(&self, _: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>> {
        Ok(None)
    }

    async fn release(&self, request: &IpamRequest<'_>) -> Result<()> {
        self.run_for(Command::Del, request).map(drop)
    }

    async fn check(&self, request: &IpamRequest<'_>) -> Result<()> {
        self.run_for(Command::Check, request).map(drop)
    }

    async fn gc(
        &self,
        _: &NetworkName,
        config: &NetworkConfig,
        _: &ValidAttachments,
    ) -> Result<()> {
        // The list is in the configuration, which the plugin gets as it is.
        self.forward(Command::Gc, config, &Cancel::new())
    }

    async fn status(&self, _: &NetworkName, config: &NetworkConfig) -> Result<()> {
        self.forward(Command::Status, config, &Cancel::new())
    }
}
