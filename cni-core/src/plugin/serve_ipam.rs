//! The verbs of a plugin that hands out addresses. It opens neither the kernel nor a namespace.

use std::fmt::Display;

use super::caught::caught;
use super::dispatch::Session;
use super::verbs::{Asked, no_dry_run, undone};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::host::NetnsPath;
use crate::host::netns::KernelNamespaces;
use crate::ipam::{Ipam, IpamRequest};
use crate::spec::{Command, Verb};

pub(super) async fn serve(
    session: &mut Session<'_>,
    ipam: &dyn Ipam,
    asked: &Asked<'_>,
) -> Result<()> {
    let config = asked.config;
    let (container, interface) = match asked.verb {
        Verb::Add {
            container,
            interface,
            ..
        }
        | Verb::Del {
            container,
            interface,
            ..
        }
        | Verb::Check {
            container,
            interface,
            ..
        } => (container, interface),
        Verb::Status | Verb::Version => return ipam.status(config.name(), config).await,
        Verb::Gc => {
            let Some(valid) = config.valid_attachments()? else {
                tracing::debug!("the runtime names no valid attachments, so nothing is collected");
                return Ok(());
            };
            if asked.dry_run {
                return Err(no_dry_run(Command::Gc));
            }
            return ipam.gc(config.name(), config, &valid).await;
        }
    };
    if matches!(asked.verb.command(), Command::Add | Command::Check) {
        // Not needed here, but a runtime that passes on what is no result is to hear of it.
        config.prev_result()?;
    }
    asked.refuse_own_namespace(&KernelNamespaces::new()).await?;
    let attachment = asked.attachment(container, interface);
    let netns = asked.verb.netns().map(NetnsPath::new);
    let request = IpamRequest {
        attachment: &attachment,
        netns: netns.as_ref(),
        config,
        args: asked.args,
        cancel: asked.cancel,
    };
    match asked.verb.command() {
        Command::Add if asked.dry_run => match ipam.preview(&request).await? {
            Some(result) => {
                let addresses = result.ips.iter().map(|ip| ip.address);
                session.print(&lines("reserve", addresses))
            }
            None => Err(no_dry_run(Command::Add)),
        },
        Command::Add => add(session, ipam, &request).await,
        Command::Del if asked.dry_run => match ipam.held(&request).await? {
            Some(held) => session.print(&lines("release", held)),
            None => Err(no_dry_run(Command::Del)),
        },
        Command::Del => ipam.release(&request).await,
        _ => ipam.check(&request).await,
    }
}

async fn add(session: &mut Session<'_>, ipam: &dyn Ipam, request: &IpamRequest<'_>) -> Result<()> {
    let plugin = session.plugin.name();
    let mut panicked = true;
    let allocating = async {
        let allocated = ipam.allocate(request).await;
        panicked = false;
        allocated
    };
    let delivered = match caught(plugin, allocating).await {
        Ok(result) => result
            .render(request.config.version())
            .and_then(|document| session.deliver(&document)),
        // It has undone its part.
        Err(error) if !panicked => return Err(error),
        Err(error) => Err(error),
    };
    let Err(error) = delivered else {
        return Ok(());
    };
    // Not stopped by what may have stopped the ADD.
    let cancel = Cancel::new();
    let request = IpamRequest {
        cancel: &cancel,
        ..*request
    };
    Err(undone(error, caught(plugin, ipam.release(&request)).await))
}

fn lines<T: Display>(what: &str, addresses: impl IntoIterator<Item = T>) -> String {
    addresses
        .into_iter()
        .map(|address| format!("{what} {address}\n"))
        .collect()
}
