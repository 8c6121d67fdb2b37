//! Reading results of every version.

use ipnetwork::IpNetwork;

use super::{AddResult, Dns, Extra, Interface, IpConfig, Route};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::json::Object;
use crate::spec::version::{Family, SpecVersion};

pub(super) fn result(text: &str, config_version: SpecVersion) -> Result<AddResult> {
    if text.trim_ascii() == "null" {
        return Ok(AddResult {
            origin: Some(config_version),
            ..AddResult::default()
        });
    }
    let object = Object::parse(text)
        .map_err(|error| error.context("the result of ADD could not be decoded"))?;
    let version = match object.string("cniVersion")? {
        None => config_version,
        Some(version) if version.is_empty() => config_version,
        Some(version) => version.parse()?,
    };
    // What is wrong here is the text of a result, never the configuration.
    read(&object, version).map_err(|error| match error.kind() {
        ErrorKind::InvalidConfig => error.with_kind(ErrorKind::Decode),
        _ => error,
    })
}

fn read(object: &Object<'_>, version: SpecVersion) -> Result<AddResult> {
    let mut result = AddResult {
        origin: Some(version),
        dns: match object.object("dns")? {
            Some(dns) => Dns::read(&dns)?,
            None => Dns::default(),
        },
        ..AddResult::default()
    };
    if version.family() == Family::Ip4Ip6 {
        for (key, is_v4) in [("ip4", true), ("ip6", false)] {
            if let Some(ip) = object.object(key)? {
                result.ips.push(old_ip(&ip, is_v4)?);
                result.routes.extend(routes(&ip, version)?);
            }
        }
        result.extra = extra(object, &["cniVersion", "ip4", "ip6", "dns"]);
        return Ok(result);
    }
    for interface in object.objects("interfaces")? {
        result.interfaces.push(read_interface(&interface, version)?);
    }
    for ip in object.objects("ips")? {
        result.ips.push(new_ip(&ip, version)?);
    }
    result.routes = routes(object, version)?;
    result.extra = extra(
        object,
        &["cniVersion", "interfaces", "ips", "routes", "dns"],
    );
    Ok(result)
}

fn read_interface(object: &Object<'_>, version: SpecVersion) -> Result<Interface> {
    Ok(Interface {
        name: object.string("name")?.unwrap_or_default(),
        mac: object.string("mac")?.unwrap_or_default(),
        mtu: since_1_1(version, object.u32("mtu"))?.unwrap_or_default(),
        sandbox: object.string("sandbox")?.unwrap_or_default(),
        socket_path: since_1_1(version, object.string("socketPath"))?.unwrap_or_default(),
        pci_id: since_1_1(version, object.string("pciID"))?.unwrap_or_default(),
        extra: extra(
            object,
            &["name", "mac", "mtu", "sandbox", "socketPath", "pciID"],
        ),
    })
}

fn new_ip(object: &Object<'_>, version: SpecVersion) -> Result<IpConfig> {
    let known: &[&str] = match version.family() {
        Family::IpsWithVersion => &["version", "interface", "address", "gateway"],
        _ => &["interface", "address", "gateway"],
    };
    if version.family() == Family::IpsWithVersion {
        // Redundant with the address, which decides; but it has a type.
        object.string("version")?;
    }
    Ok(IpConfig {
        interface: object.i64("interface")?,
        address: required_prefix(object, "address")?,
        gateway: object.ip("gateway")?,
        extra: extra(object, known),
    })
}

fn old_ip(object: &Object<'_>, is_v4: bool) -> Result<IpConfig> {
    let address = required_prefix(object, "ip")?;
    if address.is_ipv4() != is_v4 {
        let rule = if is_v4 {
            "must be an IPv4 address"
        } else {
            "must be an IPv6 address"
        };
        return Err(object.broken("ip", address.to_string(), rule));
    }
    Ok(IpConfig {
        interface: None,
        address,
        gateway: object.ip("gateway")?,
        extra: extra(object, &["ip", "gateway", "routes"]),
    })
}

fn required_prefix(object: &Object<'_>, name: &str) -> Result<IpNetwork> {
    object.prefix(name)?.ok_or_else(|| object.missing(name))
}

fn routes(object: &Object<'_>, version: SpecVersion) -> Result<Vec<Route>> {
    let routes = object.objects("routes")?;
    routes
        .iter()
        .map(|route| read_route(route, version))
        .collect()
}

/// One route; also of an IPAM section, which has the same members.
fn read_route(object: &Object<'_>, version: SpecVersion) -> Result<Route> {
    Ok(Route {
        dst: required_prefix(object, "dst")?,
        gw: object.ip("gw")?,
        mtu: since_1_1(version, object.u32("mtu"))?.unwrap_or_default(),
        advmss: since_1_1(version, object.u32("advmss"))?.unwrap_or_default(),
        priority: since_1_1(version, object.u32("priority"))?.unwrap_or_default(),
        table: since_1_1(version, object.u32("table"))?,
        scope: match since_1_1(version, object.u32_in("scope", 0, 255))? {
            Some(scope) => u8::try_from(scope).ok(),
            None => None,
        },
        extra: extra(
            object,
            &["dst", "gw", "mtu", "advmss", "priority", "table", "scope"],
        ),
    })
}

/// A member that 1.1.0 brought. Before it, the name was free, so that a value of another type is not an error.
fn since_1_1<T>(version: SpecVersion, value: Result<Option<T>>) -> Result<Option<T>> {
    if version >= SpecVersion::V1_1_0 {
        value
    } else {
        Ok(value.unwrap_or_default())
    }
}

/// Unknown members, the last of duplicates only.
fn extra(object: &Object<'_>, known: &[&str]) -> Extra {
    let mut extra = Extra::new();
    for (key, value) in object.iter() {
        if known.iter().any(|name| name.eq_ignore_ascii_case(key)) {
            continue;
        }
        match extra.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value.to_owned(),
            None => extra.push((key.to_owned(), value.to_owned())),
        }
    }
    extra
}

impl Route {
    /// Reads a route, as it stands in a result of 1.1.0 and in the `routes` of an IPAM section: `dst`, `gw`, `mtu`,
    /// `advmss`, `priority`, `table`, `scope`.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for a wrong JSON type, [`ErrorKind::InvalidConfig`] for a missing `dst`, an address that
    /// is none, or a number out of range.
    pub fn read(object: &Object<'_>) -> Result<Self> {
        read_route(object, SpecVersion::NEWEST)
    }
}

impl Dns {
    /// Reads a `dns` object: `nameservers`, `domain`, `search`, `options`.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for a wrong JSON type.
    pub fn read(object: &Object<'_>) -> Result<Self> {
        Ok(Self {
            nameservers: object.strings("nameservers")?,
            domain: object.string("domain")?.unwrap_or_default(),
            search: object.strings("search")?,
            options: object.strings("options")?,
            extra: extra(object, &["nameservers", "domain", "search", "options"]),
        })
    }
}

/// Refuses a `prevResult` of another family than its configuration's: its runtime should have converted it.
pub(in crate::spec) fn require_family(result: &AddResult, config: SpecVersion) -> Result<()> {
    match result.origin {
        Some(version) if version.family() != config.family() => Err(Error::new(
            ErrorKind::Decode,
            format!(
                "`prevResult` is of cniVersion {version}, which is not of the form of the configuration's {config}"
            ),
        )),
        _ => Ok(()),
    }
}
