//! The recorded cases of `create`.

#[test]
fn answers_are_those_of_docker() {
    crate::replay::replay("create", include_str!("../data/cases-create.json"));
}
