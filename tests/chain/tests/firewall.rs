//! The firewall plugin beside other firewalls, from real sockets.

use cni_testkit::Test;

pub(crate) const TESTS: &[Test] = &[];
