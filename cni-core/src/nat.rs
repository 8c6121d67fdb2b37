//! Masquerade: what leaves a network gets the node's address.
//!
//! The table's rules are constant in number; a verdict map leads from each attachment's address to its network's chain:
//!
//! ```text
//! table inet cni_masquerade {
//!   map pods4 { type ipv4_addr : verdict; elements = { 10.88.0.5 : goto net-podman-k3x7… comment "cni:podman/c1/eth0" } }
//!   map pods6 { type ipv6_addr : verdict }
//!   chain postrouting {
//!     type nat hook postrouting priority srcnat;
//!     ip daddr 224.0.0.0/4 return
//!     ip6 daddr ff00::/8 return
//!     ip saddr vmap @pods4
//!     ip6 saddr vmap @pods6
//!   }
//!   chain net-podman-k3x7… { ip daddr 10.88.0.0/16 return; masquerade }
//! }
//! ```
//!
//! It is a table of our own, so that a host whose policy is iptables, firewalld or other tables still works beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::host::firewall::{
    Action, ChainKind, ChainSpec, DataType, Element, ElementData, Family, Field, Hook, HookPoint,
    Match, Rule, SetSpec, Table, TableSpec, Value, ValueType, Verdict,
};
use crate::plan::{Desired, Object, Place};
use crate::spec::names::{base32, hash128};
use crate::spec::{Attachment, NetworkName};

/// The map of IPv4 sources.
pub const PODS4: &str = "pods4";
/// The map of IPv6 sources.
pub const PODS6: &str = "pods6";

/// NF_IP_PRI_NAT_SRC, `srcnat`.
const SRCNAT: i32 = 100;

/// The table that all networks share.
pub fn table() -> Table {
    Table {
        family: Family::Inet,
        name: "cni_masquerade".to_owned(),
    }
}

/// The table with the chains that these prefixes of the network need.
pub fn table_spec(network: &NetworkName, prefixes: &[IpNetwork]) -> TableSpec {
    let map = |name: &str, key| SetSpec::new(name, [key]).to(DataType::Verdict);
    let mut chains: Vec<ChainSpec> = Vec::new();
    for prefix in prefixes {
        let chain = network_chain(network, *prefix);
        if !chains.iter().any(|known| known.name == chain.name) {
            chains.push(chain);
        }
    }
    chains.push(postrouting());
    TableSpec {
        table: table(),
        sets: vec![map(PODS4, ValueType::Ipv4), map(PODS6, ValueType::Ipv6)],
        chains,
    }
}

/// The element that leads an address of the attachment to its network's chain, and the map that it belongs to.
pub fn element(attachment: &Attachment, address: IpNetwork) -> (&'static str, Element) {
    let (map, key) = key(address.ip());
    let mut element = Element::new(key);
    let chain = chain_name(&attachment.network, address);
    element.data = Some(ElementData::Verdict(Verdict::Goto(chain)));
    element.comment = Some(attachment.mark().to_string());
    (map, element)
}

/// The map and the key of an address.
pub fn key(address: IpAddr) -> (&'static str, Vec<Value>) {
    match address {
        IpAddr::V4(address) => (PODS4, vec![Value::Ipv4(address)]),
        IpAddr::V6(address) => (PODS6, vec![Value::Ipv6(address)]),
    }
}

/// Declares that what these addresses of the attachment send out of their own prefix is masqueraded.
pub fn declare(desired: &mut Desired, attachment: &Attachment, addresses: &[IpNetwork]) {
    let spec = table_spec(&attachment.network, addresses);
    desired.share(Place::Host, Object::Table(spec));
    for address in addresses {
        let (set, element) = element(attachment, *address);
        let element = Object::Element {
            table: table(),
            set: set.to_owned(),
            element,
        };
        desired.own(Place::Host, element);
    }
}

