//! Making changes.

use std::os::fd::AsRawFd;

use rtnetlink::packet_core::NLM_F_CREATE;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkAttribute;

use super::super::change::NetlinkChange;
use super::super::error::errno;
use super::super::link::{LinkSettings, NewLink, NewLinkKind, Vlan};
use super::super::vxlan::Vxlan;
use super::encode::Resolved;
use super::{State, can_be_a_name, encode, encode_route, vxlan};
use crate::host::rtnl::Failure;

/// The protocol is not there, or not on this link.
const EAFNOSUPPORT: i32 = 97;

impl State {
    /// Makes one change. An index that was looked up before, and turns out to be stale, is looked up again, once.
    pub(super) fn apply(&mut self, change: &NetlinkChange) -> Result<(), Failure> {
        let cached = !self.indexes.is_empty();
        let outcome = match self.attempt(change) {
            Err(failure) if cached && matches!(failure.errno, errno::ENODEV | errno::EINVAL) => {
                self.indexes.clear();
                self.attempt(change)
            }
            outcome => outcome,
        }
        .map_err(explained);
        match change {
            NetlinkChange::LinkAdd(new) => self.forget(&new.name),
            NetlinkChange::LinkDel { link } => self.forget(link),
            NetlinkChange::GroupDel { .. } => self.indexes.clear(),
            _ => {}
        }
        outcome
    }

    fn forget(&mut self, name: &str) {
        self.indexes.remove(name);
    }

