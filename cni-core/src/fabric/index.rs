//! What is wanted, as an index that the kernel's state is streamed against.
//!
//! For each item it keeps 24 bytes: hashes of its key and of its value, and whose it is. What turns out to be missing or
//! wrong is asked for again (the functions that declare are pure), so that 10,000 peers take some 3 MB for a moment
//! rather than 12, and the kernel's state is never held at all.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::host::forwarding::{Entry, Route, Via};

use super::diff::{Act, Step, Told, Why};
use super::hash::Seed;
use super::items::Item;

/// Whose an item is: [`NOBODY`], or the place of a peer in a list.
pub(super) type Whose = u32;

/// The base's.
pub(super) const NOBODY: Whose = 0;

/// What is wanted.
#[derive(Debug)]
pub(super) struct Index {
    seed: Seed,
    /// Our protocol.
    protocol: u8,
    /// Our tunnel's device.
    device: Option<Arc<str>>,
    /// Sorted once [`Index::seal`] has been called.
    records: Vec<Record>,
    /// Where the records begin whose keys have these highest bits: the place of a key without a search through cold memory.
    starts: Vec<u32>,
    /// What we have in the place of something that is wanted, by the record's place.
    wrong: BTreeMap<usize, Entry>,
    surplus: Vec<(Item, Option<Whose>)>,
    clashes: Vec<Clash>,
    contested: Vec<Contested>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    /// Hash of the kind and of what it is told from others by; of a route, without the metric.
    key: u64,
    /// A route's.
    metric: u32,
    /// Whose it is, and in the seven lowest bits what is known of it.
    tag: u32,
    /// Hash of the rest.
    value: u64,
}

/// The kernel has it.
const SEEN: u32 = 1;
/// The kernel has something of ours in its place.
const WRONG: u32 = 2;
/// Another program has a route of the same key.
const FOREIGN: u32 = 4;
/// That one is asked first.
const BEHIND: u32 = 8;
/// A member of a set.
const MEMBER: u32 = 16;
/// Others' routes may take precedence.
const YIELDS: u32 = 32;
/// We have two of its key, which IPv4 routes alone can be.
const TWICE: u32 = 64;
const FLAG_BITS: u32 = 7;

/// `RTPROT_BOOT`, which a program has that says nothing, and `RTPROT_STATIC`.
const HAND_MADE: [u8; 2] = [3, 4];

/// `RT_TABLE_MAIN`.
const MAIN: u32 = 254;

/// Another program's entry in the way of ours.
#[derive(Debug)]
pub(super) struct Clash {
    pub(super) foreign: Entry,
    pub(super) whose: Whose,
}

/// Two want the same: the first has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contested {
    pub(super) key: u64,
    pub(super) has: Whose,
    pub(super) lacks: Whose,
    /// They want it differently.
    pub(super) differ: bool,
}

impl Index {
    /// Nothing is wanted. Hashes of one seed can be compared ([`Index::key_of`]).
    pub(super) fn new(seed: Seed, protocol: u8) -> Self {
        Self {
            seed,
            protocol,
            device: None,
            records: Vec::new(),
            starts: Vec::new(),
            wrong: BTreeMap::new(),
            surplus: Vec::new(),
            clashes: Vec::new(),
            contested: Vec::new(),
        }
    }

    /// Routes that another program has left on this device of ours are taken in place of clashes ([`Index::is_left`]).
    pub(super) fn with_device(mut self, device: Option<Arc<str>>) -> Self {
        self.device = device;
        self
    }

    /// This is wanted.
    pub(super) fn want(&mut self, item: &Item, whose: Whose) {
        let flags = match item {
            Item::Member(_) => MEMBER,
            Item::Entry(Entry::Route(Route {
                via: Via::Unreachable,
                ..
            })) => YIELDS,
            Item::Entry(_) => 0,
        };
        self.records.push(Record {
            key: key_of(self.seed, item),
            metric: metric(item),
            tag: whose << FLAG_BITS | flags,
            value: value_of(self.seed, item),
        });
    }

