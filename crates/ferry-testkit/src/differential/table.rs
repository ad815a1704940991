//! The table of command lines: one file of cases per area, `tests/oracle/cases/AREA.txt`.
//!
//! ```text
//! # a comment
//! ## exit-code                     a case; each starts without containers, volumes and tags of others
//! missing: not built yet           this case may differ in everything, and has to agree one day
//! known: ferry says more           its texts and fields may differ for good, its exit codes not
//! known older: ferry says more     the same, but of one replay only: older, newest or ferry
//! only: newest                     not asked of the older oracle
//! docker run --rm busybox sh -c 'exit 3'
//! @inspect name HostConfig.Memory  compares these fields of `docker inspect name`
//! @api GET /containers/json?all=1  speaks the API itself, see `request`
//! ```

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::request::Request;

/// One line of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A shell line in which `docker` is the client under test.
    Line(String),
    /// Fields of an object, by path.
    Inspect {
        /// Name or id.
        object: String,
        /// Paths such as `HostConfig.Memory`.
        paths: Vec<String>,
    },
    /// A request.
    Api(Request),
}

impl Step {
    /// Returns the step as it is written in the table.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Line(line) => line.clone(),
            Self::Inspect { object, paths } => format!("@inspect {object} {}", paths.join(" ")),
            Self::Api(request) => request.text().to_owned(),
        }
    }
}

/// How a case may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// In texts and fields, for good.
    Texts,
    /// In everything, until it is built.
    Everything,
}

/// Says that a case is known to differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// In what.
    pub extent: Extent,
    /// In which replay; `None` is all of them.
    pub replay: Option<String>,
    /// Why.
    pub reason: String,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Unique within its area.
    pub name: String,
    /// How it is known to differ.
    pub marks: Vec<Mark>,
    /// Whether only the newest oracle is asked.
    pub newest_only: bool,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Case {
    /// Returns the mark that holds in a replay.
    #[must_use]
    pub fn mark(&self, replay: &str) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.replay.as_deref().is_none_or(|one| one == replay))
    }
}

/// The cases of one area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Name of its files.
    pub name: String,
    /// Its cases, in order.
    pub cases: Vec<Case>,
}

/// Reads every area below the folder of the tables, by name.
///
/// # Errors
/// Names the file and line that does not fit.
pub fn read(folder: &Path) -> Result<Vec<Area>> {
    let mut areas = Vec::new();
    for entry in std::fs::read_dir(folder.join("cases")).context("list the areas of the table")? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        areas.push(Area { cases: parse(&text).with_context(|| format!("in {}", path.display()))?, name });
    }
    areas.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(areas)
}

/// Says whether a case is asked for: `wanted` holds parts of `AREA/CASE`; none asks for all.
#[must_use]
pub fn wanted(area: &str, case: &str, wanted: &[String]) -> bool {
    let whole = format!("{area}/{case}");
    wanted.is_empty()
        || wanted.iter().any(|part| part == area || (part.contains('/') && whole.starts_with(part.as_str())))
        || wanted.iter().any(|part| !part.contains('/') && case.contains(part.as_str()))
}

/// Reads a table.
///
/// # Errors
/// Names the line that does not fit.
pub fn parse(text: &str) -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if let Some(name) = line.strip_prefix("## ") {
            ensure!(!cases.iter().any(|case| case.name == name), "line {number}: a second case `{name}`");
            cases.push(Case { name: name.to_owned(), marks: Vec::new(), newest_only: false, steps: Vec::new() });
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(case) = cases.last_mut() else { bail!("line {number}: a step outside of a case") };
        if let Some(mark) = mark(line) {
            case.marks.push(mark.with_context(|| format!("line {number}"))?);
        } else if let Some(which) = line.strip_prefix("only: ") {
            ensure!(which == "newest", "line {number}: `only: newest` is all there is");
            case.newest_only = true;
        } else {
            case.steps.push(step(line, number)?);
        }
    }
    Ok(cases)
}

fn mark(line: &str) -> Option<Result<Mark>> {
    let (head, reason) = line.split_once(": ")?;
    let (word, replay) = head.split_once(' ').map_or((head, None), |(word, replay)| (word, Some(replay)));
    let extent = match word {
        "known" => Extent::Texts,
        "missing" => Extent::Everything,
        _ => return None,
    };
    let there_is = replay.is_none_or(|replay| matches!(replay, "older" | "newest" | "ferry"));
    let mark = Mark { extent, replay: replay.map(str::to_owned), reason: reason.to_owned() };
    Some(if there_is { Ok(mark) } else { Err(anyhow::anyhow!("no replay is called {}", replay.unwrap_or_default())) })
}

fn step(line: &str, number: usize) -> Result<Step> {
    if line.starts_with("@api ") {
        return Request::parse(line).map(Step::Api).with_context(|| format!("line {number}"));
    }
    let Some(rest) = line.strip_prefix("@inspect ") else { return Ok(Step::Line(line.to_owned())) };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (object, paths) = (words.next(), words.collect::<Vec<_>>());
    match object {
        Some(object) if !paths.is_empty() => Ok(Step::Inspect { object, paths }),
        _ => bail!("line {number}: `@inspect OBJECT PATH...` needs a path"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_marks_and_steps() {
        let text = "# c\n## one\nknown older: later\nmissing ferry: now\nonly: newest\ndocker ps\n\
                    @inspect a State.Pid Config\n";
        let cases = parse(text).unwrap();
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].mark("older").map(|mark| mark.extent), Some(Extent::Texts));
        assert_eq!(cases[0].mark("ferry").map(|mark| mark.extent), Some(Extent::Everything));
        assert_eq!(cases[0].mark("newest"), None);
        assert!(cases[0].newest_only);
        assert_eq!(cases[0].steps[1].text(), "@inspect a State.Pid Config");
    }

    #[test]
    fn what_does_not_fit_is_named_by_line() {
        for (text, line) in [
            ("docker ps", "line 1"),
            ("## a\n## a", "line 2"),
            ("## a\n\n@inspect b", "line 3"),
            ("## a\nknown all: b", "line 2"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn cases_are_asked_for_by_area_or_part_of_a_name() {
        let asked = |text: &str| wanted("run", "run-env", &[text.to_owned()]);
        assert!(wanted("run", "run-env", &[]));
        assert!(asked("run") && asked("env") && asked("run/run-e") && asked("run/"));
        assert!(!asked("ps") && !asked("ps/env") && !asked("run/env"));
    }
}
