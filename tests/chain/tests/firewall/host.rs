//! Hosts whose own rules drop what they forward.

use cni_testkit::Pod;
use serde_json::json;

use super::world::{
    Network, OUTSIDE4, OUTSIDE6, forward_drops, ips, legacy_forward_drops, misses, outside,
    reaches, run, state, try_run,
};

const OUTSIDE: [&str; 2] = [OUTSIDE4, OUTSIDE6];

pub(crate) fn pods_talk_where_forward_drops_and_nobody_else_does() {
    let outside = outside();
    forward_drops();
    let (one, two) = (Network::bridge("one", 21), Network::bridge("two", 22));
    let bare = Network::bridge("bare", 23);
    let (a, b, c) = (Pod::new("a"), Pod::new("b"), Pod::new("c"));
    let without = bare.bare().add(&c, "eth0").expect("an ADD");
    let before = state();
    let first = one.add(&a);
    let second = two.add(&b);
    reaches(&a, &ips(&second));
    reaches(&b, &ips(&first));
    reaches(&a, &OUTSIDE);
    // The host's policy stands for everybody else, and for what nobody has asked a pod for.
    misses(&c, &OUTSIDE);
    misses(&outside, &ips(&first));
    misses(&outside, &ips(&without));
    for line in ["iptables-nft -S FORWARD", "ip6tables-nft -S FORWARD"] {
        let rules = run(line);
        let ours = "-A FORWARD -m comment --comment \"cni: accepted by inet cni_firewall\" \
                    -m mark --mark 0x1000/0x1000 -j ACCEPT";
        let ours_too = "-A FORWARD -m mark --mark 0x1000/0x1000 -m comment --comment \
                        \"cni: accepted by inet cni_firewall\" -j ACCEPT";
        let count = rules.matches(ours).count() + rules.matches(ours_too).count();
        assert_eq!(count, 1, "{rules}");
        assert_eq!(rules.lines().count(), 2, "{rules}");
    }
    one.del(&a);
    two.del(&b);
    let left = state();
    for text in ["cni_firewall", "1=filter "] {
        assert_eq!(left.lines(text), before.lines(text));
    }
    let rules = run("iptables-nft -S FORWARD");
    assert_eq!(rules.trim(), "-P FORWARD DROP");
}

pub(crate) fn pods_behind_ptp_talk_where_forward_drops() {
    let _outside = outside();
    forward_drops();
    let network = Network::ptp("net", 21);
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let first = network.add(&a);
    let second = network.add(&b);
    reaches(&a, &ips(&second));
    reaches(&b, &OUTSIDE);
    network.del(&b);
    let again = Pod::new("again");
    let third = network.bare().add(&again, "eth0").expect("an ADD");
    misses(&again, &OUTSIDE);
    reaches(&a, &OUTSIDE);
    let _ = (first, third);
    network.del(&a);
    assert!(
        state()
            .lines("cni")
            .iter()
            .all(|line| !line.contains("accepted by"))
    );
}

/// What `dockerd` 28 makes for its default bridge, without NAT.
const DOCKER: [&str; 20] = [
    "-P FORWARD DROP",
    "-N DOCKER",
    "-N DOCKER-BRIDGE",
    "-N DOCKER-CT",
    "-N DOCKER-FORWARD",
    "-N DOCKER-ISOLATION-STAGE-1",
    "-N DOCKER-ISOLATION-STAGE-2",
    "-N DOCKER-USER",
    "-A DOCKER ! -i docker0 -o docker0 -j DROP",
    "-A DOCKER-BRIDGE -o docker0 -j DOCKER",
    "-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A DOCKER-FORWARD -j DOCKER-CT",
    "-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1",
    "-A DOCKER-FORWARD -j DOCKER-BRIDGE",
    "-A DOCKER-FORWARD -i docker0 -j ACCEPT",
    "-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2",
    "-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP",
    "-I FORWARD -j DOCKER-FORWARD",
    "-I FORWARD -j DOCKER-USER",
    "-A DOCKER-USER -j RETURN",
];

fn docker() {
    for program in ["iptables-nft", "ip6tables-nft"] {
        for rule in DOCKER {
            run(&format!("{program} {rule}"));
        }
    }
}

pub(crate) fn beside_the_rules_of_docker_pods_talk_and_iptables_lists_all() {
    let _outside = outside();
    let (one, two) = (Network::bridge("one", 21), Network::bridge("two", 22));
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    docker();
    let listing = || {
        let lists = [
            "iptables-nft -S",
            "ip6tables-nft -S",
            "iptables-nft -L -n",
            "iptables-nft-save",
        ];
        lists.map(run)
    };
    let rules = run("iptables-nft -S");
    let first = one.add(&a);
    let second = two.add(&b);
    reaches(&a, &ips(&second));
    reaches(&a, &OUTSIDE);
    for text in listing() {
        assert!(
            text.contains("cni: accepted by inet cni_firewall"),
            "{text}"
        );
        assert!(!text.contains("incompatible"), "{text}");
    }
    // Docker starts anew: it puts its own ahead again, and ours stays in force.
    run("iptables-nft -D FORWARD -j DOCKER-USER");
    run("iptables-nft -D FORWARD -j DOCKER-FORWARD");
    run("iptables-nft -I FORWARD -j DOCKER-FORWARD");
    run("iptables-nft -I FORWARD -j DOCKER-USER");
    reaches(&a, &ips(&second));
    reaches(&b, &ips(&first));
    one.del(&a);
    two.del(&b);
    assert_eq!(run("iptables-nft -S"), rules);
}
pub(crate) fn a_flushed_rule_is_named_by_check_and_mended_by_the_next_add() {
    let _outside = outside();
    forward_drops();
    let network = Network::bridge("net", 21);
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let first = network.add(&a);
    let check = network.check(&a, &first);
    assert!(check.is_success(), "{check}");
    for program in ["iptables-nft", "ip6tables-nft"] {
        run(&format!("{program} -F FORWARD"));
    }
    misses(&a, &OUTSIDE);
    let before = state();
    let failure = network.check(&a, &first).failure();
    for table in ["ip filter", "ip6 filter"] {
        let words = format!("chain FORWARD of table {table} lacks the rule");
        assert!(failure.msg.contains(&words), "{failure:?}");
    }
    state().assert_unchanged_since(&before);
    network.add(&b);
    reaches(&a, &OUTSIDE);
    let check = network.check(&a, &first);
    assert!(check.is_success(), "{check}");
}

