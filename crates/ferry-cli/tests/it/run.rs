//! The recorded cases of `run`.

#[test]
fn answers_are_those_of_docker() {
    crate::replay::replay("run", include_str!("../data/cases-run.json"));
}
