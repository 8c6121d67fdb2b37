//! Links, ports and VLANs.

use std::time::Instant;

use crate::support::*;
use cni_core::Cancel;
use cni_core::attach::ready::{self, Until};
use cni_core::host::Sysctl;
use cni_core::host::netlink::*;
use cni_core::host::sysctl::KernelSysctl;

/// The link once it is ready: kernels before 6.9 look at a new carrier only some time later.
fn ready(host: &KernelNetlink, name: &str, until: Until) -> Link {
    now(ready::link(host, name, until, &Cancel::new())).unwrap()
}

pub(crate) fn a_veth_is_made_with_its_peer_in_another_namespace() {
    let host = KernelNetlink::open().unwrap();
    let pod = Pod::new();
    let sandbox = pod.open();
    let mac: MacAddr = "02:00:00:00:00:07".parse().unwrap();
    let mut new = veth("host0", "eth0", Some(&sandbox.path));
    if let NewLinkKind::Veth { peer_mac, .. } = &mut new.kind {
        *peer_mac = Some(mac);
    }
    new.mtu = Some(1400);
    new.master = Some("br0".into());
    new.up = true;
    new.ipv6_link_local = false;
    now(host.apply(&[bridge("br0"), NetlinkChange::LinkAdd(new)])).unwrap();

    let near = link(&host, "host0");
    let far = link(&*sandbox.netlink, "eth0");
    assert_eq!(near.kind, LinkKind::Veth);
    assert_eq!((near.mtu, far.mtu), (1400, 1400));
    assert!(near.up && !far.up);
    assert_eq!(near.master, Some(link(&host, "br0").index));
    assert_eq!((near.peer, far.peer), (Some(far.index), Some(near.index)));
    assert!(near.peer_elsewhere && far.peer_elsewhere);
    assert_eq!(far.mac, Some(mac));
    // Until the kernel has looked at a new link's carrier (before 6.9 some time later), it takes it for operational.
    let settings = PortSettings {
        forwarding: near.oper_state == OperState::Unknown,
        ..PortSettings::default()
    };
    assert_eq!(near.port, Some(settings));
    assert_eq!(far.port, None);

    now(sandbox.netlink.apply(&[up("eth0")])).unwrap();
    let near = ready(&host, "host0", Until::Forwarding);
    assert!(near.carrier);
    assert_eq!(
        now(host.addresses(Some("host0"))).unwrap(),
        [],
        "no link-local address"
    );
    let ports = now(host.links(LinkFilter::Master("br0"))).unwrap();
    assert_eq!(ports, [near]);

    now(host.apply_one(NetlinkChange::LinkDel {
        link: "host0".into(),
    }))
    .unwrap();
    assert_eq!(now(sandbox.netlink.link("eth0")).unwrap(), None);
}

pub(crate) fn names_that_no_link_can_have_are_refused_before_the_kernel_cuts_them() {
    let host = KernelNetlink::open().unwrap();
    now(host.apply_one(NetlinkChange::LinkAdd(veth("a", "b", None)))).unwrap();
    for name in ["", "a\0x", "sixteen-bytes-xx"] {
        let link = name.to_owned();
        let error = now(host.apply_one(NetlinkChange::LinkDel { link })).unwrap_err();
        assert_eq!(error.errno, errno::EINVAL, "{name:?}: {error}");
        assert_eq!(now(host.link(name)).unwrap(), None);
    }
    assert!(now(host.link("a")).unwrap().is_some());
    let error = now(host.apply_one(NetlinkChange::GroupDel { group: 0 })).unwrap_err();
    assert!(error.to_string().contains("group 0"), "{error}");
    assert!(now(host.link("a")).unwrap().is_some());
}

pub(crate) fn a_link_keeps_what_it_is_set_to() {
    let host = KernelNetlink::open().unwrap();
    let sysctl = KernelSysctl::new();
    let mac: MacAddr = "02:00:00:00:00:aa".parse().unwrap();
    now(host.apply(&[
        bridge("br0"),
        NetlinkChange::LinkAdd(veth("a", "b", None)),
        set("a", |settings| {
            *settings = LinkSettings::default();
            settings.up = Some(true);
            settings.mtu = Some(1300);
            settings.mac = Some(mac);
            settings.master = Some("br0".into());
            settings.alias = Some("network/pod/eth0".into());
            settings.promiscuous = Some(true);
            settings.all_multicast = Some(true);
            settings.tx_queue_len = Some(77);
            settings.group = Some(5);
            settings.arp_notify = Some(true);
            settings.ipv6_link_local = Some(false);
        }),
        up("b"),
    ]))
    .unwrap();
    let a = link(&host, "a");
    assert!(a.up && a.promiscuous && a.all_multicast && a.carrier);
    assert_eq!(
        (a.mtu, a.mac, a.tx_queue_len, a.group),
        (1300, Some(mac), 77, 5)
    );
    assert_eq!(a.alias.as_deref(), Some("network/pod/eth0"));
    assert_eq!(a.master, Some(link(&host, "br0").index));
    assert_eq!(a.peer, Some(link(&host, "b").index));
    assert!(!a.peer_elsewhere);
    assert_eq!(now(host.addresses(Some("a"))).unwrap(), []);
    let notify = "net/ipv4/conf/a/arp_notify";
    assert_eq!(now(sysctl.read(notify)).unwrap().as_deref(), Some("1"));

    now(host.apply_one(set("a", |settings| {
        settings.up = Some(false);
        settings.master = Some(String::new());
        settings.alias = Some(String::new());
        settings.promiscuous = Some(false);
        settings.all_multicast = Some(false);
        settings.arp_notify = Some(false);
    })))
    .unwrap();
    let a = link(&host, "a");
    assert!(!a.up && !a.promiscuous && !a.all_multicast);
    assert_eq!((a.alias, a.master, a.port), (None, None, None));
    assert_eq!(now(sysctl.read(notify)).unwrap().as_deref(), Some("0"));
    assert_eq!(a.group, 5, "what is not mentioned stays");
}

