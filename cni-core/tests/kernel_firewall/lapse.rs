//! Elements that lapse rather than being deleted, seen by nft's own monitor.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use cni_core::host::firewall::*;
use cni_core::host::netlink::errno;

use crate::support::*;

tests!(
    what_is_alone_in_a_transaction_lapses_and_can_be_added_again_at_once,
    what_leads_to_a_chain_is_deleted_and_frees_the_chain,
    what_is_in_a_set_without_ends_is_deleted,
    what_is_deleted_with_other_things_is_deleted,
    a_missing_element_is_told_of_and_nothing_lapses,
    a_process_that_lasts_deletes,
);

/// `nft monitor`, which prints what becomes of elements.
struct Monitor {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Monitor {
    /// The error is the reason to skip.
    fn start() -> Result<Self, String> {
        let mut child = Command::new("nft")
            .arg("monitor")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("nft cannot be run: {error}"))?;
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut monitor = Self { child, lines };
        // It listens once it tells of a table that is made time and again.
        let begun = table(Family::Ip6);
        let mut ended = None;
        std::thread::scope(|scope| {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            // The sockets of a thread are of the namespace that it was made in.
            scope.spawn(move || {
                // With pauses: it begins with a list of all, which it reads anew when something changes meanwhile. They grow
                // until it gets through.
                let mut pause = Duration::from_millis(50);
                while stopped.recv_timeout(pause).is_err() {
                    pause = (pause * 2).min(Duration::from_secs(2));
                    commit(&[FirewallChange::TableAdd(begun.clone())]).unwrap();
                    commit(&[FirewallChange::TableDel(begun.clone())]).unwrap();
                }
            });
            ended = Some(monitor.line());
            stop.send(()).unwrap();
        });
        assert!(ended.unwrap().contains("ip6 cni_test"));
        Ok(monitor)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "nft monitor ended");
        line
    }

    /// What was told of elements, up to now.
    fn told(mut self) -> Vec<String> {
        let end = Table {
            name: "end".to_owned(),
            ..table(Family::Ip)
        };
        commit(&[FirewallChange::TableAdd(end)]).unwrap();
        let mut told = Vec::new();
        loop {
            let line = self.line();
            if line.contains("add table ip end") {
                return told;
            }
            if line.contains("element") {
                told.push(line.trim().to_owned());
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn t() -> Table {
    table(Family::Inet)
}

fn set(name: &str) -> SetSpec {
    SetSpec::new(name, [ValueType::Ipv4]).lapsing()
}

/// A table with sets whose elements can have an end: addresses, addresses by addresses, verdicts; and one without.
fn made() {
    let sets = [
        set("addresses"),
        set("pods").to(DataType::Values(vec![ValueType::Ipv4, ValueType::Port])),
        set("verdicts").to(DataType::Verdict),
        SetSpec::new("lasting", [ValueType::Ipv4]),
    ];
    let mut changes = vec![FirewallChange::TableAdd(t())];
    changes.extend(sets.map(|set| FirewallChange::SetAdd { table: t(), set }));
    changes.push(chain_add());
    commit(&changes).unwrap();
}

fn chain_add() -> FirewallChange {
    FirewallChange::ChainAdd {
        table: t(),
        chain: "to".to_owned(),
        hook: None,
    }
}

fn leading(verdict: Verdict) -> Element {
    let mut element = marked(vec![v4(1)], "mark");
    element.data = Some(ElementData::Verdict(verdict));
    element
}

fn what_is_alone_in_a_transaction_lapses_and_can_be_added_again_at_once() -> Result<(), String> {
    made();
    let mut pod = marked(vec![v4(1)], "mark");
    pod.data = Some(ElementData::Values(vec![v4(7), Value::Port(80)]));
    let cases = [
        ("addresses", marked(vec![v4(1)], "mark")),
        ("pods", pod),
        ("verdicts", leading(Verdict::Accept)),
    ];
    let others = |set: &str| elements(&t(), set);
    for (set, element) in &cases {
        let mut other = element.clone();
        other.key = vec![v4(2)];
        commit(&[add(&t(), set, vec![element.clone(), other])]).unwrap();
    }
    let monitor = Monitor::start()?;
    for _ in 0..3 {
        // By the key alone, as a caller may know it.
        let deletions = cases
            .clone()
            .map(|(set, element)| del(&t(), set, vec![Element::new(element.key)]));
        commit(&deletions).unwrap();
        for (set, element) in &cases {
            assert_eq!(others(set).len(), 1, "{set}");
            let firewall = KernelFirewall::new();
            let found = wait(firewall.element(&t(), set, &element.key)).unwrap();
            assert_eq!(found, None, "{set}");
            commit(&[add(&t(), set, vec![element.clone()])]).unwrap();
            assert_eq!(others(set).len(), 2, "{set}");
        }
    }
    let told = monitor.told();
    let count = |fits: &dyn Fn(&str) -> bool| told.iter().filter(|line| fits(line)).count();
    let ends = count(&|line| line.contains(" timeout "));
    let deletions = count(&|line| line.starts_with("delete "));
    match takes_ends()? {
        true => assert_eq!((ends, deletions), (9, 0), "{told:#?}"),
        false => assert_eq!(deletions, 9, "{told:#?}"),
    }
    Ok(())
}

/// Whether this kernel gives an element that is there an end (Linux 6.12), by nft alone.
fn takes_ends() -> Result<bool, String> {
    let set = "add table ip probe; add set ip probe s { type ipv4_addr; flags timeout; }";
    crate::nft::nft(&format!("{set}; add element ip probe s {{ 192.0.2.1 }}"))?;
    crate::nft::nft("add element ip probe s { 192.0.2.1 timeout 1h }")?;
    let list = Command::new("nft")
        .args(["list", "set", "ip", "probe", "s"])
        .output();
    let list = list.map_err(|error| format!("nft cannot be run: {error}"))?;
    Ok(String::from_utf8_lossy(&list.stdout).contains("expires"))
}

/// What is told of the deletion of an element that this puts into a set.
fn told_of_deletion(
    set: &str,
    element: &Element,
    with: &[FirewallChange],
) -> Result<Vec<String>, String> {
    commit(&[add(&t(), set, vec![element.clone()])]).unwrap();
    let monitor = Monitor::start()?;
    let deletion = [&[del(&t(), set, vec![element.clone()])], with].concat();
    commit(&deletion).unwrap();
    assert_eq!(elements(&t(), set), []);
    Ok(monitor.told())
}

fn is_deleted(told: &[String]) {
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("delete "), "{told:#?}");
}

fn what_leads_to_a_chain_is_deleted_and_frees_the_chain() -> Result<(), String> {
    made();
    let element = leading(Verdict::Goto("to".to_owned()));
    is_deleted(&told_of_deletion("verdicts", &element, &[])?);
    let chain = FirewallChange::ChainDel {
        table: t(),
        chain: "to".to_owned(),
    };
    commit(&[chain]).unwrap();
    Ok(())
}

fn what_is_in_a_set_without_ends_is_deleted() -> Result<(), String> {
    made();
    let told = told_of_deletion("lasting", &marked(vec![v4(1)], "mark"), &[])?;
    is_deleted(&told);
    Ok(())
}

fn what_is_deleted_with_other_things_is_deleted() -> Result<(), String> {
    made();
    let with = [FirewallChange::ChainFlush {
        table: t(),
        chain: "to".to_owned(),
    }];
    let told = told_of_deletion("addresses", &marked(vec![v4(1)], "mark"), &with)?;
    is_deleted(&told);
    Ok(())
}

fn a_missing_element_is_told_of_and_nothing_lapses() -> Result<(), String> {
    made();
    let kept = marked(vec![v4(1)], "mark");
    commit(&[add(&t(), "addresses", vec![kept.clone()])]).unwrap();
    let missing = Element::new(vec![v4(2)]);
    let error = commit(&[
        del(&t(), "addresses", vec![kept.clone()]),
        del(&t(), "addresses", vec![missing]),
    ])
    .unwrap_err();
    assert_eq!(error.errno, errno::ENOENT, "{error}");
    assert!(error.operation.contains("10.1.0.2"), "{error}");
    assert_eq!(elements(&t(), "addresses"), [kept]);
    Ok(())
}

fn a_process_that_lasts_deletes() -> Result<(), String> {
    made();
    let element = marked(vec![v4(1)], "mark");
    commit(&[add(&t(), "addresses", vec![element.clone()])]).unwrap();
    let monitor = Monitor::start()?;
    let firewall = KernelFirewall::lasting();
    wait(firewall.commit(&[del(&t(), "addresses", vec![element])])).unwrap();
    is_deleted(&monitor.told());
    Ok(())
}
