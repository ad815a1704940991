//! `SOURCE_DATE_EPOCH`: a number, or the name of a source whose time it is.

use std::collections::BTreeMap;

use ferry_dockerfile::expand::{Environment, Lexer};
use ferry_dockerfile::git::GitReference;
use ferry_dockerfile::instruction::Add;
use ferry_dockerfile::{Dockerfile, Instruction, Stage};
use ferry_spec::digest::Digest;
use ferry_spec::path;

use super::{git_source, http_source, named};
use crate::graph::Source;
use crate::plan::Input;
use crate::plan::error::PlanError;
use crate::plan::observed::Need;
use crate::plan::request::MainContext;

/// What `SOURCE_DATE_EPOCH` comes to.
pub(in crate::plan) enum Epoch {
    Needs(Need),
    Known(Option<i64>),
}

/// Finds the time that images are to have.
pub(in crate::plan) fn epoch(
    input: Input<'_>,
    file: &Dockerfile,
    lexer: &Lexer,
    arguments: &Environment,
    build_args: &BTreeMap<String, String>,
) -> Result<Epoch, PlanError> {
    let given = build_args.get("SOURCE_DATE_EPOCH").map(String::as_str);
    let Some(value) = given.or_else(|| arguments.value("SOURCE_DATE_EPOCH")).filter(|value| !value.is_empty()) else {
        return Ok(Epoch::Known(None));
    };
    if let Ok(seconds) = value.parse::<i64>() {
        return Ok(Epoch::Known(Some(seconds)));
    }
    let (label, source) = match source(input, value, file, lexer, arguments, build_args)? {
        Some(found) => found,
        None => return Ok(Epoch::Known(None)),
    };
    match input.observed.time(&source) {
        None => Ok(Epoch::Needs(Need::Time { label, source: Box::new(source) })),
        Some(Ok(time)) => Ok(Epoch::Known(*time)),
        Some(Err(error)) => Err(PlanError::other(error.clone())),
    }
}

/// Finds the source of a name: the context, a named context, or a stage that is nothing but one remote ADD.
fn source(
    input: Input<'_>,
    value: &str,
    file: &Dockerfile,
    lexer: &Lexer,
    arguments: &Environment,
    build_args: &BTreeMap<String, String>,
) -> Result<Option<(String, Source)>, PlanError> {
    if value == "context" {
        let label = "[internal] resolve main build context metadata".to_owned();
        return Ok(match &input.request.context {
            MainContext::Local(_) => None,
            MainContext::Git(address) => Some((label, Source::Git(git_source(address, false)?))),
            MainContext::Http { url, .. } => Some((label, Source::Http(http_source(url, "context")))),
        });
    }
    if let Some(context) = named(input.request, value, None)? {
        let label = format!("[internal] resolve SOURCE_DATE_EPOCH named context {value}");
        return remote(&context.value, false, label);
    }
    let Some(stage) = file.stages.iter().find(|stage| !stage.name.is_empty() && stage.name.eq_ignore_ascii_case(value))
    else {
        return Err(PlanError::other(format!("invalid SOURCE_DATE_EPOCH: {value}")));
    };
    let mut arguments = arguments.clone();
    arguments.remove("SOURCE_DATE_EPOCH");
    let found = stage_source(stage, lexer, arguments, build_args).map_err(|error| error.at(stage.lines))?;
    Ok(Some((format!("[internal] resolve SOURCE_DATE_EPOCH source stage {}", stage.name), found)))
}

fn remote(address: &str, keep_git_dir: bool, label: String) -> Result<Option<(String, Source)>, PlanError> {
    if GitReference::parse(address).is_some() {
        return Ok(Some((label, Source::Git(git_source(address, keep_git_dir)?))));
    }
    if address.starts_with("http://") || address.starts_with("https://") {
        return Ok(Some((label, Source::Http(http_source(address, "context")))));
    }
    Ok(None)
}

fn stage_source(
    stage: &Stage,
    lexer: &Lexer,
    mut arguments: Environment,
    build_args: &BTreeMap<String, String>,
) -> Result<Source, PlanError> {
    let exactly_one = || PlanError::other("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD");
    let expand = |word: &str, arguments: &Environment| {
        lexer.text(word, arguments).map(|expanded| expanded.text).map_err(|(error, _)| PlanError::from(error))
    };
    if expand(&stage.base, &arguments)? != "scratch" {
        return Err(PlanError::other("SOURCE_DATE_EPOCH stage must use FROM scratch"));
    }
    let mut found = None;
    for statement in &stage.statements {
        match &statement.instruction {
            Instruction::Arg(definitions) => {
                for definition in definitions {
                    if let Some(value) = build_args.get(&definition.name) {
                        arguments.set(&definition.name, value.clone());
                    } else if let Some(default) = &definition.default {
                        let value = expand(default, &arguments)?;
                        arguments.set(&definition.name, value);
                    }
                }
            }
            Instruction::Add(_) if found.is_some() => return Err(exactly_one()),
            Instruction::Add(add) => found = Some(add_source(add, |word| expand(word, &arguments))?),
            _ => {
                return Err(PlanError::other(format!(
                    "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported {} instruction",
                    statement.keyword
                )));
            }
        }
    }
    found.ok_or_else(exactly_one)
}

fn add_source(add: &Add, expand: impl Fn(&str) -> Result<String, PlanError>) -> Result<Source, PlanError> {
    let [path] = &add.sources.paths[..] else {
        return Err(PlanError::other("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source"));
    };
    let address = expand(path)?;
    let checksum = if add.checksum.is_empty() { String::new() } else { expand(&add.checksum)? };
    if GitReference::parse(&address).is_some_and(|git| git.is_ok_and(|git| !git.looks_like_path)) {
        let mut source = git_source(&address, add.keep_git_dir == Some(true))?;
        if !checksum.is_empty() {
            source.checksum = Some(checksum);
        }
        return Ok(Source::Git(source));
    }
    if !address.starts_with("http://") && !address.starts_with("https://") {
        return Err(PlanError::other("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD"));
    }
    let mut source = http_source(&address, &filename(&address));
    if !checksum.is_empty() {
        source.checksum = Some(Digest::parse(&checksum).map_err(PlanError::new)?);
    }
    Ok(Source::Http(source))
}

/// Returns the name of the file that an address leads to.
pub(in crate::plan) fn filename(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let path = address.split_once("://").map_or(address, |(_, rest)| rest);
    let path = path.find('/').map_or("", |start| &path[start..]);
    match path::base(path) {
        "." | "/" => "__unnamed__".to_owned(),
        name => name.to_owned(),
    }
}
