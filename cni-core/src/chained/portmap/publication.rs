//! One port that leads to one address of a pod, and the elements that it is made of.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::host::firewall::{Element, ElementData, Value, Verdict};
use crate::spec::Mark;
use crate::spec::config::{PortMapping, Protocol};
use crate::spec::names::hash128;

use super::table::Names;

/// A port of the host that leads to a port of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Publication {
    /// The host's address; `None` for all of the pod's family.
    pub host: Option<IpAddr>,
    /// IP protocol number.
    pub protocol: u8,
    /// The host's port.
    pub host_port: u16,
    /// The pod's address.
    pub pod: IpAddr,
    /// The pod's port.
    pub port: u16,
}

/// IPPROTO_UDP.
const UDP: u8 = 17;

impl Publication {
    /// What a mapping asks for where the pod has this address; `None` where the mapping is of the other family alone.
    ///
    /// `0.0.0.0` and `::` are all addresses of their family, and an IPv4 address in IPv6's clothes (`::ffff:192.0.2.1`) is
    /// IPv4's, as sockets have it.
    pub fn of(mapping: &PortMapping, pod: IpAddr) -> Option<Self> {
        let host = mapping.host_ip.map(|ip| ip.to_canonical());
        if host.is_some_and(|host| host.is_ipv4() != pod.is_ipv4()) {
            return None;
        }
        Some(Self {
            host: host.filter(|host| !host.is_unspecified()),
            protocol: match mapping.protocol {
                Protocol::Tcp => 6,
                Protocol::Udp => UDP,
                Protocol::Sctp => 132,
            },
            host_port: mapping.host_port,
            pod,
            port: mapping.container_port,
        })
    }

    /// The sets and maps of its family.
    pub(super) fn names(&self) -> Names {
        Names::of(self.pod)
    }

    /// Whether the kernel keeps its flows without a connection's end.
    pub fn is_connectionless(&self) -> bool {
        self.protocol == UDP
    }

    /// Where the port stands: the map, and the key.
    pub fn place(&self) -> (&'static str, Vec<Value>) {
        let names = self.names();
        match self.host {
            Some(host) => (names.host_ports, self.key_at(host)),
            None => (names.ports, self.key()),
        }
    }

    /// As [`Publication::place`], of the chain that the conditions are in.
    pub fn rule_place(&self) -> (&'static str, Vec<Value>) {
        let names = self.names();
        match self.host {
            Some(host) => (names.host_rules, self.key_at(host)),
            None => (names.rules, self.key()),
        }
    }

    /// The key among the ports of all addresses.
    pub fn key(&self) -> Vec<Value> {
        vec![Value::Protocol(self.protocol), Value::Port(self.host_port)]
    }

    /// The key among the ports of one address.
    pub fn key_at(&self, host: IpAddr) -> Vec<Value> {
        let mut key = vec![host.into()];
        key.extend(self.key());
        key
    }

    /// The key that tells connections which this port has translated.
    pub fn connection(&self) -> Vec<Value> {
        vec![
            self.pod.into(),
            Value::Protocol(self.protocol),
            Value::Port(self.port),
            Value::Port(self.host_port),
        ]
    }

    /// The element that leads the port to the pod.
    pub fn element(&self, mark: &Mark) -> Element {
        let (_, key) = self.place();
        let data = vec![self.pod.into(), Value::Port(self.port)];
        marked(key, Some(ElementData::Values(data)), mark)
    }

    /// The element that leads the port to its conditions.
    pub fn rule(&self, chain: &str, mark: &Mark) -> Element {
        let (_, key) = self.rule_place();
        let verdict = Verdict::Goto(chain.to_owned());
        marked(key, Some(ElementData::Verdict(verdict)), mark)
    }

    /// The attachment's record number `number`.
    pub fn record(&self, number: u32, mark: &Mark) -> Element {
        let data = vec![
            Value::Ipv6(self.host.map_or(Ipv6Addr::UNSPECIFIED, mapped)),
            Value::Protocol(self.protocol),
            Value::Port(self.host_port),
            Value::Ipv6(mapped(self.pod)),
            Value::Port(self.port),
        ];
        marked(
            record_key(number, mark),
            Some(ElementData::Values(data)),
            mark,
        )
    }

