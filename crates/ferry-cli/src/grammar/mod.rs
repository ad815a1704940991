//! The command tree: every word that `ferry` understands, as data.
//!
//! Owns the tables of commands and flags and the look-up of a command by the words typed. Leaves out
//! parsing (`flags`), help layout (`help`) and meaning (`commands`). Tables are `static`, so a start
//! costs nothing for the commands that are not used.

mod build;
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
    let Some(second) = words.get(1).filter(|word| !word.starts_with('-')) else { return Found::Group(group) };
    let path = format!("{} {second}", group.name);
    match by_path(&path) {
        Some((command, _)) => Found::Command(command, command.path, 2),
        None => unknown(path),
    }
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

/// The commands of a group in the order of its help.
pub(crate) fn in_group(group: &str) -> Vec<&'static Command> {
    let mut commands: Vec<_> =
        all().filter(|command| command.path.split_once(' ').is_some_and(|(first, _)| first == group)).collect();
    commands.sort_by_key(|command| command.path);
    commands
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
    fn known_but_absent_differs_from_unknown() {
        assert!(matches!(find(&words("swarm init")), Found::NotBuilt("swarm init") | Found::NotBuilt("swarm")));
        assert!(matches!(find(&words("pss")), Found::Unknown(_)));
        assert_eq!(nearest("pss", ["ps", "port", "run"].into_iter()), Some("ps"));
        assert_eq!(nearest("rnu", ["ps", "port", "run"].into_iter()), Some("run"));
    }
}
