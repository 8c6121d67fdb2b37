//! A Kubernetes API server for a test, reached from the network of a pod or of a host of the test's.
//!
//! It is one of our own: it serves Nodes and `NodeNetwork`s (list, watch, bookmarks, streaming lists, pages, conflicts,
//! server-side apply, rights) as a real one does, and can be told to misbehave. With `KUBECONFIG` in the environment, the same
//! tests ask the real server that it names, by a relay in the test's network; `tests/kube.rs` of this package shows
//! that both answer alike. Tests that need what only ours can be told to do begin with [`only_ours`].
//!
//! On a real server the tests have a lock, so that one runs at a time, and make objects only whose names begin with
//! `cni-test-` (see [`named`]), service accounts in the namespace `default` with roles, and the definition of `NodeNetwork`
//! where there is none; they remove all of it.

mod apply;
mod client;
mod core;
mod faults;
mod fields;
mod kubeconfig;
mod node;
mod query;
mod read;
mod real;
mod relay;
mod reply;
mod resource;
mod rights;
mod schema;
mod server;
mod service;
mod status;
mod store;
mod tls;
mod watch;
mod way;
mod write;
mod yaml;

pub use client::{Answer, Client, Next, Watch};
pub use faults::{Counts, Fault, Streaming};
pub use resource::Resource;
pub use rights::User;
pub use server::{ApiServer, Backup, PORT};

pub(crate) use real::{close_way, open_way};

/// A name for an object that is a test's to make.
pub fn named(name: &str) -> String {
    format!("{}{name}", real::NAMES)
}

/// Whether tests run against a real server.
pub fn is_real() -> bool {
    real::is_named()
}

/// Ends the test as skipped where it would run against a real server.
pub fn only_ours() {
    if is_real() {
        crate::skip("only our own server can be told to do this");
    }
}
