//! The kernel implementations of `host`, on the kernel, in namespaces of their own.
#![cfg(feature = "kernel")]

use std::path::PathBuf;
use std::pin::pin;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Instant;

use cni_core::ErrorKind;
use cni_core::host::lock::KernelLock;
use cni_core::host::netlink::*;
use cni_core::host::netns::KernelNamespaces;
use cni_core::host::sysctl::KernelSysctl;
use cni_core::host::{HostLock, NamespaceOpener, NetnsPath, Sandbox, Sysctl};
use nix::sched::{CloneFlags, unshare};

/// The result of a future that never waits, as those of the kernel implementations.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the kernel implementation waited"),
    }
}

/// Runs `body` on a thread with a network namespace of its own. An ordinary user's test is run again by
/// `unshare -Urnm`, as root of a user namespace of its own.
fn isolated(test: &str, body: impl FnOnce() + Send + 'static) {
    const INSIDE: &str = "CNI_TEST_INSIDE";
    let is_root = std::fs::metadata("/proc/self")
        .map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
        .unwrap();
    if !is_root && std::env::var_os(INSIDE).is_none() {
        let status = Command::new("unshare")
            .arg("-Urnm")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, "1")
            .status()
            .expect("the program unshare runs");
        assert!(status.success());
        return;
    }
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a fresh network namespace");
        body();
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// A namespace that lives as long as this.
struct Pod {
    path: NetnsPath,
    _stop: Sender<()>,
    _thread: JoinHandle<()>,
}

impl Pod {
    fn new() -> Self {
        let (stop, stopped) = channel::<()>();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let task = std::fs::read_link("/proc/thread-self").unwrap();
            tell.send(PathBuf::from("/proc").join(task).join("ns/net"))
                .unwrap();
            let _ = stopped.recv();
        });
        Self {
            path: NetnsPath::new(told.recv().unwrap()),
            _stop: stop,
            _thread: thread,
        }
    }

    fn open(&self) -> Sandbox {
        now(KernelNamespaces::new().open(&self.path)).unwrap()
    }
}

fn bridge(name: &str) -> NetlinkChange {
    let kind = NewLinkKind::Bridge {
        vlan_filtering: false,
    };
    let mut link = NewLink::new(name, kind);
    link.up = true;
    NetlinkChange::LinkAdd(link)
}

fn veth(name: &str, peer: &str, netns: Option<&NetnsPath>) -> NewLink {
    NewLink::new(
        name,
        NewLinkKind::Veth {
            peer: peer.into(),
            peer_mac: None,
            peer_netns: netns.cloned(),
        },
    )
}

fn set(link: &str, change: impl FnOnce(&mut LinkSettings)) -> NetlinkChange {
    let mut settings = LinkSettings::default();
    change(&mut settings);
    NetlinkChange::LinkSet {
        link: link.into(),
        settings,
    }
}

fn up(link: &str) -> NetlinkChange {
    set(link, |settings| settings.up = Some(true))
}

fn link(netlink: &dyn Netlink, name: &str) -> Link {
    now(netlink.link(name)).unwrap().expect(name)
}

#[test]
fn a_veth_is_made_with_its_peer_in_another_namespace() {
    isolated("a_veth_is_made_with_its_peer_in_another_namespace", || {
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
        assert_eq!(near.port, Some(PortSettings::default()));
        assert_eq!(far.port, None);

        now(sandbox.netlink.apply(&[up("eth0")])).unwrap();
        let near = link(&host, "host0");
        assert!(near.carrier);
        assert_eq!(near.oper_state, OperState::Up);
        assert!(near.port.unwrap().forwarding);
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
    });
}

