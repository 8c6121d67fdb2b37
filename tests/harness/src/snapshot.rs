//! Everything that a plugin could leave behind, as lines of text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

use crate::Pod;
use crate::netlink::{attributes, dump, u16_at, u32_at};

/// The state of a network namespace and of the test's own files: links, queueing disciplines and filters of what comes in,
/// addresses, routes, next hops, rules, permanent neighbours and FDB entries, forwarding switches, the nftables ruleset, and all files below `/run` and `/var/lib`.
///
/// Left out is what changes by itself: counters, timers, learnt neighbours, indexes and handles. Lines are for comparing and
/// for a reader's first look, not for parsing: attributes are shown by number where the kernel's headers are the better
/// reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

/// A kernel parameter of the calling thread's namespace, such as `net/ipv4/ip_forward`, without its newline.
pub fn sysctl(key: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(key)).ok()?;
    Some(text.trim_end().to_owned())
}

impl Snapshot {
    /// The state of the calling thread's namespace, and of the files.
    ///
    /// # Panics
    /// When the kernel cannot be read.
    pub fn take() -> Self {
        let mut lines = BTreeSet::new();
        let links = links(&mut lines);
        addresses(&links, &mut lines);
        routes(&links, &mut lines);
        neighbours(&links, &mut lines);
        next_hops(&links, &mut lines);
        for message in route_dump(34, 12) {
            lines.insert(format!(
                "rule {}",
                render(&message[16..28], &message[28..], &[])
            ));
        }
        disciplines(&links, &mut lines);
        nftables(&mut lines);
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            lines.insert(format!("sysctl {key}={}", sysctl(key).unwrap_or_default()));
        }
        for directory in ["/run", "/var/lib"] {
            files(Path::new(directory), &mut lines);
        }
        Self(lines)
    }

    /// The state of a pod's namespace, and of the files.
    ///
    /// # Panics
    /// As [`Snapshot::take`].
    pub fn of(pod: &Pod) -> Self {
        pod.run(Self::take)
    }

    /// Without the lines that hold `text`.
    #[must_use]
    pub fn without(mut self, text: &str) -> Self {
        self.0.retain(|line| !line.contains(text));
        self
    }

    /// The lines that hold `text`.
    pub fn lines(&self, text: &str) -> Vec<&str> {
        let all = self.0.iter().map(String::as_str);
        all.filter(|line| line.contains(text)).collect()
    }

    /// What is gone since `before` (`-`) and what is new (`+`); empty when nothing changed.
    pub fn since(&self, before: &Self) -> String {
        let mut text = String::new();
        for line in before.0.difference(&self.0) {
            let _ = writeln!(text, "- {line}");
        }
        for line in self.0.difference(&before.0) {
            let _ = writeln!(text, "+ {line}");
        }
        text
    }

    /// Asserts that nothing changed since `before`.
    ///
    /// # Panics
    /// With the difference.
    #[track_caller]
    pub fn assert_unchanged_since(&self, before: &Self) {
        let changes = self.since(before);
        assert!(changes.is_empty(), "the state changed:\n{changes}");
    }
}

fn route_dump(kind: u16, header: usize) -> Vec<Vec<u8>> {
    dump(NETLINK_ROUTE, kind, &vec![0; header]).expect("a dump over rtnetlink")
}

/// The pods' own namespaces, which are the test's.
const NAMESPACES: &str = crate::pod::DIRECTORY;

type Links = BTreeMap<u32, String>;

