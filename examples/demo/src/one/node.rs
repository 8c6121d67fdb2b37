//! The node and the world outside it: this process's namespace, another one, and a cable between them.
//!
//! They are built with the same engine that the backends use: declared, compared, applied.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cni_core::Cancel;
use cni_core::host::netlink::{Address, NewLinkKind, Route};
use cni_core::host::{Host, NetnsPath};
use cni_core::plan::{self, Desired, Establishing, Handles, LinkSpec, Object, Place};
use cni_testkit::{Ping, Pod};
use ipnetwork::IpNetwork;

use crate::Result;
use crate::attached::join;

/// The node's side of the cable; addresses from the documentation ranges (RFC 5737, RFC 3849).
pub(crate) const UPLINK: &str = "uplink";
const NODE: [&str; 2] = ["192.0.2.1/24", "2001:db8:1::1/64"];
const OUTSIDE: [&str; 2] = ["192.0.2.254/24", "2001:db8:1::fe/64"];

/// How long the cable may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Node {
    /// The node's addresses.
    pub(crate) addresses: Vec<IpNetwork>,
    /// A host that knows the node, and no route to its pods.
    pub(crate) outside: Pod,
    /// The outside host's addresses.
    pub(crate) outside_addresses: Vec<IpNetwork>,
}

impl Node {
    /// Lays the cable, gives both ends their addresses, and the node its default routes.
    pub(crate) fn build() -> Result<Self> {
        let outside = Pod::new("outside");
        let node = Self {
            addresses: parse(NODE)?,
            outside_addresses: parse(OUTSIDE)?,
            outside,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| format!("cannot make an async runtime: {error}"))?;
        runtime
            .block_on(node.lay_cable())
            .map_err(|error| error.chain())?;
        node.settle()?;
        Ok(node)
    }

    /// Waits until the cable carries packets of both families: the kernel makes an IPv6 address's own routes a moment after it has
    /// listed the address, and what is there before is what has to be there afterwards.
    fn settle(&self) -> Result<()> {
        for address in &self.outside_addresses {
            let ping = Ping::to(&address.ip().to_string()).timeout(Duration::from_millis(100));
            let end = Instant::now() + PATIENCE;
            while let Err(error) = ping.send() {
                if Instant::now() > end {
                    return Err(format!(
                        "the cable does not carry packets to {}: {error}",
                        address.ip()
                    ));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    async fn lay_cable(&self) -> cni_core::Result<()> {
        let host = Host::open()?;
        let path = NetnsPath::new(self.outside.path());
        let sandbox = host.namespaces.open(&path).await?;
        let handles = Handles {
            host: &host,
            sandbox: Some(&sandbox),
        };
        let desired = self.desired(path);
        let cancel = Cancel::new();
        let (_, journal) =
            plan::establish(&desired, &handles, &cancel, Establishing::Apply).await?;
        journal.keep();
        Ok(())
    }

    fn desired(&self, outside: NetnsPath) -> Desired {
        let cable = NewLinkKind::Veth {
            peer: "eth0".to_owned(),
            peer_mac: None,
            peer_netns: Some(outside),
        };
        let mut desired = Desired::new();
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            let (key, value) = (key.to_owned(), "1".to_owned());
            desired.own(Place::Host, Object::Sysctl { key, value });
        }
        let mut uplink = LinkSpec::new(UPLINK, Some(cable));
        // Its routes would come some seconds later, and look like something that is left behind.
        uplink.ipv6_link_local = false;
        desired.own(Place::Host, Object::Link(uplink));
        desired.own(Place::Container, Object::Link(LinkSpec::new("eth0", None)));
        for address in &self.addresses {
            desired.own(Place::Host, Object::Address(Address::new(UPLINK, *address)));
        }
        for address in &self.outside_addresses {
            desired.own(
                Place::Container,
                Object::Address(Address::new("eth0", *address)),
            );
            let mut default = Route::new(default_route(address.ip()), UPLINK);
            default.gateway = Some(address.ip());
            desired.own(Place::Host, Object::Route(default));
        }
        desired
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "node      {UPLINK}  {}\noutside   eth0    {}   (no route to any pod)",
            join(&self.addresses),
            join(&self.outside_addresses)
        )
    }
}

fn default_route(family: IpAddr) -> IpNetwork {
    match family {
        IpAddr::V4(_) => IpNetwork::from(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => IpNetwork::from(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)),
    }
    .with_length(0)
}

/// The network of an address with another prefix length.
trait WithLength {
    fn with_length(self, length: u8) -> IpNetwork;
}

impl WithLength for IpNetwork {
    fn with_length(self, length: u8) -> IpNetwork {
        IpNetwork::new(self.ip(), length).unwrap_or(self)
    }
}

fn parse(texts: [&str; 2]) -> Result<Vec<IpNetwork>> {
    texts
        .into_iter()
        .map(|text| text.parse().map_err(|error| format!("{text}: {error}")))
        .collect()
}
