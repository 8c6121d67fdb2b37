//! The plan engine on VXLAN devices, on the fake kernel: in place, anew, or not at all.

// Helper functions of tests are not `#[test]`s, by which clippy knows what may panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg(feature = "testing")]

use cni_core::Cancel;
use cni_core::host::Host;
use cni_core::host::netlink::{
    Address, LinkFilter, LinkKind, LinkSettings, NetlinkChange, NewLink, NewLinkKind, Route, Vxlan,
};
use cni_core::plan::{
    Desired, Establishing, Handles, LinkSpec, Object, Place, Plan, Scope, diff, establish, observe,
};
use cni_core::testing::{FakeKernel, snapshot};

const ALIAS: &str = "cni:net";

/// A device over `eth0` with an address, a route and a parameter.
fn desired(vxlan: Vxlan, change: impl FnOnce(&mut LinkSpec)) -> Desired {
    let mut spec = LinkSpec::new("vxlan.1", Some(NewLinkKind::Vxlan(vxlan)));
    spec.alias = Some(ALIAS.to_owned());
    change(&mut spec);
    let mut route = Route::new("10.1.0.0/16".parse().unwrap(), "vxlan.1");
    route.scope = Route::SCOPE_LINK;
    route.protocol = 167;
    let mut desired = Desired::new();
    let address = Address::new("vxlan.1", "10.1.7.0/32".parse().unwrap());
    for object in [
        Object::Link(spec),
        Object::Address(address),
        Object::Route(route),
        Object::Sysctl {
            key: "net/ipv4/conf/vxlan.1/rp_filter".to_owned(),
            value: "2".to_owned(),
        },
    ] {
        desired.share(Place::Host, object);
    }
    desired
}

fn classic() -> Vxlan {
    let mut vxlan = Vxlan::new(1, 8472);
    vxlan.local = "192.0.2.1".parse().ok();
    vxlan.lower = Some("eth0".to_owned());
    vxlan
}

/// A kernel with `eth0` and `eth1`.
async fn kernel() -> (FakeKernel, Host) {
    let kernel = FakeKernel::new();
    let host = kernel.host();
    let peer = NewLinkKind::Veth {
        peer: "eth1".to_owned(),
        peer_mac: None,
        peer_netns: None,
    };
    let eth0 = NetlinkChange::LinkAdd(NewLink::new("eth0", peer));
    host.netlink.apply(&[eth0]).await.unwrap();
    (kernel, host)
}

async fn make(host: &Host, desired: &Desired) -> cni_core::Result<Plan> {
    let handles = Handles {
        host,
        sandbox: None,
    };
    let done = establish(desired, &handles, &Cancel::new(), Establishing::Apply).await;
    let (plan, journal) = done?;
    journal.keep();
    let observed = observe(&handles, desired, Scope::All).await?;
    let left = diff(desired, &observed)?;
    assert!(left.is_empty(), "left: {left}");
    Ok(plan)
}

