//! Links: `net/core/rtnetlink.c`, `drivers/net/veth.c`, `net/bridge/br_if.c`. VXLAN devices are in [`super::vxlan`].

use crate::host::netlink::errno::{
    EADDRNOTAVAIL, EEXIST, EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM, ERANGE,
};
use crate::host::netlink::{Link, LinkKind, LinkSettings, MacAddr, NewLink, NewLinkKind, Vlan};

use super::state::{Device, NsId, Outcome, State, refuse, refuse_saying};
use super::vxlan;

const ELOOP: i32 = 40;

impl State {
    pub(super) fn link_add(&mut self, ns: NsId, new: &NewLink) -> Outcome {
        check_name(&new.name)?;
        let master = match &new.master {
            Some(master) => Some(self.index_of(ns, master)?),
            None => None,
        };
        let peer_ns = match &new.kind {
            NewLinkKind::Veth {
                peer_netns: Some(path),
                ..
            } => match self.paths.get(path.as_path()) {
                Some(id) => *id,
                None => return refuse(ENOENT),
            },
            _ => ns,
        };
        if let Some(mac) = new.mac {
            check_mac(mac)?;
        }
        // `veth_validate` comes before the search for the name; others' MTU is looked at later.
        if let (NewLinkKind::Veth { .. }, Some(mtu)) = (&new.kind, new.mtu) {
            check_mtu(&Device::new(Link::new(0, &new.name, LinkKind::Veth)), mtu)?;
        }
        if let NewLinkKind::Vxlan(vxlan) = &new.kind {
            if vxlan.fault().is_some() {
                return refuse(EINVAL);
            }
            self.namespace(ns)?.exists(vxlan.lower.as_deref())?;
            vxlan::validate(new, vxlan)?;
        }
        if self.namespace(ns)?.device(&new.name).is_some() {
            return refuse(EEXIST);
        }
        let kind = match &new.kind {
            NewLinkKind::Bridge { vlan_filtering } => {
                if *vlan_filtering && self.no_vlan_filtering {
                    return refuse(EOPNOTSUPP);
                }
                LinkKind::Bridge {
                    vlan_filtering: *vlan_filtering,
                }
            }
            NewLinkKind::Veth { .. } => LinkKind::Veth,
            NewLinkKind::Vxlan(vxlan) => LinkKind::Vxlan(vxlan.clone()),
            NewLinkKind::Dummy => LinkKind::Other("dummy".to_owned()),
            NewLinkKind::Ifb if self.no_traffic_control => {
                return refuse_saying(EOPNOTSUPP, "Unknown device type");
            }
            NewLinkKind::Ifb => LinkKind::Other("ifb".to_owned()),
        };
        let mut device = Device::new(Link::new(0, &new.name, kind));
        if let NewLinkKind::Vxlan(vxlan) = &new.kind {
            self.namespace(ns)?
                .vxlan_configure(&mut device.link, new, vxlan)?;
        } else if let Some(mtu) = new.mtu {
            check_mtu(&device, mtu)?;
            device.link.mtu = mtu;
        }
        if let NewLinkKind::Veth { peer, peer_mac, .. } = &new.kind {
            check_name(peer)?;
            if let Some(mac) = peer_mac {
                check_mac(*mac)?;
            }
            if self.namespace(peer_ns)?.device(peer).is_some()
                || (peer_ns == ns && *peer == new.name)
            {
                return refuse(EEXIST);
            }
        }
        device.mac_set = new.mac.is_some();
        device.link.mac = match new.mac {
            _ if device.has_no_mac() => None,
            Some(mac) => Some(mac),
            None => Some(self.next_mac()),
        };
        if !self.no_vlan_filtering && device.is_bridge() {
            device.vlans = vec![default_vlan()];
        }
        self.register(ns, peer_ns, device, new)?;
        if let NewLinkKind::Vxlan(vxlan) = &new.kind {
            self.namespace(ns)?
                .vxlan_default_destination(&new.name, vxlan);
        }
        let done = self.configure(ns, new, master);
        if done.is_err() {
            self.link_del(ns, &new.name)?;
        }
        done
    }