pub(crate) fn what_an_admin_accepts_passes_the_hosts_policy() {
    let outside = outside();
    forward_drops();
    let network = Network::bridge("net", 21);
    let pod = Pod::new("pod");
    let addresses = ips(&network.add(&pod));
    misses(&outside, &addresses);
    run(&format!(
        "nft add rule inet cni_firewall CNI-ADMIN ip daddr {} accept",
        addresses[0]
    ));
    reaches(&outside, &addresses[..1]);
    misses(&outside, &addresses[1..]);
}

pub(crate) fn a_network_of_one_family_touches_nothing_of_the_other() {
    let _outside = outside();
    forward_drops();
    let six = run("ip6tables-nft -S");
    let network = Network::bridge("net", 21).v4();
    let pod = Pod::new("pod");
    network.add(&pod);
    reaches(&pod, &[OUTSIDE4]);
    assert_eq!(run("ip6tables-nft -S"), six);
    assert!(run("iptables-nft -S").contains("cni: accepted by"));
    network.del(&pod);
    // And the other way round.
    let four = run("iptables-nft -S");
    let network = Network::bridge("six", 22).v6();
    let pod = Pod::new("six");
    network.add(&pod);
    reaches(&pod, &[OUTSIDE6]);
    assert_eq!(run("iptables-nft -S"), four);
    assert!(run("ip6tables-nft -S").contains("cni: accepted by"));
}

pub(crate) fn the_bit_is_seen_inside_the_hook_alone() {
    let _outside = outside();
    forward_drops();
    let network = Network::bridge("net", 21);
    let pod = Pod::new("pod");
    network.add(&pod);
    run("nft add table inet seen");
    run("nft add chain inet seen in { type filter hook forward priority 0 ; }");
    run("nft add chain inet seen out { type filter hook postrouting priority 0 ; }");
    run("nft add rule inet seen in meta mark and 0x1000 == 0x1000 counter comment inside");
    run("nft add rule inet seen out meta mark and 0x1000 == 0x1000 counter comment behind");
    reaches(&pod, &OUTSIDE);
    let listing = run("nft list table inet seen");
    let packets = |name: &str| {
        let line = listing.lines().find(|line| line.contains(name));
        let line = line.unwrap_or_else(|| panic!("no rule {name}: {listing}"));
        !line.contains("packets 0 ")
    };
    assert!(packets("inside") && !packets("behind"), "{listing}");
}

pub(crate) fn a_chain_that_cannot_drop_gets_no_rule() {
    run("iptables-nft -P FORWARD ACCEPT");
    let rules = run("iptables-nft -S FORWARD");
    let network = Network::bridge("net", 21);
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let first = network.add(&a);
    assert_eq!(run("iptables-nft -S FORWARD"), rules);
    // As soon as it can: told, and mended.
    run("iptables-nft -A FORWARD -j REJECT");
    let failure = network.check(&a, &first).failure();
    assert!(failure.msg.contains("FORWARD"), "{failure:?}");
    network.add(&b);
    let check = network.check(&a, &first);
    assert!(check.is_success(), "{check}");
}

pub(crate) fn legacy_tables_get_the_rule_and_lose_it() {
    if !legacy_forward_drops() {
        // None are touched.
        Network::bridge("net", 21).add(&Pod::new("pod"));
        assert!(!run("iptables-legacy -S").contains("cni:"));
        return;
    }
    let six = try_run("ip6tables-legacy -P FORWARD DROP").0;
    let outside = outside();
    let network = Network::bridge("net", 21);
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let before = run("iptables-legacy -S");
    let reached = if six { &OUTSIDE[..] } else { &OUTSIDE[..1] };
    let first = network.add(&a);
    reaches(&a, reached);
    misses(&outside, &ips(&first)[..1]);
    let second = network.add(&b);
    assert_eq!(
        run("iptables-legacy -S FORWARD")
            .matches("cni: accepted")
            .count(),
        1
    );
    let check = network.check(&b, &second);
    assert!(check.is_success(), "{check}");
    run("iptables-legacy -F FORWARD");
    misses(&a, &OUTSIDE[..1]);
    let failure = network.check(&b, &second).failure();
    assert!(
        failure.msg.contains("iptables-legacy -I FORWARD"),
        "{failure:?}"
    );
    network.del(&b);
    network.add(&b);
    reaches(&a, reached);
    // Without a PATH as well: a runtime may give none.
    let outcome = network.run("CHECK", &a, &first).env("PATH", "").run();
    assert!(outcome.is_success(), "{outcome}");
    let closed = network.clone().with(json!({ "backend": "iptables" }));
    let check = closed.check(&a, &first);
    assert!(check.is_success(), "{check}");
    network.del(&a);
    network.del(&b);
    assert_eq!(run("iptables-legacy -S"), before);
    if six {
        assert!(!run("ip6tables-legacy -S").contains("cni:"));
    }
}
