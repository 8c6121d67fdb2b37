//! Flannel's own configuration, which stands in etcd beside its leases: pure.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};
use serde::Deserialize;

use super::config::EtcdConfig;
use super::layout::Tunnel;
use super::ranges::Range;

/// The port of Flannel's tunnel where its configuration has none: the kernel's own.
const PORT: u16 = 8472;

/// What Flannel's daemons read from the key `config` (`pkg/subnet/config.go` and `pkg/backend` of flannel-io/flannel).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Shared {
    #[serde(rename = "EnableIPv4", default = "yes")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6", default)]
    enable_ipv6: bool,
    network: Option<String>,
    #[serde(default)]
    subnet_len: u8,
    subnet_min: Option<Ipv4Addr>,
    subnet_max: Option<Ipv4Addr>,
    #[serde(default)]
    backend: Backend,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Backend {
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "VNI")]
    vni: Option<u32>,
    port: u16,
    #[serde(rename = "GBP")]
    gbp: bool,
    direct_routing: bool,
}

fn yes() -> bool {
    true
}

impl Shared {
    /// Reads the key's value.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text)
            .map_err(|error| format!("it is no configuration of Flannel's: {error}"))
    }

    /// Whether its nodes have IPv6, too.
    pub fn has_ipv6(&self) -> bool {
        self.enable_ipv6
    }

    /// Where nodes' prefixes come from, if it can be joined with this configuration.
    ///
    /// # Errors
    /// A sentence that names both values where they contradict each other.
    pub fn join(&self, config: &EtcdConfig, tunnel: Tunnel) -> Result<Range, String> {
        self.meet(config, tunnel)?;
        let range = self.range()?;
        let here = config.networks.first();
        match here.filter(|here| !here.is_as(&range)) {
            None => Ok(range),
            Some(here) => Err(differ(
                "`Network` and `SubnetLen`",
                range,
                "`podNetworks`",
                here,
            )),
        }
    }

    fn range(&self) -> Result<Range, String> {
        let network = self.network.as_ref().filter(|_| self.enable_ipv4);
        let network =
            network.ok_or("it has no network of IPv4 (`Network`), which alone can be joined")?;
        let parsed = network.parse::<Ipv4Network>();
        let network = parsed.map_err(|_| format!("`Network` {network:?} is no network of IPv4"))?;
        let prefix = IpNetwork::V4(network);
        let length = match (self.subnet_len, network.prefix()) {
            (0, ..=22) => 24,
            (0, length) => length.saturating_add(2),
            (given, _) => given,
        };
        let range = (length <= 30)
            .then(|| Range::new(prefix, length))
            .flatten()
            .ok_or_else(|| format!("`Network` {network} cannot be cut into prefixes of length {length} (`SubnetLen`)"))?;
        // Flannel gives nobody the first one.
        let least = self.subnet_min.filter(|address| !address.is_unspecified());
        let most = self.subnet_max.filter(|address| !address.is_unspecified());
        let number = |name: &str, address: Ipv4Addr| {
            range.number_of(IpAddr::V4(address)).ok_or_else(|| {
                format!("`{name}` {address} is not the address of a prefix of length {length} in {network}")
            })
        };
        let least = least.map_or(Ok(1), |address| number("SubnetMin", address))?;
        let most = most.map_or(Ok(range.count() - 1), |address| {
            number("SubnetMax", address)
        })?;
        Ok(range.between(least, most))
    }

    /// Whether its packets are ours.
    fn meet(&self, config: &EtcdConfig, tunnel: Tunnel) -> Result<(), String> {
        let backend = &self.backend;
        let kind = backend.kind.as_deref().unwrap_or("udp");
        let (here, vni) = match tunnel {
            Tunnel::Vxlan(vni) => ("vxlan", Some(vni)),
            Tunnel::None => ("host-gw", None),
        };
        if kind != here {
            return Err(differ("`Backend.Type`", kind, "`type`", here));
        }
        let Some(vni) = vni else {
            return Ok(());
        };
        let there = backend.vni.unwrap_or(1);
        if there != vni {
            return Err(differ("`Backend.VNI`", there, "`vni`", vni));
        }
        let there = Some(backend.port).filter(|port| *port != 0).unwrap_or(PORT);
        let here = config.port.unwrap_or(PORT);
        if there != here {
            return Err(differ("`Backend.Port`", there, "`port`", here));
        }
        if backend.direct_routing != config.direct_routing {
            let (there, here) = (backend.direct_routing, config.direct_routing);
            return Err(differ(
                "`Backend.DirectRouting`",
                there,
                "`directRouting`",
                here,
            ));
        }
        match backend.gbp {
            true => Err(
                "`Backend.GBP` is true, and packets with group policies are not understood here"
                    .to_owned(),
            ),
            false => Ok(()),
        }
    }
}

