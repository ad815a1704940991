//! A Dockerfile as it comes out: the stages that are needed, variables replaced, instructions of ONBUILD in their place.

use std::fmt::Write as _;

use ferry_dockerfile::Instruction;
use ferry_dockerfile::expand::{Environment, Lexer};

use super::stages::{Origin, Stage, Stages};

/// Writes all stages that the target needs.
pub(super) fn render(stages: &Stages<'_>) -> String {
    let mut text = String::new();
    if stages.lexer.escape != '\\' {
        let _ = writeln!(text, "# escape={}\n", stages.lexer.escape);
    }
    let shown: Vec<usize> = stages.reachable.iter().copied().filter(|index| !stages.list[*index].is_image).collect();
    for (at, index) in shown.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        let stage = &stages.list[*index];
        let _ = writeln!(text, "{}", from(stages, stage));
        for line in &stage.resolved {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

fn from(stages: &Stages<'_>, stage: &Stage) -> String {
    let mut line = "FROM ".to_owned();
    if !stage.from.platform.is_empty()
        && let Some(platform) = &stage.platform
    {
        let _ = write!(line, "--platform={platform} ");
    }
    let base = stage.base.map(|base| (base, &stages.list[base].written_name));
    match (base, &stage.origin) {
        (Some((_, name)), _) if !name.is_empty() => line.push_str(name),
        (Some((base, _)), _) => {
            let _ = write!(line, "{base}");
        }
        (None, Origin::Scratch) => line.push_str("scratch"),
        (None, Origin::Image { reference, .. } | Origin::Layout { reference, .. }) => line.push_str(reference),
        (None, Origin::Input { name, .. } | Origin::Local { name, .. }) => line.push_str(name),
        (None, Origin::Git { address }) => line.push_str(address),
        (None, Origin::Http { url, .. }) => line.push_str(url),
    }
    if !stage.written_name.is_empty() {
        let _ = write!(line, " AS {}", stage.written_name);
    }
    line
}

/// Writes an instruction before it is carried out. What a shell will resolve is left to it.
pub(super) fn line(source: &str, instruction: &Instruction, lexer: &Lexer, variables: &Environment) -> String {
    let lexer = Lexer { keep_quotes: true, keep_escapes: true, ..*lexer };
    let text = match instruction {
        Instruction::Run(_)
        | Instruction::Cmd(_)
        | Instruction::Entrypoint(_)
        | Instruction::Healthcheck(_)
        | Instruction::OnBuild(_)
        | Instruction::Shell(_)
        | Instruction::Maintainer(_)
        | Instruction::Arg(_) => source.to_owned(),
        _ => lexer.text(source, variables).map_or_else(|_| source.to_owned(), |expanded| expanded.text),
    };
    let mut text = match text.split_once(char::is_whitespace) {
        Some((keyword, rest)) => format!("{} {}", keyword.to_uppercase(), rest.trim_start()),
        None => text.to_uppercase(),
    };
    let mut document = |name: &str, content: &str| {
        let _ = write!(text, "\n{content}{name}");
    };
    match instruction {
        Instruction::Run(run) => run.command.heredocs.iter().for_each(|one| document(&one.name, &one.content)),
        Instruction::Copy(copy) => copy.sources.inline.iter().for_each(|one| document(&one.name, &one.content)),
        Instruction::Add(add) => add.sources.inline.iter().for_each(|one| document(&one.name, &one.content)),
        _ => {}
    }
    text
}

/// Writes an ARG with the values that it has come to.
pub(super) fn argument(names: &[String], variables: &Environment) -> String {
    let shown = names.iter().map(|name| match variables.value(name) {
        Some(value) => format!("{name}={}", ferry_dockerfile::quoted(value)),
        None => name.clone(),
    });
    format!("ARG {}", shown.collect::<Vec<_>>().join(" "))
}
