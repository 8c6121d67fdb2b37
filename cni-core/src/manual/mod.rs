//! The manual.
//!
//! | chapter | for |
//! |---|---|
//! | [`packet`] | newcomers: a packet's way from pod to pod, hop by hop |
//! | [`plugin`] | writing a plugin: what the process does, and what is yours |
//! | [`backend`] | writing a backend: declare what must exist |
//! | [`fabric`] | connecting nodes: declare what a peer needs |
//! | [`testing`] | testing it: the fake kernel, faults, the contract |
//! | [`cluster`] | operators: the nodes of a cluster, the file that names them, how it is followed |
//! | [`shaping`] | operators: limits of a pod's traffic, and tuning of its interface |
//! | [`etcd`] | operators: the nodes of a cluster in an etcd instead |
//! | [`kubernetes`] | operators: the nodes of a cluster in Kubernetes |
//! | [`configuration`] | operators: keys, variables, exit status, codes, files |
//! | [`firewall`] | operators: pods beside the host's own rules, and beside each other |
//! | [`ports`] | operators: ports of the host that lead to pods |
//! | [`pitfalls`] | what broke in other plugins, and how this one behaves |
//!
//! The rules themselves are in the [specification](https://www.cni.dev/docs/spec/).

pub mod backend;
pub mod cluster;
pub mod configuration;
pub mod etcd;
pub mod fabric;
pub mod firewall;
pub mod kubernetes;
pub mod packet;
pub mod pitfalls;
pub mod plugin;
pub mod ports;
pub mod shaping;
pub mod testing;
