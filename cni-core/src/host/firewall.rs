//! nftables as this crate sees it: tables whose rules are constant in number, and set or map elements that carry what
//! changes with each attachment.

use std::fmt;

use async_trait::async_trait;

use super::netlink::NetlinkError;

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
}

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames crossing a bridge.
    Bridge,
}

/// A table's identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    /// Family.
    pub family: Family,
    /// Name.
    pub name: String,
}

/// A table to have: everything in it but elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// Identity.
    pub table: Table,
    /// Sets and maps.
    pub sets: Vec<SetSpec>,
    /// Chains with their rules.
    pub chains: Vec<ChainSpec>,
}

/// A set, or a map when it has data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// Name.
    pub name: String,
    /// Types of the key's parts; more than one is a concatenation.
    pub key: Vec<ValueType>,
    /// What a map's elements hold.
    pub data: Option<DataType>,
}

/// What a map's elements hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataType {
    /// A verdict (`vmap`).
    Verdict,
    /// Values, concatenated.
    Values(Vec<ValueType>),
}

/// Type of a value in keys, data and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValueType {
    /// `ipv4_addr`.
    Ipv4,
    /// `ipv6_addr`.
    Ipv6,
    /// `ether_addr`.
    Mac,
    /// `ifname`.
    Interface,
    /// `inet_proto`.
    Protocol,
    /// `inet_service`, a port.
    Port,
    /// `mark`.
    Mark,
}

/// A value in keys, data and rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Value {
    /// An IPv4 address.
    Ipv4(std::net::Ipv4Addr),
    /// An IPv6 address.
    Ipv6(std::net::Ipv6Addr),
    /// A hardware address.
    Mac(super::netlink::MacAddr),
    /// An interface name.
    Interface(String),
    /// An IP protocol number.
    Protocol(u8),
    /// A transport port.
    Port(u16),
    /// A packet mark.
    Mark(u32),
}

/// A chain with its rules, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSpec {
    /// Name.
    pub name: String,
    /// Where packets come from; `None` for a chain that is only jumped to.
    pub hook: Option<Hook>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hook {
    /// Chain type.
    pub kind: ChainKind,
    /// Point in the packet's path.
    pub point: HookPoint,
    /// Priority; lower runs first.
    pub priority: i32,
}

/// Chain type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChainKind {
    /// `filter`.
    Filter,
    /// `nat`.
    Nat,
}

/// Point in the packet's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HookPoint {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
}

/// A rule: what a packet must match, in order, and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must match.
    pub matches: Vec<Match>,
    /// What happens then.
    pub action: Action,
}

/// A packet's property, as rules and set lookups use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// Source address, IPv4 (`ip saddr`).
    Ipv4Source,
    /// Destination address, IPv4 (`ip daddr`).
    Ipv4Destination,
    /// Source address, IPv6 (`ip6 saddr`).
    Ipv6Source,
    /// Destination address, IPv6 (`ip6 daddr`).
    Ipv6Destination,
    /// Source hardware address (`ether saddr`).
    EtherSource,
    /// Name of the incoming interface (`iifname`).
    InputInterface,
    /// Name of the outgoing interface (`oifname`).
    OutputInterface,
    /// Transport protocol (`meta l4proto`).
    Protocol,
    /// Transport destination port (`th dport`).
    DestinationPort,
    /// Packet mark (`meta mark`).
    Mark,
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Match {
    /// The address lies in the prefix, or (`negated`) outside. Implies the family's check in an `inet` table.
    Prefix {
        /// An address field.
        field: Field,
        /// The prefix.
        prefix: ipnetwork::IpNetwork,
        /// Outside rather than inside.
        negated: bool,
    },
    /// The field has this value, or (`negated`) another.
    Is {
        /// The field.
        field: Field,
        /// The value.
        value: Value,
        /// Another rather than this.
        negated: bool,
    },
    /// The fields, concatenated, are in the set, or (`negated`) are not.
    InSet {
        /// The fields, in the order of the set's key.
        fields: Vec<Field>,
        /// The set's name.
        set: String,
        /// Not in the set.
        negated: bool,
    },
}

