//! Chance, for pauses that should not be the same on every node.

use std::hash::{BuildHasher as _, RandomState};

/// A random number of 0 to 1. The standard library seeds its hashers from the kernel's random numbers.
pub(crate) fn between_0_and_1() -> f64 {
    let bits = RandomState::new().hash_one(0_u8);
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}