pub(crate) fn a_new_bridge_and_veth_can_be_without_link_local_addresses() {
    let host = KernelNetlink::open().unwrap();
    for local in [true, false] {
        let kind = NewLinkKind::Bridge {
            vlan_filtering: false,
        };
        let mut br = NewLink::new(format!("br{}", u8::from(local)), kind);
        br.up = true;
        br.ipv6_link_local = local;
        let mut a = veth(
            &format!("a{}", u8::from(local)),
            &format!("b{}", u8::from(local)),
            None,
        );
        a.up = true;
        a.ipv6_link_local = local;
        a.master = Some(br.name.clone());
        let (bridge, near, far) = (
            br.name.clone(),
            a.name.clone(),
            format!("b{}", u8::from(local)),
        );
        now(host.apply(&[
            NetlinkChange::LinkAdd(br),
            NetlinkChange::LinkAdd(a),
            up(&far),
        ]))
        .unwrap();
        // The kernel starts IPv6 when it makes the links operational.
        ready(&host, &bridge, Until::Up);
        ready(&host, &near, Until::Up);
        let expected = usize::from(local);
        assert_eq!(now(host.addresses(Some(&near))).unwrap().len(), expected);
        assert_eq!(now(host.addresses(Some(&bridge))).unwrap().len(), expected);
    }
}

pub(crate) fn ports_become_hairpins_and_isolated() {
    let host = KernelNetlink::open().unwrap();
    let mut a = veth("a", "b", None);
    a.master = Some("br0".into());
    now(host.apply(&[bridge("br0"), NetlinkChange::LinkAdd(a)])).unwrap();
    for (hairpin, isolated) in [(true, false), (false, true), (true, true), (false, false)] {
        let settings = PortSettings {
            hairpin,
            isolated,
            forwarding: false,
        };
        let link_name = "a".to_owned();
        now(host.apply_one(NetlinkChange::PortSet {
            link: link_name,
            settings,
        }))
        .unwrap();
        assert_eq!(link(&host, "a").port, Some(settings));
    }
    let error = now(host.apply_one(NetlinkChange::PortSet {
        link: "b".into(),
        settings: PortSettings::default(),
    }))
    .unwrap_err();
    assert_eq!(error.errno, errno::EOPNOTSUPP, "not a port: {error}");
}

pub(crate) fn vlans_work_or_are_refused_clearly() {
    let host = KernelNetlink::open().unwrap();
    let mut a = veth("a", "b", None);
    a.master = Some("br0".into());
    now(host.apply(&[bridge("br0"), NetlinkChange::LinkAdd(a)])).unwrap();
    let add = NetlinkChange::VlanAdd {
        link: "a".into(),
        vlan: Vlan {
            id: 100,
            pvid: false,
            untagged: true,
        },
        last: 102,
        on_bridge: false,
    };
    let filtering = set("br0", |settings| settings.vlan_filtering = Some(true));
    match now(host.apply(&[filtering, add])) {
        Ok(()) => {
            assert!(matches!(
                link(&host, "br0").kind,
                LinkKind::Bridge {
                    vlan_filtering: true
                }
            ));
            let ids = |vlans: Vec<Vlan>| vlans.iter().map(|vlan| vlan.id).collect::<Vec<_>>();
            let found = now(host.vlans("a")).unwrap();
            assert!(
                found
                    .iter()
                    .filter(|vlan| vlan.id >= 100)
                    .all(|vlan| vlan.untagged)
            );
            assert_eq!(ids(found), [1, 100, 101, 102]);
            now(host.apply_one(NetlinkChange::VlanDel {
                link: "a".into(),
                first: 1,
                last: 101,
                on_bridge: false,
            }))
            .unwrap();
            assert_eq!(ids(now(host.vlans("a")).unwrap()), [102]);
        }
        Err(error) => {
            println!("this kernel has no bridge VLAN filtering: {error}");
            assert_eq!(error.index, 0);
            assert_eq!(error.error.errno, errno::EOPNOTSUPP, "{error}");
            assert!(error.to_string().contains("vlan_filtering 1"), "{error}");
            assert_eq!(now(host.vlans("a")).unwrap(), []);
        }
    }
}

