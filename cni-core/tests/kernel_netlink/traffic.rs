//! Traffic control: what `tc` says of what is made, and what `tc` makes of the printed commands.

use std::process::Command;

use crate::support::*;
use cni_core::host::NamespaceOpener;
use cni_core::host::netlink::*;
use cni_core::host::netns::KernelNamespaces;
use cni_testkit::require;

/// What `tc` prints.
fn tc(arguments: &str) -> String {
    let output = Command::new("tc")
        .args(arguments.split_whitespace())
        .output();
    let output = require(output.ok(), "tc");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tc {arguments}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn shell(commands: &str) {
    let output = Command::new("sh").args(["-ec", commands]).output();
    let output = output.expect("sh runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}: {error}");
}

fn ifb(name: &str) -> NetlinkChange {
    let mut new = NewLink::new(name, NewLinkKind::Ifb);
    new.up = true;
    new.mtu = Some(1450);
    NetlinkChange::LinkAdd(new)
}

fn limit(link: &str, tbf: Tbf) -> NetlinkChange {
    NetlinkChange::QdiscAdd {
        link: link.into(),
        qdisc: Qdisc::Tbf(tbf),
    }
}

fn with_25_ms(rate: u64, burst: u32) -> Tbf {
    Tbf {
        rate,
        burst,
        limit: u32::try_from(rate / 40).unwrap() + burst,
    }
}

/// A filter and its place, from `va` to `ib`.
fn lead() -> [NetlinkChange; 2] {
    [
        NetlinkChange::QdiscAdd {
            link: "va".into(),
            qdisc: Qdisc::Ingress,
        },
        NetlinkChange::RedirectAdd {
            link: "va".into(),
            to: "ib".into(),
        },
    ]
}

pub(crate) fn tc_shows_rate_burst_and_latency_as_they_were_asked_for() {
    require(Command::new("tc").arg("-V").output().ok(), "tc");
    let host = KernelNetlink::open().unwrap();
    now(host.apply(&[NetlinkChange::LinkAdd(veth("va", "vb", None)), ifb("ib")])).unwrap();
    for (tbf, words) in [
        (
            with_25_ms(12_500_000, 125_000),
            ["rate 100Mbit", "burst 125000b", "lat 25ms"],
        ),
        (
            with_25_ms(125_000, 15_000),
            ["rate 1Mbit", "burst 15000b", "lat 25ms"],
        ),
        (
            with_25_ms(1_250_000_000, 1_000_000),
            ["rate 10Gbit", "burst 99", "lat 25ms"],
        ),
    ] {
        now(host.apply_one(limit("ib", tbf))).unwrap();
        let shown = tc("qdisc show dev ib");
        assert!(shown.contains("qdisc tbf c41: root"), "{shown}");
        for word in words {
            assert!(shown.contains(word), "{tbf}, {word}: {shown}");
        }
        shell("tc qdisc delete dev ib root");
    }
    now(host.apply(&lead())).unwrap();
    let shown = tc("filter show dev va ingress");
    for word in [
        "pref 3137 u32",
        "match 00000000/00000000",
        "Egress Redirect to device ib",
    ] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let link = link(&host, "ib");
    assert_eq!(link.kind, LinkKind::Other("ifb".into()));
    assert_eq!((link.up, link.mtu), (true, 1450));
}

pub(crate) fn tc_makes_of_the_printed_commands_what_the_changes_make() {
    require(Command::new("tc").arg("-V").output().ok(), "tc");
    let host = KernelNetlink::open().unwrap();
    let [place, filter] = lead();
    let changes = [
        NetlinkChange::LinkAdd(veth("va", "vb", None)),
        ifb("ib"),
        limit("ib", with_25_ms(12_500_000, 125_000)),
        place,
        filter,
    ];
    let look = || {
        let traffic = |name| now(host.traffic(name)).unwrap();
        let index = link(&host, "ib").index;
        let redirect = traffic("va").redirect.map(|target| target == index);
        (traffic("ib"), redirect, tc("filter show dev va ingress"))
    };
    now(host.apply(&changes)).unwrap();
    let made = look();
    assert_eq!(made.1, Some(true));
    for name in ["va", "ib"] {
        now(host.apply_one(NetlinkChange::LinkDel { link: name.into() })).unwrap();
    }
    let commands: Vec<String> = changes.iter().map(ToString::to_string).collect();
    shell(&commands.join("\n"));
    assert_eq!(look(), made, "{commands:?}");

    let undo = [
        NetlinkChange::RedirectDel {
            link: "va".into(),
            to: "ib".into(),
        },
        NetlinkChange::QdiscDel {
            link: "va".into(),
            qdisc: Qdisc::Ingress,
        },
        NetlinkChange::QdiscDel {
            link: "ib".into(),
            qdisc: Qdisc::Tbf(with_25_ms(12_500_000, 125_000)),
        },
    ];
    let commands: Vec<String> = undo.iter().map(ToString::to_string).collect();
    shell(&commands.join("\n"));
    for name in ["va", "ib"] {
        assert_eq!(now(host.traffic(name)), Ok(Traffic::default()));
    }
}

pub(crate) fn what_others_have_set_is_told_from_ours_and_not_removed_with_it() {
    require(Command::new("tc").arg("-V").output().ok(), "tc");
    let host = KernelNetlink::open().unwrap();
    now(host.apply(&[NetlinkChange::LinkAdd(veth("va", "vb", None)), ifb("ib")])).unwrap();
    shell(
        "tc qdisc add dev va root handle 1: tbf rate 1mbit burst 15000b latency 25ms
         tc qdisc add dev va ingress
         tc filter add dev va ingress pref 1 protocol all u32 match u32 0 0 action mirred egress redirect dev ib",
    );
    let [_, filter] = lead();
    now(host.apply_one(filter)).unwrap();
    let found = now(host.traffic("va")).unwrap();
    let wanted = Traffic {
        foreign_root: Some("tbf".into()),
        ingress: Some("ingress".into()),
        redirect: Some(link(&host, "ib").index),
        other_filters: true,
        led_by_others: vec![link(&host, "ib").index],
        ..Traffic::default()
    };
    assert_eq!(found, wanted);
    let tbf = Qdisc::Tbf(with_25_ms(125_000, 15_000));
    let ours = NetlinkChange::QdiscDel {
        link: "va".into(),
        qdisc: tbf,
    };
    now(host.apply_one(ours)).unwrap_err();
    now(host.apply_one(NetlinkChange::RedirectDel {
        link: "va".into(),
        to: "ib".into(),
    }))
    .unwrap();
    let left = Traffic {
        redirect: None,
        ..wanted
    };
    assert_eq!(now(host.traffic("va")), Ok(left));
}

pub(crate) fn a_scratch_namespace_is_empty_and_nobody_elses() {
    let host = KernelNetlink::open().unwrap();
    let scratch = now(KernelNamespaces::new().scratch()).unwrap();
    now(scratch.netlink.apply_one(ifb("ib"))).unwrap();
    let names = |netlink: &dyn Netlink| -> Vec<String> {
        let links = now(netlink.links(LinkFilter::All)).unwrap();
        links.into_iter().map(|link| link.name).collect()
    };
    assert_eq!(names(scratch.netlink.as_ref()), ["lo", "ib"]);
    assert_eq!(names(&host), ["lo"]);
}
