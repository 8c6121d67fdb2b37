//! The configuration's own keys: those of the reference `firewall` plugin.

use crate::error::Result;
use crate::spec::config::NetworkConfig;
use crate::spec::json::Object;

/// What a configuration asks of this plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirewallConfig {
    /// `backend`.
    pub backend: Backend,
    /// `iptablesAdminChainName`: the operator's chain, which comes first. Default `CNI-ADMIN`.
    pub admin_chain: String,
    /// `firewalldZone`: where firewalld rules, the zone that addresses are put into. Default `trusted`.
    pub zone: String,
    /// `ingressPolicy`.
    pub ingress: IngressPolicy,
}

/// Who is asked to let pods through beside our own table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// firewalld where it runs; nftables in any case.
    #[default]
    Auto,
    /// nftables alone. `iptables` is taken for it.
    Nftables,
    /// firewalld, which must run.
    Firewalld,
}

/// From where pods of the network are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IngressPolicy {
    /// From anywhere.
    #[default]
    Open,
    /// Not from other networks that have a policy.
    SameBridge,
    /// As [`IngressPolicy::SameBridge`], and not from each other.
    Isolated,
}

/// The longest name of a chain in iptables (`XT_EXTENSION_MAXNAMELEN` less the NUL): one that works there works here.
const CHAIN_MAX: usize = 28;
/// Names that our own chains have.
pub(super) const RESERVED: [&str; 5] = ["admin", "forward", "forwarded", "pods", "translated"];

impl FirewallConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode) for a member of the wrong type,
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) for a value that is none of those that a key has.
    pub fn parse(config: &NetworkConfig) -> Result<Self> {
        let object = config.object()?;
        Ok(Self {
            backend: backend(&object)?,
            admin_chain: admin_chain(&object)?,
            zone: zone(&object)?,
            ingress: ingress(&object)?,
        })
    }
}

fn text(object: &Object<'_>, key: &str) -> Result<String> {
    Ok(object.string(key)?.unwrap_or_default())
}

fn backend(object: &Object<'_>) -> Result<Backend> {
    const KEY: &str = "backend";
    match text(object, KEY)?.as_str() {
        "" => Ok(Backend::Auto),
        "nftables" => Ok(Backend::Nftables),
        "iptables" => {
            tracing::debug!(
                "\"backend\" is \"iptables\": nftables is used, which needs no program"
            );
            Ok(Backend::Nftables)
        }
        "firewalld" => Ok(Backend::Firewalld),
        other => Err(object.broken(
            KEY,
            other,
            "must be \"nftables\", \"iptables\" (which is taken for it), \"firewalld\" or absent",
        )),
    }
}

fn admin_chain(object: &Object<'_>) -> Result<String> {
    const KEY: &str = "iptablesAdminChainName";
    let name = text(object, KEY)?;
    if name.is_empty() {
        return Ok("CNI-ADMIN".to_owned());
    }
    let mut bytes = name.bytes();
    let begins = bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic());
    let plain = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !begins || !plain || name.len() > CHAIN_MAX {
        return Err(object.broken(
            KEY,
            name,
            "must be a chain's name: a letter, then letters, digits, '-', '_' and '.', 28 bytes at most",
        ));
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(object.broken(KEY, name, "must not be the name of a chain of our own"));
    }
    Ok(name)
}

/// `firewalldZone`: firewalld's own rule for names, and its limit (`max_zone_name_len` in firewall/functions.py).
pub(crate) fn zone(object: &Object<'_>) -> Result<String> {
    const KEY: &str = "firewalldZone";
    let name = text(object, KEY)?;
    if name.is_empty() {
        return Ok("trusted".to_owned());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte);
    match name.bytes().all(plain) {
        true => Ok(name),
        false => Err(object.broken(
            KEY,
            name,
            "must be a zone's name: letters, digits, '-', '_' and '/'",
        )),
    }
}

fn ingress(object: &Object<'_>) -> Result<IngressPolicy> {
    const KEY: &str = "ingressPolicy";
    match text(object, KEY)?.as_str() {
        "" | "open" => Ok(IngressPolicy::Open),
        "same-bridge" => Ok(IngressPolicy::SameBridge),
        "isolated" => Ok(IngressPolicy::Isolated),
        other => Err(object.broken(
            KEY,
            other,
            "must be \"open\", \"same-bridge\", \"isolated\" or absent",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn parse(keys: &str) -> Result<FirewallConfig> {
        let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"firewall"{keys}}}"#);
        FirewallConfig::parse(&NetworkConfig::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn defaults_are_the_reference_plugins() {
        for keys in [
            "",
            r#","backend":"","iptablesAdminChainName":"","firewalldZone":"","ingressPolicy":"""#,
            r#","INGRESSPOLICY":"open","unknown":1"#,
        ] {
            let config = parse(keys).unwrap();
            assert_eq!(config.backend, Backend::Auto);
            assert_eq!(config.admin_chain, "CNI-ADMIN");
            assert_eq!(config.zone, "trusted");
            assert_eq!(config.ingress, IngressPolicy::Open);
        }
    }

    #[test]
    fn iptables_is_taken_for_nftables() {
        for name in ["iptables", "nftables"] {
            let config = parse(&format!(r#","backend":"{name}""#)).unwrap();
            assert_eq!(config.backend, Backend::Nftables);
        }
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_key_and_the_rule() {
        for (keys, key, part) in [
            (r#","backend":"ebtables""#, "backend", "firewalld"),
            (
                r#","ingressPolicy":"closed""#,
                "ingressPolicy",
                "same-bridge",
            ),
            (r#","firewalldZone":"a b""#, "firewalldZone", "zone's name"),
            (
                r#","iptablesAdminChainName":"-x""#,
                "iptablesAdminChainName",
                "letter",
            ),
            (
                r#","iptablesAdminChainName":"forward""#,
                "iptablesAdminChainName",
                "own",
            ),
            (
                r#","iptablesAdminChainName":"A2345678901234567890123456789""#,
                "iptablesAdminChainName",
                "28",
            ),
        ] {
            let error = parse(keys).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
            assert!(error.to_string().contains(key), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
        let error = parse(r#","backend":1"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    }
}