    /// All that is wanted has been said.
    pub(super) fn seal(&mut self) {
        self.records.sort_unstable();
        let contested = &mut self.contested;
        self.records.dedup_by(|later, first| {
            let same = (later.key, later.metric) == (first.key, first.metric);
            if same && later.whose() != first.whose() {
                contested.push(Contested {
                    key: first.key,
                    has: first.whose(),
                    lacks: later.whose(),
                    differ: later.value != first.value,
                });
            }
            same
        });
        self.index_starts();
    }

    /// The kernel has this. The same may be said again: a read that others' changes disturb begins anew.
    pub(super) fn see(&mut self, item: Item, whose: Option<Whose>) {
        if let Item::Entry(entry) = &item
            && !self.is_ours(entry)
        {
            self.see_foreign(entry);
            if self.is_left(entry) {
                self.surplus.push((item, None));
            }
            return;
        }
        let (key, value) = (key_of(self.seed, &item), value_of(self.seed, &item));
        let Some(place) = self.place(key, metric(&item)) else {
            self.surplus.push((item, whose));
            return;
        };
        let Some(record) = self.records.get_mut(place) else {
            return;
        };
        match item {
            _ if record.value == value && !record.is(WRONG) => record.mark(SEEN, 0),
            // Two of one key, or one that changed while it was read: either way both have to go.
            _ if record.value == value => record.mark(TWICE, 0),
            Item::Entry(entry) => {
                let other = self.wrong.insert(place, entry.clone());
                if record.is(SEEN) || other.is_some_and(|other| other != entry) {
                    record.mark(TWICE, 0);
                }
                record.mark(WRONG, SEEN);
            }
            Item::Member(_) => {}
        }
    }

    /// Who has something in this part that is missing or wrong: a bit each.
    pub(super) fn lacking(&self, part: Part) -> Lacking {
        let mut lacking = Lacking::default();
        let of_part = |record: &&Record| record.is(MEMBER) == (part == Part::Members);
        let lacks = self.records.iter().filter(|record| record.lacks());
        for record in lacks.filter(of_part) {
            lacking.insert(record.whose());
        }
        lacking
    }

    /// What has to be done to have this item, which was declared before; the second time, nothing.
    pub(super) fn steps(&mut self, item: Item, whose: Whose, steps: &mut Vec<Step>) {
        let (key, value) = (key_of(self.seed, &item), value_of(self.seed, &item));
        let Some(place) = self.place(key, metric(&item)) else {
            return;
        };
        let Some(record) = self.records.get_mut(place) else {
            return;
        };
        if record.whose() != whose || record.value != value || !record.lacks() {
            return;
        }
        let before = *record;
        record.mark(SEEN, WRONG | BEHIND | TWICE);
        let found = self.wrong.remove(&place);
        let mut step = |act, item: &Item, why| {
            let told = Told {
                act,
                whose: Some(whose),
                why,
            };
            let item = item.clone();
            steps.push(Step { item, told });
        };
        let behind = before.is(BEHIND);
        match found {
            // A removal takes the first of one key, whatever it leads to.
            Some(found) if before.is(TWICE) => {
                let found = Item::Entry(found);
                step(Act::Del, &found, Why::Twice);
                step(Act::Del, &found, Why::Twice);
                let act = if before.is(FOREIGN) {
                    Act::Prepend
                } else {
                    Act::Add
                };
                step(act, &item, Why::Differs(Box::new(found)));
            }
            // A replacement would hit the route that is asked first, which is not ours.
            Some(found) if behind => {
                let found = Item::Entry(found);
                step(Act::Del, &found, Why::Behind);
                step(Act::Prepend, &item, Why::Differs(Box::new(found)));
            }
            Some(found) => step(
                Act::Replace,
                &item,
                Why::Differs(Box::new(Item::Entry(found))),
            ),
            None if behind && before.is(SEEN) => {
                step(Act::Del, &item, Why::Behind);
                step(Act::Prepend, &item, Why::Behind);
            }
            None if before.is(FOREIGN) => step(Act::Prepend, &item, Why::Missing),
            None => step(Act::Add, &item, Why::Missing),
        }
    }

