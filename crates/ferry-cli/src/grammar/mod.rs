//! The command tree: every word that `ferry` understands, as data.
//!
//! Owns the tables of commands and flags and the look-up of a command by the words typed. Leaves out
//! parsing (`flags`), help layout (`help`) and meaning (`commands`). Tables are `static`, so a start
//! costs nothing for the commands that are not used.

mod build;
mod buildx;
mod container;
mod container_files;
mod container_run;
mod context;
mod image;
mod manifest;
mod network;
mod own;
mod plugin;
mod registry;
mod root;
mod system;
mod volume;

pub(crate) use build::IMAGE_BUILD;
pub(crate) use buildx::BEFORE as BEFORE_BUILDX;
#[cfg(test)]
pub(crate) use container::{CONTAINER_EXEC, CONTAINER_STOP, CONTAINER_UPDATE};
#[cfg(test)]
pub(crate) use container_files::{CONTAINER_COMMIT, DEBUG};
pub(crate) use container_run::CONTAINER_RUN;
#[cfg(test)]
pub(crate) use image::IMAGE_IMPORT;
#[cfg(test)]
pub(crate) use manifest::MANIFEST_ANNOTATE;
pub(crate) use root::{COMMON, GLOBAL, GROUPS, NOT_BUILT, OWN, TOP_LEVEL};

/// What a flag's value is; decides how it is read and how often it may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `--flag` or `--flag=BOOL`.
    Bool,
    /// One string, the last one wins.
    Text,
    /// Repeatable, every value kept.
    List,
    /// Repeatable, each value a comma-separated row.
    Strings,
    /// Repeatable `key=value`.
    Map,
    /// Signed 64-bit number in Go's notation.
    Int,
    /// Unsigned 64-bit number.
    Uint,
    /// Unsigned 16-bit number.
    Uint16,
    /// A size such as `64m`.
    Bytes,
    /// A Go duration such as `1m30s`.
    Duration,
    /// A decimal number of CPUs.
    Decimal,
}

/// One flag of a command.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Name without dashes.
    pub(crate) name: &'static str,
    /// One-letter form, `\0` for none.
    pub(crate) short: char,
    /// How the value is read.
    pub(crate) kind: Kind,
    /// The word shown for the value.
    pub(crate) value: &'static str,
    /// Help text, the default included.
    pub(crate) usage: &'static str,
    /// Left out of help.
    pub(crate) hidden: bool,
    /// Not Docker's: left out of help where ferry stands in for Docker's client.
    pub(crate) own: bool,
}

const fn flag(name: &'static str, short: char, kind: Kind, value: &'static str, usage: &'static str) -> Flag {
    Flag { name, short, kind, value, usage, hidden: false, own: false }
}

const fn hidden(name: &'static str, kind: Kind, value: &'static str) -> Flag {
    Flag { name, short: '\0', kind, value, usage: "", hidden: true, own: false }
}

const fn own(name: &'static str, kind: Kind, value: &'static str, usage: &'static str) -> Flag {
    Flag { name, short: '\0', kind, value, usage, hidden: false, own: true }
}

/// How many positional arguments a command takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Args {
    /// None at all.
    None,
    /// Any number.
    Any,
    /// Exactly this many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
    /// This many or fewer.
    AtMost(usize),
    /// From the first to the second number.
    Between(usize, usize),
}

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    /// Canonical words, such as `container ls`.
    pub(crate) path: &'static str,
    /// Every way to say it, as the help text lists them.
    pub(crate) paths: &'static [&'static str],
    /// The usage line after the words.
    pub(crate) tail: &'static str,
    /// One line for the parent's listing.
    pub(crate) short: &'static str,
    /// Longer text for the command's own help, if any.
    pub(crate) long: &'static str,
    /// Positional arguments.
    pub(crate) args: Args,
    /// Options end at the first positional argument.
    pub(crate) options_first: bool,
    /// Its flags, sorted by name.
    pub(crate) flags: &'static [Flag],
}

/// A group of commands, such as `container`.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its word.
    pub(crate) name: &'static str,
    /// One line for the root listing.
    pub(crate) short: &'static str,
}

/// What the words of a command line lead to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A command, with the words to show in its help and the number of words eaten.
    Command(&'static Command, &'static str, usize),
    /// A group without a command.
    Group(&'static Group),
    /// A word that Docker's client knows and this one does not do yet.
    NotBuilt(&'static str),
    /// Nothing of that name; holds the words up to and including the unknown one.
    Unknown(String),
}

/// All commands, each once.
pub(crate) fn all() -> impl Iterator<Item = &'static Command> {
    [
        container_run::ALL,
        container::ALL,
        container_files::ALL,
        image::ALL,
        manifest::ALL,
        build::ALL,
        buildx::ALL,
        volume::ALL,
        network::ALL,
        plugin::ALL,
        system::ALL,
        context::ALL,
        registry::ALL,
        own::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Looks a command up by the words typed after the global options.
pub(crate) fn find(words: &[String]) -> Found {
    let Some(first) = words.first() else { return Found::Unknown(String::new()) };
    if let Some(group) = GROUPS.iter().find(|group| group.name == first) {
        return find_in_group(group, words);
    }
    // A group has one name; this is a short way to one command of ferry's own.
    if let ("net", Some(second)) = (first.as_str(), words.get(1))
        && let Some((command, path)) = by_path(&format!("net {second}"))
    {
        return Found::Command(command, path, 2);
    }
    match by_path(first) {
        Some((command, path)) => Found::Command(command, path, 1),
        None => unknown(first.clone()),
    }
}

fn find_in_group(group: &'static Group, words: &[String]) -> Found {
    let eaten = group.name.split(' ').count();
    let Some(next) = words.get(eaten).filter(|word| !word.starts_with('-')) else { return Found::Group(group) };
    let path = format!("{} {next}", group.name);
    if let Some(inner) = GROUPS.iter().find(|inner| inner.name == path) {
        return find_in_group(inner, words);
    }
    // A command may have others below it.
    let longer = words.get(eaten + 1).and_then(|word| by_path(&format!("{path} {word}")));
    match (longer, by_path(&path)) {
        (Some((command, _)), _) => Found::Command(command, command.path, eaten + 2),
        (None, Some((command, known))) => Found::Command(command, shown_path(command, known), eaten + 1),
        (None, None) => unknown(path),
    }
}

/// By which words a command is shown that was called by `known`: those of its group, or else its own.
fn shown_path(command: &'static Command, known: &'static str) -> &'static str {
    if ELSEWHERE.contains(&known) { known } else { command.path }
}

fn by_path(path: &str) -> Option<(&'static Command, &'static str)> {
    all().find_map(|command| command.paths.iter().find(|known| **known == path).map(|known| (command, *known)))
}

fn unknown(path: String) -> Found {
    match NOT_BUILT.iter().find(|known| **known == path) {
        Some(known) => Found::NotBuilt(known),
        None => Found::Unknown(path),
    }
}

/// What a group says of itself at length; most say no more than in the listing.
pub(crate) fn group_text(group: &Group) -> &'static str {
    if group.name == "manifest" { manifest::MANIFEST_LONG } else { group.short }
}

