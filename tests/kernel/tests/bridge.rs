//! placeholder
use cni_testkit::{Test, tests};
pub(crate) const TESTS: &[Test] = &tests![];
