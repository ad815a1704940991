//! The map from flags, endpoints and query parameters to the tests that notice when one is ignored:
//! it is complete, and every test of it fails when what it covers is taken away.
//!
//! A sample is proven in every run. `FERRY_TEST_MAP` proves more: `all`, or a part of what is covered
//! such as `run --` or `/logs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use ferry_testkit::command::Running;
use ferry_testkit::differential::compare::{Verdict, judge};
use ferry_testkit::differential::pool;
use ferry_testkit::differential::record::{Answer, Recording};
use ferry_testkit::differential::table::{self, Case};
use ferry_testkit::material::Material;
use ferry_testkit::oracle::Engine;
use ferry_testkit::strip::{self, Strip};
use ferry_testkit::surface::{self, Cover};
use ferry_testkit::{command, programs};

/// One in so many entries is proven in every run.
const SAMPLE: usize = 41;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle")
}

fn cases() -> BTreeMap<(String, String), Case> {
    let areas = table::read(&folder()).unwrap();
    let all = areas.into_iter().flat_map(|area| area.cases.into_iter().map(move |case| (area.name.clone(), case)));
    all.map(|(area, case)| ((area, case.name.clone()), case)).collect()
}

/// The names of all end-to-end tests.
fn tests() -> BTreeSet<String> {
    let listed = Command::new(std::env::current_exe().unwrap()).args(["--list"]).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[test]
fn every_flag_endpoint_and_query_parameter_has_a_test() {
    let map = surface::map().unwrap();
    let wanted: BTreeSet<String> = surface::wanted().into_iter().collect();
    let mapped: BTreeSet<String> = map.keys().cloned().collect();
    let unmapped: Vec<_> = wanted.difference(&mapped).collect();
    assert!(unmapped.is_empty(), "nothing covers {unmapped:#?}");
    let unknown: Vec<_> = mapped.difference(&wanted).collect();
    assert!(unknown.is_empty(), "Docker does not have {unknown:#?}");
    let (cases, tests) = (cases(), tests());
    for (what, cover) in map {
        match cover {
            Cover::Case(area, case) => {
                assert!(cases.contains_key(&(area.clone(), case.clone())), "{what}: there is no case {area}/{case}");
            }
            Cover::Test(name) => assert!(tests.contains(&name), "{what}: there is no test {name}"),
            Cover::Nothing(reason) => assert!(!reason.is_empty(), "{what}: no reason"),
        }
    }
}

#[test]
fn a_test_fails_when_what_it_covers_is_taken_away() {
    if !programs::need_root() {
        return;
    }
    let asked = std::env::var("FERRY_TEST_MAP").unwrap_or_default();
    let map = surface::map().unwrap();
    let chosen = |at: usize, what: &str| match asked.as_str() {
        "" => at.is_multiple_of(SAMPLE),
        "all" => true,
        part => what.contains(part),
    };
    let entries: Vec<(Strip, Cover)> = map
        .into_iter()
        .enumerate()
        .filter(|(at, (what, _))| chosen(*at, what))
        .map(|(_, (what, cover))| (Strip::parse(&what).unwrap(), cover))
        .collect();
    let mut unnoticed = unnoticed_by_cases(&entries);
    unnoticed.extend(unnoticed_by_functions(&entries));
    assert!(unnoticed.is_empty(), "{} of {} not proven:\n{}", unnoticed.len(), entries.len(), unnoticed.join("\n"));
}

/// Runs the cases that cover something whole and without it, and names what makes no difference.
fn unnoticed_by_cases(entries: &[(Strip, Cover)]) -> Vec<String> {
    let cases = cases();
    let mut by_case: BTreeMap<(String, String), Vec<&Strip>> = BTreeMap::new();
    for (strip, cover) in entries {
        if let Cover::Case(area, case) = cover {
            by_case.entry((area.clone(), case.clone())).or_default().push(strip);
        }
    }
    let work: Vec<((String, String), Vec<&Strip>)> = by_case.into_iter().collect();
    let engines = pool::start(work.len(), || Engine::ferry_by_ferry(Material::get())).unwrap();
    let done = pool::run(&engines, &work, |engine, (name, strips)| {
        let case = &cases[name];
        let whole = engine.runner().case(case);
        strips
            .iter()
            .filter(|strip| {
                let unnoticed = !noticed(engine, case, &whole, strip);
                // Without what is taken away a case may remove what the next ones begin with.
                engine.load_images().unwrap();
                unnoticed
            })
            .map(|strip| format!("{strip}: {}/{} is the same without it", name.0, name.1))
            .collect::<Vec<_>>()
    });
    done.into_iter().flat_map(|done| done.value).collect()
}

fn noticed(engine: &Engine, case: &Case, whole: &[Answer], strip: &Strip) -> bool {
    let unmarked = Case { marks: Vec::new(), ..case.clone() };
    let recording = Recording { cases: [(case.name.clone(), whole.to_vec())].into(), ..Recording::default() };
    let without = engine.runner_without(strip).unwrap().case_beside(case, whole);
    judge(&unmarked, &without, &recording, None, "ferry") != Verdict::Same
}

/// Runs the test functions that cover something without it, and names those that pass.
fn unnoticed_by_functions(entries: &[(Strip, Cover)]) -> Vec<String> {
    let work: Vec<(&Strip, &String)> = entries
        .iter()
        .filter_map(|(strip, cover)| match cover {
            Cover::Test(name) => Some((strip, name)),
            _ => None,
        })
        .collect();
    let done = pool::run(&[(), ()], &work, |(), (strip, name)| {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", name]).env(strip::VARIABLE, strip.to_string());
        // What a test waits for in vain, it waits for until its own limit; one that does not end has noticed as well.
        let outcome = Running::start(test, b"").unwrap().finish(3 * command::LIMIT);
        outcome.is_ok_and(|outcome| outcome.code == 0).then(|| format!("{strip}: {name} passes without it"))
    });
    done.into_iter().filter_map(|done| done.value).collect()
}