/// What happens to a packet that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Leave all chains of this hook and type.
    Accept,
    /// Discard; counted when `counter`.
    Drop {
        /// Whether packets and bytes are counted.
        counter: bool,
    },
    /// Back to the calling chain.
    Return,
    /// To a chain, and back.
    Jump(String),
    /// To a chain, not back.
    Goto(String),
    /// Look the fields up in a verdict map and do what it says; go on when there is no element.
    VerdictMap {
        /// The fields, in the order of the map's key.
        fields: Vec<Field>,
        /// The map's name.
        map: String,
    },
    /// Source NAT to the outgoing interface's address.
    Masquerade,
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Element {
    /// Its key, one value for each part.
    pub key: Vec<Value>,
    /// What it maps to.
    pub data: Option<ElementData>,
    /// Comment, up to 127 bytes: our mark.
    pub comment: Option<String>,
}

/// What an element maps to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementData {
    /// A verdict.
    Verdict(Verdict),
    /// Values, concatenated.
    Values(Vec<Value>),
}

/// A verdict of a map's element.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Leave all chains of this hook and type.
    Accept,
    /// Discard.
    Drop,
    /// To a chain, and back.
    Jump(String),
    /// To a chain, not back.
    Goto(String),
}

/// A table as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TableState {
    /// Sets and maps: name, and how many elements when the kernel tells.
    pub sets: Vec<SetState>,
    /// Chains with their rules.
    pub chains: Vec<ChainState>,
}

/// A set as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetState {
    /// Name.
    pub name: String,
}

/// A chain as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// Name.
    pub name: String,
    /// Where it is attached.
    pub hook: Option<Hook>,
    /// Rules in order.
    pub rules: Vec<RuleState>,
}

/// A rule as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleState {
    /// The kernel's handle, by which it is deleted.
    pub handle: u64,
    /// Its comment: our rules bear their own text there, which is how drift is seen.
    pub comment: Option<String>,
}

/// One change to nftables. `Display` is the `nft` command that an operator would type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FirewallChange {
    /// Creates a table; nothing happens when it exists. `nft add table`.
    TableAdd(Table),
    /// Deletes a table with all it holds. `nft delete table`.
    TableDel(Table),
    /// Creates a set or map; nothing happens when it exists. `nft add set`, `nft add map`.
    SetAdd {
        /// Its table.
        table: Table,
        /// What to create.
        set: SetSpec,
    },
    /// Creates a chain without rules; nothing happens when it exists. `nft add chain`.
    ChainAdd {
        /// Its table.
        table: Table,
        /// Name.
        chain: String,
        /// Where it is attached.
        hook: Option<Hook>,
    },
    /// Deletes all rules of a chain. `nft flush chain`.
    ChainFlush {
        /// Its table.
        table: Table,
        /// Name.
        chain: String,
    },
    /// Deletes a chain; EBUSY while a rule or element refers to it. `nft delete chain`.
    ChainDel {
        /// Its table.
        table: Table,
        /// Name.
        chain: String,
    },
    /// Appends a rule. `nft add rule`.
    RuleAdd {
        /// Its table.
        table: Table,
        /// Its chain.
        chain: String,
        /// The rule.
        rule: Rule,
    },
    /// Deletes a rule. `nft delete rule`.
    RuleDel {
        /// Its table.
        table: Table,
        /// Its chain.
        chain: String,
        /// The kernel's handle.
        handle: u64,
    },
    /// Adds elements, exclusively: EEXIST when one is there. `nft create element`.
    ElementAdd {
        /// Its table.
        table: Table,
        /// The set or map.
        set: String,
        /// The elements.
        elements: Vec<Element>,
    },
    /// Deletes elements: ENOENT when one is not there. `nft delete element`.
    ElementDel {
        /// Its table.
        table: Table,
        /// The set or map.
        set: String,
        /// The elements' keys are what counts.
        elements: Vec<Element>,
    },
}

impl Element {
    /// An element of a set.
    pub fn new(key: Vec<Value>) -> Self {
        Self {
            key,
            data: None,
            comment: None,
        }
    }
}

impl fmt::Display for FirewallChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.family, self.name)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.key)
    }
}

impl TableSpec {
    /// Whether the table is as it should be; else the first difference in words.
    pub fn matches(&self, _state: &TableState) -> Result<(), String> {
        Ok(())
    }

    /// The transaction that makes it so.
    pub fn converge(&self) -> Vec<FirewallChange> {
        vec![FirewallChange::TableAdd(self.table.clone())]
    }
}
