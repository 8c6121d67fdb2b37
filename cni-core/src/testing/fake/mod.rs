//! A stateful model of the kernel's network namespaces.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::host::zones::NoZones;
use crate::host::{Host, Monitor, NamespaceOpener, NetnsPath, Sandbox};

use super::faults::Faults;
use handle::Handle;
use lock::FakeLock;
use monitor::ProcessId;
use state::{NsId, State};

mod addresses;
mod conntrack;
mod firewall;
mod forwarding;
mod handle;
mod legacy;
mod links;
mod lock;
mod monitor;
mod ports;
mod routes;
mod state;
mod sysctl;
mod table;
mod traffic;
mod vxlan;

/// Several network namespaces in memory, with the kernel's rules and errnos. Clones share them.
///
/// The host's namespace is there from the beginning; others are made by name ([`FakeKernel::namespace`]). Every
/// namespace has `lo`, down.
///
/// Modelled: links (bridges, veth pairs across namespaces, VXLAN devices, dummies) with index, master, carrier and operational state,
/// MTU, MAC, alias, group and flags; addresses with their prefix routes; routes of all tables, one state for `Netlink` and
/// `Forwarding`; next hops, permanent neighbours, forwarding entries of VXLAN devices, policy rules by source; bridge ports
/// and VLANs; token buckets and redirections; kernel parameters; nftables; the flows that [`FakeKernel::track`] says; the host lock.
///
/// Not modelled: packets, and so neighbours and forwarding entries that are learned; the link-local addresses that the kernel
/// itself gives to links, with their routes; duplicate address detection; multicast. The lookup of a gateway knows of
/// no policy rules. State settles at once, where the kernel's link watch may take a moment. A namespace ends when [`FakeKernel::remove_namespace`] says so, even with
/// handles open.
///
/// Handles are of one process, as far as [`FakeKernel::monitor`] is concerned, until [`FakeKernel::another_process`] makes
/// some of another.
#[derive(Clone)]
pub struct FakeKernel {
    inner: Arc<Inner>,
    process: ProcessId,
}

struct Inner {
    state: Mutex<State>,
    processes: AtomicUsize,
    faults: Faults,
    lock: FakeLock,
    host: NsId,
}

impl FakeKernel {
    /// A kernel with the host's namespace and nothing in it but `lo`.
    pub fn new() -> Self {
        let mut state = State::default();
        let host = state.new_namespace();
        let inner = Inner {
            state: Mutex::new(state),
            processes: AtomicUsize::new(1),
            faults: Faults::new(),
            lock: FakeLock::default(),
            host,
        };
        Self {
            inner: Arc::new(inner),
            process: 0,
        }
    }

    /// The same kernel built without bridge VLAN filtering: asking for it is EOPNOTSUPP.
    #[must_use]
    pub fn without_vlan_filtering(self) -> Self {
        self.state().no_vlan_filtering = true;
        self
    }

    /// The same kernel booted without IPv6: its parameters are missing, and its addresses are EOPNOTSUPP.
    #[must_use]
    pub fn without_ipv6(self) -> Self {
        self.state().no_ipv6 = true;
        self
    }

    /// The same kernel before Linux 5.3, without next-hop objects: to make one is EOPNOTSUPP.
    #[must_use]
    pub fn without_next_hops(self) -> Self {
        self.state().no_next_hops = true;
        self
    }

    /// The same kernel built without what limits traffic: `ifb`, `sch_tbf`, `sch_ingress`, `cls_u32` and `act_mirred`.
    #[must_use]
    pub fn without_traffic_control(self) -> Self {
        self.state().no_traffic_control = true;
        self
    }

    /// The same kernel, with a host that is in another namespace than the first: parameters that are those of all of them
    /// together are missing.
    #[must_use]
    pub fn not_first(self) -> Self {
        if let Ok(namespace) = self.state().namespace(self.inner.host) {
            namespace.is_first = false;
        }
        self
    }