fn links(lines: &mut BTreeSet<String>) -> Links {
    // linux/if_link.h: those that say what a link is, not what it has done, nor what the kernel makes of it a moment later (its
    // operational state and first queueing discipline, `linkwatch_do_dev`).
    const SHOWN: [(u16, &str); 8] = [
        (1, "address"),
        (4, "mtu"),
        (10, "master"),
        (13, "txqlen"),
        (18, "linkinfo"),
        (20, "alias"),
        (27, "group"),
        (30, "promiscuity"),
    ];
    // linux/if.h: IFF_RUNNING, IFF_LOWER_UP, IFF_DORMANT.
    const FOLLOWING: u32 = 0x40 | 0x1_0000 | 0x2_0000;
    let messages = route_dump(18, 16);
    let mut names = Links::new();
    for message in &messages {
        let attributes = attributes(&message[32..]).expect("attributes");
        let name = attributes.iter().find(|(kind, _)| *kind == 3);
        let name = name.map_or_else(String::new, |(_, value)| string(value));
        names.insert(u32_at(message, 20), name);
    }
    for message in &messages {
        let mut line = format!(
            "link {} flags={:#x}",
            names[&u32_at(message, 20)],
            u32_at(message, 24) & !FOLLOWING
        );
        for (kind, value) in attributes(&message[32..]).expect("attributes") {
            let Some((_, label)) = SHOWN.iter().find(|(shown, _)| *shown == kind) else {
                continue;
            };
            let text = match kind {
                10 => names.get(&u32_at(value, 0)).cloned().unwrap_or_default(),
                18 => link_info(value),
                _ => value_text(value, 0),
            };
            let _ = write!(line, " {label}={text}");
        }
        lines.insert(line);
    }
    names
}

/// `IFLA_LINKINFO` without a bridge's and a port's timers (linux/if_link.h: `IFLA_BR_HELLO_TIMER` to `IFLA_BR_GC_TIMER`,
/// `IFLA_BRPORT_MESSAGE_AGE_TIMER` to `IFLA_BRPORT_HOLD_TIMER`), without its identity, which follows its address, and
/// without how many addresses and multicast groups it has learnt (`IFLA_BR_FDB_N_LEARNED`,
/// `IFLA_BRPORT_MCAST_EHT_HOSTS_CNT`, `IFLA_BRPORT_MCAST_N_GROUPS`).
fn link_info(value: &[u8]) -> String {
    let parts = attributes(value).unwrap_or_default();
    let mut text = String::new();
    for (kind, value) in parts {
        let skipped: &[u16] = match kind {
            2 => &[10, 11, 16, 17, 18, 19, 48],
            5 => &[13, 14, 17, 21, 22, 23, 38, 41],
            _ => &[],
        };
        let shown = match kind {
            2 | 5 => render(&[], value, skipped),
            _ => value_text(value, 0),
        };
        let _ = write!(text, "{kind}:{shown} ");
    }
    format!("{{{}}}", text.trim_end())
}

fn addresses(links: &Links, lines: &mut BTreeSet<String>) {
    for message in route_dump(22, 8) {
        let link = links
            .get(&u32_at(&message, 20))
            .cloned()
            .unwrap_or_default();
        let prefix = message[17];
        let mut line = format!("address {link} scope={}", message[19]);
        for (kind, value) in attributes(&message[24..]).expect("attributes") {
            match kind {
                1 | 2 | 4 => {
                    let _ = write!(line, " {kind}={}/{prefix}", ip(value));
                }
                // IFA_F_TENTATIVE comes and goes.
                8 => {
                    let _ = write!(line, " flags={:#x}", u32_at(value, 0) & !0x40);
                }
                _ => {}
            }
        }
        lines.insert(line);
    }
}

fn routes(links: &Links, lines: &mut BTreeSet<String>) {
    const RTM_F_CLONED: u32 = 0x200;
    for message in route_dump(26, 12) {
        if u32_at(&message, 24) & RTM_F_CLONED != 0 {
            continue;
        }
        let prefix = message[17];
        let mut line = format!(
            "route protocol={} scope={} type={}",
            message[21], message[22], message[23]
        );
        for (kind, value) in attributes(&message[28..]).expect("attributes") {
            let text = match kind {
                1 => format!("dst {}/{prefix}", ip(value)),
                4 => format!(
                    "dev {}",
                    links.get(&u32_at(value, 0)).cloned().unwrap_or_default()
                ),
                5 => format!("via {}", ip(value)),
                7 => format!("src {}", ip(value)),
                12 => continue,
                15 => format!("table {}", u32_at(value, 0)),
                _ => format!("{kind}={}", value_text(value, 0)),
            };
            let _ = write!(line, " {text}");
        }
        // Those of a link's own addresses come a second or two after it.
        if !line.contains(" dst fe80:") {
            lines.insert(line);
        }
    }
}

