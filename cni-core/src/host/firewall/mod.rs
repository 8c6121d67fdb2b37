//! nftables as this crate sees it: tables whose rules are constant in number, and set or map elements that carry what
//! changes with each attachment.

mod change;
mod element;
#[cfg(feature = "kernel")]
pub(super) mod kernel;
mod rule;
mod table;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::netlink::NetlinkError;

pub use change::FirewallChange;
pub use element::{DataType, Element, ElementData, Value, ValueType, Verdict};
#[cfg(feature = "kernel")]
pub use kernel::KernelFirewall;
#[cfg(feature = "kernel")]
pub(super) use kernel::family_of;
pub use rule::{Action, Field, Match, Rule};
pub use table::{
    ChainKind, ChainRules, ChainSpec, ChainState, Counter, Family, Hook, HookPoint, RuleState,
    SetSpec, SetState, Table, TableSpec, TableState,
};

/// How many elements fit one transaction in any case: added or deleted, with keys of up to 32 bytes and without comments,
/// beside some rules.
///
/// A transaction is one message, which the sending socket's buffer bounds. With `CAP_NET_ADMIN` in the first user namespace
/// that is no bound (`SO_SNDBUFFORCE`); in another it is twice `net.core.wmem_max`, by default 425,984 bytes, of which such an
/// element takes 44.
pub const TRANSACTION_ELEMENTS: usize = 8_000;

/// nftables of one network namespace.
#[async_trait]
pub trait Firewall: Send + Sync + fmt::Debug {
    /// A table with its chains, rules and sets, without elements. `None` when it does not exist.
    async fn table(&self, table: &Table) -> Result<Option<TableState>, NetlinkError>;

    /// All elements of a set or map. Empty when the set does not exist.
    async fn elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, NetlinkError>;

    /// As [`Firewall::elements`], one after another, so that a large set is never held as a whole. Where a commit comes
    /// between, or the kernel moves the set in memory, the list is read anew from its beginning: an element may be handed
    /// over more than once, and one that is deleted meanwhile, too. `each` must not use this firewall.
    async fn each_element(
        &self,
        table: &Table,
        set: &str,
        each: &mut (dyn FnMut(Element) + Send),
    ) -> Result<(), NetlinkError> {
        self.elements(table, set).await?.into_iter().for_each(each);
        Ok(())
    }

    /// One element by its key, without reading the others. `None` when it, or the set, does not exist.
    async fn element(
        &self,
        table: &Table,
        set: &str,
        key: &[Value],
    ) -> Result<Option<Element>, NetlinkError>;

    /// One chain with its policy and rules, without reading the rest of its table, which may be large: tables of other
    /// programs are. `None` when it does not exist.
    async fn chain_rules(
        &self,
        table: &Table,
        chain: &str,
    ) -> Result<Option<ChainRules>, NetlinkError> {
        let state = self.table(table).await?.unwrap_or_default();
        let found = state.chains.into_iter().find(|found| found.name == chain);
        Ok(found.map(|found| ChainRules {
            is_base: found.hook.is_some(),
            ..ChainRules::new(found.rules)
        }))
    }

    /// Makes all changes in one transaction, or none. An addition of an element is exclusive.
    ///
    /// A transaction that is too large for the process is EMSGSIZE, and changes nothing. Root's are bounded by memory alone;
    /// see [`TRANSACTION_ELEMENTS`] for what fits in any case.
    ///
    /// After a transaction that deletes, the kernel waits for readers (RCU, some 15 ms) when the socket is closed. An
    /// implementation does that wait off the caller's thread, and its future ends when the wait has ended, so that a
    /// caller can overlap it with other work. Where nothing but elements of sets that allow it ([`SetSpec::lapses`]) is
    /// deleted, an implementation may let them lapse instead, which nobody waits for: they are gone when the future ends.
    async fn commit(&self, changes: &[FirewallChange]) -> Result<(), NetlinkError>;

    /// As [`Firewall::commit`], begun `delay` after the first poll while the caller goes on with other work. Where a
    /// transaction does not leave the caller's thread, it is begun at once.
    async fn commit_behind(
        &self,
        changes: &[FirewallChange],
        delay: Duration,
    ) -> Result<(), NetlinkError> {
        let _ = delay;
        self.commit(changes).await
    }
}