/// Whether a chain is one that [`table_spec`] makes for this network.
pub fn chain_is_of(chain: &str, network: &NetworkName) -> bool {
    let digits = chain.strip_prefix(&chain_prefix(network));
    digits.is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Whether a chain belongs to some network.
pub fn is_network_chain(chain: &str) -> bool {
    chain.starts_with("net-")
}

const DIGITS: usize = 8;

/// One chain for each prefix of a network, by a name that says whose it is.
fn chain_name(network: &NetworkName, address: IpNetwork) -> String {
    let prefix = format!("{}/{}", address.network(), address.prefix());
    let mut name = chain_prefix(network);
    base32(
        hash128(&[network.as_str(), &prefix]) as u64,
        DIGITS,
        &mut name,
    );
    name
}

fn chain_prefix(network: &NetworkName) -> String {
    format!("net-{}-", network.short())
}

fn network_chain(network: &NetworkName, address: IpNetwork) -> ChainSpec {
    let field = match address {
        IpNetwork::V4(_) => Field::Ipv4Destination,
        IpNetwork::V6(_) => Field::Ipv6Destination,
    };
    let prefix = IpNetwork::new(address.network(), address.prefix()).unwrap_or(address);
    ChainSpec {
        name: chain_name(network, address),
        hook: None,
        rules: vec![
            Rule::new([Match::within(field, prefix)], Action::Return),
            Rule::new([], Action::Masquerade),
        ],
    }
}

fn postrouting() -> ChainSpec {
    let lookup = |field, map: &str| {
        let action = Action::VerdictMap {
            fields: vec![field],
            map: map.to_owned(),
        };
        Rule::new([], action)
    };
    let mut rules = Vec::new();
    // Both prefixes are valid by construction (RFC 5771, RFC 4291).
    if let Ok(multicast) = Ipv4Network::new(Ipv4Addr::new(224, 0, 0, 0), 4) {
        rules.push(Rule::new(
            [Match::within(Field::Ipv4Destination, multicast.into())],
            Action::Return,
        ));
    }
    if let Ok(multicast) = Ipv6Network::new(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8) {
        rules.push(Rule::new(
            [Match::within(Field::Ipv6Destination, multicast.into())],
            Action::Return,
        ));
    }
    rules.push(lookup(Field::Ipv4Source, PODS4));
    rules.push(lookup(Field::Ipv6Source, PODS6));
    ChainSpec {
        name: "postrouting".to_owned(),
        hook: Some(Hook {
            kind: ChainKind::Nat,
            point: HookPoint::Postrouting,
            priority: SRCNAT,
        }),
        rules,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(network: &str) -> Attachment {
        Attachment {
            network: network.parse().unwrap(),
            container: "c1".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        }
    }

    #[test]
    fn the_number_of_rules_does_not_depend_on_the_number_of_addresses() {
        let network = "n".parse().unwrap();
        let one = table_spec(&network, &["10.1.0.2/24".parse().unwrap()]);
        let two: Vec<IpNetwork> = ["10.1.0.2/24", "10.1.0.3/24"]
            .map(|a| a.parse().unwrap())
            .into();
        assert_eq!(one, table_spec(&network, &two));
    }

    #[test]
    fn a_chain_belongs_to_exactly_one_network() {
        let address = "10.1.0.2/24".parse().unwrap();
        let names = ["a", "a-b", "b", "a.b"];
        for owner in names {
            let chain = chain_name(&owner.parse().unwrap(), address);
            for other in names {
                let of = chain_is_of(&chain, &other.parse().unwrap());
                assert_eq!(of, owner == other, "{chain} of {other}");
            }
        }
    }

    #[test]
    fn an_element_bears_the_mark_and_leads_to_the_chain_of_its_prefix() {
        let (set, element) = element(&attachment("n"), "fd00:1::5/64".parse().unwrap());
        assert_eq!(set, PODS6);
        assert_eq!(element.comment.as_deref(), Some("cni:n/c1/eth0"));
        let chain = chain_name(&"n".parse().unwrap(), "fd00:1::9/64".parse().unwrap());
        assert_eq!(
            element.data,
            Some(ElementData::Verdict(Verdict::Goto(chain)))
        );
    }

    #[test]
    fn multicast_and_the_pod_network_are_left_alone() {
        let spec = table_spec(&"n".parse().unwrap(), &["10.1.0.2/24".parse().unwrap()]);
        let returns: Vec<String> = spec
            .chains
            .iter()
            .flat_map(|chain| &chain.rules)
            .filter(|rule| rule.action == Action::Return)
            .flat_map(|rule| &rule.matches)
            .map(|condition| match condition {
                Match::Prefix { prefix, .. } => prefix.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(returns, ["10.1.0.0/24", "224.0.0.0/4", "ff00::/8"]);
    }

    #[test]
    fn a_chain_is_of_a_prefix_whichever_address_names_it() {
        let network = "n".parse().unwrap();
        let name = |address: &str| chain_name(&network, address.parse().unwrap());
        assert_eq!(name("10.1.0.2/24"), name("10.1.0.200/24"));
        assert_ne!(name("10.1.0.2/24"), name("10.1.1.2/24"));
        assert_ne!(name("10.1.0.2/24"), name("10.1.0.2/25"));
        assert_ne!(name("10.1.0.2/24"), name("fd00::2/24"));
    }

    #[test]
    fn a_chains_name_is_short_enough_for_nftables_however_long_the_networks_is() {
        let network: NetworkName = "n".repeat(200).parse().unwrap();
        let chain = chain_name(&network, "10.1.0.2/24".parse().unwrap());
        // NFT_CHAIN_MAXNAMELEN with the final zero, `include/uapi/linux/netfilter/nf_tables.h`.
        assert!(chain.len() < 256, "{chain}");
        assert!(chain_is_of(&chain, &network) && is_network_chain(&chain));
    }

    #[test]
    fn chains_of_others_are_of_no_network() {
        let network = "n".parse().unwrap();
        for chain in [
            "postrouting",
            "net-n-",
            "net-n-short",
            "net-n-yipg2smz9",
            "net-n-yipg2sm!",
        ] {
            assert!(!chain_is_of(chain, &network), "{chain}");
        }
    }

    #[test]
    fn a_table_has_one_chain_for_each_prefix_and_both_maps() {
        let addresses = ["10.1.0.2/24", "10.1.0.3/24", "fd00::2/64"];
        let addresses: Vec<IpNetwork> = addresses.map(|a| a.parse().unwrap()).into();
        let spec = table_spec(&"n".parse().unwrap(), &addresses);
        let hooked = spec.chains.iter().filter(|chain| chain.hook.is_some());
        assert_eq!((spec.chains.len(), hooked.count()), (3, 1));
        let maps: Vec<&str> = spec.sets.iter().map(|set| set.name.as_str()).collect();
        assert_eq!(maps, [PODS4, PODS6]);
    }

    #[test]
    fn the_table_is_shared_and_the_elements_are_the_attachments_own() {
        let mut desired = Desired::new();
        let addresses = ["10.1.0.2/24", "fd00::2/64"].map(|a| a.parse().unwrap());
        declare(&mut desired, &attachment("n"), &addresses);
        let owners: Vec<_> = desired.items.iter().map(|item| item.owner).collect();
        use crate::plan::Owner::{Attachment, Shared};
        assert_eq!(owners, [Shared, Attachment, Attachment]);
    }
}
