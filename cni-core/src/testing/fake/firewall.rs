//! nftables: `net/netfilter/nf_tables_api.c`.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use crate::host::firewall::{
    Action, ChainKind, ChainState, Counter, DataType, Element, ElementData, Family, Firewall,
    FirewallChange, Hook, HookPoint, Match, Rule, RuleState, SetSpec, SetState, Table, TableState,
    Value, ValueType, Verdict,
};
use crate::host::monitor::KernelEvent;
use crate::host::netlink::NetlinkError;
use crate::host::netlink::errno::{EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP};

use super::handle::{Handle, error};
use super::state::{Namespace, Outcome, Refusal, refuse};

const EMLINK: i32 = 31;

#[derive(Debug, Clone, Default)]
pub(super) struct TableRecord {
    sets: BTreeMap<String, SetRecord>,
    chains: Vec<Chain>,
}

#[derive(Debug, Clone)]
struct SetRecord {
    spec: SetSpec,
    elements: BTreeMap<Vec<Value>, Element>,
}

#[derive(Debug, Clone)]
struct Chain {
    name: String,
    hook: Option<Hook>,
    rules: Vec<(u64, Rule)>,
    /// Of rules that have another comment than their own text, by handle.
    comments: BTreeMap<u64, String>,
}

#[async_trait]
impl Firewall for Handle {
    async fn table(&self, table: &Table) -> Result<Option<TableState>, NetlinkError> {
        self.read("nft list table", |state, ns| {
            let record = state.namespace(ns)?.tables.get(table);
            Ok(record.map(TableRecord::state))
        })
    }

    async fn elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, NetlinkError> {
        self.read("nft list set", |state, ns| {
            let tables = &state.namespace(ns)?.tables;
            let set = tables.get(table).and_then(|table| table.sets.get(set));
            Ok(set
                .map(|set| set.elements.values().cloned().collect())
                .unwrap_or_default())
        })
    }

    async fn element(
        &self,
        table: &Table,
        set: &str,
        key: &[Value],
    ) -> Result<Option<Element>, NetlinkError> {
        self.read("nft get element", |state, ns| {
            let tables = &state.namespace(ns)?.tables;
            let set = tables.get(table).and_then(|table| table.sets.get(set));
            Ok(set.and_then(|set| set.elements.get(key)).cloned())
        })
    }

    async fn commit(&self, changes: &[FirewallChange]) -> Result<(), NetlinkError> {
        let all = || {
            let lines: Vec<String> = changes.iter().map(FirewallChange::to_string).collect();
            lines.join("; ")
        };
        if let Err(fault) = self.kernel.faults().count() {
            return Err(error(
                all(),
                Refusal {
                    errno: fault.errno(),
                    message: None,
                },
            ));
        }
        let mut state = self.kernel.state();
        let namespace = state
            .namespace(self.ns)
            .map_err(|refusal| error(all(), refusal))?;
        let before = (namespace.tables.clone(), namespace.last_handle);
        for change in changes {
            if let Err(refusal) = namespace.firewall_change(change) {
                (namespace.tables, namespace.last_handle) = before;
                return Err(error(change.to_string(), refusal));
            }
        }
        if let Err(refusal) = namespace
            .tables
            .values()
            .try_for_each(TableRecord::check_jumps)
        {
            (namespace.tables, namespace.last_handle) = before;
            return Err(error(all(), refusal));
        }
        let process = Some(self.kernel.process);
        let touched: BTreeSet<&Table> = changes.iter().map(FirewallChange::table).collect();
        for table in touched {
            let told = || {
                Some(KernelEvent::Firewall {
                    table: table.clone(),
                })
            };
            state.tell(process, self.ns, told);
        }
        Ok(())
    }
}

impl Namespace {
    pub(super) fn firewall_change(&mut self, change: &FirewallChange) -> Outcome {
        match change {
            FirewallChange::TableAdd(table) => {
                self.tables.entry(table.clone()).or_default();
                Ok(())
            }
            FirewallChange::TableDel(table) => match self.tables.remove(table) {
                Some(_) => Ok(()),
                None => refuse(ENOENT),
            },
            FirewallChange::SetAdd { table, set } => self.table(table)?.set_add(set),
            FirewallChange::SetDel { table, set } => self.table(table)?.set_del(set),
            FirewallChange::ChainAdd { table, chain, hook } => {
                let family = table.family;
                self.table(table)?.chain_add(family, chain, *hook)
            }
            FirewallChange::ChainFlush { table, chain } => {
                self.table(table)?.chain(chain)?.rules.clear();
                Ok(())
            }
            FirewallChange::ChainDel { table, chain } => self.table(table)?.chain_del(chain),
            FirewallChange::RuleAdd { table, chain, rule } => {
                self.last_handle += 1;
                let handle = self.last_handle;
                self.table(table)?.rule_add(chain, rule, handle)
            }
            FirewallChange::RuleDel {
                table,
                chain,
                handle,
            } => {
                let chain = self.table(table)?.chain(chain)?;
                let before = chain.rules.len();
                chain.rules.retain(|(candidate, _)| candidate != handle);
                if chain.rules.len() == before {
                    return refuse(ENOENT);
                }
                Ok(())
            }
            FirewallChange::RuleInsert {
                table,
                chain,
                rule,
                comment,
            } => {
                self.last_handle += 1;
                let handle = self.last_handle;
                self.table(table)?.rule_add(chain, rule, handle)?;
                let chain = self.table(table)?.chain(chain)?;
                chain.rules.rotate_right(1);
                chain.comments.insert(handle, comment.clone());
                Ok(())
            }
            FirewallChange::ElementAdd {
                table,
                set,
                elements,
            } => elements
                .iter()
                .try_for_each(|element| self.table(table)?.element_add(set, element)),
            FirewallChange::ElementDel {
                table,
                set,
                elements,
            } => elements
                .iter()
                .try_for_each(|element| self.table(table)?.element_del(set, &element.key)),
        }
    }

