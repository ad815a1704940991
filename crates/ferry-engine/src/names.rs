//! Names: the rule for those that are given, and those of containers that were given none: a word and a person of science or the sea.

use rand::Rng;

/// Docker's rule for names of containers and local volumes: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, and no more than a file name holds.
pub(crate) fn is_valid(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let mut bytes = name.bytes();
    bytes.next().is_some_and(plain)
        && (2..=255).contains(&name.len())
        && bytes.all(|byte| plain(byte) || matches!(byte, b'_' | b'.' | b'-'))
}

const WORDS: [&str; 48] = [
    "able", "agile", "amber", "ample", "bold", "brave", "breezy", "bright", "brisk", "calm", "civil", "clear",
    "coastal", "cosy", "deft", "eager", "early", "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad", "grand",
    "hardy", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucid", "merry", "mild", "modest", "nimble",
    "noble", "patient", "placid", "prompt", "proud", "quiet", "ready", "steady", "sunny", "swift", "tidal",
];

const PEOPLE: [&str; 56] = [
    "agnesi",
    "amundsen",
    "anning",
    "archimedes",
    "babbage",
    "banneker",
    "barents",
    "bering",
    "boole",
    "cabot",
    "carson",
    "cook",
    "curie",
    "darwin",
    "dijkstra",
    "drake",
    "earhart",
    "euclid",
    "euler",
    "faraday",
    "fermi",
    "franklin",
    "galileo",
    "gauss",
    "germain",
    "goodall",
    "hamilton",
    "hopper",
    "hudson",
    "hypatia",
    "johnson",
    "kepler",
    "knuth",
    "kovalevskaya",
    "lamarr",
    "leibniz",
    "lovelace",
    "magellan",
    "maxwell",
    "meitner",
    "mendel",
    "nansen",
    "newton",
    "noether",
    "pascal",
    "pasteur",
    "planck",
    "ptolemy",
    "ramanujan",
    "ritchie",
    "shackleton",
    "somerville",
    "tasman",
    "turing",
    "vespucci",
    "zheng",
];

/// Returns `word_person`, with a digit from the second attempt on.
pub(crate) fn random(attempt: u32) -> String {
    let mut rng = rand::rng();
    let word = WORDS[rng.random_range(0..WORDS.len())];
    let person = PEOPLE[rng.random_range(0..PEOPLE.len())];
    if attempt == 0 { format!("{word}_{person}") } else { format!("{word}_{person}{}", rng.random_range(0..10)) }
}
