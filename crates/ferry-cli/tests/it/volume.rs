//! The recorded cases of `volume`.

#[test]
fn answers_are_those_of_docker() {
    crate::replay::replay("volume", include_str!("../data/cases-volume.json"));
}
