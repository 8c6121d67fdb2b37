//! The engine on the kernel, with a fabric of its own, in namespaces of its own.

// Without libtest no function is a `#[test]`, by which clippy would know that these are tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod damage;
mod drops;
mod faults;
mod foreign;
mod moves;
mod passes;
mod support;
mod tiny;

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_testkit::run(&cni_testkit::tests![
        passes::a_second_pass_writes_nothing_and_the_kernel_tells_of_nothing,
        passes::an_update_ends_as_a_fresh_start,
        passes::cleanup_leaves_what_it_found,
        passes::what_others_do_to_nftables_is_no_concern,
        moves::prefixes_and_peers_move_without_a_lost_packet,
        moves::one_data_path_follows_another_without_a_lost_packet,
        moves::a_device_of_another_kind_takes_the_place_of_the_first,
        damage::every_entry_that_is_removed_or_altered_comes_back,
        damage::every_element_that_is_removed_or_added_is_put_right,
        damage::the_device_the_table_and_parameters_are_mended,
        drops::what_the_filter_drops_is_counted_by_its_reason,
        foreign::a_foreign_route_stays_behind_ours_and_is_told_of,
        foreign::a_gateway_inside_a_foreign_prefix_is_no_obstacle,
        faults::a_write_that_fails_once_is_made_good,
        faults::what_cannot_be_written_is_named_and_keeps_nothing_else_back,
        faults::a_process_that_dies_at_any_write_is_taken_over_from,
    ])
}
