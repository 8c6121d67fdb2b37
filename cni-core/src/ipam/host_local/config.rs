//! What `host-local` is configured with.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::ipam::ranges::{Range, RangeSet, RangeSpec};
use crate::ipam::requested;
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
        args.reject_unknown(&["IP", "MAC"])?;
        let mut asked = Vec::new();
        if let Some(text) = args.value("IP").filter(|text| !text.is_empty()) {
            asked.push(requested::parse(text)?);
        }
        asked.extend(requested::of_config(config)?);
        let mut asked: Vec<IpAddr> = asked.iter().map(|ip| ip.address.to_canonical()).collect();
        asked.sort();
        asked.dedup();
        let sets = sets(&ipam, config)?;
        check(&sets, config.version())?;
        let routes: Result<Vec<Route>> = ipam.objects("routes")?.iter().map(Route::read).collect();
        Ok(Self {
            data_dir: data_dir(config)?,
            sets,
            routes: routes?,
            dns: resolv_conf(&ipam)?,
            requested: asked,
        })
    }
}

/// The directory that holds all networks' stores. All that DEL and GC need.
pub(super) fn data_dir(config: &NetworkConfig) -> Result<PathBuf> {
    let dir = match config.ipam()? {
        Some(ipam) => ipam.string("dataDir")?,
        None => None,
    };
    Ok(dir
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| DEFAULT_DATA_DIR.into(), PathBuf::from))
}

fn section(config: &NetworkConfig) -> Result<Object<'_>> {
    config.ipam()?.ok_or_else(|| {
        invalid("the configuration has no `ipam` section, which host-local needs".to_owned())
    })
}

/// `ipRanges` of the runtime first, then the old single range, then `ranges`.
fn sets(ipam: &Object<'_>, config: &NetworkConfig) -> Result<Vec<RangeSet>> {
    let mut sets = Vec::new();
    if let Some(runtime) = config.object()?.object("runtimeConfig")? {
        for set in range_lists(&runtime, "ipRanges")? {
            sets.push(range_set(&set, sets.len())?);
        }
    }
    if ipam
        .string("subnet")?
        .is_some_and(|subnet| !subnet.is_empty())
    {
        let set = range(ipam).and_then(|range| RangeSet::new(vec![range]));
        sets.push(set.map_err(|error| in_set(error, sets.len()))?);
    }
    for set in range_lists(ipam, "ranges")? {
        sets.push(range_set(&set, sets.len())?);
    }
    Ok(sets)
}

/// A list of lists of objects.
fn range_lists<'a>(object: &Object<'a>, key: &str) -> Result<Vec<Vec<Object<'a>>>> {
    let read = |(index, set): (usize, &'a serde_json::value::RawValue)| {
        let path = format!("{key}[{index}]");
        let ranges: Vec<&'a serde_json::value::RawValue> = serde_json::from_str(set.get())
            .map_err(|_| object.wrong_type(&path, set, "an array of ranges"))?;
        let ranges = ranges.into_iter().enumerate().map(|(range, value)| {
            Ok(Object::parse(value.get())?.at(object.path_of(&format!("{path}[{range}]"))))
        });
        ranges.collect()
    };
    object
        .elements(key)?
        .into_iter()
        .enumerate()
        .map(read)
        .collect()
}

fn range_set(ranges: &[Object<'_>], index: usize) -> Result<RangeSet> {
    let ranges: Result<Vec<Range>> = ranges.iter().map(range).collect();
    ranges
        .and_then(RangeSet::new)
        .map_err(|error| in_set(error, index))
}

fn in_set(error: Error, index: usize) -> Error {
    error.context(format!("range set {index} is not valid"))
}

fn range(object: &Object<'_>) -> Result<Range> {
    let subnet = object
        .prefix("subnet")?
        .ok_or_else(|| object.missing("subnet"))?;
    let mut spec = RangeSpec::new(subnet);
    spec.start = object.ip("rangeStart")?;
    spec.end = object.ip("rangeEnd")?;
    spec.gateway = object.ip("gateway")?;
    Range::new(&spec)
}

fn check(sets: &[RangeSet], version: SpecVersion) -> Result<()> {
    if sets.is_empty() {
        let message = "host-local has no addresses to hand out: give ipam `ranges` or `subnet`";
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
    let Some(path) = ipam.string("resolvConf")?.filter(|path| !path.is_empty()) else {
        return Ok(Dns::default());
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        invalid(format!("could not read the resolvConf file {path:?}")).with_source(error)
    })?;
    Ok(parse_resolv_conf(&text))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
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
