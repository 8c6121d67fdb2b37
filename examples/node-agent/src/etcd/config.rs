//! The section `cluster.etcd` of the configuration.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use cni_core::spec::json::Object;
use cni_core::{Error, ErrorKind, Result};

use super::ranges::Range;

/// What `cluster.etcd` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// How the servers are spoken to.
    pub access: Access,
    /// `prefix`: what all keys begin with, without a slash at its end.
    pub prefix: String,
    /// `layout`: what the keys below it are.
    pub layout: LayoutKind,
    /// `podNetworks`: where nodes' prefixes come from; one range of each family at most. Empty with Flannel's layout where its own
    /// configuration in etcd is to tell.
    pub networks: Vec<Range>,
    /// `port` of the plugin's configuration, to be compared with Flannel's.
    pub port: Option<u16>,
    /// `directRouting` of the plugin's configuration, likewise.
    pub direct_routing: bool,
    /// `leaseSeconds`: how long a node is known after it was heard of last.
    pub ttl: Duration,
    /// `graceSeconds`: how long its prefixes are nobody else's after that.
    pub grace: Duration,
    /// `addresses`: where other nodes reach this one; empty: what follows from the way to etcd.
    pub addresses: Vec<IpAddr>,
}

/// How the servers are spoken to. It holds names of files and no secrets: those are read when they are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// `endpoints`, in the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// `caFile`: who may have signed the servers' certificates.
    pub ca: Option<PathBuf>,
    /// `certFile` and `keyFile`: this node's certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// How the node says who it is.
    pub login: Login,
}

/// How a node says who it is, beside a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// It does not.
    None,
    /// `user` and `passwordFile`.
    Password {
        /// The user's name in etcd.
        user: String,
        /// The file in which the password is.
        file: PathBuf,
    },
    /// `tokenFile`: a token that somebody else keeps fresh.
    Token(PathBuf),
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// What the keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutKind {
    /// Ours: `nodes/UID` and `claims/PREFIX`.
    Nodes,
    /// Flannel's: `subnets/PREFIX`.
    Flannel,
}

const PATH: &str = "cluster.etcd";
const DEFAULT_TTL: u32 = 300;
const DEFAULT_GRACE: u32 = 86_400;
/// Flannel's own leases are as long.
const FLANNEL_TTL: u32 = 86_400;

impl EtcdConfig {
    /// Reads the section's text; `network` is the network's name, from which the default of `prefix` is made.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] for a member of the wrong type, [`ErrorKind::InvalidConfig`] for a value that breaks a rule; both
    /// name key, value and rule.
    pub fn parse(section: &str, network: &str) -> Result<Self> {
        let object = Object::parse(section)?.at(PATH);
        let layout = layout(&object)?;
        let (prefix, ttl) = match layout {
            LayoutKind::Nodes => (format!("/cni/{network}"), DEFAULT_TTL),
            LayoutKind::Flannel => ("/coreos.com/network".to_owned(), FLANNEL_TTL),
        };
        let prefix = object.string("prefix")?.unwrap_or(prefix);
        let prefix = prefix.trim_end_matches('/').to_owned();
        if prefix.is_empty() || prefix.len() > 256 || prefix.chars().any(char::is_control) {
            let rule = "must be 1 to 256 bytes, more than slashes, without control characters";
            return Err(object.broken("prefix", prefix, rule));
        }
        let ttl = object.u32_in("leaseSeconds", 5, 604_800)?.unwrap_or(ttl);
        let grace = object.u32_in("graceSeconds", ttl, 31_536_000)?;
        let grace = grace.unwrap_or(DEFAULT_GRACE.max(ttl));
        let addresses = addresses(&object)?;
        Ok(Self {
            access: access(&object)?,
            prefix,
            layout,
            networks: networks(&object, layout)?,
            port: None,
            direct_routing: false,
            ttl: Duration::from_secs(ttl.into()),
            grace: Duration::from_secs(grace.into()),
            addresses,
        })
    }
}

