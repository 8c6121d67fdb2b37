//! Links: what is missing is created in as few messages as the kernel allows, what drifted is set.

use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::{Link, LinkKind, LinkSettings, NetlinkChange, NewLink, NewLinkKind};

use super::diff::{Output, is_kind, kind_name, on};
use super::diff_vxlan::{InPlace, Way, make_anew, way};
use super::observe::Scope;
use super::{Change, LinkSpec, Observed, Owner};

/// Whether the link is made anew, without anything that was on it.
pub(super) fn link(spec: &LinkSpec, observed: &Observed, out: &mut Output<'_>) -> Result<bool> {
    let state = observed.place(out.declared.place);
    match (state.links.get(&spec.name), &spec.create) {
        (None, Some(kind)) => {
            create(spec, kind, &format!("link {} is missing", spec.name), out);
        }
        (None, None) => bring_up(spec, observed.scope, out),
        (Some(found), Some(kind)) if !is_kind(&found.kind, kind) => {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "link {} exists and is {}: choose another name or remove it",
                    spec.name,
                    kind_name(&found.kind)
                ),
            ));
        }
        (Some(found), wanted) => {
            let mut vxlan = (None, Vec::new());
            if let (LinkKind::Vxlan(present), Some(kind)) = (&found.kind, wanted)
                && let NewLinkKind::Vxlan(wanted) = kind
            {
                match way(spec, found, present, wanted)? {
                    Way::Anew(words) => {
                        make_anew(spec, kind, (found, &words), state, out);
                        return Ok(true);
                    }
                    Way::InPlace(change, words) => vxlan = (change, words),
                }
            }
            let master = spec.master.as_ref().and_then(|name| state.links.get(name));
            mend(spec, found, master, vxlan, out);
        }
    }
    Ok(false)
}

pub(super) fn create(spec: &LinkSpec, kind: &NewLinkKind, reason: &str, out: &mut Output<'_>) {
    // The MTU that a bridge is created with follows its ports. Only one that is set stays (BROPT_MTU_SET_BY_USER), and to set
    // the one that it has does nothing.
    let is_bridge = matches!(kind, NewLinkKind::Bridge { .. });
    let new = NewLink {
        name: spec.name.clone(),
        kind: kind.clone(),
        mtu: spec.mtu.filter(|_| !is_bridge),
        mac: spec.mac.or(spec.initial_mac),
        master: spec.master.clone(),
        up: spec.up,
        ipv6_link_local: spec.ipv6_link_local,
    };
    let undo = Change::Netlink(NetlinkChange::LinkDel {
        link: spec.name.clone(),
    });
    out.step(NetlinkChange::LinkAdd(new), Some(undo), reason.to_owned());

    let shared = out.declared.owner == Owner::Shared;
    let rest = LinkSettings {
        promiscuous: spec.promiscuous.filter(|promiscuous| *promiscuous),
        all_multicast: spec.all_multicast.filter(|all| *all),
        tx_queue_len: spec.tx_queue_len,
        arp_notify: spec.arp_notify.then_some(true),
        mtu: spec.mtu.filter(|_| is_bridge),
        alias: spec.alias.clone().filter(|_| shared),
        ..LinkSettings::default()
    };
    if rest != LinkSettings::default() {
        let change = NetlinkChange::LinkSet {
            link: spec.name.clone(),
            settings: rest,
        };
        out.step(change, None, reason.to_owned());
    }
}

/// A link that was created with another one, its peer.
fn bring_up(spec: &LinkSpec, scope: Scope, out: &mut Output<'_>) {
    let settings = LinkSettings {
        up: Some(spec.up),
        mtu: spec.mtu,
        master: spec.master.clone(),
        arp_notify: spec.arp_notify.then_some(true),
        ipv6_link_local: (!spec.ipv6_link_local).then_some(false),
        ..LinkSettings::default()
    };
    let reason = match scope {
        Scope::All => format!("link {} is missing", spec.name),
        Scope::Shared => format!("link {} has just been made", spec.name),
    };
    let change = NetlinkChange::LinkSet {
        link: spec.name.clone(),
        settings,
    };
    out.step(change, None, reason);
}

