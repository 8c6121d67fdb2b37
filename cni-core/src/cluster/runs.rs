//! Very many values put in order, most of which are so already.

use std::iter::Peekable;
use std::vec;

use super::block::Block;

/// Values by their blocks, of each family prefixes apart from single numbers. Nodes in order mostly have prefixes in order, and
/// addresses: to merge such lists is a fraction of the work of sorting them as one.
#[derive(Debug)]
pub(super) struct Runs<T>([Vec<T>; 6]);

/// Two sorted lists as one.
struct Merged<T>(Peekable<vec::IntoIter<T>>, Peekable<vec::IntoIter<T>>);

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<T: Ord> Runs<T> {
    /// Adds a value, which is ordered by this block first.
    pub(super) fn push(&mut self, block: Block, value: T) {
        let list = 2 * block.family() as usize + usize::from(block.is_single());
        if let Some(list) = self.0.get_mut(list) {
            list.push(value);
        }
    }

    /// All values, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// All values in order.
    pub(super) fn sorted(self) -> impl Iterator<Item = T> {
        let [v4, v4_single, v6, v6_single, mac, mac_single] = self.0.map(|mut list| {
            // The stable sort finds what is in order.
            list.sort();
            list.into_iter().peekable()
        });
        [
            Merged(v4, v4_single),
            Merged(v6, v6_single),
            Merged(mac, mac_single),
        ]
        .into_iter()
        .flatten()
    }
}

impl<T: Ord> Iterator for Merged<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let Self(one, other) = self;
        match (one.peek(), other.peek()) {
            (Some(first), Some(second)) if first > second => other.next(),
            (None, _) => other.next(),
            _ => one.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_the_order_of_their_blocks() {
        let blocks = |texts: &[&str]| -> Vec<Block> {
            let prefixes = texts.iter().map(|text| text.parse().unwrap());
            prefixes.map(Block::of_prefix).collect()
        };
        let given = blocks(&[
            "fd00:1::/64",
            "10.0.2.0/24",
            "10.0.0.7/32",
            "10.0.0.0/16",
            "fd00:1::1/128",
            "10.0.1.0/24",
            "10.0.3.0/32",
            "192.0.2.1/32",
        ]);
        let mut runs = Runs::default();
        for (number, block) in given.iter().enumerate() {
            runs.push(*block, (*block, number));
        }
        assert_eq!((runs.len(), runs.iter().count()), (8, 8));
        let mut expected: Vec<(Block, usize)> = given.into_iter().zip(0..).collect();
        expected.sort();
        assert_eq!(runs.sorted().collect::<Vec<_>>(), expected);
    }
}