    /// Makes a network namespace, as `ip netns add` does, and returns its path. One that exists stays as it is.
    pub fn namespace(&self, path: impl AsRef<Path>) -> NetnsPath {
        let path = path.as_ref().to_owned();
        let mut state = self.state();
        if !state.paths.contains_key(&path) {
            let id = state.new_namespace();
            state.paths.insert(path.clone(), id);
        }
        NetnsPath::new(path)
    }

    /// Ends a namespace: its links go, and with each veth its peer elsewhere.
    pub fn remove_namespace(&self, path: &NetnsPath) {
        let mut state = self.state();
        if let Some(id) = state.paths.get(path.as_path()).copied() {
            let before = state.seen_by_others(None);
            state.destroy_namespace(id);
            state.settle();
            state.tell_links(None, before);
        }
    }

    /// The same kernel, as another process sees it: what is done by its handles is told by this one's monitors.
    #[must_use]
    pub fn another_process(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            process: self.inner.processes.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Tells of changes that other processes make in the host's namespace from now on. It leaves out this process's
    /// changes, also those of which the kernel does not say whose they are, and is as silent as the kernel about what
    /// goes with a link.
    pub fn monitor(&self) -> Box<dyn Monitor> {
        self.state().watch(self.inner.host, self.process)
    }

    /// Handles for the host's namespace.
    pub fn host(&self) -> Host {
        let handle = Arc::new(self.handle(self.inner.host));
        Host {
            netlink: handle.clone(),
            forwarding: handle.clone(),
            firewall: handle.clone(),
            legacy: handle.clone(),
            conntrack: handle.clone(),
            sysctl: handle,
            lock: Arc::new(self.inner.lock.clone()),
            namespaces: Arc::new(self.clone()),
            zones: Arc::new(NoZones),
        }
    }

    /// Handles for the namespace of this path, which is made when it does not exist.
    pub fn sandbox(&self, path: impl AsRef<Path>) -> Sandbox {
        let path = self.namespace(path);
        let id = self.state().paths.get(path.as_path()).copied();
        self.bind(path, id.unwrap_or(self.inner.host))
    }

    /// Counts the writes to this kernel, and makes them fail.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Writes attempted so far, see [`Faults::writes`].
    pub fn writes(&self) -> u64 {
        self.faults().writes()
    }

    /// The `n`-th write fails with `errno`, once, see [`Faults::fail_write`].
    pub fn fail_write(&self, n: u64, errno: i32) {
        self.faults().fail_write(n, errno);
    }

    /// From the `n`-th write on everything fails, see [`Faults::crash_at`].
    pub fn crash_at(&self, n: u64) {
        self.faults().crash_at(n);
    }

    /// Ends what [`FakeKernel::crash_at`] began.
    pub fn revive(&self) {
        self.faults().revive();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, ns: NsId) -> Handle {
        Handle {
            kernel: self.clone(),
            ns,
        }
    }

    fn bind(&self, path: NetnsPath, ns: NsId) -> Sandbox {
        let handle = Arc::new(self.handle(ns));
        Sandbox {
            path,
            netlink: handle.clone(),
            sysctl: handle,
        }
    }
}

impl Default for FakeKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FakeKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeKernel").finish_non_exhaustive()
    }
}

#[async_trait]
impl NamespaceOpener for FakeKernel {
    async fn open(&self, path: &NetnsPath) -> Result<Sandbox> {
        let id = self.state().paths.get(path.as_path()).copied();
        match id {
            Some(id) => Ok(self.bind(path.clone(), id)),
            None => Err(Error::new(
                ErrorKind::InvalidNetns,
                format!("the network namespace {path} does not exist"),
            )),
        }
    }

    async fn scratch(&self) -> Result<Sandbox> {
        let id = self.state().new_namespace();
        Ok(self.bind(NetnsPath::new("a namespace of its own"), id))
    }

    /// No path names the fake's own namespace.
    async fn is_own(&self, _path: &NetnsPath) -> bool {
        false
    }
}
