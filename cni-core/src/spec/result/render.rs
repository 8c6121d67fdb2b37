//! Writing results of every version.

use std::fmt::Write;

use super::{AddResult, Dns, Extra, Interface, IpConfig, Route};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::version::{Family, SpecVersion};

pub(super) fn result(result: &AddResult, version: SpecVersion) -> Result<String> {
    let writer = Writer {
        version,
        extras: result
            .origin
            .is_none_or(|origin| same_text(origin, version)),
    };
    let mut out = Members::new();
    out.string("cniVersion", version.as_str());
    if version.family() == Family::Ip4Ip6 {
        let known_empty = result
            .origin
            .is_some_and(|origin| origin.family() == Family::Ip4Ip6);
        if result.ips.is_empty() && !known_empty {
            return Err(Error::new(
                ErrorKind::IncompatibleVersion,
                format!(
                    "the result has no address, and a result of cniVersion {version} needs one; use 0.3.0 or newer"
                ),
            ));
        }
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let mut ips = result.ips.iter();
            if let Some(ip) = ips.find(|ip| ip.address.is_ipv4() == v4) {
                let routes = result.routes.iter().filter(|r| r.dst.is_ipv4() == v4);
                out.raw(key, &writer.old_ip(ip, routes));
            }
        }
    } else {
        out.list(
            "interfaces",
            result.interfaces.iter().map(|i| writer.interface(i)),
        );
        out.list("ips", result.ips.iter().map(|ip| writer.ip(ip)));
        out.list("routes", result.routes.iter().map(|r| writer.route(r)));
    }
    let dns = writer.dns(&result.dns);
    // The reference implementation prints an empty `dns` before 1.0.0, and runtimes of that time expect one.
    if dns != "{}" || version < SpecVersion::V1_0_0 {
        out.raw("dns", &dns);
    }
    writer.extra(&mut out, &result.extra);
    Ok(out.end())
}

/// Whether results of two versions differ in nothing but the version itself.
fn same_text(a: SpecVersion, b: SpecVersion) -> bool {
    a == b || (a.family() == b.family() && a.family() != Family::Ips)
}

struct Writer {
    version: SpecVersion,
    extras: bool,
}

impl Writer {
    fn interface(&self, interface: &Interface) -> String {
        let mut out = Members::new();
        out.string("name", &interface.name);
        out.text("mac", &interface.mac);
        if self.version >= SpecVersion::V1_1_0 {
            out.number("mtu", interface.mtu);
        }
        out.text("sandbox", &interface.sandbox);
        if self.version >= SpecVersion::V1_1_0 {
            out.text("socketPath", &interface.socket_path);
            out.text("pciID", &interface.pci_id);
        }
        self.extra(&mut out, &interface.extra);
        out.end()
    }

    fn ip(&self, ip: &IpConfig) -> String {
        let mut out = Members::new();
        if self.version.family() == Family::IpsWithVersion {
            out.string("version", if ip.address.is_ipv4() { "4" } else { "6" });
        }
        if let Some(index) = ip.interface {
            out.raw("interface", &index.to_string());
        }
        out.string("address", &ip.address.to_string());
        if let Some(gateway) = ip.gateway {
            out.string("gateway", &gateway.to_string());
        }
        self.extra(&mut out, &ip.extra);
        out.end()
    }

    fn old_ip<'a>(&self, ip: &IpConfig, routes: impl Iterator<Item = &'a Route>) -> String {
        let mut out = Members::new();
        out.string("ip", &ip.address.to_string());
        if let Some(gateway) = ip.gateway {
            out.string("gateway", &gateway.to_string());
        }
        out.list("routes", routes.map(|route| self.route(route)));
        self.extra(&mut out, &ip.extra);
        out.end()
    }

    fn route(&self, route: &Route) -> String {
        let mut out = Members::new();
        out.string("dst", &route.dst.to_string());
        if let Some(gw) = route.gw {
            out.string("gw", &gw.to_string());
        }
        if self.version >= SpecVersion::V1_1_0 {
            out.number("mtu", route.mtu);
            out.number("advmss", route.advmss);
            out.number("priority", route.priority);
            if let Some(table) = route.table {
                out.raw("table", &table.to_string());
            }
            if let Some(scope) = route.scope {
                out.raw("scope", &scope.to_string());
            }
        }
        self.extra(&mut out, &route.extra);
        out.end()
    }

    fn dns(&self, dns: &Dns) -> String {
        let mut out = Members::new();
        out.strings("nameservers", &dns.nameservers);
        out.text("domain", &dns.domain);
        out.strings("search", &dns.search);
        out.strings("options", &dns.options);
        self.extra(&mut out, &dns.extra);
        out.end()
    }

    fn extra(&self, out: &mut Members, extra: &Extra) {
        if self.extras {
            for (key, value) in extra {
                out.raw(key, value.get());
            }
        }
    }
}

/// The text of an object, member by member, so that numbers and unknown members stay as they were written.
struct Members(String);

impl Members {
    fn new() -> Self {
        Self(String::from("{"))
    }

    fn raw(&mut self, key: &str, value: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(key));
        self.0.push(':');
        self.0.push_str(value);
    }

    fn string(&mut self, key: &str, value: &str) {
        self.raw(key, &quoted(value));
    }

    /// A string, omitted when empty.
    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.string(key, value);
        }
    }

    /// A number, omitted when 0.
    fn number(&mut self, key: &str, value: u32) {
        if value != 0 {
            self.raw(key, &value.to_string());
        }
    }

    /// A list, omitted when empty.
    fn list(&mut self, key: &str, values: impl Iterator<Item = String>) {
        let mut text = String::new();
        for value in values {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{value}");
        }
        if !text.is_empty() {
            self.raw(key, &format!("[{text}]"));
        }
    }

    fn strings(&mut self, key: &str, values: &[String]) {
        self.list(key, values.iter().map(|value| quoted(value)));
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quoted(text: &str) -> String {
    // A string always serializes.
    serde_json::to_string(text).unwrap_or_default()
}
