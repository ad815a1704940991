//! The command line: which command, with what options; errors to stderr and to the log that the engine reads.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use ferry_runtime::Error;

mod arguments;
mod create;
mod events;
mod exec;
mod lifecycle;
mod sealed;
mod spec;
mod store;
mod terminal;
mod update;

use arguments::{Arguments, Option as Flag};
use store::Store;

const USAGE: &str = "\
usage: ferry-runtime [global options] command [options] [arguments]

commands:
   create    make a container
   start     run the program of a created container
   run       make a container and run its program
   state     print the state of a container
   kill      send a signal to a container (default SIGTERM)
   delete    remove a container that has stopped
   exec      run another program in a container
   list      list containers
   pause     freeze a container
   resume    let a frozen container go on
   ps        list the processes of a container
   update    change the limits of a container
   events    print what a container uses, and when memory runs out
   spec      write a sample config.json
   features  print what this runtime can do

global options:
   --root DIR             where states are kept (default /run/ferry-runtime)
   --log FILE             where errors are written, too
   --log-format FORMAT    text or json
   --debug                accepted; there is nothing more to say
   --systemd-cgroup       have systemd make the cgroups; cgroupsPath is slice:prefix:name
";

const GLOBAL: &[Flag] = &[
    Flag::value("root"),
    Flag::value("log"),
    Flag::value("log-format"),
    Flag::value("rootless"),
    Flag::value("criu"),
    Flag::switch("debug"),
    Flag::switch("systemd-cgroup"),
    Flag::switch("help").short('h'),
    Flag::switch("version").short('v'),
];

pub(crate) fn main() -> ExitCode {
    let raw: Vec<String> = match std::env::args_os().skip(1).map(|argument| argument.into_string()).collect() {
        Ok(raw) => raw,
        Err(argument) => {
            return fail(
                None,
                &Error::new(ferry_runtime::ErrorKind::Invalid, format!("argument {argument:?} is not UTF-8")),
            );
        }
    };
    let (global, rest) = match Arguments::parse(GLOBAL, &raw, arguments::Rest::StopsAtWord) {
        Ok(parsed) => parsed,
        Err(error) => return fail(None, &error),
    };
    let log = LOG.get_or_init(|| Log::new(&global));
    match dispatch(&global, &rest) {
        Ok(code) => code,
        Err(error) => fail(log.as_ref(), &error),
    }
}

fn dispatch(global: &Arguments, rest: &[String]) -> Result<ExitCode, Error> {
    if global.has("version") {
        print(&format!(
            "ferry-runtime version {}\nspec: {}\n",
            env!("CARGO_PKG_VERSION"),
            ferry_spec::runtime::OCI_VERSION
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    if global.get("rootless").is_some_and(|value| value == "true") {
        return Err(unsupported("--rootless=true is not supported"));
    }
    if let Some(format) = global.get("log-format").filter(|format| !matches!(*format, "text" | "json")) {
        return Err(invalid(format!("invalid log-format: {format}, must be text or json")));
    }
    let Some((command, rest)) = rest.split_first().filter(|_| !global.has("help")) else {
        print(USAGE)?;
        return Ok(ExitCode::SUCCESS);
    };
    let root = PathBuf::from(global.get("root").unwrap_or("/run/ferry-runtime"));
    let store = Store::new(root, global.has("systemd-cgroup"));
    match command.as_str() {
        "create" => create::create(&store, rest),
        "run" => create::run(&store, rest),
        "start" => lifecycle::start(&store, rest),
        "state" => lifecycle::state(&store, rest),
        "kill" => lifecycle::kill(&store, rest),
        "delete" => lifecycle::delete(&store, rest),
        "list" => lifecycle::list(&store, rest),
        "pause" => lifecycle::pause(&store, rest),
        "resume" => lifecycle::resume(&store, rest),
        "ps" => events::ps(&store, rest),
        "events" => events::events(&store, rest),
        "update" => update::update(&store, rest),
        "exec" => exec::exec(&store, rest),
        "spec" => spec::spec(rest),
        "features" => spec::features(rest),
        "checkpoint" | "restore" => Err(unsupported(format!("{command} is not supported"))),
        "help" => print(USAGE).map(|()| ExitCode::SUCCESS),
        other => Err(invalid(format!("unknown command {other:?}; `ferry-runtime help` lists the commands"))),
    }
}

/// Where this command's errors go besides stderr.
static LOG: std::sync::OnceLock<std::option::Option<Log>> = std::sync::OnceLock::new();

/// A log in the form that engines parse.
struct Log {
    path: PathBuf,
    json: bool,
}

impl Log {
    fn new(global: &Arguments) -> std::option::Option<Log> {
        let path = global.get("log").filter(|path| !path.is_empty())?;
        Some(Log { path: path.into(), json: global.get("log-format") == Some("json") })
    }

    fn write(&self, level: &str, message: &str) -> std::io::Result<()> {
        let time = lifecycle::now();
        let line = if self.json {
            format!("{}\n", serde_json::json!({"level": level, "msg": message, "time": time}))
        } else {
            format!("time={time:?} level={level} msg={message:?}\n")
        };
        std::fs::OpenOptions::new().append(true).create(true).open(&self.path)?.write_all(line.as_bytes())
    }
}

fn fail(log: std::option::Option<&Log>, error: &Error) -> ExitCode {
    let message = error.to_string();
    if let Some(Err(failure)) = log.map(|log| log.write("error", &message)) {
        complain(&format!("cannot write the log: {failure}"));
    }
    complain(&message);
    ExitCode::from(1)
}

/// Says what is odd but no failure: in the log where there is one, since stderr is the container's, too.
pub(crate) fn warn(message: &str) {
    match LOG.get() {
        Some(Some(log)) if log.write("warning", message).is_ok() => {}
        _ => complain(message),
    }
}

/// Says something on stderr; there is nobody to tell when that fails.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "ferry-runtime: {message}");
}

pub(crate) fn print(text: &str) -> Result<(), Error> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| failed("write to stdout", &error))
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ferry_runtime::ErrorKind::Invalid, message)
}

pub(crate) fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ferry_runtime::ErrorKind::Unsupported, message)
}

pub(crate) fn failed(what: &str, error: &dyn std::error::Error) -> Error {
    Error::new(ferry_runtime::ErrorKind::Internal, format!("{what}: {error}"))
}
