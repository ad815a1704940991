//! What the table of command lines holds, without running it: how wide it is, and what may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ferry_testkit::differential::record::Recording;
use ferry_testkit::differential::table::{self, Case, Extent, Step};
use ferry_testkit::differential::words;
use ferry_testkit::surface::{self, Cover, Flag};
use ferry_testkit::{bad_values, programs, strip};

/// Areas with a line for each flag, and the commands that each of them is about.
const FLAG_AREAS: [(&str, &[&str]); 3] = [("create-flags", &["create"]), ("run-flags", &["run"]), ("other-flags", &[])];
/// What lines about other flags cannot do without, so that it may stand in more than two of them.
const SCAFFOLD: [&str; 9] =
    ["--name", "--rm", "--detach", "--all", "--format", "--no-stream", "--network", "--volume", "--memory"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle")
}

/// A line of the table with what the newest Docker said to it.
struct Line {
    area: String,
    code: i32,
    flags: Vec<Flag>,
}

/// Groups of commands that are not about containers; a flag's command is named `group-verb` there.
const OTHER_GROUPS: [&str; 14] = [
    "bake", "build", "builder", "context", "docker", "image", "login", "manifest", "network", "plugin", "search",
    "system", "version", "volume",
];

/// The flags of commands of containers.
fn container_flags() -> Vec<Flag> {
    let is_other = |command: &str| OTHER_GROUPS.contains(&command.split(['-', ' ']).next().unwrap_or_default());
    surface::flags().into_iter().filter(|flag| !is_other(&flag.command)).collect()
}

/// Every line that uses a command of containers.
fn lines() -> Vec<Line> {
    let known = container_flags();
    let commands: BTreeSet<&str> = known.iter().map(|flag| flag.command.as_str()).collect();
    let others = ["ps", "container", "commit", "diff", "pause", "port", "rename", "top", "unpause", "wait"];
    let is_ours = |words: &Vec<String>| {
        words.first().is_some_and(|first| {
            (commands.contains(first.as_str()) && !matches!(first.as_str(), "ls" | "prune"))
                || others.contains(&first.as_str())
        })
    };
    let mut lines = Vec::new();
    for area in table::read(&folder()).unwrap() {
        let recording = Recording::of(&folder(), "newest", &area.name).unwrap();
        for (case, at, text) in area.cases.iter().flat_map(shell_lines) {
            let clients: Vec<Vec<String>> = words::clients(text).into_iter().filter(is_ours).collect();
            if clients.is_empty() {
                continue;
            }
            let recorded = recording.cases.get(&case.name).and_then(|answers| answers.get(at));
            lines.push(Line {
                area: area.name.clone(),
                code: recorded.map_or(-1, |answer| answer.code),
                flags: clients.iter().flat_map(|client| strip::flags_used(client, &known)).collect(),
            });
        }
    }
    lines
}

fn shell_lines(case: &Case) -> impl Iterator<Item = (&Case, usize, &str)> {
    case.steps.iter().enumerate().filter_map(move |(at, step)| match step {
        Step::Line(text) => Some((case, at, text.as_str())),
        _ => None,
    })
}

/// What differs for good is told to users, and hits no flag of every day.
#[test]
fn every_known_difference_is_explained() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let document = std::fs::read_to_string(document).unwrap();
    let map = surface::map().unwrap();
    let tier = |what: &str| surface::flags().into_iter().find(|flag| format!("{} {}", flag.command, flag.flag) == what);
    for area in table::read(&folder()).unwrap() {
        for case in area.cases.iter().filter(|case| case.marks.iter().any(|mark| mark.extent == Extent::Texts)) {
            let name = format!("{}/{}", area.name, case.name);
            assert!(document.contains(&format!("`{name}`")), "docs/compatibility.md does not explain {name}");
            let covered = Cover::Case(area.name.clone(), case.name.clone());
            for (what, _) in map.iter().filter(|(_, cover)| **cover == covered) {
                assert!(tier(what).is_none_or(|flag| flag.tier > 1), "{what} is of every day, and {name} differs");
            }
        }
    }
}

