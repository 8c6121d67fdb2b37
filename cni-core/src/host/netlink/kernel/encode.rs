//! Changes into the typed messages of `netlink-packet-route`.
//!
//! Links are named to the kernel by `IFLA_IFNAME` with index 0: the kernel looks the name up under the same lock under
//! which it makes the change, so that no other link can be hit. Where a message has only room for an index, it is
//! looked up first (see [`super::KernelNetlink`]).

use std::os::fd::RawFd;

use rtnetlink::packet_core::{DefaultNla, NLA_F_NESTED};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{
    AfSpecBridge, AfSpecInet, AfSpecInet6, AfSpecUnspec, BridgeFlag, BridgeVlanInfo,
    BridgeVlanInfoFlags, In6AddrGenMode, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, LinkProtoInfoBridge,
};

use super::super::link::{LinkSettings, MacAddr, NewLink, NewLinkKind, PortSettings, Vlan};

/// A message about the link with this name.
pub(super) fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// A message about the link with this index.
pub(super) fn indexed(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// A bridge-family message about the link with this index.
fn bridge_family(index: u32) -> LinkMessage {
    let mut message = indexed(index);
    message.header.interface_family = AddressFamily::Bridge;
    message
}

/// Reads no statistics: they are half of a reply, and cost the kernel a walk over all CPUs.
pub(super) fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// A dump of all links' VLANs.
pub(super) fn vlan_dump() -> LinkMessage {
    let mut message = bridge_family(0);
    message.attributes.push(LinkAttribute::ExtMask(vec![
        LinkExtentMask::BrvlanCompressed,
    ]));
    message
}

/// What the names in a new link stand for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Resolved {
    /// Index of its master.
    pub(super) master: Option<u32>,
    /// Index of a VXLAN device's lower link.
    pub(super) lower: Option<u32>,
    /// The namespace of a veth's peer. It must stay open until the message is sent.
    pub(super) netns: Option<RawFd>,
}

/// A link to create.
pub(super) fn new_link(new: &NewLink, resolved: Resolved) -> LinkMessage {
    let mut message = named(&new.name);
    // The far end of a veth gets the MTU too: one with less would only drop what the other sends.
    let common = |mac: Option<MacAddr>| {
        let mtu = new.mtu.map(LinkAttribute::Mtu);
        let mac = mac.map(|mac| LinkAttribute::Address(mac.0.to_vec()));
        mtu.into_iter().chain(mac)
    };
    message.attributes.extend(common(new.mac));
    if let Some(master) = resolved.master {
        message.attributes.push(LinkAttribute::Controller(master));
    }
    let info = match &new.kind {
        NewLinkKind::Bridge { vlan_filtering } => {
            // Saying "no" to a kernel without VLAN filtering is an error; it is what a new bridge does anyway.
            let filtering = vlan_filtering.then_some(InfoBridge::VlanFiltering(true));
            let mut info = vec![LinkInfo::Kind(InfoKind::Bridge)];
            info.extend(filtering.map(|value| LinkInfo::Data(InfoData::Bridge(vec![value]))));
            info
        }
        NewLinkKind::Dummy => vec![LinkInfo::Kind(InfoKind::Dummy)],
        NewLinkKind::Ifb => vec![LinkInfo::Kind(InfoKind::Ifb)],
        NewLinkKind::Vxlan(vxlan) => super::vxlan::info(vxlan, resolved.lower),
        NewLinkKind::Veth { peer, peer_mac, .. } => {
            let mut far = named(peer);
            far.attributes.extend(common(*peer_mac));
            far.attributes
                .extend(resolved.netns.map(LinkAttribute::NetNsFd));
            let peer = InfoData::Veth(InfoVeth::Peer(far));
            vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(peer)]
        }
    };
    message.attributes.push(LinkAttribute::LinkInfo(info));
    if new.up {
        set_flag(&mut message, LinkFlags::Up, true);
    }
    message
}

