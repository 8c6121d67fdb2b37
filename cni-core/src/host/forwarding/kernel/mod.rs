//! [`Forwarding`] on the kernel.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

pub(in crate::host) mod decode;
mod encode;
mod links;
mod uapi;

use super::change::{Change, Failed};
use super::entry::{Entry, Kind, LinkName};
use super::{Forwarding, Scope};
use crate::host::netlink::{NetlinkError, errno};
use crate::host::own_writes::{Key, OwnWrites};
use crate::host::rtnl::{Batch, Connection, Failure, Writer, Written};
use links::{Indexes, Names};
use uapi::*;

/// What connects nodes in the network namespace in which this was opened.
///
/// Blocking rtnetlink sockets, as [`KernelNetlink`](crate::host::netlink::KernelNetlink) has one: the kernel makes changes
/// and dumps inside of the system call.
#[derive(Debug)]
pub struct KernelForwarding {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    /// Looks up links while a dump is under way on the other one.
    lookups: Connection,
    batch: Batch,
    own_writes: Arc<OwnWrites>,
    ipv6: bool,
    next_hops: Option<bool>,
}

/// Changes in one datagram. Eight take the kernel a tenth longer; of more than 32 nothing can be measured (bench, section
/// `cluster`). The answers to 64, should all fail, take some 80 KiB of the socket's 208 KiB.
const BATCH: usize = 64;

impl KernelForwarding {
    /// Opens sockets in the calling thread's network namespace.
    ///
    /// # Errors
    /// The sockets'.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State {
                connection: Connection::open()?,
                lookups: Connection::open()?,
                batch: Batch::default(),
                own_writes: OwnWrites::here(),
                ipv6: has_ipv6(),
                next_hops: None,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Forwarding for KernelForwarding {
    async fn read(
        &self,
        scope: &Scope<'_>,
        each: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), NetlinkError> {
        let outcome = self.state().read(scope, each);
        outcome.map_err(|failure| failure.named(scope.to_string()))
    }

    async fn write(&self, changes: &[Change]) -> Vec<Failed> {
        let mut state = self.state();
        let mut indexes = Indexes::default();
        let mut all = Vec::new();
        for (number, chunk) in changes.chunks(BATCH).enumerate() {
            let failures = state.write(chunk, &mut indexes);
            all.extend(failures.into_iter().filter_map(|(index, failure)| {
                let operation = chunk.get(index)?.to_string();
                Some(Failed {
                    index: number * BATCH + index,
                    error: failure.named(operation),
                })
            }));
        }
        all
    }

    async fn has_next_hops(&self) -> Result<bool, NetlinkError> {
        let outcome = self.state().has_next_hops();
        outcome.map_err(|failure| failure.named("ip nexthop get id 1".to_owned()))
    }
}

impl State {
    /// Makes some changes. The failures, in the order of the changes.
    fn write(&mut self, changes: &[Change], indexes: &mut Indexes) -> Vec<(usize, Failure)> {
        let mut failures = self.attempt(changes, indexes);
        let stale = |failure: &Failure| matches!(failure.errno, errno::ENODEV | errno::EINVAL);
        if !failures.iter().any(|(_, failure)| stale(failure))
            || !indexes.refresh(&mut self.lookups)
        {
            return failures;
        }
        failures.retain_mut(|(index, failure)| {
            if !stale(failure) {
                return true;
            }
            let again = changes.get(*index).map(std::slice::from_ref);
            match self.attempt(again.unwrap_or_default(), indexes).pop() {
                Some((_, now)) => {
                    *failure = now;
                    true
                }
                None => false,
            }
        });
        failures
    }

    fn attempt(&mut self, changes: &[Change], indexes: &mut Indexes) -> Vec<(usize, Failure)> {
        let mut failures = Vec::new();
        let mut sent = Vec::with_capacity(changes.len());
        self.batch.clear();
        for (index, change) in changes.iter().enumerate() {
            let mut facts = encode::Facts {
                index: &mut |name| indexes.of(name, &mut self.lookups),
                ipv6: self.ipv6,
            };
            match encode::change(change, &mut facts, &mut self.batch) {
                Ok(()) => {
                    sent.push(index);
                    note(change, &self.own_writes, &mut facts);
                }
                Err(failure) => failures.push((index, failure)),
            }
        }
        let mut refused = Vec::new();
        let whole = self
            .connection
            .changes(&mut self.batch, &mut |number, failure| {
                refused.extend(sent.get(number).map(|index| (*index, failure)));
            });
        if let Err(failure) = whole {
            // Which of them were made is not known: it is for the caller to look.
            let unknown = sent
                .iter()
                .filter(|index| !refused.iter().any(|(known, _)| known == *index));
            let unknown: Vec<_> = unknown.map(|index| (*index, failure.clone())).collect();
            refused.extend(unknown);
        }
        refused.retain(|(index, failure)| {
            !changes
                .get(*index)
                .is_some_and(|change| encode::harmless(change, failure))
        });
        failures.extend(refused);
        failures.sort_by_key(|(index, _)| *index);
        failures
    }

