//! Token buckets and redirections.

use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::{NetlinkChange, Qdisc, Tbf};

use super::diff::Output;
use super::{Change, PlaceState};

/// # Errors
/// [`ErrorKind::InvalidConfig`] when the place is taken by somebody else's discipline.
pub(super) fn tbf(
    link: &str,
    wanted: &Tbf,
    state: &PlaceState,
    out: &mut Output<'_>,
) -> Result<()> {
    let traffic = state.traffic.get(link);
    let of = |tbf: Tbf| (link.to_owned(), Qdisc::Tbf(tbf));
    let add = |tbf| {
        let (link, qdisc) = of(tbf);
        NetlinkChange::QdiscAdd { link, qdisc }
    };
    let del = |tbf| {
        let (link, qdisc) = of(tbf);
        NetlinkChange::QdiscDel { link, qdisc }
    };
    if let Some(kind) = traffic.and_then(|traffic| traffic.foreign_root.as_deref()) {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "what goes out by {link} is controlled by a {kind} qdisc that somebody else has set: remove it, or let \
                 that one limit"
            ),
        ));
    }
    let reason = match traffic.and_then(|traffic| traffic.tbf) {
        Some(found) if wanted.is(&found) => return Ok(()),
        Some(found) => {
            let reason = format!("limit of {link} is {found}, should be {wanted}");
            let before = found.to_tbf();
            out.step(
                del(before),
                Some(Change::Netlink(add(before))),
                reason.clone(),
            );
            reason
        }
        None => format!("limit of {link}, {wanted}, is missing"),
    };
    out.step(add(*wanted), Some(Change::Netlink(del(*wanted))), reason);
    Ok(())
}

pub(super) fn redirect(link: &str, to: &str, state: &PlaceState, out: &mut Output<'_>) {
    let traffic = state.traffic.get(link);
    let target = state.links.get(to).map(|target| target.index);
    let found = traffic.and_then(|traffic| traffic.redirect);
    if found.is_some() && found == target {
        return;
    }
    let (add, del) = {
        let names = || (link.to_owned(), to.to_owned());
        let (link, to) = names();
        let add = NetlinkChange::RedirectAdd { link, to };
        let (link, to) = names();
        (add, NetlinkChange::RedirectDel { link, to })
    };
    let reason = match found {
        Some(_) => format!("what comes in by {link} is not led to {to}"),
        None => format!("what comes in by {link} should be led to {to}"),
    };
    if traffic.is_none_or(|traffic| traffic.ingress.is_none()) {
        let ingress = || (link.to_owned(), Qdisc::Ingress);
        let (place, qdisc) = ingress();
        let make = NetlinkChange::QdiscAdd { link: place, qdisc };
        let (place, qdisc) = ingress();
        let undo = NetlinkChange::QdiscDel { link: place, qdisc };
        out.step(make, Some(Change::Netlink(undo)), reason.clone());
        // Its filters go with it.
        out.step(add, None, reason);
        return;
    }
    if found.is_some() {
        // The link that it led to is gone, or is another one's: there is nothing to go back to.
        out.step(del.clone(), None, reason.clone());
    }
    out.step(add, Some(Change::Netlink(del)), reason);
}
