//! Transactions: all or nothing, exclusive, with errors that name the culprit.

use std::task::{Context, Poll, Waker};

use cni_core::host::Firewall;
use cni_core::host::firewall::*;
use cni_core::host::netlink::errno;

use crate::support::*;

tests!(
    an_element_that_exists_is_refused_and_named,
    a_missing_element_rolls_the_whole_transaction_back,
    a_failed_change_in_the_middle_leaves_nothing_of_the_others,
    a_chain_cannot_be_deleted_while_an_element_refers_to_it,
    five_thousand_elements_come_and_go_in_single_transactions,
    twenty_thousand_elements_are_one_transaction_of_root,
    as_many_elements_as_are_promised_are_one_transaction_of_any_user,
    a_commit_that_deletes_can_be_awaited_beside_others,
    a_process_that_lasts_deletes_without_leaving_the_callers_thread,
    an_impossible_rule_is_refused_before_the_kernel_is_asked,
    a_process_without_the_capability_gets_a_plain_answer,
);

fn an_element_that_exists_is_refused_and_named() -> Result<(), String> {
    let spec = masquerade();
    commit(&spec.converge()).unwrap();
    let t = &spec.table;
    commit(&[add(t, "pods4", vec![marked(vec![v4(700)], "mark")])]).unwrap();
    let many = (0..1500).map(|n| marked(vec![v4(n)], "a mark of some length to fill messages"));
    let error = commit(&[add(t, "pods4", many.collect())]).unwrap_err();
    assert_eq!(error.errno, errno::EEXIST, "{error}");
    assert_eq!(
        error.operation,
        "nft 'create element inet cni_test pods4 { 10.1.2.188 comment \"a mark of some length to \
         fill messages\" }'"
    );
    assert_eq!(elements(t, "pods4"), [marked(vec![v4(700)], "mark")]);
    Ok(())
}

fn a_missing_element_rolls_the_whole_transaction_back() -> Result<(), String> {
    let spec = masquerade();
    commit(&spec.converge()).unwrap();
    let t = &spec.table;
    commit(&[add(t, "pods4", vec![Element::new(vec![v4(1)])])]).unwrap();
    let error = commit(&[
        add(t, "pods4", vec![Element::new(vec![v4(2)])]),
        del(t, "pods4", vec![Element::new(vec![v4(1)])]),
        del(t, "pods4", vec![Element::new(vec![v4(3)])]),
    ])
    .unwrap_err();
    assert_eq!(error.errno, errno::ENOENT, "{error}");
    assert_eq!(
        error.operation,
        "nft 'delete element inet cni_test pods4 { 10.1.0.3 }'"
    );
    assert_eq!(elements(t, "pods4"), [Element::new(vec![v4(1)])]);
    Ok(())
}

fn a_failed_change_in_the_middle_leaves_nothing_of_the_others() -> Result<(), String> {
    let t = table(Family::Inet);
    let mut changes = masquerade().converge();
    changes.push(FirewallChange::ChainFlush {
        table: t.clone(),
        chain: "absent".to_owned(),
    });
    let error = commit(&changes).unwrap_err();
    assert_eq!(error.errno, errno::ENOENT);
    assert_eq!(error.operation, "nft flush chain inet cni_test absent");
    assert_eq!(state(&t), None);
    Ok(())
}

fn a_chain_cannot_be_deleted_while_an_element_refers_to_it() -> Result<(), String> {
    let spec = masquerade();
    commit(&spec.converge()).unwrap();
    let t = &spec.table;
    let mut element = marked(vec![v4(1)], "net one");
    element.data = Some(ElementData::Verdict(Verdict::Goto("net1".to_owned())));
    commit(&[add(t, "nets4", vec![element.clone()])]).unwrap();
    let chain = FirewallChange::ChainDel {
        table: t.clone(),
        chain: "net1".to_owned(),
    };
    let error = commit(std::slice::from_ref(&chain)).unwrap_err();
    assert_eq!(error.errno, errno::EBUSY, "{error}");
    commit(&[del(t, "nets4", vec![element]), chain]).unwrap();
    let state = state(t).unwrap();
    assert!(state.chains.iter().all(|chain| chain.name != "net1"));
    Ok(())
}

