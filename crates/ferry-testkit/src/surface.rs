//! The flags, endpoints and query parameters that tests have to cover, and the map that says which
//! test covers which.
//!
//! `tests/map/flags.tsv` and `tests/map/endpoints.tsv` list names alone, as Docker has them.
//! `tests/map/map.tsv` has a line for each: what it is, and a case of the differential table
//! (`AREA/CASE`), the function of an end-to-end test (`module::function`), or `nothing: ` and the reason
//! where Docker itself does nothing with it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::strip::Strip;

const FLAGS: &str = include_str!("../tests/map/flags.tsv");
const ENDPOINTS: &str = include_str!("../tests/map/endpoints.tsv");
const MAP: &str = include_str!("../tests/map/map.tsv");

/// A flag of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The command without `container`.
    pub command: String,
    /// With its dashes.
    pub flag: String,
    /// Its letter.
    pub shorthand: Option<char>,
    /// Whether it takes a value.
    pub takes_value: bool,
    /// 1 is for every day, 2 is regular.
    pub tier: u8,
}

/// Returns the flags that have to be covered.
#[must_use]
pub fn flags() -> Vec<Flag> {
    let line = |line: &str| {
        let mut words = line.split('\t').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        Flag {
            command: word(),
            flag: word(),
            shorthand: word().chars().next().filter(|letter| *letter != '-'),
            takes_value: word() == "value",
            tier: word().parse().unwrap_or(0),
        }
    };
    FLAGS.lines().skip(1).map(line).collect()
}

/// Returns everything that has to be covered, in the words of the map.
#[must_use]
pub fn wanted() -> Vec<String> {
    let flags = flags().into_iter().map(|flag| format!("{} {}", flag.command, flag.flag));
    flags.chain(ENDPOINTS.lines().map(str::to_owned)).collect()
}

/// What covers something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cover {
    /// A case of the differential table: area and name.
    Case(String, String),
    /// A function of the end-to-end tests.
    Test(String),
    /// Nothing, since Docker itself does nothing with it: why.
    Nothing(String),
}

/// Reads the map.
///
/// # Errors
/// Names the line that does not fit.
pub fn map() -> Result<BTreeMap<String, Cover>> {
    let mut map = BTreeMap::new();
    for line in MAP.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (what, cover) = line.split_once('\t').with_context(|| format!("`{line}` has no test"))?;
        Strip::parse(what)?;
        let cover = match (cover.strip_prefix("nothing: "), cover.split_once('/')) {
            (Some(reason), _) => Cover::Nothing(reason.to_owned()),
            (None, Some((area, case))) => Cover::Case(area.to_owned(), case.to_owned()),
            (None, None) => Cover::Test(cover.to_owned()),
        };
        ensure!(map.insert(what.to_owned(), cover).is_none(), "`{what}` is mapped twice");
    }
    Ok(map)
}
