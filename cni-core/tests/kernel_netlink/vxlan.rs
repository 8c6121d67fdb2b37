//! VXLAN devices: what `ip` makes of the printed commands is what is made of the changes.

use std::process::Command;

use crate::support::*;
use cni_core::host::netlink::*;

fn shell(commands: &str) {
    let output = Command::new("sh").args(["-ec", commands]).output();
    let output = output.expect("sh runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}: {error}");
}

fn device(host: &KernelNetlink, name: &str) -> (Vxlan, Link) {
    let mut link = link(host, name);
    let LinkKind::Vxlan(vxlan) = link.kind.clone() else {
        panic!("{link:?}");
    };
    link.index = 0;
    (vxlan, link)
}

fn samples() -> Vec<Vxlan> {
    let mut classic = Vxlan::new(1, 8472);
    classic.local = "192.0.2.1".parse().ok();
    classic.lower = Some("a".to_owned());
    let mut learning = Vxlan::new(0xff_ffff, 4789);
    learning.learning = true;
    learning.remote = "192.0.2.9".parse().ok();
    learning.source_ports = Some((1000, 2000));
    let mut six = Vxlan::new(2, 8472);
    six.local = "2001:db8::1".parse().ok();
    six.remote = "ff05::100".parse().ok();
    six.lower = Some("a".to_owned());
    let mut flow = Vxlan::flow(4790);
    flow.source_ports = Some((32768, 60999));
    let mut external = Vxlan::new(0, 4791);
    external.external = true;
    external.learning = true;
    vec![classic, learning, six, flow, external, Vxlan::flow(4790)]
}

pub(crate) fn ip_makes_of_the_printed_commands_what_the_changes_make() {
    let host = KernelNetlink::open().unwrap();
    now(host.apply_one(NetlinkChange::LinkAdd(veth("a", "b", None)))).unwrap();
    for vxlan in samples() {
        let mut new = NewLink::new("v", NewLinkKind::Vxlan(vxlan.clone()));
        new.mtu = Some(1300);
        new.mac = (!vxlan.gpe).then_some(MacAddr([2, 0, 0, 0, 0, 7]));
        new.ipv6_link_local = false;
        let mut changes = vec![NetlinkChange::LinkAdd(new)];
        let none = if vxlan.is_ipv6() { "::" } else { "0.0.0.0" };
        let settings = set("v", |set| {
            let mut settings = VxlanSettings::default();
            settings.local = none.parse().ok();
            settings.lower = Some("b".to_owned());
            settings.learning = Some(false);
            set.vxlan = Some(settings);
            set.mtu = Some(1280);
        });
        if !vxlan.external {
            changes.push(settings);
        }
        for applied in 1..=changes.len() {
            let changes = &changes[..applied];
            for change in changes {
                shell(&change.to_string());
            }
            let theirs = device(&host, "v");
            let gone = NetlinkChange::LinkDel { link: "v".into() };
            now(host.apply_one(gone.clone())).unwrap();
            now(host.apply(changes)).unwrap();
            let ours = device(&host, "v");
            now(host.apply_one(gone)).unwrap();
            assert_eq!(ours, theirs);
            if applied == 1 {
                assert_eq!(ours.0, vxlan);
            }
        }
    }
}

pub(crate) fn a_vxlan_device_over_a_link_elsewhere_does_not_name_it() {
    let host = KernelNetlink::open().unwrap();
    let pod = Pod::new();
    now(host.apply_one(NetlinkChange::LinkAdd(veth("a", "b", None)))).unwrap();
    let mut vxlan = Vxlan::new(1, 8472);
    vxlan.lower = Some("a".to_owned());
    let new = NewLink::new("v", NewLinkKind::Vxlan(vxlan));
    now(host.apply_one(NetlinkChange::LinkAdd(new))).unwrap();
    // A link of the same index as the lower one is there, too: it must not be taken for it.
    let path = pod.path.to_string();
    shell(&format!("ip link set v netns {path}"));
    let inside = pod.open();
    let found = link(&*inside.netlink, "v");
    assert!(found.peer_elsewhere, "{found:?}");
    assert_eq!(found.kind, LinkKind::Vxlan(Vxlan::new(1, 8472)));
}

pub(crate) fn a_setting_that_a_device_is_created_with_stays_refused_later() {
    let host = KernelNetlink::open().unwrap();
    for change in ["id 2", "id 1 dstport 4789", "id 1 srcport 1 2", "external"] {
        let new = NewLink::new("v", NewLinkKind::Vxlan(Vxlan::new(1, 8472)));
        now(host.apply_one(NetlinkChange::LinkAdd(new))).unwrap();
        let command = format!("! ip link set dev v type vxlan {change} 2>/dev/null");
        shell(&command);
        now(host.apply_one(NetlinkChange::LinkDel { link: "v".into() })).unwrap();
    }
}
