//! [`Netlink`] on the kernel.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

mod apply;
mod decode;
mod encode;
mod encode_route;
mod traffic;
mod vxlan;

use super::change::NetlinkChange;
use super::error::{ApplyError, NetlinkError, errno};
use super::link::{Link, LinkKind, Vlan};
use super::route::{Address, Neighbour, Route};
use super::traffic::Traffic;
use super::{LinkFilter, Netlink};
use crate::host::rtnl::{Connection, Failure};

/// The kernel's links, addresses, routes and neighbours in the network namespace in which it was opened.
///
/// One blocking rtnetlink socket: the kernel answers a request before `send` returns, so nothing waits, and no runtime
/// is needed to drive it. The socket stays bound to its namespace, whichever thread uses it.
#[derive(Debug)]
pub struct KernelNetlink {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    /// Indexes of names looked up a moment ago. See [`State::index`].
    indexes: HashMap<String, (u32, Instant)>,
}

/// How long an index stands for a name without being looked up again. Another process may delete or rename a link at
/// any time, so that this is no promise, only short enough for a plugin run and too short for a daemon to go stale.
const INDEX_LIFETIME: Duration = Duration::from_secs(1);

/// What looking up a route fails with where there is none: ENETUNREACH, EHOSTUNREACH, and for routes that say so EACCES
/// and EINVAL (`blackhole`).
const NO_ROUTE: [i32; 4] = [101, 113, 13, 22];

impl KernelNetlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The socket's.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State {
                connection: Connection::open()?,
                indexes: HashMap::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Netlink for KernelNetlink {
    async fn links(&self, filter: LinkFilter<'_>) -> Result<Vec<Link>, NetlinkError> {
        let operation = || match filter {
            LinkFilter::All => "ip -d link show".to_owned(),
            LinkFilter::Name(name) => format!("ip -d link show dev {name}"),
            LinkFilter::Index(index) => format!("ip -d link show # index {index}"),
            LinkFilter::Master(name) => format!("ip -d link show master {name}"),
        };
        let mut state = self.state();
        state.links(filter).or_else(absent).named(operation)
    }

    async fn addresses(&self, link: Option<&str>) -> Result<Vec<Address>, NetlinkError> {
        let mut state = self.state();
        state
            .addresses(link)
            .named(|| of_link("ip address show", link))
    }

    async fn routes(&self, link: Option<&str>) -> Result<Vec<Route>, NetlinkError> {
        let mut state = self.state();
        state
            .routes(link)
            .named(|| of_link("ip route show table all", link))
    }

    async fn neighbours(&self, link: Option<&str>) -> Result<Vec<Neighbour>, NetlinkError> {
        let mut state = self.state();
        state
            .neighbours(link)
            .named(|| of_link("ip neighbour show", link))
    }

    async fn vlans(&self, link: &str) -> Result<Vec<Vlan>, NetlinkError> {
        let mut state = self.state();
        state
            .vlans(link)
            .named(|| format!("bridge vlan show dev {link}"))
    }

    async fn traffic(&self, link: &str) -> Result<Traffic, NetlinkError> {
        let mut state = self.state();
        state
            .traffic(link)
            .named(|| format!("tc qdisc show dev {link}"))
    }

    async fn is_local(&self, address: IpAddr) -> Result<bool, NetlinkError> {
        let mut state = self.state();
        state
            .is_local(address)
            .named(|| format!("ip route get {address}"))
    }

    async fn link_to(&self, address: IpAddr) -> Result<Option<String>, NetlinkError> {
        let mut state = self.state();
        state
            .link_to(address)
            .named(|| format!("ip route get {address}"))
    }

    /// One message at a time: pipelining saves one system call (about 0.5 us) of a change that takes the kernel 20 to
    /// 100 us, and would let a change run whose predecessor failed.
    async fn apply(&self, changes: &[NetlinkChange]) -> Result<(), ApplyError> {
        let mut state = self.state();
        for (index, change) in changes.iter().enumerate() {
            state
                .apply(change)
                // One line: some changes are two commands.
                .named(|| change.to_string().replace('\n', " && "))
                .map_err(|error| ApplyError::new(index, error))?;
        }
        Ok(())
    }
}

/// A link that does not exist is no failure of a read: there is nothing to list.
fn absent<T>(failure: Failure) -> Result<Vec<T>, Failure> {
    if failure.errno == errno::ENODEV {
        Ok(Vec::new())
    } else {
        Err(failure)
    }
}

