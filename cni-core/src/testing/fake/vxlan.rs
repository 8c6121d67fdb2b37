//! VXLAN devices: `drivers/net/vxlan/vxlan_core.c`.

use std::net::IpAddr;

use crate::host::netlink::errno::{EADDRINUSE, EEXIST, EINVAL, ENODEV, EOPNOTSUPP};
use crate::host::netlink::{Link, LinkKind, MacAddr, NewLink, Vxlan, VxlanSettings};

use super::state::{Namespace, NsId, Outcome, State, refuse, refuse_saying};

/// `ETH_MIN_MTU`.
const MTU_MIN: u32 = 68;
/// `ETH_MAX_MTU`.
const MTU_MAX: u32 = 65535;

/// `vxlan_validate`: what is refused before the name is looked for.
pub(super) fn validate(new: &NewLink, vxlan: &Vxlan) -> Outcome {
    if new
        .mtu
        .is_some_and(|mtu| !(MTU_MIN..=MTU_MAX).contains(&mtu))
    {
        return refuse_saying(EINVAL, "MTU must be between 68 and 65535.");
    }
    if vxlan.source_ports.is_some_and(|(low, high)| high < low) {
        return refuse_saying(EINVAL, "Invalid source port range.");
    }
    Ok(())
}

impl Namespace {
    /// `vxlan_config_validate` and `vxlan_config_apply`.
    pub(super) fn vxlan_configure(&self, link: &mut Link, new: &NewLink, vxlan: &Vxlan) -> Outcome {
        if vxlan.gpe && (!vxlan.external || vxlan.learning) {
            return refuse_saying(
                EINVAL,
                "VXLAN GPE does not support this combination of attributes.",
            );
        }
        if let (Some(local), Some(remote)) = (vxlan.local, vxlan.remote)
            && local.is_ipv6() != remote.is_ipv6()
        {
            return refuse_saying(
                EINVAL,
                "Local and remote address must be from the same family.",
            );
        }
        if vxlan.local.is_some_and(|local| local.is_multicast()) {
            return refuse_saying(EINVAL, "Local address cannot be multicast.");
        }
        let mut addresses = vxlan.local.iter().chain(&vxlan.remote);
        if vxlan.lower.is_none() {
            if vxlan.remote.is_some_and(|remote| remote.is_multicast()) {
                return refuse_saying(
                    EINVAL,
                    "Local interface required for multicast remote destination.",
                );
            }
            if addresses.any(is_link_local) {
                return refuse_saying(
                    EINVAL,
                    "Local interface required for link-local local/remote addresses.",
                );
            }
        }
        if self.vxlans().any(|(_, other)| same_tunnel(other, vxlan)) {
            return refuse_saying(
                EEXIST,
                "A VXLAN device with the specified VNI already exists.",
            );
        }
        let most = self.most_mtu(vxlan)?;
        link.mtu = new.mtu.unwrap_or(match vxlan.lower {
            Some(_) => most,
            None => 1500,
        });
        link.mtu = link.mtu.min(most);
        link.peer = match &vxlan.lower {
            Some(lower) => self.device(lower).map(|lower| lower.link.index),
            None => None,
        };
        Ok(())
    }

    /// What is sent to nobody in particular goes to the device's remote address (`vxlan_fdb_update` of all zeros).
    pub(super) fn vxlan_default_destination(&mut self, link: &str, vxlan: &Vxlan) {
        let key = (link.into(), MacAddr([0; 6]));
        match vxlan.remote {
            Some(remote) if !vxlan.gpe => self.fdb.insert(key, remote),
            _ => self.fdb.remove(&key),
        };
    }

    /// The largest MTU that the lower link leaves.
    fn most_mtu(&self, vxlan: &Vxlan) -> Outcome<u32> {
        let Some(lower) = &vxlan.lower else {
            return Ok(MTU_MAX);
        };
        match self.device(lower) {
            Some(lower) => Ok(lower.link.mtu.saturating_sub(vxlan.overhead()).max(MTU_MIN)),
            None => refuse(ENODEV),
        }
    }

