//! Connection tracking: `net/netfilter/nf_conntrack_netlink.c`. The fake passes no packets, so flows are those that
//! [`FakeKernel::track`] puts there.

use async_trait::async_trait;

use crate::host::conntrack::{Conntrack, Flow, FlowFilter};
use crate::host::netlink::NetlinkError;

use super::FakeKernel;
use super::handle::{Handle, error};
use super::state::Refusal;

/// Numbers begin here: 0 is none.
const FIRST: u32 = 0x100;

impl FakeKernel {
    /// Puts a flow into the host's namespace, as if its first packet had passed. It gets a number of its own.
    pub fn track(&self, mut flow: Flow) -> Flow {
        let mut state = self.state();
        if let Ok(namespace) = state.namespace(self.inner.host) {
            namespace.last_flow += 1;
            flow.id = FIRST + namespace.last_flow;
            namespace.flows.push(flow);
        }
        flow
    }
}

#[async_trait]
impl Conntrack for Handle {
    async fn flows(&self, filter: &FlowFilter) -> Result<Vec<Flow>, NetlinkError> {
        self.read("conntrack -L", |state, ns| {
            let flows = &state.namespace(ns)?.flows;
            let wanted = flows.iter().filter(|flow| filter.matches(flow));
            Ok(wanted.copied().collect())
        })
    }

    async fn delete(&self, flows: &[Flow]) -> Result<(), NetlinkError> {
        let mut first = Ok(());
        for flow in flows {
            if let Err(fault) = self.kernel.faults().count() {
                let refusal = Refusal {
                    errno: fault.errno(),
                    message: None,
                };
                first = first.and(Err(error(format!("conntrack -D {flow}"), refusal)));
                continue;
            }
            let mut state = self.kernel.state();
            if let Ok(namespace) = state.namespace(self.ns) {
                namespace.flows.retain(|known| !known.is(flow));
            }
        }
        first
    }
}

impl Flow {
    /// Whether a request to delete `other` means this one: by the first packet's addresses, and by number where it has one.
    fn is(&self, other: &Flow) -> bool {
        let key = |flow: &Flow| (flow.protocol, flow.source, flow.destination, flow.zone);
        key(self) == key(other) && (other.id == 0 || other.id == self.id)
    }
}
