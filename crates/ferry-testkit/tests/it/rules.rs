//! What the rules of security ask for about files, archives and what images say, one by one, and what shows each.
//!
//! The lines below name tests as `file: function`, the file relative to `crates`. A test here keeps them true. The rules for
//! registries stand in `ferry-registry/tests/it/rules.rs`.
//!
//! P1, P2, a container's files are reached through its own view and by descriptors alone
//! - ferry-testkit/tests/it/files.rs: archives_and_racers_do_not_reach_the_host
//! - ferry-testkit/tests/it/bad_input.rs: a_layer_cannot_write_outside_of_itself
//! - ferry-store/tests/it/hostile.rs: nothing_leads_out_of_a_layer
//!
//! P3, nothing of a container is run or loaded for work in its files
//! - ferry-testkit/tests/it/image_values.rs: tools_of_a_container_are_not_run_for_it
//!
//! P4, users are looked up without waiting and without leaving the container
//! - ferry-runtime/tests/it/identity.rs: hostile_passwd_files_cannot_hang_or_lead_out
//! - ferry-testkit/tests/it/hangs.rs: a_fifo_for_the_files_of_users_is_no_reason_to_wait
//!
//! P5, numbers of users do not wrap
//! - ferry-runtime/tests/it/identity.rs: user_text_is_looked_up_inside
//!
//! P6, the working directory is below the container's root
//! - ferry-runtime/tests/it/command.rs: working_directory_is_made_inside
//! - ferry-runtime/tests/it/command.rs: no_descriptor_of_the_host_can_be_reached_by_the_working_directory
//!
//! A1, A2, A3, A6, archives reach nothing outside by paths, links, whiteouts, devices or names
//! - ferry-testkit/tests/it/hostile.rs: hostile_archives_reach_nothing_and_leave_nothing
//! - ferry-store/tests/it/hostile.rs: nothing_leads_out_of_a_layer
//! - ferry-store/tests/it/hostile.rs: escaping_names_are_refused_by_name
//! - ferry-store/tests/it/hostile.rs: attributes_that_the_engine_uses_are_dropped
//! - ferry-store/tests/it/hostile.rs: devices_are_kept_but_none_that_hides
//! - ferry-store/tests/it/archive.rs: archives_that_are_none_or_lie_are_refused
//!
//! A4, what an archive may take is bounded, in memory too
//! - ferry-testkit/tests/it/hostile.rs: hostile_archives_reach_nothing_and_leave_nothing
//! - ferry-store/tests/it/hostile.rs: limits_end_in_an_error_and_leave_nothing
//! - ferry-store/tests/it/hostile.rs: memory_is_bounded_whatever_comes
//! - ferry-store/tests/it/hostile.rs: two_hundred_thousand_entries_are_no_harm
//! - ferry-store/tests/it/hostile.rs: malformed_headers_are_refused
//!
//! A5, nothing is visible before it has proved to be what it should be
//! - ferry-testkit/tests/it/bad_input.rs: a_layer_with_a_wrong_digest_is_refused
//! - ferry-testkit/tests/it/bad_input.rs: a_layer_that_ends_early_is_refused
//! - ferry-testkit/tests/it/bad_input.rs: a_corrupt_archive_in_an_honest_layer_is_refused
//! - ferry-testkit/tests/it/hostile.rs: hostile_archives_reach_nothing_and_leave_nothing
//!
//! A7, names have one validator at every entrance
//! - ferry-daemon/tests/it/http.rs: hostile_names_are_refused_and_never_a_failure
//! - ferry-testkit/tests/it/hostile.rs: hostile_archives_reach_nothing_and_leave_nothing
//!
//! I1, I2, labels and variables of an image steer nothing
//! - ferry-testkit/tests/it/image_values.rs: labels_and_variables_steer_nothing
//!
//! I3, texts of images do not steer a terminal
//! - ferry-testkit/tests/it/image_values.rs: texts_of_images_do_not_reach_the_terminal_as_they_are
//! - ferry-testkit/tests/it/hostile.rs: hostile_archives_reach_nothing_and_leave_nothing
//!
//! I4, what is written into files of a container has no newline
//! - ferry-engine/src/containers/validate.rs: values_for_files_hold_no_newline
//!
//! I5, commits and exports bring back files and settings, never rights
//! - ferry-testkit/tests/it/files.rs: export_diff_and_commit_tell_what_a_container_has

use std::path::Path;

#[test]
fn every_rule_names_tests_that_exist() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut named = 0;
    for line in include_str!("rules.rs").lines().filter_map(|line| line.strip_prefix("//! - ")) {
        let (file, function) = line.split_once(": ").unwrap();
        let text = std::fs::read_to_string(crates.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {function}(")), "{file} has no {function}");
        named += 1;
    }
    assert!(named > 25);
}
