//! Test it: without root, without a kernel, and then with one.
//!
//! Enable the feature `testing` in `dev-dependencies`.
//!
//! # The contract, in one line
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # async fn mine_keeps_the_contract_of_a_backend(mine: impl cni_core::NetworkBackend + 'static) {
//! use cni_core::spec::NetworkConfig;
//! use cni_core::testing::conformance::{self, FakeFixture};
//!
//! let config = br#"{"cniVersion":"1.1.0","name":"n","type":"mine","ipam":{"type":"fake"}}"#;
//! let config = NetworkConfig::parse(config).unwrap();
//! conformance::backend(&FakeFixture::new(mine, [config])).await;
//! # }
//! ```
//!
//! [`conformance::backend`] runs everything that is written on [`NetworkBackend`](crate::NetworkBackend): ADD and DEL
//! leave the state as it was, every write of an ADD fails once and the state is as before, the process dies at every write
//! and the next ADD or DEL copes, DEL twice, without namespace, without result; CHECK changes nothing and names drifts;
//! GC. Tell it your nftables tables (`with_tables`) and what CHECK must notice (`with_drift`).
//!
//! # The fake kernel
//!
//! [`FakeKernel`] is a model of several namespaces with the kernel's own errnos: links, addresses, routes, bridges and
//! VLANs, sysctls, nftables. [`snapshot`] prints what a namespace holds, so that "nothing is left" is one `assert_eq!`.
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use cni_core::testing::FakeKernel;
//!
//! let kernel = FakeKernel::new();
//! let netns = kernel.namespace("/run/netns/pod");
//! let host = kernel.host();
//! kernel.fail_write(3, 12); // the third change from now on: ENOMEM
//! # let _ = (netns, host);
//! # Ok(()) }
//! # #[cfg(not(feature = "testing"))] fn main() {}
//! ```
//!
//! A model can be wrong. Where it matters, implement [`conformance::Fixture`] over namespaces of your own, and run the
//! same contract on the real kernel; [`Faults`] and [`Faulty`] inject the same failures there.
//!
//! # The process
//!
//! [`dispatch`](crate::plugin::dispatch) serves a request from its parts, without globals: tests call it in parallel with
//! an environment, stdin and stdout of their own. For what runs plugins, [`noop`] is a plugin that does what its
//! configuration says and records how it was called.
//!
//! # By hand
//!
//! `CNI_DRY_RUN=1` prints the plan of an ADD or DEL and changes nothing. The example `cnitool` runs a configuration as a
//! runtime does.
//!
//! [`conformance::backend`]: crate::testing::conformance::backend
//! [`conformance::Fixture`]: crate::testing::conformance::Fixture
//! [`FakeKernel`]: crate::testing::FakeKernel
//! [`snapshot`]: crate::testing::snapshot()
//! [`Faults`]: crate::testing::Faults
//! [`Faulty`]: crate::testing::Faulty
//! [`noop`]: crate::testing::noop