    /// `vxlan_change_mtu`.
    pub(super) fn vxlan_check_mtu(&self, link: &str, mtu: u32) -> Outcome {
        match self.device(link).map(|device| &device.link.kind) {
            Some(LinkKind::Vxlan(vxlan)) if mtu > self.most_mtu(vxlan)? => refuse(EINVAL),
            _ => Ok(()),
        }
    }

    /// `vxlan_open`: sockets of one port and family are shared by devices that receive in the same way.
    pub(super) fn vxlan_open(&self, link: &str) -> Outcome {
        let Some(LinkKind::Vxlan(opening)) = self.device(link).map(|device| &device.link.kind)
        else {
            return Ok(());
        };
        let clash = self.vxlans().any(|(other, vxlan)| {
            other.up
                && other.name != link
                && vxlan.port == opening.port
                && receives(vxlan) != receives(opening)
                && (vxlan.external || opening.external || vxlan.is_ipv6() == opening.is_ipv6())
        });
        if clash { refuse(EADDRINUSE) } else { Ok(()) }
    }

    /// Indexes of the devices that go with their lower link.
    pub(super) fn vxlans_on(&self, lower: &str) -> Vec<u32> {
        self.vxlans()
            .filter(|(_, vxlan)| vxlan.lower.as_deref() == Some(lower))
            .map(|(link, _)| link.index)
            .collect()
    }

    fn vxlans(&self) -> impl Iterator<Item = (&Link, &Vxlan)> {
        self.links
            .values()
            .filter_map(|device| match &device.link.kind {
                LinkKind::Vxlan(vxlan) => Some((&device.link, vxlan)),
                _ => None,
            })
    }
}

impl State {
    /// `vxlan_changelink`.
    pub(super) fn vxlan_set(&mut self, ns: NsId, name: &str, set: &VxlanSettings) -> Outcome {
        let namespace = self.namespace(ns)?;
        let lower = match &set.lower {
            Some(lower) => Some(namespace.device_mut(lower)?.link.index),
            None => None,
        };
        let LinkKind::Vxlan(before) = namespace.device_mut(name)?.link.kind.clone() else {
            return refuse(EOPNOTSUPP);
        };
        let mut addresses = set.local.iter().chain(&set.remote);
        if addresses.any(|address| address.is_ipv6() != before.is_ipv6()) {
            return refuse_saying(EOPNOTSUPP, "New local address family does not match old.");
        }
        let some = |address: IpAddr| Some(address).filter(|address| !address.is_unspecified());
        let after = Vxlan {
            local: set.local.map_or(before.local, some),
            remote: set.remote.map_or(before.remote, some),
            lower: set.lower.clone().or(before.lower.clone()),
            learning: set.learning.unwrap_or(before.learning),
            ..before.clone()
        };
        if after.gpe && after.learning {
            return refuse_saying(
                EINVAL,
                "VXLAN GPE does not support this combination of attributes.",
            );
        }
        let most = namespace.most_mtu(&after)?;
        let device = namespace.device_mut(name)?;
        device.link.peer = lower.or(device.link.peer);
        device.link.mtu = device.link.mtu.min(most);
        let remote_changed = after.remote != before.remote;
        device.link.kind = LinkKind::Vxlan(after.clone());
        if remote_changed {
            namespace.vxlan_default_destination(name, &after);
        }
        Ok(())
    }
}

/// `vxlan_vni_in_use`.
fn same_tunnel(other: &Vxlan, new: &Vxlan) -> bool {
    let link_local = new.local.iter().chain(&new.remote).any(is_link_local);
    other.vni == new.vni
        && other.port == new.port
        && receives(other) == receives(new)
        && other.is_ipv6() == new.is_ipv6()
        && !(link_local && other.lower != new.lower)
}

/// `VXLAN_F_RCV_FLAGS`, of which these are modelled.
fn receives(vxlan: &Vxlan) -> (bool, bool) {
    (vxlan.external, vxlan.gpe)
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
