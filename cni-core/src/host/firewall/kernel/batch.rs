//! Changes as one transaction's messages.

use super::expression::{write_rule, write_verdict};
use super::lapse::Lapsing;
use super::message::{Header, Writer};
use super::uapi::*;
use super::value::{self, comment_data};
use crate::host::firewall::{
    DataType, Element, ElementData, FirewallChange, Hook, HookPoint, Rule, SetSpec, Table,
    ValueType, Verdict,
};

/// Elements of one message take at most so many bytes: an attribute's length is a `u16`.
const ELEMENTS_MAX: usize = 32 * 1024;

/// A transaction: `NFNL_MSG_BATCH_BEGIN` to `NFNL_MSG_BATCH_END`.
#[derive(Debug, Default)]
pub(super) struct Batch {
    writer: Writer,
    /// One for each message between begin and end; sequence numbers count from [`Batch::FIRST`].
    entries: Vec<Entry>,
}

/// Which change a message belongs to.
#[derive(Debug)]
struct Entry {
    change: usize,
    start: usize,
    /// The message's elements: index in the change, and offset in the message.
    elements: Vec<(usize, usize)>,
}

impl Batch {
    /// Sequence number of the first message after the begin.
    const FIRST: u32 = 1;

    /// All messages.
    ///
    /// # Errors
    /// The index of the change that cannot be expressed, and why.
    pub(super) fn encode(changes: &[FirewallChange]) -> Result<Self, (usize, String)> {
        let mut batch = Self::begun();
        for (index, change) in changes.iter().enumerate() {
            batch.change(index, change).map_err(|why| (index, why))?;
        }
        Ok(batch.ended())
    }