    fn table(&mut self, table: &Table) -> Outcome<&mut TableRecord> {
        match self.tables.get_mut(table) {
            Some(record) => Ok(record),
            None => refuse(ENOENT),
        }
    }
}

impl TableRecord {
    fn state(&self) -> TableState {
        let mut state = TableState::default();
        for name in self.sets.keys() {
            state.sets.push(SetState { name: name.clone() });
        }
        for chain in &self.chains {
            let rules = chain.rules.iter().map(|(handle, rule)| RuleState {
                handle: *handle,
                comment: Some(
                    chain
                        .comments
                        .get(handle)
                        .cloned()
                        .unwrap_or_else(|| rule.comment()),
                ),
                counter: match rule.action {
                    Action::Drop { counter: true } | Action::Count => Some(Counter::default()),
                    _ => None,
                },
            });
            state.chains.push(ChainState {
                name: chain.name.clone(),
                hook: chain.hook,
                rules: rules.collect(),
            });
        }
        state
    }

    fn set_add(&mut self, spec: &SetSpec) -> Outcome {
        if spec.key.is_empty() {
            return refuse(EINVAL);
        }
        match self.sets.get(&spec.name) {
            Some(set) if set.spec == *spec => Ok(()),
            Some(_) => refuse(EEXIST),
            None => {
                let set = SetRecord {
                    spec: spec.clone(),
                    elements: BTreeMap::new(),
                };
                self.sets.insert(spec.name.clone(), set);
                Ok(())
            }
        }
    }

    /// A set goes with its elements, unless a rule looks into it.
    fn set_del(&mut self, name: &str) -> Outcome {
        self.set(name)?;
        let rules = self.chains.iter().flat_map(|chain| &chain.rules);
        if rules.into_iter().any(|(_, rule)| looks_into(rule, name)) {
            return refuse(EBUSY);
        }
        self.sets.remove(name);
        Ok(())
    }

    fn chain_add(&mut self, family: Family, name: &str, hook: Option<Hook>) -> Outcome {
        let nat = hook.is_some_and(|hook| hook.kind == ChainKind::Nat);
        let forward = hook.is_some_and(|hook| hook.point == HookPoint::Forward);
        if nat && (forward || family == Family::Bridge) {
            return refuse(EOPNOTSUPP);
        }
        if let Some(chain) = self.chains.iter().find(|chain| chain.name == name) {
            return match (chain.hook, hook) {
                (_, None) => Ok(()),
                // Requests bear a policy, which only a base chain has.
                (None, Some(_)) => refuse(EOPNOTSUPP),
                (Some(had), Some(wanted)) if had == wanted => Ok(()),
                (Some(_), Some(_)) => refuse(EOPNOTSUPP),
            };
        }
        self.chains.push(Chain {
            name: name.to_owned(),
            hook,
            rules: Vec::new(),
            comments: BTreeMap::new(),
        });
        Ok(())
    }

    fn chain(&mut self, name: &str) -> Outcome<&mut Chain> {
        match self.chains.iter_mut().find(|chain| chain.name == name) {
            Some(chain) => Ok(chain),
            None => refuse(ENOENT),
        }
    }

    /// A chain goes with its rules, unless another rule or an element leads to it.
    fn chain_del(&mut self, name: &str) -> Outcome {
        self.chain(name)?;
        let by_rule = self
            .chains
            .iter()
            .filter(|chain| chain.name != name)
            .flat_map(|chain| &chain.rules)
            .any(|(_, rule)| target(rule) == Some(name));
        let by_element = self
            .sets
            .values()
            .flat_map(|set| set.elements.values())
            .any(|element| element_target(element) == Some(name));
        if by_rule || by_element {
            return refuse(EBUSY);
        }
        self.chains.retain(|chain| chain.name != name);
        Ok(())
    }

