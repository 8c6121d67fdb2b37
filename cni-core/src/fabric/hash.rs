//! Hashes of keys and values, some hundred thousand in a pass.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Another one in each engine: which two entries of a cluster have one hash cannot be told from outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed(u64, u64);

/// Multiplies into 128 bits and folds them (as wyhash does), where SipHash takes as long as all else that is done for an entry.
#[derive(Debug, Clone)]
pub(super) struct Folding {
    state: u64,
    key: u64,
}

impl Seed {
    pub(super) fn random() -> Self {
        let random = RandomState::new();
        // Odd: no factor of it is lost in a multiplication.
        Self(random.hash_one(0_u8), random.hash_one(1_u8) | 1)
    }

    pub(super) fn hasher(self) -> Folding {
        Folding {
            state: self.0,
            key: self.1,
        }
    }
}

impl Folding {
    fn add(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.key).wrapping_add(self.key);
    }
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut all = [0; 8];
            all.copy_from_slice(word);
            self.add(u64::from_ne_bytes(all));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut all = [0; 8];
            for (to, from) in all.iter_mut().zip(rest) {
                *to = *from;
            }
            // Rests of different lengths differ in length alone where they end with zeros.
            self.add(u64::from_ne_bytes(all) ^ (rest.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.add(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.add(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.add(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.add(value as u64);
        self.add((value >> 64) as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.state, self.key ^ 0x9e37_79b9_7f4a_7c15)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::Hash;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn hash(seed: Seed, value: impl Hash) -> u64 {
        let mut hasher = seed.hasher();
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn neighbouring_addresses_spread_over_all_bits() {
        let seed = Seed::random();
        let mut all = HashSet::new();
        let mut set = [0_u32; 64];
        for n in 0..1 << 16 {
            let four = Ipv4Addr::from(0x0a00_0000 + n);
            let six = Ipv6Addr::from((0xfd00_u128 << 112) + (u128::from(n) << 64));
            for hash in [hash(seed, (four, 24_u8)), hash(seed, (six, 64_u8))] {
                assert!(all.insert(hash));
                for (bit, count) in set.iter_mut().enumerate() {
                    *count += (hash >> bit & 1) as u32;
                }
            }
        }
        for (bit, count) in set.into_iter().enumerate() {
            let share = f64::from(count) / f64::from(1 << 17);
            assert!((0.49..0.51).contains(&share), "bit {bit}: {share}");
        }
        // The highest bits say where a record is looked for.
        let buckets: HashSet<u64> = all.iter().map(|hash| hash >> 47).collect();
        let expected = f64::from(1 << 17) * (1.0 - (-1.0_f64).exp());
        assert!((buckets.len() as f64 / expected - 1.0).abs() < 0.02);
    }

    #[test]
    fn another_engine_has_other_hashes() {
        assert_ne!(hash(Seed::random(), 1_u32), hash(Seed::random(), 1_u32));
        let seed = Seed::random();
        assert_ne!(hash(seed, [1_u8, 0]), hash(seed, [1_u8, 0, 0]));
        assert_eq!(hash(seed, "vx0"), hash(seed, "vx0"));
    }
}
