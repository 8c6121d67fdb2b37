//! VLANs.
pub(crate) const TESTS: &[cni_testkit::Test] = &[];
