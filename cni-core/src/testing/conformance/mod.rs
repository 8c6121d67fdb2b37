//! The contracts of this crate's traits, as functions that panic where one is broken.
//!
//! A backend of your own is tested by one line:
//!
//! ```
//! # use cni_core::{NetworkBackend, spec::NetworkConfig};
//! # use cni_core::testing::conformance::{self, FakeFixture};
//! # async fn contract(backend: impl NetworkBackend + 'static, config: NetworkConfig) {
//! conformance::backend(&FakeFixture::new(backend, [config])).await;
//! # }
//! ```
//!
//! [`FakeFixture`] runs it on the [`FakeKernel`]; a [`Fixture`] of your own runs it on the real kernel.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these functions are assertions: they run in tests and report by panicking"
)]

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::backend::NetworkBackend;
use crate::host::firewall::Table;
use crate::host::{Host, NetnsPath, Sandbox};
use crate::ipam::Ipam;
use crate::plan::{Change, Place};
use crate::spec::config::NetworkConfig;
use crate::spec::{AddResult, Attachment};

use super::{FakeIpam, FakeKernel};

mod attach;
mod cluster;
mod conntrack;
mod detach;
mod faults;
mod firewall;
mod forwarding;
mod ipam;
mod netlink;
mod peers;
mod scene;
mod sysctl;

pub use cluster::ClusterFixture;
pub use conntrack::conntrack;
pub use firewall::firewall;
pub use forwarding::forwarding;
pub use ipam::ipam;
pub use netlink::{netlink, traffic_control};
pub use peers::{PeerStore, peer_source};
pub use sysctl::sysctl;

/// What a backend is tested with.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The backend.
    fn backend(&self) -> &dyn NetworkBackend;

    /// Configurations; the whole contract is run with each.
    fn configs(&self) -> Vec<NetworkConfig>;

    /// A new node, on which the backend has never been.
    async fn node(&self) -> Node;

    /// nftables tables of the backend, for snapshots.
    fn tables(&self) -> Vec<Table> {
        Vec::new()
    }

    /// Changes by others that CHECK must notice.
    fn drifts(&self) -> &[Drift] {
        &[]
    }
}

/// One node: its kernel and its address store.
#[derive(Debug, Clone)]
pub struct Node {
    /// The host's handles.
    pub host: Host,
    /// Address management.
    pub ipam: Arc<dyn Ipam>,
    /// Makes and ends containers' namespaces.
    pub pods: Arc<dyn Pods>,
}

/// Makes and ends containers' namespaces.
#[async_trait]
pub trait Pods: Send + Sync + fmt::Debug {
    /// A new namespace of this name, with `lo` in it.
    async fn create(&self, name: &str) -> Sandbox;

    /// Ends the namespace, and all that is in it.
    async fn remove(&self, path: &NetnsPath);
}

/// What another program does to an attachment, computed from the attachment and the result of its ADD.
pub type DriftFn = Box<dyn Fn(&Attachment, &AddResult) -> Vec<(Place, Change)> + Send + Sync>;

/// A change by somebody else that CHECK must notice.
pub struct Drift {
    /// What CHECK's error must say, ignoring case: all of these.
    pub words: Vec<String>,
    /// The change.
    pub change: DriftFn,
}

impl Drift {
    /// CHECK must say `words` after `change`.
    pub fn new(
        words: &[&str],
        change: impl Fn(&Attachment, &AddResult) -> Vec<(Place, Change)> + Send + Sync + 'static,
    ) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            change: Box::new(change),
        }
    }
}

impl fmt::Debug for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Drift({:?})", self.words)
    }
}

