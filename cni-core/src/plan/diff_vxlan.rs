//! VXLAN devices that are not as they should be: changed in place where the kernel allows it, else deleted and made anew.

use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::{
    Link, LinkKind, LinkSettings, NetlinkChange, NewLink, NewLinkKind, Route, Vxlan, VxlanSettings,
};

use super::diff::Output;
use super::diff_link::create;
use super::{Change, LinkSpec, PlaceState};

/// `RTPROT_KERNEL`: what comes with an address by itself.
const PROTOCOL_KERNEL: u8 = 2;

/// What the kernel is asked for, and what takes it back.
pub(super) type InPlace = (VxlanSettings, VxlanSettings);

/// How the found device becomes the one to have.
pub(super) enum Way {
    /// By changes to it; none where it is as it should be.
    InPlace(Option<InPlace>, Vec<String>),
    /// By another one in its place, for these reasons.
    Anew(Vec<String>),
}

/// How the VXLAN device that was found becomes the `wanted` one.
///
/// A device of that name which bears another alias is not touched. One that bears none is taken over if it is as it should
/// be: so it is left by a crash between its creation and its alias. It is made anew only where it is ours for certain.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] when the device is not ours to change.
pub(super) fn way(spec: &LinkSpec, found: &Link, present: &Vxlan, wanted: &Vxlan) -> Result<Way> {
    let words = present.differences(wanted);
    let change = present.change_to(wanted);
    let is_ours = found.alias == spec.alias;
    let fault = match (&found.alias, &spec.alias) {
        (Some(other), Some(_)) if !is_ours => Some(format!("bears the alias {other:?}")),
        (None, Some(_)) if !words.is_empty() => Some("bears no alias".to_owned()),
        (_, None) if change.is_none() => Some("nothing says whose it is".to_owned()),
        _ => None,
    };
    if let Some(fault) = fault {
        let mut message = format!("link {} exists and is a VXLAN device", spec.name);
        if !words.is_empty() {
            message = format!("{message} whose {}", words.join(", "));
        }
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("{message}, but it {fault}: choose another name or remove it"),
        ));
    }
    Ok(match change {
        None => Way::Anew(words),
        Some(_) if words.is_empty() => Way::InPlace(None, words),
        Some(change) => {
            // A lower link can be exchanged, not released.
            let before = Vxlan {
                lower: present.lower.clone().or_else(|| wanted.lower.clone()),
                ..present.clone()
            };
            let undo = wanted.change_to(&before).unwrap_or_default();
            Way::InPlace(Some((change, undo)), words)
        }
    })
}

/// Deletes the device and makes it as it should be. Taking that back makes it as it was, with the addresses and routes that
/// were read of it.
pub(super) fn make_anew(
    spec: &LinkSpec,
    kind: &NewLinkKind,
    (found, words): (&Link, &[String]),
    state: &PlaceState,
    out: &mut Output<'_>,
) {
    let link = spec.name.clone();
    let reason = format!("link {link}: {}", words.join(", "));
    let undo = as_it_was(spec, found, state);
    out.step_undone_by(NetlinkChange::LinkDel { link }, undo, reason.clone());
    create(spec, kind, &reason, out);
}

fn as_it_was(spec: &LinkSpec, found: &Link, state: &PlaceState) -> Vec<Change> {
    let LinkKind::Vxlan(vxlan) = &found.kind else {
        return Vec::new();
    };
    let mut new = NewLink::new(&spec.name, NewLinkKind::Vxlan(vxlan.clone()));
    new.mtu = Some(found.mtu);
    new.mac = found.mac;
    new.up = found.up;
    new.ipv6_link_local = spec.ipv6_link_local;
    let settings = LinkSettings {
        alias: found.alias.clone(),
        ..LinkSettings::default()
    };
    let link = spec.name.clone();
    let mut undo = vec![
        NetlinkChange::LinkAdd(new),
        NetlinkChange::LinkSet { link, settings },
    ];
    let addresses = state.addresses.get(&spec.name).into_iter().flatten();
    undo.extend(
        addresses
            .filter(|address| address.scope != Route::SCOPE_LINK)
            .cloned()
            .map(NetlinkChange::AddressAdd),
    );
    let routes = state.routes.get(&spec.name).into_iter().flatten();
    undo.extend(
        routes
            .filter(|route| route.protocol != PROTOCOL_KERNEL)
            .cloned()
            .map(NetlinkChange::RouteAdd),
    );
    undo.into_iter().map(Change::Netlink).collect()
}