/// 5,000 bare elements fit the send buffer of an ordinary user too.
fn five_thousand_elements_come_and_go_in_single_transactions() -> Result<(), String> {
    let spec = masquerade();
    commit(&spec.converge()).unwrap();
    let t = &spec.table;
    let all: Vec<Element> = (0..5000).map(|n| marked(vec![v4(n)], "mark")).collect();
    commit(&[add(t, "pods4", all.clone())]).unwrap();
    assert_eq!(elements(t, "pods4"), all);
    commit(&[del(t, "pods4", all)]).unwrap();
    assert_eq!(elements(t, "pods4"), []);
    Ok(())
}

/// Pairs of an IPv6 address and an IPv6 network: the largest keys that are promised.
fn pairs(count: u32) -> Vec<Element> {
    let v6 = |n: u32, high: u128| Value::Ipv6((high << 112 | u128::from(n)).into());
    (0..count)
        .map(|n| Element::new(vec![v6(n, 0xfd00), v6(n, 0xfd01)]))
        .collect()
}

fn pair_set() -> [FirewallChange; 2] {
    let t = table(Family::Inet);
    let set = SetSpec::new("pairs", [ValueType::Ipv6, ValueType::Ipv6]);
    let table = t.clone();
    [
        FirewallChange::TableAdd(t),
        FirewallChange::SetAdd { table, set },
    ]
}

fn come_and_go(all: Vec<Element>) {
    let t = table(Family::Inet);
    commit(&[add(&t, "pairs", all.clone())]).unwrap();
    let mut streamed = Vec::new();
    wait(KernelFirewall::new().each_element(&t, "pairs", &mut |element| streamed.push(element)))
        .unwrap();
    streamed.sort_by(|a, b| a.key.cmp(&b.key));
    streamed.dedup();
    assert_eq!(streamed.len(), all.len());
    assert!(streamed == all && elements(&t, "pairs") == all);
    commit(&[del(&t, "pairs", all)]).unwrap();
    assert_eq!(elements(&t, "pairs"), []);
}

fn twenty_thousand_elements_are_one_transaction_of_root() -> Result<(), String> {
    commit(&pair_set()).unwrap();
    let t = table(Family::Inet);
    match commit(&[add(&t, "pairs", pairs(20_000))]) {
        Err(error) if error.errno == EMSGSIZE => return Err("this is not root".to_owned()),
        outcome => outcome.unwrap(),
    }
    commit(&[del(&t, "pairs", pairs(20_000))]).unwrap();
    // While the kernel still moves the elements to a larger table, and to a smaller one: they are read whole all the same.
    for _ in 0..10 {
        come_and_go(pairs(20_000));
    }
    Ok(())
}

const EMSGSIZE: i32 = 90;

/// Argument of the child process in a user namespace.
pub const IN_USER_NAMESPACE: &str = "--in-user-namespace";

