//! Routes for the time of a change.
//!
//! The kernel refuses an IPv6 gateway that is said to be on a link, while a route leads to it by another link
//! (`ip6_route_check_nh_onlink`): that of a VTEP is within the pods' prefix, which still leads where it did before, by another
//! device of ours or by another program's route. To take that route away first would leave the pods without one. Instead a
//! route to the gateway alone shows the kernel the right link, until the next hop is made.

use crate::host::forwarding::{Change, Entry, Failed, Forwarding, Hop, Route, Via};
use crate::host::netlink::{NetlinkError, Route as Main, errno};

use super::write::is_gone;

/// The routes that stand in the kernel now.
#[derive(Debug, Default)]
pub(super) struct Guards(Vec<Route>);

/// Ahead of whatever others have for the same address.
const METRIC: u32 = 1;

impl Guards {
    /// Makes what was refused for its gateway with a route that allows it. What is still refused.
    pub(super) async fn try_again(
        &mut self,
        forwarding: &dyn Forwarding,
        changes: &[Change],
        mut failed: Vec<Failed>,
    ) -> Vec<Failed> {
        let mut again = Vec::new();
        let mut guards = Vec::new();
        for failure in failed
            .iter()
            .filter(|failed| failed.error.errno == errno::EINVAL)
        {
            let change = changes.get(failure.index);
            if let Some((change, guard)) = change.and_then(|change| Some((change, guard(change)?)))
            {
                again.push((failure.index, change.clone()));
                guards.push(guard);
            }
        }
        if again.is_empty() {
            return failed;
        }
        let made: Vec<Change> = guards.iter().cloned().map(add).collect();
        // Where one cannot be made the change is refused again, which is told.
        forwarding.write(&made).await;
        self.0.extend(guards);
        let (places, again): (Vec<usize>, Vec<Change>) = again.into_iter().unzip();
        let refused = forwarding.write(&again).await;
        failed.retain(|failed| places.binary_search(&failed.index).is_err());
        failed.extend(refused.into_iter().filter_map(|refused| {
            let index = *places.get(refused.index)?;
            Some(Failed { index, ..refused })
        }));
        failed.sort_by_key(|failed| failed.index);
        failed
    }

    /// Takes them away again. Errors but that they are gone.
    pub(super) async fn remove(self, forwarding: &dyn Forwarding) -> Vec<NetlinkError> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let changes: Vec<Change> = self
            .0
            .into_iter()
            .map(|route| Change::Del(Entry::Route(route)))
            .collect();
        let failed = forwarding.write(&changes).await.into_iter();
        failed
            .map(|failed| failed.error)
            .filter(|error| !is_gone(error))
            .collect()
    }
}

fn add(route: Route) -> Change {
    Change::Add(Entry::Route(route))
}

/// The route that allows a next hop on its link; `None` where it is not refused for that.
fn guard(change: &Change) -> Option<Route> {
    if let Change::Del(_) = change {
        return None;
    }
    let (protocol, hop): (u8, &Hop) = match change.entry() {
        Entry::NextHop(next_hop) => (next_hop.protocol, &next_hop.hop),
        Entry::Route(route) => match &route.via {
            Via::Hop(hop) => (route.protocol, hop),
            _ => return None,
        },
        _ => return None,
    };
    let gateway = hop
        .gateway
        .filter(|gateway| hop.onlink && gateway.is_ipv6())?;
    Some(Route {
        destination: gateway.into(),
        table: Main::MAIN,
        metric: METRIC,
        protocol,
        via: Via::Hop(Box::new(Hop {
            gateway: None,
            onlink: false,
            encap: None,
            link: hop.link.clone(),
        })),
    })
}
