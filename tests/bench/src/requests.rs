//! What single requests cost, through our own implementations: where an ADD's time goes.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use cni_core::Cancel;
use cni_core::host::lock::KernelLock;
use cni_core::host::netlink::{
    Address, KernelNetlink, Link, LinkFilter, LinkSettings, Netlink, NetlinkChange, NetlinkExt,
    NewLink, NewLinkKind, PortSettings, Route,
};
use cni_core::host::netns::KernelNamespaces;
use cni_core::host::sysctl::KernelSysctl;
use cni_core::host::{HostLock, NamespaceOpener, NetnsPath, Sysctl};
use cni_testkit::Pod;

pub(crate) fn run() {
    println!("\n== Single requests");
    const ROUNDS: u32 = 200;
    let host = KernelNetlink::open().expect("the kernel does it");
    let pod = Pod::new("requests");
    let path = NetnsPath::new(pod.path());
    let open = || now(KernelNamespaces::new().open(&path)).expect("the pod's namespace");
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
    now(host.apply(&[bridge("req0")])).expect("the kernel does it");
    measure("open netlink socket", &mut |_| {
        drop(KernelNetlink::open().expect("the kernel does it"))
    });
    measure("open namespace", &mut |_| drop(open()));
    let sandbox = open();
    measure("get link by name", &mut |_| drop(link(&host, "req0")));
    measure("get missing link", &mut |_| drop(now(host.link("req1"))));
    measure("veth create", &mut |n| {
        let new = veth(&format!("a{n}"), &format!("b{n}"), Some(&sandbox.path));
        now(host.apply_one(NetlinkChange::LinkAdd(new))).expect("the kernel does it");
    });
    measure("veth, port, up, no ll", &mut |n| {
        let mut new = veth(&format!("c{n}"), &format!("d{n}"), Some(&sandbox.path));
        new.master = Some("req0".into());
        new.up = true;
        new.ipv6_link_local = false;
        now(host.apply_one(NetlinkChange::LinkAdd(new))).expect("the kernel does it");
    });
    measure("link up (container)", &mut |n| {
        now(sandbox.netlink.apply_one(up(&format!("b{n}")))).expect("the kernel does it");
    });
    measure("port settings", &mut |n| {
        now(host.apply_one(NetlinkChange::PortSet {
            link: format!("c{n}"),
            settings: PortSettings {
                hairpin: true,
                ..PortSettings::default()
            },
        }))
        .expect("the kernel does it");
    });
    measure("alias", &mut |n| {
        now(host.apply_one(set(&format!("a{n}"), |s| s.alias = Some("x".into()))))
            .expect("the kernel does it");
    });
    measure("address add v4", &mut |n| {
        let ip = format!("10.0.{}.{}/24", n / 200, n % 200 + 1)
            .parse()
            .expect("the kernel does it");
        now(sandbox
            .netlink
            .apply_one(NetlinkChange::AddressAdd(Address::new("b0", ip))))
        .expect("the kernel does it");
    });
    measure("address add v6", &mut |n| {
        let ip = format!("fd00::{:x}/64", n + 1)
            .parse()
            .expect("the kernel does it");
        now(sandbox
            .netlink
            .apply_one(NetlinkChange::AddressAdd(Address::new("b0", ip))))
        .expect("the kernel does it");
    });
    measure("route add v4", &mut |n| {
        let mut route = Route::new(
            format!("192.0.2.{n}/32")
                .parse()
                .expect("the kernel does it"),
            "b0",
        );
        route.gateway = Some("10.0.0.250".parse().expect("the kernel does it"));
        now(sandbox.netlink.apply_one(NetlinkChange::RouteAdd(route))).expect("the kernel does it");
    });
    measure("addresses of a link", &mut |_| {
        drop(now(host.addresses(Some("req0"))).expect("the kernel does it"))
    });
    measure("dump 400 links", &mut |_| {
        drop(now(host.links(LinkFilter::All)).expect("the kernel does it"))
    });
    measure("sysctl read (container)", &mut |_| {
        drop(now(sandbox.sysctl.read("net/ipv4/ip_forward")).expect("the kernel does it"));
    });
    measure("sysctl read (host)", &mut |_| {
        drop(now(KernelSysctl::new().read("net/ipv4/ip_forward")).expect("the kernel does it"));
    });
    measure("shared lock", &mut |_| {
        drop(now(KernelLock::new().shared(&Cancel::new())).expect("the kernel does it"))
    });
}

/// The result of a future that never waits, as those of the kernel implementations.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the kernel implementation waited"),
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
    let kind = NewLinkKind::Veth {
        peer: peer.into(),
        peer_mac: None,
        peer_netns: netns.cloned(),
    };
    NewLink::new(name, kind)
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
    now(netlink.link(name))
        .expect("the kernel does it")
        .expect(name)
}
