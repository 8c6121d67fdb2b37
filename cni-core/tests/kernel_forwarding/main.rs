//! `KernelForwarding` on the kernel, in namespaces of its own.

// Without libtest no function is a `#[test]`, by which clippy would know that these are tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod bulk;
mod commands;
mod errors;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_testkit::run(&cni_testkit::tests![
        commands::the_printed_command_makes_the_same_entry,
        commands::entries_of_other_programs_are_left_out_or_told_apart,
        commands::reads_keep_to_their_scope,
        errors::refusals_bear_errno_command_and_the_kernels_sentence,
        errors::a_removal_takes_only_what_is_ours,
        errors::a_replacement_needs_no_entry_and_moves_one,
        errors::ours_stands_before_another_programs_route,
        errors::a_link_that_was_replaced_is_found_again,
        bulk::failures_among_thousands_have_their_index,
        bulk::ten_thousand_of_each_kind,
        bulk::a_read_among_changes_of_others_misses_nothing,
    ])
}
