//! The recorded cases of `images`.

#[test]
fn answers_are_those_of_docker() {
    crate::replay::replay("images", include_str!("../data/cases-images.json"));
}
