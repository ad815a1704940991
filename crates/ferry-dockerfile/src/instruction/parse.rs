//! The second pass: a logical line becomes an instruction.

use super::flags::{FlagError, Flags};
use super::health::{HealthError, Healthcheck};
use super::run::{Device, MountError, Run, RunMount, RunNetwork, Security};
use super::{Add, ArgDefinition, CommandLine, Copy, Form, InlineFile, Instruction, KeyValue, Sources};
use crate::check::{Checks, FROM_AS_CASING, INVALID_DEFINITION_DESCRIPTION, MAINTAINER_DEPRECATED, STAGE_NAME_CASING};
use crate::file::{Stage, Statement};
use crate::quote::quoted;
use crate::suggest::with_suggestion;
use crate::syntax::{Arguments, RawLine, heredoc_word};

const KEYWORDS: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Why a line is no instruction; texts as in BuildKit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstructionError {
    /// No instruction has this name; the text has a suggestion.
    #[error("{0}")]
    Unknown(String),
    /// Nothing behind the keyword.
    #[error("{0} requires at least one argument")]
    AtLeastOne(&'static str),
    /// Not one word behind the keyword.
    #[error("{0} requires exactly one argument")]
    ExactlyOne(&'static str),
    /// ADD or COPY without a destination.
    #[error("{0} requires at least two arguments, but only one was provided. Destination could not be determined")]
    NoDestination(&'static str),
    /// A here-document as the destination.
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    /// A `=` without a name before it.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// FROM with the wrong number of words.
    #[error("FROM requires either one or three arguments")]
    From,
    /// A stage name that is none.
    #[error("invalid name for build stage: {}, name can't start with a number or contain symbols", quoted(.0))]
    StageName(String),
    /// ONBUILD after ONBUILD.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnBuildChain,
    /// An instruction that cannot wait for another build.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnBuildTrigger(String),
    /// An empty path.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// Words that are no JSON list.
    #[error("{0} requires the arguments to be in JSON form")]
    NoJson(&'static str),
    /// A wrong flag.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// A wrong value of a RUN flag.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A wrong health check.
    #[error(transparent)]
    Health(#[from] HealthError),
}

/// Reads a FROM.
pub(crate) fn parse_from(line: RawLine, checks: &mut Checks) -> Result<Stage, InstructionError> {
    let words = line.arguments.words();
    if let [_, keyword, name, more @ ..] = words {
        check_from_casing(&line, keyword, Some(name).filter(|_| more.is_empty()), checks);
    }
    let name = stage_name(words)?;
    let mut flags = Flags::new();
    flags.text("platform").parse(&line.flags)?;
    if !name.is_empty() {
        check_description("FROM", &[&name], &line, checks);
    }
    Ok(Stage {
        base: words[0].clone(),
        platform: flags.value("platform").to_owned(),
        description: description(&line.comments, &name),
        name,
        keyword: line.keyword,
        statements: Vec::new(),
        source: line.source.trim().to_owned(),
        lines: line.lines,
        comments: line.comments,
    })
}

fn check_from_casing(line: &RawLine, keyword: &str, name: Option<&String>, checks: &mut Checks) {
    if let Some(name) = name.filter(|name| **name != name.to_lowercase()) {
        let detail = format!("Stage name '{name}' should be lowercase");
        checks.report(&STAGE_NAME_CASING, line.lines, detail, &line.comments);
    }
    let from = &line.keyword;
    let matches = if *from == from.to_lowercase() {
        keyword == keyword.to_lowercase()
    } else {
        // A keyword in both cases is another rule's matter.
        *from != from.to_uppercase() || keyword == keyword.to_uppercase()
    };
    if !matches {
        let detail = format!("'{keyword}' and '{from}' keywords' casing do not match");
        checks.report(&FROM_AS_CASING, line.lines, detail, &line.comments);
    }
}

fn stage_name(words: &[String]) -> Result<String, InstructionError> {
    match words {
        [_] => Ok(String::new()),
        [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let is_valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
                && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
            if is_valid { Ok(lower) } else { Err(InstructionError::StageName(name.clone())) }
        }
        _ => Err(InstructionError::From),
    }
}

/// Reads any instruction but FROM.
pub(crate) fn parse_statement(line: RawLine, checks: &mut Checks) -> Result<Statement, InstructionError> {
    let instruction = match line.keyword.to_lowercase().as_str() {
        "add" => Instruction::Add(add(&line)?),
        "arg" => {
            let definitions = arg(&line)?;
            let names: Vec<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
            check_description("ARG", &names, &line, checks);
            Instruction::Arg(definitions)
        }
        "cmd" => Instruction::Cmd(no_flags(&line).map(|()| command_line(&line))?),
        "copy" => Instruction::Copy(copy(&line)?),
        "entrypoint" => Instruction::Entrypoint(no_flags(&line).map(|()| command_line(&line))?),
        "env" => Instruction::Env(pairs(&line, "ENV")?),
        "expose" => Instruction::Expose(expose(&line)?),
        "healthcheck" => Instruction::Healthcheck(healthcheck(&line)?),
        "label" => Instruction::Label(pairs(&line, "LABEL")?),
        "maintainer" => {
            let detail = "Maintainer instruction is deprecated in favor of using label".to_owned();
            checks.report(&MAINTAINER_DEPRECATED, line.lines, detail, &line.comments);
            Instruction::Maintainer(one_word(&line, "MAINTAINER")?)
        }
        "onbuild" => Instruction::OnBuild(on_build(&line)?),
        "run" => Instruction::Run(run(&line)?),
        "shell" => Instruction::Shell(shell(&line)?),
        // STOPSIGNAL is the one instruction whose flags nobody looks at.
        "stopsignal" => match line.arguments.words() {
            [word] => Instruction::StopSignal(word.clone()),
            _ => return Err(InstructionError::ExactlyOne("STOPSIGNAL")),
        },
        "user" => Instruction::User(one_word(&line, "USER")?),
        "volume" => Instruction::Volume(volume(&line)?),
        "workdir" => Instruction::Workdir(one_word(&line, "WORKDIR")?),
        _ => return Err(unknown(&line.keyword)),
    };
    Ok(Statement {
        instruction,
        keyword: line.keyword,
        source: line.source.trim().to_owned(),
        lines: line.lines,
        comments: line.comments,
    })
}

fn unknown(keyword: &str) -> InstructionError {
    let message = format!("unknown instruction: {keyword}");
    InstructionError::Unknown(with_suggestion(message, keyword, KEYWORDS.iter().copied(), false))
}

fn no_flags(line: &RawLine) -> Result<(), FlagError> {
    Flags::new().parse(&line.flags)
}

fn one_word(line: &RawLine, name: &'static str) -> Result<String, InstructionError> {
    let [word] = line.arguments.words() else { return Err(InstructionError::ExactlyOne(name)) };
    no_flags(line)?;
    Ok(word.clone())
}

fn pairs(line: &RawLine, name: &'static str) -> Result<Vec<KeyValue>, InstructionError> {
    no_flags(line)?;
    let pairs = match &line.arguments {
        Arguments::Pairs(pairs) if !pairs.is_empty() => pairs,
        _ => return Err(InstructionError::AtLeastOne(name)),
    };
    if pairs.iter().any(|pair| pair.key.is_empty()) {
        return Err(InstructionError::BlankName(name));
    }
    Ok(pairs.clone())
}

fn command_line(line: &RawLine) -> CommandLine {
    CommandLine {
        words: line.arguments.words().to_vec(),
        form: if line.arguments.is_exec() { Form::Exec } else { Form::Shell },
        heredocs: line.heredocs.clone(),
    }
}

fn add(line: &RawLine) -> Result<Add, InstructionError> {
    let words = with_destination(line, "ADD")?;
    let mut flags = Flags::new();
    flags.text("chown").text("chmod").switch("link").switch("keep-git-dir").text("checksum").switch("unpack");
    flags.list("exclude").parse(&line.flags)?;
    Ok(Add {
        sources: sources(words, line, "ADD")?,
        chown: flags.value("chown").to_owned(),
        chmod: flags.value("chmod").to_owned(),
        link: flags.is_on("link"),
        exclude: flags.values("exclude").to_vec(),
        keep_git_dir: flags.choice("keep-git-dir"),
        checksum: flags.value("checksum").to_owned(),
        unpack: flags.choice("unpack"),
    })
}

fn copy(line: &RawLine) -> Result<Copy, InstructionError> {
    let words = with_destination(line, "COPY")?;
    let mut flags = Flags::new();
    flags.text("chown").text("from").text("chmod").switch("link").list("exclude").switch("parents");
    flags.parse(&line.flags)?;
    Ok(Copy {
        sources: sources(words, line, "COPY")?,
        from: flags.value("from").to_owned(),
        chown: flags.value("chown").to_owned(),
        chmod: flags.value("chmod").to_owned(),
        link: flags.is_on("link"),
        parents: flags.is_on("parents"),
        exclude: flags.values("exclude").to_vec(),
    })
}

fn with_destination<'a>(line: &'a RawLine, name: &'static str) -> Result<&'a [String], InstructionError> {
    let words = line.arguments.words();
    if words.len() < 2 { Err(InstructionError::NoDestination(name)) } else { Ok(words) }
}

fn sources(words: &[String], line: &RawLine, name: &'static str) -> Result<Sources, InstructionError> {
    let Some((destination, words)) = words.split_last() else { return Err(InstructionError::NoDestination(name)) };
    if heredoc_word(destination).is_ok_and(|heredoc| heredoc.is_some()) {
        return Err(InstructionError::HeredocDestination(name));
    }
    let mut sources = Sources { destination: destination.clone(), ..Sources::default() };
    for word in words {
        let Ok(Some(mut heredoc)) = heredoc_word(word) else {
            sources.paths.push(word.clone());
            continue;
        };
        if let Some(read) = line.heredocs.iter().rfind(|read| read.name == heredoc.name) {
            heredoc.content.clone_from(&read.content);
        }
        let content = heredoc.text();
        sources.inline.push(InlineFile { name: heredoc.name, content, expand: heredoc.expand });
    }
    Ok(sources)
}

fn arg(line: &RawLine) -> Result<Vec<ArgDefinition>, InstructionError> {
    let words = line.arguments.words();
    if words.is_empty() {
        return Err(InstructionError::AtLeastOne("ARG"));
    }
    let definition = |word: &String| {
        let (name, default) = match word.split_once('=') {
            Some(("", _)) => return Err(InstructionError::BlankName("ARG")),
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (word.as_str(), None),
        };
        Ok(ArgDefinition { name: name.to_owned(), default, description: description(&line.comments, name) })
    };
    words.iter().map(definition).collect()
}

fn expose(line: &RawLine) -> Result<Vec<String>, InstructionError> {
    let mut ports = line.arguments.words().to_vec();
    if ports.is_empty() {
        return Err(InstructionError::AtLeastOne("EXPOSE"));
    }
    no_flags(line)?;
    ports.sort();
    Ok(ports)
}

fn healthcheck(line: &RawLine) -> Result<Healthcheck, InstructionError> {
    let Some((kind, words)) = line.arguments.words().split_first() else {
        return Err(InstructionError::AtLeastOne("HEALTHCHECK"));
    };
    Ok(Healthcheck::parse(kind, words, line.arguments.is_exec(), &line.flags)?)
}

fn on_build(line: &RawLine) -> Result<String, InstructionError> {
    let Arguments::Nested(nested) = &line.arguments else { return Err(InstructionError::AtLeastOne("ONBUILD")) };
    no_flags(line)?;
    let trigger = nested.keyword.to_uppercase();
    match trigger.as_str() {
        "ONBUILD" => return Err(InstructionError::OnBuildChain),
        "MAINTAINER" | "FROM" => return Err(InstructionError::OnBuildTrigger(trigger)),
        _ => {}
    }
    let source = line.source.trim_start();
    let mut text = source[line.keyword.len()..].trim_start().to_owned();
    for heredoc in &line.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(text)
}

fn run(line: &RawLine) -> Result<Run, InstructionError> {
    let mut flags = Flags::new();
    flags.list("mount").text("network").text("security").list("device").parse(&line.flags)?;
    let or_default = |name: &str, default: &'static str| match flags.values(name).first() {
        Some(value) => value.clone(),
        None => default.to_owned(),
    };
    Ok(Run {
        command: command_line(line),
        devices: flags.values("device").iter().map(|text| Device::parse(text)).collect::<Result<_, _>>()?,
        mounts: flags.values("mount").iter().map(|text| RunMount::parse(text)).collect::<Result<_, _>>()?,
        network: RunNetwork::parse(&or_default("network", "default"))?,
        security: Security::parse(&or_default("security", "sandbox"))?,
        flags_used: flags.used(),
    })
}

fn shell(line: &RawLine) -> Result<Vec<String>, InstructionError> {
    no_flags(line)?;
    let words = line.arguments.words();
    if words.is_empty() {
        return Err(InstructionError::AtLeastOne("SHELL"));
    }
    if line.arguments.is_exec() { Ok(words.to_vec()) } else { Err(InstructionError::NoJson("SHELL")) }
}

fn volume(line: &RawLine) -> Result<Vec<String>, InstructionError> {
    let words = line.arguments.words();
    if words.is_empty() {
        return Err(InstructionError::AtLeastOne("VOLUME"));
    }
    no_flags(line)?;
    let volumes: Vec<String> = words.iter().map(|word| word.trim().to_owned()).collect();
    if volumes.iter().any(String::is_empty) {
        return Err(InstructionError::EmptyVolume);
    }
    Ok(volumes)
}

/// Returns what a comment `NAME text` says of a name.
fn description(comments: &[String], name: &str) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let text = |comment: &String| comment.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    comments.iter().find_map(text).filter(|text| !text.is_empty())
}

/// A comment right above a stage or an argument should describe it.
fn check_description(keyword: &str, names: &[&str], line: &RawLine, checks: &mut Checks) {
    let Some(comment) = line.comments.last() else { return };
    if names.contains(&comment.split(' ').next().unwrap_or_default()) {
        return;
    }
    let example = match names {
        [name] => name,
        _ => "<arg_key>",
    };
    let detail = format!("Comment for {keyword} should follow the format: `# {example} <description>`");
    checks.report(&INVALID_DEFINITION_DESCRIPTION, line.lines, detail, &line.comments);
}
