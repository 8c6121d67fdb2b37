//! Typed members of a configuration's objects. Wrong types are errors that name the key, as in the reference plugins.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::json::Object;
use crate::spec::{Dns, Route};

/// A member of any type that serde knows.
pub(super) fn member<'a, T: Deserialize<'a>>(object: &Object<'a>, key: &str) -> Result<Option<T>> {
    object.member(key).map(|value| decode(value, key)).transpose()
}

/// A member that is an object.
pub(super) fn object<'a>(object: &Object<'a>, key: &str) -> Result<Option<Object<'a>>> {
    object.member(key).map(|value| as_object(value, key)).transpose()
}

/// A member that is a list; absent is empty.
pub(super) fn list<'a>(object: &Object<'a>, key: &str) -> Result<Vec<&'a RawValue>> {
    Ok(member(object, key)?.unwrap_or_default())
}

/// A member that is an address; absent and empty are `None`.
pub(super) fn ip(object: &Object<'_>, key: &str) -> Result<Option<IpAddr>> {
    let text: Option<String> = member(object, key)?;
    text.filter(|text| !text.is_empty()).map(|text| parse_ip(&text, key)).transpose()
}

/// A value that is an object.
pub(super) fn as_object<'a>(value: &'a RawValue, what: &str) -> Result<Object<'a>> {
    Object::parse(value.get()).map_err(|error| error.context(format!("{what:?} is not an object")))
}

/// A list of addresses as strings; a prefix length after the address is allowed.
pub(super) fn ips(object: &Object<'_>, key: &str) -> Result<Vec<(IpAddr, Option<IpNetwork>)>> {
    let texts: Option<Vec<String>> = member(object, key)?;
    texts.unwrap_or_default().iter().map(|text| parse_ip_or_network(text, key)).collect()
}

/// An address, perhaps with a prefix length.
pub(super) fn parse_ip_or_network(text: &str, key: &str) -> Result<(IpAddr, Option<IpNetwork>)> {
    if text.contains('/') {
        let network = parse_network(text, key)?;
        Ok((network.ip(), Some(network)))
    } else {
        Ok((parse_ip(text, key)?, None))
    }
}

/// An address; IPv4 in its IPv6 form becomes IPv4.
pub(super) fn parse_ip(text: &str, key: &str) -> Result<IpAddr> {
    let ip: Result<IpAddr, _> = text.trim().parse();
    ip.map(|ip| ip.to_canonical()).map_err(|error| {
        invalid(format!("{key} {text:?} is not an IP address")).with_source(error)
    })
}

/// An address with its prefix length.
pub(super) fn parse_network(text: &str, key: &str) -> Result<IpNetwork> {
    let network = text.contains('/').then(|| text.trim().parse().ok()).flatten();
    network.ok_or_else(|| {
        invalid(format!("{key} {text:?} is not an address with a prefix length, such as 10.1.0.0/16"))
    })
}

/// `routes` of an `ipam` section.
pub(super) fn routes(ipam: &Object<'_>) -> Result<Vec<Route>> {
    let route = |value: &RawValue| {
        let object = as_object(value, "routes")?;
        let dst: Option<String> = member(&object, "dst")?;
        let dst = dst.ok_or_else(|| invalid("a route has no \"dst\"".to_owned()))?;
        let mut route = Route::new(parse_network(&dst, "route dst")?);
        route.gw = ip(&object, "gw")?;
        route.mtu = member(&object, "mtu")?.unwrap_or(0);
        route.advmss = member(&object, "advmss")?.unwrap_or(0);
        route.priority = member(&object, "priority")?.unwrap_or(0);
        route.table = member(&object, "table")?;
        route.scope = member(&object, "scope")?;
        if let Some(gw) = route.gw.filter(|gw| gw.is_ipv4() != route.dst.is_ipv4()) {
            return Err(invalid(format!(
                "the route to {} and its gateway {gw} are of different families",
                route.dst
            )));
        }
        Ok(route)
    };
    list(ipam, "routes")?.into_iter().map(route).collect()
}

/// `dns` of an `ipam` section.
pub(super) fn dns(ipam: &Object<'_>) -> Result<Dns> {
    let mut dns = Dns::default();
    if let Some(object) = object(ipam, "dns")? {
        dns.nameservers = member(&object, "nameservers")?.unwrap_or_default();
        dns.domain = member(&object, "domain")?.unwrap_or_default();
        dns.search = member(&object, "search")?.unwrap_or_default();
        dns.options = member(&object, "options")?.unwrap_or_default();
    }
    Ok(dns)
}

fn decode<'a, T: Deserialize<'a>>(value: &'a RawValue, key: &str) -> Result<T> {
    serde_json::from_str(value.get()).map_err(|error| {
        Error::new(ErrorKind::Decode, format!("{key:?} has the wrong type: {}", value.get()))
            .with_source(error)
    })
}

pub(super) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}
