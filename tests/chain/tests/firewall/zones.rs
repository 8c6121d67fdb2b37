//! A host that firewalld rules.

use cni_testkit::Pod;
use cni_testkit::firewalld::Firewalld;
use serde_json::json;

use super::world::{Network, OUTSIDE4, OUTSIDE6, ips, misses, outside, reaches, run, state};

pub(crate) fn firewalld_lets_pods_through_and_forgets_them() {
    let outside = outside();
    let _firewalld = Firewalld::start();
    let network = Network::bridge("net", 21);
    let (a, b, c) = (Pod::new("a"), Pod::new("b"), Pod::new("c"));
    let third = network.bare().add(&c, "eth0").expect("an ADD");
    let sources = || run("firewall-cmd --zone=trusted --list-sources");
    assert_eq!(sources().trim(), "");
    misses(&c, &[OUTSIDE4, OUTSIDE6]);
    let first = network.add(&a);
    network.add(&b);
    reaches(&a, &[OUTSIDE4, OUTSIDE6]);
    misses(&outside, &ips(&first));
    let count = sources().split_whitespace().count();
    assert_eq!(count, 4, "{}", sources());
    let check = network.check(&a, &first);
    assert!(check.is_success(), "{check}");
    // Taken out by somebody: told.
    let address = ips(&first).swap_remove(0);
    run(&format!(
        "firewall-cmd --zone=trusted --remove-source={address}/32"
    ));
    let failure = network.check(&a, &first).failure();
    assert!(
        failure
            .msg
            .contains(&format!("{address} is not in firewalld's zone trusted")),
        "{failure:?}"
    );
    network.of_network("STATUS", json!({})).silent_success();
    // Another zone by name; one that there is not.
    let nowhere = network.clone().with(json!({ "firewalldZone": "nowhere" }));
    let status = nowhere.of_network("STATUS", json!({})).failure();
    assert_eq!(status.code, 50, "{status:?}");
    let made = state();
    let failed = nowhere.run("ADD", &c, &third).run().failure();
    assert!(failed.msg.contains("zone nowhere"), "{failed:?}");
    state().assert_unchanged_since(&made);
    // In it already, by somebody else: fine. What is to stay does.
    let [now, always] = <[_; 2]>::try_from(ips(&third)).expect("an address of each family");
    run(&format!(
        "firewall-cmd --zone=trusted --add-source={now}/32"
    ));
    for how in ["", " --permanent"] {
        run(&format!(
            "firewall-cmd{how} --zone=trusted --add-source={always}/128"
        ));
    }
    network.run("ADD", &c, &third).run().result();
    reaches(&c, &[OUTSIDE4, OUTSIDE6]);
    network.del(&c);
    let left = sources();
    assert!(!left.contains(&format!("{now}/")), "{left}");
    assert!(left.contains(&format!("{always}/128")), "{left}");
    run(&format!(
        "firewall-cmd --zone=trusted --remove-source={always}/128"
    ));
    // By our mark alone, and by GC.
    network.del(&a);
    let valid = json!({ "cni.dev/valid-attachments": [] });
    network.of_network("GC", valid).silent_success();
    assert_eq!(sources().trim(), "");
    assert!(state().lines("cni_firewall").is_empty());
    // Not asked for: not used.
    let plain = network.clone().with(json!({ "backend": "iptables" }));
    plain.add(&a);
    assert_eq!(sources().trim(), "");
    plain.del(&a);
}

pub(crate) fn firewalld_that_is_asked_for_and_not_there_is_told() {
    let network = Network::bridge("net", 21).with(json!({ "backend": "firewalld" }));
    let pod = Pod::new("pod");
    let result = network.bare().add(&pod, "eth0").expect("an ADD");
    let before = state();
    let status = network.of_network("STATUS", json!({})).failure();
    assert_eq!(status.code, 50, "{status:?}");
    assert!(status.msg.contains("firewalld"), "{status:?}");
    let failure = network.run("ADD", &pod, &result).run().failure();
    assert_eq!(failure.code, 11, "{failure:?}");
    assert!(failure.msg.contains("firewalld"), "{failure:?}");
    state().assert_unchanged_since(&before);
    let del = network.run("DEL", &pod, &result).run();
    del.silent_success();
}
