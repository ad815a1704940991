//! A whole Dockerfile.

use crate::check::{CONSISTENT_INSTRUCTION_CASING, Checks, DUPLICATE_STAGE_NAME, RESERVED_STAGE_NAME};
use crate::error::{ParseError, ParseErrorCause};
use crate::instruction::{self, ArgDefinition, Instruction};
use crate::source::Lines;
use crate::syntax;

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character: `\`, or the one of `# escape=`.
    pub escape: char,
    /// ARG before the first FROM, each with where it is.
    pub global_args: Vec<GlobalArg>,
    /// The stages, in order; never none.
    pub stages: Vec<Stage>,
}

/// An ARG before the first FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalArg {
    /// The names it declares.
    pub definitions: Vec<ArgDefinition>,
    /// Where it is.
    pub lines: Lines,
}

/// A FROM and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Name after AS, in lower case; empty without.
    pub name: String,
    /// What it begins with: an image, another stage, `scratch`; variables are still in it.
    pub base: String,
    /// `--platform`; empty without.
    pub platform: String,
    /// The FROM, as its keyword is written.
    pub keyword: String,
    /// Its instructions.
    pub statements: Vec<Statement>,
    /// What a comment above says of it.
    pub description: Option<String>,
    /// The FROM line, continuations joined.
    pub source: String,
    /// Where the FROM is.
    pub lines: Lines,
    /// The comments right above.
    pub comments: Vec<String>,
}

/// An instruction with where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The instruction.
    pub instruction: Instruction,
    /// Its keyword, as written.
    pub keyword: String,
    /// Its line, continuations joined, here-documents left out.
    pub source: String,
    /// Where it is.
    pub lines: Lines,
    /// The comments right above.
    pub comments: Vec<String>,
}

impl Dockerfile {
    /// Reads a Dockerfile; warnings go to `checks`.
    ///
    /// # Errors
    /// [`ParseError`] with BuildKit's text and the lines to show.
    pub fn parse(source: &str, checks: &mut Checks) -> Result<Self, ParseError> {
        if source.is_empty() {
            return Err(ParseError::new(ParseErrorCause::Empty, []));
        }
        let syntax = syntax::parse(source, checks)?;
        let mut global_args = Vec::new();
        let mut stages: Vec<Stage> = Vec::new();
        for line in syntax.lines {
            let lines = line.lines;
            let wrong = |cause| {
                let cause = ParseErrorCause::Instruction { line: lines.first, cause: Box::new(cause) };
                ParseError::new(cause, [lines])
            };
            if line.keyword.eq_ignore_ascii_case("from") {
                stages.push(instruction::parse_from(line, checks).map_err(wrong)?);
                continue;
            }
            let statement = instruction::parse_statement(line, checks).map_err(wrong)?;
            match (stages.last_mut(), statement) {
                (Some(stage), statement) => stage.statements.push(statement),
                (None, Statement { instruction: Instruction::Arg(definitions), lines, .. }) => {
                    global_args.push(GlobalArg { definitions, lines });
                }
                (None, _) => return Err(ParseError::new(ParseErrorCause::OutsideStage, [lines])),
            }
        }
        if stages.is_empty() {
            return Err(ParseError::new(ParseErrorCause::NoStages, []));
        }
        let file = Self { escape: syntax.escape, global_args, stages };
        file.check_stage_names(checks);
        file.check_casing(checks);
        Ok(file)
    }

    /// Reads instructions that stand for themselves, such as those of ONBUILD.
    ///
    /// # Errors
    /// [`ParseError`] with BuildKit's text.
    pub fn parse_fragment(source: &str) -> Result<Vec<Statement>, ParseError> {
        let mut checks = Checks::default();
        let statement = |line| {
            instruction::parse_statement(line, &mut Checks::default())
                .map_err(|cause| ParseError::new(ParseErrorCause::Trigger(Box::new(cause)), []))
        };
        syntax::parse(source, &mut checks)?.lines.into_iter().map(statement).collect()
    }

    /// Returns the stage with a name, whatever its case; the last one when there are several.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.stages.iter().rposition(|stage| !stage.name.is_empty() && stage.name == name)
    }

    fn check_stage_names(&self, checks: &mut Checks) {
        for (index, stage) in self.stages.iter().enumerate() {
            if stage.name.is_empty() {
                continue;
            }
            if matches!(stage.name.as_str(), "context" | "scratch") {
                let detail = format!("Stage name should not use the same name as reserved stage {:?}", stage.name);
                checks.report(&RESERVED_STAGE_NAME, stage.lines, detail, &[]);
            }
            if self.stages[..index].iter().any(|other| other.name == stage.name) {
                let detail = format!("Duplicate stage name {:?}, stage names should be unique", stage.name);
                checks.report(&DUPLICATE_STAGE_NAME, stage.lines, detail, &[]);
            }
        }
    }

    /// Keywords should all be written as most of them are.
    fn check_casing(&self, checks: &mut Checks) {
        let mut keywords: Vec<(&str, Lines)> = Vec::new();
        for stage in &self.stages {
            keywords.push((&stage.keyword, stage.lines));
            keywords.extend(stage.statements.iter().map(|statement| (statement.keyword.as_str(), statement.lines)));
        }
        let lower = keywords.iter().filter(|(keyword, _)| is_lower(keyword)).count();
        let upper = keywords.iter().filter(|(keyword, _)| !is_lower(keyword) && is_upper(keyword)).count();
        let (right, wanted): (fn(&str) -> bool, &str) =
            if lower > upper { (is_lower, "lowercase") } else { (is_upper, "uppercase") };
        for (keyword, lines) in keywords.into_iter().filter(|(keyword, _)| !right(keyword)) {
            let detail = format!("Command '{keyword}' should match the case of the command majority ({wanted})");
            checks.report(&CONSISTENT_INSTRUCTION_CASING, lines, detail, &[]);
        }
    }
}

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}

#[cfg(test)]
mod tests;