#[test]
fn addresses_and_routes_come_back_as_they_were_made() {
    isolated("addresses_and_routes_come_back_as_they_were_made", || {
        let host = KernelNetlink::open().unwrap();
        now(host.apply(&[
            NetlinkChange::LinkAdd(veth("a", "b", None)),
            up("a"),
            up("b"),
        ]))
        .unwrap();
        let mut v4 = Address::new("a", "10.1.2.3/24".parse().unwrap());
        v4.no_prefix_route = true;
        let v6 = Address::new("a", "fd00::3/64".parse().unwrap());
        let mut local = Address::new("a", "10.9.9.9/32".parse().unwrap());
        local.scope = 253;
        for address in [&v4, &v6, &local] {
            now(host.apply_one(NetlinkChange::AddressAdd(address.clone()))).unwrap();
        }
        let found = now(host.addresses(Some("a"))).unwrap();
        for address in [&v4, &v6, &local] {
            assert!(found.contains(address), "{address:?} in {found:?}");
        }
        assert!(now(host.addresses(None)).unwrap().contains(&v6));

        let mut on_link = Route::new("10.1.2.0/24".parse().unwrap(), "a");
        on_link.scope = Route::SCOPE_LINK;
        on_link.source = Some("10.1.2.3".parse().unwrap());
        let mut default = Route::new("0.0.0.0/0".parse().unwrap(), "a");
        default.gateway = Some("10.1.2.1".parse().unwrap());
        default.mtu = Some(1300);
        default.advmss = Some(1260);
        default.metric = 7;
        let mut far = Route::new("192.0.2.0/25".parse().unwrap(), "a");
        far.gateway = Some("198.51.100.1".parse().unwrap());
        far.onlink = true;
        far.table = 1000;
        far.protocol = 99;
        let mut six = Route::new("2001:db8::/32".parse().unwrap(), "a");
        six.gateway = Some("fd00::1".parse().unwrap());
        six.metric = 5;
        six.mtu = Some(1280);
        let mut mixed = Route::new("203.0.113.0/24".parse().unwrap(), "a");
        mixed.gateway = Some("fd00::1".parse().unwrap());
        let all = [on_link, default, far, six, mixed];
        for route in &all {
            now(host.apply_one(NetlinkChange::RouteAdd(route.clone()))).unwrap();
            let error = now(host.apply_one(NetlinkChange::RouteAdd(route.clone()))).unwrap_err();
            assert_eq!(error.errno, errno::EEXIST, "{error}");
        }
        for found in [
            now(host.routes(Some("a"))).unwrap(),
            now(host.routes(None)).unwrap(),
        ] {
            for route in &all {
                assert!(found.contains(route), "{route:?} in {found:#?}");
            }
            assert!(
                found.iter().all(|route| route.table != 255),
                "no local routes"
            );
        }
        assert!(
            !now(host.routes(Some("b")))
                .unwrap()
                .iter()
                .any(|route| all.contains(route)),
            "none through the other link"
        );
        for route in &all {
            now(host.apply_one(NetlinkChange::RouteDel(route.clone()))).unwrap();
            let error = now(host.apply_one(NetlinkChange::RouteDel(route.clone()))).unwrap_err();
            assert_eq!(error.errno, errno::ESRCH, "{error}");
        }
        for address in [&v4, &v6, &local] {
            now(host.apply_one(NetlinkChange::AddressDel(address.clone()))).unwrap();
            assert!(!now(host.addresses(Some("a"))).unwrap().contains(address));
        }
    });
}

#[test]
fn refusals_bear_errno_command_and_the_kernels_sentence() {
    isolated(
        "refusals_bear_errno_command_and_the_kernels_sentence",
        || {
            let host = KernelNetlink::open().unwrap();
            let add = NetlinkChange::LinkAdd(veth("a", "b", None));
            now(host.apply(&[add.clone(), up("a"), up("b")])).unwrap();

            let failed = now(host.apply(&[up("a"), add.clone(), up("b")])).unwrap_err();
            assert_eq!(failed.index, 1);
            assert_eq!(failed.error.errno, errno::EEXIST);
            assert_eq!(
                failed.to_string(),
                "`ip link add a type veth peer name b` failed (File exists (os error 17))"
            );

            let error = now(host.apply_one(up("nope"))).unwrap_err();
            assert_eq!(error.errno, errno::ENODEV);
            assert_eq!(
                error.to_string(),
                "`ip link set dev nope up` failed (No such device (os error 19))"
            );
            let address = Address::new("nope", "10.0.0.1/24".parse().unwrap());
            let error = now(host.apply_one(NetlinkChange::AddressAdd(address))).unwrap_err();
            assert_eq!(error.errno, errno::ENODEV);
            assert!(error.to_string().contains("no link nope"), "{error}");

            let mut route = Route::new("192.0.2.0/24".parse().unwrap(), "a");
            route.gateway = Some("10.0.0.1".parse().unwrap());
            let error = now(host.apply_one(NetlinkChange::RouteAdd(route))).unwrap_err();
            assert_eq!(error.errno, errno::ENETUNREACH);
            assert_eq!(
                error.message.as_deref(),
                Some("Nexthop has invalid gateway")
            );

            let mtu = set("a", |settings| settings.mtu = Some(1));
            let error = now(host.apply_one(mtu)).unwrap_err();
            assert_eq!(error.errno, errno::EINVAL);
            assert_eq!(
                error.message.as_deref(),
                Some("mtu less than device minimum")
            );

            let missing = set("a", |settings| settings.master = Some("br9".into()));
            let error = now(host.apply_one(missing)).unwrap_err();
            assert_eq!(error.errno, errno::ENODEV);
            assert!(error.to_string().contains("no link br9"), "{error}");

            let alias = set("a", |settings| settings.alias = Some("x".repeat(300)));
            let error = now(host.apply_one(alias)).unwrap_err();
            assert!(
                error
                    .message
                    .as_deref()
                    .is_some_and(|text| text.contains("attribute type 20")),
                "names the attribute: {error}"
            );
        },
    );
}

