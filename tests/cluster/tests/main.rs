//! The network between nodes on the real kernel. See `cni_testkit::cluster` for what a test here stands on.

mod agent;
mod agent_heal;
mod agent_restart;
mod agent_tell;
mod alone;
mod closed;
mod direct;
mod etcd;
mod etcd_flannel;
mod etcd_former;
mod etcd_heal;
mod etcd_leave;
mod etcd_login;
mod etcd_move;
mod etcd_source;
mod etcd_term;
mod flannel;
mod forward;
mod install;
mod kube;
mod kube_access;
mod kube_flannel;
mod kube_heal;
mod kube_member;
mod kube_move;
mod kube_rights;
mod kube_source;
mod lab;
mod model;
mod own;
mod told;
mod update;
mod verbs;
mod wire;
mod world;
mod zones;

use std::process::ExitCode;

use cni_testkit::run_with_plugins;

fn main() -> ExitCode {
    let all = [
        lab::TESTS,
        agent::TESTS,
        agent_heal::TESTS,
        agent_restart::TESTS,
        agent_tell::TESTS,
        alone::TESTS,
        model::TESTS,
        wire::TESTS,
        closed::TESTS,
        direct::TESTS,
        flannel::TESTS,
        forward::TESTS,
        zones::TESTS,
        install::TESTS,
        own::TESTS,
        update::TESTS,
        verbs::TESTS,
        told::TESTS,
        etcd::TESTS,
        etcd_flannel::TESTS,
        etcd_former::TESTS,
        etcd_heal::TESTS,
        etcd_leave::TESTS,
        etcd_login::TESTS,
        etcd_move::TESTS,
        etcd_source::TESTS,
        etcd_term::TESTS,
        kube_source::TESTS,
        kube_access::TESTS,
        kube_member::TESTS,
        kube_move::TESTS,
        kube::TESTS,
        kube_rights::TESTS,
        kube_flannel::TESTS,
        kube_heal::TESTS,
    ]
    .concat();
    run_with_plugins(&all)
}