    /// Gives elements an end, as soon as the kernel's clock can tell: `nft add element ... { KEY timeout 1ms }`.
    pub(super) fn ends<'a>(lapsing: impl IntoIterator<Item = &'a Lapsing<'a>>) -> Self {
        let mut batch = Self::begun();
        for (index, lapsing) in lapsing.into_iter().enumerate() {
            batch.message(
                index,
                NFT_MSG_NEWSETELEM,
                NLM_F_CREATE,
                lapsing.table,
                |w| {
                    w.text(NFTA_SET_ELEM_LIST_TABLE, &lapsing.table.name);
                    w.text(NFTA_SET_ELEM_LIST_SET, lapsing.set);
                    w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| lapsing.write(w));
                },
            );
        }
        batch.ended()
    }

    fn begun() -> Self {
        let mut batch = Self::default();
        batch.writer.batch_mark(NFNL_MSG_BATCH_BEGIN, 0);
        batch
    }

    fn ended(mut self) -> Self {
        if let Some(last) = self.entries.last() {
            self.writer.add_flag(last.start, NLM_F_ACK);
        }
        let end = self.last_sequence() + 1;
        self.writer.batch_mark(NFNL_MSG_BATCH_END, end);
        self
    }

    /// Whether there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.writer.bytes()
    }

    /// Sequence number of the message that is acknowledged when all went well.
    pub(super) fn last_sequence(&self) -> u32 {
        Self::FIRST + self.entries.len() as u32 - 1
    }

    /// The change, and its element, that an error with this sequence number and attribute offset speaks of. The begin
    /// stands for the first.
    pub(super) fn culprit(&self, sequence: u32, offset: Option<usize>) -> (usize, Option<usize>) {
        let position = sequence.saturating_sub(Self::FIRST) as usize;
        let Some(entry) = self.entries.get(position) else {
            return (0, None);
        };
        let element = match (entry.elements.as_slice(), offset) {
            ([(only, _)], _) => Some(*only),
            (many, Some(offset)) => many
                .iter()
                .rev()
                .find(|(_, at)| *at <= offset)
                .map(|(index, _)| *index),
            _ => None,
        };
        (entry.change, element)
    }

    fn change(&mut self, index: usize, change: &FirewallChange) -> Result<(), String> {
        use FirewallChange as Change;
        match change {
            Change::TableAdd(table) => self.table(index, NFT_MSG_NEWTABLE, NLM_F_CREATE, table),
            Change::TableDel(table) => self.table(index, NFT_MSG_DELTABLE, 0, table),
            Change::SetAdd { table, set } => self.set(index, table, set)?,
            Change::SetDel { table, set } => {
                self.message(index, NFT_MSG_DELSET, 0, table, |w| {
                    w.text(NFTA_SET_TABLE, &table.name);
                    w.text(NFTA_SET_NAME, set);
                });
            }
            Change::ChainAdd { table, chain, hook } => {
                self.message(index, NFT_MSG_NEWCHAIN, NLM_F_CREATE, table, |w| {
                    w.text(NFTA_CHAIN_TABLE, &table.name);
                    w.text(NFTA_CHAIN_NAME, chain);
                    if let Some(hook) = hook {
                        write_hook(w, *hook);
                    }
                });
            }
            Change::ChainFlush { table, chain } => self.rule_del(index, table, chain, None),
            Change::ChainDel { table, chain } => {
                self.message(index, NFT_MSG_DELCHAIN, 0, table, |w| {
                    w.text(NFTA_CHAIN_TABLE, &table.name);
                    w.text(NFTA_CHAIN_NAME, chain);
                });
            }
            Change::RuleAdd { table, chain, rule } => {
                let flags = NLM_F_CREATE | NLM_F_APPEND;
                self.rule(index, flags, (table, chain), (rule, &rule.comment()))?;
            }
            // Without NLM_F_APPEND and a position it becomes the first (`nf_tables_newrule`).
            Change::RuleInsert {
                table,
                chain,
                rule,
                comment,
            } => self.rule(index, NLM_F_CREATE, (table, chain), (rule, comment))?,
            Change::RuleDel {
                table,
                chain,
                handle,
            } => self.rule_del(index, table, chain, Some(*handle)),
            Change::ElementAdd {
                table,
                set,
                elements,
            } => self.elements(index, true, table, set, elements)?,
            Change::ElementDel {
                table,
                set,
                elements,
            } => self.elements(index, false, table, set, elements)?,
        }
        Ok(())
    }

    fn message(
        &mut self,
        change: usize,
        kind: u16,
        flags: u16,
        table: &Table,
        body: impl FnOnce(&mut Writer),
    ) {
        let start = self.writer.len();
        let header = Header {
            kind,
            flags,
            sequence: self.last_sequence() + 1,
            family: value::family(table.family),
        };
        self.writer.message(header, body);
        self.entries.push(Entry {
            change,
            start,
            elements: Vec::new(),
        });
    }

    fn table(&mut self, index: usize, kind: u16, flags: u16, table: &Table) {
        self.message(index, kind, flags, table, |w| {
            w.text(NFTA_TABLE_NAME, &table.name);
        });
    }

    fn rule(
        &mut self,
        i: usize,
        flags: u16,
        (table, chain): (&Table, &str),
        (rule, comment): (&Rule, &str),
    ) -> Result<(), String> {
        let comment = comment_data(comment)?;
        let mut written = Ok(());
        self.message(i, NFT_MSG_NEWRULE, flags, table, |w| {
            w.text(NFTA_RULE_TABLE, &table.name);
            w.text(NFTA_RULE_CHAIN, chain);
            written = write_rule(w, table.family, rule);
            w.attribute(NFTA_RULE_USERDATA, &comment);
        });
        written
    }

    fn rule_del(&mut self, index: usize, table: &Table, chain: &str, handle: Option<u64>) {
        self.message(index, NFT_MSG_DELRULE, 0, table, |w| {
            w.text(NFTA_RULE_TABLE, &table.name);
            w.text(NFTA_RULE_CHAIN, chain);
            if let Some(handle) = handle {
                w.be64(NFTA_RULE_HANDLE, handle);
            }
        });
    }

    fn set(&mut self, index: usize, table: &Table, set: &SetSpec) -> Result<(), String> {
        if set.key.is_empty() {
            return Err(format!("the key of set {} has no type", set.name));
        }
        if set.key.contains(&ValueType::Vni) {
            return Err(format!(
                "nft has no type for the VNI in the key of set {}",
                set.name
            ));
        }
        let id = self.last_sequence() + 1;
        self.message(index, NFT_MSG_NEWSET, NLM_F_CREATE, table, |w| {
            w.text(NFTA_SET_TABLE, &table.name);
            w.text(NFTA_SET_NAME, &set.name);
            let map = if set.data.is_some() { NFT_SET_MAP } else { 0 };
            let timeout = if set.lapses { NFT_SET_TIMEOUT } else { 0 };
            w.be32(NFTA_SET_FLAGS, map | timeout);
            w.be32(NFTA_SET_KEY_TYPE, value::type_number(&set.key));
            w.be32(NFTA_SET_KEY_LEN, value::size(&set.key) as u32);
            let mut orders = vec![(UDATA_SET_KEY_BYTEORDER, value::byte_order(&set.key))];
            match &set.data {
                None => {}
                Some(DataType::Verdict) => {
                    w.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
                    w.be32(NFTA_SET_DATA_LEN, 0);
                }
                Some(DataType::Values(types)) => {
                    w.be32(NFTA_SET_DATA_TYPE, value::type_number(types));
                    w.be32(NFTA_SET_DATA_LEN, value::size(types) as u32);
                    orders.push((UDATA_SET_DATA_BYTEORDER, value::byte_order(types)));
                }
            }
            w.be32(NFTA_SET_ID, id);
            let mut data = Vec::new();
            for (kind, order) in orders {
                data.extend([kind, 4]);
                data.extend(order.to_ne_bytes());
            }
            w.attribute(NFTA_SET_USERDATA, &data);
        });
        Ok(())
    }

    fn elements(
        &mut self,
        index: usize,
        add: bool,
        table: &Table,
        set: &str,
        elements: &[Element],
    ) -> Result<(), String> {
        let (kind, flags) = if add {
            (NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL)
        } else {
            (NFT_MSG_DELSETELEM, 0)
        };
        let mut position = 0;
        while position < elements.len() {
            let mut written = Ok(());
            let mut offsets = Vec::new();
            let message = self.writer.len();
            self.message(index, kind, flags, table, |w| {
                w.text(NFTA_SET_ELEM_LIST_TABLE, &table.name);
                w.text(NFTA_SET_ELEM_LIST_SET, set);
                w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                    let start = w.len();
                    for element in elements.iter().skip(position) {
                        offsets.push((position, w.len() - message));
                        written = write_element(w, element, add);
                        position += 1;
                        if written.is_err() || w.len() - start > ELEMENTS_MAX {
                            break;
                        }
                    }
                });
            });
            written?;
            if let Some(entry) = self.entries.last_mut() {
                entry.elements = offsets;
            }
        }
        Ok(())
    }
}

