//! Limits, measured with real flows.

use cni_testkit::Test;

pub(crate) const TESTS: &[Test] = &[];
