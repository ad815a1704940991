//! The recorded cases of `network`.

#[test]
fn answers_are_those_of_docker() {
    crate::replay::replay("network", include_str!("../data/cases-network.json"));
}
