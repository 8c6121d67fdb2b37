//! What nftables has counted.

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink::{attributes, dump};

/// Packets that the counters in the rules of a chain have counted together, in the calling thread's namespace; tables of
/// that name in all families count.
///
/// # Panics
/// When the kernel has no nftables.
pub fn counted(table: &str, chain: &str) -> u64 {
    rules(|name| name == table, chain).iter().flatten().sum()
}

/// Packets that the counters of a chain have counted, rule by rule, rules without one left out: in the calling thread's
/// namespace, in the tables whose names begin so.
///
/// # Panics
/// When the kernel has no nftables.
pub fn counters(table: &str, chain: &str) -> Vec<u64> {
    let rules = rules(|name| name.starts_with(table), chain);
    rules.into_iter().flatten().collect()
}

/// What the counter of each rule of a chain has counted, where it has one.
fn rules(table: impl Fn(&str) -> bool, chain: &str) -> Vec<Option<u64>> {
    // linux/netfilter/nf_tables.h: NFT_MSG_GETRULE; NFTA_RULE_TABLE, _CHAIN and _EXPRESSIONS are 1, 2 and 4.
    const GET_RULES: u16 = 10 << 8 | 7;
    let messages = dump(NETLINK_NETFILTER, GET_RULES, &[0; 4]).expect("a dump of rules");
    let mut found = Vec::new();
    for message in &messages {
        let rule = attributes(&message[20..]).unwrap_or_default();
        let text = |wanted: u16| {
            let value = rule.iter().find(|(kind, _)| *kind == wanted)?.1;
            std::str::from_utf8(value.strip_suffix(b"\0")?).ok()
        };
        if text(1).is_some_and(&table) && text(2) == Some(chain) {
            let lists = rule.iter().filter(|(kind, _)| *kind == 4);
            found.push(lists.filter_map(|(_, list)| packets_in(list)).next());
        }
    }
    found
}

/// Of a list of expressions, each a name (1) and data (2), the counter's; of its data, packets are 2.
fn packets_in(list: &[u8]) -> Option<u64> {
    let mut counted = None;
    for (_, expression) in attributes(list).unwrap_or_default() {
        let parts = attributes(expression).unwrap_or_default();
        if !parts.contains(&(1, b"counter\0")) {
            continue;
        }
        let data = parts.iter().filter(|(kind, _)| *kind == 2);
        for (kind, value) in data.flat_map(|(_, data)| attributes(data).unwrap_or_default()) {
            if kind == 2 {
                let packets = value.try_into().map_or(0, u64::from_be_bytes);
                counted = Some(counted.unwrap_or(0) + packets);
            }
        }
    }
    counted
}
