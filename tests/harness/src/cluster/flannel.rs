//! A node as Flannel makes it, by the commands of iproute2 (`pkg/backend/vxlan` of flannel-io/flannel): a device
//! `flannel.1` for IPv4 over the IPv4 underlay, a second one, `flannel-v6.1`, for IPv6 over the IPv6 underlay, VNI 1, port
//! 8472, no learning, and per peer and device a neighbour, an FDB entry and a route.

use std::fmt::Write;
use std::net::IpAddr;

use super::Node;

/// A VXLAN device as a peer has to know it.
struct Vtep {
    device: &'static str,
    underlay: IpAddr,
    /// The base address of the node's pod prefix, which the device bears.
    inner: IpAddr,
    prefix: String,
    mac: String,
}

/// Makes a node's VXLAN devices, in the families that it has both pods and an underlay address of, and tells it about the
/// peers, which may be Flannel's or ours. `mac_of` tells the hardware address of a peer's VXLAN device in which the
/// prefix (as in [`Node::pod_prefixes`]) is; see [`flannel_mac`] for a peer that is made by this function too.
///
/// # Panics
/// When iproute2 is missing (use [`require`](crate::require) first) or refuses.
pub fn join_as_flannel(node: &Node, peers: &[&Node], mac_of: impl Fn(&Node, &str) -> String) {
    let mut script = String::new();
    for vtep in vteps(node, flannel_mac) {
        let Vtep {
            device,
            underlay,
            inner,
            mac,
            ..
        } = &vtep;
        let length = if inner.is_ipv4() { 32 } else { 128 };
        let _ = writeln!(
            script,
            "ip link add {device} address {mac} type vxlan id 1 dev eth0 local {underlay} dstport 8472 nolearning\n\
             ip address add {inner}/{length} dev {device} {nodad}\n\
             ip link set {device} up",
            nodad = if inner.is_ipv4() { "" } else { "nodad" },
        );
    }
    for peer in peers {
        for vtep in vteps(peer, &mac_of) {
            let Vtep {
                device,
                underlay,
                inner,
                prefix,
                mac,
            } = &vtep;
            let _ = writeln!(
                script,
                "ip neigh replace {inner} lladdr {mac} dev {device} nud permanent\n\
                 bridge fdb append {mac} dev {device} dst {underlay}\n\
                 ip route replace {prefix} via {inner} dev {device} onlink"
            );
        }
    }
    node.sh(&script);
}

/// The hardware address of the VXLAN device that [`join_as_flannel`] makes for a prefix of the node. Flannel's own are
/// random.
pub fn flannel_mac(node: &Node, prefix: &str) -> String {
    let family = if prefix.contains(':') { 6 } else { 4 };
    format!("0e:f1:a2:00:{family:02x}:{:02x}", node.number())
}

fn vteps(node: &Node, mac_of: impl Fn(&Node, &str) -> String) -> Vec<Vtep> {
    let mut all = Vec::new();
    for prefix in node.pod_prefixes() {
        let base = prefix.split('/').next().unwrap_or_default();
        let inner: IpAddr = base.parse().expect("a pod prefix");
        let mut addresses = node.addresses().iter();
        let Some(underlay) = addresses.find(|address| address.is_ipv4() == inner.is_ipv4()) else {
            continue;
        };
        all.push(Vtep {
            device: if inner.is_ipv4() {
                "flannel.1"
            } else {
                "flannel-v6.1"
            },
            underlay: *underlay,
            inner,
            prefix: prefix.clone(),
            mac: mac_of(node, prefix),
        });
    }
    all
}
