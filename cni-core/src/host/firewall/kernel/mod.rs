//! nftables over netlink, without the `nft` program.

mod background;
mod batch;
mod decode;
mod expression;
mod lapse;
pub(in crate::host) mod message;
pub(in crate::host) mod socket;
mod uapi;
mod value;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::batch::{Batch, write_element};
use self::decode::SetTypes;
use self::message::{Attributes, Message, Writer};
use self::socket::{Connection, Failure, Kept};
use self::uapi::*;
pub(in crate::host) use self::value::family_of;
use super::{
    ChainRules, Element, Firewall, FirewallChange, RuleState, SetState, Table, TableState, Value,
    ValueType,
};
use crate::host::netlink::{NetlinkError, errno};

/// How often a set is read anew whose hash table the kernel was moving.
const WHOLE_TRIES: usize = 100;
/// How often a table is read anew when a commit came between its chains, rules and sets.
const CONSISTENT_TRIES: usize = 8;

/// nftables of the network namespace that the calling thread is in at the first use.
///
/// Without nftables in the kernel every call fails with EPROTONOSUPPORT or EOPNOTSUPP; without `CAP_NET_ADMIN` in the
/// namespace, with EPERM.
#[derive(Debug, Default)]
pub struct KernelFirewall {
    /// For reads and for commits that delete nothing; for all, where it lasts.
    connection: Kept,
    lasting: bool,
}

impl KernelFirewall {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// For a process that lasts: deletions are committed by the socket that is kept, and nobody waits for readers until it is
    /// closed, at the end. A process that is about to end waits less with [`KernelFirewall::new`], where that wait can be
    /// overlapped with other work.
    pub fn lasting() -> Self {
        Self {
            lasting: true,
            ..Self::default()
        }
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.connection.with(NFNL_SUBSYS_NFTABLES, work)
    }
}

#[async_trait]
impl Firewall for KernelFirewall {
    async fn table(&self, table: &Table) -> Result<Option<TableState>, NetlinkError> {
        self.with(|connection| {
            let mut tries = 1;
            loop {
                let (state, consistent) = read_table(connection, table)?;
                // A reader must not starve where others commit all the time; each dump is consistent in itself.
                if consistent || tries == CONSISTENT_TRIES {
                    return Ok(state);
                }
                tries += 1;
            }
        })
        .map_err(|failure| told(format!("nft list table {table}"), failure))
    }

    async fn elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, NetlinkError> {
        let mut all = Vec::new();
        self.with(|connection| {
            read_elements(connection, table, set, &mut |element| match element {
                Some(element) => all.push(element),
                None => all.clear(),
            })
        })
        .map_err(|failure| told(format!("nft list set {table} {set}"), failure))?;
        Ok(all)
    }

    async fn each_element(
        &self,
        table: &Table,
        set: &str,
        each: &mut (dyn FnMut(Element) + Send),
    ) -> Result<(), NetlinkError> {
        self.with(|connection| {
            read_elements(connection, table, set, &mut |element| {
                if let Some(element) = element {
                    each(element);
                }
            })
        })
        .map_err(|failure| told(format!("nft list set {table} {set}"), failure))
    }

    async fn element(
        &self,
        table: &Table,
        set: &str,
        key: &[Value],
    ) -> Result<Option<Element>, NetlinkError> {
        let wanted = Element::new(key.to_vec());
        let operation = || format!("nft get element {table} {set} {{ {wanted} }}");
        let mut probe = Writer::default();
        write_element(&mut probe, &wanted, false)
            .map_err(|why| NetlinkError::new(operation(), 0).with_message(why))?;
        self.with(|connection| read_element(connection, table, set, &wanted))
            .map_err(|failure| told(operation(), failure))
    }

    async fn chain_rules(
        &self,
        table: &Table,
        chain: &str,
    ) -> Result<Option<ChainRules>, NetlinkError> {
        self.with(|connection| read_chain_rules(connection, table, chain))
            .map_err(|failure| told(format!("nft list chain {table} {chain}"), failure))
    }

    async fn commit(&self, changes: &[FirewallChange]) -> Result<(), NetlinkError> {
        self.commit_behind(changes, Duration::ZERO).await
    }