    fn has_next_hops(&mut self) -> Result<bool, Failure> {
        if let Some(known) = self.next_hops {
            return Ok(known);
        }
        let request = Written(RTM_GETNEXTHOP, |to: &mut Writer<'_>| {
            to.header(&[0; 8]);
            to.attribute(NHA_ID, &1_u32.to_ne_bytes());
        });
        let known = match self.connection.get(request, &mut |_| {}) {
            Ok(()) => true,
            Err(failure) if failure.errno == errno::ENOENT => true,
            // A type of message that the kernel does not know.
            Err(failure) if failure.errno == errno::EOPNOTSUPP => false,
            Err(failure) => return Err(failure),
        };
        self.next_hops = Some(known);
        Ok(known)
    }

    fn read(
        &mut self,
        scope: &Scope<'_>,
        each: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), Failure> {
        let link = match (scope.kind, scope.link) {
            (Kind::Neighbour | Kind::Fdb, Some(name)) => {
                match links::find(name, &mut self.lookups) {
                    Ok(index) => Some((index, LinkName::from(name))),
                    Err(failure) if failure.errno == errno::ENODEV => return Ok(()),
                    Err(failure) => return Err(failure),
                }
            }
            _ => None,
        };
        let filter = link.as_ref().map(|(index, _)| index.to_ne_bytes());
        let mut names = Names::new(&mut self.lookups, link);
        for dump in dumps(scope) {
            let request = Written(dump.kind, |to: &mut Writer<'_>| {
                to.header(&dump.header());
                if let Some(index) = &filter {
                    to.attribute(NDA_IFINDEX, index);
                }
            });
            let outcome =
                self.connection
                    .stream(&request, dump.ordered(), &mut |(kind, payload)| {
                        // Where a family has no dump of its own the kernel dumps all.
                        if dump.family != AF_UNSPEC && payload.first() != Some(&dump.family) {
                            return;
                        }
                        if let Some(entry) =
                            decode::entry(kind, payload, &mut |index| names.name(index))
                            && wanted(&entry, scope.protocol)
                        {
                            each(entry);
                        }
                    });
            match outcome {
                Err(failure) if dump.may_be_missing && is_missing(&failure) => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

/// Says to those who watch the kernel what it will not tell them: that this change is ours.
fn note(change: &Change, own_writes: &OwnWrites, facts: &mut encode::Facts<'_>) {
    let removed = matches!(change, Change::Del(_));
    match change.entry() {
        Entry::Fdb(entry) => {
            if let Ok(index) = (facts.index)(&entry.link) {
                let remote = (!removed).then_some(entry.remote);
                own_writes.forwarding_entry(Key::Fdb(index, entry.mac), remote);
            }
        }
        Entry::Neighbour(neighbour) => {
            if let Ok(index) = (facts.index)(&neighbour.link) {
                own_writes.neighbour(Key::Neighbour(index, neighbour.address), removed);
            }
        }
        Entry::NextHop(_) | Entry::Route(_) | Entry::Rule(_) => {}
    }
}

/// One dump of the kernel.
struct Dump {
    kind: u16,
    family: u8,
    protocol: u8,
    /// Not every kernel has such entries.
    may_be_missing: bool,
}

/// The dumps that have all entries of a scope.
fn dumps(scope: &Scope<'_>) -> Vec<Dump> {
    let dump = |kind, family| Dump {
        kind,
        family,
        protocol: 0,
        may_be_missing: matches!(family, AF_INET6 | AF_UNSPEC),
    };
    match scope.kind {
        Kind::NextHop => vec![dump(RTM_GETNEXTHOP, AF_UNSPEC)],
        Kind::Neighbour => vec![dump(RTM_GETNEIGH, AF_UNSPEC)],
        Kind::Fdb => vec![dump(RTM_GETNEIGH, AF_BRIDGE)],
        Kind::Rule => [AF_INET, AF_INET6]
            .map(|family| dump(RTM_GETRULE, family))
            .into(),
        Kind::Route => {
            let of_protocol = |family| Dump {
                protocol: scope.protocol.unwrap_or(0),
                ..dump(RTM_GETROUTE, family)
            };
            [AF_INET, AF_INET6].map(of_protocol).into()
        }
    }
}

impl Dump {
    /// Next hops are walked by id (`rtm_dump_walk_nexthops`); it is they that the kernel tells of changes in.
    fn ordered(&self) -> bool {
        self.kind == RTM_GETNEXTHOP
    }

    /// `struct nhmsg`, `ndmsg`, `rtmsg` or `fib_rule_hdr`: all begin with the family.
    fn header(&self) -> Vec<u8> {
        let mut header = vec![self.family, 0, 0, 0, 0, self.protocol, 0, 0];
        if self.kind != RTM_GETNEXTHOP {
            header.extend([0; 4]);
        }
        header
    }
}

/// What filters of the kernel leave undone: some have none, and older ones ignore them.
fn wanted(entry: &Entry, protocol: Option<u8>) -> bool {
    let found = match entry {
        Entry::NextHop(next_hop) => next_hop.protocol,
        Entry::Route(route) => route.protocol,
        Entry::Rule(rule) => rule.protocol,
        Entry::Neighbour(_) | Entry::Fdb(_) => return true,
    };
    protocol.is_none_or(|protocol| protocol == found)
}

/// The kernel has no such dump, or no such family: IPv6 is not built in, or was switched off at boot.
fn is_missing(failure: &Failure) -> bool {
    matches!(failure.errno, errno::EOPNOTSUPP | errno::EAFNOSUPPORT)
}

/// Whether the kernel has IPv6. Next hops without a gateway are then made for it, which routes of both families may use.
fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}