/// Nothing of containers is left to be built: a case that covers a flag, an endpoint or a parameter of theirs is equal.
#[test]
fn no_case_that_covers_something_of_containers_is_missing() {
    let covering: BTreeSet<(String, String)> = surface::map()
        .unwrap()
        .into_values()
        .filter_map(|cover| match cover {
            Cover::Case(area, case) => Some((area, case)),
            _ => None,
        })
        .collect();
    let mut missing = Vec::new();
    for area in table::read(&folder()).unwrap() {
        let is_flags = FLAG_AREAS.iter().any(|(name, _)| *name == area.name);
        for case in area.cases.iter().filter(|case| case.marks.iter().any(|mark| mark.extent == Extent::Everything)) {
            if is_flags || covering.contains(&(area.name.clone(), case.name.clone())) {
                missing.push(format!("{}/{}", area.name, case.name));
            }
        }
    }
    assert!(missing.is_empty(), "marked as missing: {missing:?}");
}

/// The table is wide: at least one line for each flag of every day, and not more than two in its area.
#[test]
fn every_flag_of_every_day_has_a_line_or_two() {
    let lines = lines();
    assert!(lines.len() >= 250, "{} lines use containers", lines.len());
    let (mut without, mut crowded) = (Vec::new(), Vec::new());
    for flag in container_flags().into_iter().filter(|flag| flag.tier == 1) {
        let uses: Vec<&Line> = lines.iter().filter(|line| line.flags.contains(&flag)).collect();
        if uses.is_empty() {
            without.push(format!("{} {}", flag.command, flag.flag));
        }
        // A line that is refused is there for a value that does not fit.
        let good = uses.iter().filter(|line| line.code == 0 && line.area == area_of(&flag.command)).count();
        if good > 2 && !SCAFFOLD.contains(&flag.flag.as_str()) {
            crowded.push(format!("{} {}: {good} lines", flag.command, flag.flag));
        }
    }
    assert!(without.is_empty(), "no line uses {without:?}");
    assert!(crowded.is_empty(), "more than two lines for {crowded:#?}");
}

/// The area that has the lines for a command's flags.
fn area_of(command: &str) -> &'static str {
    let found = FLAG_AREAS.iter().find(|(_, commands)| commands.contains(&command));
    found.map_or("other-flags", |(area, _)| area)
}

/// Options that take every text there is, and what becomes of it.
const TAKE_ANYTHING: [(&str, &str); 7] = [
    ("--author", "a name"),
    ("--cgroup-parent", "the name of a group"),
    ("--dns-opt", "a word of resolv.conf"),
    ("--dns-option", "a word of resolv.conf"),
    ("--domainname", "a name"),
    ("--message", "a text"),
    ("--tail", "what is no number means all lines"),
];

/// A value that does not fit is refused with Docker's code and words, for every option that has such values.
#[test]
fn every_option_has_a_line_with_a_value_that_does_not_fit() {
    let refused: Vec<Line> = lines().into_iter().filter(|line| line.code != 0).collect();
    let same = |one: &Flag, other: &Flag| {
        let command = |flag: &Flag| if flag.command == "create" { "run".to_owned() } else { flag.command.clone() };
        one.flag == other.flag && command(one) == command(other)
    };
    let takes_anything: BTreeMap<&str, &str> = TAKE_ANYTHING.into_iter().collect();
    let mut without = BTreeSet::new();
    for flag in container_flags().into_iter().filter(|flag| flag.takes_value) {
        let has = refused.iter().any(|line| line.flags.iter().any(|one| same(one, &flag)));
        let excused = takes_anything.contains_key(flag.flag.as_str());
        assert!(!(has && excused), "{} is refused somewhere", flag.flag);
        if !has && !excused {
            without.insert(format!("{} {}", flag.command, flag.flag));
        }
    }
    assert!(without.is_empty(), "no line gives a bad value to {without:?}");
    let rows = bad_values::read(&folder().join("bad-values")).unwrap();
    assert!(rows.len() >= 200, "{} requests with bad values", rows.len());
}

/// A test that does nothing says so by the harness, which lets nothing pass but what is on its list.
#[test]
fn no_test_is_skipped_by_itself() {
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for word in [concat!("\"SKI", "PPED"), concat!("#[ign", "ore")] {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
    assert_eq!(programs::MAY_BE_SKIPPED.len(), 2, "the list of what may be skipped");
}
