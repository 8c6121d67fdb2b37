//! Traffic control as messages (include/uapi/linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h).
//!
//! netlink-packet-route has no type for a token bucket. Every kernel that has `ifb` has `u32` and `mirred`; `matchall`, which
//! would be the shorter filter, is missing from some.

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};

use super::super::error::errno;
use super::super::traffic::{PREFERENCE, Qdisc, TBF_HANDLE, Tbf, TbfState, Traffic};
use super::State;
use crate::host::rtnl::wire::{attribute, attributes, string_of, u32_at, u64_of};
use crate::host::rtnl::{Failure, Writer, Written};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
/// `TC_H_ROOT`.
const ROOT: u32 = 0xffff_ffff;
/// `TC_H_INGRESS` as a parent, and the handle that goes with it.
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`: the parent of filters, of `ingress` and `clsact` alike.
const FILTERS: u32 = 0xffff_fff2;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// `struct tcmsg`.
const TCMSG: usize = 20;
/// `ETH_P_ALL`, in network byte order.
const ALL: u16 = 3_u16.to_be();

/// `struct tcmsg`: family, padding, index, handle, parent, info.
fn header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut bytes = [0; TCMSG];
    for (room, value) in bytes
        .chunks_exact_mut(4)
        .skip(1)
        .zip([index, handle, parent, info])
    {
        room.copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

/// Preference and protocol of our filters, as `tcm_info`.
fn info() -> u32 {
    u32::from(PREFERENCE) << 16 | u32::from(ALL)
}

fn kind_and_place(qdisc: Qdisc) -> (&'static [u8], u32, u32) {
    match qdisc {
        Qdisc::Tbf(_) => (b"tbf\0", TBF_HANDLE, ROOT),
        Qdisc::Ingress => (b"ingress\0", INGRESS_HANDLE, INGRESS),
    }
}

/// `TCA_TBF_*`. The bucket's size goes in bytes (`TCA_TBF_BURST`, Linux 3.14): in ticks alone it would be cut to 4 s.
fn tbf_options(writer: &mut Writer<'_>, tbf: Tbf) {
    const PARMS: u16 = 1;
    const RATE64: u16 = 4;
    const BURST: u16 = 6;
    /// `TC_LINKLAYER_ETHERNET`: the kernel needs no rate table.
    const ETHERNET: u8 = 1;
    let rate = u32::try_from(tbf.rate).unwrap_or(u32::MAX);
    // `struct tc_tbf_qopt`: two `struct tc_ratespec`, limit, buffer, mtu.
    let mut parms = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    parms.extend(rate.to_ne_bytes());
    parms.extend([0; 12]);
    for value in [tbf.limit, tbf.ticks(), 0] {
        parms.extend(value.to_ne_bytes());
    }
    writer.nested(TCA_OPTIONS, |options| {
        options.attribute(PARMS, &parms);
        options.attribute(BURST, &tbf.burst.to_ne_bytes());
        if tbf.rate > u64::from(u32::MAX) {
            options.attribute(RATE64, &tbf.rate.to_ne_bytes());
        }
    });
}

/// A filter that matches everything and hands it to the link's way out (`TCA_U32_*`, `TCA_MIRRED_*`).
fn redirect_options(writer: &mut Writer<'_>, to: u32) {
    const U32_SEL: u16 = 5;
    const U32_ACT: u16 = 7;
    const FIRST: u16 = 1;
    const ACT_KIND: u16 = 1;
    const ACT_OPTIONS: u16 = 2;
    const MIRRED_PARMS: u16 = 2;
    /// `TC_U32_TERMINAL`.
    const TERMINAL: u8 = 1;
    /// `TC_ACT_STOLEN`.
    const STOLEN: u32 = 4;
    /// `TCA_EGRESS_REDIR`.
    const EGRESS_REDIR: u32 = 1;
    // `struct tc_u32_sel` with one key, whose mask is 0.
    let mut selector = [0; 32];
    let [flags, _, keys, ..] = &mut selector;
    (*flags, *keys) = (TERMINAL, 1);
    // `struct tc_mirred`: index, capab, action, refcnt, bindcnt, eaction, ifindex.
    let mirred: Vec<u8> = [0, 0, STOLEN, 0, 0, EGRESS_REDIR, to]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    writer.nested(TCA_OPTIONS, |options| {
        options.attribute(U32_SEL, &selector);
        options.nested(U32_ACT, |actions| {
            actions.nested(FIRST, |action| {
                action.attribute(ACT_KIND, b"mirred\0");
                action.nested(ACT_OPTIONS, |options| {
                    options.attribute(MIRRED_PARMS, &mirred);
                });
            });
        });
    });
}

impl State {
    pub(super) fn qdisc_add(&mut self, link: &str, qdisc: Qdisc) -> Result<(), Failure> {
        let index = self.index(link)?;
        let (kind, handle, parent) = kind_and_place(qdisc);
        let request = Written(RTM_NEWQDISC, |writer: &mut Writer<'_>| {
            writer.header(&header(index, handle, parent, 0));
            writer.attribute(TCA_KIND, kind);
            match qdisc {
                Qdisc::Tbf(tbf) => tbf_options(writer, tbf),
                Qdisc::Ingress => writer.nested(TCA_OPTIONS, |_| {}),
            }
        });
        self.connection.change(request, NLM_F_CREATE | NLM_F_EXCL)
    }

    pub(super) fn qdisc_del(&mut self, link: &str, qdisc: Qdisc) -> Result<(), Failure> {
        let index = self.index(link)?;
        let (kind, handle, parent) = kind_and_place(qdisc);
        let request = Written(RTM_DELQDISC, |writer: &mut Writer<'_>| {
            writer.header(&header(index, handle, parent, 0));
            writer.attribute(TCA_KIND, kind);
        });
        let is_gone = |traffic: &Traffic| match qdisc {
            Qdisc::Tbf(_) => traffic.tbf.is_none(),
            Qdisc::Ingress => traffic.ingress.is_none(),
        };
        let outcome = self.connection.change(request, 0);
        self.or_gone(link, outcome, is_gone)
    }

    /// The kernel's EINVAL for what is not there, or not of that kind (`tc_get_qdisc`, `__tcf_qdisc_find`), as ENOENT.
    fn or_gone(
        &mut self,
        link: &str,
        outcome: Result<(), Failure>,
        is_gone: impl FnOnce(&Traffic) -> bool,
    ) -> Result<(), Failure> {
        match outcome {
            Err(failure) if failure.errno == errno::EINVAL && is_gone(&self.traffic(link)?) => {
                Err(Failure {
                    errno: errno::ENOENT,
                    ..failure
                })
            }
            outcome => outcome,
        }
    }

    pub(super) fn redirect_add(&mut self, link: &str, to: &str) -> Result<(), Failure> {
        let (index, to) = (self.index(link)?, self.index(to)?);
        let request = Written(RTM_NEWTFILTER, |writer: &mut Writer<'_>| {
            writer.header(&header(index, 0, FILTERS, info()));
            writer.attribute(TCA_KIND, b"u32\0");
            redirect_options(writer, to);
        });
        self.connection.change(request, NLM_F_CREATE | NLM_F_EXCL)
    }

    pub(super) fn redirect_del(&mut self, link: &str) -> Result<(), Failure> {
        let index = self.index(link)?;
        let request = Written(RTM_DELTFILTER, |writer: &mut Writer<'_>| {
            writer.header(&header(index, 0, FILTERS, info()));
            writer.attribute(TCA_KIND, b"u32\0");
        });
        let outcome = self.connection.change(request, 0);
        self.or_gone(link, outcome, |traffic| traffic.redirect.is_none())
    }

    pub(super) fn traffic(&mut self, link: &str) -> Result<Traffic, Failure> {
        let index = self.index(link)?;
        let mut traffic = Traffic::default();
        self.qdisc(index, ROOT, &mut |payload| root(payload, &mut traffic))?;
        let mut kind = None;
        self.qdisc(index, INGRESS, &mut |payload| {
            kind = kind_of(payload).filter(|_| u32_at(payload, 8) == Some(INGRESS_HANDLE));
        })?;
        traffic.ingress = kind;
        if traffic.ingress.is_some() {
            let request = Written(RTM_GETTFILTER, |writer: &mut Writer<'_>| {
                writer.header(&header(index, 0, FILTERS, 0));
            });
            let filters = self.connection.dump(&request, |(_, payload), found| {
                found.push(filter(payload));
            })?;
            for filter in filters {
                match filter {
                    Filter::Redirect(index) => traffic.redirect = Some(index),
                    Filter::Table => {}
                    Filter::Other(target) => {
                        traffic.other_filters = true;
                        traffic.led_by_others.extend(target);
                    }
                }
            }
        }
        Ok(traffic)
    }

    /// The discipline in one place. The kernel tells it only to those who want an echo (`qdisc_notify`), and of its own
    /// placeholders nothing: without an acknowledgement there would be no answer.
    fn qdisc(
        &mut self,
        index: u32,
        parent: u32,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let request = Written(RTM_GETQDISC, |writer: &mut Writer<'_>| {
            writer.header(&header(index, 0, parent, 0));
        });
        let outcome = self
            .connection
            .read_back(request, NLM_F_ECHO, &mut |(_, payload)| each(payload));
        match outcome {
            // No such place on this link, or no traffic control in this kernel.
            Err(failure) if matches!(failure.errno, errno::ENOENT | errno::EOPNOTSUPP) => Ok(()),
            outcome => outcome,
        }
    }
}

fn kind_of(payload: &[u8]) -> Option<String> {
    attribute(payload.get(TCMSG..)?, TCA_KIND).map(string_of)
}

fn root(payload: &[u8], traffic: &mut Traffic) {
    let (Some(kind), Some(handle)) = (kind_of(payload), u32_at(payload, 8)) else {
        return;
    };
    match (handle, kind.as_str()) {
        (TBF_HANDLE, "tbf") => traffic.tbf = tbf(payload),
        // The kernel's own choice has no handle.
        (0, _) => {}
        _ => traffic.foreign_root = Some(kind),
    }
}

fn tbf(payload: &[u8]) -> Option<TbfState> {
    let options = attribute(payload.get(TCMSG..)?, TCA_OPTIONS)?;
    let parms = attribute(options, 1)?;
    let rate = attribute(options, 4).and_then(u64_of);
    Some(TbfState {
        rate: rate.or_else(|| u32_at(parms, 8).map(u64::from))?,
        limit: u32_at(parms, 24)?,
        ticks: u32_at(parms, 28)?,
    })
}

/// What a message of a dump of filters is about.
enum Filter {
    /// One of ours, and the index of the link to which it leads.
    Redirect(u32),
    /// What the kernel keeps beside ours: the table of `u32`.
    Table,
    /// One of others, and the index of the link to which it leads.
    Other(Option<u32>),
}

fn filter(payload: &[u8]) -> Filter {
    let is_u32 = kind_of(payload).as_deref() == Some("u32");
    let is_ours =
        is_u32 && u32_at(payload, 16).is_some_and(|info| info >> 16 == u32::from(PREFERENCE));
    match (is_ours, target(payload).filter(|_| is_u32)) {
        (false, target) => Filter::Other(target.filter(|index| *index != 0)),
        (true, Some(index)) => Filter::Redirect(index),
        (true, None) => Filter::Table,
    }
}

/// `TCA_OPTIONS` > `TCA_U32_ACT` > first action > `TCA_ACT_OPTIONS` > `TCA_MIRRED_PARMS`: its last field.
fn target(payload: &[u8]) -> Option<u32> {
    let options = attribute(payload.get(TCMSG..)?, TCA_OPTIONS)?;
    let actions = attribute(options, 7)?;
    let (_, action) = attributes(actions).next()?;
    let parms = attribute(attribute(action, 2)?, 2)?;
    u32_at(parms, 24)
}
