use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::spec::names::hash128;

thread_local! {
    static READ: Cell<usize> = const { Cell::new(0) };
}

/// Called for each read.
pub(super) fn count_read(bytes: usize) {
    READ.set(READ.get() + bytes);
}

fn ip(n: u16) -> IpAddr {
    // Both families, and neighbours as well as addresses that are far apart.
    let far = u128::from(n & 7) << 20;
    address(n & 8 == 0, 0x0a01_0000 + far + u128::from(n >> 4))
}

/// Few places and many owners with nearly the same tag: long probe chains that go round the table's end.
fn owner_tag(n: u8) -> u64 {
    (u64::from(n % 5) << 40) | (u64::from(n) & 0xf0) << 2 | 0xfc
}

/// The image and a model of it. An image in a file is given a new file whenever it has grown out of its own.
struct Pair {
    image: Image,
    in_file: bool,
    model: BTreeSet<(u64, IpAddr)>,
}

impl Pair {
    fn step(&mut self, add: bool, tag: u64, ip: IpAddr) {
        let held = self.model.contains(&(tag, ip));
        let taken = self.model.iter().any(|(_, other)| *other == ip);
        if add && !taken {
            self.image.insert(Some(tag), ip).unwrap();
            self.model.insert((tag, ip));
        } else if !add && held {
            self.image.remove(tag, ip).unwrap();
            self.model.remove(&(tag, ip));
        }
        if self.in_file && self.image.is_in_memory() {
            self.image.move_to(tempfile::tempfile().unwrap()).unwrap();
        }
    }

    fn compare(&self) {
        let tags: BTreeSet<u64> = (0..=255).map(owner_tag).collect();
        for tag in tags {
            let found: BTreeSet<IpAddr> = self.image.held(tag).unwrap().into_iter().collect();
            let expected = self.model.iter().filter(|(owner, _)| *owner == tag);
            assert_eq!(found, expected.map(|(_, ip)| *ip).collect::<BTreeSet<_>>());
        }
        assert_eq!(self.image.header.owners as usize, self.model.len());
        for v4 in [true, false] {
            let taken: BTreeSet<u128> = self
                .model
                .iter()
                .filter(|(_, ip)| ip.is_ipv4() == v4)
                .map(|(_, ip)| number(*ip))
                .collect();
            let (from, to) = (0x0a01_0000, 0x0aff_ffff);
            assert_eq!(self.image.count(v4, from, to).unwrap(), taken.len() as u128);
            let free = (from..=to).find(|n| !taken.contains(n));
            assert_eq!(self.image.next_free(v4, from, to).unwrap(), free);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_image_knows_what_a_set_of_pairs_knows(
        steps in prop::collection::vec((0..3u8, any::<u8>(), any::<u16>()), 0..400),
        in_file in any::<bool>(),
    ) {
        let mut pair = Pair { image: Image::empty(), in_file, model: BTreeSet::new() };
        for (what, owner, at) in steps {
            match pair.model.iter().nth(usize::from(at) % 64).copied() {
                Some((tag, ip)) if what == 0 => pair.step(false, tag, ip),
                _ => pair.step(true, owner_tag(owner), ip(at)),
            }
        }
        pair.compare();
    }
}

#[test]
fn a_table_that_empties_again_does_not_grow_with_the_number_of_changes() {
    let mut image = Image::empty();
    let size = image.header.size();
    for n in 0..10_000u64 {
        let tag = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let ip = address(true, 0x0a01_0000 + u128::from(n % 4000));
        image.insert(Some(tag), ip).unwrap();
        image.remove(tag, ip).unwrap();
    }
    assert_eq!(image.header.size(), size);
    assert_eq!(image.header.owners, 0);
}

/// The bytes read by one ADD and one DEL beside `count` others, the worst of a thousand.
fn read_beside(count: u64) -> usize {
    let mut image = Image::empty();
    let tag = |n: u64| u64::try_from(hash128(&[&n.to_string()]) >> 64).unwrap();
    let first = 0x0a01_0002;
    for n in 0..count {
        image
            .insert(Some(tag(n)), address(true, first + u128::from(n)))
            .unwrap();
    }
    let rounds = (count..count + 1000).map(|n| {
        READ.set(0);
        let free = image.next_free(true, first + u128::from(count), u128::from(u32::MAX));
        let ip = address(true, free.unwrap().unwrap());
        assert!(image.held(tag(n)).unwrap().is_empty());
        image.insert(Some(tag(n)), ip).unwrap();
        assert_eq!(image.held(tag(n)).unwrap(), [ip]);
        image.remove(tag(n), ip).unwrap();
        READ.get()
    });
    rounds.max().unwrap()
}

#[test]
fn an_addition_and_a_removal_read_a_few_kilobytes_beside_65000_reservations() {
    let (few, many) = (read_beside(10), read_beside(65_000));
    assert!(few < 4096, "{few}");
    assert!(many < 8192, "{many}");
}