    async fn commit_behind(
        &self,
        changes: &[FirewallChange],
        delay: Duration,
    ) -> Result<(), NetlinkError> {
        let batch = Batch::encode(changes).map_err(|(index, why)| {
            NetlinkError::new(culprit_text(changes, index, None), 0).with_message(why)
        })?;
        if batch.is_empty() {
            return Ok(());
        }
        let batch = Arc::new(batch);
        let waits = !self.lasting && changes.iter().any(FirewallChange::deletes);
        let lapsed = waits
            && self
                .with(|connection| lapse::instead(connection, changes))
                .unwrap_or(false);
        let result = if lapsed {
            Ok(())
        } else if waits {
            let batch = Arc::clone(&batch);
            // The socket is closed before the thread ends, and closing it waits for readers.
            let work = move || {
                std::thread::sleep(delay);
                Connection::open()?.commit(&batch)
            };
            background::run(work)
                .await
                .unwrap_or_else(|| Err(Failure::own("the committing thread panicked")))
        } else {
            self.with(|connection| connection.commit(&batch))
        };
        result.map_err(|failure| {
            let (index, element) = batch.culprit(failure.sequence, failure.offset);
            told(culprit_text(changes, index, element), failure)
        })
    }
}

/// A table, and whether no commit came between the parts.
fn read_table(
    connection: &mut Connection,
    table: &Table,
) -> Result<(Option<TableState>, bool), Failure> {
    let family = value::family(table.family);
    let mut generations = Vec::new();
    let mut seen = |message: &Message<'_>| generations.push(message.generation());
    let found = connection.get(
        NFT_MSG_GETTABLE,
        family,
        |w| w.text(NFTA_TABLE_NAME, &table.name),
        |message| {
            seen(message);
            Some(())
        },
    )?;
    if found.is_none() {
        return Ok((None, true));
    }
    let of_table = |message: &Message<'_>, kind| {
        message.attributes().text(kind).as_deref() == Some(table.name.as_str())
    };
    let mut state = TableState::default();
    // The kernel filters rules and sets by table, chains only by family.
    let name = |w: &mut Writer| w.text(NFTA_CHAIN_TABLE, &table.name);
    state.chains = connection
        .dump(NFT_MSG_GETCHAIN, family, name, |message, all| {
            seen(message);
            if of_table(message, NFTA_CHAIN_TABLE) {
                all.push(decode::chain(message.attributes())?);
            }
            Some(())
        })?
        .unwrap_or_default();
    let rules: Option<Vec<(String, RuleState)>> =
        connection.dump(NFT_MSG_GETRULE, family, name, |message, all| {
            seen(message);
            if of_table(message, NFTA_RULE_TABLE) {
                all.push(decode::rule(message.attributes())?);
            }
            Some(())
        })?;
    for (chain, rule) in rules.unwrap_or_default() {
        if let Some(chain) = state.chains.iter_mut().find(|other| other.name == chain) {
            chain.rules.push(rule);
        }
    }
    state.sets = connection
        .dump(NFT_MSG_GETSET, family, name, |message, all| {
            seen(message);
            let name = message.attributes().text(NFTA_SET_NAME)?;
            if of_table(message, NFTA_SET_TABLE) {
                all.push(SetState { name });
            }
            Some(())
        })?
        .unwrap_or_default();
    let consistent = generations
        .windows(2)
        .all(|pair| pair.first() == pair.last());
    Ok((Some(state), consistent))
}

/// A chain, and the rules of it alone: the kernel filters them by table and chain.
fn read_chain_rules(
    connection: &mut Connection,
    table: &Table,
    chain: &str,
) -> Result<Option<ChainRules>, Failure> {
    let family = value::family(table.family);
    let policy = connection.get(
        NFT_MSG_GETCHAIN,
        family,
        |w| {
            w.text(NFTA_CHAIN_TABLE, &table.name);
            w.text(NFTA_CHAIN_NAME, chain);
        },
        |message| Some(message.attributes().be32(NFTA_CHAIN_POLICY)),
    )?;
    let Some(policy) = policy else {
        return Ok(None);
    };
    let rules = connection.dump(
        NFT_MSG_GETRULE,
        family,
        |w| {
            w.text(NFTA_RULE_TABLE, &table.name);
            w.text(NFTA_RULE_CHAIN, chain);
        },
        |message, all| {
            let (of_chain, rule) = decode::rule(message.attributes())?;
            let of_table = message.attributes().text(NFTA_RULE_TABLE);
            if of_chain == chain && of_table.as_deref() == Some(table.name.as_str()) {
                all.push(rule);
            }
            Some(())
        },
    )?;
    Ok(Some(ChainRules {
        is_base: policy.is_some(),
        drops: policy.is_some_and(|policy| policy.cast_signed() == NF_DROP),
        rules: rules.unwrap_or_default(),
    }))
}

fn read_types(
    connection: &mut Connection,
    table: &Table,
    set: &str,
) -> Result<Option<SetTypes>, Failure> {
    connection.get(
        NFT_MSG_GETSET,
        value::family(table.family),
        |w| {
            w.text(NFTA_SET_TABLE, &table.name);
            w.text(NFTA_SET_NAME, set);
        },
        |message| decode::set_types(message.attributes()),
    )
}