    /// Reads a record; `None` when it is none.
    pub fn of_record(element: &Element) -> Option<Self> {
        let Some(ElementData::Values(data)) = &element.data else {
            return None;
        };
        match data.as_slice() {
            [
                Value::Ipv6(host),
                Value::Protocol(protocol),
                Value::Port(host_port),
                Value::Ipv6(pod),
                Value::Port(port),
            ] => Some(Self {
                host: (!host.is_unspecified()).then(|| host.to_canonical()),
                protocol: *protocol,
                host_port: *host_port,
                pod: pod.to_canonical(),
                port: *port,
            }),
            _ => None,
        }
    }

    /// The pod's socket.
    pub fn target(&self) -> SocketAddr {
        SocketAddr::new(self.pod, self.port)
    }
}

/// The key of an attachment's record: a hash of its mark, and a number. An address is the only type of 128 bits.
pub(super) fn record_key(number: u32, mark: &Mark) -> Vec<Value> {
    vec![
        Value::Ipv6(Ipv6Addr::from(hash128(&[mark.as_str()]))),
        Value::Mark(number),
    ]
}

/// An element with the mark as its comment.
pub(super) fn marked(key: Vec<Value>, data: Option<ElementData>, mark: &Mark) -> Element {
    let mut element = Element::new(key);
    element.data = data;
    element.comment = Some(mark.to_string());
    element
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The host's side, as people write it: `8080/tcp`, `192.0.2.1:8080/udp`.
impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            6 => "tcp",
            UDP => "udp",
            132 => "sctp",
            _ => "?",
        };
        match self.host {
            Some(host) => write!(f, "{}/{protocol}", SocketAddr::new(host, self.host_port)),
            None => write!(f, "{}/{protocol}", self.host_port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::NetworkConfig;

    fn mapping(host: &str) -> PortMapping {
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"n","type":"portmap","runtimeConfig":{{"portMappings":
               [{{"HostPort":8080,"ContainerPort":80,"Protocol":"SCTP","HostIP":"{host}"}}]}}}}"#
        );
        let config = NetworkConfig::parse(text.as_bytes()).unwrap();
        config.runtime_config().unwrap().port_mappings.remove(0)
    }

    fn of(host: &str, pod: &str) -> Option<String> {
        let publication = Publication::of(&mapping(host), pod.parse().unwrap());
        publication.map(|publication| publication.to_string())
    }

    #[test]
    fn a_hosts_address_decides_the_family_and_an_unspecified_one_is_all_of_it() {
        let (v4, v6) = ("10.88.0.5", "fd00::5");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("", v4), some("8080/sctp"));
        assert_eq!(of("", v6), some("8080/sctp"));
        assert_eq!(of("0.0.0.0", v4), some("8080/sctp"));
        assert_eq!(of("0.0.0.0", v6), None);
        assert_eq!(of("::", v4), None);
        assert_eq!(of("::", v6), some("8080/sctp"));
        assert_eq!(of("192.0.2.1", v4), some("192.0.2.1:8080/sctp"));
        assert_eq!(of("::ffff:192.0.2.1", v4), some("192.0.2.1:8080/sctp"));
        assert_eq!(of("2001:db8::1", v6), some("[2001:db8::1]:8080/sctp"));
        assert_eq!(of("2001:db8::1", v4), None);
    }

    #[test]
    fn a_record_reads_as_what_was_recorded() {
        let attachment = crate::spec::Attachment {
            network: "n".parse().unwrap(),
            container: "c".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        };
        for (host, pod) in [
            ("", "10.88.0.5"),
            ("192.0.2.1", "10.88.0.5"),
            ("", "fd00::5"),
            ("2001:db8::1", "fd00::5"),
        ] {
            let publication = Publication::of(&mapping(host), pod.parse().unwrap()).unwrap();
            let record = publication.record(3, &attachment.mark());
            assert_eq!(Publication::of_record(&record), Some(publication));
            assert_eq!(record.key, record_key(3, &attachment.mark()));
        }
    }
}