/// Protocol settings (`IFLA_AF_SPEC`), when there are any.
///
/// The kernel applies them last of all in a message, and not at all in one that creates a link. They come in a message
/// of their own, ahead of the one that makes the link speak.
pub(super) fn protocol_settings(
    arp_notify: Option<bool>,
    ipv6_link_local: Option<bool>,
) -> Option<LinkAttribute> {
    /// `IFLA_INET_CONF` (include/uapi/linux/if_link.h).
    const INET_CONF: u16 = 1;
    /// `IPV4_DEVCONF_ARP_NOTIFY` (include/uapi/linux/ip.h).
    const ARP_NOTIFY: u16 = 22;
    let mut specs = Vec::new();
    if let Some(on) = arp_notify {
        // The codec's own type leaves out every zero, so that nothing could be switched off.
        let mut value = 8_u16.to_ne_bytes().to_vec();
        value.extend(ARP_NOTIFY.to_ne_bytes());
        value.extend(u32::from(on).to_ne_bytes());
        let conf = DefaultNla::new(INET_CONF | NLA_F_NESTED, value);
        specs.push(AfSpecUnspec::Inet(vec![AfSpecInet::Other(conf)]));
    }
    if let Some(on) = ipv6_link_local {
        let mode = if on {
            In6AddrGenMode::Eui64
        } else {
            In6AddrGenMode::None
        };
        specs.push(AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)]));
    }
    (!specs.is_empty()).then_some(LinkAttribute::AfSpecUnspec(specs))
}

/// Everything else that can be set, onto a message about the link. `master` is the index of the settings' master, 0
/// to release the port.
pub(super) fn settings(message: &mut LinkMessage, settings: &LinkSettings, master: Option<u32>) {
    /// `IFLA_IFALIAS`. The codec's own type adds a NUL, with which an alias cannot be removed.
    const IFALIAS: u16 = 20;
    let attributes = &mut message.attributes;
    attributes.extend(settings.mtu.map(LinkAttribute::Mtu));
    attributes.extend(
        settings
            .mac
            .map(|mac| LinkAttribute::Address(mac.0.to_vec())),
    );
    attributes.extend(master.map(LinkAttribute::Controller));
    attributes.extend(settings.tx_queue_len.map(LinkAttribute::TxQueueLen));
    attributes.extend(settings.group.map(LinkAttribute::Group));
    attributes.extend(
        settings.alias.as_ref().map(|alias| {
            LinkAttribute::Other(DefaultNla::new(IFALIAS, alias.clone().into_bytes()))
        }),
    );
    attributes.extend(settings.vlan_filtering.map(|on| {
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(on)])),
        ])
    }));
    let flags = [
        (LinkFlags::Up, settings.up),
        (LinkFlags::Promisc, settings.promiscuous),
        (LinkFlags::Allmulti, settings.all_multicast),
    ];
    for (flag, value) in flags {
        if let Some(on) = value {
            set_flag(message, flag, on);
        }
    }
}

fn set_flag(message: &mut LinkMessage, flag: LinkFlags, on: bool) {
    message.header.change_mask |= flag;
    message.header.flags.set(flag, on);
}

/// Settings of a bridge port, for `RTM_SETLINK`.
pub(super) fn port(index: u32, settings: PortSettings) -> LinkMessage {
    /// `IFLA_BRPORT_MODE`: hairpin.
    const MODE: u16 = 4;
    /// `IFLA_BRPORT_ISOLATED`.
    const ISOLATED: u16 = 33;
    let flag = |kind, on| LinkProtoInfoBridge::Other(DefaultNla::new(kind, vec![u8::from(on)]));
    let mut message = bridge_family(index);
    message.attributes.push(LinkAttribute::ProtoInfoBridge(vec![
        flag(MODE, settings.hairpin),
        flag(ISOLATED, settings.isolated),
    ]));
    message
}

