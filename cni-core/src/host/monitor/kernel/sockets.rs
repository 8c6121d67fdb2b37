//! The sockets, and waiting for them.

use std::io::{self, PipeReader};
use std::os::fd::AsFd;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

/// `RTNLGRP_*` of `include/uapi/linux/rtnetlink.h`.
const LINK: u32 = 1;
const NEIGH: u32 = 3;
const IPV4_IFADDR: u32 = 5;
const IPV4_ROUTE: u32 = 7;
const IPV4_RULE: u32 = 8;
const IPV6_IFADDR: u32 = 9;
const IPV6_ROUTE: u32 = 11;
const IPV6_RULE: u32 = 19;
const NEXTHOP: u32 = 32;
/// `NFNLGRP_NFTABLES` of `include/uapi/linux/netfilter/nfnetlink.h`.
const NFTABLES: u32 = 7;

/// What may wait in the kernel, in bytes, of which the kernel reserves nothing ahead: the notifications of some ten
/// thousand changes. It grants twice as many, for its own bookkeeping.
const RECEIVE_BUFFER: usize = 8 << 20;
/// One datagram. The largest is a link's with many ports or virtual functions, of which notifications have none.
const DATAGRAM: usize = 32 * 1024;
/// Datagrams read from one socket before the others are looked at.
const IN_A_ROW: usize = 1024;

pub(super) struct Sockets {
    groups: Vec<Groups>,
    stopped: PipeReader,
    buffer: Vec<u8>,
}

impl Sockets {
    /// Joins the groups. `stopped`: where the other end's closing ends [`Sockets::run`].
    pub(super) fn open(stopped: PipeReader) -> io::Result<Self> {
        let route = Groups::open(NETLINK_ROUTE)?;
        for group in [LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE] {
            route.socket.add_membership(group)?;
        }
        for group in [IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, NEXTHOP] {
            route.join_where_known(group)?;
        }
        let mut groups = vec![route];
        match Groups::open(NETLINK_NETFILTER) {
            Ok(nftables) => {
                nftables.join_where_known(NFTABLES)?;
                groups.push(nftables);
            }
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            groups,
            stopped,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Hands over every datagram as it comes, `None` where some were lost, until it is stopped.
    pub(super) fn run(&mut self, each: &mut dyn FnMut(Option<&[u8]>)) -> io::Result<()> {
        loop {
            if self.wait()? {
                return Ok(());
            }
            for groups in &mut self.groups {
                groups.drain(&mut self.buffer, each)?;
            }
        }
    }

    /// Waits for a datagram; `true` when there will be none, because this has been stopped.
    fn wait(&self) -> io::Result<bool> {
        let on = |socket| PollFd::new(socket, PollFlags::POLLIN);
        let mut waiting = vec![on(self.stopped.as_fd())];
        waiting.extend(self.groups.iter().map(|groups| on(groups.socket.as_fd())));
        loop {
            match poll(&mut waiting, PollTimeout::NONE) {
                Ok(_) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let stopped = waiting.first().and_then(PollFd::any);
        Ok(stopped.unwrap_or(true))
    }
}

/// Some groups of one protocol.
struct Groups {
    socket: Socket,
    /// Notifications were dropped, and the queue has not been empty since.
    overrun: bool,
}

impl Groups {
    fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        // Then only the kernel can send to this socket.
        socket.connect(&SocketAddr::new(0, 0))?;
        // The forced size needs CAP_NET_ADMIN in the first user namespace; the other ends at net.core.rmem_max.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        Ok(Self {
            socket,
            overrun: false,
        })
    }

    /// Joins a group; a kernel that does not have it has nothing to tell there either.
    fn join_where_known(&self, group: u32) -> io::Result<()> {
        match self.socket.add_membership(group) {
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
            _ => Ok(()),
        }
    }

    fn drain(
        &mut self,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(Option<&[u8]>),
    ) -> io::Result<()> {
        for _ in 0..IN_A_ROW {
            buffer.clear();
            let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
            match self.socket.recv(buffer, flags) {
                Ok(length) if length > buffer.len() => each(None),
                Ok(_) => each(Some(buffer)),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // The kernel has dropped notifications, and drops all until the queue is empty (`netlink_overrun`),
                    // which it does not say again: so it is told at both ends.
                    Some(libc::ENOBUFS) => {
                        self.overrun = true;
                        each(None);
                    }
                    Some(libc::EAGAIN) => {
                        if std::mem::take(&mut self.overrun) {
                            each(None);
                        }
                        return Ok(());
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}