/// What the child checks.
pub fn many_as_an_ordinary_user() {
    commit(&pair_set()).unwrap();
    come_and_go(pairs(TRANSACTION_ELEMENTS as u32));
    let t = table(Family::Inet);
    // The bound is the machine's: where it lies cannot be read in a namespace of every kernel.
    let mut many = TRANSACTION_ELEMENTS as u32;
    let error = loop {
        many *= 2;
        match commit(&[add(&t, "pairs", pairs(many))]) {
            Ok(()) => commit(&[del(&t, "pairs", pairs(many))]).unwrap(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.errno, EMSGSIZE, "{error}");
    assert!(error.to_string().contains("wmem_max"), "{error}");
    assert_eq!(elements(&t, "pairs"), []);
    // In several they come all the same.
    for some in pairs(20_000).chunks(TRANSACTION_ELEMENTS) {
        commit(&[add(&t, "pairs", some.to_vec())]).unwrap();
    }
    assert_eq!(elements(&t, "pairs").len(), 20_000);
}

fn as_many_elements_as_are_promised_are_one_transaction_of_any_user() -> Result<(), String> {
    let status = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(std::env::current_exe().unwrap())
        .arg(IN_USER_NAMESPACE)
        .status();
    match status {
        Ok(status) => assert!(status.success()),
        Err(error) => return Err(format!("unshare cannot be run: {error}")),
    }
    Ok(())
}

fn a_commit_that_deletes_can_be_awaited_beside_others() -> Result<(), String> {
    let spec = masquerade();
    commit(&spec.converge()).unwrap();
    let t = &spec.table;
    let both = vec![Element::new(vec![v4(1)]), Element::new(vec![v4(2)])];
    commit(&[add(t, "pods4", both.clone())]).unwrap();
    let firewall = KernelFirewall::new();
    wait(async {
        let one = [del(t, "pods4", both[..1].to_vec())];
        let two = [del(t, "pods4", both[1..].to_vec())];
        let (one, two) = tokio::join!(firewall.commit(&one), firewall.commit(&two));
        one.unwrap();
        two.unwrap();
    });
    assert_eq!(elements(t, "pods4"), []);
    Ok(())
}

fn a_process_that_lasts_deletes_without_leaving_the_callers_thread() -> Result<(), String> {
    let firewall = KernelFirewall::lasting();
    let t = table(Family::Inet);
    let mut context = Context::from_waker(Waker::noop());
    for changes in [
        masquerade().converge(),
        vec![add(&t, "pods4", vec![Element::new(vec![v4(1)])])],
        vec![del(&t, "pods4", vec![Element::new(vec![v4(1)])])],
        vec![FirewallChange::TableDel(t.clone())],
    ] {
        let mut commit = firewall.commit(&changes);
        assert_eq!(commit.as_mut().poll(&mut context), Poll::Ready(Ok(())));
    }
    assert_eq!(state(&t), None);
    Ok(())
}

fn an_impossible_rule_is_refused_before_the_kernel_is_asked() -> Result<(), String> {
    let mut spec = everything(Family::Ip6);
    spec.chains[0].rules = masquerade().chains[0].rules.clone();
    let error = commit(&spec.converge()).unwrap_err();
    assert_eq!(error.errno, 0);
    assert_eq!(
        error.message.as_deref(),
        Some("`ip saddr` cannot be read in an ip6 table")
    );
    assert_eq!(state(&spec.table), None);
    Ok(())
}

/// Argument of the child process that has no capability.
pub const EXPECT_EPERM: &str = "--expect-eperm";

/// What the child checks.
pub fn expect_eperm() {
    let t = table(Family::Inet);
    let error = commit(&[FirewallChange::TableAdd(t.clone())]).unwrap_err();
    assert_eq!(error.errno, errno::EPERM, "{error}");
    assert_eq!(error.operation, "nft add table inet cni_test");
    let error = wait(KernelFirewall::new().table(&t)).unwrap_err();
    assert_eq!(error.errno, errno::EPERM, "{error}");
    let words = "nftables needs CAP_NET_ADMIN in the network namespace";
    assert_eq!(error.message.as_deref(), Some(words));
}

fn a_process_without_the_capability_gets_a_plain_answer() -> Result<(), String> {
    let status = std::process::Command::new("setpriv")
        .args(["--bounding-set=-net_admin", "--inh-caps=-all"])
        .arg(std::env::current_exe().unwrap())
        .arg(EXPECT_EPERM)
        .status();
    match status {
        Ok(status) => assert!(status.success()),
        Err(error) => return Err(format!("setpriv cannot be run: {error}")),
    }
    Ok(())
}
