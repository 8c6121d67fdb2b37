//! The configuration's own keys: those of the reference `bridge` plugin, under the same names and defaults.

use cni_core::host::netlink::MacAddr;
use cni_core::ipnetwork::IpNetwork;
use cni_core::spec::config::{CniArgs, NetworkConfig};
use cni_core::spec::json::{Object, parse_prefix};
use cni_core::spec::{Dns, InterfaceName};
use cni_core::{Error, ErrorKind, Result};

/// What a configuration asks of this backend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeConfig {
    /// `bridge`: name of the bridge. Default `cni0`.
    pub bridge: String,
    /// `isGateway`, and whatever `isDefaultGateway` implies: the bridge bears the gateway's address.
    pub is_gateway: bool,
    /// `isDefaultGateway`: the container's default route goes through the bridge. Implies `isGateway`.
    pub is_default_gateway: bool,
    /// `gateways`: addresses that the bridge bears besides the gateway of the container's own address, with the lengths of their
    /// prefixes: those of all prefixes that containers get addresses of. With it, further IPv4 addresses of the bridge are
    /// left alone as IPv6 ones are, where their prefixes do not overlap a gateway's. Ours; the reference has no such key.
    pub gateways: Vec<IpNetwork>,
    /// `forceAddress`: another address in the gateway's place is removed rather than an error.
    pub force_address: bool,
    /// `ipMasq`: what leaves the network is masqueraded.
    pub ip_masq: bool,
    /// `mtu` in bytes; `None` (absent or 0) is what is right for the uplink.
    pub mtu: Option<u32>,
    /// `hairpinMode`: frames may go back out of the port they came in by.
    pub hairpin: bool,
    /// `promiscMode`: the bridge itself is promiscuous. Excludes `hairpinMode`.
    pub promiscuous: bool,
    /// `vlan`: the VLAN of the container's untagged frames, 1 to 4094; `None` when absent or 0.
    pub vlan: Option<u16>,
    /// `vlanTrunk`: VLANs that reach the container with their tags, as merged ranges in order.
    /// Without `vlan`, untagged frames are in VLAN 1.
    pub trunk: Vec<VlanRange>,
    /// `preserveDefaultVlan`: the port keeps the bridge's default VLAN. Default false, as the reference's code has it
    /// (its documentation says true).
    pub preserve_default_vlan: bool,
    /// `macspoofchk`: frames with another source address than the container's are dropped.
    pub mac_spoof_check: bool,
    /// `enabledad`: IPv6 duplicate address detection runs, and ADD waits for it.
    pub enable_dad: bool,
    /// `disableContainerInterface`: the container's end stays down. Excludes `ipam`.
    pub disable_container_interface: bool,
    /// `portIsolation`: containers on this bridge do not reach each other through it.
    pub port_isolation: bool,
    /// The container's hardware address: `CNI_ARGS` `MAC`, overruled by `args.cni.mac`, overruled by
    /// `runtimeConfig.mac`.
    pub mac: Option<MacAddr>,
    /// Whether the `ipam` section names a plugin; without it the network is a bare layer 2.
    pub has_ipam: bool,
    /// `dns`: overrules what address management says, when any of its fields is set.
    pub dns: Dns,
}

/// VLANs from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VlanRange {
    /// First VLAN ID.
    pub first: u16,
    /// Last VLAN ID.
    pub last: u16,
}

/// VLAN IDs end here: 4095 is reserved (IEEE 802.1Q).
const VLAN_MAX: u32 = 4094;

/// The smallest MTU that IPv4 allows on a link (RFC 791), and the largest that veth takes (`ETH_MAX_MTU`).
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;

impl BridgeConfig {
    /// Reads the configuration and, when the verb has them, `CNI_ARGS`.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for a member of the wrong type, [`ErrorKind::InvalidConfig`] for a value that is out of
    /// range or members that exclude each other, [`ErrorKind::InvalidEnvironment`] for a bad `MAC` in `CNI_ARGS`.
    pub fn parse(config: &NetworkConfig, args: Option<&CniArgs>) -> Result<Self> {
        let object = config.object()?;
        let flag = |key| object.bool(key).map(Option::unwrap_or_default);
        let is_default_gateway = flag("isDefaultGateway")?;
        let parsed = Self {
            bridge: bridge_name(&object)?,
            is_gateway: flag("isGateway")? || is_default_gateway,
            is_default_gateway,
            gateways: gateways(&object)?,
            force_address: flag("forceAddress")?,
            ip_masq: flag("ipMasq")?,
            mtu: mtu(&object)?,
            hairpin: flag("hairpinMode")?,
            promiscuous: flag("promiscMode")?,
            vlan: vlan(&object, "vlan", 0)?.filter(|id| *id != 0),
            trunk: trunk(&object)?,
            preserve_default_vlan: flag("preserveDefaultVlan")?,
            mac_spoof_check: flag("macspoofchk")?,
            enable_dad: flag("enabledad")?,
            disable_container_interface: flag("disableContainerInterface")?,
            port_isolation: flag("portIsolation")?,
            mac: mac(config, args)?,
            has_ipam: config.ipam_type()?.is_some_and(|kind| !kind.is_empty()),
            dns: config.dns()?,
        };
        masquerade_backend(&object)?;
        parsed.consistent()?;
        Ok(parsed)
    }

    /// Whether the bridge has to filter by VLAN.
    pub fn uses_vlans(&self) -> bool {
        self.vlan.is_some() || !self.trunk.is_empty()
    }