/// Runs the whole contract that is written on [`NetworkBackend`].
///
/// # Panics
/// Where the backend breaks it, saying which rule.
pub async fn backend(fixture: &dyn Fixture) {
    for config in fixture.configs() {
        attach::add_then_check_then_del_leaves_the_node_as_it_was(fixture, &config).await;
        attach::a_second_add_after_seal_is_an_error_and_changes_nothing(fixture, &config).await;
        attach::an_add_clears_an_unsealed_leftover_away(fixture, &config).await;
        attach::two_attachments_are_independent(fixture, &config).await;
        attach::check_names_every_drift_and_changes_nothing(fixture, &config).await;
        attach::status_changes_nothing(fixture, &config).await;
        attach::a_dry_run_plans_what_add_does_and_changes_nothing(fixture, &config).await;
        detach::del_succeeds_whatever_is_missing(fixture, &config).await;
        detach::gc_removes_what_is_not_valid(fixture, &config).await;
        faults::a_failed_add_changes_nothing(fixture, &config).await;
        faults::after_a_crash_in_add_del_cleans_up(fixture, &config).await;
        faults::after_a_crash_in_add_another_add_succeeds(fixture, &config).await;
        faults::a_failed_write_in_del_is_reported_or_made_good(fixture, &config).await;
        faults::after_a_crash_in_del_another_del_cleans_up(fixture, &config).await;
    }
}

/// A [`Fixture`] on the [`FakeKernel`] and the [`FakeIpam`].
#[derive(Debug)]
pub struct FakeFixture {
    backend: Box<dyn NetworkBackend>,
    configs: Vec<NetworkConfig>,
    subnets: Vec<IpNetwork>,
    tables: Vec<Table>,
    drifts: Vec<Drift>,
    kernel: fn() -> FakeKernel,
}

impl FakeFixture {
    /// A backend with its configurations.
    pub fn new(
        backend: impl NetworkBackend + 'static,
        configs: impl IntoIterator<Item = NetworkConfig>,
    ) -> Self {
        Self {
            backend: Box::new(backend),
            configs: configs.into_iter().collect(),
            subnets: vec![
                "10.244.0.0/24".parse().expect("a prefix"),
                "fd00:244::/64".parse().expect("a prefix"),
            ],
            tables: Vec::new(),
            drifts: Vec::new(),
            kernel: FakeKernel::new,
        }
    }

    /// Addresses come from these subnets instead, one of each.
    #[must_use]
    pub fn with_subnets(mut self, subnets: impl IntoIterator<Item = IpNetwork>) -> Self {
        self.subnets = subnets.into_iter().collect();
        self
    }

    /// The backend's nftables tables.
    #[must_use]
    pub fn with_tables(mut self, tables: impl IntoIterator<Item = Table>) -> Self {
        self.tables = tables.into_iter().collect();
        self
    }

    /// A change that CHECK must notice.
    #[must_use]
    pub fn with_drift(mut self, drift: Drift) -> Self {
        self.drifts.push(drift);
        self
    }

    /// Kernels are made by this function, which may put an uplink into them, say.
    #[must_use]
    pub fn with_kernel(mut self, kernel: fn() -> FakeKernel) -> Self {
        self.kernel = kernel;
        self
    }
}

#[async_trait]
impl Fixture for FakeFixture {
    fn backend(&self) -> &dyn NetworkBackend {
        &*self.backend
    }

    fn configs(&self) -> Vec<NetworkConfig> {
        self.configs.clone()
    }

    async fn node(&self) -> Node {
        let kernel = (self.kernel)();
        Node {
            host: kernel.host(),
            ipam: Arc::new(FakeIpam::new(self.subnets.iter().copied())),
            pods: Arc::new(kernel),
        }
    }

    fn tables(&self) -> Vec<Table> {
        self.tables.clone()
    }

    fn drifts(&self) -> &[Drift] {
        &self.drifts
    }
}

#[async_trait]
impl Pods for FakeKernel {
    async fn create(&self, name: &str) -> Sandbox {
        self.sandbox(format!("/run/netns/{name}"))
    }

    async fn remove(&self, path: &NetnsPath) {
        self.remove_namespace(path);
    }
}
