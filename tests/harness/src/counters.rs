//! What nftables has counted.

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink::{attributes, dump};

/// Packets that the counters in the rules of a chain have counted together, in the calling thread's namespace; tables of
/// that name in all families count.
///
/// # Panics
/// When the kernel has no nftables.
pub fn counted(table: &str, chain: &str) -> u64 {
    // linux/netfilter/nf_tables.h: NFT_MSG_GETRULE; NFTA_RULE_TABLE, _CHAIN and _EXPRESSIONS are 1, 2 and 4.
    const GET_RULES: u16 = 10 << 8 | 7;
    let messages = dump(NETLINK_NETFILTER, GET_RULES, &[0; 4]).expect("a dump of rules");
    let mut packets = 0;
    for message in &messages {
        let rule = attributes(&message[20..]).unwrap_or_default();
        let is = |wanted: u16, text: &str| {
            rule.iter().any(|(kind, value)| {
                *kind == wanted && value.strip_suffix(b"\0") == Some(text.as_bytes())
            })
        };
        if is(1, table) && is(2, chain) {
            let lists = rule.iter().filter(|(kind, _)| *kind == 4);
            packets += lists.map(|(_, list)| packets_in(list)).sum::<u64>();
        }
    }
    packets
}

/// A list of expressions, each a name (1) and data (2); of a counter's data, packets are 2.
fn packets_in(list: &[u8]) -> u64 {
    let mut packets = 0;
    for (_, expression) in attributes(list).unwrap_or_default() {
        let parts = attributes(expression).unwrap_or_default();
        if !parts.contains(&(1, b"counter\0")) {
            continue;
        }
        let data = parts.iter().filter(|(kind, _)| *kind == 2);
        for (kind, value) in data.flat_map(|(_, data)| attributes(data).unwrap_or_default()) {
            if kind == 2 {
                packets += value.try_into().map_or(0, u64::from_be_bytes);
            }
        }
    }
    packets
}
