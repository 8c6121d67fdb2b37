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
