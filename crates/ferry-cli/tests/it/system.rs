//! The recorded cases of `system`.

#[test]
fn answers_are_those_of_docker() {
    crate::replay::replay("system", include_str!("../data/cases-system.json"));
}
