//! The crate against the kernel, each test in network namespaces of its own.
//!
//! Needs root, `ip`, `nft` and `conntrack`; without root every test says so and passes, without the
//! programs it fails.
//!
//! What is promised about networks, and what shows it:
//!
//! | promise | test |
//! |---|---|
//! | only published ports are reached, only on their address | `publish::what_is_not_published_is_unreachable_from_the_wire`, `publish::a_port_on_one_address_is_not_on_others` |
//! | networks are closed to one another; internal ones have no way out, no host services, and ask nobody for names | `isolation::networks_are_closed_to_one_another_but_for_published_ports`, `isolation::internal_networks_have_no_way_out_and_no_host_services`, `names::names_of_the_network_are_answered_over_both_transports` |
//! | rules that somebody removes come back | `restart::a_flushed_ruleset_is_made_again`, `restart::rules_that_somebody_removes_come_back_by_themselves` |
//! | nobody takes another's place on a bridge | `isolation::a_container_cannot_take_the_place_of_another`, `isolation::a_container_cannot_take_an_ipv6_address_or_play_the_router`, `isolation::containers_of_a_network_without_icc_reach_only_the_outside` |
//! | names are those of shared networks alone | `names::names_of_the_network_are_answered_over_both_transports`, and the unit tests of `netd::dns` |
//! | a container with rules reaches what they name and nothing else | the tests of `egress` |

mod attach;
mod egress;
mod host;
mod isolation;
mod modes;
mod names;
mod publish;
mod restart;
mod shaping;
