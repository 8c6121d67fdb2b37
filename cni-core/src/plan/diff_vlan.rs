//! VLANs of bridge ports, as ranges: a trunk of 4,094 VLANs is one message.

use crate::host::netlink::{NetlinkChange, Vlan};

use super::diff::Output;
use super::{Change, Object, PlaceState};

pub(super) fn vlans(state: &PlaceState, out: &mut Output<'_>) {
    let declared = out.declared;
    let Object::Vlans {
        link,
        on_bridge,
        vlans,
        keep_others,
    } = &declared.object
    else {
        return;
    };
    let present = state.vlans.get(link).map(Vec::as_slice).unwrap_or_default();
    // What was no port when it was read gets the kernel's default, VLAN 1, the moment it is made one.
    let found = state.links.get(link);
    let port = *on_bridge || found.is_some_and(|found| found.port.is_some());
    let fresh = !port || !state.vlans.contains_key(link);
    let kernel_default = [Vlan {
        id: 1,
        pvid: true,
        untagged: true,
    }];
    let present = if fresh { &kernel_default[..] } else { present };

    let surplus: Vec<Vlan> = present
        .iter()
        .filter(|found| !keep_others && !vlans.iter().any(|wanted| wanted.id == found.id))
        .copied()
        .collect();
    for (first, last) in ranges(&surplus) {
        let reason = format!(
            "{link} is in VLAN {}, and should not be",
            span(first.id, last)
        );
        let change = NetlinkChange::VlanDel {
            link: link.clone(),
            first: first.id,
            last,
            on_bridge: *on_bridge,
        };
        let undo = NetlinkChange::VlanAdd {
            link: link.clone(),
            vlan: first,
            last,
            on_bridge: *on_bridge,
        };
        out.step(change, Some(Change::Netlink(undo)), reason);
    }
    let missing: Vec<Vlan> = vlans
        .iter()
        .filter(|wanted| !present.contains(wanted))
        .copied()
        .collect();
    for (vlan, last) in ranges(&missing) {
        let reason = format!(
            "{link} is not in VLAN {} as it should be",
            span(vlan.id, last)
        );
        let change = NetlinkChange::VlanAdd {
            link: link.clone(),
            vlan,
            last,
            on_bridge: *on_bridge,
        };
        let undo = NetlinkChange::VlanDel {
            link: link.clone(),
            first: vlan.id,
            last,
            on_bridge: *on_bridge,
        };
        out.step(change, Some(Change::Netlink(undo)), reason);
    }
}

fn span(first: u16, last: u16) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

/// Neighbouring VLANs with the same flags as one range. A PVID is never part of a range (`br_vlan_info`).
fn ranges(vlans: &[Vlan]) -> Vec<(Vlan, u16)> {
    let mut sorted = vlans.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut ranges: Vec<(Vlan, u16)> = Vec::new();
    for vlan in sorted {
        match ranges.last_mut() {
            Some((first, last))
                if *last + 1 == vlan.id
                    && !vlan.pvid
                    && !first.pvid
                    && first.untagged == vlan.untagged =>
            {
                *last = vlan.id;
            }
            _ => ranges.push((vlan, vlan.id)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunk_is_one_range_and_its_pvid_stands_alone() {
        let vlans: Vec<Vlan> = (1..=4094)
            .map(|id| Vlan {
                id,
                pvid: id == 100,
                untagged: id == 100,
            })
            .collect();
        let spans: Vec<(u16, u16)> = ranges(&vlans)
            .into_iter()
            .map(|(vlan, last)| (vlan.id, last))
            .collect();
        assert_eq!(spans, [(1, 99), (100, 100), (101, 4094)]);
    }
}
