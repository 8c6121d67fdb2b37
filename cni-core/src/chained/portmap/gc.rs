//! Ports of attachments that are not valid any more.

use std::collections::BTreeSet;

use crate::attach::Elements;
use crate::backend::{Context, GcRequest};
use crate::chained::flow;
use crate::error::{Error, Result};
use crate::host::firewall::{Element, ElementData, FirewallChange, TableState, Value, Verdict};
use crate::host::netlink::NetlinkExt;

use super::desired::localnet_key;
use super::publication::Publication;
use super::removal::{Removal, chain_deletion, deletion, is_unknown};
use super::table::{HAIRPIN, HAIRPIN_PORTS, LOCALNET, RECORDS, V4, V6, is_own_chain, table};

/// Removes what bears the network's mark and is of no valid attachment; then, while no ADD is at work, what nobody needs any
/// more.
pub(super) async fn collect(cx: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
    let mut errors = Vec::new();
    if let Err(error) = cx.host.firewall.table(&table()).await
        && is_unknown(&error)
    {
        return Ok(());
    }
    match stale(cx, request).await {
        Ok(removal) => errors.extend(removal.carry_out(cx).await.err()),
        Err(error) => errors.push(error),
    }
    errors.extend(prune(cx).await.err());
    Error::join(errors).map_or(Ok(()), Err)
}

fn place(set: &str) -> Elements {
    Elements {
        table: table(),
        set: set.to_owned(),
        keys: None,
    }
}

async fn stale(cx: &Context<'_>, request: &GcRequest<'_>) -> Result<Removal> {
    let sets = [V4, V6].iter().flat_map(|names| names.owned());
    let places: Vec<Elements> = sets
        .chain([HAIRPIN, HAIRPIN_PORTS, LOCALNET])
        .map(place)
        .collect();
    let ports = flow::stale(cx, request, &places).await?;
    let records = flow::stale(cx, request, &[place(RECORDS)]).await?;
    let publications = elements(&records)
        .filter_map(Publication::of_record)
        .collect();
    let chains: BTreeSet<&str> = elements(&ports).filter_map(target).collect();
    let chains: Vec<FirewallChange> = chains.into_iter().flat_map(chain_deletion).collect();
    Ok(Removal {
        ports: [ports, chains].concat(),
        records,
        publications,
    })
}

fn elements(changes: &[FirewallChange]) -> impl Iterator<Item = &Element> {
    changes.iter().flat_map(|change| match change {
        FirewallChange::ElementDel { elements, .. } => elements.as_slice(),
        _ => &[],
    })
}

/// The chain that an element leads to.
fn target(element: &Element) -> Option<&str> {
    match &element.data {
        Some(ElementData::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain))) => Some(chain),
        _ => None,
    }
}

/// The table once nothing is published, else what in it is for nobody.
async fn prune(cx: &Context<'_>) -> Result<()> {
    let firewall = cx.host.firewall.as_ref();
    let Some(_alone) = cx.host.lock.try_exclusive().await? else {
        return Ok(());
    };
    let Some(state) = firewall.table(&table()).await? else {
        return Ok(());
    };
    let changes = match is_unused(cx).await? {
        true => {
            close_localnet(cx).await?;
            vec![FirewallChange::TableDel(table())]
        }
        false => unused_parts(cx, &state).await?,
    };
    match changes.is_empty() {
        true => Ok(()),
        false => Ok(firewall.commit(&changes).await?),
    }
}

/// Whether no attachment has anything in the table.
async fn is_unused(cx: &Context<'_>) -> Result<bool> {
    let owned = [V4, V6].into_iter().flat_map(|names| names.owned());
    for set in owned.chain([RECORDS]) {
        if !cx.host.firewall.elements(&table(), set).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The rules that guard open interfaces go with the table: so the interfaces are closed before.
async fn close_localnet(cx: &Context<'_>) -> Result<()> {
    for element in cx.host.firewall.elements(&table(), LOCALNET).await? {
        if let [Value::Interface(link)] = element.key.as_slice() {
            let key = localnet_key(link);
            if cx.host.sysctl.read(&key).await?.as_deref() == Some("1") {
                cx.host.sysctl.write(&key, "0").await?;
            }
        }
    }
    Ok(())
}

/// Interfaces that are gone, addresses without a port, chains that nothing leads to.
async fn unused_parts(cx: &Context<'_>, state: &TableState) -> Result<Vec<FirewallChange>> {
    let firewall = cx.host.firewall.as_ref();
    let mut changes = Vec::new();
    for set in [HAIRPIN, HAIRPIN_PORTS, LOCALNET] {
        let mut gone = Vec::new();
        for element in firewall.elements(&table(), set).await? {
            if let Some(Value::Interface(link)) = element.key.first()
                && cx.host.netlink.link(link).await?.is_none()
            {
                gone.push(element);
            }
        }
        changes.extend(deletion(set, gone));
    }
    let mut used = BTreeSet::new();
    for names in [V4, V6] {
        let ports = firewall.elements(&table(), names.host_ports).await?;
        let mut addresses = firewall.elements(&table(), names.addresses).await?;
        addresses.retain(|address| {
            !ports
                .iter()
                .any(|port| port.key.first() == address.key.first())
        });
        changes.extend(deletion(names.addresses, addresses));
        for set in [names.rules, names.host_rules] {
            let rules = firewall.elements(&table(), set).await?;
            used.extend(rules.iter().filter_map(target).map(str::to_owned));
        }
    }
    let chains = state.chains.iter().map(|chain| chain.name.as_str());
    let unused = chains.filter(|chain| is_own_chain(chain) && !used.contains(*chain));
    changes.extend(unused.flat_map(chain_deletion));
    Ok(changes)
}