/// Sets what differs: the change, what takes it back, and the differences in words.
fn mend(
    spec: &LinkSpec,
    found: &Link,
    master: Option<&Link>,
    (vxlan, mut words): (Option<InPlace>, Vec<String>),
    out: &mut Output<'_>,
) {
    let mut now = LinkSettings::default();
    let mut before = LinkSettings::default();
    (now.vxlan, before.vxlan) = vxlan.unzip();

    if let Some(mtu) = spec.mtu.filter(|mtu| *mtu != found.mtu) {
        (now.mtu, before.mtu) = (Some(mtu), Some(found.mtu));
        words.push(format!("mtu is {}, should be {mtu}", found.mtu));
    }
    if let Some(mac) = spec.mac.filter(|mac| Some(*mac) != found.mac) {
        (now.mac, before.mac) = (Some(mac), found.mac);
        let present = found
            .mac
            .map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        words.push(format!("hardware address is {present}, should be {mac}"));
    }
    if let Some(name) = &spec.master
        && (found.master.is_none() || found.master != master.map(|master| master.index))
    {
        (now.master, before.master) = (Some(name.clone()), Some(String::new()));
        words.push(format!("is not a port of {name}"));
    }
    mend_modes(spec, found, &mut now, &mut before, &mut words);
    // A VXLAN device is taken for ours by its alias alone.
    if (out.declared.owner == Owner::Attachment || matches!(found.kind, LinkKind::Vxlan(_)))
        && let Some(alias) = &spec.alias
        && found.alias.as_ref() != Some(alias)
    {
        now.alias = Some(alias.clone());
        before.alias = Some(found.alias.clone().unwrap_or_default());
        words.push(format!(
            "alias is {:?}, should be {alias:?}",
            found.alias.as_deref().unwrap_or("")
        ));
    }
    if spec.pin_mac && now.mac.is_none() {
        // There is no way back, and none is needed: the address stays what it was.
        now.mac = found.mac.filter(|mac| !mac.is_zero()).or(spec.initial_mac);
        words.push("hardware address follows the ports".to_owned());
    }
    if spec.up && !found.up {
        (now.up, before.up) = (Some(true), Some(false));
        // Whoever made it may have been killed before it said so: once it is up, it has the address.
        now.ipv6_link_local = (!spec.ipv6_link_local).then_some(false);
        words.push("is down".to_owned());
    }
    if words.is_empty() {
        return;
    }
    let reason = format!("link {}: {}", spec.name, words.join(", "));
    let set = |settings| NetlinkChange::LinkSet {
        link: spec.name.clone(),
        settings,
    };
    out.step(set(now), Some(Change::Netlink(set(before))), reason);
}

fn mend_modes(
    spec: &LinkSpec,
    found: &Link,
    now: &mut LinkSettings,
    before: &mut LinkSettings,
    words: &mut Vec<String>,
) {
    if let Some(wanted) = spec
        .promiscuous
        .filter(|wanted| *wanted != found.promiscuous)
    {
        (now.promiscuous, before.promiscuous) = (Some(wanted), Some(found.promiscuous));
        words.push(format!("promiscuous mode is {}", on(found.promiscuous)));
    }
    if let Some(wanted) = spec
        .all_multicast
        .filter(|wanted| *wanted != found.all_multicast)
    {
        (now.all_multicast, before.all_multicast) = (Some(wanted), Some(found.all_multicast));
        words.push(format!("all-multicast mode is {}", on(found.all_multicast)));
    }
    if let Some(length) = spec
        .tx_queue_len
        .filter(|length| *length != found.tx_queue_len)
    {
        (now.tx_queue_len, before.tx_queue_len) = (Some(length), Some(found.tx_queue_len));
        words.push(format!(
            "transmit queue length is {}, should be {length}",
            found.tx_queue_len
        ));
    }
    if let Some(NewLinkKind::Bridge {
        vlan_filtering: true,
    }) = spec.create
        && found.kind
            == (LinkKind::Bridge {
                vlan_filtering: false,
            })
    {
        (now.vlan_filtering, before.vlan_filtering) = (Some(true), Some(false));
        words.push("does not filter by VLAN".to_owned());
    }
}
