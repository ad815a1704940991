//! The recorded cases of `inspect`.

#[test]
fn answers_are_those_of_docker() {
    crate::replay::replay("inspect", include_str!("../data/cases-inspect.json"));
}
