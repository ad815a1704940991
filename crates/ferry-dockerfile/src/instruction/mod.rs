//! Instructions as types, with every flag.
//!
//! Values are as written: quotes, escapes and variables are still in them. [`Instruction::expand`] resolves them, with the
//! variables of whoever plans a build.

mod files;
mod flags;
mod health;
mod parse;
mod run;

pub use files::{Add, Copy, InlineFile, Sources};
pub use flags::FlagError;
pub use health::{HealthError, Healthcheck};
pub use parse::InstructionError;
pub(crate) use parse::{parse_from, parse_statement};
pub use run::{CacheSharing, Device, Mount, MountError, MountKind, Run, RunMount, RunNetwork, Security};

use crate::expand::ExpandError;

/// Resolves the variables of one word.
pub type Expander<'a> = dyn FnMut(&str) -> Result<String, ExpandError> + 'a;

/// A `name=value` of ENV or LABEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// Name.
    pub key: String,
    /// Value.
    pub value: String,
    /// Written in the old form, `ENV name value`.
    pub legacy: bool,
}

/// A name of ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    /// Name.
    pub name: String,
    /// Default; `None` without a `=`.
    pub default: Option<String>,
    /// What a comment above says of it.
    pub description: Option<String>,
}

/// How a command line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON list of words.
    Exec,
    /// One line for the shell.
    Shell,
}

/// A here-document: its word, and the lines up to the word's next appearance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word, without quotes.
    pub name: String,
    /// Number before the `<<`; 0 without one.
    pub descriptor: u32,
    /// Variables in the lines are expanded: the word has no quotes.
    pub expand: bool,
    /// Leading tabs are taken off: `<<-`.
    pub strip_tabs: bool,
    /// The lines, each with its end.
    pub content: String,
}

impl Heredoc {
    /// Reads a whole text as one word such as `<<-EOF`; `None` when it is not that.
    #[must_use]
    pub fn parse_word(text: &str) -> Option<Self> {
        crate::syntax::heredoc_word(text).ok().flatten()
    }

    /// Returns the lines as their reader gets them: without leading tabs after `<<-`.
    #[must_use]
    pub fn text(&self) -> String {
        if self.strip_tabs { without_leading_tabs(&self.content) } else { self.content.clone() }
    }
}

fn without_leading_tabs(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// The command line of RUN, CMD or ENTRYPOINT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Words of the exec form, or one line for the shell.
    pub words: Vec<String>,
    /// Which of the two.
    pub form: Form,
    /// Here-documents of RUN.
    pub heredocs: Vec<Heredoc>,
}

/// One instruction; FROM is a [`crate::Stage`] instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// ADD
    Add(Add),
    /// ARG
    Arg(Vec<ArgDefinition>),
    /// CMD
    Cmd(CommandLine),
    /// COPY
    Copy(Copy),
    /// ENTRYPOINT
    Entrypoint(CommandLine),
    /// ENV
    Env(Vec<KeyValue>),
    /// EXPOSE, in order of their texts
    Expose(Vec<String>),
    /// HEALTHCHECK
    Healthcheck(Healthcheck),
    /// LABEL
    Label(Vec<KeyValue>),
    /// MAINTAINER
    Maintainer(String),
    /// ONBUILD: the instruction as text, here-documents included
    OnBuild(String),
    /// RUN
    Run(Run),
    /// SHELL
    Shell(Vec<String>),
    /// STOPSIGNAL
    StopSignal(String),
    /// USER
    User(String),
    /// VOLUME
    Volume(Vec<String>),
    /// WORKDIR
    Workdir(String),
}

impl Instruction {
    /// Returns the instruction's name in capitals.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::OnBuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }

    /// Resolves the variables in every value that takes them, in the order written.
    ///
    /// Left alone: command lines (the shell expands those), here-documents ([`Instruction::expand_documents`]), mounts
    /// ([`RunMount::resolve`]), ARG and EXPOSE, whose meaning depends on more than one word.
    ///
    /// # Errors
    /// [`ExpandError`] of the first value that cannot be expanded.
    pub fn expand(&mut self, expand: &mut Expander<'_>) -> Result<(), ExpandError> {
        match self {
            Self::Add(add) => add.expand(expand),
            Self::Copy(copy) => copy.expand(expand),
            Self::Env(pairs) | Self::Label(pairs) => pairs.iter_mut().try_for_each(|pair| {
                pair.key = expand(&pair.key)?;
                pair.value = expand(&pair.value)?;
                Ok(())
            }),
            Self::Volume(words) => expand_all(words, expand),
            Self::StopSignal(word) | Self::User(word) | Self::Workdir(word) => {
                *word = expand(word)?;
                Ok(())
            }
            Self::Arg(_)
            | Self::Cmd(_)
            | Self::Entrypoint(_)
            | Self::Expose(_)
            | Self::Healthcheck(_)
            | Self::Maintainer(_)
            | Self::OnBuild(_)
            | Self::Run(_)
            | Self::Shell(_) => Ok(()),
        }
    }

    /// Resolves the variables in the here-documents of ADD and COPY whose word has no quotes; quotes in the text stay.
    ///
    /// # Errors
    /// [`ExpandError`] of the first document that cannot be expanded.
    pub fn expand_documents(&mut self, expand: &mut Expander<'_>) -> Result<(), ExpandError> {
        let sources = match self {
            Self::Add(add) => &mut add.sources,
            Self::Copy(copy) => &mut copy.sources,
            _ => return Ok(()),
        };
        for file in sources.inline.iter_mut().filter(|file| file.expand) {
            file.content = expand(&file.content)?;
        }
        Ok(())
    }
}

fn expand_all(words: &mut [String], expand: &mut Expander<'_>) -> Result<(), ExpandError> {
    words.iter_mut().try_for_each(|word| {
        *word = expand(word)?;
        Ok(())
    })
}
