//! DEL: the kernel first, addresses last, so that none is used again while old state stands.

use ipnetwork::IpNetwork;

use crate::backend::{Context, DelRequest};
use crate::error::{Error, Result};
use crate::host::Sandbox;
use crate::host::firewall::{Element, Firewall, FirewallChange, Table, Value};
use crate::host::netlink::{LinkKind, NetlinkChange, NetlinkError, NetlinkExt};
use crate::ipam::IpamRequest;
use crate::nat;
use crate::plan::{Change, Handles, Place, Plan, Step, remove};
use crate::spec::Mark;

/// A set or map in which a backend keeps elements of attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements {
    /// Its table.
    pub table: Table,
    /// Its name.
    pub set: String,
    /// The keys of the attachment's elements, where they can be told: then only these are read. `None` reads all.
    pub keys: Option<Vec<Vec<Value>>>,
}

/// Detaches the container: whatever bears the attachment's names goes, and what is not there is success.
///
/// `uses_ipam` and `masquerades` are what the configuration says; elements of the masquerade are removed in any case
/// (the configuration may have changed), the flag only decides how hard they are looked for. `elements` says where the
/// backend keeps further ones.
///
/// # Errors
/// All failures together. Addresses are kept as long as something of the kernel's part stands: DEL will be repeated.
pub async fn del(
    cx: &Context<'_>,
    request: &DelRequest<'_>,
    uses_ipam: bool,
    masquerades: bool,
    elements: &[Elements],
) -> Result<()> {
    if cx.dry_run {
        return Err(super::not_in_a_dry_run("DEL"));
    }
    let ipam = ipam_request(cx, request);
    let held = held(cx, &ipam, uses_ipam).await;
    let errors = remove_kernel_part(cx, request, held, masquerades, elements).await;
    if let Some(error) = Error::join(errors) {
        return Err(error);
    }
    match uses_ipam {
        true => cx.ipam.release(&ipam).await,
        false => Ok(()),
    }
}

/// What [`del`] with the same arguments would remove from the kernel, for a dry run. Changes nothing.
///
/// # Errors
/// The kernel's, where it cannot be read.
pub async fn del_plan(
    cx: &Context<'_>,
    request: &DelRequest<'_>,
    uses_ipam: bool,
    masquerades: bool,
    elements: &[Elements],
) -> Result<Plan> {
    let held = held(cx, &ipam_request(cx, request), uses_ipam).await;
    let removal = removal(cx, request, held, masquerades, elements).await;
    Error::join(removal.errors).map_or(Ok(removal.plan), Err)
}

fn ipam_request<'a>(cx: &Context<'a>, request: &DelRequest<'a>) -> IpamRequest<'a> {
    IpamRequest {
        attachment: request.attachment,
        netns: request.netns,
        config: request.config,
        args: request.args,
        cancel: cx.cancel,
    }
}

/// The addresses that the attachment holds. Should that fail, releasing will, too, and say why.
async fn held(cx: &Context<'_>, ipam: &IpamRequest<'_>, uses_ipam: bool) -> Option<Vec<IpNetwork>> {
    match uses_ipam {
        true => cx.ipam.held(ipam).await.ok().flatten(),
        false => None,
    }
}

/// Removes the pair and the elements; the kernel's two waits overlap.
pub(super) async fn remove_kernel_part(
    cx: &Context<'_>,
    request: &DelRequest<'_>,
    held: Option<Vec<IpNetwork>>,
    masquerades: bool,
    elements: &[Elements],
) -> Vec<Error> {
    let Removal {
        plan,
        sandbox,
        mut errors,
    } = removal(cx, request, held, masquerades, elements).await;
    let handles = Handles {
        host: cx.host,
        sandbox: sandbox.as_ref(),
    };
    errors.extend(remove(&plan, &handles).await);
    errors
}

/// What is to be removed, and what could not be read.
struct Removal {
    plan: Plan,
    /// The container's namespace, where a step of the plan is in it.
    sandbox: Option<Sandbox>,
    errors: Vec<Error>,
}