    fn rule_add(&mut self, chain: &str, rule: &Rule, handle: u64) -> Outcome {
        let hook = self.chain(chain)?.hook;
        for condition in &rule.matches {
            if let Match::InSet { set, .. } = condition {
                self.set(set)?;
            }
        }
        if let Action::VerdictMap { map, .. } = &rule.action
            && self.set(map)?.spec.data != Some(DataType::Verdict)
        {
            return refuse(EINVAL);
        }
        if let Action::DestinationNat { family, map, .. } = &rule.action {
            let address = match family {
                Family::Ip6 => ValueType::Ipv6,
                _ => ValueType::Ipv4,
            };
            let data = DataType::Values(vec![address, ValueType::Port]);
            if self.set(map)?.spec.data.as_ref() != Some(&data) {
                return refuse(EINVAL);
            }
            let translates = |hook: Hook| {
                hook.kind == ChainKind::Nat
                    && matches!(hook.point, HookPoint::Prerouting | HookPoint::Output)
            };
            if hook.is_some_and(|hook| !translates(hook)) {
                return refuse(EOPNOTSUPP);
            }
        }
        if let Some(target) = target(rule) {
            self.check_target(target)?;
        }
        if rule.action == Action::Masquerade
            && hook.is_some_and(|hook| {
                hook.kind != ChainKind::Nat || hook.point != HookPoint::Postrouting
            })
        {
            return refuse(EOPNOTSUPP);
        }
        self.chain(chain)?.rules.push((handle, rule.clone()));
        Ok(())
    }

    fn element_add(&mut self, set: &str, element: &Element) -> Outcome {
        if let Some(target) = element_target(element) {
            self.set(set)?;
            self.check_target(target)?;
        }
        let set = self.set(set)?;
        if !has_types(&element.key, &set.spec.key) || !set.spec.takes(element.data.as_ref()) {
            return refuse(EINVAL);
        }
        if set.elements.contains_key(&element.key) {
            return refuse(EEXIST);
        }
        set.elements.insert(element.key.clone(), element.clone());
        Ok(())
    }

    fn element_del(&mut self, set: &str, key: &[Value]) -> Outcome {
        let set = self.set(set)?;
        if !has_types(key, &set.spec.key) {
            return refuse(EINVAL);
        }
        match set.elements.remove(key) {
            Some(_) => Ok(()),
            None => refuse(ENOENT),
        }
    }

    fn set(&mut self, name: &str) -> Outcome<&mut SetRecord> {
        match self.sets.get_mut(name) {
            Some(set) => Ok(set),
            None => refuse(ENOENT),
        }
    }

    /// Only a chain without a hook can be jumped to.
    fn check_target(&mut self, name: &str) -> Outcome {
        if self.chain(name)?.hook.is_some() {
            return refuse(EOPNOTSUPP);
        }
        Ok(())
    }

    /// `nft_chain_validate`: no path from a hook is deeper than 16 jumps, and so none runs in a circle.
    fn check_jumps(&self) -> Outcome {
        for chain in self.chains.iter().filter(|chain| chain.hook.is_some()) {
            self.descend(&chain.name, 0)?;
        }
        Ok(())
    }

    fn descend(&self, name: &str, depth: usize) -> Outcome {
        if depth == 16 {
            return refuse(EMLINK);
        }
        let Some(chain) = self.chains.iter().find(|chain| chain.name == name) else {
            return Ok(());
        };
        for (_, rule) in &chain.rules {
            if let Some(target) = target(rule) {
                self.descend(target, depth + 1)?;
            }
            if let Action::VerdictMap { map, .. } = &rule.action
                && let Some(map) = self.sets.get(map)
            {
                for target in map.elements.values().filter_map(element_target) {
                    self.descend(target, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

impl SetSpec {
    fn takes(&self, data: Option<&ElementData>) -> bool {
        match (&self.data, data) {
            (None, None) => true,
            (Some(DataType::Verdict), Some(ElementData::Verdict(_))) => true,
            (Some(DataType::Values(types)), Some(ElementData::Values(values))) => {
                has_types(values, types)
            }
            _ => false,
        }
    }
}

fn has_types(values: &[Value], types: &[ValueType]) -> bool {
    values.len() == types.len()
        && values
            .iter()
            .zip(types)
            .all(|(value, wanted)| value.value_type() == *wanted)
}

fn target(rule: &Rule) -> Option<&str> {
    match &rule.action {
        Action::Jump(chain) | Action::Goto(chain) => Some(chain),
        _ => None,
    }
}

fn looks_into(rule: &Rule, name: &str) -> bool {
    let asked = rule
        .matches
        .iter()
        .any(|condition| matches!(condition, Match::InSet { set, .. } if set == name));
    asked
        || matches!(
            &rule.action,
            Action::VerdictMap { map, .. } | Action::DestinationNat { map, .. } if map == name
        )
}

fn element_target(element: &Element) -> Option<&str> {
    match &element.data {
        Some(ElementData::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain))) => Some(chain),
        _ => None,
    }
}