fn neighbours(links: &Links, lines: &mut BTreeSet<String>) {
    const PERMANENT: u16 = 0x80;
    for (family, header) in [(0, 12), (7, 12)] {
        let mut body = vec![0; header];
        body[0] = family;
        let messages = dump(NETLINK_ROUTE, 30, &body).expect("a dump over rtnetlink");
        for message in messages
            .iter()
            .filter(|message| u16_at(message, 24) & PERMANENT != 0)
        {
            let link = links.get(&u32_at(message, 20)).cloned().unwrap_or_default();
            // NDA_CACHEINFO and NDA_PROBES change; NDA_MASTER is an index.
            let rest = render(&message[26..28], &message[28..], &[3, 4, 9]);
            // The groups that a device listens to (`NTF_SELF`): the kernel joins and leaves them in the background.
            if rest.starts_with("0200 2=3333") || rest.starts_with("0200 2=01005e") {
                continue;
            }
            lines.insert(format!("neighbour family={} {link} {rest}", message[16]));
        }
    }
}

fn next_hops(links: &Links, lines: &mut BTreeSet<String>) {
    // linux/rtnetlink.h: RTM_GETNEXTHOP; linux/nexthop.h: NHA_OIF is 5. Kernels before 5.3 have none.
    for message in dump(NETLINK_ROUTE, 106, &[0; 8]).unwrap_or_default() {
        let all = attributes(&message[24..]).expect("attributes");
        let device = all.iter().find(|(kind, _)| *kind == 5);
        let device = device.and_then(|(_, index)| links.get(&u32_at(index, 0)));
        lines.insert(format!(
            "next hop family={} protocol={} dev {} {}",
            message[16],
            message[18],
            device.cloned().unwrap_or_default(),
            render(&[], &message[24..], &[5])
        ));
    }
}

/// Those that somebody has set: the kernel's own have no handle.
fn disciplines(links: &Links, lines: &mut BTreeSet<String>) {
    // linux/rtnetlink.h: RTM_GETQDISC and RTM_GETTFILTER with a struct tcmsg; linux/pkt_sched.h: TC_H_INGRESS. A kernel
    // without traffic control has neither.
    let of = |message: &[u8]| links.get(&u32_at(message, 20)).cloned().unwrap_or_default();
    let kind = |message: &[u8]| {
        let all = attributes(&message[36..]).expect("attributes");
        let kind = all.iter().find(|(kind, _)| *kind == 1);
        kind.map_or_else(String::new, |(_, value)| string(value))
    };
    for message in dump(NETLINK_ROUTE, 38, &[0; 20]).unwrap_or_default() {
        let (handle, parent) = (u32_at(&message, 24), u32_at(&message, 28));
        if handle == 0 {
            continue;
        }
        // Its statistics change.
        let options = attributes(&message[36..]).expect("attributes");
        let options = options.iter().find(|(kind, _)| *kind == 2);
        let options = options.map_or_else(String::new, |(_, value)| hex(value));
        lines.insert(format!(
            "qdisc {} {} {handle:x} parent {parent:x} {options}",
            of(&message),
            kind(&message)
        ));
        if handle == 0xffff_0000 {
            let mut body = vec![0; 20];
            body[4..8].copy_from_slice(&message[20..24]);
            body[12..16].copy_from_slice(&0xffff_fff2_u32.to_ne_bytes());
            for filter in dump(NETLINK_ROUTE, 46, &body).unwrap_or_default() {
                lines.insert(format!(
                    "filter {} {} handle {:x} info {:x}",
                    of(&filter),
                    kind(&filter),
                    u32_at(&filter, 24),
                    u32_at(&filter, 32)
                ));
            }
        }
    }
}

fn nftables(lines: &mut BTreeSet<String>) {
    // linux/netfilter/nf_tables.h: the request of each dump, its name, and the attributes that change by themselves
    // (handles, positions, use counts, counters; of a set the number of its elements, which counts those that have lapsed until
    // they are freed: the elements themselves are compared).
    const DUMPS: [(u16, &str, &[u16]); 4] = [
        (1, "table", &[3, 4]),
        (4, "chain", &[2, 6, 8]),
        (7, "rule", &[3, 6]),
        (10, "set", &[16, 20]),
    ];
    const SUBSYSTEM: u16 = 10 << 8;
    for (kind, name, volatile) in DUMPS {
        // A kernel without nf_tables has no ruleset.
        let Ok(messages) = dump(NETLINK_NETFILTER, SUBSYSTEM | kind, &[0; 4]) else {
            return;
        };
        for message in messages {
            let text = render(&[], &message[20..], volatile);
            lines.insert(format!("nft {name} family={} {text}", message[16]));
            if name == "set" {
                elements(&message, &text, lines);
            }
        }
    }
}

