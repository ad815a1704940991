//! What a test is checked with: the same test with one flag, query parameter or endpoint taken away
//! has to fail, or it does not test it.
//!
//! Owns the words for what is taken away ([`Strip`]) and the ways it is: from a command line (the
//! program `stripped-client` stands before the real one), and from a request.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::surface::{self, Flag};

/// Names in the environment what is to be taken away, as [`Strip::parse`] reads it.
pub const VARIABLE: &str = "FERRY_TEST_STRIP";

/// What is taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strip {
    /// A flag of a command: `run --cpus`, `volume create --label`; of the client itself: `docker --host`.
    Flag {
        /// The command without `container`; of other groups with their name; `docker` for the client itself.
        command: String,
        /// With its dashes.
        flag: String,
    },
    /// A query parameter: `GET /containers/json?all`.
    Query {
        /// GET and so on.
        method: String,
        /// With `{id}` for what stands there.
        path: String,
        /// Its name.
        parameter: String,
    },
    /// A whole endpoint: `POST /containers/{id}/kill`.
    Endpoint {
        /// GET and so on.
        method: String,
        /// With `{id}` for what stands there.
        path: String,
    },
}

impl Strip {
    /// Reads the words of the map.
    ///
    /// # Errors
    /// When they are none of the three.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some((command, flag)) = text.rsplit_once(" --") {
            return Ok(Self::Flag { command: command.to_owned(), flag: format!("--{flag}") });
        }
        let (first, second) = text.split_once(' ').with_context(|| format!("`{text}` names nothing to take away"))?;
        let (first, second) = (first.to_owned(), second.to_owned());
        Ok(match second.split_once('?') {
            Some((path, parameter)) => {
                Self::Query { method: first, path: path.to_owned(), parameter: parameter.to_owned() }
            }
            None => Self::Endpoint { method: first, path: second },
        })
    }

    /// Reads the environment.
    #[must_use]
    pub fn asked() -> Option<Self> {
        Self::parse(&std::env::var(VARIABLE).ok()?).ok()
    }

    /// Returns a request's path and query without what is taken away.
    #[must_use]
    pub fn target(&self, method: &str, target: &str) -> String {
        let Self::Query { method: of, path: template, parameter } = self else { return target.to_owned() };
        let Some((path, query)) = target.split_once('?').filter(|(path, _)| of == method && matches(template, path))
        else {
            return target.to_owned();
        };
        let kept: Vec<&str> = query.split('&').filter(|pair| pair.split('=').next() != Some(parameter)).collect();
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
    }

    /// Says whether a request is to the endpoint that is taken away.
    #[must_use]
    pub fn is_endpoint(&self, method: &str, target: &str) -> bool {
        let Self::Endpoint { method: of, path } = self else { return false };
        of == method && matches(path, target.split('?').next().unwrap_or_default())
    }

    /// Returns a client's arguments without what is taken away.
    #[must_use]
    pub fn arguments(&self, arguments: &[String]) -> Vec<String> {
        let Self::Flag { command, flag } = self else { return arguments.to_vec() };
        let Some(start) = flags_begin(arguments, command) else { return arguments.to_vec() };
        let known = surface::flags();
        let of_command: Vec<&Flag> = known.iter().filter(|one| one.command == *command).collect();
        let mut kept = arguments[..start].to_vec();
        kept.extend(without(&arguments[start..], flag, &of_command));
        kept
    }
}

/// Returns the flags of [`surface::flags`] that a client's arguments use, in every form.
#[must_use]
pub fn flags_used(arguments: &[String], known: &[Flag]) -> Vec<Flag> {
    let is_used = |flag: &&Flag| {
        let of_command: Vec<&Flag> = known.iter().filter(|one| one.command == flag.command).collect();
        let start = flags_begin(arguments, &flag.command);
        start.is_some_and(|start| without(&arguments[start..], &flag.flag, &of_command) != arguments[start..])
    };
    known.iter().filter(is_used).cloned().collect()
}

/// Compares a path, with or without an API version before it, with a template.
fn matches(template: &str, path: &str) -> bool {
    let path = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        Some((_, rest)) => rest,
        None => path.trim_start_matches('/'),
    };
    let wanted: Vec<&str> = template.trim_start_matches('/').split('/').collect();
    let found: Vec<&str> = path.split('/').collect();
    fits(&wanted, &found)
}

/// The parts of a path against those of a template; a name may have slashes in it.
fn fits(wanted: &[&str], found: &[&str]) -> bool {
    match (wanted, found) {
        ([], []) => true,
        (["{name}", rest @ ..], [name, ..]) if !name.is_empty() => (1..=found.len()).any(|at| fits(rest, &found[at..])),
        ([first, wanted @ ..], [name, found @ ..]) => {
            (first == name || (first.starts_with('{') && !name.is_empty())) && fits(wanted, found)
        }
        _ => false,
    }
}

/// Stands for the client itself, whose flags come before the command.
const CLIENT: &str = "docker";

