//! What `host-local` is configured with.

use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::value::RawValue;

use crate::error::Result;
use crate::ipam::ranges::{Range, RangeSet, RangeSpec};
use crate::ipam::value::{self, invalid};
use crate::spec::config::{CniArgs, NetworkConfig};
use crate::spec::json::Object;
use crate::spec::{Dns, Route, SpecVersion};

/// Where the reference plugin keeps its reservations.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

/// The checked configuration of one call.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) data_dir: PathBuf,
    pub(super) sets: Vec<RangeSet>,
    pub(super) routes: Vec<Route>,
    pub(super) dns: Dns,
    /// Addresses asked for: `CNI_ARGS IP`, `args.cni.ips`, capability `ips`.
    pub(super) requested: Vec<IpAddr>,
}

impl Settings {
    /// Reads and checks everything; `resolvConf` is read from its file.
    pub(super) fn parse(config: &NetworkConfig, args: &CniArgs) -> Result<Self> {
        let ipam = section(config)?;
        let all = config.object()?;
        args.reject_unknown(&["IP", "GATEWAY"])?;
        let mut requested = Vec::new();
        if let Some(text) = args.value("IP").filter(|text| !text.is_empty()) {
            requested.push(value::parse_ip_or_network(text, "CNI_ARGS IP")?.0);
        }
        let runtime = value::object(&all, "runtimeConfig")?;
        let cni_args = match value::object(&all, "args")? {
            Some(args) => value::object(&args, "cni")?,
            None => None,
        };
        for (object, key) in [(&cni_args, "ips"), (&runtime, "ips")] {
            if let Some(object) = object {
                requested.extend(value::ips(object, key)?.into_iter().map(|(ip, _)| ip));
            }
        }
        requested.sort();
        requested.dedup();
        let sets = sets(&ipam, runtime.as_ref())?;
        check(&sets, config.version())?;
        Ok(Self {
            data_dir: data_dir(config)?,
            sets,
            routes: value::routes(&ipam)?,
            dns: resolv_conf(&ipam)?,
            requested,
        })
    }
}

/// The directory that holds all networks' stores. All that DEL and GC need.
pub(super) fn data_dir(config: &NetworkConfig) -> Result<PathBuf> {
    let dir: Option<String> = match config.ipam()? {
        Some(ipam) => value::member(&ipam, "dataDir")?,
        None => None,
    };
    Ok(dir.filter(|dir| !dir.is_empty()).map_or_else(|| DEFAULT_DATA_DIR.into(), PathBuf::from))
}

fn section(config: &NetworkConfig) -> Result<Object<'_>> {
    config.ipam()?.ok_or_else(|| {
        invalid("the configuration has no \"ipam\" section, which host-local needs".to_owned())
    })
}

/// `ipRanges` of the runtime first, then the old single range, then `ranges`.
fn sets(ipam: &Object<'_>, runtime: Option<&Object<'_>>) -> Result<Vec<RangeSet>> {
    let mut sets = Vec::new();
    if let Some(runtime) = runtime {
        for set in value::list(runtime, "ipRanges")? {
            sets.push(range_set(set, sets.len())?);
        }
    }
    let single: Option<String> = value::member(ipam, "subnet")?;
    if single.is_some_and(|subnet| !subnet.is_empty()) {
        let set = range(ipam).and_then(|range| RangeSet::new(vec![range]));
        sets.push(set.map_err(|error| in_set(error, sets.len()))?);
    }
    for set in value::list(ipam, "ranges")? {
        sets.push(range_set(set, sets.len())?);
    }
    Ok(sets)
}

fn range_set(set: &RawValue, index: usize) -> Result<RangeSet> {
    let ranges: Vec<&RawValue> = serde_json::from_str(set.get()).map_err(|error| {
        let error = invalid("is not a list of ranges".to_owned()).with_source(error);
        in_set(error, index)
    })?;
    let ranges: Result<Vec<Range>> = ranges
        .into_iter()
        .map(|value| range(&value::as_object(value, "a range")?))
        .collect();
    ranges.and_then(RangeSet::new).map_err(|error| in_set(error, index))
}

fn in_set(error: crate::Error, index: usize) -> crate::Error {
    let message = format!("range set {index} is not valid: {error}");
    error.context(message)
}

fn range(object: &Object<'_>) -> Result<Range> {
    let subnet: Option<String> = value::member(object, "subnet")?;
    let subnet = subnet.ok_or_else(|| invalid("a range has no \"subnet\"".to_owned()))?;
    let mut spec = RangeSpec::new(value::parse_network(&subnet, "subnet")?);
    spec.start = value::ip(object, "rangeStart")?;
    spec.end = value::ip(object, "rangeEnd")?;
    spec.gateway = value::ip(object, "gateway")?;
    Range::new(&spec)
}

fn check(sets: &[RangeSet], version: SpecVersion) -> Result<()> {
    if sets.is_empty() {
        let message = "host-local has no addresses to hand out: give ipam \"ranges\" or \"subnet\"";
        return Err(invalid(message.to_owned()));
    }
    for (index, set) in sets.iter().enumerate() {
        for (other_index, other) in sets.iter().enumerate().skip(index + 1) {
            if let Some((range, other)) = set.overlapping(other) {
                return Err(invalid(format!(
                    "range set {index} ({range}) overlaps with range set {other_index} ({other})"
                )));
            }
        }
    }
    let of_family = |v4| sets.iter().filter(|set| set.is_ipv4() == v4).count();
    if version < SpecVersion::V0_3_0 && (of_family(true) > 1 || of_family(false) > 1) {
        let message = "cniVersion below 0.3.0 allows one address of each family: remove range sets \
                       or raise cniVersion";
        return Err(invalid(message.to_owned()));
    }
    Ok(())
}

/// `resolvConf`: the file's `nameserver`, `domain`, `search` and `options` lines (resolv.conf(5)).
fn resolv_conf(ipam: &Object<'_>) -> Result<Dns> {
    let path: Option<String> = value::member(ipam, "resolvConf")?;
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        return Ok(Dns::default());
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        invalid(format!("could not read the resolvConf file {path:?}")).with_source(error)
    })?;
    Ok(parse_resolv_conf(&text))
}

fn parse_resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_lines_become_dns() {
        let text = "# c\nnameserver 192.0.2.1\nnameserver fd00::53\ndomain a.test\n\
                    search a.test b.test\noptions ndots:5 rotate\n;x\nsortlist 1\n";
        let dns = parse_resolv_conf(text);
        assert_eq!(dns.nameservers, ["192.0.2.1", "fd00::53"]);
        assert_eq!(dns.domain, "a.test");
        assert_eq!(dns.search, ["a.test", "b.test"]);
        assert_eq!(dns.options, ["ndots:5", "rotate"]);
    }
}