    fn consistent(&self) -> Result<()> {
        if self.hairpin && self.promiscuous {
            return Err(invalid(
                "\"hairpinMode\" and \"promiscMode\" cannot both be true: set one of them to false",
            ));
        }
        if self.disable_container_interface && self.has_ipam {
            return Err(invalid(
                "\"disableContainerInterface\" excludes \"ipam\": an interface that is down takes no address",
            ));
        }
        if let (true, Some(vlan)) = (self.is_gateway, self.vlan) {
            let name = format!("{}.{vlan}", self.bridge);
            if name.len() > 15 {
                return Err(invalid(format!(
                    "\"isGateway\" with \"vlan\" needs an interface {name:?}, which is longer than 15 bytes: shorten \"bridge\""
                )));
            }
        }
        Ok(())
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

fn bridge_name(object: &Object<'_>) -> Result<String> {
    let name = object.string("bridge")?.unwrap_or_default();
    if name.is_empty() {
        return Ok("cni0".to_owned());
    }
    let rule = "must be an interface name: 1 to 15 bytes without '/', ':' and white space";
    match name.parse::<InterfaceName>() {
        Ok(_) => Ok(name),
        Err(_) => Err(object.broken("bridge", name, rule)),
    }
}

fn gateways(object: &Object<'_>) -> Result<Vec<IpNetwork>> {
    const KEY: &str = "gateways";
    let rule = "must be addresses with the lengths of their prefixes, such as \"10.1.0.1/24\"";
    let texts = object.strings(KEY)?;
    let parsed = texts.iter().map(|text| {
        let address = text.contains('/').then(|| parse_prefix(text)).flatten();
        address.ok_or_else(|| object.broken(KEY, text, rule))
    });
    parsed.collect()
}

fn mtu(object: &Object<'_>) -> Result<Option<u32>> {
    let rule = "must be 0, for the uplink's, or from 68 to 65535";
    match object.i64("mtu")?.map(u32::try_from) {
        None | Some(Ok(0)) => Ok(None),
        Some(Ok(mtu)) if MTU_RANGE.contains(&mtu) => Ok(Some(mtu)),
        Some(Ok(mtu)) => Err(object.broken("mtu", mtu, rule)),
        Some(Err(_)) => Err(object.broken("mtu", object.i64("mtu")?.unwrap_or_default(), rule)),
    }
}

fn vlan(object: &Object<'_>, key: &str, min: u32) -> Result<Option<u16>> {
    let id = object.u32_in(key, min, VLAN_MAX)?;
    Ok(id.and_then(|id| u16::try_from(id).ok()))
}

fn trunk(object: &Object<'_>) -> Result<Vec<VlanRange>> {
    let mut ranges = Vec::new();
    for item in object.objects("vlanTrunk")? {
        match (vlan(&item, "minID", 1)?, vlan(&item, "maxID", 1)?) {
            (Some(first), Some(last)) if first > last => {
                return Err(item.broken("minID", first, "must not be greater than maxID"));
            }
            (Some(first), Some(last)) => ranges.push(VlanRange { first, last }),
            (None, None) => {}
            (Some(first), None) => {
                return Err(item.broken("minID", first, "needs maxID beside it"));
            }
            (None, Some(last)) => return Err(item.broken("maxID", last, "needs minID beside it")),
        }
        if let Some(id) = vlan(&item, "id", 1)? {
            ranges.push(VlanRange {
                first: id,
                last: id,
            });
        }
    }
    Ok(merged(ranges))
}

fn merged(mut ranges: Vec<VlanRange>) -> Vec<VlanRange> {
    ranges.sort_unstable();
    let mut merged: Vec<VlanRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

fn mac(config: &NetworkConfig, args: Option<&CniArgs>) -> Result<Option<MacAddr>> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let object = config.object()?;
    if let Some(runtime) = object.object("runtimeConfig")?
        && let Some(text) = given(runtime.string("mac")?)
    {
        return parse_mac("runtimeConfig.mac", &text, ErrorKind::InvalidConfig).map(Some);
    }
    if let Some(text) = given(config.cni_args()?.string("mac")?) {
        return parse_mac("args.cni.mac", &text, ErrorKind::InvalidConfig).map(Some);
    }
    match args.and_then(|args| args.value("MAC")) {
        None | Some("") => Ok(None),
        Some(text) => parse_mac("MAC of CNI_ARGS", text, ErrorKind::InvalidEnvironment).map(Some),
    }
}

fn parse_mac(what: &str, text: &str, kind: ErrorKind) -> Result<MacAddr> {
    let refuse = |why: &str| Err(Error::new(kind, format!("{what} is {text:?}, {why}")));
    let Ok(mac) = text.parse::<MacAddr>() else {
        return refuse("which is no hardware address like 02:42:ac:11:00:02");
    };
    let MacAddr([first, ..]) = mac;
    if mac.is_zero() || first & 1 == 1 {
        return refuse("which no interface can have: it must be a unicast address and not zero");
    }
    Ok(mac)
}

/// Accepted so that configurations carry over; the rules are always nftables', and an iptables policy stands beside
/// them.
fn masquerade_backend(object: &Object<'_>) -> Result<()> {
    let name = object.string("ipMasqBackend")?.unwrap_or_default();
    match name.as_str() {
        "" | "iptables" | "nftables" => Ok(()),
        other => Err(object.broken(
            "ipMasqBackend",
            other,
            "must be \"iptables\", \"nftables\" or absent",
        )),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
