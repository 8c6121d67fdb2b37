//! The result of ADD, in the shape of the newest version; older shapes are rendered from it and parsed into it.
//!
//! Converting a result is parsing it and rendering it at another version. Unknown members survive within a version and
//! between versions whose results have the same text (0.1.0 and 0.2.0; 0.3.0, 0.3.1 and 0.4.0); what the target version
//! does not know is dropped.
//!
//! ```
//! use cni_core::spec::{AddResult, SpecVersion};
//!
//! let text = r#"{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.5/16"}],"routes":[{"dst":"0.0.0.0/0","mtu":1400}]}"#;
//! let result = AddResult::parse(text, SpecVersion::V1_1_0)?;
//! assert_eq!(result.routes[0].mtu, 1400);
//! assert_eq!(
//!     result.render(SpecVersion::V0_4_0)?,
//!     r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.0.5/16"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}"#
//! );
//! # Ok::<(), cni_core::Error>(())
//! ```
//!
//! Spec section "Success" of "Section 4: Execution of Plugin Delegation" and "Section 5:
//! Result Types"; older shapes: the texts of the tags spec-v0.2.0 and spec-v0.4.0.

pub(in crate::spec) mod parse;
#[cfg(test)]
mod properties;
mod render;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::value::RawValue;

use crate::error::Result;
use crate::spec::version::SpecVersion;

/// Members that this library does not know, kept as they were written. They must not bear the name of a typed member.
pub type Extra = Vec<(String, Box<RawValue>)>;

/// What ADD made: the result that goes to the runtime and, as `prevResult`, to the next plugin of the chain.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AddResult {
    /// The version that it was parsed from; `None` for one that was made here. Unknown members belong to it.
    pub origin: Option<SpecVersion>,
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
#[derive(Debug, Clone, Default)]
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
    /// Unknown members.
    pub extra: Extra,
}

impl AddResult {
    /// Reads a result of any version: its own `cniVersion`, or `config_version` when it has none.
    ///
    /// Missing and `null` lists are empty, `null` itself is an empty result. The 1.1.0 members of interfaces and
    /// routes are read at older versions too, because the reference plugins write them there.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode) for what is no result, also for a list with a `null` in it;
    /// [`ErrorKind::IncompatibleVersion`](crate::ErrorKind::IncompatibleVersion) for an unknown version.
    pub fn parse(text: &str, config_version: SpecVersion) -> Result<Self> {
        parse::result(text, config_version)
    }

    /// The compact JSON text at a version. Keys have a fixed order, unknown members stand last.
    ///
    /// # Errors
    /// [`ErrorKind::IncompatibleVersion`](crate::ErrorKind::IncompatibleVersion) when the version is 0.1.0 or 0.2.0
    /// and there is no address: those cannot say so.
    pub fn render(&self, version: SpecVersion) -> Result<String> {
        render::result(self, version)
    }

    /// The text of a result at another version.
    ///
    /// # Errors
    /// Those of [`AddResult::parse`] and [`AddResult::render`].
    pub fn convert(text: &str, config_version: SpecVersion, target: SpecVersion) -> Result<String> {
        Self::parse(text, config_version)?.render(target)
    }
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

impl PartialEq for Dns {
    fn eq(&self, other: &Self) -> bool {
        let text = |extra: &Extra| -> Vec<(String, String)> {
            let members = extra.iter();
            members
                .map(|(key, value)| (key.clone(), value.get().to_owned()))
                .collect()
        };
        self.nameservers == other.nameservers
            && self.domain == other.domain
            && self.search == other.search
            && self.options == other.options
            && text(&self.extra) == text(&other.extra)
    }
}

impl Eq for Dns {}
