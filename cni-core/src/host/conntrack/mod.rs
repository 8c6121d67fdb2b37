//! Connection tracking: which flows the kernel knows, and forgetting some of them.
//!
//! A flow keeps the translation that its first packet got for as long as packets come. Of protocols without connections that
//! is for ever, so whoever changes where a port leads has to delete the flows of that port.

#[cfg(feature = "kernel")]
mod kernel;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;

use super::netlink::NetlinkError;

#[cfg(feature = "kernel")]
pub use kernel::KernelConntrack;

/// A flow of a protocol with ports, as its first packet was and as answers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// IP protocol number: 6 TCP, 17 UDP, 132 SCTP.
    pub protocol: u8,
    /// Who sent the first packet.
    pub source: SocketAddr,
    /// Where to, before any translation.
    pub destination: SocketAddr,
    /// Who answers: another than the destination where that is translated.
    pub reply_source: SocketAddr,
    /// Whom answers are sent to: another than the source where that is translated.
    pub reply_destination: SocketAddr,
    /// Conntrack zone; 0 unless a ruleset says otherwise.
    pub zone: u16,
    /// The kernel's number of this flow, by which it is told from a later one of the same addresses; 0 when not known.
    pub id: u32,
}

/// Which flows. What is `None` is not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowFilter {
    /// IPv6 rather than IPv4.
    pub is_ipv6: bool,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination address before translation.
    pub destination: Option<IpAddr>,
    /// Destination port before translation.
    pub destination_port: Option<u16>,
    /// Address of who answers.
    pub reply_source: Option<IpAddr>,
    /// Port of who answers.
    pub reply_source_port: Option<u16>,
}

/// The flows of one network namespace. The kernel needs `nf_conntrack_netlink`.
#[async_trait]
pub trait Conntrack: Send + Sync + fmt::Debug {
    /// Hands over the flows that the filter matches, in any order. The kernel looks at all of its flows, and sends those
    /// alone (`CTA_FILTER`, since Linux 5.8; before, it sends all of the family).
    ///
    /// # Errors
    /// EOPNOTSUPP where the kernel has no connection tracking over netlink; EPERM without `CAP_NET_ADMIN`.
    async fn flows(&self, filter: &FlowFilter) -> Result<Vec<Flow>, NetlinkError>;

    /// Deletes these very flows; one that is gone already is none to be deleted. All are attempted.
    ///
    /// # Errors
    /// The first of the kernel's.
    async fn delete(&self, flows: &[Flow]) -> Result<(), NetlinkError>;
}

impl FlowFilter {
    /// All flows of a protocol.
    pub fn of(is_ipv6: bool, protocol: u8) -> Self {
        Self {
            is_ipv6,
            protocol,
            destination: None,
            destination_port: None,
            reply_source: None,
            reply_source_port: None,
        }
    }

    /// Whether a flow is meant.
    pub fn matches(&self, flow: &Flow) -> bool {
        let is = |wanted: Option<IpAddr>, found: IpAddr| wanted.is_none_or(|ip| ip == found);
        let port = |wanted: Option<u16>, found: u16| wanted.is_none_or(|port| port == found);
        self.is_ipv6 == flow.destination.is_ipv6()
            && self.protocol == flow.protocol
            && is(self.destination, flow.destination.ip())
            && port(self.destination_port, flow.destination.port())
            && is(self.reply_source, flow.reply_source.ip())
            && port(self.reply_source_port, flow.reply_source.port())
    }
}

fn protocol_word(number: u8) -> String {
    match number {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

/// The arguments of `conntrack -L`.
impl fmt::Display for FlowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.is_ipv6 { "ipv6" } else { "ipv4" };
        write!(f, "-f {family} -p {}", protocol_word(self.protocol))?;
        if let Some(address) = self.destination {
            write!(f, " -d {address}")?;
        }
        if let Some(port) = self.destination_port {
            write!(f, " --orig-port-dst {port}")?;
        }
        if let Some(address) = self.reply_source {
            write!(f, " -r {address}")?;
        }
        if let Some(port) = self.reply_source_port {
            write!(f, " --reply-port-src {port}")?;
        }
        Ok(())
    }
}

/// The arguments of `conntrack -D`.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "-p {} -s {} -d {} --orig-port-src {} --orig-port-dst {}",
            protocol_word(self.protocol),
            self.source.ip(),
            self.destination.ip(),
            self.source.port(),
            self.destination.port()
        )?;
        match self.zone {
            0 => Ok(()),
            zone => write!(f, " --zone {zone}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn flow() -> Flow {
        Flow {
            protocol: 17,
            source: "192.0.2.9:40000".parse().unwrap(),
            destination: "192.0.2.1:53".parse().unwrap(),
            reply_source: "10.88.0.5:5353".parse().unwrap(),
            reply_destination: "192.0.2.9:40000".parse().unwrap(),
            zone: 0,
            id: 7,
        }
    }

    #[test]
    fn a_filter_means_what_has_every_part_that_it_names() {
        let any = FlowFilter::of(false, 17);
        let same = FlowFilter {
            destination: Some("192.0.2.1".parse().unwrap()),
            destination_port: Some(53),
            reply_source: Some("10.88.0.5".parse().unwrap()),
            reply_source_port: Some(5353),
            ..any
        };
        assert!(any.matches(&flow()) && same.matches(&flow()));
        let other = Some("192.0.2.2".parse().unwrap());
        for filter in [
            FlowFilter {
                is_ipv6: true,
                ..any
            },
            FlowFilter { protocol: 6, ..any },
            FlowFilter {
                destination: other,
                ..same
            },
            FlowFilter {
                destination_port: Some(5353),
                ..same
            },
            FlowFilter {
                reply_source: other,
                ..same
            },
            FlowFilter {
                reply_source_port: Some(53),
                ..same
            },
        ] {
            assert!(!filter.matches(&flow()), "{filter}");
        }
    }

    #[test]
    fn a_filter_and_a_flow_print_as_conntracks_arguments() {
        let filter = FlowFilter {
            destination_port: Some(53),
            reply_source: Some("fd00::5".parse().unwrap()),
            ..FlowFilter::of(true, 17)
        };
        assert_eq!(
            filter.to_string(),
            "-f ipv6 -p udp --orig-port-dst 53 -r fd00::5"
        );
        assert_eq!(
            flow().to_string(),
            "-p udp -s 192.0.2.9 -d 192.0.2.1 --orig-port-src 40000 --orig-port-dst 53"
        );
    }
}