fn write_hook(w: &mut Writer, hook: Hook) {
    w.nest(NFTA_CHAIN_HOOK, |w| {
        w.be32(NFTA_HOOK_HOOKNUM, hook.point.number());
        w.attribute(NFTA_HOOK_PRIORITY, &hook.priority.to_be_bytes());
    });
    w.be32(NFTA_CHAIN_POLICY, NF_ACCEPT as u32);
    w.text(NFTA_CHAIN_TYPE, hook.kind.name());
}

impl HookPoint {
    /// `NF_INET_*`, equal to `NF_BR_*`.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// One element; for a deletion the key alone.
pub(super) fn write_element(w: &mut Writer, element: &Element, full: bool) -> Result<(), String> {
    let key = value::encode(&element.key)?;
    let comment = match element.comment.as_deref().filter(|_| full) {
        Some(comment) => Some(comment_data(comment)?),
        None => None,
    };
    let data = match element.data.as_ref().filter(|_| full) {
        Some(ElementData::Values(values)) => Some(value::encode(values)?),
        _ => None,
    };
    w.nest(NFTA_LIST_ELEM, |w| {
        w.nest(NFTA_SET_ELEM_KEY, |w| w.attribute(NFTA_DATA_VALUE, &key));
        if let Some(data) = data {
            w.nest(NFTA_SET_ELEM_DATA, |w| w.attribute(NFTA_DATA_VALUE, &data));
        } else if let Some(ElementData::Verdict(verdict)) = element.data.as_ref().filter(|_| full) {
            let (code, chain) = match verdict {
                Verdict::Accept => (NF_ACCEPT, None),
                Verdict::Drop => (NF_DROP, None),
                Verdict::Jump(chain) => (NFT_JUMP, Some(chain.as_str())),
                Verdict::Goto(chain) => (NFT_GOTO, Some(chain.as_str())),
            };
            w.nest(NFTA_SET_ELEM_DATA, |w| write_verdict(w, code, chain));
        }
        if let Some(comment) = comment {
            w.attribute(NFTA_SET_ELEM_USERDATA, &comment);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::firewall::{Family, TRANSACTION_ELEMENTS, Value};

    #[test]
    fn as_many_elements_as_are_promised_fit_the_default_send_buffer_beside_rules() {
        let table = Table {
            family: Family::Inet,
            name: "cni_fabric_12345678".to_owned(),
        };
        let wide = || Value::Ipv6(std::net::Ipv6Addr::LOCALHOST);
        let elements = vec![Element::new(vec![wide(), wide()]); TRANSACTION_ELEMENTS];
        let set = "a_set_with_a_long_name".to_owned();
        let change = FirewallChange::ElementAdd {
            table,
            set,
            elements,
        };
        let batch = Batch::encode(&[change]).unwrap();
        // `netlink_sendmsg`: the buffer less 32 bytes. SO_SNDBUF doubles net.core.wmem_max.
        let (most, rules) = (2 * 212_992 - 32, 64 * 1024);
        let length = batch.bytes().len();
        assert!(length + rules < most, "{length}");
    }
}
