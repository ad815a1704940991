//! Build checks: rules that a Dockerfile had better keep, with BuildKit's names and texts.

mod options;
mod rules;

pub use options::{CheckOptions, CheckOptionsError};
pub use rules::*;

use crate::source::{Lines, excerpt};

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as in `# check=skip=`.
    pub name: &'static str,
    /// What it asks for.
    pub description: &'static str,
    /// A page about it; empty without one.
    pub url: &'static str,
    /// It is checked only when asked for.
    pub experimental: bool,
}

/// A rule that is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule.
    pub rule: &'static Rule,
    /// What does not keep it.
    pub detail: String,
    /// Where.
    pub lines: Lines,
}

impl Warning {
    /// Returns the one line that a build shows: `StageNameCasing: Stage name 'A' should be lowercase (line 1)`.
    #[must_use]
    pub fn short(&self) -> String {
        let line = if self.lines.first > 0 { format!(" (line {})", self.lines.first) } else { String::new() };
        format!("{}: {}{line}", self.rule.name, self.detail)
    }
}

/// Collects warnings, leaving out those that are not wanted.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    options: CheckOptions,
    warnings: Vec<Warning>,
}

impl Checks {
    /// Returns a collector.
    #[must_use]
    pub fn new(options: CheckOptions) -> Self {
        Self { options, warnings: Vec::new() }
    }

    /// Returns the collector that a file asks for by its `# check=`.
    ///
    /// # Errors
    /// [`CheckOptionsError`] when that is malformed.
    pub fn of_file(source: &str) -> Result<Self, CheckOptionsError> {
        let value = crate::directive::find(source, "check").map(|directive| directive.value).unwrap_or_default();
        Ok(Self::new(CheckOptions::parse(value.split(' ').next().unwrap_or_default())?))
    }

    /// Adds a warning, unless the options, or a `check=` in the comments above the instruction, say no.
    pub fn report(&mut self, rule: &'static Rule, lines: Lines, detail: String, comments: &[String]) {
        if self.options.with_comments(comments).wants(rule) {
            self.warnings.push(Warning { rule, detail, lines });
        }
    }

    /// Returns the warnings, in the order they came.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Takes the warnings out.
    #[must_use]
    pub fn into_warnings(self) -> Vec<Warning> {
        self.warnings
    }

    /// Returns the error that a build ends with when `# check=error=true` and there are warnings.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        if !self.options.error || self.warnings.is_empty() {
            return None;
        }
        let mut rules: Vec<&str> = self.warnings.iter().map(|warning| warning.rule.name).collect();
        rules.sort_unstable();
        rules.dedup();
        Some(Violation { rules: rules.join(", ") })
    }
}

/// Rules are not kept, and must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lint violation found for rules: {rules}")]
pub struct Violation {
    rules: String,
}

/// Returns what `--check` prints about warnings: each with its page and its lines, in order of the lines.
#[must_use]
pub fn render(warnings: &[Warning], name: &str, source: &str) -> String {
    let mut sorted: Vec<&Warning> = warnings.iter().collect();
    sorted.sort_by_key(|warning| warning.lines.first);
    sorted.into_iter().map(|warning| render_one(warning, name, source)).collect()
}

fn render_one(warning: &Warning, name: &str, source: &str) -> String {
    let url = if warning.rule.url.is_empty() { String::new() } else { format!(" - {}", warning.rule.url) };
    let lines = excerpt(name, source, &[warning.lines]).unwrap_or_default();
    format!("\nWARNING: {}{url}\n{}\n{lines}", warning.rule.name, warning.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_options_silence_rules() {
        let mut checks = Checks::of_file("# check=skip=StageNameCasing\nFROM a").unwrap();
        checks.report(&STAGE_NAME_CASING, Lines::single(1), "a".into(), &[]);
        checks.report(&FROM_AS_CASING, Lines::single(1), "b".into(), &["check=skip=FromAsCasing".into()]);
        checks.report(&INVALID_DEFINITION_DESCRIPTION, Lines::single(1), "c".into(), &[]);
        assert_eq!(checks.warnings(), []);
        checks.report(&FROM_AS_CASING, Lines::single(3), "d".into(), &[]);
        let experimental = ["check=experimental=all".to_owned()];
        checks.report(&INVALID_DEFINITION_DESCRIPTION, Lines::single(1), "e".into(), &experimental);
        let shorts: Vec<String> = checks.warnings().iter().map(Warning::short).collect();
        assert_eq!(shorts, ["FromAsCasing: d (line 3)", "InvalidDefinitionDescription: e (line 1)"]);
        assert_eq!(checks.violation(), None);
    }

    #[test]
    fn violations_name_each_rule_once() {
        let mut checks = Checks::of_file("# check=error=true\nFROM a").unwrap();
        assert_eq!(checks.violation(), None);
        for rule in [&STAGE_NAME_CASING, &FROM_AS_CASING, &FROM_AS_CASING] {
            checks.report(rule, Lines::single(1), String::new(), &[]);
        }
        let text = checks.violation().unwrap().to_string();
        assert_eq!(text, "lint violation found for rules: FromAsCasing, StageNameCasing");
    }

    #[test]
    fn rendered_as_check_prints_them() {
        let warning = Warning {
            rule: &STAGE_NAME_CASING,
            detail: "Stage name 'A' should be lowercase".into(),
            lines: Lines::single(1),
        };
        assert_eq!(
            render(&[warning], "Dockerfile", "FROM a AS A"),
            "\nWARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\nStage name 'A' should be lowercase\nDockerfile:1\n--------------------\n   1 | >>> FROM a AS A\n--------------------\n"
        );
    }
}