    /// What is ours and not wanted, in the order in which it has to go.
    pub(super) fn removals(&mut self) -> Vec<Step> {
        let mut surplus = std::mem::take(&mut self.surplus);
        surplus.sort_by_cached_key(|(item, _)| (std::cmp::Reverse(item.stage()), sort_key(item)));
        surplus.dedup_by(|later, first| later.0 == first.0);
        let steps = surplus.into_iter().map(|(item, whose)| {
            let mut told = Told::surplus(whose);
            if matches!(&item, Item::Entry(entry) if !self.is_ours(entry)) {
                told.why = Why::Left;
            }
            Step { item, told }
        });
        steps.collect()
    }

    pub(super) fn clashes(&self) -> &[Clash] {
        &self.clashes
    }

    pub(super) fn contested(&self) -> &[Contested] {
        &self.contested
    }

    /// The hash by which this index knows the key of an item.
    pub(super) fn key_of(&self, item: &Item) -> u64 {
        key_of(self.seed, item)
    }

    fn index_starts(&mut self) {
        let buckets = self.records.len().next_power_of_two();
        let mut starts = Vec::with_capacity(buckets + 1);
        let mut place = 0;
        for bucket in 0..buckets {
            let before = |record: &Record| bucket_of(record.key, buckets) < bucket;
            while self.records.get(place).is_some_and(before) {
                place += 1;
            }
            starts.push(place as u32);
        }
        starts.push(self.records.len() as u32);
        self.starts = starts;
    }

    /// The place of the first record of this key, if there is one.
    fn first(&self, key: u64) -> Option<usize> {
        let bucket = bucket_of(key, self.starts.len().checked_sub(1)?);
        let begin = *self.starts.get(bucket)? as usize;
        let end = *self.starts.get(bucket + 1)? as usize;
        let records = self.records.get(begin..end)?;
        let place = records.iter().position(|record| record.key == key)?;
        Some(begin + place)
    }

    fn place(&self, key: u64, metric: u32) -> Option<usize> {
        let first = self.first(key)?;
        let of_key = self.records.iter().skip(first);
        let mut of_key = of_key.take_while(|record| record.key == key);
        Some(first + of_key.position(|record| record.metric == metric)?)
    }

    /// Entries of our device are all ours; of others, those that bear our protocol.
    fn is_ours(&self, entry: &Entry) -> bool {
        match entry {
            Entry::NextHop(hop) => hop.protocol == self.protocol,
            Entry::Route(route) => route.protocol == self.protocol,
            Entry::Rule(rule) => rule.protocol == self.protocol,
            Entry::Neighbour(_) | Entry::Fdb(_) => true,
        }
    }

    /// A route as Flannel makes it, of a protocol that names nobody: to a prefix, by that prefix's base address, on our tunnel's device.
    /// It leads to a neighbour of that device, which is ours or not there.
    fn is_left(&self, entry: &Entry) -> bool {
        let (Some(device), Entry::Route(route)) = (&self.device, entry) else {
            return false;
        };
        let Via::Hop(hop) = &route.via else {
            return false;
        };
        HAND_MADE.contains(&route.protocol)
            && route.table == MAIN
            && hop.link == *device
            && hop.onlink
            && hop.gateway == Some(route.destination.network())
    }

    fn see_foreign(&mut self, entry: &Entry) {
        let item = Item::Entry(entry.clone());
        let key = key_of(self.seed, &item);
        let metric = metric(&item);
        let Some(first) = self.first(key) else {
            return;
        };
        let is_left = self.is_left(entry);
        let same = self.records.iter_mut().skip(first);
        for record in same.take_while(|record| record.key == key) {
            if record.is(YIELDS) || metric > record.metric {
                continue;
            }
            // IPv4 alone has several routes of one key; the kernel tells of them in the order in which it asks them.
            if let Entry::Route(route) = entry
                && route.destination.is_ipv4()
                && metric == record.metric
            {
                record.mark(FOREIGN, 0);
                if !record.is(SEEN) {
                    record.mark(BEHIND, 0);
                }
            }
            if !is_left {
                self.clashes.push(Clash {
                    foreign: entry.clone(),
                    whose: record.whose(),
                });
            }
        }
    }
}

