//! A host that firewalld rules.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cni_testkit::{Pod, Process, skip};
use serde_json::json;

use super::world::{
    Network, OUTSIDE4, OUTSIDE6, ips, misses, outside, reaches, run, state, try_run,
};

/// A message bus that lets everybody ask for everything.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"#;

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "{what} did not come within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A bus of the test's own, and firewalld on it, as they are in Debian. Whoever may not run them skips.
fn firewalld() -> (Process, Process) {
    for program in ["/usr/bin/dbus-daemon", "/usr/sbin/firewalld"] {
        if !Path::new(program).exists() {
            skip(&format!("{program} is not installed"));
        }
    }
    fs::create_dir_all("/run/dbus").expect("/run is the test's own");
    fs::write("/run/bus.conf", BUS).expect("/run is the test's own");
    let bus = Process::start(Command::new("/usr/bin/dbus-daemon").args([
        "--nofork",
        "--nopidfile",
        "--config-file=/run/bus.conf",
    ]));
    let socket = Path::new("/run/dbus/system_bus_socket");
    wait_for("the message bus", || socket.exists());
    // The configuration as Debian has it, but in a place that is the test's own.
    fs::create_dir_all("/run/firewalld.conf.d").expect("/run is the test's own");
    let firewalld = Process::start(Command::new("/usr/sbin/firewalld").args([
        "--nofork",
        "--nopid",
        "--system-config",
        "/run/firewalld.conf.d",
        "--log-target",
        "console",
    ]));
    wait_for("firewalld", || try_run("firewall-cmd --state").0);
    (bus, firewalld)
}

pub(crate) fn firewalld_lets_pods_through_and_forgets_them() {
    let outside = outside();
    let (_bus, _firewalld) = firewalld();
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
