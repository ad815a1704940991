//! Lays out help texts as Docker's client does.

use crate::grammar::{self, BEFORE_BUILDX, COMMON, Command, Flag, GLOBAL, GROUPS, Group, OWN, TOP_LEVEL};

/// Columns where there is no terminal.
const DEFAULT_WIDTH: usize = 80;

fn width() -> usize {
    crate::output::stdin_size().map_or(DEFAULT_WIDTH, |(_, columns)| usize::from(columns))
}

/// The help of one command, shown under the words typed.
pub(crate) fn command(program: &str, command: &Command, path: &str) -> String {
    command_at(program, command, path, width())
}

fn command_at(program: &str, command: &Command, path: &str, width: usize) -> String {
    let description = if command.long.is_empty() { command.short } else { command.long };
    let description = description.replace("{program}", program);
    let below = grammar::in_group(command.path);
    let usage = match below.is_empty() {
        true => usage_line(program, command, path),
        false => format!("{program} {path} [OPTIONS] COMMAND"),
    };
    let mut text = format!("Usage:  {usage}\n\n{description}\n");
    if command.paths.len() > 1 {
        let aliases: Vec<String> = listed_paths(command).map(|path| format!("{program} {path}")).collect();
        text.push_str(&format!("\nAliases:\n  {}\n", aliases.join(", ")));
    }
    let is_left_out = |flag: &Flag| flag.own && program == "docker";
    let is_shown = |flag: &&Flag| !flag.hidden && !is_left_out(flag);
    let shown: Vec<&Flag> = command.flags.iter().filter(is_shown).collect();
    if !shown.is_empty() {
        text.push_str("\nOptions:\n");
        text.push_str(&flag_table(&shown, width, &|usage| usage.to_owned()));
    }
    if !below.is_empty() {
        text.push_str(&format!("\nCommands:\n{}\n{}", listing(below.into_iter()), hint(program, path)));
    }
    text
}

fn hint(program: &str, path: &str) -> String {
    format!("Run '{program} {path} COMMAND --help' for more information on a command.\n")
}

/// Old spellings work but are not listed.
fn listed_paths(command: &Command) -> impl Iterator<Item = &'static str> {
    command.paths.iter().copied().filter(|path| !matches!(*path, "image rmi" | "remove"))
}

/// `ferry run [OPTIONS] IMAGE [COMMAND] [ARG...]`
pub(crate) fn usage_line(program: &str, command: &Command, path: &str) -> String {
    format!("{program} {path} {}", command.tail).trim_end().to_owned()
}

/// The help of a group.
pub(crate) fn group(program: &str, group: &Group) -> String {
    let words = grammar::in_group(group.name);
    let path = |word: &str| format!("{} {word}", group.name);
    let listed = words
        .into_iter()
        .filter(|(word, _)| program != "docker" || !OWN.contains(&path(word).as_str()))
        // Docker's client shows it where there is a swarm.
        .filter(|(word, _)| path(word) != "volume update");
    let (managing, plain): (Vec<_>, Vec<_>) = listed.partition(|(word, _)| !grammar::in_group(&path(word)).is_empty());
    let section = |title: &str, rows: Vec<(&'static str, &'static str)>| match rows.is_empty() {
        true => String::new(),
        false => format!("\n{title}:\n{}", listing(rows.into_iter())),
    };
    let options = options_of(group);
    format!(
        "Usage:  {program} {name} {tail}\n\n{}\n{options}{}{}\n{}",
        grammar::group_text(group).replace("{program}", program),
        section("Management Commands", managing),
        section("Commands", plain),
        hint(program, group.name),
        name = group.name,
        tail = if options.is_empty() { "COMMAND" } else { "[OPTIONS] COMMAND" },
    )
}

/// The options that a group takes itself.
fn options_of(group: &Group) -> String {
    if group.name.split(' ').next() != Some("buildx") {
        return String::new();
    }
    let flags: Vec<&Flag> = BEFORE_BUILDX.iter().collect();
    format!("\nOptions:\n{}", flag_table(&flags, width(), &|usage| usage.to_owned()))
}

/// The help of the program.
pub(crate) fn root(program: &str, config_folder: &str) -> String {
    let rows = |words: &[&'static str]| {
        let rows: Vec<_> = words
            .iter()
            .filter_map(|word| {
                let command = grammar::all().find(|command| command.paths.contains(word))?;
                Some((*word, command.short))
            })
            .collect();
        listing(rows.into_iter())
    };
    let mut top_level = TOP_LEVEL.to_vec();
    if program != "docker" {
        top_level.extend(OWN.iter().filter(|path| !path.contains(' ')));
        top_level.sort_unstable();
    }
    let groups = GROUPS.iter().filter(|group| !group.name.contains(' '));
    let groups = listing(groups.map(|group| (group.name, group.short)));
    let flags =
        flag_table(&GLOBAL.iter().collect::<Vec<_>>(), width(), &|usage| usage.replace("{config}", config_folder));
    format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nA self-sufficient runtime for containers\n\nCommon Commands:\n{}\nManagement \
         Commands:\n{groups}\nCommands:\n{}\nGlobal Options:\n{flags}\nRun '{program} COMMAND --help' for more information on a \
         command.\n",
        rows(COMMON),
        rows(&top_level)
    )
}