fn veths(count: usize) -> Vec<NetlinkChange> {
    (0..count)
        .map(|n| NetlinkChange::LinkAdd(veth(&format!("a{n}"), &format!("b{n}"), None)))
        .collect()
}

pub(crate) fn a_group_is_deleted_at_once() {
    let host = KernelNetlink::open().unwrap();
    let singly: Vec<_> = (0..50)
        .map(|n| NetlinkChange::LinkDel {
            link: format!("a{n}"),
        })
        .collect();
    now(host.apply(&veths(50))).unwrap();
    let start = Instant::now();
    now(host.apply(&singly)).unwrap();
    println!("50 veths singly: {:?}", start.elapsed());

    now(host.apply(&veths(50))).unwrap();
    now(host.apply_one(NetlinkChange::LinkAdd(veth("stays", "too", None)))).unwrap();
    let start = Instant::now();
    let grouped: Vec<_> = (0..50)
        .map(|n| set(&format!("a{n}"), |settings| settings.group = Some(9)))
        .chain([NetlinkChange::GroupDel { group: 9 }])
        .collect();
    now(host.apply(&grouped)).unwrap();
    println!("50 veths as a group: {:?}", start.elapsed());
    let left: Vec<_> = now(host.links(LinkFilter::All)).unwrap();
    let mut names: Vec<_> = left.iter().map(|link| link.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["lo", "stays", "too"]);
    let error = now(host.apply_one(NetlinkChange::GroupDel { group: 9 })).unwrap_err();
    assert_eq!(error.errno, errno::ENODEV, "an empty group: {error}");
}

pub(crate) fn a_dump_of_hundreds_of_links_is_whole() {
    let host = KernelNetlink::open().unwrap();
    now(host.apply(&[bridge("br0")])).unwrap();
    let mut changes = veths(150);
    for (n, change) in changes.iter_mut().enumerate() {
        if let NetlinkChange::LinkAdd(new) = change {
            new.master = (n % 2 == 0).then(|| "br0".into());
        }
    }
    now(host.apply(&changes)).unwrap();
    let start = Instant::now();
    let links = now(host.links(LinkFilter::All)).unwrap();
    println!("dump of {} links: {:?}", links.len(), start.elapsed());
    assert_eq!(links.len(), 302);
    for n in 0..150 {
        for end in ["a", "b"] {
            let name = format!("{end}{n}");
            assert_eq!(links.iter().filter(|link| link.name == name).count(), 1);
        }
    }
    let ports = now(host.links(LinkFilter::Master("br0"))).unwrap();
    assert_eq!(ports.len(), 75);
    let one = &ports[3];
    assert_eq!(
        now(host.links(LinkFilter::Index(one.index))).unwrap(),
        std::slice::from_ref(one)
    );
    assert_eq!(now(host.links(LinkFilter::Index(99_999))).unwrap(), []);
    assert_eq!(now(host.links(LinkFilter::Master("nope"))).unwrap(), []);
    let group: Vec<_> = (0..150)
        .map(|n| set(&format!("a{n}"), |settings| settings.group = Some(9)))
        .chain([NetlinkChange::GroupDel { group: 9 }])
        .collect();
    now(host.apply(&group)).unwrap();
}

pub(crate) fn an_index_is_looked_up_again_when_the_link_was_replaced() {
    let host = KernelNetlink::open().unwrap();
    let other = KernelNetlink::open().unwrap();
    let address = NetlinkChange::AddressAdd(Address::new("a", "10.0.0.1/24".parse().unwrap()));
    now(host.apply(&[
        NetlinkChange::LinkAdd(veth("a", "b", None)),
        address.clone(),
    ]))
    .unwrap();
    // Behind the first socket's back.
    now(other.apply(&[
        NetlinkChange::LinkDel { link: "a".into() },
        NetlinkChange::LinkAdd(veth("a", "b", None)),
    ]))
    .unwrap();
    now(host.apply_one(address)).unwrap();
    assert_eq!(now(other.addresses(Some("a"))).unwrap().len(), 1);
}

pub(crate) fn a_full_bridge_says_so() {
    let host = KernelNetlink::open().unwrap();
    now(host.apply(&[bridge("br0")])).unwrap();
    let port = |number: usize| {
        let mut new = veth(&format!("a{number}"), &format!("b{number}"), None);
        new.master = Some("br0".into());
        NetlinkChange::LinkAdd(new)
    };
    let ports: Vec<NetlinkChange> = (0..1023).map(port).collect();
    now(host.apply(&ports)).unwrap();
    let error = now(host.apply_one(port(1023))).unwrap_err();
    assert_eq!(error.errno, errno::EXFULL);
    assert!(error.to_string().contains("1,023"), "{error}");
}