    /// Gives the device, and a veth's peer before it, an index.
    fn register(&mut self, ns: NsId, peer_ns: NsId, device: Device, new: &NewLink) -> Outcome {
        let mut device = device;
        let mut other = None;
        if let NewLinkKind::Veth { peer, peer_mac, .. } = &new.kind {
            let mac = match peer_mac {
                Some(mac) => *mac,
                None => self.next_mac(),
            };
            let namespace = self.namespace(peer_ns)?;
            let index = namespace.next_index();
            let mut end = Device::new(Link::new(index, peer, LinkKind::Veth));
            end.link.mac = Some(mac);
            // Both ends are asked for with the same MTU.
            end.link.mtu = device.link.mtu;
            end.mac_set = peer_mac.is_some();
            other = Some(end);
        }
        let namespace = self.namespace(ns)?;
        let index = namespace.next_index();
        device.link.index = index;
        if let Some(mut end) = other {
            let elsewhere = peer_ns != ns;
            device.peer = Some((peer_ns, end.link.index));
            device.link.peer = Some(end.link.index);
            device.link.peer_elsewhere = elsewhere;
            end.peer = Some((ns, index));
            end.link.peer = Some(index);
            end.link.peer_elsewhere = elsewhere;
            // The request says nothing of the peer's addresses.
            self.add_device(peer_ns, end, true)?;
        }
        self.add_device(ns, device, new.ipv6_link_local)
    }

    fn add_device(&mut self, ns: NsId, device: Device, link_local: bool) -> Outcome {
        let name = device.link.name.clone();
        let namespace = self.namespace(ns)?;
        namespace.links.insert(device.link.index, device);
        namespace.inherit_sysctls(&name);
        // `ipv6_add_dev`: nobody answers on a device without ARP.
        let quiet = namespace.device_mut(&name)?.has_no_mac();
        if quiet {
            namespace.set_interface_sysctl("ipv6", &name, "accept_dad", "-1");
        }
        if !link_local {
            namespace.set_interface_sysctl("ipv6", &name, "addr_gen_mode", "1");
        }
        Ok(())
    }

    fn configure(&mut self, ns: NsId, new: &NewLink, master: Option<u32>) -> Outcome {
        if new.up {
            self.set_up(ns, &new.name, true)?;
        }
        if let Some(master) = master {
            self.enslave(ns, &new.name, master)?;
        }
        Ok(())
    }

    /// `do_setlink`: one setting after another; what was set before a refusal stays set.
    pub(super) fn link_set(&mut self, ns: NsId, name: &str, set: &LinkSettings) -> Outcome {
        let master = match set.master.as_deref() {
            None => None,
            Some("") => Some(None),
            Some(master) => Some(Some(self.index_of(ns, master)?)),
        };
        if let Some(vxlan) = &set.vxlan {
            self.vxlan_set(ns, name, vxlan)?;
        }
        let no_vlans = self.no_vlan_filtering;
        let device = self.namespace(ns)?.device_mut(name)?;
        if let Some(filtering) = set.vlan_filtering {
            match &mut device.link.kind {
                LinkKind::Bridge { vlan_filtering } if !no_vlans => *vlan_filtering = filtering,
                _ => return refuse(EOPNOTSUPP),
            }
        }
        if let Some(mac) = set.mac {
            if device.has_no_mac() {
                return refuse(EOPNOTSUPP);
            }
            check_mac(mac)?;
            device.link.mac = Some(mac);
            device.mac_set = true;
            let bridge = device.link.master;
            let namespace = self.namespace(ns)?;
            // `neigh_changeaddr`, whatever the address was.
            namespace.flush_neighbours(name, |_| true);
            namespace.recalculate_bridge(bridge);
        }
        if let Some(mtu) = set.mtu {
            self.set_mtu(ns, name, mtu)?;
        }
        let device = self.namespace(ns)?.device_mut(name)?;
        if let Some(group) = set.group {
            device.link.group = group;
        }
        if let Some(alias) = &set.alias {
            if alias.len() > 255 {
                return refuse(ERANGE);
            }
            device.link.alias = (!alias.is_empty()).then(|| alias.clone());
        }
        if let Some(master) = master
            && self.namespace(ns)?.device_mut(name)?.link.master != master
        {
            self.release(ns, name)?;
            if let Some(master) = master {
                self.enslave(ns, name, master)?;
            }
        }
        let device = self.namespace(ns)?.device_mut(name)?;
        if let Some(promiscuous) = set.promiscuous {
            device.link.promiscuous = promiscuous;
        }
        if let Some(all) = set.all_multicast {
            device.link.all_multicast = all;
        }
        if let Some(up) = set.up {
            self.set_up(ns, name, up)?;
        }
        let namespace = self.namespace(ns)?;
        if let Some(length) = set.tx_queue_len {
            namespace.device_mut(name)?.link.tx_queue_len = length;
        }
        if let Some(notify) = set.arp_notify {
            let value = if notify { "1" } else { "0" };
            namespace.set_interface_sysctl("ipv4", name, "arp_notify", value);
        }
        if let Some(link_local) = set.ipv6_link_local {
            let value = if link_local { "0" } else { "1" };
            namespace.set_interface_sysctl("ipv6", name, "addr_gen_mode", value);
        }
        Ok(())
    }

