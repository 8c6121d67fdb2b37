//! Connection tracking over netlink (`net/netfilter/nf_conntrack_netlink.c`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_trait::async_trait;

use super::{Conntrack, Flow, FlowFilter};
use crate::host::firewall::kernel::message::{Attributes, Writer};
use crate::host::firewall::kernel::socket::{Connection, Failure, Kept};
use crate::host::netlink::{NetlinkError, errno};
use crate::host::sysctl::read_file;

/// How many flows the namespace has.
const COUNT: &str = "net/netfilter/nf_conntrack_count";

// `linux/netfilter/nfnetlink.h`, `linux/netfilter/nfnetlink_conntrack.h`
const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// Which parts of a tuple the kernel compares (`net/netfilter/nf_internals.h`, `CTA_FILTER_F_*`).
const BY_SOURCE: u32 = 1 << 0;
const BY_DESTINATION: u32 = 1 << 1;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_SOURCE_PORT: u32 = 1 << 4;
const BY_DESTINATION_PORT: u32 = 1 << 5;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Connection tracking of the network namespace that the calling thread is in at the first use.
#[derive(Debug, Default)]
pub struct KernelConntrack {
    connection: Kept,
}

impl KernelConntrack {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.connection.with(NFNL_SUBSYS_CTNETLINK, work)
    }
}

#[async_trait]
impl Conntrack for KernelConntrack {
    async fn flows(&self, filter: &FlowFilter) -> Result<Vec<Flow>, NetlinkError> {
        // The kernel goes through every bucket of its table, of which it has many even where no flow is: 262,144 of them
        // take it 25 ms.
        if read_file(COUNT).ok().flatten().as_deref() == Some("0") {
            return Ok(Vec::new());
        }
        let family = if filter.is_ipv6 { AF_INET6 } else { AF_INET };
        let body = |w: &mut Writer| write_filter(w, filter);
        let found = self.with(|connection| {
            connection.dump(IPCTNL_MSG_CT_GET, family, body, |message, all| {
                // A kernel without filters sends all of the family, and protocols without ports among them.
                let flow = decode(message.attributes());
                all.extend(flow.filter(|flow| filter.matches(flow)));
                Some(())
            })
        });
        match found {
            Ok(found) => Ok(found.unwrap_or_default()),
            Err(failure) => Err(told(format!("conntrack -L {filter}"), failure)),
        }
    }

    async fn delete(&self, flows: &[Flow]) -> Result<(), NetlinkError> {
        let mut first = Ok(());
        for flow in flows {
            let family = if flow.source.is_ipv6() {
                AF_INET6
            } else {
                AF_INET
            };
            let deleted = self.with(|connection| {
                let body = |w: &mut Writer| write_flow(w, flow);
                connection.change(IPCTNL_MSG_CT_DELETE, family, body)
            });
            if let (Err(failure), Ok(())) = (deleted, &first) {
                first = Err(told(format!("conntrack -D {flow}"), failure));
            }
        }
        first
    }
}

fn told(operation: String, failure: Failure) -> NetlinkError {
    // nfnetlink's answer for a subsystem that it has not (`nfnetlink_rcv_msg`).
    let missing = failure.errno == errno::EINVAL && failure.message.is_none();
    let (number, message) = match missing {
        true => (
            errno::EOPNOTSUPP,
            Some(
                "the kernel has no connection tracking over netlink (nf_conntrack_netlink)".into(),
            ),
        ),
        false => (failure.errno, failure.message),
    };
    let error = NetlinkError::new(operation, number);
    match message {
        Some(message) => error.with_message(message),
        None => error,
    }
}

