use super::*;
use crate::chained::tuning::{Parameter, Restored};
use crate::host::netlink::{LinkKind, MacAddr};
use crate::plan::{Observed, Scope, diff};
use crate::spec::Attachment;

fn config() -> TuningConfig {
    TuningConfig {
        parameters: vec![Parameter {
            key: "net.core.somaxconn".into(),
            path: "net/core/somaxconn".into(),
            value: "512".into(),
        }],
        mac: Some(MacAddr([2, 0, 0, 0, 0, 9])),
        mtu: Some(1400),
        promiscuous: Some(true),
        all_multicast: Some(true),
        tx_queue_len: Some(7),
    }
}

fn eth0() -> Link {
    let mut link = Link::new(2, "eth0", LinkKind::Veth);
    link.mac = Some(MacAddr([2, 0, 0, 0, 0, 1]));
    link.up = true;
    link
}

fn observed(link: Link, somaxconn: &str) -> Observed {
    let mut observed = Observed {
        scope: Scope::All,
        ..Observed::default()
    };
    let container = &mut observed.container;
    container.links.insert("eth0".into(), link);
    let value = Some(somaxconn.to_owned());
    container.sysctls.insert("net/core/somaxconn".into(), value);
    observed
}

fn plan(observed: &Observed) -> Plan {
    let desired = desired(&"eth0".parse().unwrap(), &config(), &BTreeSet::new());
    diff(&desired, observed).unwrap()
}

#[test]
fn every_setting_is_one_command_and_what_it_was_is_kept() {
    let plan = plan(&observed(eth0(), "4096"));
    insta::assert_snapshot!(plan.to_string(), @r"
    ip netns exec POD sysctl -w net/core/somaxconn=512
    ip netns exec POD ip link set dev eth0 address 02:00:00:00:00:09
    ip netns exec POD ip link set dev eth0 promisc on
    ip netns exec POD ip link set dev eth0 mtu 1400
    ip netns exec POD ip link set dev eth0 allmulticast on
    ip netns exec POD ip link set dev eth0 txqueuelen 7
    ");
    let attachment = Attachment {
        network: "n".parse().unwrap(),
        container: "c1".parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    };
    let backup = Backup::of(&plan, &attachment);
    assert_eq!(
        backup.to_json(),
        r#"{"allmulti":false,"mac":"02:00:00:00:00:01","mark":"cni:n/c1/eth0","mtu":1500,"promisc":false,"sysctl":{"net/core/somaxconn":{"set":"512","was":"4096"}},"txQLen":1000}"#
    );
}

fn tuned() -> Link {
    let mut link = eth0();
    link.mac = config().mac;
    (
        link.mtu,
        link.promiscuous,
        link.all_multicast,
        link.tx_queue_len,
    ) = (1400, true, true, 7);
    link
}

#[test]
fn what_is_as_asked_for_is_left_alone_and_nobody_asks_about_the_rest() {
    assert!(plan(&observed(tuned(), "512")).is_empty());
    // A parameter of several numbers is the same whatever separates them.
    let mut several = config();
    several.parameters[0].value = "1024  65000".into();
    let desired = desired(&"eth0".parse().unwrap(), &several, &BTreeSet::new());
    assert!(
        diff(&desired, &observed(tuned(), "1024\t65000"))
            .unwrap()
            .is_empty()
    );
    let nothing = super::desired(
        &"eth0".parse().unwrap(),
        &TuningConfig::default(),
        &BTreeSet::new(),
    );
    assert!(diff(&nothing, &observed(tuned(), "1")).unwrap().is_empty());
}

#[test]
fn all_is_put_back_that_is_still_there_and_still_ours() {
    let backup = Backup {
        mac: eth0().mac,
        mtu: Some(1500),
        promiscuous: Some(false),
        all_multicast: Some(false),
        tx_queue_len: Some(1000),
        parameters: [
            ("net/core/somaxconn", "4096", "512"),
            ("net/core/x", "1", "2"),
        ]
        .map(|(key, was, set)| {
            let (was, set) = (was.to_owned(), set.to_owned());
            (key.to_owned(), Restored { was, set })
        })
        .into(),
        ..Backup::default()
    };
    let now = |value: &str| BTreeMap::from([("net/core/somaxconn".to_owned(), value.to_owned())]);
    insta::assert_snapshot!(restoration(&backup, Some(&tuned()), &now("512")).to_string(), @r"
    ip netns exec POD ip link set dev eth0 address 02:00:00:00:00:01
    ip netns exec POD ip link set dev eth0 mtu 1500
    ip netns exec POD ip link set dev eth0 promisc off
    ip netns exec POD ip link set dev eth0 allmulticast off
    ip netns exec POD ip link set dev eth0 txqueuelen 1000
    ip netns exec POD sysctl -w net/core/somaxconn=4096
    ");
    // Somebody else has set it since.
    assert!(restoration(&backup, Some(&eth0()), &now("1024")).is_empty());
    assert_eq!(restoration(&backup, None, &now("512")).steps().len(), 1);
}

#[test]
fn a_parameter_that_cannot_be_read_is_written_and_not_compared() {
    let write_only = BTreeSet::from(["net/core/somaxconn".to_owned()]);
    let desired = desired(&"eth0".parse().unwrap(), &config(), &write_only);
    assert!(diff(&desired, &observed(tuned(), "1")).unwrap().is_empty());
    assert_eq!(writes(&config(), &write_only).steps().len(), 1);
    assert!(writes(&config(), &BTreeSet::new()).is_empty());
}