    fn set_up(&mut self, ns: NsId, name: &str, up: bool) -> Outcome {
        let namespace = self.namespace(ns)?;
        if up && !namespace.is_up(name) {
            namespace.vxlan_open(name)?;
        }
        let device = namespace.device_mut(name)?;
        let was = device.link.up;
        device.link.up = up;
        match (was, up) {
            (false, true) => namespace.addresses_up(name),
            (true, false) => namespace.addresses_down(name),
            _ => {}
        }
        Ok(())
    }

    fn set_mtu(&mut self, ns: NsId, name: &str, mtu: u32) -> Outcome {
        let namespace = self.namespace(ns)?;
        // `netif_set_mtu_ext`: nothing is done, nor looked at.
        if namespace.device_mut(name)?.link.mtu == mtu {
            return Ok(());
        }
        check_mtu(namespace.device_mut(name)?, mtu)?;
        namespace.vxlan_check_mtu(name, mtu)?;
        let device = namespace.device_mut(name)?;
        let before = device.link.mtu;
        device.link.mtu = mtu;
        device.mtu_set = true;
        let bridge = device.link.master;
        namespace.mtu_changed(name, before, mtu);
        namespace.recalculate_bridge(bridge);
        Ok(())
    }

    fn enslave(&mut self, ns: NsId, name: &str, master: u32) -> Outcome {
        let no_vlans = self.no_vlan_filtering;
        let namespace = self.namespace(ns)?;
        let master_is_bridge = namespace.links.get(&master).map(Device::is_bridge);
        match master_is_bridge {
            Some(true) => {}
            Some(false) => return refuse(EOPNOTSUPP),
            None => return refuse(EINVAL),
        }
        let device = namespace.device_mut(name)?;
        if device.is_bridge() {
            return refuse_saying(ELOOP, "Can not enslave a bridge to a bridge");
        }
        // `br_add_if`: Ethernet alone.
        if device.is_loopback() || device.has_no_mac() {
            return refuse(EINVAL);
        }
        device.became_port(master);
        if !no_vlans {
            device.vlans = vec![default_vlan()];
        }
        namespace.recalculate_bridge(Some(master));
        Ok(())
    }

    fn release(&mut self, ns: NsId, name: &str) -> Outcome {
        let namespace = self.namespace(ns)?;
        let device = namespace.device_mut(name)?;
        let bridge = device.link.master.take();
        device.link.port = None;
        if bridge.is_some() {
            device.vlans.clear();
        }
        namespace.recalculate_bridge(bridge);
        Ok(())
    }

    pub(super) fn link_del(&mut self, ns: NsId, name: &str) -> Outcome {
        let device = self.namespace(ns)?.device_mut(name)?;
        if device.is_loopback() {
            return refuse(EOPNOTSUPP);
        }
        let index = device.link.index;
        let peer = device.peer;
        self.unregister(ns, index)?;
        if let Some((peer_ns, peer)) = peer {
            self.unregister(peer_ns, peer)?;
        }
        Ok(())
    }

