//! The configuration's own keys: those of the reference `tuning` plugin, under the same names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::host::netlink::MacAddr;
use crate::spec::InterfaceName;
use crate::spec::config::{CniArgs, NetworkConfig};
use crate::spec::json::Object;

use super::backup::DATA_DIR;
use super::parameter::path;

/// What a configuration asks of this plugin. `None` leaves a setting alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TuningConfig {
    /// `sysctl`: kernel parameters of the container's namespace. Those of `args.cni.sysctl` come on top.
    pub parameters: Vec<Parameter>,
    /// `mac`: the interface's hardware address. `CNI_ARGS` `MAC` overrules it, `runtimeConfig.mac` that, and `args.cni.mac` all.
    pub mac: Option<MacAddr>,
    /// `mtu` in bytes; absent and 0 leave it alone. The far end keeps its own.
    pub mtu: Option<u32>,
    /// `promisc`: promiscuous mode. `false` is as good as absent.
    pub promiscuous: Option<bool>,
    /// `allmulti`: all-multicast mode.
    pub all_multicast: Option<bool>,
    /// `txQLen`: transmit queue length in packets.
    pub tx_queue_len: Option<u32>,
}

/// A kernel parameter to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// As the configuration writes it.
    pub key: String,
    /// Path below `/proc/sys`.
    pub path: String,
    /// Value.
    pub value: String,
}

impl TuningConfig {
    /// Reads the configuration and `CNI_ARGS` for an interface.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for a member of the wrong type, [`ErrorKind::InvalidConfig`] for a value that is out of range,
    /// a parameter outside `net`, and one that is named twice, [`ErrorKind::InvalidEnvironment`] for a bad `MAC` in `CNI_ARGS`.
    pub fn parse(
        config: &NetworkConfig,
        args: &CniArgs,
        interface: &InterfaceName,
    ) -> Result<Self> {
        let own = config.object()?;
        let overrides = config.cni_args()?;
        let either = |key: &'static str| match overrides.member(key) {
            Some(_) => (&overrides, key),
            None => (&own, key),
        };
        let flag = |(object, key): (&Object<'_>, &str)| object.bool(key);
        Ok(Self {
            parameters: parameters(&own, &overrides, interface)?,
            mac: mac(&own, &overrides, args)?,
            mtu: mtu(either("mtu"))?,
            promiscuous: flag(either("promisc"))?.filter(|on| *on),
            all_multicast: flag(either("allmulti"))?,
            tx_queue_len: {
                let (object, key) = either("txQLen");
                object.u32_in(key, 0, i32::MAX as u32)?
            },
        })
    }

    /// `dataDir`: where what was there before is kept. DEL and GC need it however broken the rest is.
    pub fn data_dir(config: &NetworkConfig) -> PathBuf {
        let given = config.object().and_then(|own| own.string("dataDir"));
        let given = given.ok().flatten().filter(|path| !path.is_empty());
        PathBuf::from(given.as_deref().unwrap_or(DATA_DIR))
    }
}

/// What [`TuningConfig::data_dir`] passes over.
pub(super) fn check_data_dir(config: &NetworkConfig) -> Result<()> {
    config.object()?.string("dataDir").map(drop)
}

fn parameters(
    own: &Object<'_>,
    overrides: &Object<'_>,
    interface: &InterfaceName,
) -> Result<Vec<Parameter>> {
    let mut all: BTreeMap<String, Parameter> = BTreeMap::new();
    for source in [own, overrides] {
        let mut here: BTreeMap<String, Parameter> = BTreeMap::new();
        let Some(section) = source.object("sysctl")? else {
            continue;
        };
        for (key, value) in section.iter() {
            let value: String = serde_json::from_str(value.get())
                .map_err(|_| section.wrong_type(key, value, "a string, such as \"1\""))?;
            let path = path(key, interface.as_str())
                .map_err(|rule| section.broken(key, &value, &format!("the key {rule}")))?;
            let parameter = Parameter {
                key: key.to_owned(),
                path: path.clone(),
                value,
            };
            if let Some(other) = here.insert(path, parameter) {
                let rule = format!(
                    "{:?} names the same parameter: remove one of them",
                    other.key
                );
                return Err(section.broken(key, other.value, &rule));
            }
        }
        all.extend(here);
    }
    Ok(all.into_values().collect())
}

fn mtu((object, key): (&Object<'_>, &str)) -> Result<Option<u32>> {
    // The smallest that IPv4 allows on a link (RFC 791).
    const LEAST: u32 = 68;
    match object.u32_in(key, 0, i32::MAX as u32)? {
        None | Some(0) => Ok(None),
        Some(mtu) if mtu < LEAST => {
            Err(object.broken(key, mtu, "must be 0, for what it is, or at least 68"))
        }
        Some(mtu) => Ok(Some(mtu)),
    }
}

fn mac(own: &Object<'_>, overrides: &Object<'_>, args: &CniArgs) -> Result<Option<MacAddr>> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let runtime = own.object("runtimeConfig")?.unwrap_or_default();
    let sources = [(overrides, "args.cni.mac"), (&runtime, "runtimeConfig.mac")];
    for (object, what) in sources {
        if let Some(text) = given(object.string("mac")?) {
            return parse_mac(what, &text, ErrorKind::InvalidConfig).map(Some);
        }
    }
    if let Some(text) = given(args.value("MAC").map(str::to_owned)) {
        return parse_mac("MAC of CNI_ARGS", &text, ErrorKind::InvalidEnvironment).map(Some);
    }
    match given(own.string("mac")?) {
        Some(text) => parse_mac("mac", &text, ErrorKind::InvalidConfig).map(Some),
        None => Ok(None),
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

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
