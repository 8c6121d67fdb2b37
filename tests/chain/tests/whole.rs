//! Whole chains: as one, killed, collected.

use cni_testkit::Test;

pub(crate) const TESTS: &[Test] = &[];
