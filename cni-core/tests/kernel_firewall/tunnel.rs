//! Looking into tunnelled packets: the same expressions as nft's, and packets that tell.

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use cni_core::host::firewall::*;

use crate::nft::{nft, run};
use crate::support::*;

tests!(
    lookups_of_payload_are_what_nft_builds,
    packets_are_told_apart_by_what_they_carry_and_counted,
    impossible_fields_are_refused_before_the_kernel_is_asked,
);

/// How long a packet may be on its way between two sockets of one machine, whatever else that does.
const PATIENCE: Duration = Duration::from_secs(20);

/// The expressions of the table's rules, as nft prints them.
fn expressions() -> String {
    let mut list = Command::new("nft");
    list.args([
        "--debug=netlink",
        "-n",
        "-y",
        "list",
        "table",
        "inet",
        "cni_test",
    ]);
    let all = run(&mut list, "").expect("nft ran before");
    let expressions = all.lines().filter(|line| line.trim().starts_with('['));
    expressions.map(|line| format!("{line}\n")).collect()
}

fn lookups_of_payload_are_what_nft_builds() -> Result<(), String> {
    let spec = tunnel_filter();
    let chain = &spec.chains[0];
    let mut script = String::from("table inet cni_test {\n");
    for (set, fields) in [
        ("from44_24", "ip saddr . @th,336,32"),
        ("from46_48", "ip saddr . @th,304,128"),
        ("own44", "ip saddr . @th,336,32"),
    ] {
        script += &format!("set {set} {{ typeof {fields}; }}\n");
    }
    let hook = chain.hook.unwrap();
    script += &format!("chain {} {{ {hook}; policy accept;\n", chain.name);
    for rule in &chain.rules {
        script += &format!("{rule} comment \"{}\"\n", rule.comment());
    }
    nft(&(script + "}\n}\n"))?;
    let theirs = expressions();
    assert!(theirs.contains("bitwise reg 9"), "{theirs}");
    assert_eq!(spec.matches(&state(&spec.table).unwrap()), Ok(()));
    commit(&[FirewallChange::TableDel(spec.table.clone())]).unwrap();
    commit(&spec.converge()).unwrap();
    assert_eq!(expressions(), theirs);
    Ok(())
}

/// A VXLAN payload: header, Ethernet header, IPv4 header.
fn vxlan(vni: u32, inner: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0];
    packet.extend((vni << 8).to_be_bytes());
    packet.extend([0; 14 + 12]);
    packet.extend(inner);
    packet.extend([10, 0, 0, 1]);
    packet
}

fn packets_are_told_apart_by_what_they_carry_and_counted() -> Result<(), String> {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    if !status.is_ok_and(|status| status.success()) {
        return Err("ip cannot be run".to_owned());
    }
    let spec = tunnel_filter();
    commit(&spec.converge()).unwrap();
    let t = &spec.table;
    let peer = Value::Ipv4([127, 0, 0, 1].into());
    let pair = |inner: [u8; 4]| Element::new(vec![peer.clone(), Value::Ipv4(inner.into())]);
    commit(&[
        add(t, "from44_24", vec![pair([10, 1, 7, 0])]),
        add(t, "own44", vec![pair([192, 0, 2, 7])]),
    ])
    .unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:8472").unwrap();
    let moment = Some(Duration::from_millis(20));
    receiver.set_read_timeout(moment).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let drops = || {
        let chain = state(t).unwrap().chains.remove(0);
        let counters = chain.rules.iter().map(|rule| rule.counter);
        let counters: Vec<Option<Counter>> = counters.collect();
        assert_eq!((counters[1], counters[2]), (None, None));
        [counters[0].unwrap().packets, counters[3].unwrap().packets]
    };
    // Most are through when `send_to` returns. Where the processor is busy, it is some time after.
    let arrives = |packet: &[u8]| {
        let (before, start) = (drops(), Instant::now());
        sender.send_to(packet, "127.0.0.1:8472").unwrap();
        loop {
            if receiver.recv(&mut [0; 100]).is_ok() {
                return true;
            }
            if drops() != before {
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "neither arrived nor dropped");
        }
    };
    assert_eq!(drops(), [0, 0]);
    assert!(arrives(&vxlan(0x123, [10, 1, 7, 200])), "in the network");
    assert!(arrives(&vxlan(0x123, [192, 0, 2, 7])), "its own address");
    assert_eq!(drops(), [0, 0]);
    assert!(!arrives(&vxlan(0x124, [10, 1, 7, 200])), "another VNI");
    assert_eq!(drops(), [1, 0]);
    assert!(!arrives(&vxlan(0x123, [10, 1, 8, 200])), "another network");
    assert!(!arrives(&vxlan(0x123, [192, 0, 2, 8])), "another address");
    assert_eq!(drops(), [1, 2]);
    let chain = state(t).unwrap().chains.remove(0);
    let counter = chain.rules[3].counter.unwrap();
    let length = 20 + 8 + vxlan(0, [0; 4]).len() as u64;
    assert_eq!(counter.bytes, 2 * length);
    Ok(())
}

fn impossible_fields_are_refused_before_the_kernel_is_asked() -> Result<(), String> {
    let refused = |matches: Vec<Match>| {
        let mut spec = tunnel_filter();
        spec.chains[0].rules[0].matches = matches;
        let error = commit(&spec.converge()).unwrap_err();
        assert_eq!((error.errno, state(&spec.table)), (0, None));
        error.message.unwrap()
    };
    let is = |field, value| {
        refused(vec![Match::Is {
            field,
            value,
            negated: false,
        }])
    };
    let payload = |offset_bits, bytes, prefix| Field::Payload {
        offset_bits,
        bytes,
        prefix,
    };
    let v4 = v4(1);
    assert_eq!(
        is(payload(12, 4, 32), v4.clone()),
        "`@th,12,32` does not begin with a whole byte"
    );
    assert_eq!(
        is(payload(16, 5, 40), v4.clone()),
        "no value has the 5 bytes of `@th,16,40`"
    );
    assert_eq!(
        is(payload(16, 4, 33), v4.clone()),
        "`@th,16,32` has 32 bits, and 33 are to count"
    );
    assert_eq!(
        is(Field::Ipv4SourceNet(33), v4),
        "`ip saddr` has 32 bits, and 33 are to count"
    );
    assert_eq!(
        is(vni(), Value::Vni(1 << 24)),
        "VNI 16777216 is not below 16777216"
    );
    let prefix = Match::Prefix {
        field: Field::Ipv4SourceNet(24),
        prefix: "10.0.0.0/8".parse().unwrap(),
        negated: false,
    };
    assert_eq!(
        refused(vec![prefix]),
        "10.0.0.0/8 is no prefix of `ip saddr & 255.255.255.0`"
    );
    let mut spec = tunnel_filter();
    spec.sets[0].key.push(ValueType::Vni);
    let error = commit(&spec.converge()).unwrap_err();
    assert_eq!(
        error.message.as_deref(),
        Some("nft has no type for the VNI in the key of set from44_24")
    );
    Ok(())
}
