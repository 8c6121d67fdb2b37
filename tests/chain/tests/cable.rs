//! A cable from the node to a host outside, in either family.

use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

use cni_core::host::Host;
use cni_core::host::netlink::{Address, LinkSettings, NetlinkChange, NewLink, NewLinkKind, Route};
use cni_core::host::netns::NetnsPath;
use cni_testkit::{Ping, Pod};

/// The node's side of the cable, and the far side's addresses.
pub(crate) const NODE4: &str = "192.0.2.1";
pub(crate) const NODE6: &str = "2001:db8:1::1";
pub(crate) const OUTSIDE4: &str = "192.0.2.254";
pub(crate) const OTHER4: &str = "192.0.2.253";
pub(crate) const OUTSIDE6: &str = "2001:db8:1::fe";

pub(crate) fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("an async runtime")
        .block_on(future)
}

#[track_caller]
pub(crate) fn apply(changes: &[NetlinkChange]) {
    let host = Host::open().expect("the kernel");
    if let Err(error) = block(host.netlink.apply(changes)) {
        panic!("{error:?}");
    }
}

/// Lays the cable from the calling thread's namespace to a host that knows the node and no pod.
pub(crate) fn lay() -> Pod {
    let outside = Pod::new("outside");
    let cable = NewLink::new(
        "uplink",
        NewLinkKind::Veth {
            peer: "eth0".to_owned(),
            peer_mac: None,
            peer_netns: Some(NetnsPath::new(outside.path())),
        },
    );
    apply(&[NetlinkChange::LinkAdd(cable)]);
    outside.run(|| {
        raise(
            "eth0",
            &["192.0.2.254/24", "192.0.2.253/24", "2001:db8:1::fe/64"],
        )
    });
    raise("uplink", &["192.0.2.1/24", "2001:db8:1::1/64"]);
    // An address that is tentative is none to send from, and the first packet may be lost.
    let works = |target| Ping::to(target).timeout(Duration::from_secs(1)).send();
    wait_until(|| works(OUTSIDE4).is_ok() && works(OUTSIDE6).is_ok());
    outside
}

pub(crate) fn raise(link: &str, addresses: &[&str]) {
    let mut settings = LinkSettings::default();
    settings.up = Some(true);
    apply(&[NetlinkChange::LinkSet {
        link: link.to_owned(),
        settings,
    }]);
    for address in addresses {
        let address = address.parse().expect("an address");
        apply(&[NetlinkChange::AddressAdd(Address::new(link, address))]);
    }
}

/// Waits for what the kernel does a moment later.
#[track_caller]
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "it did not come to pass");
        thread::sleep(Duration::from_millis(1));
    }
}

/// `ip route add PREFIX via GATEWAY dev LINK`.
pub(crate) fn route(prefix: &str, gateway: &str, link: &str) {
    let mut route = Route::new(prefix.parse().expect("a prefix"), link);
    route.gateway = Some(gateway.parse().expect("an address"));
    apply(&[NetlinkChange::RouteAdd(route)]);
}
