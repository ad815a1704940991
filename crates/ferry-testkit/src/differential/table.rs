//! The table of command lines.
//!
//! ```text
//! # a comment
//! ## exit-code                     a case; each starts without containers, volumes and tags of others
//! known: not built yet             this case may differ, for this reason
//! only: newest                     not asked of the older oracle
//! docker run --rm busybox sh -c 'exit 3'
//! @inspect name HostConfig.Memory  compares these fields of `docker inspect name`
//! ```

use anyhow::{Result, bail, ensure};

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
}

impl Step {
    /// Returns the step as it is written in the table.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Line(line) => line.clone(),
            Self::Inspect { object, paths } => format!("@inspect {object} {}", paths.join(" ")),
        }
    }
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Unique name.
    pub name: String,
    /// Why it is known to differ.
    pub known: Option<String>,
    /// Whether only the newest oracle is asked.
    pub newest_only: bool,
    /// The steps, in order.
    pub steps: Vec<Step>,
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
            cases.push(Case { name: name.to_owned(), known: None, newest_only: false, steps: Vec::new() });
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(case) = cases.last_mut() else { bail!("line {number}: a step outside of a case") };
        if let Some(reason) = line.strip_prefix("known: ") {
            case.known = Some(reason.to_owned());
        } else if let Some(which) = line.strip_prefix("only: ") {
            ensure!(which == "newest", "line {number}: `only: newest` is all there is");
            case.newest_only = true;
        } else {
            case.steps.push(step(line, number)?);
        }
    }
    Ok(cases)
}

fn step(line: &str, number: usize) -> Result<Step> {
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
        let cases = parse("# c\n## one\nknown: later\nonly: newest\ndocker ps\n@inspect a State.Pid Config\n").unwrap();
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].known.as_deref(), Some("later"));
        assert!(cases[0].newest_only);
        assert_eq!(cases[0].steps[1].text(), "@inspect a State.Pid Config");
    }

    #[test]
    fn what_does_not_fit_is_named_by_line() {
        for (text, line) in [("docker ps", "line 1"), ("## a\n## a", "line 2"), ("## a\n\n@inspect b", "line 3")] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
    }
}