async fn device(host: &Host) -> (u32, Vxlan) {
    let found = host.netlink.links(LinkFilter::Name("vxlan.1")).await;
    let link = found.unwrap().remove(0);
    match link.kind {
        LinkKind::Vxlan(vxlan) => (link.index, vxlan),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_device_is_made_once_with_all_that_is_on_it() {
    let (kernel, host) = kernel().await;
    let plan = make(&host, &desired(classic(), |_| {})).await.unwrap();
    assert_eq!(
        plan.to_string(),
        "ip link add vxlan.1 up type vxlan id 1 dstport 8472 local 192.0.2.1 dev eth0 nolearning\n\
         ip link set dev vxlan.1 alias cni:net\n\
         ip address add 10.1.7.0/32 dev vxlan.1\n\
         ip route add 10.1.0.0/16 dev vxlan.1 proto 167\n\
         sysctl -w net/ipv4/conf/vxlan.1/rp_filter=2\n"
    );
    let writes = kernel.writes();
    make(&host, &desired(classic(), |_| {})).await.unwrap();
    assert_eq!(kernel.writes(), writes);
    let flow = desired(Vxlan::flow(4790), |spec| spec.name = "flow".to_owned());
    let first = Desired {
        items: flow.items[..1].to_vec(),
        ..Desired::default()
    };
    let plan = make(&host, &first).await.unwrap();
    let line = "ip link add flow up type vxlan external gpe dstport 4790\n";
    assert!(plan.to_string().starts_with(line), "{plan}");
}

#[tokio::test]
async fn what_the_kernel_can_change_is_changed_in_place() {
    let (_, host) = kernel().await;
    make(&host, &desired(classic(), |_| {})).await.unwrap();
    let (index, _) = device(&host).await;
    let mut other = classic();
    other.local = "192.0.2.2".parse().ok();
    other.lower = Some("eth1".to_owned());
    other.learning = true;
    let wanted = desired(other.clone(), |spec| {
        spec.mtu = Some(1400);
        spec.mac = "02:00:00:00:00:07".parse().ok();
    });
    let plan = make(&host, &wanted).await.unwrap();
    assert_eq!(
        plan.to_string(),
        "ip link set dev vxlan.1 type vxlan local 192.0.2.2 dev eth1 learning\n\
         ip link set dev vxlan.1 mtu 1400 address 02:00:00:00:00:07\n"
    );
    let reason = plan.reasons().next().unwrap();
    assert!(
        reason.starts_with(
            "link vxlan.1: outer source address is 192.0.2.1, should be 192.0.2.2, lower link is \
             eth0, should be eth1, learning is off, should be on, mtu is 1450, should be 1400"
        ),
        "{reason}"
    );
    assert_eq!(device(&host).await, (index, other));
}

#[tokio::test]
async fn what_the_kernel_cannot_change_is_made_anew_with_all_that_was_on_it() {
    let with = |change: fn(&mut Vxlan)| {
        let mut vxlan = classic();
        change(&mut vxlan);
        vxlan
    };
    for (wanted, words) in [
        (with(|v| v.vni = 2), "VNI is 1, should be 2"),
        (with(|v| v.port = 4789), "UDP port is 8472, should be 4789"),
        (
            with(|v| v.source_ports = Some((1000, 2000))),
            "source port range is unset, should be 1000 to 2000",
        ),
        (
            with(|v| v.local = "2001:db8::1".parse().ok()),
            "outer source address is 192.0.2.1, should be 2001:db8::1",
        ),
        (
            with(|v| v.lower = None),
            "lower link is eth0, should be unset",
        ),
    ] {
        let (_, host) = kernel().await;
        make(&host, &desired(classic(), |_| {})).await.unwrap();
        let plan = make(&host, &desired(wanted.clone(), |_| {})).await.unwrap();
        assert_eq!(
            plan.to_string(),
            format!(
                "ip link delete dev vxlan.1\n\
                 ip link add vxlan.1 up type vxlan {wanted}\n\
                 ip link set dev vxlan.1 alias cni:net\n\
                 ip address add 10.1.7.0/32 dev vxlan.1\n\
                 ip route add 10.1.0.0/16 dev vxlan.1 proto 167\n\
                 sysctl -w net/ipv4/conf/vxlan.1/rp_filter=2\n"
            )
        );
        let reason = format!("link vxlan.1: {words}");
        assert_eq!(plan.reasons().next(), Some(reason.as_str()));
        assert_eq!(device(&host).await.1, wanted);
    }
}

#[tokio::test]
async fn a_failure_at_any_write_makes_the_old_device_again() {
    let mut wanted = classic();
    wanted.vni = 2;
    let wanted = desired(wanted, |_| {});
    for n in 1.. {
        let (kernel, host) = kernel().await;
        make(&host, &desired(classic(), |_| {})).await.unwrap();
        let before = (snapshot(&host, &[]).await.unwrap(), device(&host).await.1);
        kernel.fail_write(kernel.writes() + n, 5);
        let handles = Handles {
            host: &host,
            sandbox: None,
        };
        // The whole is read: so what was on the device is known.
        let observed = observe(&handles, &wanted, Scope::All).await.unwrap();
        let plan = diff(&wanted, &observed).unwrap();
        let outcome = cni_core::plan::apply(&plan, &handles, &Cancel::new()).await;
        match outcome {
            Ok(journal) => {
                journal.keep();
                assert_eq!(n, 7, "six writes can fail");
                return;
            }
            Err(_) => {
                let mut after = snapshot(&host, &[]).await.unwrap();
                // The parameter went with the old device, and is put right by the next run.
                after = after.replace("rp_filter = 0", "rp_filter = 2");
                let before_text = before.0.replace("rp_filter = 0", "rp_filter = 2");
                assert_eq!(after, before_text, "write {n}");
                assert_eq!(device(&host).await.1, before.1, "write {n}");
            }
        }
    }
}

#[tokio::test]
async fn a_device_that_is_not_ours_is_not_touched() {
    let mut other = classic();
    other.vni = 2;
    for (alias, wanted, words) in [
        (
            Some("mine"),
            classic(),
            "link vxlan.1 exists and is a VXLAN device, but it bears the alias \"mine\": choose \
             another name or remove it",
        ),
        (
            None,
            other,
            "link vxlan.1 exists and is a VXLAN device whose VNI is 1, should be 2, but it bears \
             no alias: choose another name or remove it",
        ),
    ] {
        let (kernel, host) = kernel().await;
        let theirs = NewLink::new("vxlan.1", NewLinkKind::Vxlan(classic()));
        let mut settings = LinkSettings::default();
        settings.alias = alias.map(str::to_owned);
        let changes = [
            NetlinkChange::LinkAdd(theirs),
            NetlinkChange::LinkSet {
                link: "vxlan.1".to_owned(),
                settings,
            },
        ];
        host.netlink.apply(&changes).await.unwrap();
        let writes = kernel.writes();
        let error = make(&host, &desired(wanted, |_| {})).await.unwrap_err();
        assert_eq!(error.to_string(), words);
        assert_eq!(kernel.writes(), writes);
    }
}

#[tokio::test]
async fn a_device_that_a_crash_left_without_its_alias_is_taken_over() {
    let (_, host) = kernel().await;
    let left = NewLink::new("vxlan.1", NewLinkKind::Vxlan(classic()));
    let left = NetlinkChange::LinkAdd(left);
    host.netlink.apply(&[left]).await.unwrap();
    let plan = make(&host, &desired(classic(), |_| {})).await.unwrap();
    let first = plan.to_string();
    let first = first.lines().next();
    assert_eq!(first, Some("ip link set dev vxlan.1 alias cni:net up"));
}
