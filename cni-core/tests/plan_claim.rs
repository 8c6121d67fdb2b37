//! Claims: elements that one attachment alone may have; and what is made after the nftables objects.

// Helper functions of tests are not `#[test]`s, by which clippy knows what may panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg(feature = "testing")]

use cni_core::host::Host;
use cni_core::host::firewall::{
    DataType, Element, ElementData, Family, SetSpec, Table, TableSpec, Value, ValueType,
};
use cni_core::plan::Scope;
use cni_core::plan::{
    Change, Desired, Establishing, Handles, Object, Place, Plan, diff, establish, observe,
};
use cni_core::testing::FakeKernel;
use cni_core::{Cancel, ErrorKind, Result};

fn table() -> TableSpec {
    TableSpec {
        table: Table {
            family: Family::Inet,
            name: "t".to_owned(),
        },
        sets: vec![
            SetSpec::new("m", [ValueType::Port]).to(DataType::Values(vec![ValueType::Port])),
        ],
        chains: Vec::new(),
    }
}

fn desired(holder: &str, to: u16) -> Desired {
    let mut desired = Desired::new();
    desired.share_after(
        Place::Host,
        Object::Sysctl {
            key: "net/ipv4/ip_forward".to_owned(),
            value: "1".to_owned(),
        },
    );
    desired.share(Place::Host, Object::Table(table()));
    let mut element = Element::new(vec![Value::Port(80)]);
    element.data = Some(ElementData::Values(vec![Value::Port(to)]));
    element.comment = Some(holder.to_owned());
    desired.own(
        Place::Host,
        Object::Claim {
            table: table().table,
            set: "m".to_owned(),
            element,
            what: "port 80".to_owned(),
        },
    );
    desired
}

async fn make(host: &Host, desired: &Desired) -> Result<Plan> {
    let handles = Handles {
        host,
        sandbox: None,
    };
    let (plan, journal) = establish(desired, &handles, &Cancel::new(), Establishing::Apply).await?;
    journal.keep();
    Ok(plan)
}

async fn check(host: &Host, desired: &Desired) -> Result<Plan> {
    let handles = Handles {
        host,
        sandbox: None,
    };
    diff(desired, &observe(&handles, desired, Scope::All).await?)
}

#[tokio::test]
async fn what_is_dangerous_without_rules_is_made_after_them_and_taken_back_before() {
    let kernel = FakeKernel::new();
    let host = kernel.host();
    let plan = make(&host, &desired("cni:n/a/eth0", 1)).await.unwrap();
    let kinds: Vec<bool> = plan
        .steps()
        .iter()
        .map(|step| matches!(step.change, Change::Firewall(_)))
        .collect();
    assert_eq!(kinds, [true, false]);
    assert!(
        check(&host, &desired("cni:n/a/eth0", 1))
            .await
            .unwrap()
            .is_empty()
    );
    let kernel = FakeKernel::new();
    kernel.fail_write(2, 12);
    let host = kernel.host();
    make(&host, &desired("cni:n/a/eth0", 1)).await.unwrap_err();
    assert_eq!(host.firewall.table(&table().table).await.unwrap(), None);
}

#[tokio::test]
async fn a_claim_is_replaced_under_its_own_mark_and_refused_under_another() {
    let host = FakeKernel::new().host();
    make(&host, &desired("cni:n/a/eth0", 1)).await.unwrap();
    let error = make(&host, &desired("cni:n/b/eth0", 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(
        error.to_string(),
        "port 80 is taken by attachment n/a/eth0 already"
    );
    let plan = check(&host, &desired("cni:n/a/eth0", 2)).await.unwrap();
    let reasons: Vec<&str> = plan.reasons().collect();
    assert!(reasons[0].contains("has another value"), "{reasons:?}");
    make(&host, &desired("cni:n/a/eth0", 2)).await.unwrap();
    let found = host.firewall.elements(&table().table, "m").await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].data,
        Some(ElementData::Values(vec![Value::Port(2)]))
    );
}
