//! Bridge ports and VLANs: `net/bridge/br_netlink.c`, `net/bridge/br_vlan.c`.

use crate::host::netlink::errno::{EINVAL, EOPNOTSUPP};
use crate::host::netlink::{PortSettings, Vlan};

use super::state::{Device, Namespace, NsId, Outcome, State, refuse, refuse_saying};

impl Namespace {
    pub(super) fn port_set(&mut self, link: &str, set: &PortSettings) -> Outcome {
        match &mut self.device_mut(link)?.link.port {
            Some(port) => {
                port.hairpin = set.hairpin;
                port.isolated = set.isolated;
                Ok(())
            }
            None => refuse(EOPNOTSUPP),
        }
    }
}

impl State {
    pub(super) fn vlan_add(
        &mut self,
        ns: NsId,
        link: &str,
        vlan: Vlan,
        last: u16,
        on_bridge: bool,
    ) -> Outcome {
        let vlans = self.vlan_target(ns, link, (vlan.id, last), on_bridge)?;
        if vlan.pvid && last != vlan.id {
            return refuse_saying(EINVAL, "Only one VLAN can be the PVID");
        }
        for id in vlan.id..=last {
            if vlan.pvid {
                for other in vlans.iter_mut() {
                    other.pvid = false;
                }
            }
            vlans.retain(|other| other.id != id);
            vlans.push(Vlan { id, ..vlan });
        }
        vlans.sort();
        Ok(())
    }

    /// A VLAN that is not there counts as removed.
    pub(super) fn vlan_del(
        &mut self,
        ns: NsId,
        link: &str,
        (first, last): (u16, u16),
        on_bridge: bool,
    ) -> Outcome {
        let vlans = self.vlan_target(ns, link, (first, last), on_bridge)?;
        vlans.retain(|vlan| vlan.id < first || vlan.id > last);
        Ok(())
    }

    fn vlan_target(
        &mut self,
        ns: NsId,
        link: &str,
        (first, last): (u16, u16),
        on_bridge: bool,
    ) -> Outcome<&mut Vec<Vlan>> {
        let unsupported = self.no_vlan_filtering;
        let device = self.namespace(ns)?.device_mut(link)?;
        let fits = if on_bridge {
            device.is_bridge()
        } else {
            is_port(device)
        };
        if unsupported || !fits {
            return refuse(EOPNOTSUPP);
        }
        if first == 0 || last >= 4095 || first > last {
            return refuse(EINVAL);
        }
        Ok(&mut device.vlans)
    }
}

fn is_port(device: &Device) -> bool {
    device.link.port.is_some()
}
