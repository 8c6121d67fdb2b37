//! The contracts of the traits, on the doubles of `testing`. `tests/kernel` runs them on the kernel.
#![cfg(feature = "testing")]

use cni_core::testing::{FakeKernel, conformance};

#[tokio::test]
async fn the_fake_keeps_the_contract_of_netlink() {
    conformance::netlink(FakeKernel::new().host().netlink.as_ref()).await;
}