async fn removal(
    cx: &Context<'_>,
    request: &DelRequest<'_>,
    held: Option<Vec<IpNetwork>>,
    masquerades: bool,
    elements: &[Elements],
) -> Removal {
    let mut errors = Vec::new();
    let mut plan = Plan::new();
    let firewall = cx.host.firewall.as_ref();
    let mark = request.attachment.mark();
    let mut changes = Vec::new();
    let search = masquerade_elements(firewall, &mark, held.as_deref(), masquerades).await;
    keep(search, &mut changes, &mut errors);
    for place in elements {
        keep(
            elements_in(firewall, place, &mark).await,
            &mut changes,
            &mut errors,
        );
    }
    if !changes.is_empty() {
        let reason = format!("nftables elements of {}", request.attachment);
        plan.push(Step::new(Place::Host, Change::Firewall(changes), reason));
    }
    let (link, sandbox) = match link_to_delete(cx, request).await {
        Ok(found) => found,
        Err(error) => {
            errors.push(error);
            (None, None)
        }
    };
    if let Some(step) = link {
        plan.push(step);
    }
    Removal {
        plan,
        sandbox,
        errors,
    }
}

fn keep(
    found: Result<Vec<FirewallChange>, NetlinkError>,
    changes: &mut Vec<FirewallChange>,
    errors: &mut Vec<Error>,
) {
    match found {
        Ok(found) => changes.extend(found),
        Err(error) => errors.push(error.into()),
    }
}

/// The host's end, by its derived name. Only where that does not exist is the container looked into: its interface was
/// attached by the reference plugin, perhaps, before the node changed over.
async fn link_to_delete(
    cx: &Context<'_>,
    request: &DelRequest<'_>,
) -> Result<(Option<Step>, Option<Sandbox>)> {
    let step = |place, link: &str| {
        let change = NetlinkChange::LinkDel {
            link: link.to_owned(),
        };
        Step::new(place, change.into(), format!("link {link}"))
    };
    let name = request.attachment.host_name();
    if cx.host.netlink.link(name.as_str()).await?.is_some() {
        return Ok((Some(step(Place::Host, name.as_str())), None));
    }
    let Some(netns) = request.netns else {
        return Ok((None, None));
    };
    // A namespace that is gone has taken its end of the pair with it.
    let Ok(sandbox) = cx.host.namespaces.open(netns).await else {
        return Ok((None, None));
    };
    let interface = request.attachment.interface.as_str();
    match sandbox.netlink.link(interface).await? {
        Some(link) if link.kind == LinkKind::Veth => {
            Ok((Some(step(Place::Container, interface)), Some(sandbox)))
        }
        _ => Ok((None, None)),
    }
}

/// The masquerade's elements: under the keys of the addresses that are held, else wherever they bear the mark.
async fn masquerade_elements(
    firewall: &dyn Firewall,
    mark: &Mark,
    held: Option<&[IpNetwork]>,
    masquerades: bool,
) -> Result<Vec<FirewallChange>, NetlinkError> {
    let held = held.unwrap_or_default();
    let mut found = Vec::new();
    for address in held {
        let (set, key) = nat::key(address.ip());
        let place = Elements {
            table: nat::table(),
            set: set.to_owned(),
            keys: Some(vec![key]),
        };
        found.extend(elements_in(firewall, &place, mark).await?);
    }
    if found.is_empty() && (held.is_empty() || masquerades) {
        for set in [nat::PODS4, nat::PODS6] {
            let place = Elements {
                table: nat::table(),
                set: set.to_owned(),
                keys: None,
            };
            found.extend(elements_in(firewall, &place, mark).await?);
        }
    }
    Ok(found)
}

pub(crate) async fn elements_in(
    firewall: &dyn Firewall,
    place: &Elements,
    mark: &Mark,
) -> Result<Vec<FirewallChange>, NetlinkError> {
    let mut found: Vec<Element> = Vec::new();
    match &place.keys {
        Some(keys) => {
            for key in keys {
                found.extend(firewall.element(&place.table, &place.set, key).await?);
            }
        }
        None => found = firewall.elements(&place.table, &place.set).await?,
    }
    found.retain(|element| element.comment.as_deref() == Some(mark.as_str()));
    Ok(deletion(&place.table, &place.set, found))
}

/// Deletes the elements, or nothing where there are none.
pub(crate) fn deletion(table: &Table, set: &str, elements: Vec<Element>) -> Vec<FirewallChange> {
    if elements.is_empty() {
        return Vec::new();
    }
    vec![FirewallChange::ElementDel {
        table: table.clone(),
        set: set.to_owned(),
        elements,
    }]
}