/// What the kernel is to compare. One that does not know `CTA_FILTER` sends everything.
fn write_filter(w: &mut Writer, filter: &FlowFilter) {
    let mut original = BY_PROTOCOL;
    let mut reply = 0;
    // Of IPv6 addresses the kernel takes all but those that are asked for (`ctnetlink_filter_match_tuple` negates
    // `ipv6_addr_cmp`, Linux 5.8 to 6.18 at least): they are compared here.
    let address = |wanted: Option<IpAddr>| wanted.filter(IpAddr::is_ipv4);
    let (destination, reply_source) = (address(filter.destination), address(filter.reply_source));
    let flag = |all: &mut u32, wanted: bool, flag: u32| {
        if wanted {
            *all |= flag;
        }
    };
    flag(&mut original, destination.is_some(), BY_DESTINATION);
    flag(
        &mut original,
        filter.destination_port.is_some(),
        BY_DESTINATION_PORT,
    );
    flag(&mut reply, reply_source.is_some(), BY_SOURCE);
    // Ports are of a protocol, which has to be named beside them.
    flag(
        &mut reply,
        filter.reply_source_port.is_some(),
        BY_SOURCE_PORT | BY_PROTOCOL,
    );
    w.nest(CTA_TUPLE_ORIG, |w| {
        let address = destination.map(|ip| (false, ip));
        write_tuple(w, filter.protocol, address, (None, filter.destination_port));
    });
    if reply != 0 {
        w.nest(CTA_TUPLE_REPLY, |w| {
            let address = reply_source.map(|ip| (true, ip));
            write_tuple(
                w,
                filter.protocol,
                address,
                (filter.reply_source_port, None),
            );
        });
    }
    w.nest(CTA_FILTER, |w| {
        w.attribute(CTA_FILTER_ORIG_FLAGS, &original.to_ne_bytes());
        w.attribute(CTA_FILTER_REPLY_FLAGS, &reply.to_ne_bytes());
    });
}

fn write_tuple(
    w: &mut Writer,
    protocol: u8,
    address: Option<(bool, IpAddr)>,
    (source, destination): (Option<u16>, Option<u16>),
) {
    if let Some((is_source, address)) = address {
        w.nest(CTA_TUPLE_IP, |w| write_address(w, is_source, address));
    }
    w.nest(CTA_TUPLE_PROTO, |w| {
        w.attribute(CTA_PROTO_NUM, &[protocol]);
        if let Some(port) = source {
            w.attribute(CTA_PROTO_SRC_PORT, &port.to_be_bytes());
        }
        if let Some(port) = destination {
            w.attribute(CTA_PROTO_DST_PORT, &port.to_be_bytes());
        }
    });
}

fn write_address(w: &mut Writer, is_source: bool, address: IpAddr) {
    match (address, is_source) {
        (IpAddr::V4(address), true) => w.attribute(CTA_IP_V4_SRC, &address.octets()),
        (IpAddr::V4(address), false) => w.attribute(CTA_IP_V4_DST, &address.octets()),
        (IpAddr::V6(address), true) => w.attribute(CTA_IP_V6_SRC, &address.octets()),
        (IpAddr::V6(address), false) => w.attribute(CTA_IP_V6_DST, &address.octets()),
    }
}

/// One flow: its addresses before translation, its zone, and its number.
fn write_flow(w: &mut Writer, flow: &Flow) {
    w.nest(CTA_TUPLE_ORIG, |w| {
        w.nest(CTA_TUPLE_IP, |w| {
            write_address(w, true, flow.source.ip());
            write_address(w, false, flow.destination.ip());
        });
        w.nest(CTA_TUPLE_PROTO, |w| {
            w.attribute(CTA_PROTO_NUM, &[flow.protocol]);
            w.attribute(CTA_PROTO_SRC_PORT, &flow.source.port().to_be_bytes());
            w.attribute(CTA_PROTO_DST_PORT, &flow.destination.port().to_be_bytes());
        });
    });
    if flow.zone != 0 {
        w.attribute(CTA_ZONE, &flow.zone.to_be_bytes());
    }
    if flow.id != 0 {
        w.be32(CTA_ID, flow.id);
    }
}

/// `None` for a protocol without ports.
fn decode(attributes: Attributes<'_>) -> Option<Flow> {
    let (protocol, source, destination) = tuple(attributes.nested(CTA_TUPLE_ORIG))?;
    let (_, reply_source, reply_destination) = tuple(attributes.nested(CTA_TUPLE_REPLY))?;
    let zone = attributes.find(CTA_ZONE).and_then(be16);
    Some(Flow {
        protocol,
        source,
        destination,
        reply_source,
        reply_destination,
        zone: zone.unwrap_or_default(),
        id: attributes.be32(CTA_ID).unwrap_or_default(),
    })
}

fn tuple(tuple: Attributes<'_>) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (ip, ports) = (tuple.nested(CTA_TUPLE_IP), tuple.nested(CTA_TUPLE_PROTO));
    let address = |v4, v6| match ip.find(v4) {
        Some(bytes) => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        None => Some(IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(ip.find(v6)?).ok()?,
        ))),
    };
    let port = |kind| ports.find(kind).and_then(be16);
    Some((
        *ports.find(CTA_PROTO_NUM)?.first()?,
        SocketAddr::new(
            address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
            port(CTA_PROTO_SRC_PORT)?,
        ),
        SocketAddr::new(
            address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
            port(CTA_PROTO_DST_PORT)?,
        ),
    ))
}

fn be16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}