/// VLANs of a port or of a bridge itself, for `RTM_SETLINK` (add) and `RTM_DELLINK` (delete).
pub(super) fn vlans(index: u32, vlan: Vlan, last: u16, on_bridge: bool) -> LinkMessage {
    let mut flags = BridgeVlanInfoFlags::empty();
    flags.set(BridgeVlanInfoFlags::Pvid, vlan.pvid);
    flags.set(BridgeVlanInfoFlags::Untagged, vlan.untagged);
    let info = |vid, extra| {
        AfSpecBridge::VlanInfo(BridgeVlanInfo {
            flags: flags | extra,
            vid,
        })
    };
    let mut spec = Vec::new();
    if on_bridge {
        spec.push(AfSpecBridge::Flags(BridgeFlag::LowerDev));
    }
    if last == vlan.id {
        spec.push(info(vlan.id, BridgeVlanInfoFlags::empty()));
    } else {
        spec.push(info(vlan.id, BridgeVlanInfoFlags::RangeBegin));
        spec.push(info(last, BridgeVlanInfoFlags::RangeEnd));
    }
    let mut message = bridge_family(index);
    message.attributes.push(LinkAttribute::AfSpecBridge(spec));
    message
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{Emitable, Parseable};

    use super::*;
    use crate::host::NetnsPath;

    fn bytes(message: &LinkMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    /// The attributes of the encoded message, as an independent decoder sees them.
    fn decoded(message: &LinkMessage) -> LinkMessage {
        LinkMessage::parse(bytes(message).as_slice()).unwrap()
    }

    #[test]
    fn a_veth_carries_mtu_and_namespace_for_its_far_end_which_is_down() {
        let kind = NewLinkKind::Veth {
            peer: "eth0".into(),
            peer_mac: Some(MacAddr([2, 0, 0, 0, 0, 9])),
            peer_netns: Some(NetnsPath::new("/x")),
        };
        let mut new = NewLink::new("veth0", kind);
        new.mtu = Some(1400);
        new.up = true;
        let resolved = Resolved {
            master: Some(7),
            lower: None,
            netns: Some(33),
        };
        let message = new_link(&new, resolved);
        assert_eq!(message.header.index, 0);
        assert_eq!(message.header.flags, LinkFlags::Up);
        assert_eq!(message.header.change_mask, LinkFlags::Up);
        let mut far = named("eth0");
        far.attributes.extend([
            LinkAttribute::Mtu(1400),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 9]),
            LinkAttribute::NetNsFd(33),
        ]);
        assert_eq!(
            decoded(&message).attributes,
            [
                LinkAttribute::IfName("veth0".into()),
                LinkAttribute::Mtu(1400),
                LinkAttribute::Controller(7),
                LinkAttribute::LinkInfo(vec![
                    LinkInfo::Kind(InfoKind::Veth),
                    LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
                ]),
            ]
        );
    }

    #[test]
    fn a_bridge_mentions_vlan_filtering_only_to_switch_it_on() {
        for vlan_filtering in [false, true] {
            let new = NewLink::new("br0", NewLinkKind::Bridge { vlan_filtering });
            let mut info = vec![LinkInfo::Kind(InfoKind::Bridge)];
            if vlan_filtering {
                let data = vec![InfoBridge::VlanFiltering(true)];
                info.push(LinkInfo::Data(InfoData::Bridge(data)));
            }
            let message = new_link(&new, Resolved::default());
            assert_eq!(message.header.change_mask, LinkFlags::empty());
            assert!(
                decoded(&message)
                    .attributes
                    .contains(&LinkAttribute::LinkInfo(info))
            );
        }
    }

    #[test]
    fn arp_notify_can_be_switched_on_and_off() {
        for on in [true, false] {
            let spec = protocol_settings(Some(on), None).unwrap();
            let mut message = indexed(1);
            message.attributes.push(spec);
            let mut expected = Vec::new();
            // IFLA_AF_SPEC (26) > AF_INET (2) > IFLA_INET_CONF (1, nested) > IPV4_DEVCONF_ARP_NOTIFY (22)
            for (length, kind) in [(20_u16, 26_u16), (16, 2), (12, 0x8001), (8, 22)] {
                expected.extend(length.to_ne_bytes());
                expected.extend(kind.to_ne_bytes());
            }
            expected.extend(u32::from(on).to_ne_bytes());
            assert_eq!(bytes(&message)[16..], expected);
        }
        assert_eq!(protocol_settings(None, None), None);
    }

    #[test]
    fn an_alias_is_sent_without_an_end_so_that_an_empty_one_removes_it() {
        for (alias, length) in [("pod", 7_u16), ("", 4)] {
            let mut message = indexed(1);
            let wanted = LinkSettings {
                alias: Some(alias.into()),
                ..LinkSettings::default()
            };
            settings(&mut message, &wanted, None);
            let bytes = bytes(&message);
            assert_eq!(bytes[16..18], length.to_ne_bytes());
            assert_eq!(bytes[18..20], 20_u16.to_ne_bytes());
            assert_eq!(&bytes[20..20 + alias.len()], alias.as_bytes());
        }
    }

    #[test]
    fn flags_that_are_not_mentioned_stay_out_of_the_mask() {
        let mut message = indexed(1);
        let wanted = LinkSettings {
            promiscuous: Some(true),
            up: Some(false),
            ..LinkSettings::default()
        };
        settings(&mut message, &wanted, None);
        assert_eq!(message.header.flags, LinkFlags::Promisc);
        assert_eq!(
            message.header.change_mask,
            LinkFlags::Promisc | LinkFlags::Up
        );
    }

    #[test]
    fn vlans_are_sent_as_one_or_as_a_range() {
        let vlan = Vlan {
            id: 5,
            pvid: true,
            untagged: true,
        };
        let one = vlans(3, vlan, 5, false);
        assert_eq!(u8::from(one.header.interface_family), 7);
        assert_eq!(one.header.index, 3);
        // IFLA_AF_SPEC of 8 > IFLA_BRIDGE_VLAN_INFO of 4: flags PVID | UNTAGGED, VLAN 5.
        let spec = |words: &[u16]| {
            words
                .iter()
                .flat_map(|word| word.to_ne_bytes())
                .collect::<Vec<_>>()
        };
        let body = bytes(&one)[16..].to_vec();
        assert_eq!(body[..2], 12_u16.to_ne_bytes());
        assert_eq!(body[4..], spec(&[8, 2, 6, 5]));

        let plain = Vlan {
            id: 5,
            pvid: false,
            untagged: false,
        };
        let range = vlans(3, plain, 9, true);
        let body = bytes(&range)[16..].to_vec();
        // IFLA_BRIDGE_FLAGS: BRIDGE_FLAGS_SELF (2), then RANGE_BEGIN (8) and RANGE_END (16).
        assert_eq!(body[4..], spec(&[6, 0, 2, 0, 8, 2, 8, 5, 8, 2, 16, 9]));
    }

    #[test]
    fn port_settings_are_nested_port_attributes() {
        let message = port(
            3,
            PortSettings {
                hairpin: true,
                isolated: false,
                forwarding: false,
            },
        );
        let body = bytes(&message)[16..].to_vec();
        let mut expected = Vec::new();
        // IFLA_PROTINFO (12, nested); IFLA_BRPORT_MODE (4), IFLA_BRPORT_ISOLATED (33).
        for word in [20_u16, 0x800c, 5, 4] {
            expected.extend(word.to_ne_bytes());
        }
        expected.extend([1, 0, 0, 0]);
        for word in [5_u16, 33] {
            expected.extend(word.to_ne_bytes());
        }
        expected.extend([0, 0, 0, 0]);
        assert_eq!(body, expected);
    }
}
