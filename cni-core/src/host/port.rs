//! Port ids of this process's netlink sockets.
//!
//! A notification bears the port id of the socket whose request caused it. The kernel gives out port ids of two kinds: the
//! process's id for its first socket, which a process of another pid namespace may have as well, and numbers that are
//! negative as 32 bits (`netlink_autobind`). Ours are neither, so that one look at the number tells whose it is, even after
//! the socket has been closed.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use netlink_sys::{Socket, SocketAddr};

use super::netlink::errno;

/// Above every process id (at most 2^22), below what the kernel gives out.
const BASE: u32 = 0x4000_0000;
/// The lowest bits tell the sockets of a process apart, those in the middle the processes.
const SOCKET_BITS: u32 = 6;
const SOCKETS: u32 = 1 << SOCKET_BITS;

/// Gives a socket a port id of ours. Where 64 sockets of one protocol are open in one network namespace it gets one of the
/// kernel's, and its changes are told like those of others.
pub(in crate::host) fn bind(socket: &mut Socket) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..SOCKETS {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % SOCKETS;
        match socket.bind(&SocketAddr::new(process() | number, 0)) {
            Err(error) if error.raw_os_error() == Some(errno::EADDRINUSE) => {}
            outcome => return outcome,
        }
    }
    socket.bind(&SocketAddr::new(0, 0))
}

/// Whether the socket with this port id is, or was, this process's.
pub(in crate::host) fn is_ours(port: u32) -> bool {
    port & !(SOCKETS - 1) == process()
}

/// What the port ids of this process have in common: 24 random bits. The process id would do but for containers, whose
/// first process is number 1 in each.
fn process() -> u32 {
    static PROCESS: OnceLock<u32> = OnceLock::new();
    *PROCESS.get_or_init(|| {
        let random = RandomState::new().hash_one(std::process::id());
        let middle = u32::try_from(random >> (64 - 30 + SOCKET_BITS)).unwrap_or(0);
        BASE | middle << SOCKET_BITS
    })
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::NETLINK_ROUTE;

    use super::*;

    fn port(socket: &Socket) -> u32 {
        let mut address = SocketAddr::new(0, 0);
        socket.get_address(&mut address).unwrap();
        address.port_number()
    }

    #[test]
    fn sockets_have_ports_of_ours_that_are_neither_a_processs_nor_the_kernels() {
        let mut sockets = Vec::new();
        for _ in 0..10 {
            let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
            bind(&mut socket).unwrap();
            sockets.push(socket);
        }
        let ports: std::collections::BTreeSet<u32> = sockets.iter().map(port).collect();
        assert_eq!(ports.len(), 10);
        assert!(ports.iter().all(|port| is_ours(*port)));
        assert!(ports.iter().all(|port| (1 << 22..1 << 31).contains(port)));
    }

    #[test]
    fn ports_of_others_are_not_ours() {
        let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
        socket.bind(&SocketAddr::new(0, 0)).unwrap();
        assert!(!is_ours(port(&socket)));
        for other in [0, 1, std::process::id(), u32::MAX, process() + SOCKETS] {
            assert!(!is_ours(other));
        }
    }

    #[test]
    fn more_sockets_than_ports_are_bound_all_the_same() {
        let mut sockets = Vec::new();
        for _ in 0..SOCKETS + 2 {
            let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
            bind(&mut socket).unwrap();
            sockets.push(socket);
        }
        assert!(sockets.iter().any(|socket| !is_ours(port(socket))));
    }
}
