//! What becomes of what was tuned: on a full disk, removed, collected, killed.

use std::fs;

use cni_testkit::{Pod, Snapshot, Test, at_every_moment, tests};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use super::{BACKUPS, assert_as_before, attached, keys, net, state, tuning};
use crate::net::{files, with};

pub(crate) const TESTS: &[Test] = &tests![
    a_full_disk_fails_the_add_and_changes_nothing,
    del_needs_nothing_but_the_names_of_tuning,
    gc_removes_files_of_what_is_not_valid,
    status_tells_whether_it_can_write,
    a_dry_run_prints_the_commands_of_tuning,
    a_verb_killed_anywhere_leaves_nothing_of_tuning,
];

fn a_full_disk_fails_the_add_and_changes_nothing() {
    let directory = "/run/full";
    fs::create_dir_all(directory).expect("/run is the test's own");
    let size = Some("size=4096");
    mount(
        Some("tmpfs"),
        directory,
        Some("tmpfs"),
        MsFlags::empty(),
        size,
    )
    .expect("a small file system");
    fs::write(format!("{directory}/filler"), vec![1; 4096]).expect("the last page");
    let (pod, previous) = attached();
    let before = state(&pod);
    let net = net(with(keys(), json!({ "dataDir": directory })));
    let plugin = net.plugin("tuning");
    let failure = net.run(plugin, "ADD", &pod, &previous).run().failure();
    assert_eq!(failure.code, 5, "{failure:?}");
    assert!(failure.msg.contains("/run/full/"), "{failure:?}");
    assert_as_before(&before, &pod, "a full disk");
    assert_eq!(files(directory).len(), 1, "nothing but the filler");
    // With room again.
    fs::remove_file(format!("{directory}/filler")).expect("the filler");
    net.run(plugin, "ADD", &pod, &previous).run().result();
    net.run(plugin, "DEL", &pod, &Value::Null)
        .run()
        .silent_success();
    assert_eq!(files(directory), []);
    assert_as_before(&before, &pod, "DEL");
}

fn del_needs_nothing_but_the_names_of_tuning() {
    let net = net(keys());
    let plugin = net.plugin("tuning");
    let broken = tuning(json!({ "sysctl": 7, "mtu": "x", "prevResult": 8, "args": 9 }));
    for (config, with_namespace) in [(plugin, true), (&broken, true), (plugin, false)] {
        let (pod, previous) = attached();
        let before = state(&pod);
        net.run(plugin, "ADD", &pod, &previous).run().result();
        let mut run = net.run(config, "DEL", &pod, &Value::Null);
        if !with_namespace {
            run = run.without("CNI_NETNS");
        }
        run.run().silent_success();
        assert_eq!(files(BACKUPS), []);
        if with_namespace {
            assert_as_before(&before, &pod, "DEL");
        }
        run.run().silent_success();
        net.del(&pod);
    }
    // A namespace that is gone.
    let (pod, previous) = attached();
    net.run(plugin, "ADD", &pod, &previous).run().result();
    let run = net.run(plugin, "DEL", &pod, &Value::Null);
    drop(pod);
    run.run().silent_success();
    assert_eq!(files(BACKUPS), []);
}

fn gc_removes_files_of_what_is_not_valid() {
    let net = net(json!({ "mtu": 1400 }));
    let (kept, lost) = (Pod::new("kept"), Pod::new("lost"));
    net.add(&kept);
    let before = files(BACKUPS);
    assert_eq!(before.len(), 1);
    net.add(&lost);
    fs::write(format!("{BACKUPS}/reference_eth0.json"), "{\"mtu\": 1500}").expect("a file");
    net.gc(&json!([{ "containerID": kept.id(), "ifname": "eth0" }]));
    fs::remove_file(format!("{BACKUPS}/reference_eth0.json")).expect("it is not ours");
    assert_eq!(files(BACKUPS), before);
}

fn status_tells_whether_it_can_write() {
    let net = net(keys());
    let before = Snapshot::take();
    net.status(net.plugin("tuning")).silent_success();
    Snapshot::take().assert_unchanged_since(&before);
    let failure = net
        .status(&tuning(json!({ "dataDir": "/dev/null/x" })))
        .failure();
    assert_eq!(failure.code, 50, "{failure:?}");
    assert!(failure.msg.contains("/dev/null/x"), "{failure:?}");
}

fn a_dry_run_prints_the_commands_of_tuning() {
    let (pod, previous) = attached();
    let before = state(&pod);
    let net = net(keys());
    let plugin = net.plugin("tuning");
    let dry = |verb| {
        let outcome = net
            .run(plugin, verb, &pod, &previous)
            .env("CNI_DRY_RUN", "1")
            .run();
        assert!(outcome.is_success(), "{outcome}");
        String::from_utf8(outcome.output.stderr).expect("text")
    };
    let printed = dry("ADD");
    for line in [
        "ip netns exec POD sysctl -w net/core/somaxconn=512",
        "ip netns exec POD ip link set dev eth0 mtu 1400",
        "ip netns exec POD ip link set dev eth0 address 02:11:22:33:44:55",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    assert_as_before(&before, &pod, "a dry run of ADD");
    net.run(plugin, "ADD", &pod, &previous).run().result();
    let made = state(&pod);
    let printed = dry("DEL");
    for line in [
        "ip netns exec POD ip link set dev eth0 mtu 1500",
        "rm /run/cni/tuning/",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    assert_as_before(&made, &pod, "a dry run of DEL");
}

fn a_verb_killed_anywhere_leaves_nothing_of_tuning() {
    let (pod, previous) = attached();
    let before = state(&pod);
    let net = net(keys());
    let plugin = net.plugin("tuning");
    let run = |verb| net.run(plugin, verb, &pod, &previous);
    for verb in ["ADD", "DEL"] {
        let died = at_every_moment(|number| {
            if verb == "DEL" {
                run("ADD").run().result();
            }
            let fate = run(verb).killed_at(number);
            net.run(plugin, "DEL", &pod, &Value::Null)
                .run()
                .silent_success();
            assert_as_before(&before, &pod, &format!("{verb} {fate}"));
            fate
        });
        assert!(died > 3, "{died} moments");
    }
}