impl Record {
    /// Whether something has to be done for it.
    fn lacks(&self) -> bool {
        !self.is(SEEN) || self.is(BEHIND)
    }

    fn whose(&self) -> Whose {
        self.tag >> FLAG_BITS
    }

    /// Whether one of the flags is set.
    fn is(&self, flags: u32) -> bool {
        self.tag & flags != 0
    }

    fn mark(&mut self, set: u32, unset: u32) {
        self.tag = (self.tag | set) & !unset;
    }
}

/// Who lacks something.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    bits: Vec<u64>,
}

/// Which items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Members of sets.
    Members,
    /// All others.
    Entries,
}

impl Part {
    pub(super) fn has(self, item: &Item) -> bool {
        matches!(item, Item::Member(_)) == (self == Self::Members)
    }
}

impl Lacking {
    fn insert(&mut self, whose: Whose) {
        let (word, bit) = (whose as usize / 64, whose % 64);
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        if let Some(word) = self.bits.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    pub(super) fn contains(&self, whose: Whose) -> bool {
        let word = self.bits.get(whose as usize / 64);
        word.is_some_and(|word| word & (1 << (whose % 64)) != 0)
    }
}

/// Hashes spread evenly: their highest bits say where among the sorted ones they are. The number of buckets is a power of two.
fn bucket_of(key: u64, buckets: usize) -> usize {
    ((u128::from(key) * buckets as u128) >> 64) as usize
}

fn metric(item: &Item) -> u32 {
    match item {
        Item::Entry(Entry::Route(route)) => route.metric,
        _ => 0,
    }
}

fn key_of(seed: Seed, item: &Item) -> u64 {
    let mut state = seed.hasher();
    (item.stage() as u8).hash(&mut state);
    match item {
        Item::Member(member) => member.hash(&mut state),
        Item::Entry(Entry::NextHop(hop)) => hop.id.hash(&mut state),
        Item::Entry(Entry::Route(route)) => {
            route.table.hash(&mut state);
            hash_prefix(route.destination, &mut state);
        }
        Item::Entry(Entry::Neighbour(neighbour)) => {
            (&neighbour.link, neighbour.address).hash(&mut state);
        }
        Item::Entry(Entry::Fdb(entry)) => (&entry.link, entry.mac).hash(&mut state),
        Item::Entry(Entry::Rule(rule)) => {
            (rule.priority, rule.table).hash(&mut state);
            hash_prefix(rule.source, &mut state);
        }
    }
    state.finish()
}

/// What is told of it beside its key and its owner.
fn value_of(seed: Seed, item: &Item) -> u64 {
    let mut state = seed.hasher();
    match item {
        Item::Member(_) | Item::Entry(Entry::Rule(_)) => {}
        Item::Entry(Entry::NextHop(hop)) => hop.hop.hash(&mut state),
        Item::Entry(Entry::Route(route)) => route.via.hash(&mut state),
        Item::Entry(Entry::Neighbour(neighbour)) => neighbour.mac.hash(&mut state),
        Item::Entry(Entry::Fdb(entry)) => entry.remote.hash(&mut state),
    }
    state.finish()
}

fn hash_prefix(prefix: IpNetwork, state: &mut impl Hasher) {
    (prefix.network(), prefix.prefix()).hash(state);
}

/// An order that people and tests can rely on.
fn sort_key(item: &Item) -> (String, Option<crate::host::forwarding::Key>) {
    match item {
        Item::Entry(entry) => (String::new(), Some(entry.key())),
        Item::Member(member) => (format!("{} {member}", member.set), None),
    }
}
