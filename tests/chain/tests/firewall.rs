//! The firewall plugin beside other firewalls, from real sockets.

mod host;
mod life;
mod policy;
mod world;
mod zones;

use cni_testkit::{Test, tests};

pub(crate) const TESTS: &[Test] = &tests![
    policy::an_open_pod_is_reached_from_everywhere_and_an_admin_drop_comes_first,
    policy::a_closed_bridge_is_reached_from_itself_and_from_open_ones,
    policy::isolated_pods_reach_everybody_but_each_other,
    policy::closed_pods_behind_ptp_do_not_reach_each_other,
    policy::a_published_port_passes_isolation,
    policy::behind_the_reference_bridge_pods_are_isolated_as_well,
    policy::a_policy_needs_an_interface_of_the_host,
    host::pods_talk_where_forward_drops_and_nobody_else_does,
    host::pods_behind_ptp_talk_where_forward_drops,
    host::beside_the_rules_of_docker_pods_talk_and_iptables_lists_all,
    host::a_flushed_rule_is_named_by_check_and_mended_by_the_next_add,
    host::what_an_admin_accepts_passes_the_hosts_policy,
    host::a_network_of_one_family_touches_nothing_of_the_other,
    host::the_bit_is_seen_inside_the_hook_alone,
    host::a_chain_that_cannot_drop_gets_no_rule,
    host::legacy_tables_get_the_rule_and_lose_it,
    life::the_previous_result_is_passed_on,
    life::del_of_one_interface_leaves_the_others,
    life::gc_removes_what_is_not_valid,
    life::an_add_killed_anywhere_is_cleaned_up_by_one_del,
    life::a_del_killed_anywhere_can_be_repeated,
    life::beside_legacy_tables_whatever_is_killed_is_gone_after_del_and_gc,
    life::an_operators_chain_stays_and_is_used_again,
    life::networks_have_admin_chains_of_their_own,
    life::check_names_each_drift_and_creates_nothing,
    life::wrong_input_changes_nothing,
    life::a_dry_run_prints_and_changes_nothing,
    life::many_at_once_leave_nothing,
    zones::firewalld_lets_pods_through_and_forgets_them,
    zones::firewalld_that_is_asked_for_and_not_there_is_told,
];
