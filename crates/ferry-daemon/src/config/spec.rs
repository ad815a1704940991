//! What an option of the daemon is: its names, what it takes, and what ferry makes of it.

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Text,
    Int,
    /// Repeated on the command line, a list in the file.
    List,
    /// `key=value`, repeated; a map in the file.
    Map,
    /// Repeated on the command line in a form of its own; an object or a list of objects in the file.
    Object,
}

/// What ferry makes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It acts.
    Built,
    /// It does not act, and is refused unless it has one of these values (or is empty), which change nothing.
    Unbuilt(&'static [&'static str]),
    /// It is accepted and has no effect; the reason is logged.
    Inert(&'static str),
    /// It is only for the command line: `--help` and the like.
    Command,
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    /// Name of the flag without dashes; also the key in the settings. Empty where there is no flag.
    pub(crate) flag: &'static str,
    pub(crate) short: Option<char>,
    /// Key in the file; empty where there is none.
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) status: Status,
    /// Shown as the type in `--help`.
    pub(crate) value_name: &'static str,
    pub(crate) help: &'static str,
}

impl Spec {
    /// The name that settings are kept under.
    pub(crate) fn name(&self) -> &'static str {
        if self.flag.is_empty() { self.key } else { self.flag }
    }
}

pub(super) const fn built(
    flag: &'static str,
    key: &'static str,
    kind: Kind,
    value_name: &'static str,
    help: &'static str,
) -> Spec {
    Spec { flag, short: None, key, kind, status: Status::Built, value_name, help }
}

pub(super) const fn short(letter: char, spec: Spec) -> Spec {
    Spec { short: Some(letter), ..spec }
}

pub(super) const fn unbuilt(
    flag: &'static str,
    key: &'static str,
    kind: Kind,
    value_name: &'static str,
    harmless: &'static [&'static str],
    help: &'static str,
) -> Spec {
    Spec { flag, short: None, key, kind, status: Status::Unbuilt(harmless), value_name, help }
}

pub(super) const fn inert(
    flag: &'static str,
    key: &'static str,
    kind: Kind,
    value_name: &'static str,
    why: &'static str,
    help: &'static str,
) -> Spec {
    Spec { flag, short: None, key, kind, status: Status::Inert(why), value_name, help }
}

pub(super) const fn command(
    flag: &'static str,
    letter: Option<char>,
    kind: Kind,
    value_name: &'static str,
    help: &'static str,
) -> Spec {
    Spec { flag, short: letter, key: "", kind, status: Status::Command, value_name, help }
}
