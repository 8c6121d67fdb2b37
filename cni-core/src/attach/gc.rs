//! GC: DEL for all attachments that bear the network's mark and are not valid any more, in few steps.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use crate::backend::{Context, GcRequest};
use crate::error::{Error, Result};
use crate::host::firewall::{Element, ElementData, FirewallChange, Verdict};
use crate::host::netlink::{Link, LinkFilter, LinkSettings, NetlinkChange};
use crate::nat;
use crate::plan::{Change, Place, Plan, Step, remove};
use crate::spec::names::host_name_is_of;
use crate::spec::{Mark, NetworkName};

use super::del::deletion;
use super::{Elements, host_handles};

/// Removes stale attachments: links, elements of the masquerade and of the backend's own sets, addresses. Goes on past
/// failures, and returns all of them.
pub async fn gc(
    cx: &Context<'_>,
    request: &GcRequest<'_>,
    uses_ipam: bool,
    elements: &[Elements],
) -> Vec<Error> {
    if cx.dry_run {
        return vec![super::not_in_a_dry_run("GC")];
    }
    let mut errors = Vec::new();
    let mut plan = Plan::new();
    match stale_elements(cx, request, elements).await {
        Ok(changes) if changes.is_empty() => {}
        Ok(changes) => {
            let reason = "nftables elements of attachments that are not valid";
            plan.push(Step::new(Place::Host, Change::Firewall(changes), reason));
        }
        Err(error) => errors.push(error),
    }
    match stale_links(cx, request).await {
        Ok(steps) => plan.append(steps),
        Err(error) => errors.push(error),
    }
    errors.extend(remove(&plan, &host_handles(cx)).await);
    if errors.is_empty() && uses_ipam {
        // As in DEL: no address is free while something of its attachment stands.
        let released = cx.ipam.gc(request.network, request.config, request.valid);
        errors.extend(released.await.err());
    }
    if let Err(error) = unused_chains(cx, request.network).await {
        errors.push(error);
    }
    errors
}

async fn stale_links(cx: &Context<'_>, request: &GcRequest<'_>) -> Result<Plan> {
    let links = cx.host.netlink.links(LinkFilter::All).await?;
    let marks = request.valid.marks(request.network);
    let names: BTreeSet<String> = request
        .valid
        .attachments(request.network)
        .map(|attachment| attachment.host_name().to_string())
        .collect();
    // A link that is not sealed is a leftover, or of an ADD that is at work now, and then its process holds the lock.
    let alone = cx.host.lock.try_exclusive().await?;
    let stale = |link: &&Link| match link.alias.as_deref().filter(|alias| !alias.is_empty()) {
        Some(alias) => is_stale(alias, request.network, &marks),
        None => {
            alone.is_some()
                && host_name_is_of(&link.name, request.network)
                && !names.contains(&link.name)
        }
    };
    let doomed: Vec<&Link> = links.iter().filter(stale).collect();
    Ok(deletion_of_links(&links, &doomed))
}

/// A few links one by one; many by moving them into a group that nobody else uses, and deleting the group: the kernel
/// waits once for all of them.
pub(crate) fn deletion_of_links(all: &[Link], doomed: &[&Link]) -> Plan {
    let mut plan = Plan::new();
    let reason = |link: &Link| format!("link {} of an attachment that is not valid", link.name);
    if let [link] = doomed {
        let change = NetlinkChange::LinkDel {
            link: link.name.clone(),
        };
        plan.push(Step::new(Place::Host, change.into(), reason(link)));
        return plan;
    }
    if doomed.is_empty() {
        return plan;
    }
    let group = free_group(all);
    for link in doomed {
        let change = NetlinkChange::LinkSet {
            link: link.name.clone(),
            settings: LinkSettings {
                group: Some(group),
                ..LinkSettings::default()
            },
        };
        plan.push(Step::new(Place::Host, change.into(), reason(link)));
    }
    let change = NetlinkChange::GroupDel { group };
    let words = format!("{} links of attachments that are not valid", doomed.len());
    plan.push(Step::new(Place::Host, change.into(), words));
    plan
}

/// A group without links. Random, so that two collectors do not meet; not 0, which every link is in by default.
fn free_group(all: &[Link]) -> u32 {
    loop {
        let group = RandomState::new().build_hasher().finish() as u32;
        if group > 255 && all.iter().all(|link| link.group != group) {
            return group;
        }
    }
}

pub(crate) fn is_stale(text: &str, network: &NetworkName, valid: &BTreeSet<Mark>) -> bool {
    Mark::parse(text).is_some_and(|mark| mark.is_of(network) && !valid.contains(&mark))
}

async fn stale_elements(
    cx: &Context<'_>,
    request: &GcRequest<'_>,
    elements: &[Elements],
) -> Result<Vec<FirewallChange>> {
    let masquerade = [nat::PODS4, nat::PODS6].map(|set| Elements {
        table: nat::table(),
        set: set.to_owned(),
        keys: None,
    });
    let mut changes = Vec::new();
    for place in masquerade.iter().chain(elements) {
        changes.extend(stale_in(cx, request, place).await?);
    }
    Ok(changes)
}

/// What deletes the elements of this network's attachments that are not valid from a set or map.
pub(crate) async fn stale_in(
    cx: &Context<'_>,
    request: &GcRequest<'_>,
    place: &Elements,
) -> Result<Vec<FirewallChange>> {
    let marks = request.valid.marks(request.network);
    let firewall = &cx.host.firewall;
    let mut found = firewall.elements(&place.table, &place.set).await?;
    found.retain(|element| {
        let comment = element.comment.as_deref().unwrap_or_default();
        is_stale(comment, request.network, &marks)
    });
    Ok(deletion(&place.table, &place.set, found))
}

/// The network's chains of the masquerade that no element leads to, and the whole table once it is empty. Not while an
/// ADD is at work, which may be about to use them.
async fn unused_chains(cx: &Context<'_>, network: &NetworkName) -> Result<()> {
    let firewall = cx.host.firewall.as_ref();
    let Some(_alone) = cx.host.lock.try_exclusive().await? else {
        return Ok(());
    };
    let table = nat::table();
    let Some(state) = firewall.table(&table).await? else {
        return Ok(());
    };
    let mut used = BTreeSet::new();
    let mut empty = true;
    for set in [nat::PODS4, nat::PODS6] {
        let elements = firewall.elements(&table, set).await?;
        empty &= elements.is_empty();
        used.extend(elements.iter().filter_map(target).map(str::to_owned));
    }
    let names = || state.chains.iter().map(|chain| chain.name.as_str());
    let unused: Vec<&str> = names()
        .filter(|name| nat::chain_is_of(name, network) && !used.contains(*name))
        .collect();
    let others = names().any(|name| nat::is_network_chain(name) && !unused.contains(&name));
    let changes: Vec<FirewallChange> = match empty && !others {
        true => vec![FirewallChange::TableDel(table)],
        false => unused
            .iter()
            .flat_map(|chain| {
                let (table, chain) = (table.clone(), (*chain).to_owned());
                [
                    FirewallChange::ChainFlush {
                        table: table.clone(),
                        chain: chain.clone(),
                    },
                    FirewallChange::ChainDel { table, chain },
                ]
            })
            .collect(),
    };
    if changes.is_empty() {
        return Ok(());
    }
    Ok(firewall.commit(&changes).await?)
}

fn target(element: &Element) -> Option<&str> {
    match &element.data {
        Some(ElementData::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain))) => Some(chain),
        _ => None,
    }
}
