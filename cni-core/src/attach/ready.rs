//! Ready at return: when ADD returns, the first packet gets through, both ways.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::{
    Link, LinkKind, LinkSettings, Netlink, NetlinkChange, NetlinkExt, OperState,
};

/// How long links may take to come up. It is a matter of microseconds: Linux from 6.9 on runs its pending link-watch
/// work when one link is asked for, older kernels within a timer's tick. But that work waits for the lock of all link
/// changes, which on a busy node is held for long by others, and may be put off by a second (`net/core/link_watch.c`).
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a port of a bridge that is not ours is waited for to forward.
const FORWARDING_PATIENCE: Duration = Duration::from_secs(1);

/// How long duplicate address detection may take: one probe after a random delay of up to a second, and its answer
/// (RFC 4862, section 5.4).
const DAD_PATIENCE: Duration = Duration::from_secs(5);

/// What a link has to be before it counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Operational (RFC 2863).
    Up,
    /// Operational, and as a bridge port forwarding.
    Forwarding,
    /// As [`Until::Forwarding`], but a port that is only up will do in the end: on a bridge that is not ours spanning
    /// tree may take half a minute.
    ForwardingIfPossible,
}

/// Waits until the link is ready, and returns it as it is then.
///
/// # Errors
/// [`ErrorKind::TryAgain`] after three seconds, or when cancelled; the kernel's.
pub async fn link(
    netlink: &dyn Netlink,
    name: &str,
    until: Until,
    cancel: &Cancel,
) -> Result<Link> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(50);
    loop {
        // Before the link is read, so that a process that was held up looks once more.
        let waited = start.elapsed();
        let found = netlink.link(name).await?;
        let Some(found) = found else {
            let message = format!("link {name} was removed while it was being attached");
            return Err(Error::new(ErrorKind::TryAgain, message));
        };
        let up = is_up(&found);
        let forwarding = found.port.is_some_and(|port| port.forwarding);
        let late = waited >= PATIENCE;
        let ready = match until {
            Until::Up => up,
            Until::Forwarding => up && forwarding,
            Until::ForwardingIfPossible => up && (forwarding || waited >= FORWARDING_PATIENCE),
        };
        if ready {
            return Ok(found);
        }
        if late {
            let what = if up { "does not forward" } else { "is not up" };
            let message =
                format!("link {name} {what} after three seconds: look for what keeps it down");
            return Err(Error::new(ErrorKind::TryAgain, message));
        }
        cancel.check("waiting for the link to come up")?;
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Whether the link is operational. A bridge that was brought up before it had a port has carrier from the beginning; its
/// first port does not change that, and so its state stays unknown (`br_port_state_selection`, `rfc2863_policy`).
fn is_up(link: &Link) -> bool {
    match (link.oper_state, &link.kind) {
        (OperState::Up, _) => true,
        (OperState::Unknown, LinkKind::Bridge { .. }) => link.up && link.carrier,
        _ => false,
    }
}

/// Waits until duplicate address detection has ended for all addresses of a link.
///
/// # Errors
/// [`ErrorKind::Io`] when another host has one of the addresses; [`ErrorKind::TryAgain`] after five seconds, or when
/// cancelled; the kernel's.
pub async fn addresses(netlink: &dyn Netlink, name: &str, cancel: &Cancel) -> Result<()> {
    let start = Instant::now();
    loop {
        let found = netlink.addresses(Some(name)).await?;
        if let Some(duplicate) = found.iter().find(|address| address.dad_failed) {
            let message = format!(
                "duplicate address detection found another owner of {}",
                duplicate.address
            );
            return Err(Error::new(ErrorKind::Io, message));
        }
        let Some(tentative) = found.iter().find(|address| address.tentative) else {
            return Ok(());
        };
        if start.elapsed() >= DAD_PATIENCE {
            let message = format!(
                "duplicate address detection of {} has not ended after five seconds",
                tentative.address
            );
            return Err(Error::new(ErrorKind::TryAgain, message));
        }
        cancel.check("waiting for duplicate address detection")?;
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until packets to these addresses are delivered in the namespace. An IPv4 address is there at once; the route to an
/// IPv6 address, and its multicast group for neighbour discovery, are made by a kernel thread (`addrconf_dad_work` in
/// `net/ipv6/addrconf.c`), even where no duplicate address detection runs. It is late when many links are made at once.
///
/// # Errors
/// [`ErrorKind::TryAgain`] after three seconds, or when cancelled; the kernel's.
pub async fn delivered(
    netlink: &dyn Netlink,
    addresses: Vec<IpAddr>,
    cancel: &Cancel,
) -> Result<()> {
    let start = Instant::now();

    for address in addresses.into_iter().filter(IpAddr::is_ipv6) {
        let mut pause = Duration::from_micros(50);
        while !netlink.is_local(address).await? {
            if start.elapsed() >= PATIENCE {
                let message = format!(
                    "packets to {address} are not delivered three seconds after it was added"
                );
                return Err(Error::new(ErrorKind::TryAgain, message));
            }
            cancel.check("waiting for the route to an IPv6 address")?;
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// Tells the neighbours which hardware address the link's addresses are behind now: they may remember another one, of
/// a container that had the address a moment ago.
///
/// Setting the hardware address that a link has already makes the kernel announce all of its addresses: gratuitous ARP
/// where `arp_notify` is set (`net/ipv4/devinet.c`), unsolicited neighbour advertisements where `ndisc_notify` is
/// (`net/ipv6/ndisc.c`). It has to come when the port forwards; the same announcement when the link comes up would be
/// lost.
///
/// # Errors
/// The kernel's.
pub async fn announce(netlink: &dyn Netlink, link: &Link) -> Result<()> {
    let change = NetlinkChange::LinkSet {
        link: link.name.clone(),
        settings: LinkSettings {
            mac: link.mac,
            ..LinkSettings::default()
        },
    };
    Ok(netlink.apply_one(change).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_unknown_counts_as_up_for_a_bridge_with_carrier_alone() {
        let bridge = LinkKind::Bridge {
            vlan_filtering: false,
        };
        for (kind, carrier, wanted) in [
            (bridge.clone(), true, true),
            (bridge, false, false),
            // A veth's first change of state is still to come.
            (LinkKind::Veth, true, false),
        ] {
            let mut link = Link::new(1, "a", kind);
            (link.up, link.carrier) = (true, carrier);
            link.oper_state = OperState::Unknown;
            assert_eq!(is_up(&link), wanted, "{link:?}");
        }
    }
}
