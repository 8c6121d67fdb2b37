//! nftables as this crate sees it: tables whose rules are constant in number, and set or map elements that carry what
//! changes with each attachment.

mod change;
mod element;
#[cfg(feature = "kernel")]
mod kernel;
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
pub use rule::{Action, Field, Match, Rule};
pub use table::{
    ChainKind, ChainSpec, ChainState, Family, Hook, HookPoint, RuleState, SetSpec, SetState, Table,
    TableSpec, TableState,
};

/// nftables of one network namespace.
#[async_trait]
pub trait Firewall: Send + Sync + fmt::Debug {
    /// A table with its chains, rules and sets, without elements. `None` when it does not exist.
    async fn table(&self, table: &Table) -> Result<Option<TableState>, NetlinkError>;

    /// All elements of a set or map. Empty when the set does not exist.
    async fn elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, NetlinkError>;

    /// One element by its key, without reading the others. `None` when it, or the set, does not exist.
    async fn element(
        &self,
        table: &Table,
        set: &str,
        key: &[Value],
    ) -> Result<Option<Element>, NetlinkError>;

    /// Makes all changes in one transaction, or none. An addition of an element is exclusive.
    ///
    /// After a transaction that deletes, the kernel waits for readers (RCU, some 15 ms) when the socket is closed. An
    /// implementation does that wait off the caller's thread, and its future ends when the wait has ended, so that a
    /// caller can overlap it with other work.
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