fn elements(set: &[u8], text: &str, lines: &mut BTreeSet<String>) {
    const GET_ELEMENTS: u16 = 10 << 8 | 13;
    let mut body = vec![set[16], 0, 0, 0];
    for (kind, value) in attributes(&set[20..]).expect("attributes") {
        // NFTA_SET_TABLE and NFTA_SET_NAME are NFTA_SET_ELEM_LIST_TABLE and _SET.
        if kind == 1 || kind == 2 {
            let length = value.len() + 4;
            body.extend_from_slice(&u16::try_from(length).expect("a short name").to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
    }
    let messages = match dump(NETLINK_NETFILTER, GET_ELEMENTS, &body) {
        // Somebody has removed it meanwhile.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Vec::new(),
        messages => messages.expect("a dump of a set"),
    };
    for message in messages {
        let all = attributes(&message[20..]).expect("attributes");
        let lists = all.iter().filter(|(kind, _)| *kind == 3);
        for (_, element) in lists.flat_map(|(_, list)| attributes(list).unwrap_or_default()) {
            lines.insert(format!(
                "nft element of [{text}] {}",
                value_text(element, 0)
            ));
        }
    }
}

fn files(path: &Path, lines: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    let paths = entries.flatten().map(|entry| entry.path());
    for path in paths.filter(|path| path != Path::new(NAMESPACES)) {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = metadata.permissions().mode();
        if metadata.is_dir() {
            lines.insert(format!("directory {} {mode:o}", path.display()));
            files(&path, lines);
        } else {
            let content = fs::read(&path).unwrap_or_default();
            let content = String::from_utf8_lossy(&content[..content.len().min(4096)]).into_owned();
            lines.insert(format!("file {} {mode:o} {content:?}", path.display()));
        }
    }
}

fn render(header: &[u8], rest: &[u8], skipped: &[u16]) -> String {
    let mut text = hex(header);
    for (kind, value) in attributes(rest).unwrap_or_default() {
        if !skipped.contains(&kind) {
            let _ = write!(text, " {kind}={}", value_text(value, 0));
        }
    }
    text.trim_start().to_owned()
}

/// A value as its looks suggest: a string, a comment, nested attributes, or bytes.
fn value_text(value: &[u8], depth: usize) -> String {
    if let Some(text) = text(value) {
        return text;
    }
    // What nft takes for the comment of a rule or an element: a type, a length, and a string (nftables, `udata.h`).
    if let [_, length, comment @ ..] = value
        && usize::from(*length) == comment.len()
        && let Some(text) = text(comment)
    {
        return format!("\"{text}\"");
    }
    if depth < 8
        && value.len() >= 8
        && let Some(parts) = attributes(value)
        && parts.iter().all(|(kind, _)| (1..64).contains(kind))
    {
        return nested(&parts, depth);
    }
    hex(value)
}

/// A string with its end, and what fills it up to a fixed length, as a key's interface name.
fn text(value: &[u8]) -> Option<String> {
    let end = value.iter().position(|byte| *byte == 0)?;
    let (text, rest) = value.split_at(end);
    let printable = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    let is_text = text.len() > 1 && printable && rest.iter().all(|byte| *byte == 0);
    is_text.then(|| String::from_utf8_lossy(text).into_owned())
}

fn nested(parts: &[(u16, &[u8])], depth: usize) -> String {
    // An nftables expression is a name (1) and its data (2); a counter's data is what it counted.
    let counter = parts.contains(&(1, b"counter\0"));
    let shown = parts.iter().filter(|(kind, _)| !(counter && *kind == 2));
    let texts: Vec<String> = shown
        .map(|(kind, value)| format!("{kind}={}", value_text(value, depth + 1)))
        .collect();
    format!("{{{}}}", texts.join(" "))
}

fn string(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .trim_end_matches('\0')
        .to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn ip(value: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Ipv4Addr::from(octets).to_string();
    }
    <[u8; 16]>::try_from(value)
        .map_or_else(|_| hex(value), |octets| Ipv6Addr::from(octets).to_string())
}