    fn unregister(&mut self, ns: NsId, index: u32) -> Outcome {
        let namespace = self.namespace(ns)?;
        let Some(gone) = namespace.links.remove(&index) else {
            return Ok(());
        };
        for port in namespace.links.values_mut() {
            if port.link.master == Some(index) {
                port.link.master = None;
                port.link.port = None;
                port.vlans.clear();
            }
        }
        namespace.forget_link(&gone.link.name);
        namespace.forget_target(index);
        namespace.recalculate_bridge(gone.link.master);
        for above in namespace.vxlans_on(&gone.link.name) {
            self.unregister(ns, above)?;
        }
        Ok(())
    }

    pub(super) fn group_del(&mut self, ns: NsId, group: u32) -> Outcome {
        if group == 0 {
            return refuse(EPERM);
        }
        let namespace = self.namespace(ns)?;
        let members: Vec<&Device> = namespace
            .links
            .values()
            .filter(|device| device.link.group == group)
            .collect();
        if members.is_empty() {
            return refuse(ENODEV);
        }
        if members.iter().any(|device| device.is_loopback()) {
            return refuse(EOPNOTSUPP);
        }
        let names: Vec<String> = members
            .iter()
            .map(|device| device.link.name.clone())
            .collect();
        for name in names {
            // A pair with both ends in the group is gone after its first end.
            if self.namespace(ns)?.device(&name).is_some() {
                self.link_del(ns, &name)?;
            }
        }
        Ok(())
    }

    /// The end of a namespace: its links go, and with each veth its peer elsewhere.
    pub(super) fn destroy_namespace(&mut self, ns: NsId) {
        let peers: Vec<(NsId, u32)> = self
            .namespaces
            .get(&ns)
            .into_iter()
            .flat_map(|namespace| namespace.links.values().filter_map(|device| device.peer))
            .filter(|(peer_ns, _)| *peer_ns != ns)
            .collect();
        for (peer_ns, index) in peers {
            // The other namespace may be gone as well.
            let _ = self.unregister(peer_ns, index);
        }
        self.namespaces.remove(&ns);
        self.paths.retain(|_, id| *id != ns);
    }

    fn index_of(&mut self, ns: NsId, name: &str) -> Outcome<u32> {
        Ok(self.namespace(ns)?.device_mut(name)?.link.index)
    }
}

impl super::state::Namespace {
    /// What follows from a bridge's ports: its MTU is their smallest and its MAC their lowest, unless somebody chose.
    fn recalculate_bridge(&mut self, bridge: Option<u32>) {
        let Some(index) = bridge else { return };
        let mtu = self.ports(index).map(|port| port.link.mtu).min();
        let mac = self.ports(index).filter_map(|port| port.link.mac).min();
        let Some(device) = self.links.get_mut(&index) else {
            return;
        };
        let mac_before = device.link.mac;
        if !device.mac_set {
            device.link.mac = Some(mac.unwrap_or(MacAddr([0; 6])));
        }
        let another = device.link.mac != mac_before;
        let before = device.link.mtu;
        if !device.mtu_set {
            device.link.mtu = mtu.unwrap_or(1500);
        }
        let (name, after) = (device.link.name.clone(), device.link.mtu);
        if another {
            self.flush_neighbours(&name, |_| true);
        }
        self.mtu_changed(&name, before, after);
    }
}

pub(super) fn default_vlan() -> Vlan {
    Vlan {
        id: 1,
        pvid: true,
        untagged: true,
    }
}

fn check_name(name: &str) -> Outcome {
    if name.len() > 15
        || name.is_empty()
        || name == "."
        || name == ".."
        || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
    {
        return refuse(EINVAL);
    }
    Ok(())
}

/// `is_valid_ether_addr`: neither zero nor multicast.
fn check_mac(mac: MacAddr) -> Outcome {
    let [first, ..] = mac.0;
    if mac.is_zero() || first & 1 == 1 {
        return refuse(EADDRNOTAVAIL);
    }
    Ok(())
}

fn check_mtu(device: &Device, mtu: u32) -> Outcome {
    let (least, most) = device.mtu_range();
    if mtu < least {
        return refuse_saying(EINVAL, "mtu less than device minimum");
    }
    if mtu > most {
        return refuse_saying(EINVAL, "mtu greater than device maximum");
    }
    Ok(())
}