    fn attempt(&mut self, change: &NetlinkChange) -> Result<(), Failure> {
        match change {
            NetlinkChange::LinkAdd(new) => self.link_add(new),
            NetlinkChange::LinkSet { link, settings } => self.link_set(link, settings),
            NetlinkChange::LinkDel { link } => {
                valid_name(link)?;
                self.send(RouteNetlinkMessage::DelLink(encode::named(link)))
            }
            NetlinkChange::GroupDel { group } => self.group_del(*group),
            NetlinkChange::PortSet { link, settings } => {
                let index = self.index(link)?;
                self.send(RouteNetlinkMessage::SetLink(encode::port(index, *settings)))
            }
            NetlinkChange::VlanAdd {
                link,
                vlan,
                last,
                on_bridge,
            } => {
                let index = self.index(link)?;
                let message = encode::vlans(index, *vlan, *last, *on_bridge);
                self.send(RouteNetlinkMessage::SetLink(message))
            }
            NetlinkChange::VlanDel {
                link,
                first,
                last,
                on_bridge,
            } => {
                let index = self.index(link)?;
                let vlan = Vlan {
                    id: *first,
                    pvid: false,
                    untagged: false,
                };
                let message = encode::vlans(index, vlan, *last, *on_bridge);
                self.send(RouteNetlinkMessage::DelLink(message))
            }
            NetlinkChange::AddressAdd(address) => {
                let index = self.index(&address.link)?;
                let message = encode_route::address(address, index);
                self.create(RouteNetlinkMessage::NewAddress(message))
            }
            NetlinkChange::AddressDel(address) => {
                let index = self.index(&address.link)?;
                let message = encode_route::address(address, index);
                self.send(RouteNetlinkMessage::DelAddress(message))
            }
            NetlinkChange::RouteAdd(route) => {
                let index = self.optional_index(route.link.as_deref())?;
                let message = RouteNetlinkMessage::NewRoute(encode_route::route(route, index));
                match route.beside_others {
                    true => self.connection.change(message, NLM_F_CREATE),
                    false => self.create(message),
                }
            }
            NetlinkChange::RouteDel(route) => {
                let index = self.optional_index(route.link.as_deref())?;
                let message = encode_route::route_key(route, index);
                self.send(RouteNetlinkMessage::DelRoute(message))
            }
            NetlinkChange::QdiscAdd { link, qdisc } => self.qdisc_add(link, *qdisc),
            NetlinkChange::QdiscDel { link, qdisc } => self.qdisc_del(link, *qdisc),
            NetlinkChange::RedirectAdd { link, to } => self.redirect_add(link, to),
            NetlinkChange::RedirectDel { link, .. } => self.redirect_del(link),
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage) -> Result<(), Failure> {
        self.connection.change(message, 0)
    }

    fn optional_index(&mut self, name: Option<&str>) -> Result<Option<u32>, Failure> {
        name.map(|name| self.index(name)).transpose()
    }

    /// Creates a link. What the kernel only takes in a second message is sent in one; if that fails, the link goes
    /// again, so that the change has happened wholly or not at all.
    fn link_add(&mut self, new: &NewLink) -> Result<(), Failure> {
        valid_name(&new.name)?;
        let netns = match &new.kind {
            NewLinkKind::Veth {
                peer, peer_netns, ..
            } => {
                valid_name(peer)?;
                peer_netns.as_ref().map(|path| {
                    path.descriptor().map_err(|error| {
                        let message = format!("could not open the namespace {path}");
                        Failure::refused(error.raw_os_error().unwrap_or(0), message)
                    })
                })
            }
            _ => None,
        };
        let netns = netns.transpose()?;
        let resolved = Resolved {
            master: self.optional_index(new.master.as_deref())?,
            lower: match &new.kind {
                NewLinkKind::Vxlan(vxlan) => self.lower_of(vxlan)?,
                _ => None,
            },
            netns: netns.as_ref().map(AsRawFd::as_raw_fd),
        };
        if new.ipv6_link_local {
            let message = encode::new_link(new, resolved);
            return self.create(RouteNetlinkMessage::NewLink(message));
        }
        self.link_add_without_link_local(new, resolved)
    }

    fn lower_of(&mut self, vxlan: &Vxlan) -> Result<Option<u32>, Failure> {
        if let Some(fault) = vxlan.fault() {
            return Err(Failure::refused(errno::EINVAL, fault));
        }
        self.optional_index(vxlan.lower.as_deref())
    }

    fn link_add_without_link_local(
        &mut self,
        new: &NewLink,
        resolved: Resolved,
    ) -> Result<(), Failure> {
        // A veth has no carrier while its far end is down, and so IPv6 does not start on it before the second message.
        // Others may have one at once.
        let up_later = new.up && !matches!(new.kind, NewLinkKind::Veth { .. });
        let first = NewLink {
            up: new.up && !up_later,
            ..new.clone()
        };
        let message = encode::new_link(&first, resolved);
        self.create(RouteNetlinkMessage::NewLink(message))?;
        let mut outcome = self.protocol_settings(&new.name, None, Some(false));
        if up_later && outcome.is_ok() {
            let settings = LinkSettings {
                up: Some(true),
                ..LinkSettings::default()
            };
            outcome = self.link_set(&new.name, &settings);
        }
        if outcome.is_err() {
            let _ = self.send(RouteNetlinkMessage::DelLink(encode::named(&new.name)));
        }
        outcome
    }

    fn protocol_settings(
        &mut self,
        name: &str,
        arp_notify: Option<bool>,
        ipv6_link_local: Option<bool>,
    ) -> Result<(), Failure> {
        let Some(spec) = encode::protocol_settings(arp_notify, ipv6_link_local) else {
            return Ok(());
        };
        let mut message = encode::named(name);
        message.attributes.push(spec);
        match self.send(RouteNetlinkMessage::NewLink(message)) {
            // A link without IPv6 (switched off at boot, or an MTU below 1280) gets no link-local address as it is.
            Err(failure) if failure.errno == EAFNOSUPPORT && ipv6_link_local == Some(false) => {
                self.protocol_settings(name, arp_notify, None)
            }
            outcome => outcome,
        }
    }

    fn link_set(&mut self, name: &str, settings: &LinkSettings) -> Result<(), Failure> {
        valid_name(name)?;
        if settings
            .alias
            .as_ref()
            .is_some_and(|alias| alias.contains('\0'))
        {
            return Err(Failure::refused(errno::EINVAL, "the alias contains a NUL"));
        }
        let master = match settings.master.as_deref() {
            Some("") => Some(0),
            other => self.optional_index(other)?,
        };
        self.protocol_settings(name, settings.arp_notify, settings.ipv6_link_local)?;
        if let Some(wanted) = &settings.vxlan {
            let lower = self.optional_index(wanted.lower.as_deref())?;
            let message = vxlan::change(name, wanted, lower);
            self.send(RouteNetlinkMessage::NewLink(message))?;
        }
        let others = LinkSettings {
            arp_notify: None,
            ipv6_link_local: None,
            vxlan: None,
            ..settings.clone()
        };
        if others == LinkSettings::default() {
            return Ok(());
        }
        // Kernels before 5.18 take a group without an index for "all links of this group", whatever the name says.
        let mut message = match settings.group {
            None => encode::named(name),
            Some(_) => encode::indexed(self.index(name)?),
        };
        encode::settings(&mut message, &others, master);
        self.send(RouteNetlinkMessage::NewLink(message))
    }

    fn group_del(&mut self, group: u32) -> Result<(), Failure> {
        if group == 0 {
            let message = "every link is in group 0: deleting it would delete them all";
            return Err(Failure::refused(errno::EPERM, message));
        }
        let mut message = encode::indexed(0);
        message.attributes.push(LinkAttribute::Group(group));
        self.send(RouteNetlinkMessage::DelLink(message))
    }
}

/// What the kernel leaves without a sentence, and `strerror` makes worse.
fn explained(mut failure: Failure) -> Failure {
    if failure.errno == errno::EXFULL && failure.message.is_none() {
        let message = "the bridge has all the ports that it can have, 1,023 (BR_MAX_PORTS)";
        failure.message = Some(message.to_owned());
    }
    failure
}

fn valid_name(name: &str) -> Result<(), Failure> {
    if can_be_a_name(name) {
        Ok(())
    } else {
        let message = format!("{name:?} cannot be a link's name: 1 to 15 bytes without NUL");
        Err(Failure::refused(errno::EINVAL, message))
    }
}
