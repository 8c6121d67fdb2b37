//! Changes that make no sense, whichever kernel they are for.

use super::{Change, Entry, Kind, Route, Via};
use crate::host::netlink::errno;

impl Change {
    /// Why no kernel is asked: it would take the change for something else than was meant. errno and a sentence.
    pub(crate) fn fault(&self) -> Option<(i32, &'static str)> {
        let made = !matches!(self, Self::Del(_));
        let invalid = |message| Some((errno::EINVAL, message));
        let unsupported = |message| Some((errno::EOPNOTSUPP, message));
        match (self, self.entry()) {
            // IPv6 would make one multipath route of both.
            (Self::Prepend(_), Entry::Route(Route { destination, .. }))
                if destination.is_ipv6() =>
            {
                unsupported("only an IPv4 route can stand before another of its key")
            }
            (Self::Prepend(_), entry) if entry.kind() != Kind::Route => {
                unsupported("only a route can be prepended")
            }
            (_, Entry::NextHop(next_hop)) if next_hop.id == 0 => {
                invalid("0 is no next hop's id: the kernel would choose one")
            }
            (_, Entry::Route(route)) if route.table == 0 => {
                invalid("there is no table 0: the kernel would take main")
            }
            (_, Entry::Route(route)) if made && route.via == Via::Other => {
                invalid("a route to something that this crate has no value for cannot be made")
            }
            (_, Entry::Rule(rule)) if rule.table == 0 => {
                invalid("there is no table 0: the kernel would choose an empty one")
            }
            _ => None,
        }
    }
}
