//! From the words typed to an exit code.

use std::process::ExitCode;

use crate::commands;
use crate::config::{Config, default_folder};
use crate::context::{Context, GlobalOptions, TlsOptions};
use crate::failure::{Failure, Result};
use crate::flags::{self, FlagError, Parsed};
use crate::grammar::{self, Command, Found, GLOBAL};
use crate::{autostart, help, options};

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = program_name(&words.next().unwrap_or_default());
    let words: Vec<String> = words.collect();
    if let [first, rest @ ..] = words.as_slice()
        && first == autostart::EXEC_WORD
    {
        return autostart::become_daemon(rest);
    }
    let printer = crate::output::Printer::default();
    match run(program, &words) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.message.is_empty() {
                printer.note(&failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// The name in texts: a link named `docker` speaks as Docker does.
fn program_name(argument: &str) -> &'static str {
    if argument.rsplit('/').next() == Some("docker") { "docker" } else { "ferry" }
}

fn run(program: &'static str, words: &[String]) -> Result<u8> {
    let mut global =
        flags::parse(GLOBAL, true, words, options::checks::check).map_err(|error| root_error(program, &error))?;
    global.args = grammar::options_last(&global.args);
    let (config, warning) = Config::load(global.text("config"));
    let printer = crate::output::Printer::default();
    if let Some(warning) = warning {
        printer.note(&warning);
    }
    for note in &global.notes {
        printer.line(note)?;
    }
    check_log_level(&global)?;
    let options = GlobalOptions {
        hosts: global.all("host").to_vec(),
        context: global.text("context").map(str::to_owned),
        tls: TlsOptions::read(&global),
        debug: global.on("debug"),
    };
    let context = Context::new(program, options, config);
    if global.on("version") {
        context.printer.line(&commands::version::one_line(program))?;
        return Ok(0);
    }
    if global.args.is_empty() {
        return show_root(&context);
    }
    if global.help && !matches!(grammar::find(&global.args), Found::Unknown(_)) {
        return help_command(&context, &global.args);
    }
    if global.args[0] == "help" {
        return help_command(&context, &global.args[1..]);
    }
    match grammar::find(&global.args) {
        Found::Command(command, path, eaten) => run_command(&context, command, path, &global.args[eaten..]),
        Found::Group(group) => run_group(&context, group, &global.args[group.name.split(' ').count()..]),
        Found::NotBuilt(path) => Err(Failure::not_implemented(&format!("the command `{program} {path}`"))),
        Found::Unknown(path) => Err(unknown_command(program, &path)),
    }
}

fn check_log_level(global: &Parsed) -> Result<()> {
    match global.text("log-level") {
        None | Some("debug" | "info" | "warn" | "warning" | "error" | "fatal" | "panic" | "trace") => Ok(()),
        Some(other) => Err(Failure::new(format!("Unable to parse logging level: {other}"))),
    }
}

fn show_root(context: &Context) -> Result<u8> {
    let folder =
        if context.config.folder.as_os_str().is_empty() { default_folder() } else { context.config.folder.clone() };
    context.printer.data(help::root(context.program, &folder.to_string_lossy()))?;
    Ok(0)
}

fn help_command(context: &Context, words: &[String]) -> Result<u8> {
    if words.is_empty() {
        return show_root(context);
    }
    if words.iter().any(|word| word == "--help") {
        let text = format!("Usage:  {} help [command]\n\nHelp about the command\n", context.program);
        context.printer.data(text)?;
        return Ok(0);
    }
    match grammar::find(words) {
        Found::Command(command, path, _) => context.printer.data(help::command(context.program, command, path))?,
        Found::Group(group) => context.printer.data(help::group(context.program, group))?,
        Found::NotBuilt(path) => {
            return Err(Failure::not_implemented(&format!("the command `{} {path}`", context.program)));
        }
        Found::Unknown(_) => return Err(Failure::new(format!("unknown help topic: {}", words.join(" ")))),
    }
    Ok(0)
}

fn run_group(context: &Context, group: &'static grammar::Group, rest: &[String]) -> Result<u8> {
    let parsed = flags::parse(&[], true, rest, options::checks::check).map_err(|error| {
        let usage = format!("{} {} COMMAND", context.program, group.name);
        usage_error(context.program, group.name, &usage, &error)
    })?;
    for note in &parsed.notes {
        context.printer.line(note)?;
    }
    let text = help::group(context.program, group);
    if rest.is_empty() {
        // Docker's client sets this one apart.
        let head = if group.name == "manifest" { "\n" } else { "" };
        context.printer.error_bytes(format!("{head}{text}").as_bytes());
    } else {
        context.printer.data(text)?;
    }
    Ok(0)
}

fn run_command(context: &Context, command: &'static Command, path: &'static str, words: &[String]) -> Result<u8> {
    let program = context.program;
    let usage = help::usage_line(program, command, path);
    let mut parsed = flags::parse(command.flags, command.options_first, words, options::checks::check)
        .map_err(|error| usage_error(program, path, &usage, &error))?;
    parsed.path = path;
    for note in &parsed.notes {
        context.printer.line(note)?;
    }
    if parsed.help {
        context.printer.data(help::command(program, command, path))?;
        return Ok(0);
    }
    let count = parsed.args.len();
    if !grammar::takes_more(program, command, count)
        && let Err((text, word)) = flags::check_args(command, count)
    {
        return Err(Failure::new(format!(
            "{program}: '{program} {path}' {text}\n\nUsage:  {usage}\n\n{word} '{program} {path} --help' for more information"
        )));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(commands::run(command, &parsed, context));
    // A thread that reads standard input may wait for ever; nothing waits for it.
    runtime.shutdown_background();
    result
}

fn root_error(program: &str, error: &FlagError) -> Failure {
    Failure::with_code(
        125,
        format!(
            "{error}\n\nUsage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information{}",
            near_flag(error)
        ),
    )
}

fn usage_error(program: &str, path: &str, usage: &str, error: &FlagError) -> Failure {
    Failure::with_code(
        125,
        format!("{error}\n\nUsage:  {usage}\n\nRun '{program} {path} --help' for more information{}", near_flag(error)),
    )
}

fn near_flag(error: &FlagError) -> String {
    match error {
        FlagError::UnknownFlag { near: Some(near), .. } => format!("\n\nDid you mean '--{near}'?"),
        _ => String::new(),
    }
}

fn unknown_command(program: &str, path: &str) -> Failure {
    let (group, word) = path.rsplit_once(' ').map_or(("", path), |(group, word)| (group, word));
    let near = if group.is_empty() {
        let words = grammar::all().flat_map(|command| command.paths).copied().filter(|path| !path.contains(' '));
        grammar::nearest(word, words.chain(grammar::GROUPS.iter().map(|group| group.name)))
    } else {
        let words = grammar::all().flat_map(|command| command.paths).copied();
        let words =
            words.chain(grammar::GROUPS.iter().map(|group| group.name)).filter_map(|path| path.rsplit_once(' '));
        grammar::nearest(word, words.filter(|(known, _)| *known == group).map(|(_, word)| word))
    };
    let hint = near.map(|near| format!("\n\nDid you mean '{near}'?")).unwrap_or_default();
    let usage = if group.is_empty() {
        String::new()
    } else {
        format!("\n\nUsage:  {program} {group}{}", if matches!(group, "manifest" | "volume") { " COMMAND" } else { "" })
    };
    let parent = if group.is_empty() { program.to_owned() } else { format!("{program} {group}") };
    Failure::new(format!(
        "{program}: unknown command: {program} {path}{usage}\n\nRun '{parent} --help' for more information{hint}"
    ))
}
