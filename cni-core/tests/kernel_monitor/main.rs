//! `KernelMonitor` on the kernel, in namespaces of its own.

// Without libtest no function is a `#[test]`, by which clippy would know that these are tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod events;
mod life;
mod own;
mod silent;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_testkit::run(&cni_testkit::tests![
        events::a_link_that_comes_changes_and_goes_is_told,
        events::a_renamed_link_is_told_under_both_names,
        events::a_port_that_leaves_its_bridge_has_not_been_removed,
        events::addresses_of_both_families_are_told_with_their_link,
        events::routes_are_told_with_what_has_become_of_them,
        events::next_hops_are_told_and_what_takes_their_place,
        events::neighbours_are_told_as_long_as_they_are_permanent,
        events::forwarding_entries_are_told_and_what_takes_their_place,
        events::rules_are_told,
        events::each_transaction_of_nftables_is_told,
        events::what_the_traffic_makes_is_not_told,
        silent::what_goes_with_a_link_is_told_by_the_links_event,
        silent::what_goes_with_a_next_hop_is_told_by_the_next_hops_event,
        own::forwarding_by_this_process_is_left_out,
        own::what_others_do_to_entries_of_this_process_is_told,
        own::a_removal_of_long_ago_hides_no_removal_by_others,
        own::of_links_and_addresses_of_this_process_some_are_told,
        own::transactions_of_this_process_are_left_out,
        life::events_that_nobody_takes_become_an_overrun,
        life::events_that_the_kernel_drops_are_an_overrun,
        life::a_wait_that_is_given_up_loses_nothing,
        life::dropping_the_monitor_ends_its_thread,
        life::an_idle_monitor_uses_no_cpu,
        life::a_monitor_stays_in_its_namespace,
    ])
}
