//! What a build can be given: its arguments, secrets, agents and targets.

use std::collections::{BTreeMap, BTreeSet};

use ferry_dockerfile::check::Checks;
use ferry_dockerfile::{Dockerfile, Lines, ParseError};

use super::args::ArgFact;
use super::stages::{Stage, Stages};

/// What a target can be given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outline {
    /// The target's name; empty without.
    pub name: String,
    /// What a comment says of it.
    pub description: Option<String>,
    /// Arguments, in order of their places.
    pub args: Vec<OutlineArg>,
    /// Secrets, in order of their places.
    pub secrets: Vec<OutlineSecret>,
    /// SSH agents, in order of their places.
    pub agents: Vec<OutlineSecret>,
}

/// An argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What a comment says of it.
    pub description: Option<String>,
    /// Where it is declared.
    pub lines: Lines,
}

/// A secret or an SSH agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineSecret {
    /// Its id.
    pub name: String,
    /// The build fails without.
    pub required: bool,
    /// Where it is first used.
    pub lines: Lines,
}

/// A stage that can be a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name; empty without.
    pub name: String,
    /// What a comment says of it.
    pub description: Option<String>,
    /// It is built when no other is asked for.
    pub is_default: bool,
    /// What it begins with, as written.
    pub base: String,
    /// Its platform, as written.
    pub platform: String,
    /// Where its FROM is.
    pub lines: Lines,
}

/// A secret or agent that an instruction wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) required: bool,
    pub(super) lines: Lines,
}

/// Returns the stages of a file that can be targets.
///
/// # Errors
/// [`ParseError`] when the file is none.
pub fn targets(source: &str) -> Result<Vec<Target>, ParseError> {
    let file = Dockerfile::parse(source, &mut Checks::default())?;
    let last = file.stages.len() - 1;
    let target = |(index, stage): (usize, ferry_dockerfile::Stage)| Target {
        name: stage.name,
        description: stage.description,
        is_default: index == last,
        base: stage.base,
        platform: stage.platform,
        lines: stage.lines,
    };
    Ok(file.stages.into_iter().enumerate().map(target).collect())
}

impl Outline {
    /// Returns what `--call=outline` prints.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if !self.name.is_empty() || self.description.is_some() {
            let name = if self.name.is_empty() { "(default)" } else { &self.name };
            let mut rows = vec![vec!["TARGET:", name]];
            if let Some(description) = &self.description {
                rows.push(vec!["DESCRIPTION:", description]);
            }
            text.push_str(&table(&rows, 1));
            text.push('\n');
        }
        if !self.args.is_empty() {
            let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
            let description = |arg: &'_ OutlineArg| arg.description.clone().unwrap_or_default();
            let descriptions: Vec<String> = self.args.iter().map(description).collect();
            for (arg, description) in self.args.iter().zip(&descriptions) {
                rows.push(vec![&arg.name, &arg.value, description]);
            }
            text.push_str(&table(&rows, 3));
            text.push('\n');
        }
        for (title, secrets) in [("SECRET", &self.secrets), ("SSH", &self.agents)] {
            if secrets.is_empty() {
                continue;
            }
            let mut rows = vec![vec![title, "REQUIRED"]];
            for secret in secrets {
                rows.push(vec![&secret.name, if secret.required { "true" } else { "" }]);
            }
            text.push_str(&table(&rows, 3));
            text.push('\n');
        }
        text
    }
}

/// Returns what `--call=targets` prints.
#[must_use]
pub fn render_targets(targets: &[Target]) -> String {
    let name = |target: &Target| match (target.name.as_str(), target.is_default) {
        ("", true) => "(default)".to_owned(),
        (name, true) => format!("{name} (default)"),
        (name, false) => name.to_owned(),
    };
    let cells: Vec<(String, String)> =
        targets.iter().map(|target| (name(target), target.description.clone().unwrap_or_default())).collect();
    let mut rows = vec![vec!["TARGET", "DESCRIPTION"]];
    rows.extend(cells.iter().map(|(name, description)| vec![name.as_str(), description.as_str()]));
    table(&rows, 1)
}

/// Lays rows out in columns, each as wide as its widest cell and some spaces.
fn table(rows: &[Vec<&str>], padding: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < columns {
                let wanted = width(column).unwrap_or(0) + padding;
                text.extend(std::iter::repeat_n(' ', wanted - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

/// Gathers what the target and the stages it needs can be given.
pub(super) fn outline(stages: &Stages<'_>) -> Outline {
    let target = &stages.list[stages.target];
    let mut args = BTreeMap::new();
    let mut secrets = BTreeMap::new();
    let mut agents = BTreeMap::new();
    for &index in &stages.reachable {
        let stage = &stages.list[index];
        for name in used_args(stage) {
            if let Some(fact) = stage.arg_facts.get(&name) {
                args.entry(name).or_insert_with(|| arg(fact));
            }
        }
        add_wanted(&mut secrets, &stage.secrets);
        add_wanted(&mut agents, &stage.agents);
    }
    let mut args: Vec<OutlineArg> = args.into_values().collect();
    args.sort_by_key(|arg| arg.lines.first);
    Outline {
        name: target.written_name.clone(),
        description: target.from.description.clone(),
        args,
        secrets: sorted(secrets),
        agents: sorted(agents),
    }
}

fn arg(fact: &ArgFact) -> OutlineArg {
    OutlineArg {
        name: fact.definition.name.clone(),
        value: fact.value.clone(),
        description: fact.definition.description.clone(),
        lines: fact.lines,
    }
}

/// The arguments that a stage uses, and those that their defaults are made of.
fn used_args(stage: &Stage) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut waiting: Vec<String> = stage.used_args.iter().cloned().collect();
    while let Some(name) = waiting.pop() {
        if let Some(fact) = stage.arg_facts.get(&name).filter(|_| !used.contains(&name)) {
            waiting.extend(fact.needs.iter().cloned());
        }
        used.insert(name);
    }
    used
}

fn add_wanted(all: &mut BTreeMap<String, OutlineSecret>, wanted: &BTreeMap<String, Wanted>) {
    for (name, wanted) in wanted {
        let secret = OutlineSecret { name: name.clone(), required: wanted.required, lines: wanted.lines };
        all.entry(name.clone()).or_insert(secret);
    }
}

fn sorted(secrets: BTreeMap<String, OutlineSecret>) -> Vec<OutlineSecret> {
    let mut secrets: Vec<OutlineSecret> = secrets.into_values().collect();
    secrets.sort_by_key(|secret| secret.lines.first);
    secrets
}
