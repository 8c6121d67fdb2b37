//! ICMP and ICMPv6 echo over raw sockets: one request, one answer, no second try.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::Pod;
use crate::turns::Turns;

/// One echo request. A lost packet is an error: nothing is sent twice.
#[derive(Debug, Clone)]
pub struct Ping {
    target: IpAddr,
    source: Option<IpAddr>,
    timeout: Duration,
    size: usize,
}

/// Pings from a pod; the round-trip time, or why there was no answer.
///
/// # Errors
/// As [`Ping::send`].
///
/// # Panics
/// When `target` is no IP address.
pub fn ping(pod: &Pod, target: &str) -> io::Result<Duration> {
    pod.run(|| Ping::to(target).send())
}

impl Ping {
    /// A request of 56 bytes that waits 900 ms for its answer: less than the neighbour tables' retransmission (1 s), so
    /// that an unanswered first ARP or neighbour solicitation shows as a lost packet. A machine that is busy waits longer: see
    /// [`Turns`].
    ///
    /// # Panics
    /// When `target` is no IP address.
    pub fn to(target: &str) -> Self {
        Self {
            target: target.parse().expect("an IP address"),
            source: None,
            timeout: Duration::from_millis(900),
            size: 56,
        }
    }

    /// Sends from this source address.
    ///
    /// # Panics
    /// When `source` is no IP address.
    #[must_use]
    pub fn from(mut self, source: &str) -> Self {
        self.source = Some(source.parse().expect("an IP address"));
        self
    }

    /// Waits this long for the answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Bytes after the 8 bytes of the ICMP header.
    #[must_use]
    pub fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// Sends the request in the calling thread's namespace and waits for its answer; the round-trip time.
    ///
    /// # Errors
    /// What the kernel says when it cannot send (no route), or [`io::ErrorKind::TimedOut`].
    pub fn send(&self) -> io::Result<Duration> {
        let socket = self.open()?;
        let request = self.request();
        let start = Instant::now();
        socket.send(&request)?;
        for turn in Turns::of(self.timeout) {
            // What is not the answer ends no turn.
            let end = Instant::now() + turn;
            loop {
                let left = end.saturating_duration_since(Instant::now());
                match Self::receive(&socket, left) {
                    Ok(packet) if self.answers(&packet, &request) => return Ok(start.elapsed()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer from {} within {:?}", self.target, self.timeout),
        ))
    }

    /// A raw socket in the calling thread's namespace that talks to the target only.
    pub(crate) fn open(&self) -> io::Result<Socket> {
        let (domain, protocol) = match self.target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        if let Some(source) = self.source {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        socket.connect(&SockAddr::from(SocketAddr::new(self.target, 0)))?;
        Ok(socket)
    }

    /// The next request: no two of a process are alike.
    pub(crate) fn request(&self) -> Vec<u8> {
        static SEQUENCE: AtomicU16 = AtomicU16::new(1);
        let kind = if self.target.is_ipv4() { 8 } else { 128 };
        let mut packet = vec![kind, 0, 0, 0];
        let identifier = std::process::id().to_be_bytes();
        packet.extend_from_slice(&identifier[2..]);
        packet.extend_from_slice(&SEQUENCE.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        packet.extend((0..self.size).map(|index| (index % 251) as u8));
        if self.target.is_ipv4() {
            let sum = checksum(&packet).to_be_bytes();
            packet[2..4].copy_from_slice(&sum);
        }
        packet
    }

    /// Whether a received packet is the echo of `request`: everything after the checksum comes back unchanged.
    pub(crate) fn answers(&self, packet: &[u8], request: &[u8]) -> bool {
        let (header, kind) = if self.target.is_ipv4() {
            let words = packet.first().map_or(0, |first| first & 0xf);
            (usize::from(words) * 4, 0)
        } else {
            (0, 129)
        };
        packet
            .get(header..)
            .is_some_and(|icmp| icmp.first() == Some(&kind) && icmp.get(4..) == request.get(4..))
    }

    /// The next packet on a socket of [`Ping::open`], or [`io::ErrorKind::WouldBlock`] when none comes for so long.
    pub(crate) fn receive(socket: &Socket, limit: Duration) -> io::Result<Vec<u8>> {
        // The option counts whole microseconds, and none means to wait for ever (socket(7), SO_RCVTIMEO).
        socket.set_read_timeout(Some(limit.max(Duration::from_micros(1))))?;
        let mut buffer = vec![0; 65536];
        let length = io::Read::read(&mut &*socket, &mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_wait_shorter_than_the_kernel_counts_ends_all_the_same() {
        let (ended, end) = mpsc::channel();
        // On a thread of its own, which a wait that does not end leaves behind.
        thread::spawn(move || {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
            let outcome = Ping::receive(&socket, Duration::from_nanos(1));
            let _ = ended.send(outcome.map_err(|error| error.kind()));
        });
        let outcome = end.recv_timeout(Duration::from_secs(60));
        assert_eq!(outcome, Ok(Err(io::ErrorKind::WouldBlock)));
    }
}
