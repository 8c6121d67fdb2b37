//! Changes to nftables, and the commands they print as.

use std::fmt;

use super::element::concatenated;
use super::{Element, Hook, Rule, SetSpec, Table};

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
    /// Deletes a set or map with its elements; EBUSY while a rule looks into it. `nft delete set`.
    SetDel {
        /// Its table.
        table: Table,
        /// Name.
        set: String,
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
    /// Inserts a rule at the head of a chain, which may be another program's: its comment says whose the rule is.
    /// `nft insert rule`.
    RuleInsert {
        /// Its table.
        table: Table,
        /// Its chain.
        chain: String,
        /// The rule.
        rule: Rule,
        /// The comment, up to 127 bytes without double quotes.
        comment: String,
    },
}

impl FirewallChange {
    /// The change as a line of an nft script (`nft -f`).
    pub fn script(&self) -> String {
        Script(self).to_string()
    }

    /// The table that is changed.
    pub fn table(&self) -> &Table {
        match self {
            Self::TableAdd(table) | Self::TableDel(table) => table,
            Self::SetAdd { table, .. }
            | Self::SetDel { table, .. }
            | Self::ChainAdd { table, .. }
            | Self::ChainFlush { table, .. }
            | Self::ChainDel { table, .. }
            | Self::RuleAdd { table, .. }
            | Self::RuleDel { table, .. }
            | Self::RuleInsert { table, .. }
            | Self::ElementAdd { table, .. }
            | Self::ElementDel { table, .. } => table,
        }
    }

    /// Whether the kernel frees something after the change, and so waits for readers when the socket is closed.
    pub fn deletes(&self) -> bool {
        match self {
            Self::TableDel(_)
            | Self::SetDel { .. }
            | Self::ChainFlush { .. }
            | Self::ChainDel { .. }
            | Self::RuleDel { .. }
            | Self::ElementDel { .. } => true,
            Self::TableAdd(_)
            | Self::SetAdd { .. }
            | Self::ChainAdd { .. }
            | Self::RuleAdd { .. }
            | Self::RuleInsert { .. }
            | Self::ElementAdd { .. } => false,
        }
    }
}

/// The command for a shell: `nft` and one argument, quoted where the shell needs it.
impl fmt::Display for FirewallChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let script = self.script();
        let plain = |c: char| c.is_ascii_alphanumeric() || " _-./:@%+,".contains(c);
        if script.chars().all(plain) {
            write!(f, "nft {script}")
        } else {
            write!(f, "nft '{}'", script.replace('\'', r"'\''"))
        }
    }
}

struct Script<'a>(&'a FirewallChange);

impl fmt::Display for Script<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use FirewallChange as Change;
        match self.0 {
            Change::TableAdd(table) => write!(f, "add table {table}"),
            Change::TableDel(table) => write!(f, "delete table {table}"),
            Change::SetAdd { table, set } => {
                let kind = if set.data.is_some() { "map" } else { "set" };
                write!(f, "add {kind} {table} {} {{ {set}; }}", set.name)
            }
            Change::SetDel { table, set } => write!(f, "delete set {table} {set}"),
            Change::ChainAdd { table, chain, hook } => {
                write!(f, "add chain {table} {chain}")?;
                match hook {
                    Some(hook) => write!(f, " {{ {hook}; policy accept; }}"),
                    None => Ok(()),
                }
            }
            Change::ChainFlush { table, chain } => write!(f, "flush chain {table} {chain}"),
            Change::ChainDel { table, chain } => write!(f, "delete chain {table} {chain}"),
            Change::RuleAdd { table, chain, rule } => write!(
                f,
                "add rule {table} {chain} {rule} comment \"{}\"",
                rule.comment()
            ),
            Change::RuleDel {
                table,
                chain,
                handle,
            } => write!(f, "delete rule {table} {chain} handle {handle}"),
            Change::RuleInsert {
                table,
                chain,
                rule,
                comment,
            } => write!(
                f,
                "insert rule {table} {chain} {rule} comment \"{comment}\""
            ),
            Change::ElementAdd {
                table,
                set,
                elements,
            } => {
                write!(f, "create element {table} {set} {{ ")?;
                listed(f, elements)?;
                f.write_str(" }")
            }
            Change::ElementDel {
                table,
                set,
                elements,
            } => {
                write!(f, "delete element {table} {set} {{ ")?;
                listed(f, elements.iter().map(Key))?;
                f.write_str(" }")
            }
        }
    }
}

struct Key<'a>(&'a Element);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        concatenated(f, &self.0.key)
    }
}

fn listed<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
) -> fmt::Result {
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            f.write_str(", ")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}
