//! The kernel, one small trait per facility. Own value types only: no rust-netlink, nix or tokio type is visible.

use std::sync::Arc;

pub mod conntrack;
pub(crate) mod disk;
pub mod firewall;
pub mod forwarding;
pub mod legacy;
pub mod lock;
pub mod monitor;
pub mod netlink;
pub mod netns;
#[cfg(feature = "kernel")]
mod own_writes;
#[cfg(feature = "kernel")]
mod port;
#[cfg(feature = "kernel")]
mod rtnl;
pub mod sysctl;
#[cfg(feature = "kernel")]
pub(crate) mod watch;
pub mod zones;

pub use conntrack::Conntrack;
pub use firewall::Firewall;
pub use forwarding::Forwarding;
pub use legacy::LegacyTables;
pub use lock::HostLock;
pub use monitor::{KernelEvent, Monitor};
pub use netlink::{Netlink, NetlinkExt};
pub use netns::{NamespaceOpener, NetnsPath};
pub use sysctl::Sysctl;
pub use zones::HostZones;

/// The host's side of the kernel. A plain struct of trait objects: a test replaces one field.
#[derive(Debug, Clone)]
pub struct Host {
    /// Links, addresses, routes and neighbours of the host's namespace.
    pub netlink: Arc<dyn Netlink>,
    /// Next hops, routes, neighbours, forwarding entries and policy rules of the host's namespace, by the ten thousand.
    pub forwarding: Arc<dyn Forwarding>,
    /// nftables of the host's namespace.
    pub firewall: Arc<dyn Firewall>,
    /// The legacy tables of iptables in the host's namespace, where it has any.
    pub legacy: Arc<dyn LegacyTables>,
    /// Connection tracking of the host's namespace.
    pub conntrack: Arc<dyn Conntrack>,
    /// Kernel parameters of the host's namespace.
    pub sysctl: Arc<dyn Sysctl>,
    /// Serialises the few things that concurrent plugin processes cannot do by exclusive creation.
    pub lock: Arc<dyn HostLock>,
    /// Opens containers' namespaces.
    pub namespaces: Arc<dyn NamespaceOpener>,
    /// firewalld, where the host has it.
    pub zones: Arc<dyn HostZones>,
}

/// A container's side of the kernel: handles that are bound to its namespace wherever they are used.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The namespace as the runtime named it.
    pub path: NetnsPath,
    /// Links, addresses and routes of the namespace.
    pub netlink: Arc<dyn Netlink>,
    /// Kernel parameters of the namespace.
    pub sysctl: Arc<dyn Sysctl>,
}

/// The calling thread's network namespace. `/proc/self` would be the main thread's.
#[cfg(feature = "kernel")]
pub(crate) const OWN_NETNS: &str = "/proc/thread-self/ns/net";

/// For how long a network waits for an answer of firewalld: it goes on without, and says so. What firewalld does within a call
/// takes some 10 ms, and a second or two while it is being reloaded.
#[cfg(feature = "kernel")]
const ZONES_PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

#[cfg(feature = "kernel")]
impl Host {
    /// The kernel of the calling thread's network namespace, for a process that lasts
    /// ([`KernelFirewall::lasting`](firewall::KernelFirewall::lasting)).
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when a netlink socket cannot be opened.
    pub fn open() -> crate::error::Result<Self> {
        Self::open_with_firewall(Arc::new(firewall::KernelFirewall::lasting()))
    }

    /// The kernel of the calling thread's network namespace, with this implementation of nftables.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when a netlink socket cannot be opened.
    pub fn open_with_firewall(firewall: Arc<dyn Firewall>) -> crate::error::Result<Self> {
        let failed = |error: std::io::Error| {
            crate::error::Error::new(crate::ErrorKind::Io, "could not open a netlink socket")
                .with_source(error)
        };
        Ok(Self {
            netlink: Arc::new(netlink::KernelNetlink::open().map_err(failed)?),
            forwarding: Arc::new(forwarding::KernelForwarding::open().map_err(failed)?),
            firewall,
            legacy: Arc::new(legacy::LegacyProgram),
            conntrack: Arc::new(conntrack::KernelConntrack::new()),
            sysctl: Arc::new(sysctl::KernelSysctl::new()),
            lock: Arc::new(lock::KernelLock::new()),
            namespaces: Arc::new(netns::KernelNamespaces::new()),
            zones: Arc::new(zones::Firewalld::patient(ZONES_PATIENCE)),
        })
    }
}
