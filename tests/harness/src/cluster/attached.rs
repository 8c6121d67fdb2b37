//! Pods on nodes, and who of them reaches whom.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use super::Node;
use crate::{Ping, Pod, UdpEcho};

/// The port on which pods tell what source address they see.
const PORT: u16 = 4242;

/// A pod that an ADD has attached.
#[derive(Debug)]
pub struct Attached {
    /// Its namespace; the interface is `eth0`.
    pub pod: Pod,
    /// The name of its node.
    pub node: String,
    /// The result of the ADD.
    pub result: Value,
    /// Its addresses, in the result's order.
    pub addresses: Vec<IpAddr>,
}

/// Every ordered pair of pods, in each family that both have: one ping, and one question over UDP about the source address
/// as seen by the target.
#[derive(Debug)]
pub struct Matrix {
    /// All of them, in order of their senders.
    pub ways: Vec<Way>,
}

/// A way from one pod to an address of another.
#[derive(Debug)]
pub struct Way {
    /// The sender, as `node/address`.
    pub from: String,
    /// Its address.
    pub source: IpAddr,
    /// The target's.
    pub target: IpAddr,
    /// The round-trip time of the first packet.
    pub ping: io::Result<Duration>,
    /// The sender's address as the target saw it.
    pub seen: io::Result<IpAddr>,
}

impl Attached {
    pub(super) fn new(node: &Node, pod: Pod, result: Value) -> Self {
        let ips = result["ips"].as_array().map(Vec::as_slice);
        let addresses = ips.unwrap_or_default().iter().map(address_of).collect();
        Self {
            pod,
            node: node.name().to_owned(),
            result,
            addresses,
        }
    }

    /// Its address of the other's family, if it has one.
    pub fn address_like(&self, other: IpAddr) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter().copied();
        addresses.find(|address| address.is_ipv4() == other.is_ipv4())
    }

    /// Servers on each of its addresses that tell a client what source address they saw.
    ///
    /// # Panics
    /// When they run already.
    pub fn serve(&self) -> Vec<UdpEcho> {
        let addresses = self.addresses.iter();
        addresses
            .map(|address| UdpEcho::start(&self.pod, &SocketAddr::new(*address, PORT).to_string()))
            .collect()
    }

    /// The source address that the server behind [`Attached::serve`] on `target` sees, asked in the calling thread's
    /// namespace, from `source` where it is given.
    ///
    /// # Errors
    /// As [`UdpEcho::ask_from`].
    pub fn seen_at(target: IpAddr, source: Option<IpAddr>) -> io::Result<IpAddr> {
        let target = SocketAddr::new(target, PORT);
        Ok(UdpEcho::ask_from(source, target)?.ip())
    }
}

impl Matrix {
    /// Tries every ordered pair.
    ///
    /// # Panics
    /// When a pod's server cannot be started.
    pub fn of(pods: &[Attached]) -> Self {
        Self::of_all(&pods.iter().collect::<Vec<_>>())
    }

    /// As [`Matrix::of`], with pods that are kept apart.
    ///
    /// # Panics
    /// As [`Matrix::of`].
    pub fn of_all(pods: &[&Attached]) -> Self {
        let _servers: Vec<Vec<UdpEcho>> = pods.iter().map(|pod| pod.serve()).collect();
        let mut ways = Vec::new();
        for (index, from) in pods.iter().enumerate() {
            let others = pods
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
                .flat_map(|(_, other)| &other.addresses);
            let pairs: Vec<(IpAddr, IpAddr)> = others
                .filter_map(|target| Some((from.address_like(*target)?, *target)))
                .collect();
            // One thread in the namespace for all of a pod's questions.
            ways.extend(from.pod.run(|| {
                let ask = |(source, target): &(IpAddr, IpAddr)| {
                    let ping = Ping::to(&target.to_string()).send();
                    // Who is not reached at all need not be waited for.
                    let seen = match &ping {
                        Ok(_) => Attached::seen_at(*target, None),
                        Err(_) => Err(io::Error::other("not asked")),
                    };
                    Way {
                        from: format!("{}/{source}", from.node),
                        source: *source,
                        target: *target,
                        ping,
                        seen,
                    }
                };
                pairs.iter().map(ask).collect::<Vec<Way>>()
            }));
        }
        Self { ways }
    }

    /// How many work, and how many there are.
    pub fn count(&self) -> (usize, usize) {
        let working = self.ways.iter().filter(|way| way.works()).count();
        (working, self.ways.len())
    }

    /// Asserts that all of them work, and that there are as many as thought.
    ///
    /// # Panics
    /// With the whole matrix.
    #[track_caller]
    pub fn assert_all(&self, ways: usize) {
        assert_eq!(self.count(), (ways, ways), "\n{self}");
    }
}

impl Way {
    /// Whether the first packet came through and back, and the target saw the pod's own address.
    pub fn works(&self) -> bool {
        let seen = self.seen.as_ref().is_ok_and(|seen| *seen == self.source);
        self.ping.is_ok() && seen
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for way in &self.ways {
            let verdict = if way.works() { "ok  " } else { "FAIL" };
            write!(f, "{verdict} {} -> {}", way.from, way.target)?;
            match &way.ping {
                Ok(time) => write!(f, "  {} us", time.as_micros())?,
                Err(error) => write!(f, "  {error}")?,
            }
            match &way.seen {
                Ok(seen) => writeln!(f, "  seen as {seen}")?,
                Err(error) => writeln!(f, "  no answer over UDP: {error}")?,
            }
        }
        Ok(())
    }
}

fn address_of(ip: &Value) -> IpAddr {
    let text = ip["address"].as_str().expect("a result's address");
    let address = text.split('/').next().unwrap_or_default();
    address.parse().expect("a result's address")
}