fn of_link(command: &str, link: Option<&str>) -> String {
    match link {
        Some(link) => format!("{command} dev {link}"),
        None => command.to_owned(),
    }
}

/// Names the operation that failed.
trait Named<T> {
    fn named(self, operation: impl FnOnce() -> String) -> Result<T, NetlinkError>;
}

impl<T> Named<T> for Result<T, Failure> {
    fn named(self, operation: impl FnOnce() -> String) -> Result<T, NetlinkError> {
        self.map_err(|failure| failure.named(operation()))
    }
}

impl State {
    /// The index of the link with this name.
    fn index(&mut self, name: &str) -> Result<u32, Failure> {
        if let Some((index, since)) = self.indexes.get(name)
            && since.elapsed() < INDEX_LIFETIME
        {
            return Ok(*index);
        }
        match self.links(LinkFilter::Name(name))?.first() {
            Some(link) => Ok(link.index),
            None => Err(Failure::refused(errno::ENODEV, format!("no link {name}"))),
        }
    }

    /// Links; of a VXLAN device, the kernel tells the lower link's index, for which its name is put.
    fn links(&mut self, filter: LinkFilter<'_>) -> Result<Vec<Link>, Failure> {
        let mut found = self.links_without_lowers(filter)?;
        let lowers: Vec<(usize, u32)> = found
            .iter()
            .enumerate()
            .filter(|(_, link)| matches!(link.kind, LinkKind::Vxlan(_)) && !link.peer_elsewhere)
            .filter_map(|(position, link)| Some((position, link.peer?)))
            .collect();
        for (position, index) in lowers {
            let name = match found.iter().find(|link| link.index == index) {
                Some(lower) => Some(lower.name.clone()),
                None => {
                    let lower = self.links_without_lowers(LinkFilter::Index(index))?;
                    lower.into_iter().next().map(|lower| lower.name)
                }
            };
            if let Some(LinkKind::Vxlan(vxlan)) = found.get_mut(position).map(|link| &mut link.kind)
            {
                vxlan.lower = name;
            }
        }
        Ok(found)
    }

    fn links_without_lowers(&mut self, filter: LinkFilter<'_>) -> Result<Vec<Link>, Failure> {
        let mut message = match filter {
            LinkFilter::Name(name) if !can_be_a_name(name) => return Ok(Vec::new()),
            LinkFilter::Name(name) => encode::named(name),
            LinkFilter::Index(index) => encode::indexed(index),
            LinkFilter::All => encode::indexed(0),
            LinkFilter::Master(name) => {
                let mut message = encode::indexed(0);
                let master = match self.index(name) {
                    Ok(master) => master,
                    Err(failure) => return absent(failure),
                };
                message.attributes.push(LinkAttribute::Controller(master));
                message
            }
        };
        message.attributes.push(encode::without_statistics());
        let request = RouteNetlinkMessage::GetLink(message);
        if let LinkFilter::Name(_) | LinkFilter::Index(_) = filter {
            let mut found = Vec::new();
            let outcome = self.connection.get(request, &mut |(_, payload)| {
                found.extend(decode::link(payload))
            });
            match (filter, found.first()) {
                (LinkFilter::Name(name), found) => self.remember(name, found),
                (LinkFilter::Index(_), Some(found)) => self.remember(&found.name, Some(found)),
                _ => {}
            }
            return outcome.map(|()| found).or_else(absent);
        }
        let master = match filter {
            LinkFilter::Master(name) => Some(self.index(name)?),
            _ => None,
        };
        self.connection.dump(&request, |(_, payload), found| {
            // Kernels without strict checking ignore the filter.
            found.extend(
                decode::link(payload).filter(|link| master.is_none() || link.master == master),
            );
        })
    }

    fn remember(&mut self, name: &str, link: Option<&Link>) {
        match link {
            Some(link) => {
                let entry = (link.index, Instant::now());
                self.indexes.insert(name.to_owned(), entry);
            }
            None => {
                self.indexes.remove(name);
            }
        }
    }

    fn addresses(&mut self, link: Option<&str>) -> Result<Vec<Address>, Failure> {
        let names = self.names(link)?;
        let request = encode_route::address_dump(names.only().unwrap_or(0));
        let request = RouteNetlinkMessage::GetAddress(request);
        self.connection.dump(&request, |(_, payload), found| {
            if let Some((index, mut address)) = decode::address(payload)
                && let Some(name) = names.name(index)
            {
                address.link = name;
                found.push(address);
            }
        })
    }