/// Whether a command takes more arguments than Docker's: `diff A B`.
pub(crate) fn takes_more(program: &str, command: &Command, count: usize) -> bool {
    program != "docker" && command.path == "container diff" && count == 2
}

/// Commands that a group lists although their own words are of another one.
static ELSEWHERE: &[&str] = &["builder build", "buildx build"];

/// The words of a group in the order of its help, each with the line that its help shows.
pub(crate) fn in_group(group: &str) -> Vec<(&'static str, &'static str)> {
    let own = all().filter_map(|command| Some((word_in(group, command.path)?, command.short)));
    let others = ELSEWHERE.iter().filter_map(|path| Some((word_in(group, path)?, by_path(path)?.0.short)));
    let inner = GROUPS.iter().filter_map(|inner| Some((word_in(group, inner.name)?, inner.short)));
    let mut words: Vec<_> = own.chain(others).chain(inner).collect();
    words.sort_unstable();
    words
}

/// The one word by which a path goes on after a group's.
fn word_in<'a>(group: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix(group)?.strip_prefix(' ').filter(|word| !word.contains(' '))
}

/// Puts options that `buildx` takes before its words behind them.
pub(crate) fn options_last(words: &[String]) -> Vec<String> {
    let mut sorted = words.to_vec();
    if words.first().is_none_or(|word| word != "buildx") {
        return sorted;
    }
    let mut moved = Vec::new();
    while let Some(word) = sorted.get(1).filter(|word| word.starts_with('-')).cloned() {
        let takes_more = match word.as_str() {
            "--builder" => true,
            "-D" | "--debug" => false,
            word if word.starts_with("--builder=") || word.starts_with("--debug=") => false,
            _ => break,
        };
        let count = if takes_more { 2 } else { 1 };
        moved.extend(sorted.drain(1..sorted.len().min(1 + count)));
    }
    let end = match find(&sorted) {
        Found::Command(_, _, eaten) => eaten,
        _ => sorted.len(),
    };
    sorted.splice(end..end, moved);
    sorted
}

/// The known word nearest to an unknown one, if any is near.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance with swaps of neighbours counted once.
fn distance(left: &str, right: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn short_and_long_forms_reach_the_same_command() {
        for (typed, path) in [
            ("ps", "container ls"),
            ("container ps", "container ls"),
            ("container list", "container ls"),
            ("images", "image ls"),
            ("rmi", "image rm"),
            ("image remove", "image rm"),
            ("run", "container run"),
        ] {
            match find(&words(typed)) {
                Found::Command(command, _, _) => assert_eq!(command.path, path),
                other => panic!("{typed}: {other:?}"),
            }
        }
    }

    #[test]
    fn words_may_lie_deeper() {
        for (typed, path, eaten) in [
            ("buildx history ls", "buildx history ls", 3),
            ("buildx history inspect --format x", "buildx history inspect", 3),
            ("buildx history inspect attachment x", "buildx history inspect attachment", 4),
            ("buildx b .", "image build", 2),
            ("buildx f", "buildx bake", 2),
        ] {
            match find(&words(typed)) {
                Found::Command(command, _, count) => assert_eq!((command.path, count), (path, eaten), "{typed}"),
                other => panic!("{typed}: {other:?}"),
            }
        }
        assert!(matches!(find(&words("buildx history")), Found::Group(group) if group.name == "buildx history"));
        assert!(in_group("buildx").iter().any(|(word, _)| *word == "history"));
        assert!(in_group("buildx").iter().all(|(word, _)| !word.contains(' ')));
        assert!(in_group("builder").iter().any(|(word, _)| *word == "build"));
        let moved = options_last(&words("buildx --builder default -D history ls --local"));
        assert_eq!(moved.join(" "), "buildx history ls --builder default -D --local");
        assert_eq!(options_last(&words("ps -a")).join(" "), "ps -a");
    }

    #[test]
    fn known_but_absent_differs_from_unknown() {
        assert!(matches!(find(&words("swarm init")), Found::NotBuilt("swarm init") | Found::NotBuilt("swarm")));
        assert!(matches!(find(&words("pss")), Found::Unknown(_)));
        assert_eq!(nearest("pss", ["ps", "port", "run"].into_iter()), Some("ps"));
        assert_eq!(nearest("rnu", ["ps", "port", "run"].into_iter()), Some("run"));
    }
}
