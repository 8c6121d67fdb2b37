//! Tables, chains and sets: as they must be, as the kernel has them, and the difference in words.

use std::fmt;

use super::element::concatenated;
use super::{DataType, FirewallChange, Rule, ValueType};

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
    /// Whether its elements can be given an end (`flags timeout`): a process that is about to end then deletes them without a
    /// wait for readers, see [`Firewall::commit`](super::Firewall::commit).
    pub lapses: bool,
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
    /// `route`: a change of the packet makes its route be looked up anew.
    Route,
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
    /// What it has counted since it was made, where it counts. A chain that is filled anew counts from zero.
    pub counter: Option<Counter>,
}

/// One chain as the kernel has it, perhaps another program's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ChainRules {
    /// Whether it is attached to a hook.
    pub is_base: bool,
    /// Whether a base chain drops what no rule of it decides.
    pub drops: bool,
    /// Rules in order.
    pub rules: Vec<RuleState>,
}

impl ChainRules {
    /// A chain that is only jumped to, with these rules.
    pub fn new(rules: Vec<RuleState>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }
}

/// Packets and bytes that reached a counter of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the network header on.
    pub bytes: u64,
}

impl TableSpec {
    /// Whether the kernel's table is as it must be. It may hold more sets and chains than declared, but each declared
    /// chain has exactly its rules.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn matches(&self, state: &TableState) -> Result<(), String> {
        for set in &self.sets {
            if !state.sets.iter().any(|other| other.name == set.name) {
                return Err(format!(
                    "set {} of table {} is missing",
                    set.name, self.table
                ));
            }
        }
        self.chains.iter().try_for_each(|chain| {
            let place = || format!("chain {} of table {}", chain.name, self.table);
            match state.chains.iter().find(|other| other.name == chain.name) {
                None => Err(format!("{} is missing", place())),
                Some(other) => chain
                    .difference(other)
                    .map_or(Ok(()), |words| Err(format!("{} {words}", place()))),
            }
        })
    }

    /// The transaction that makes the table, whatever of it is there: table, sets, chains, then each declared chain
    /// emptied and filled. Two processes that commit it at once end with single rules. Elements stay.
    ///
    /// A chain that stands under the same name with another hook is not mended: the kernel answers EEXIST.
    pub fn converge(&self) -> Vec<FirewallChange> {
        let table = || self.table.clone();
        let mut changes = vec![FirewallChange::TableAdd(table())];
        changes.extend(self.sets.iter().map(|set| FirewallChange::SetAdd {
            table: table(),
            set: set.clone(),
        }));
        changes.extend(self.chains.iter().map(|chain| FirewallChange::ChainAdd {
            table: table(),
            chain: chain.name.clone(),
            hook: chain.hook,
        }));
        changes.extend(self.chains.iter().map(|chain| FirewallChange::ChainFlush {
            table: table(),
            chain: chain.name.clone(),
        }));
        for chain in &self.chains {
            changes.extend(chain.rules.iter().map(|rule| FirewallChange::RuleAdd {
                table: table(),
                chain: chain.name.clone(),
                rule: rule.clone(),
            }));
        }
        changes
    }
}

impl SetSpec {
    /// A set.
    pub fn new(name: impl Into<String>, key: impl Into<Vec<ValueType>>) -> Self {
        Self {
            name: name.into(),
            key: key.into(),
            data: None,
            lapses: false,
        }
    }

    /// The set as a map to this.
    #[must_use]
    pub fn to(self, data: DataType) -> Self {
        Self {
            data: Some(data),
            ..self
        }
    }

    /// The set with elements that can be given an end.
    #[must_use]
    pub fn lapsing(self) -> Self {
        Self {
            lapses: true,
            ..self
        }
    }
}

impl ChainSpec {
    /// A chain that is attached to a hook.
    pub fn base(name: impl Into<String>, hook: Hook, rules: Vec<Rule>) -> Self {
        Self {
            name: name.into(),
            hook: Some(hook),
            rules,
        }
    }

    /// A chain that is only jumped to.
    pub fn regular(name: impl Into<String>, rules: Vec<Rule>) -> Self {
        Self {
            name: name.into(),
            hook: None,
            rules,
        }
    }

    /// The first difference in words; `None` when there is none.
    fn difference(&self, state: &ChainState) -> Option<String> {
        if self.hook != state.hook {
            return Some(format!(
                "is attached as \"{}\" instead of \"{}\"",
                hook_words(state.hook),
                hook_words(self.hook)
            ));
        }
        for (position, rule) in self.rules.iter().enumerate() {
            let comment = rule.comment();
            let found = state
                .rules
                .get(position)
                .map(|rule| rule.comment.as_deref());
            if found != Some(Some(comment.as_str())) {
                return Some(match found {
                    None => format!("lacks rule {}: {rule}", position + 1),
                    Some(other) => format!(
                        "has \"{}\" as rule {} instead of: {rule}",
                        other.unwrap_or("a rule without our comment"),
                        position + 1
                    ),
                });
            }
        }
        let extra = state.rules.len().checked_sub(self.rules.len())?;
        let word = if extra == 1 { "rule" } else { "rules" };
        (extra > 0).then(|| format!("has {extra} more {word} than it should"))
    }
}

fn hook_words(hook: Option<Hook>) -> String {
    hook.map_or_else(|| "no hook".to_owned(), |hook| hook.to_string())
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
        })
    }
}

/// Family and name, as nft commands begin.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// What stands between the braces of `nft add set`, without the last semicolon.
impl fmt::Display for SetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("type ")?;
        concatenated(f, &self.key)?;
        match &self.data {
            None => {}
            Some(DataType::Verdict) => f.write_str(" : verdict")?,
            Some(DataType::Values(types)) => {
                f.write_str(" : ")?;
                concatenated(f, types)?;
            }
        }
        match self.lapses {
            true => f.write_str("; flags timeout"),
            false => Ok(()),
        }
    }
}

/// What stands between the braces of `nft add chain`, without the policy.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "type {} hook {} priority {}",
            self.kind.name(),
            self.point.name(),
            self.priority
        )
    }
}

impl ChainKind {
    /// The kernel's and nft's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

impl HookPoint {
    /// nft's name.
    fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}
