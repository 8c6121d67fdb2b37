//! What the tests share.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use cni_core::host::netlink::*;
use cni_core::host::netns::KernelNamespaces;
use cni_core::host::{NamespaceOpener, NetnsPath, Sandbox};
use nix::sched::{CloneFlags, unshare};

/// The result of a future that never waits, as those of the kernel implementations.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the kernel implementation waited"),
    }
}

/// A namespace that lives as long as this.
pub(crate) struct Pod {
    pub(crate) path: NetnsPath,
    _stop: Sender<()>,
    _thread: JoinHandle<()>,
}

impl Pod {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn open(&self) -> Sandbox {
        now(KernelNamespaces::new().open(&self.path)).unwrap()
    }
}

pub(crate) fn bridge(name: &str) -> NetlinkChange {
    let kind = NewLinkKind::Bridge {
        vlan_filtering: false,
    };
    let mut link = NewLink::new(name, kind);
    link.up = true;
    NetlinkChange::LinkAdd(link)
}

pub(crate) fn veth(name: &str, peer: &str, netns: Option<&NetnsPath>) -> NewLink {
    NewLink::new(
        name,
        NewLinkKind::Veth {
            peer: peer.into(),
            peer_mac: None,
            peer_netns: netns.cloned(),
        },
    )
}

pub(crate) fn set(link: &str, change: impl FnOnce(&mut LinkSettings)) -> NetlinkChange {
    let mut settings = LinkSettings::default();
    change(&mut settings);
    NetlinkChange::LinkSet {
        link: link.into(),
        settings,
    }
}

pub(crate) fn up(link: &str) -> NetlinkChange {
    set(link, |settings| settings.up = Some(true))
}

pub(crate) fn link(netlink: &dyn Netlink, name: &str) -> Link {
    now(netlink.link(name)).unwrap().expect(name)
}
