//! The result of ADD, in the shape of the newest version; older shapes are rendered from it and parsed into it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::value::RawValue;

/// Members that this library does not know, kept as they were written.
pub type Extra = Vec<(String, Box<RawValue>)>;

/// What ADD made: the result that goes to the runtime and, as `prevResult`, to the next plugin of the chain.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AddResult {
    /// Interfaces, the host's and the container's, in the order they were made.
    pub interfaces: Vec<Interface>,
    /// Addresses, each perhaps with the index of its interface.
    pub ips: Vec<IpConfig>,
    /// Routes inside the container.
    pub routes: Vec<Route>,
    /// Name resolution.
    pub dns: Dns,
    /// Unknown members.
    pub extra: Extra,
}

/// One interface of a result.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address as text; empty when it has none.
    pub mac: String,
    /// Its MTU in bytes; 0 when not given (1.1.0).
    pub mtu: u32,
    /// The container's namespace; empty for an interface of the host.
    pub sandbox: String,
    /// Path of a socket, for user-space datapaths (1.1.0).
    pub socket_path: String,
    /// PCI address (1.1.0).
    pub pci_id: String,
    /// Unknown members.
    pub extra: Extra,
}

/// One address of a result.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IpConfig {
    /// Index into [`AddResult::interfaces`]; -1 and out-of-range values are legal input.
    pub interface: Option<i64>,
    /// The address with its prefix length; host bits are kept.
    pub address: IpNetwork,
    /// The default gateway of this address.
    pub gateway: Option<IpAddr>,
    /// Unknown members.
    pub extra: Extra,
}

/// One route of a result.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Route {
    /// Destination.
    pub dst: IpNetwork,
    /// Next hop; when absent, the gateway of the family's first address.
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes (1.1.0); 0 when not given.
    pub mtu: u32,
    /// TCP maximum segment size to advertise, in bytes (1.1.0); 0 when not given.
    pub advmss: u32,
    /// Metric (1.1.0); 0 when not given.
    pub priority: u32,
    /// Routing table (1.1.0).
    pub table: Option<u32>,
    /// Scope (1.1.0), an `RT_SCOPE_*` number.
    pub scope: Option<u8>,
    /// Unknown members.
    pub extra: Extra,
}

/// Name resolution of a result or of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dns {
    /// Name servers, in order of preference.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: String,
    /// Search domains, in order of preference.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl Interface {
    /// An interface with this name and nothing else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

impl IpConfig {
    /// An address that belongs to no interface yet.
    pub fn new(address: IpNetwork) -> Self {
        Self {
            interface: None,
            address,
            gateway: None,
            extra: Extra::new(),
        }
    }
}

impl Route {
    /// A route to `dst` through the family's gateway.
    pub fn new(dst: IpNetwork) -> Self {
        Self {
            dst,
            gw: None,
            mtu: 0,
            advmss: 0,
            priority: 0,
            table: None,
            scope: None,
            extra: Extra::new(),
        }
    }
}

impl Dns {
    /// Whether no field is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
