//! The configuration's own keys: those of the reference `portmap` plugin, under the same names and defaults.

use crate::error::{Error, ErrorKind, Result};
use crate::host::firewall::Family;
use crate::spec::config::{NetworkConfig, PortMapping};
use crate::spec::json::Object;

use super::conditions::{self, Alternatives};

/// What a configuration asks of this plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortmapConfig {
    /// `runtimeConfig.portMappings`: the ports to publish.
    pub mappings: Vec<PortMapping>,
    /// `snat`: connections whose answers would not come back by the host get the host's address: those of the pod itself, of
    /// its neighbours, and of 127.0.0.1. Default true.
    pub snat: bool,
    /// `masqAll`: all connections do. Without `snat`, none.
    pub masq_all: bool,
    /// `markMasqBit`, where it is given: this bit, 0 to 31, is set in the mark of packets whose source will be masqueraded.
    /// The masquerade does not need it.
    pub mark_bit: Option<u8>,
    /// `conditionsV4`: what IPv4 packets must match.
    pub conditions_v4: Alternatives,
    /// `conditionsV6`: what IPv6 packets must match.
    pub conditions_v6: Alternatives,
}

impl PortmapConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for a member of the wrong type, [`ErrorKind::InvalidConfig`] for a value that is out of range or
    /// not understood, [`ErrorKind::UnsupportedField`] for `externalSetMarkChain`.
    pub fn parse(config: &NetworkConfig) -> Result<Self> {
        let object = config.object()?;
        backend(&object)?;
        external_chain(&object)?;
        let mark_bit = object.u32_in("markMasqBit", 0, 31)?;
        Ok(Self {
            mappings: config.runtime_config()?.port_mappings,
            snat: object.bool("snat")?.unwrap_or(true),
            masq_all: object.bool("masqAll")?.unwrap_or(false),
            mark_bit: mark_bit.and_then(|bit| u8::try_from(bit).ok()),
            conditions_v4: conditions(&object, "conditionsV4", Family::Ip)?,
            conditions_v6: conditions(&object, "conditionsV6", Family::Ip6)?,
        })
    }

    /// The conditions of a family.
    pub fn conditions(&self, family: Family) -> &Alternatives {
        match family {
            Family::Ip6 => &self.conditions_v6,
            _ => &self.conditions_v4,
        }
    }
}

/// Accepted so that configurations carry over: ports are always published by nftables.
fn backend(object: &Object<'_>) -> Result<()> {
    let name = object.string("backend")?.unwrap_or_default();
    match name.as_str() {
        "" | "nftables" => Ok(()),
        "iptables" => {
            tracing::debug!("\"backend\" is iptables; ports are published by nftables");
            Ok(())
        }
        other => {
            let rule = "must be \"iptables\", \"nftables\" or absent";
            Err(object.broken("backend", other, rule))
        }
    }
}

fn external_chain(object: &Object<'_>) -> Result<()> {
    let name = object.string("externalSetMarkChain")?.unwrap_or_default();
    if name.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::UnsupportedField,
        format!(
            "`externalSetMarkChain` is {name:?}, a chain of iptables, which nftables cannot jump to: leave it out, and use \
             `markMasqBit` for a mark on what is masqueraded, or `masqAll` to have everything masqueraded"
        ),
    ))
}

fn conditions(object: &Object<'_>, key: &str, family: Family) -> Result<Alternatives> {
    let words = object.strings(key)?;
    conditions::parse(&words, family).map_err(|why| object.broken(key, words.join(" "), &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<PortmapConfig> {
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"n","type":"portmap"{keys}}}"#);
        PortmapConfig::parse(&NetworkConfig::parse(text.as_bytes())?)
    }

    #[test]
    fn defaults_are_the_references() {
        let config = parse("").unwrap();
        assert!(config.snat && !config.masq_all && config.mappings.is_empty());
        assert_eq!(config.mark_bit, None);
        assert_eq!(config.conditions_v4, [Vec::new()]);
    }

    #[test]
    fn keys_are_read_as_go_reads_them() {
        let config = parse(
            r#","SNAT":false,"masqall":true,"MarkMasqBit":7,"conditionsv4":null,"conditionsV6":["!","-s","fd00::/8"],
               "runtimeConfig":{"portMappings":[{"HostPort":1,"ContainerPort":2,"Protocol":"UDP","HostIP":""}]}"#,
        )
        .unwrap();
        assert!(!config.snat && config.masq_all);
        assert_eq!(config.mark_bit, Some(7));
        assert_eq!(config.conditions_v6.len(), 1);
        assert_eq!(config.mappings.len(), 1);
        assert_eq!(config.mappings[0].host_ip, None);
    }

    #[test]
    fn null_is_no_mapping() {
        let config = parse(r#","runtimeConfig":{"portMappings":null}"#).unwrap();
        assert!(config.mappings.is_empty());
    }

    #[test]
    fn both_backends_are_accepted_and_no_other() {
        assert!(parse(r#","backend":"iptables""#).is_ok());
        assert!(parse(r#","backend":"nftables""#).is_ok());
        let error = parse(r#","backend":"ipvs""#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(
            error.to_string().contains("`backend` is \"ipvs\""),
            "{error}"
        );
    }

    #[test]
    fn a_chain_of_iptables_is_refused_with_what_to_use_instead() {
        let error = parse(r#","externalSetMarkChain":"KUBE-MARK-MASQ""#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedField);
        for word in ["KUBE-MARK-MASQ", "`markMasqBit`", "`masqAll`"] {
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(parse(r#","externalSetMarkChain":"""#).is_ok());
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        for (keys, kind, words) in [
            (
                r#","markMasqBit":32"#,
                ErrorKind::InvalidConfig,
                "markMasqBit",
            ),
            (r#","snat":"yes""#, ErrorKind::Decode, "snat"),
            (
                r#","conditionsV4":["-m","mark"]"#,
                ErrorKind::InvalidConfig,
                "`conditionsV4` is \"-m mark\", and \"-m\" is not understood",
            ),
            (
                r#","runtimeConfig":{"portMappings":[{"hostPort":0,"containerPort":1}]}"#,
                ErrorKind::InvalidConfig,
                "hostPort",
            ),
        ] {
            let error = parse(keys).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