fn listing<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    const LONGEST: usize = 11;
    rows.map(|(word, short)| format!("  {word:LONGEST$} {short}\n")).collect()
}

fn flag_table(flags: &[&Flag], width: usize, usage: &dyn Fn(&str) -> String) -> String {
    let shown: Vec<(String, String)> = flags.iter().map(|flag| (flag_column(flag), usage(flag.usage))).collect();
    let longest = shown.iter().map(|(column, _)| column.len()).max().unwrap_or(0);
    shown
        .iter()
        .map(|(column, usage)| {
            let text = wrap(longest + 3, width.saturating_sub(1), usage);
            format!("{column:longest$}   {text}\n")
        })
        .collect()
}

fn flag_column(flag: &Flag) -> String {
    let name = match flag.short {
        '\0' => format!("      --{}", flag.name),
        short => format!("  -{short}, --{}", flag.name),
    };
    if flag.value.is_empty() { name } else { format!("{name} {}", flag.value) }
}

/// Wraps a description that starts at column `indent` into lines of `width` columns.
fn wrap(indent: usize, width: usize, text: &str) -> String {
    /// Lines may be this much longer where that spares an orphaned word.
    const SLOP: usize = 5;
    let mut indent = indent;
    let mut out = String::new();
    let mut room = width.saturating_sub(indent);
    if room < 24 {
        // Too narrow beside the flags: a block of its own below them.
        indent = 16;
        room = width.saturating_sub(indent);
        out.push_str(&format!("\n{:indent$}", ""));
    }
    let newline = format!("\n{:indent$}", "");
    if room < 24 {
        return text.replace('\n', &out);
    }
    let room = room - SLOP;
    let mut rest = text;
    let mut first = true;
    while first || !rest.is_empty() {
        let (line, after) = cut(room, SLOP, rest);
        if !first {
            out.push_str(&newline);
        }
        out.push_str(&line.replace('\n', &newline));
        rest = after;
        first = false;
    }
    out
}

/// Cuts one line off a text at a blank, or before a line break within reach.
fn cut(room: usize, slop: usize, text: &str) -> (&str, &str) {
    if room + slop > text.len() {
        return (text, "");
    }
    let mut end = room;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let Some(blank) = text[..end].rfind([' ', '\t', '\n']).filter(|at| *at > 0) else { return (text, "") };
    match text[..end].rfind('\n') {
        Some(newline) if newline > 0 && newline < blank => (&text[..newline], &text[newline + 1..]),
        _ => (&text[..blank], &text[blank + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::Found;

    /// Help of Docker's client 28.2.2 on a terminal of 80 columns.
    const RECORDED: &str = include_str!("../tests/data/help-28.2.2.json");

    #[test]
    fn commands_with_commands_below_them_list_those() {
        let Found::Command(inspect, path, _) = grammar::find(&["buildx", "history", "inspect"].map(str::to_owned))
        else {
            panic!("no command")
        };
        let text = command_at("docker", inspect, path, 80);
        assert!(text.starts_with("Usage:  docker buildx history inspect [OPTIONS] COMMAND\n"), "{text}");
        let end = "\nCommands:\n  attachment  Inspect a build record attachment\n\n\
                   Run 'docker buildx history inspect COMMAND --help' for more information on a command.\n";
        assert!(text.ends_with(end), "{text}");
        let history = GROUPS.iter().find(|group| group.name == "buildx history").unwrap();
        let text = group("docker", history);
        assert!(
            text.contains("\nManagement Commands:\n  inspect     Inspect a build record\n\nCommands:\n  export "),
            "{text}"
        );
        let root = root("ferry", "/x");
        assert!(
            root.contains("  build       Build an image from a Dockerfile\n  bake        Build from a file\n"),
            "{root}"
        );
    }

    #[test]
    fn help_is_that_of_docker() {
        let recorded: serde_json::Map<String, serde_json::Value> = serde_json::from_str(RECORDED).unwrap();
        let mut seen = 0;
        for (path, text) in &recorded {
            let words: Vec<String> = path.split(' ').map(str::to_owned).collect();
            let Found::Command(command, path, _) = grammar::find(&words) else { panic!("{path} is not found") };
            assert_eq!(command_at("docker", command, path, 80), text.as_str().unwrap(), "{path}");
            seen += 1;
        }
        assert!(seen > 50, "only {seen} commands were compared");
    }
}
