//! `cnitool`: attaches a network namespace to a network by hand, as a container runtime does.
//!
//! Commands, variables and container IDs are those of the reference `cnitool`; `version` and `validate` are beside them.

mod input;
mod pretty;

use std::io::Write;
use std::process::ExitCode;

use cni_core::runtime::{NetworkList, Runtime, load};
use cni_core::spec::ValidAttachments;
use cni_core::{Error, ErrorKind, Result};

use input::Input;

const USAGE: &str = "\
cnitool: attaches a network namespace to a CNI network, as a container runtime does

  cnitool add NET NETNS       attach, and print the result
  cnitool check NET NETNS     compare with what the result said
  cnitool del NET NETNS       detach
  cnitool gc NET [ID/IFNAME]...  remove all attachments but these
  cnitool status NET          whether an add could work
  cnitool validate NET        whether all plugins are there and speak the network's version
  cnitool version [NET]       versions of this tool, or of the network's plugins

  NETCONFPATH      directory of configurations (/etc/cni/net.d)
  CNI_PATH         directories of plugins, separated by colons
  CNI_IFNAME       the interface's name in NETNS (eth0)
  CNI_CONTAINERID  the container's ID (derived from NETNS)
  CNI_ARGS         arguments, as KEY=VALUE;...
  CAP_ARGS         arguments by capability, as a JSON object
  CNI_CACHE_DIR    directory of kept results (/var/lib/cni)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match serve(&arguments) {
        Ok(text) => print(&text),
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("could not write to stdout: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is to be printed.
fn serve(arguments: &[&str]) -> Result<String> {
    let input = Input::from_environment()?;
    let runtime = input.runtime()?;
    let find = |name: &str| load(&input.configurations, name);
    let nothing = |()| String::new();
    match arguments {
        ["help" | "-h" | "--help"] => Ok(USAGE.to_owned()),
        ["add", network, netns] => {
            let list = find(network)?;
            let result = runtime.add(&list, &input.target(netns)?)?;
            Ok(pretty::indented(&result.render(list.version)?))
        }
        ["check", network, netns] => runtime
            .check(&find(network)?, &input.target(netns)?)
            .map(nothing),
        ["del", network, netns] => runtime
            .del(&find(network)?, &input.target(netns)?)
            .map(nothing),
        ["gc", network, valid @ ..] => runtime
            .gc(&find(network)?, &attachments(valid)?)
            .map(nothing),
        ["status", network] => runtime.status(&find(network)?).map(nothing),
        ["validate", network] => validate(&runtime, &find(network)?),
        ["version"] => Ok(format!("cnitool {}\n", env!("CARGO_PKG_VERSION"))),
        ["version", network] => versions(&runtime, &find(network)?),
        _ => Err(Error::new(ErrorKind::InvalidEnvironment, USAGE.trim_end())),
    }
}

fn attachments(valid: &[&str]) -> Result<ValidAttachments> {
    let pairs = valid.iter().map(|text| {
        let (container, interface) = text.split_once('/').ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidEnvironment,
                format!("an attachment is CONTAINER-ID/IFNAME, and {text:?} has no `/`"),
            )
        })?;
        Ok((container.parse()?, interface.parse()?))
    });
    Ok(ValidAttachments::new(pairs.collect::<Result<Vec<_>>>()?))
}

fn validate(runtime: &Runtime, list: &NetworkList) -> Result<String> {
    let report = runtime.validate(list);
    if let Some(error) = Error::join(report.problems) {
        return Err(error);
    }
    let capabilities: Vec<String> = report.capabilities.into_iter().collect();
    Ok(format!(
        "network {} is valid at version {}; capabilities: {}\n",
        list.name,
        list.version,
        if capabilities.is_empty() {
            "none".to_owned()
        } else {
            capabilities.join(", ")
        }
    ))
}

fn versions(runtime: &Runtime, list: &NetworkList) -> Result<String> {
    let mut text = String::new();
    for plugin in &list.plugins {
        let reply = runtime.version(&plugin.plugin_type)?;
        text.push_str(&format!(
            "{}: {}\n",
            plugin.plugin_type,
            reply.supported.join(", ")
        ));
    }
    Ok(text)
}
