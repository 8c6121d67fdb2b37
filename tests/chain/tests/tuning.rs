//! What tuning sets, and what DEL restores.

use cni_testkit::Test;

pub(crate) const TESTS: &[Test] = &[];
