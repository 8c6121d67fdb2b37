//! The section `cluster.kubernetes` of the configuration.

use std::net::IpAddr;
use std::path::PathBuf;

use cni_core::spec::json::Object;
use cni_core::{Error, ErrorKind, Result};
use ipnetwork::IpNetwork;

use super::access::ServerUrl;

/// What `cluster.kubernetes` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// `kubeconfig`; `None`: the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// `server`: the API server's address, instead of the one that is said elsewhere.
    pub server: Option<ServerUrl>,
    /// `podNetworks`: prefixes that hold all pods.
    pub networks: Vec<IpNetwork>,
    /// `addresses`: where other nodes reach this one; empty: what follows from the Node and from the way to the server.
    pub addresses: Vec<IpAddr>,
    /// `layout`: what is followed.
    pub layout: LayoutKind,
}

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutKind {
    /// `NodeNetwork` objects.
    Native,
    /// Nodes with Flannel's annotations.
    Flannel,
}

const PATH: &str = "cluster.kubernetes";
/// A cluster has a network or two for each family; a list without an end would make every record slow to check.
const MOST_NETWORKS: usize = 16;

impl KubernetesConfig {
    /// Reads the section's text.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for a member of the wrong type, [`ErrorKind::InvalidConfig`] for a value that breaks a rule; both
    /// name key, value and rule.
    pub fn parse(section: &str) -> Result<Self> {
        let object = Object::parse(section)?.at(PATH);
        let layout = match object.string("layout")?.as_deref() {
            None | Some("native") => LayoutKind::Native,
            Some("flannel") => LayoutKind::Flannel,
            Some(other) => {
                return Err(object.broken("layout", other, "must be \"native\" or \"flannel\""));
            }
        };
        let server = match object.string("server")?.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(text.parse().map_err(|()| {
                object.broken(
                    "server",
                    &text,
                    "must be https://HOST[:PORT], as a kubeconfig's",
                )
            })?),
        };
        let kubeconfig = object.string("kubeconfig")?.filter(|text| !text.is_empty());
        let kubeconfig = kubeconfig.map(PathBuf::from);
        if let Some(path) = kubeconfig.as_ref().filter(|path| !path.is_absolute()) {
            return Err(object.broken("kubeconfig", path, "must be an absolute path"));
        }
        Ok(Self {
            kubeconfig,
            server,
            networks: networks(&object)?,
            addresses: addresses(&object)?,
            layout,
        })
    }
}

fn networks(object: &Object<'_>) -> Result<Vec<IpNetwork>> {
    let texts = object.strings("podNetworks")?;
    if texts.is_empty() {
        let message = format!(
            "`{}` is missing or empty: say which prefixes hold all pods (what the controller manager has as --cluster-cidr), as \
             [\"10.244.0.0/16\"]",
            object.path_of("podNetworks")
        );
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    if texts.len() > MOST_NETWORKS {
        let rule = format!("must have {MOST_NETWORKS} entries at most");
        return Err(object.broken("podNetworks", texts.len(), &rule));
    }
    let sound = |prefix: &IpNetwork| prefix.ip() == prefix.network();
    let network = |text: &String| {
        let prefix = text
            .parse()
            .ok()
            .filter(|prefix| text.contains('/') && sound(prefix));
        prefix.ok_or_else(|| {
            let rule =
                "must be prefixes such as 10.244.0.0/16, without bits set after their length";
            object.broken("podNetworks", text, rule)
        })
    };
    texts.iter().map(network).collect()
}

fn addresses(object: &Object<'_>) -> Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in object.strings("addresses")? {
        let alone = |address: &IpAddr| {
            let mut others = addresses.iter();
            others.all(|other| other.is_ipv6() != address.is_ipv6())
        };
        match text.parse::<IpAddr>().ok().filter(alone) {
            Some(address) => addresses.push(address),
            None => {
                let rule = "must be addresses of this node, at most one of each family";
                return Err(object.broken("addresses", text, rule));
            }
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#""podNetworks":["10.244.0.0/16"]"#;

    fn parse(body: &str) -> Result<KubernetesConfig> {
        KubernetesConfig::parse(&format!("{{{body}}}"))
    }

    #[test]
    fn the_pods_networks_are_all_that_has_to_be_said() {
        let config = parse(LEAST).unwrap();
        assert_eq!(config.layout, LayoutKind::Native);
        assert_eq!((config.kubeconfig, config.server), (None, None));
        assert!(config.addresses.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, words) in [
            ("", "podNetworks"),
            (r#""podNetworks":["10.244.0.1/16"]"#, "bits set"),
            (r#""podNetworks":["10.244.0.0"]"#, "10.244.0.0"),
            (r#""podNetworks":["fd00::/129"]"#, "fd00::/129"),
            (&format!(r#"{LEAST},"layout":"calico""#), "flannel"),
            (&format!(r#"{LEAST},"kubeconfig":"config""#), "absolute"),
            (
                &format!(r#"{LEAST},"server":"192.0.2.1:6443""#),
                "https://HOST",
            ),
            (
                &format!(r#"{LEAST},"addresses":["192.0.2.1","192.0.2.2"]"#),
                "each family",
            ),
            (&format!(r#"{LEAST},"addresses":["n1"]"#), "n1"),
        ] {
            let error = parse(body).unwrap_err().chain();
            assert!(error.contains(words), "{body}: {error}");
        }
    }
}
