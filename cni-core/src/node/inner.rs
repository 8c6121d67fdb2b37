//! The configuration that the inner backend gets: a pure function of the outer one and of what the node was given.

use ipnetwork::IpNetwork;
use serde_json::json;

use super::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::ipam::{Range, RangeSpec};
use crate::spec::config::NetworkConfig;
use crate::spec::json::Object;

/// What a node was given, as far as a pod has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// The node's own prefixes.
    pub(super) prefixes: Vec<IpNetwork>,
    /// The largest packet of a pod, in bytes.
    pub(super) mtu: Option<u32>,
}

/// Members of `attach` that the derived configuration has of its own.
const DECIDED: [&str; 9] = [
    "cniVersion",
    "name",
    "type",
    "isGateway",
    "isDefaultGateway",
    "gateways",
    "ipMasq",
    "mtu",
    "ipam",
];

/// Members of the outer configuration that reach the inner backend, where `attach` does not have them.
const PASSED_ON: [&str; 7] = [
    "dns",
    "args",
    "runtimeConfig",
    "capabilities",
    "prevResult",
    "cni.dev/valid-attachments",
    "cni.dev/attachments",
];

/// Members of `ipam` that the node's own prefixes take the place of.
const RANGES: [&str; 5] = ["ranges", "subnet", "rangeStart", "rangeEnd", "gateway"];

/// The only address management whose pool can be a node's own prefixes.
pub(super) const IPAM: &str = "host-local";

/// Refuses what would give pods other addresses than those of their node.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`], naming the key.
pub(super) fn check_ipam(config: &NetworkConfig) -> Result<()> {
    let rule = "a pod's addresses are of its node's own prefixes, which the cluster says";
    let object = config.object()?;
    if let Some(ipam) = object.object("ipam")? {
        if let Some(kind) = ipam.string("type")?.filter(|kind| !is_ours(kind)) {
            let rule = format!("must be \"{IPAM}\" or absent: {rule}");
            return Err(ipam.broken("type", kind, &rule));
        }
        for key in RANGES {
            if ipam.member(key).is_some() {
                let message = format!("`{}` cannot be set: {rule}", ipam.path_of(key));
                return Err(Error::new(ErrorKind::InvalidConfig, message));
            }
        }
    }
    match object.object("runtimeConfig")? {
        Some(runtime) if runtime.member("ipRanges").is_some() => Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("`runtimeConfig.ipRanges` cannot be set: {rule}; take the capability out"),
        )),
        _ => Ok(()),
    }
}

fn is_ours(kind: &str) -> bool {
    kind.is_empty() || kind == IPAM
}

/// The inner backend's configuration. Without `given` it is one for verbs that need neither addresses nor MTU, and nothing in
/// the outer configuration keeps it from being made: what cannot be read is left out.
///
/// # Errors
/// Those of [`NetworkConfig::parse`]; none is known to happen.
pub(super) fn config(
    outer: &NetworkConfig,
    attach: &Inner,
    given: Option<&Given>,
) -> Result<NetworkConfig> {
    let object = outer.object()?;
    let section = Object::parse(&attach.section).unwrap_or_default();
    let mut members = vec![
        text("cniVersion", json!(outer.version().as_str())),
        text("name", json!(outer.name().as_str())),
        text("type", json!(attach.kind)),
        text("isGateway", json!(true)),
        text("ipMasq", json!(false)),
    ];
    if let Some(mtu) = given.and_then(|given| given.mtu) {
        members.push(text("mtu", json!(mtu)));
    }
    if let Some(given) = given {
        members.push(text("gateways", gateways(&given.prefixes)));
    }
    let ipam = object.object("ipam").ok().flatten().unwrap_or_default();
    members.push(format!("\"ipam\":{}", ipam_section(&ipam, given)));
    let is_in = |list: &[&str], key: &str| list.iter().any(|name| name.eq_ignore_ascii_case(key));
    for (key, value) in section.iter().filter(|(key, _)| !is_in(&DECIDED, key)) {
        members.push(format!("{}:{}", json!(key), value.get()));
    }
    for key in PASSED_ON {
        if let (Some(value), None) = (object.find(key), section.find(key)) {
            members.push(format!("{}:{}", json!(key), value.get()));
        }
    }
    NetworkConfig::parse(format!("{{{}}}", members.join(",")).as_bytes())
}

/// The outer section, with the node's prefixes as ranges, and default routes in the families that it has prefixes of.
fn ipam_section(ipam: &Object<'_>, given: Option<&Given>) -> String {
    let mut members = vec![text("type", json!(IPAM))];
    let replaced = |key: &str| {
        let keys = RANGES.iter().chain(&["type", "routes"]);
        keys.into_iter().any(|name| name.eq_ignore_ascii_case(key))
    };
    for (key, value) in ipam.iter().filter(|(key, _)| !replaced(key)) {
        members.push(format!("{}:{}", json!(key), value.get()));
    }
    if let Some(given) = given {
        members.push(text("ranges", ranges(&given.prefixes)));
        members.push(format!(
            "\"routes\":[{}]",
            routes(ipam, &given.prefixes).join(",")
        ));
    }
    format!("{{{}}}", members.join(","))
}

/// One range set for each family: a pod gets one address of each.
fn ranges(prefixes: &[IpNetwork]) -> serde_json::Value {
    let set = |ipv6: bool| -> Vec<serde_json::Value> {
        let of_family = prefixes.iter().filter(|prefix| prefix.is_ipv6() == ipv6);
        of_family
            .map(|prefix| json!({ "subnet": prefix.to_string() }))
            .collect()
    };
    let sets = [set(false), set(true)];
    sets.into_iter().filter(|set| !set.is_empty()).collect()
}

/// The gateways of all ranges: pods of one node may have addresses of several prefixes, and of former ones.
fn gateways(prefixes: &[IpNetwork]) -> serde_json::Value {
    let gateways = prefixes.iter().filter_map(|prefix| {
        let range = Range::new(&RangeSpec::new(*prefix)).ok()?;
        Some(format!("{}/{}", range.gateway(), prefix.prefix()))
    });
    gateways.collect()
}

/// Those that the operator asks for, and the default ones that are not among them.
fn routes(ipam: &Object<'_>, prefixes: &[IpNetwork]) -> Vec<String> {
    let asked = ipam.elements("routes").unwrap_or_default();
    let known = ipam.objects("routes").unwrap_or_default();
    let known: Vec<IpNetwork> = known
        .iter()
        .filter_map(|route| route.prefix("dst").ok().flatten())
        .collect();
    let mut routes: Vec<String> = asked.iter().map(|route| route.get().to_owned()).collect();
    for (ipv6, default) in [(false, "0.0.0.0/0"), (true, "::/0")] {
        let has_pods = prefixes.iter().any(|prefix| prefix.is_ipv6() == ipv6);
        let mut asked = known.iter();
        let is_asked = asked.any(|dst| dst.prefix() == 0 && dst.is_ipv6() == ipv6);
        if has_pods && !is_asked {
            routes.push(json!({ "dst": default }).to_string());
        }
    }
    routes
}

fn text(key: &str, value: serde_json::Value) -> String {
    format!("\"{key}\":{value}")
}

#[cfg(test)]
#[path = "inner_tests.rs"]
mod tests;