#[test]
fn names_that_no_link_can_have_are_refused_before_the_kernel_cuts_them() {
    isolated(
        "names_that_no_link_can_have_are_refused_before_the_kernel_cuts_them",
        || {
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
        },
    );
}

#[test]
fn a_link_keeps_what_it_is_set_to() {
    isolated("a_link_keeps_what_it_is_set_to", || {
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
    });
}

#[test]
fn a_new_bridge_and_veth_can_be_without_link_local_addresses() {
    isolated(
        "a_new_bridge_and_veth_can_be_without_link_local_addresses",
        || {
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
                // Reading the links runs the kernel's pending carrier work, which starts IPv6.
                assert!(link(&host, &bridge).up && link(&host, &near).up);
                let expected = usize::from(local);
                assert_eq!(now(host.addresses(Some(&near))).unwrap().len(), expected);
                assert_eq!(now(host.addresses(Some(&bridge))).unwrap().len(), expected);
            }
        },
    );
}

#[test]
fn ports_become_hairpins_and_isolated() {
    isolated("ports_become_hairpins_and_isolated", || {
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
    });
}

#[test]
fn vlans_work_or_are_refused_clearly() {
    isolated("vlans_work_or_are_refused_clearly", || {
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
    });
}

fn veths(count: usize) -> Vec<NetlinkChange> {
    (0..count)
        .map(|n| NetlinkChange::LinkAdd(veth(&format!("a{n}"), &format!("b{n}"), None)))
        .collect()
}

#[test]
fn a_group_is_deleted_at_once() {
    isolated("a_group_is_deleted_at_once", || {
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
    });
}

#[test]
fn a_dump_of_hundreds_of_links_is_whole() {
    isolated("a_dump_of_hundreds_of_links_is_whole", || {
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
    });
}

#[test]
fn an_index_is_looked_up_again_when_the_link_was_replaced() {
    isolated(
        "an_index_is_looked_up_again_when_the_link_was_replaced",
        || {
            let host = KernelNetlink::open().unwrap();
            let other = KernelNetlink::open().unwrap();
            let address =
                NetlinkChange::AddressAdd(Address::new("a", "10.0.0.1/24".parse().unwrap()));
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
        },
    );
}

#[test]
fn neighbours_and_forwarding_entries_are_read() {
    isolated("neighbours_and_forwarding_entries_are_read", || {
        let host = KernelNetlink::open().unwrap();
        let mac: MacAddr = "02:00:00:00:00:77".parse().unwrap();
        let mut a = veth("a", "b", None);
        a.master = Some("br0".into());
        a.mac = Some(mac);
        now(host.apply(&[bridge("br0"), NetlinkChange::LinkAdd(a), up("a"), up("b")])).unwrap();
        let found = now(host.neighbours(Some("a"))).unwrap();
        let own = found
            .iter()
            .find(|neighbour| neighbour.mac == Some(mac))
            .expect("the port's own address is in the forwarding table");
        assert_eq!((own.address, own.link.as_str()), (None, "a"));
        assert!(now(host.neighbours(None)).unwrap().contains(own));
    });
}