/// Returns where the flags of a command begin, where these are its arguments.
fn flags_begin(arguments: &[String], command: &str) -> Option<usize> {
    if command == CLIENT {
        return Some(0);
    }
    Some(command_length(arguments, command)).filter(|length| *length > 0)
}

/// Groups whose commands the map writes as `group-verb`.
const GROUPS: [&str; 5] = ["image", "manifest", "plugin", "system", "volume"];

/// As [`command_length`], for a command of a group: `image ls`, and `images`, which is the same.
fn length_in_group(arguments: &[String], group: &str, verb: &str) -> usize {
    let alone = match (group, verb) {
        ("image", "ls") => "images",
        ("image", "rm") => "rmi",
        ("image", "history" | "import" | "load" | "pull" | "push" | "save" | "tag") | ("system", "events" | "info") => {
            verb
        }
        _ => "",
    };
    let names = |word: &str| word == verb || matches!((verb, word), ("ls", "list") | ("rm", "remove" | "rmi"));
    match arguments {
        [first, second, ..] if first == group && names(second) => 2,
        [first, ..] if first == alone => 1,
        _ => 0,
    }
}

/// Returns how many arguments name the command: `run`, `container run`, `ps` for `ls`; 0 for another command.
fn command_length(arguments: &[String], command: &str) -> usize {
    if let Some((group, verb)) = command.split_once('-').filter(|(group, _)| GROUPS.contains(group)) {
        return length_in_group(arguments, group, verb);
    }
    if let Some((group, word)) = command.split_once(' ') {
        let alias = match word {
            "ls" => "list",
            "rm" => "remove",
            word => word,
        };
        return match arguments {
            [first, second, ..] if first == group && (second == word || second == alias) => 2,
            _ => 0,
        };
    }
    let names = |word: &str| match command {
        // The image's: `build`, `image build`, `builder build`.
        "build" => matches!(word, "build" | "b"),
        "ls" => matches!(word, "ls" | "list" | "ps"),
        "rm" => matches!(word, "rm" | "remove"),
        _ => word == command,
    };
    match arguments {
        [first, second, ..]
            if command == "build" && matches!(first.as_str(), "image" | "builder" | "buildx") && names(second) =>
        {
            2
        }
        [first, second, ..] if first == "container" && names(second) => 2,
        // `inspect`, `ls` and `prune` alone are other commands, but for `ps`.
        [first, ..] if names(first) && !matches!(first.as_str(), "ls" | "list" | "prune") => 1,
        _ => 0,
    }
}

fn without(arguments: &[String], flag: &str, known: &[&Flag]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" || !argument.starts_with('-') || argument == "-" {
            // Flags end with the first word that is none; where a command takes them later too, they come later.
            kept.push(argument.clone());
            if argument == "--"
                || matches!(known.first().map(|one| one.command.as_str()), Some(CLIENT | "run" | "create" | "exec"))
            {
                kept.extend(rest.cloned());
                break;
            }
        } else if let Some(name) = argument.strip_prefix("--") {
            long(name, flag, known, argument, &mut rest, &mut kept);
        } else {
            short(argument, flag, known, &mut rest, &mut kept);
        }
    }
    kept
}

fn long(
    name: &str,
    flag: &str,
    known: &[&Flag],
    argument: &str,
    rest: &mut std::slice::Iter<'_, String>,
    kept: &mut Vec<String>,
) {
    let (name, attached) = name.split_once('=').map_or((name, false), |(name, _)| (name, true));
    let takes = known.iter().any(|one| one.flag == format!("--{name}") && one.takes_value);
    let value = if takes && !attached { rest.next() } else { None };
    if format!("--{name}") != flag {
        kept.push(argument.to_owned());
        kept.extend(value.cloned());
    }
}

fn short(argument: &str, flag: &str, known: &[&Flag], rest: &mut std::slice::Iter<'_, String>, kept: &mut Vec<String>) {
    let letters = &argument[1..];
    let mut cluster = String::from("-");
    for (at, letter) in letters.char_indices() {
        let found = known.iter().find(|one| one.shorthand == Some(letter));
        let ours = found.is_some_and(|one| one.flag == flag);
        if !ours {
            cluster.push(letter);
        }
        if found.is_some_and(|one| one.takes_value) {
            let attached = &letters[at + letter.len_utf8()..];
            let value = if attached.is_empty() { rest.next().cloned() } else { None };
            if !ours {
                cluster.push_str(attached);
                kept.push(cluster);
                kept.extend(value);
                return;
            }
            break;
        }
    }
    if cluster != "-" {
        kept.push(cluster);
    }
}

/// Returns the program that stands before a client to take flags away, when a flag is to be.
///
/// # Errors
/// When it is not built.
pub fn program(strip: Option<&Strip>) -> Result<Option<PathBuf>> {
    match strip {
        Some(Strip::Flag { .. }) => crate::programs::binary("stripped-client").map(Some),
        _ => Ok(None),
    }
}

