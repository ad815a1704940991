//! The recorded cases of `ps`.

#[test]
fn answers_are_those_of_docker() {
    crate::replay::replay("ps", include_str!("../data/cases-ps.json"));
}