#[test]
fn parameters_are_those_of_the_sandbox() {
    isolated("parameters_are_those_of_the_sandbox", || {
        let pod = Pod::new();
        let sandbox = pod.open();
        let host = KernelSysctl::new();
        let key = "net/ipv4/ip_forward";
        let before = now(host.read(key)).unwrap().unwrap();
        let inside = now(sandbox.sysctl.read(key)).unwrap().unwrap();
        let other = if inside == "0" { "1" } else { "0" };
        now(sandbox.sysctl.write(key, other)).unwrap();
        assert_eq!(
            now(sandbox.sysctl.read(key)).unwrap().as_deref(),
            Some(other)
        );
        assert_eq!(now(host.read(key)).unwrap(), Some(before));
        assert_eq!(
            now(sandbox.sysctl.read("net/ipv4/conf/nope/forwarding")).unwrap(),
            None
        );
        let error = now(sandbox.sysctl.write("net/../kernel/hostname", "x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    });
}

#[test]
fn what_is_no_namespace_is_refused_by_path() {
    isolated("what_is_no_namespace_is_refused_by_path", || {
        let opener = KernelNamespaces::new();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mount_namespace = "/proc/thread-self/ns/mnt";
        for (path, expected) in [
            ("/nowhere/pod1", "/nowhere/pod1 does not exist"),
            (file.path().to_str().unwrap(), "is not a network namespace"),
            (
                mount_namespace,
                "/proc/thread-self/ns/mnt is not a network namespace",
            ),
            ("/tmp", "/tmp is not a network namespace"),
        ] {
            let error = now(opener.open(&NetnsPath::new(path))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidNetns, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!now(opener.is_own(&NetnsPath::new(path))));
        }
        assert!(now(
            opener.is_own(&NetnsPath::new("/proc/thread-self/ns/net"))
        ));
        assert!(!now(opener.is_own(&Pod::new().path)));
    });
}

#[test]
fn a_sandbox_stays_with_its_namespace_when_the_path_changes() {
    isolated(
        "a_sandbox_stays_with_its_namespace_when_the_path_changes",
        || {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("netns");
            let (first, second) = (Pod::new(), Pod::new());
            std::os::unix::fs::symlink(first.path.as_path(), &path).unwrap();
            let sandbox = now(KernelNamespaces::new().open(&NetnsPath::new(&path))).unwrap();
            assert_eq!(sandbox.path, NetnsPath::new(&path));
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(second.path.as_path(), &path).unwrap();
            let host = KernelNetlink::open().unwrap();
            now(host.apply_one(NetlinkChange::LinkAdd(veth(
                "a",
                "eth0",
                Some(&sandbox.path),
            ))))
            .unwrap();
            assert!(now(sandbox.netlink.link("eth0")).unwrap().is_some());
            assert!(now(second.open().netlink.link("eth0")).unwrap().is_none());
        },
    );
}

#[test]
fn a_veth_into_a_namespace_that_is_gone_is_refused_by_path() {
    isolated(
        "a_veth_into_a_namespace_that_is_gone_is_refused_by_path",
        || {
            let host = KernelNetlink::open().unwrap();
            let gone = NetnsPath::new("/nowhere/pod1");
            let error = now(host.apply_one(NetlinkChange::LinkAdd(veth("a", "eth0", Some(&gone)))))
                .unwrap_err();
            assert_eq!(error.errno, errno::ENOENT);
            assert!(error.to_string().contains("/nowhere/pod1"), "{error}");
            assert_eq!(now(host.link("a")).unwrap(), None);
        },
    );
}

const HOLD: &str = "CNI_TEST_HOLD_LOCK";

/// Another process that holds the lock of this thread's namespace until it is let go.
struct Holder(std::process::Child);

impl Holder {
    fn start(mode: &str) -> Self {
        use std::io::{BufRead, BufReader};
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_lock_holds_between_processes", "--nocapture"])
            .env(HOLD, mode)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        assert!(
            output
                .lines()
                .map_while(Result::ok)
                .any(|line| line.contains("lock held")),
            "the other process takes the lock"
        );
        Self(child)
    }

    fn release(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }

    /// In the other process.
    fn hold(mode: &str) {
        let lock = KernelLock::new();
        let _guard = match mode {
            "shared" => now(lock.shared()).unwrap(),
            _ => now(lock.try_exclusive()).unwrap().expect("nobody holds it"),
        };
        println!("lock held");
        let _ = std::io::read_to_string(std::io::stdin());
        // The parent may have stopped reading: nothing more is printed than the test's own verdict.
    }
}

#[test]
fn the_lock_holds_between_processes() {
    if let Ok(mode) = std::env::var(HOLD) {
        Holder::hold(&mode);
        std::process::exit(0);
    }
    isolated("the_lock_holds_between_processes", || {
        let lock = KernelLock::new();
        let free = || now(lock.try_exclusive()).unwrap().is_some();
        assert!(free());

        let other = Holder::start("shared");
        assert!(!free(), "another process is adding");
        drop(now(lock.shared()).unwrap());
        other.release();
        assert!(free(), "a lock ends with its process");

        let other = Holder::start("exclusive");
        assert!(!free());
        let waiting = std::thread::spawn(|| drop(now(KernelLock::new().shared()).unwrap()));
        assert!(!waiting.is_finished());
        other.release();
        waiting.join().unwrap();

        let guard = now(lock.shared()).unwrap();
        assert!(!free(), "the own shared lock counts too");
        drop(guard);
        assert!(free());

        let elsewhere = Pod::new();
        let guard = now(lock.try_exclusive()).unwrap().unwrap();
        let path = elsewhere.path.as_path().to_owned();
        std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            assert!(now(KernelLock::new().try_exclusive()).unwrap().is_some());
        })
        .join()
        .unwrap();
        drop(guard);
    });
}

/// Prints what single operations cost. Run it alone: `cargo test --test kernel_netlink costs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn costs() {
    isolated("costs", || {
        const ROUNDS: u32 = 200;
        let host = KernelNetlink::open().unwrap();
        let pod = Pod::new();
        let measure = |what: &str, body: &mut dyn FnMut(u32)| {
            let mut times: Vec<_> = (0..ROUNDS)
                .map(|n| {
                    let start = Instant::now();
                    body(n);
                    start.elapsed()
                })
                .collect();
            times.sort_unstable();
            println!(
                "{what:24} p50 {:>8.1} us  p90 {:>8.1} us",
                times[times.len() / 2].as_secs_f64() * 1e6,
                times[times.len() * 9 / 10].as_secs_f64() * 1e6
            );
        };
        now(host.apply(&[bridge("br0")])).unwrap();
        measure("open netlink socket", &mut |_| {
            drop(KernelNetlink::open().unwrap())
        });
        measure("open namespace", &mut |_| drop(pod.open()));
        let sandbox = pod.open();
        measure("get link by name", &mut |_| drop(link(&host, "br0")));
        measure("get missing link", &mut |_| drop(now(host.link("br1"))));
        measure("veth create", &mut |n| {
            let new = veth(&format!("a{n}"), &format!("b{n}"), Some(&sandbox.path));
            now(host.apply_one(NetlinkChange::LinkAdd(new))).unwrap();
        });
        measure("veth, port, up, no ll", &mut |n| {
            let mut new = veth(&format!("c{n}"), &format!("d{n}"), Some(&sandbox.path));
            new.master = Some("br0".into());
            new.up = true;
            new.ipv6_link_local = false;
            now(host.apply_one(NetlinkChange::LinkAdd(new))).unwrap();
        });
        measure("link up (container)", &mut |n| {
            now(sandbox.netlink.apply_one(up(&format!("b{n}")))).unwrap();
        });
        measure("port settings", &mut |n| {
            now(host.apply_one(NetlinkChange::PortSet {
                link: format!("c{n}"),
                settings: PortSettings {
                    hairpin: true,
                    ..PortSettings::default()
                },
            }))
            .unwrap();
        });
        measure("alias", &mut |n| {
            now(host.apply_one(set(&format!("a{n}"), |s| s.alias = Some("x".into())))).unwrap();
        });
        measure("address add v4", &mut |n| {
            let ip = format!("10.0.{}.{}/24", n / 200, n % 200 + 1)
                .parse()
                .unwrap();
            now(sandbox
                .netlink
                .apply_one(NetlinkChange::AddressAdd(Address::new("b0", ip))))
            .unwrap();
        });
        measure("address add v6", &mut |n| {
            let ip = format!("fd00::{:x}/64", n + 1).parse().unwrap();
            now(sandbox
                .netlink
                .apply_one(NetlinkChange::AddressAdd(Address::new("b0", ip))))
            .unwrap();
        });
        measure("route add v4", &mut |n| {
            let mut route = Route::new(format!("192.0.2.{n}/32").parse().unwrap(), "b0");
            route.gateway = Some("10.0.0.250".parse().unwrap());
            now(sandbox.netlink.apply_one(NetlinkChange::RouteAdd(route))).unwrap();
        });
        measure("addresses of a link", &mut |_| {
            drop(now(host.addresses(Some("br0"))).unwrap())
        });
        measure("dump 400 links", &mut |_| {
            drop(now(host.links(LinkFilter::All)).unwrap())
        });
        measure("sysctl read (container)", &mut |_| {
            drop(now(sandbox.sysctl.read("net/ipv4/ip_forward")).unwrap());
        });
        measure("sysctl read (host)", &mut |_| {
            drop(now(KernelSysctl::new().read("net/ipv4/ip_forward")).unwrap());
        });
        measure("shared lock", &mut |_| {
            drop(now(KernelLock::new().shared()).unwrap())
        });
    });
}
