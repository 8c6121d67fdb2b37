//! What others do to a node that is connected by our plugins with their defaults, and what an agent has to mend.

use std::fmt;

use super::Node;

/// Something that is done to the first node of a cluster of three with pods of both families, underlay of both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// All of our routes go, of either family and in all tables.
    Routes,
    /// A shell script.
    Script(String),
}

/// The default of our plugins' `routeProtocol`.
const PROTOCOL: u8 = 167;

impl Damage {
    /// All that the data path (`flow`, `classic` or `host-gw`) can suffer.
    pub fn all(data_path: &str) -> Vec<Self> {
        let mut all: Vec<String> = EVERYWHERE.iter().map(|text| (*text).to_owned()).collect();
        all.extend([
            table("flush chain inet $table postrouting"),
            table("flush set inet $table nodes4"),
            table("delete element inet $table pods6_64 '{ fd00:244:1:: }'"),
            table("add element inet $table pods4_24 '{ 10.244.77.0 }'"),
        ]);
        if data_path != "host-gw" {
            all.extend(OF_TUNNELS.map(str::to_owned));
            all.extend([
                table("flush chain inet $table input"),
                table("flush set inet $table from44_32"),
                table("flush set inet $table from44_24"),
            ]);
        }
        if data_path == "classic" {
            all.extend(OF_CLASSIC.map(str::to_owned));
        }
        let scripts = all.into_iter().map(Self::Script);
        std::iter::once(Self::Routes).chain(scripts).collect()
    }

    /// Does it.
    ///
    /// # Panics
    /// When it cannot be done: there is nothing to damage.
    pub fn inflict(&self, node: &Node) {
        match self {
            Self::Routes => assert!(node.flush_routes(PROTOCOL) > 0),
            Self::Script(script) => drop(node.sh(script)),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Routes => f.write_str("all of our routes go"),
            Self::Script(script) => f.write_str(script),
        }
    }
}

const EVERYWHERE: [&str; 6] = [
    "ip route del 10.244.2.0/24; ip -6 route del fd00:244:3::/64",
    "ip route replace 10.244.2.0/24 via 192.0.2.254 proto 167",
    "ip nexthop flush proto 167",
    "nft flush ruleset",
    "nft delete table inet $(nft list tables | grep -o 'cni_fabric_.*')",
    "ip route add 10.244.77.0/24 dev eth0 proto 167",
];

const OF_TUNNELS: [&str; 10] = [
    "ip link del vxlan.1",
    "ip link set vxlan.1 down",
    "ip link set vxlan.1 down; ip link set vxlan.1 up",
    "ip link set vxlan.1 mtu 1300",
    "ip link set vxlan.1 alias ''",
    "ip address flush dev vxlan.1",
    "ip link set vxlan.1 down; ip link set vxlan.1 name stray; ip link set stray up",
    "ip link del vxlan.1; ip link add vxlan.1 type vxlan id 9 dstport 9999; ip link set vxlan.1 alias cni:net",
    "ip rule del priority 31000; ip -6 rule del priority 31000",
    "ip route del 192.0.2.2 table 167; ip -6 route del 2001:db8:a::3 table 167",
];

const OF_CLASSIC: [&str; 5] = [
    "ip neigh flush dev vxlan.1 nud permanent",
    "ip -6 neigh flush dev vxlan.1 nud permanent",
    "ip link set vxlan.1 address 02:00:00:00:00:01",
    "bridge fdb show dev vxlan.1 | while read mac rest; do bridge fdb del $mac dev vxlan.1; done",
    "ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:02 dev vxlan.1 nud permanent",
];

/// An nft command on the network's table.
fn table(command: &str) -> String {
    format!("table=$(nft list tables | grep -o 'cni_fabric_.*'); nft {command}")
}