fn differ(
    key: &str,
    there: impl std::fmt::Display,
    ours: &str,
    here: impl std::fmt::Display,
) -> String {
    format!("{key} is {there} there, and {ours} is {here} here: they have to be the same")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(there: &str, here: &str) -> Result<Range, String> {
        let section = format!(r#"{{"endpoints":["http://h:1"],"layout":"flannel"{here}}}"#);
        let config = EtcdConfig::parse(&section, "net").unwrap();
        Shared::parse(there.as_bytes())?.join(&config, Tunnel::Vxlan(1))
    }

    const VXLAN: &str = r#""Backend":{"Type":"vxlan"}"#;

    #[test]
    fn prefixes_are_those_that_flannel_gives() {
        let first_and_last = |text: &str| {
            let range = joined(text, "").unwrap();
            let mut all: Vec<IpNetwork> = range.order("n1").collect();
            all.sort();
            format!("{} to {}, {}", all[0], all[all.len() - 1], all.len())
        };
        let network = |more: &str| format!(r#"{{"Network":"10.244.0.0/16"{more},{VXLAN}}}"#);
        assert_eq!(
            first_and_last(&network("")),
            "10.244.1.0/24 to 10.244.255.0/24, 255"
        );
        assert_eq!(
            first_and_last(&network(
                r#","SubnetLen":26,"SubnetMin":"10.244.0.128","SubnetMax":"10.244.1.0""#
            )),
            "10.244.0.128/26 to 10.244.1.0/26, 3"
        );
        let small = format!(r#"{{"Network":"10.244.0.0/23",{VXLAN}}}"#);
        assert_eq!(
            first_and_last(&small),
            "10.244.0.128/25 to 10.244.1.128/25, 3"
        );
    }

    #[test]
    fn a_contradiction_names_both_values() {
        let pods = r#","podNetworks":[{"prefix":"10.244.0.0/16"}]"#;
        assert!(joined(&format!(r#"{{"Network":"10.244.0.0/16",{VXLAN}}}"#), pods).is_ok());
        let network = r#""Network":"10.244.0.0/16""#;
        for (there, words) in [
            (
                format!(r#"{{"Network":"10.9.0.0/16",{VXLAN}}}"#),
                ["10.9.0.0/16 in /24", "10.244.0.0/16 in /24"],
            ),
            (
                format!(r#"{{{network},"SubnetLen":26,{VXLAN}}}"#),
                ["10.244.0.0/16 in /26", "10.244.0.0/16 in /24"],
            ),
            (format!("{{{network}}}"), ["udp", "vxlan"]),
            (
                format!(r#"{{{network},"Backend":{{"Type":"vxlan","VNI":7}}}}"#),
                ["is 7 there", "is 1 here"],
            ),
            (
                format!(r#"{{{network},"Backend":{{"Type":"vxlan","Port":4789}}}}"#),
                ["is 4789 there", "is 8472 here"],
            ),
            (
                format!(r#"{{{network},"Backend":{{"Type":"vxlan","DirectRouting":true}}}}"#),
                ["is true there", "is false here"],
            ),
            (
                format!(r#"{{{network},"Backend":{{"Type":"vxlan","GBP":true}}}}"#),
                ["GBP", "not understood"],
            ),
            (
                format!(r#"{{{network},"SubnetMin":"10.244.0.1",{VXLAN}}}"#),
                ["SubnetMin", "10.244.0.1"],
            ),
            (format!("{{{VXLAN}}}"), ["no network of IPv4", "Network"]),
            ("[]".to_owned(), ["no configuration", "Flannel"]),
        ] {
            let error = joined(&there, pods).unwrap_err();
            assert!(
                words.iter().all(|word| error.contains(word)),
                "{there}: {error}"
            );
        }
    }
}
