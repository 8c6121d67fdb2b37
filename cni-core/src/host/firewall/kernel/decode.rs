//! What the kernel tells, as this crate's values.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::message::Attributes;
use super::uapi::*;
use super::value::{self, comment_of};
use crate::host::firewall::{
    ChainKind, ChainState, Counter, DataType, Element, ElementData, Hook, HookPoint, RuleState,
    ValueType, Verdict,
};

/// A chain without its rules.
pub(super) fn chain(attributes: Attributes<'_>) -> Option<ChainState> {
    Some(ChainState {
        name: attributes.text(NFTA_CHAIN_NAME)?,
        hook: hook(attributes),
        rules: Vec::new(),
    })
}

/// `None` for a chain that is only jumped to, and for a hook that is not in our vocabulary.
fn hook(attributes: Attributes<'_>) -> Option<Hook> {
    let hook = attributes.nested(NFTA_CHAIN_HOOK);
    let number = hook.be32(NFTA_HOOK_HOOKNUM)?;
    let kind = attributes.text(NFTA_CHAIN_TYPE)?;
    Some(Hook {
        kind: [ChainKind::Filter, ChainKind::Nat, ChainKind::Route]
            .into_iter()
            .find(|known| known.name() == kind)?,
        point: [
            HookPoint::Prerouting,
            HookPoint::Input,
            HookPoint::Forward,
            HookPoint::Output,
            HookPoint::Postrouting,
        ]
        .into_iter()
        .find(|known| known.number() == number)?,
        priority: hook.be32(NFTA_HOOK_PRIORITY)?.cast_signed(),
    })
}

/// A rule, and the name of its chain.
pub(super) fn rule(attributes: Attributes<'_>) -> Option<(String, RuleState)> {
    let chain = attributes.text(NFTA_RULE_CHAIN)?;
    let rule = RuleState {
        handle: attributes.be64(NFTA_RULE_HANDLE)?,
        comment: attributes.find(NFTA_RULE_USERDATA).and_then(comment_of),
        counter: counter(attributes.nested(NFTA_RULE_EXPRESSIONS)),
    };
    Some((chain, rule))
}

/// The first counter among a rule's expressions.
fn counter(expressions: Attributes<'_>) -> Option<Counter> {
    let mut expressions = expressions.map(|(_, expression)| Attributes(expression));
    let counter = expressions
        .find(|expression| expression.text(NFTA_EXPR_NAME).as_deref() == Some("counter"))?
        .nested(NFTA_EXPR_DATA);
    Some(Counter {
        packets: counter.be64(NFTA_COUNTER_PACKETS)?,
        bytes: counter.be64(NFTA_COUNTER_BYTES)?,
    })
}

/// Types of a set's keys and of its data.
#[derive(Debug)]
pub(super) struct SetTypes {
    key: Vec<ValueType>,
    data: Option<DataType>,
}

impl SetTypes {
    /// The types where they are seen from the element itself; `None` when it has data that is no verdict.
    pub(super) fn of_element(key: Vec<ValueType>, element: Attributes<'_>) -> Option<Self> {
        let data = element.nested(NFTA_SET_ELEM_DATA);
        if data.find(NFTA_DATA_VALUE).is_some() {
            return None;
        }
        let verdict = data.find(NFTA_DATA_VERDICT);
        Some(Self {
            key,
            data: verdict.map(|_| DataType::Verdict),
        })
    }
}

/// `None` when a type is not in our vocabulary.
pub(super) fn set_types(attributes: Attributes<'_>) -> Option<SetTypes> {
    let data = match attributes.be32(NFTA_SET_DATA_TYPE) {
        None => None,
        Some(NFT_DATA_VERDICT) => Some(DataType::Verdict),
        Some(number) => Some(DataType::Values(value::types_of(number)?)),
    };
    Some(SetTypes {
        key: value::types_of(attributes.be32(NFTA_SET_KEY_TYPE)?)?,
        data,
    })
}

/// An element (the inside of `NFTA_LIST_ELEM`).
pub(super) fn element(attributes: Attributes<'_>, types: &SetTypes) -> Option<Element> {
    let key = attributes.nested(NFTA_SET_ELEM_KEY).find(NFTA_DATA_VALUE)?;
    let mut element = Element::new(value::decode(&types.key, key)?);
    let data = attributes.nested(NFTA_SET_ELEM_DATA);
    element.data = match &types.data {
        None => None,
        Some(DataType::Verdict) => Some(ElementData::Verdict(verdict(data)?)),
        Some(DataType::Values(types)) => {
            let bytes = data.find(NFTA_DATA_VALUE)?;
            Some(ElementData::Values(value::decode(types, bytes)?))
        }
    };
    element.comment = attributes.find(NFTA_SET_ELEM_USERDATA).and_then(comment_of);
    Some(element)
}

/// A number that stands for an element's key.
pub(super) fn key_hash(attributes: Attributes<'_>) -> u64 {
    let key = attributes.nested(NFTA_SET_ELEM_KEY).find(NFTA_DATA_VALUE);
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn verdict(data: Attributes<'_>) -> Option<Verdict> {
    let verdict = data.nested(NFTA_DATA_VERDICT);
    let chain = || verdict.text(NFTA_VERDICT_CHAIN);
    match verdict.be32(NFTA_VERDICT_CODE)?.cast_signed() {
        NF_ACCEPT => Some(Verdict::Accept),
        NF_DROP => Some(Verdict::Drop),
        NFT_JUMP => Some(Verdict::Jump(chain()?)),
        NFT_GOTO => Some(Verdict::Goto(chain()?)),
        _ => None,
    }
}