fn layout(object: &Object<'_>) -> Result<LayoutKind> {
    match object.string("layout")?.as_deref() {
        None | Some("nodes") => Ok(LayoutKind::Nodes),
        Some("flannel") => Ok(LayoutKind::Flannel),
        Some(other) => Err(object.broken("layout", other, "must be \"nodes\" or \"flannel\"")),
    }
}

fn access(object: &Object<'_>) -> Result<Access> {
    let texts = object.strings("endpoints")?;
    if texts.is_empty() {
        let message = format!(
            "`{}` is missing or empty: name the servers, as [\"https://192.0.2.7:2379\"]",
            object.path_of("endpoints")
        );
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    let rule = "must be http://HOST:PORT or https://HOST:PORT";
    let endpoint = |text: &String| {
        text.parse()
            .map_err(|()| object.broken("endpoints", text, rule))
    };
    let endpoints: Vec<Endpoint> = texts.iter().map(endpoint).collect::<Result<_>>()?;
    let ca = file(object, "caFile")?;
    let certificate = match (file(object, "certFile")?, file(object, "keyFile")?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (_, key) => {
            return Err(object.missing(if key.is_none() { "keyFile" } else { "certFile" }));
        }
    };
    let encrypted = endpoints.iter().any(|endpoint| endpoint.tls);
    if (ca.is_some() || certificate.is_some()) && !encrypted {
        let rule = "must begin with https:// where `caFile` or `certFile` is set";
        return Err(object.broken("endpoints", texts, rule));
    }
    if encrypted && ca.is_none() {
        // Whom a host trusts for the web is no statement about an etcd.
        return Err(object.missing("caFile"));
    }
    Ok(Access {
        endpoints,
        ca,
        certificate,
        login: login(object)?,
    })
}

fn login(object: &Object<'_>) -> Result<Login> {
    let user = object.string("user")?.filter(|user| !user.is_empty());
    let password = file(object, "passwordFile")?;
    match (user, password, file(object, "tokenFile")?) {
        (None, None, None) => Ok(Login::None),
        (None, None, Some(file)) => Ok(Login::Token(file)),
        (Some(user), Some(file), None) => Ok(Login::Password { user, file }),
        (Some(_), None, None) => Err(object.missing("passwordFile")),
        (None, Some(_), None) => Err(object.missing("user")),
        _ => Err(object.broken(
            "tokenFile",
            "set",
            "must not be beside `user` and `passwordFile`: who the node is has to be said once",
        )),
    }
}

fn file(object: &Object<'_>, key: &str) -> Result<Option<PathBuf>> {
    let text = object.string(key)?.filter(|text| !text.is_empty());
    match text.map(PathBuf::from) {
        Some(path) if !path.is_absolute() => {
            Err(object.broken(key, path, "must be an absolute path"))
        }
        path => Ok(path),
    }
}

fn networks(object: &Object<'_>, layout: LayoutKind) -> Result<Vec<Range>> {
    let mut networks: Vec<Range> = Vec::new();
    for entry in object.objects("podNetworks")? {
        let prefix = entry
            .prefix("prefix")?
            .ok_or_else(|| entry.missing("prefix"))?;
        let (default, most) = if prefix.is_ipv6() {
            (64, 126)
        } else {
            (24, 30)
        };
        let least = u32::from(prefix.prefix());
        let length = entry.u32_in("nodeLength", least, most)?.unwrap_or(default);
        let range = u8::try_from(length)
            .ok()
            .and_then(|length| Range::new(prefix, length));
        let Some(range) = range else {
            let rule = "must have no bits set after its length, be at most as long as `nodeLength` says, and hold at most \
                        2^32 prefixes of that length";
            return Err(entry.broken("prefix", prefix, rule));
        };
        let same_family = |other: &Range| other.prefix().is_ipv6() == prefix.is_ipv6();
        if networks.iter().any(same_family) {
            let rule = "must be the only one of its family";
            return Err(entry.broken("prefix", prefix, rule));
        }
        networks.push(range);
    }
    if networks.is_empty() && layout == LayoutKind::Nodes {
        let message = format!(
            "`{}` is missing or empty: say where the nodes' prefixes come from, as [{{\"prefix\": \"10.244.0.0/16\", \"nodeLength\": 24}}]",
            object.path_of("podNetworks")
        );
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    Ok(networks)
}

fn addresses(object: &Object<'_>) -> Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in object.strings("addresses")? {
        let same = |address: &IpAddr| {
            addresses
                .iter()
                .all(|other| other.is_ipv6() != address.is_ipv6())
        };
        match text.parse::<IpAddr>().ok().filter(same) {
            Some(address) => addresses.push(address),
            None => {
                let rule = "must be addresses of this node, at most one of each family";
                return Err(object.broken("addresses", text, rule));
            }
        }
    }
    Ok(addresses)
}

impl std::str::FromStr for Endpoint {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(()),
        };
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or(())?;
        let host = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(inner) => inner,
            None if host.contains(':') => return Err(()),
            None => host,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            return Err(());
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: port.parse().map_err(|_| ())?,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str =
        r#""endpoints":["http://192.0.2.7:2379"],"podNetworks":[{"prefix":"10.244.0.0/16"}]"#;

    fn parse(body: &str) -> Result<EtcdConfig> {
        EtcdConfig::parse(&format!("{{{body}}}"), "pods")
    }

    #[test]
    fn servers_and_networks_are_all_that_has_to_be_said() {
        let config = parse(LEAST).unwrap();
        assert_eq!(config.prefix, "/cni/pods");
        assert_eq!(
            (config.ttl.as_secs(), config.grace.as_secs()),
            (300, 86_400)
        );
        assert_eq!(
            config.access.endpoints[0].to_string(),
            "http://192.0.2.7:2379"
        );
        assert_eq!(config.networks[0].count(), 256);
        let flannel = parse(&format!(r#"{LEAST},"layout":"flannel""#)).unwrap();
        assert_eq!(flannel.prefix, "/coreos.com/network");
        assert_eq!(flannel.ttl.as_secs(), 86_400);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, words) in [
            (
                r#""podNetworks":[{"prefix":"10.0.0.0/8"}]"#.to_owned(),
                "endpoints",
            ),
            (r#""endpoints":["http://h:1"]"#.to_owned(), "podNetworks"),
            (LEAST.replace("http:", "ftp:"), "http://HOST:PORT"),
            (LEAST.replace(":2379", ""), "http://HOST:PORT"),
            (LEAST.replace("http:", "https:"), "caFile"),
            (format!(r#"{LEAST},"caFile":"/ca.pem""#), "https://"),
            (format!(r#"{LEAST},"certFile":"/c.pem""#), "keyFile"),
            (format!(r#"{LEAST},"tokenFile":"token""#), "absolute"),
            (format!(r#"{LEAST},"user":"n1""#), "passwordFile"),
            (
                format!(r#"{LEAST},"tokenFile":"/t","user":"n1","passwordFile":"/p""#),
                "said once",
            ),
            (format!(r#"{LEAST},"leaseSeconds":1"#), "leaseSeconds"),
            (
                format!(r#"{LEAST},"leaseSeconds":60,"graceSeconds":30"#),
                "graceSeconds",
            ),
            (format!(r#"{LEAST},"layout":"calico""#), "flannel"),
            (format!(r#"{LEAST},"prefix":"/""#), "prefix"),
            (
                format!(r#"{LEAST},"addresses":["192.0.2.1","192.0.2.2"]"#),
                "each family",
            ),
            (LEAST.replace("10.244.0.0/16", "10.244.0.1/16"), "bits set"),
            (
                LEAST.replace("}]", "},{\"prefix\":\"10.9.0.0/16\"}]"),
                "only one",
            ),
        ] {
            let error = parse(&body).unwrap_err().chain();
            assert!(error.contains(words), "{body}: {error}");
        }
    }

    #[test]
    fn a_server_may_have_an_ipv6_address() {
        let endpoint: Endpoint = "https://[2001:db8::7]:2379".parse().unwrap();
        assert_eq!(endpoint.host, "2001:db8::7");
        assert_eq!(endpoint.to_string(), "https://[2001:db8::7]:2379");
        for wrong in [
            "https://2001:db8::7:2379",
            "http://:1",
            "http://a b:1",
            "http://h:99999",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