impl std::fmt::Display for Strip {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag { command, flag } => write!(formatter, "{command} {flag}"),
            Self::Query { method, path, parameter } => write!(formatter, "{method} {path}?{parameter}"),
            Self::Endpoint { method, path } => write!(formatter, "{method} {path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(strip: &str, line: &str) -> String {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Strip::parse(strip).unwrap().arguments(&arguments).join(" ")
    }

    #[test]
    fn a_flag_goes_in_every_form() {
        for (strip, line, wanted) in [
            ("run --cpus", "run --rm --cpus 2 busybox --cpus 3", "run --rm busybox --cpus 3"),
            ("run --cpus", "container run --cpus=2 busybox", "container run busybox"),
            ("run --memory", "run -d -m 64m busybox", "run -d busybox"),
            ("run --memory", "run -dm64m busybox", "run -d busybox"),
            ("run --tty", "run -it --name -t busybox sh -t", "run -i --name -t busybox sh -t"),
            ("run --interactive", "run -i busybox", "run busybox"),
            ("run --detach", "run -dp 80:80 busybox", "run -p 80:80 busybox"),
            ("run --publish", "run -dp 80:80 busybox", "run -d busybox"),
            ("ls --all", "ps -a --filter name=x", "ps --filter name=x"),
            ("ls --filter", "ps -a --filter name=x", "ps -a"),
            ("logs --follow", "logs name -f", "logs name"),
            ("run --cpus", "create --cpus 2 busybox", "create --cpus 2 busybox"),
            ("prune --force", "system prune --force", "system prune --force"),
            ("prune --force", "container prune -f", "container prune"),
            ("image-ls --quiet", "images -q --no-trunc busybox", "images --no-trunc busybox"),
            ("image-ls --filter", "image list -f a=b", "image list"),
            ("image-rm --force", "rmi -f x", "rmi x"),
            ("image-prune --all", "image prune -af", "image prune -f"),
            ("image-prune --all", "container prune -af", "container prune -af"),
            ("manifest-create --amend", "manifest create -a x y", "manifest create x y"),
            ("volume-ls --filter", "volume list -q -f name=x", "volume list -q"),
            ("network ls --filter", "network list -q -f name=x", "network list -q"),
            ("network ls --filter", "plugin ls -f name=x", "plugin ls -f name=x"),
            ("docker --host", "-H unix:///x -D ps -a", "-D ps -a"),
            ("docker --debug", "-DH unix:///x run -D", "-H unix:///x run -D"),
            ("docker --context", "--context=x ps", "ps"),
            ("docker --context", "create -c 2 busybox", "create -c 2 busybox"),
            ("context rm --force", "context remove -f x", "context remove x"),
            ("build --tag", "image build -t x -f y .", "image build -f y ."),
            ("build --tag", "build --tag=x .", "build ."),
            ("builder prune --all", "builder prune -af", "builder prune -f"),
        ] {
            assert_eq!(stripped(strip, line), wanted, "{strip}: {line}");
        }
    }

    #[test]
    fn flags_are_found_in_every_form() {
        let known = surface::flags();
        let found = |line: &str| {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let flags = flags_used(&arguments, &known);
            flags.iter().map(|flag| format!("{} {}", flag.command, flag.flag)).collect::<Vec<_>>()
        };
        assert_eq!(found("run -dm64m --name=a busybox --rm"), ["run --detach", "run --memory", "run --name"]);
        assert_eq!(found("ps -aq"), ["ls --all", "ls --quiet"]);
        assert_eq!(found("volume ls -q"), ["volume-ls --quiet"]);
        assert_eq!(found("volume frob -q"), [""; 0]);
    }

    #[test]
    fn a_query_parameter_goes_at_its_endpoint_alone() {
        let strip = Strip::parse("GET /containers/{id}/logs?tail").unwrap();
        assert_eq!(strip.target("GET", "/containers/a/logs?stdout=1&tail=2"), "/containers/a/logs?stdout=1");
        assert_eq!(strip.target("GET", "/v1.41/containers/a/logs?tail=2"), "/v1.41/containers/a/logs");
        assert_eq!(strip.target("POST", "/containers/a/logs?tail=2"), "/containers/a/logs?tail=2");
        assert_eq!(strip.target("GET", "/containers/a/top?tail=2"), "/containers/a/top?tail=2");
    }

    #[test]
    fn an_endpoint_is_known_by_its_template() {
        let strip = Strip::parse("POST /containers/{id}/kill").unwrap();
        assert!(strip.is_endpoint("POST", "/v1.50/containers/a/kill?signal=9"));
        assert!(!strip.is_endpoint("POST", "/containers/a/kill/x"));
        assert_eq!(strip.to_string(), "POST /containers/{id}/kill");
        let strip = Strip::parse("POST /images/{name}/push").unwrap();
        assert!(strip.is_endpoint("POST", "/images/127.0.0.1:5000/a/b/push?tag=1"));
        assert!(!strip.is_endpoint("POST", "/images/push") && !strip.is_endpoint("POST", "/images/a/tag"));
    }
}
