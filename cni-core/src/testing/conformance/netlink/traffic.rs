//! Token buckets and redirections.

use super::build::{add, del, pair};
use super::cases::Case;
use super::{DONE, link, make, refusals};
use crate::host::netlink::errno::{EEXIST, EINVAL, ENODEV, ENOENT};
use crate::host::netlink::{
    LinkKind, Netlink, NetlinkChange, NetlinkExt, NewLinkKind, Qdisc, Tbf, Traffic,
};

/// Runs the contract of [`Netlink`]'s traffic control in an empty namespace. Drivers needed: veth, ifb, sch_tbf, sch_ingress,
/// cls_u32 and act_mirred. All links that it makes are gone at the end.
///
/// # Panics
/// Where the implementation differs, saying in what.
pub async fn traffic_control(netlink: &dyn Netlink) {
    refusals(netlink, cases().into_iter()).await;
    limits_are_read_as_written(netlink).await;
    what_is_led_to_a_link_that_goes_leads_nowhere(netlink).await;
}

const TBF: Tbf = Tbf {
    rate: 12_500_000,
    burst: 100_000,
    limit: 412_500,
};

fn ifb() -> NetlinkChange {
    add("i", |new| new.kind = NewLinkKind::Ifb)
}

fn limit(link: &str, tbf: Tbf) -> NetlinkChange {
    let (link, qdisc) = (link.to_owned(), Qdisc::Tbf(tbf));
    NetlinkChange::QdiscAdd { link, qdisc }
}

fn ingress(link: &str) -> NetlinkChange {
    let (link, qdisc) = (link.to_owned(), Qdisc::Ingress);
    NetlinkChange::QdiscAdd { link, qdisc }
}

fn remove(link: &str, qdisc: Qdisc) -> NetlinkChange {
    let link = link.to_owned();
    NetlinkChange::QdiscDel { link, qdisc }
}

fn lead(link: &str, to: &str) -> NetlinkChange {
    let (link, to) = (link.to_owned(), to.to_owned());
    NetlinkChange::RedirectAdd { link, to }
}

fn lead_no_more(link: &str) -> NetlinkChange {
    let (link, to) = (link.to_owned(), "i".to_owned());
    NetlinkChange::RedirectDel { link, to }
}

fn cases() -> Vec<Case> {
    let on = |changes: &[NetlinkChange]| [&[pair("a", "b"), ifb()], changes].concat();
    let small = Tbf { burst: 0, ..TBF };
    vec![
        ("what goes out is limited", on(&[limit("a", TBF)]), DONE),
        (
            "by one bucket",
            on(&[limit("a", TBF), limit("a", TBF)]),
            EEXIST,
        ),
        ("that holds something", on(&[limit("a", small)]), EINVAL),
        (
            "a link that is not there has no limit",
            vec![limit("a", TBF)],
            ENODEV,
        ),
        (
            "a limit is removed",
            on(&[limit("a", TBF), remove("a", Qdisc::Tbf(TBF))]),
            DONE,
        ),
        (
            "one that is not there cannot be removed",
            on(&[remove("a", Qdisc::Tbf(TBF))]),
            ENOENT,
        ),
        (
            "there is one place for filters",
            on(&[ingress("a"), ingress("a")]),
            EEXIST,
        ),
        (
            "the place for filters is removed with them",
            on(&[ingress("a"), lead("a", "i"), remove("a", Qdisc::Ingress)]),
            DONE,
        ),
        (
            "a place that is not there cannot be removed",
            on(&[remove("a", Qdisc::Ingress)]),
            ENOENT,
        ),
        ("a filter takes a place", on(&[lead("a", "i")]), EINVAL),
        (
            "nothing is led to a link that is not there",
            on(&[ingress("a"), lead("a", "missing")]),
            ENODEV,
        ),
        (
            "a filter is removed, and the place stays",
            on(&[
                ingress("a"),
                lead("a", "i"),
                lead_no_more("a"),
                lead("a", "i"),
            ]),
            DONE,
        ),
        (
            "a filter that is not there cannot be removed",
            on(&[ingress("a"), lead_no_more("a")]),
            ENOENT,
        ),
        ("nor one without a place", on(&[lead_no_more("a")]), ENOENT),
    ]
}

async fn traffic(netlink: &dyn Netlink, link: &str) -> Traffic {
    match netlink.traffic(link).await {
        Ok(traffic) => traffic,
        Err(error) => panic!("the traffic of {link} cannot be read: {error}"),
    }
}

async fn limits_are_read_as_written(netlink: &dyn Netlink) {
    let missing = netlink.traffic("missing").await;
    let errno = missing.as_ref().err().map(|error| error.errno);
    assert_eq!(errno, Some(ENODEV), "of a missing link: {missing:?}");

    make(netlink, &[pair("a", "b"), ifb()]).await;
    let kind = link(netlink, "i").await.kind;
    assert_eq!(kind, LinkKind::Other("ifb".to_owned()));
    assert_eq!(traffic(netlink, "a").await, Traffic::default());

    for tbf in [
        TBF,
        Tbf {
            rate: 1,
            burst: 1514,
            limit: 1514,
        },
        // More than 4 GiB a second.
        Tbf {
            rate: 12_500_000_000,
            burst: u32::MAX,
            limit: u32::MAX,
        },
    ] {
        make(netlink, &[limit("a", tbf)]).await;
        let found = traffic(netlink, "a").await;
        let state = found.tbf.expect("a token bucket");
        assert!(tbf.is(&state), "{tbf} is read as {state}");
        let found = Traffic { tbf: None, ..found };
        assert_eq!(found, Traffic::default());
        make(netlink, &[remove("a", Qdisc::Tbf(tbf))]).await;
    }
    assert_eq!(traffic(netlink, "a").await, Traffic::default());
    super::clear(netlink).await;
}

async fn what_is_led_to_a_link_that_goes_leads_nowhere(netlink: &dyn Netlink) {
    make(netlink, &[pair("a", "b"), ifb(), ingress("a")]).await;
    let place = Traffic {
        ingress: Some("ingress".to_owned()),
        ..Traffic::default()
    };
    assert_eq!(traffic(netlink, "a").await, place);
    make(netlink, &[lead("a", "i")]).await;
    let to = |index| Traffic {
        redirect: Some(index),
        ..place.clone()
    };
    let target = link(netlink, "i").await.index;
    assert_eq!(traffic(netlink, "a").await, to(target));
    make(netlink, &[del("i")]).await;
    assert_eq!(traffic(netlink, "a").await, to(0));
    assert_eq!(netlink.apply_one(lead_no_more("a")).await, Ok(()));
    assert_eq!(traffic(netlink, "a").await, place);
    make(netlink, &[remove("a", Qdisc::Ingress)]).await;
    assert_eq!(traffic(netlink, "a").await, Traffic::default());
    super::clear(netlink).await;
}
