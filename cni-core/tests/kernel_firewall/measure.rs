//! `cargo test -p cni-core --test kernel_firewall -- --measure`: what each operation takes, median of many.

use std::time::{Duration, Instant};

use cni_core::host::Firewall;
use cni_core::host::firewall::*;

use crate::support::*;

pub fn measure() -> Result<(), String> {
    let spec = masquerade();
    let t = &spec.table;
    let firewall = KernelFirewall::new();
    commit(&spec.converge()).unwrap();
    let one = |n| {
        vec![marked(
            vec![v4(n)],
            "network/container-id/eth0 and so on to fill it",
        )]
    };
    let mut next = 0;
    median("commit of one element add", 200, || {
        next += 1;
        wait(firewall.commit(&[add(t, "pods4", one(next))])).unwrap();
    });
    median("open, commit of one element add, close", 200, || {
        next += 1;
        commit(&[add(t, "pods4", one(next))]).unwrap();
    });
    median("table()", 200, || {
        wait(firewall.table(t)).unwrap();
    });
    median("element()", 200, || {
        wait(firewall.element(t, "pods4", &[v4(1)])).unwrap();
    });
    median("commit of one element delete, with close", 20, || {
        wait(firewall.commit(&[del(t, "pods4", one(next))])).unwrap();
        next -= 1;
    });
    let mut many: Vec<Element> = (10_000..15_000).flat_map(one).collect();
    let (head, tail) = many.split_at(2500);
    median("commit of 2,500 element adds", 1, || {
        wait(firewall.commit(&[add(t, "pods4", head.to_vec())])).unwrap();
    });
    wait(firewall.commit(&[add(t, "pods4", tail.to_vec())])).unwrap();
    median("elements() of 5,000", 20, || {
        assert!(wait(firewall.elements(t, "pods4")).unwrap().len() >= 5000);
    });
    median("commit of 5,000 element deletes, with close", 1, || {
        let all = std::mem::take(&mut many);
        wait(firewall.commit(&[del(t, "pods4", all)])).unwrap();
    });
    median("converge() of a table that stands, with close", 20, || {
        wait(firewall.commit(&spec.converge())).unwrap();
    });
    Ok(())
}

fn median(what: &str, times: usize, mut work: impl FnMut()) {
    let mut taken: Vec<Duration> = (0..times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    taken.sort();
    println!("{:>10.1?}  {what}", taken[times / 2]);
}