fn write_set(writer: &mut Writer, table: &Table, set: &str) {
    writer.text(NFTA_SET_ELEM_LIST_TABLE, &table.name);
    writer.text(NFTA_SET_ELEM_LIST_SET, set);
}

/// All elements of a set, each handed over as it comes; `None` ahead of the first, and again when all come anew.
///
/// The kernel grows and shrinks a set's hash table in the background (rhashtable), and its dump goes on from one datagram to
/// the next by counting. While the table is being moved, one that is read brings some elements twice and as many others not
/// at all, without a flag that tells: one in five reads of 20,000 elements just after their addition. So one that brings an
/// element twice is thrown away.
fn read_elements(
    connection: &mut Connection,
    table: &Table,
    set: &str,
    each: &mut dyn FnMut(Option<Element>),
) -> Result<(), Failure> {
    let Some(types) = read_types(connection, table, set)? else {
        return Ok(());
    };
    for _ in 0..WHOLE_TRIES {
        let mut keys = Vec::new();
        connection.stream(
            NFT_MSG_GETSETELEM,
            value::family(table.family),
            |w| write_set(w, table, set),
            |message| match message {
                Some(message) => {
                    for (_, element) in message.attributes().nested(NFTA_SET_ELEM_LIST_ELEMENTS) {
                        let element = Attributes(element);
                        keys.push(decode::key_hash(element));
                        each(Some(decode::element(element, &types)?));
                    }
                    Some(())
                }
                None => {
                    keys.clear();
                    each(None);
                    Some(())
                }
            },
        )?;
        keys.sort_unstable();
        if keys.windows(2).all(|pair| pair.first() != pair.last()) {
            return Ok(());
        }
    }
    Err(Failure::own(
        "the kernel kept moving the set's hash table while it was read",
    ))
}

/// The key tells the types of the answer, but for data that is no verdict.
fn read_element(
    connection: &mut Connection,
    table: &Table,
    set: &str,
    wanted: &Element,
) -> Result<Option<Element>, Failure> {
    let Some(bytes) = read_raw_element(connection, table, set, wanted)? else {
        return Ok(None);
    };
    let key: Vec<ValueType> = wanted.key.iter().map(Value::value_type).collect();
    let types = match SetTypes::of_element(key, Attributes(&bytes)) {
        Some(types) => types,
        None => match read_types(connection, table, set)? {
            Some(types) => types,
            None => return Ok(None),
        },
    };
    let element = decode::element(Attributes(&bytes), &types);
    element.map(Some).ok_or_else(socket::undecodable)
}

/// The attributes of one element; `None` when it, or the set, does not exist.
fn read_raw_element(
    connection: &mut Connection,
    table: &Table,
    set: &str,
    wanted: &Element,
) -> Result<Option<Vec<u8>>, Failure> {
    connection.get(
        NFT_MSG_GETSETELEM,
        value::family(table.family),
        |w| {
            write_set(w, table, set);
            w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                write_element(w, wanted, false).ok();
            });
        },
        |message| {
            let list = message.attributes().nested(NFTA_SET_ELEM_LIST_ELEMENTS);
            list.find(NFTA_LIST_ELEM).map(<[u8]>::to_vec)
        },
    )
}

/// The command that failed: with the one element that the kernel objects to when it is known, else with the first.
fn culprit_text(changes: &[FirewallChange], index: usize, element: Option<usize>) -> String {
    let mut change = match changes.get(index) {
        Some(change) => change.clone(),
        None => return "nft".to_owned(),
    };
    if let FirewallChange::ElementAdd { elements, .. }
    | FirewallChange::ElementDel { elements, .. } = &mut change
    {
        let keep = element.unwrap_or(0).min(elements.len());
        *elements = elements.split_off(keep);
        elements.truncate(if element.is_some() { 1 } else { 4 });
    }
    change.to_string()
}

/// The failure with its operation, and in our words where the kernel has none.
fn told(operation: String, failure: Failure) -> NetlinkError {
    let message = failure.message.or_else(|| {
        let words = match failure.errno {
            errno::EPERM => "nftables needs CAP_NET_ADMIN in the network namespace",
            errno::EOPNOTSUPP if failure.sequence == 0 => {
                "nftables is not available in this kernel"
            }
            _ => return None,
        };
        Some(words.to_owned())
    });
    let error = NetlinkError::new(operation, failure.errno);
    match message {
        Some(message) => error.with_message(message),
        None => error,
    }
}
