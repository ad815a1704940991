//! The recorded cases of the commands on single objects.

#[test]
fn answers_are_those_of_docker() {
    crate::replay::replay("verbs", include_str!("../data/cases-verbs.json"));
}