    fn routes(&mut self, link: Option<&str>) -> Result<Vec<Route>, Failure> {
        let names = self.names(link)?;
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = encode_route::route_dump(family, names.only());
            let request = RouteNetlinkMessage::GetRoute(request);
            all.extend(self.connection.dump(&request, |(_, payload), found| {
                for (index, mut route) in decode::routes(payload, family.into()) {
                    route.link = index.and_then(|index| names.name(index));
                    if route.link.is_some() || names.only().is_none() {
                        found.push(route);
                    }
                }
            })?);
        }
        Ok(all)
    }

    fn is_local(&mut self, address: IpAddr) -> Result<bool, Failure> {
        let request = RouteNetlinkMessage::GetRoute(encode_route::route_get(address));
        let mut local = false;
        let outcome = self.connection.get(request, &mut |(_, payload)| {
            local = decode::is_local_route(payload);
        });
        match outcome {
            Ok(()) => Ok(local),
            Err(failure) if NO_ROUTE.contains(&failure.errno) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn link_to(&mut self, address: IpAddr) -> Result<Option<String>, Failure> {
        let request = RouteNetlinkMessage::GetRoute(encode_route::route_get(address));
        let mut index = None;
        let outcome = self.connection.get(request, &mut |(_, payload)| {
            index = decode::route_link(payload);
        });
        match outcome {
            Ok(()) => {}
            Err(failure) if NO_ROUTE.contains(&failure.errno) => return Ok(None),
            Err(failure) => return Err(failure),
        }
        let Some(index) = index else {
            return Ok(None);
        };
        let links = self.links(LinkFilter::Index(index))?;
        Ok(links.into_iter().next().map(|link| link.name))
    }

    fn neighbours(&mut self, link: Option<&str>) -> Result<Vec<Neighbour>, Failure> {
        let names = self.names(link)?;
        let mut all = Vec::new();
        for family in [
            AddressFamily::Inet,
            AddressFamily::Inet6,
            AddressFamily::Bridge,
        ] {
            let request = encode_route::neighbour_dump(family, names.only());
            let request = RouteNetlinkMessage::GetNeighbour(request);
            all.extend(self.connection.dump(&request, |(_, payload), found| {
                if let Some((index, mut neighbour)) = decode::neighbour(payload, family.into())
                    && let Some(name) = names.name(index)
                {
                    neighbour.link = name;
                    found.push(neighbour);
                }
            })?);
        }
        Ok(all)
    }

    fn vlans(&mut self, link: &str) -> Result<Vec<Vlan>, Failure> {
        let index = self.index(link)?;
        let request = RouteNetlinkMessage::GetLink(encode::vlan_dump());
        self.connection.dump(&request, |(_, payload), found| {
            decode::vlans(payload, index, found);
        })
    }

    /// The names that indexes in a reply stand for: of one link, or of all.
    fn names(&mut self, link: Option<&str>) -> Result<Names, Failure> {
        match link {
            Some(name) => Ok(Names::One(self.index(name)?, name.to_owned())),
            None => {
                let links = self.links(LinkFilter::All)?;
                let pairs = links.into_iter().map(|link| (link.index, link.name));
                Ok(Names::All(pairs.collect()))
            }
        }
    }

    fn create(&mut self, message: RouteNetlinkMessage) -> Result<(), Failure> {
        self.connection.change(message, NLM_F_CREATE | NLM_F_EXCL)
    }
}

enum Names {
    One(u32, String),
    All(HashMap<u32, String>),
}

impl Names {
    fn only(&self) -> Option<u32> {
        match self {
            Self::One(index, _) => Some(*index),
            Self::All(_) => None,
        }
    }

    fn name(&self, index: u32) -> Option<String> {
        match self {
            Self::One(only, name) => (*only == index).then(|| name.clone()),
            Self::All(names) => names.get(&index).cloned(),
        }
    }
}

/// Whether a link can have this name at all (`dev_valid_name`): others need not be asked for. A NUL would end the name
/// early, and hit another link.
fn can_be_a_name(name: &str) -> bool {
    !name.is_empty() && name.len() < 16 && !name.contains('\0')
}
