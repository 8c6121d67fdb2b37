//! The kernel implementations of `host`, on the kernel, in namespaces of their own.

// Without libtest no function is a `#[test]`, by which clippy would know that these are tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod links;
mod routes;
mod sandbox;
mod support;
mod traffic;
mod vxlan;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A child that a test starts to hold a lock.
    if let Ok(mode) = std::env::var(sandbox::HOLD) {
        sandbox::Holder::hold(&mode);
        return ExitCode::SUCCESS;
    }
    cni_testkit::run(&cni_testkit::tests![
        links::a_veth_is_made_with_its_peer_in_another_namespace,
        links::names_that_no_link_can_have_are_refused_before_the_kernel_cuts_them,
        links::a_link_keeps_what_it_is_set_to,
        links::a_new_bridge_and_veth_can_be_without_link_local_addresses,
        links::ports_become_hairpins_and_isolated,
        links::vlans_work_or_are_refused_clearly,
        links::a_group_is_deleted_at_once,
        links::a_full_bridge_says_so,
        links::a_dump_of_hundreds_of_links_is_whole,
        links::an_index_is_looked_up_again_when_the_link_was_replaced,
        routes::addresses_and_routes_come_back_as_they_were_made,
        routes::a_route_stands_beside_another_only_when_it_is_told_to,
        routes::refusals_bear_errno_command_and_the_kernels_sentence,
        routes::neighbours_and_forwarding_entries_are_read,
        routes::a_link_is_found_by_the_address_that_it_leads_to,
        vxlan::ip_makes_of_the_printed_commands_what_the_changes_make,
        vxlan::a_vxlan_device_over_a_link_elsewhere_does_not_name_it,
        vxlan::a_setting_that_a_device_is_created_with_stays_refused_later,
        traffic::tc_shows_rate_burst_and_latency_as_they_were_asked_for,
        traffic::tc_makes_of_the_printed_commands_what_the_changes_make,
        traffic::what_others_have_set_is_told_from_ours_and_not_removed_with_it,
        traffic::a_scratch_namespace_is_empty_and_nobody_elses,
        sandbox::parameters_are_those_of_the_sandbox,
        sandbox::what_is_no_namespace_is_refused_by_path,
        sandbox::a_sandbox_stays_with_its_namespace_when_the_path_changes,
        sandbox::a_veth_into_a_namespace_that_is_gone_is_refused_by_path,
        sandbox::the_lock_holds_between_processes,
    ])
}
