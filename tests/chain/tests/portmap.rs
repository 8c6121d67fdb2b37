//! Published ports, from real sockets.

mod conflicts;
mod crash;
mod flows;
mod life;
mod options;
mod reach;
mod scale;
pub(crate) mod world;

use cni_testkit::Test;

pub(crate) fn tests() -> Vec<Test> {
    [
        reach::TESTS,
        options::TESTS,
        conflicts::TESTS,
        flows::TESTS,
        life::TESTS,
        crash::TESTS,
        scale::TESTS,
    ]
    .concat()
}
