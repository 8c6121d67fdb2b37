//! Traffic control: `net/sched/sch_api.c`, `net/sched/cls_api.c`, `net/sched/sch_tbf.c`, `net/sched/act_mirred.c`.

use crate::host::netlink::errno::{EEXIST, EINVAL, ENOENT};
use crate::host::netlink::{Qdisc, Tbf, TbfState, Traffic};

use super::state::{Device, Namespace, NsId, Outcome, State, refuse_saying};

/// What controls a device's traffic.
#[derive(Debug, Clone, Default)]
pub(super) struct Shaping {
    tbf: Option<Tbf>,
    ingress: bool,
    /// Index of the link that what comes in is led to; 0 when that is gone.
    redirect: Option<u32>,
}

impl Shaping {
    pub(super) fn shown(&self) -> Traffic {
        Traffic {
            tbf: self.tbf.map(|tbf| TbfState {
                rate: tbf.rate,
                ticks: tbf.ticks(),
                limit: tbf.limit,
            }),
            ingress: self.ingress.then(|| "ingress".to_owned()),
            redirect: self.redirect,
            ..Traffic::default()
        }
    }
}

impl State {
    pub(super) fn qdisc_add(&mut self, ns: NsId, link: &str, qdisc: Qdisc) -> Outcome {
        let unknown = self.no_traffic_control;
        let device = self.namespace(ns)?.device_mut(link)?;
        let taken = match qdisc {
            Qdisc::Tbf(_) => device.shaping.tbf.is_some(),
            Qdisc::Ingress => device.shaping.ingress,
        };
        if taken {
            return refuse_saying(EEXIST, "Exclusivity flag on, cannot modify");
        }
        if unknown {
            return refuse_saying(ENOENT, "Specified qdisc kind is unknown");
        }
        match qdisc {
            Qdisc::Tbf(Tbf { burst: 0, .. }) => refuse_saying(EINVAL, "no burst"),
            Qdisc::Tbf(tbf) => {
                device.shaping.tbf = Some(tbf);
                Ok(())
            }
            Qdisc::Ingress => {
                device.shaping.ingress = true;
                Ok(())
            }
        }
    }
}

impl Device {
    pub(super) fn qdisc_del(&mut self, qdisc: Qdisc) -> Outcome {
        let shaping = &mut self.shaping;
        let there = match qdisc {
            Qdisc::Tbf(_) => shaping.tbf.take().is_some(),
            Qdisc::Ingress => {
                shaping.redirect = None;
                std::mem::take(&mut shaping.ingress)
            }
        };
        match there {
            true => Ok(()),
            false => refuse_saying(ENOENT, "Cannot delete qdisc with handle of zero"),
        }
    }

    pub(super) fn redirect_del(&mut self) -> Outcome {
        if !self.shaping.ingress {
            return refuse_saying(ENOENT, "Parent Qdisc doesn't exists");
        }
        match self.shaping.redirect.take() {
            Some(_) => Ok(()),
            None => refuse_saying(ENOENT, "Filter with specified priority/protocol not found"),
        }
    }
}

impl Namespace {
    pub(super) fn redirect_add(&mut self, link: &str, to: &str) -> Outcome {
        let index = self.device_mut(link)?.link.index;
        let to = self.device_mut(to)?.link.index;
        match self.links.get_mut(&index) {
            Some(device) if device.shaping.ingress => {
                device.shaping.redirect = Some(to);
                Ok(())
            }
            _ => refuse_saying(EINVAL, "Parent Qdisc doesn't exists"),
        }
    }

    /// A link is gone: what was led to it is dropped from now on (`mirred_device_event`).
    pub(super) fn forget_target(&mut self, index: u32) {
        for device in self.links.values_mut() {
            if device.shaping.redirect == Some(index) {
                device.shaping.redirect = Some(0);
            }
        }
    }
}
