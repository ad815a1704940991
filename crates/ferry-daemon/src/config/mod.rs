//! The daemon's configuration: defaults, then the file, then flags; read once into one validated value.
//!
//! Names and texts are dockerd's. An option that is known but not built is refused by name unless it is at a value that changes
//! nothing; an option that is not known is an error that names the nearest known one.

mod builder;
mod exec_options;
mod help;
mod network_options;
mod options;
mod parse;
mod pools;
mod registries;
mod resolve;
mod spec;
mod storage;

use std::path::PathBuf;

pub(crate) use resolve::Config;

use self::parse::Setting;
use crate::server::listen::ListenError;

/// The socket of a daemon that is told none.
pub(crate) const DEFAULT_SOCKET: &str = "/run/ferry.sock";
const DEFAULT_FILE: &str = "/etc/ferry/daemon.json";

/// What the command line asks for.
pub(crate) enum Request {
    /// Print this on stdout and end.
    Print(String),
    /// The configuration is fine; say so and end.
    Validated,
    /// Serve.
    Serve(Box<Config>),
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("unknown flag: {flag}{}", did_you_mean("--", *nearest))]
    UnknownFlag { flag: String, nearest: Option<&'static str> },
    #[error("unknown shorthand flag: '{letter}' in -{group}")]
    UnknownLetter { letter: char, group: String },
    #[error("flag needs an argument: {0}")]
    MissingValue(String),
    #[error("invalid argument {value:?} for {flag:?} flag: {reason}")]
    InvalidValue { value: String, flag: String, reason: String },
    #[error("unknown argument `{0}`: ferryd takes options only")]
    Argument(String),
    #[error("invalid JSON: {0}")]
    InvalidJson(String),
    #[error("the following directives don't match any configuration option: {}", unknown_keys(.0))]
    UnknownKeys(Vec<String>),
    #[error("key `{key}` wants {expected}, not `{value}`")]
    WrongType { key: String, expected: &'static str, value: String },
    #[error("the following directives are specified both as a flag and in the configuration file: {}", .0.join(", "))]
    Conflicts(Vec<String>),
    #[error("not implemented: option `{name}` (given as `{value}`)")]
    NotImplemented { name: String, value: String },
    #[error("invalid runtime `{0}`: expected name=path")]
    BadRuntime(String),
    #[error("invalid value `{value}` for option `{name}`: {reason}")]
    BadValue { name: &'static str, value: String, reason: String },
    #[error("{0}")]
    InDockersWords(String),
    #[error("unable to configure the Docker daemon with file {path}: {reason}")]
    File { path: String, reason: String },
    #[error(transparent)]
    Address(#[from] ListenError),
}

fn did_you_mean(prefix: &str, nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!(" (did you mean `{prefix}{nearest}`?)")).unwrap_or_default()
}

fn unknown_keys(keys: &[String]) -> String {
    let named: Vec<String> =
        keys.iter().map(|key| format!("{key}{}", did_you_mean("", options::nearest_key(key)))).collect();
    named.join(", ")
}

/// Reads the command line and the file that it names.
pub(crate) fn read(arguments: impl IntoIterator<Item = String>) -> Result<Request, ConfigError> {
    let mut flags = parse::command_line(arguments)?;
    let mut take = |name: &str| flags.shift_remove(name);
    if take("help") == Some(Setting::Bool(true)) {
        return Ok(Request::Print(help::text()));
    }
    if take("version") == Some(Setting::Bool(true)) {
        return Ok(Request::Print(help::version()));
    }
    let validate = take("validate") == Some(Setting::Bool(true));
    let file = match take("config-file") {
        Some(Setting::Text(path)) => read_file(PathBuf::from(path), true)?,
        _ => read_file(PathBuf::from(DEFAULT_FILE), false)?,
    };
    let (path, from_file) = file;
    let settings = parse::merge(flags, from_file).map_err(|error| in_file(&path, error))?;
    let warnings = parse::check_built(&settings)?;
    let config = resolve::resolve(&settings, warnings)?;
    if validate { Ok(Request::Validated) } else { Ok(Request::Serve(Box::new(config))) }
}

/// Reads the command line and the file once more; returns what can change while the daemon runs, and the level of its log.
pub(crate) fn reload(
    arguments: impl IntoIterator<Item = String>,
    before: &ferry_engine::config::Live,
) -> Result<(ferry_engine::config::Live, String), ConfigError> {
    let mut flags = parse::command_line(arguments)?;
    let (path, from_file) = match flags.shift_remove("config-file") {
        Some(Setting::Text(path)) => read_file(PathBuf::from(path), true)?,
        _ => read_file(PathBuf::from(DEFAULT_FILE), false)?,
    };
    let merged = parse::merge(flags, from_file.clone()).map_err(|error| in_file(&path, error))?;
    parse::check_built(&merged)?;
    resolve::reload(before, &merged, &from_file)
}

/// Reads the file; one that was not asked for may be missing.
fn read_file(path: PathBuf, asked_for: bool) -> Result<(PathBuf, parse::Settings), ConfigError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let settings = parse::file(&text).map_err(|error| in_file(&path, error))?;
            Ok((path, settings))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked_for => Ok((path, parse::Settings::new())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ConfigError::File {
            path: path.display().to_string(),
            reason: format!("open {}: no such file or directory", path.display()),
        }),
        Err(error) => Err(ConfigError::File { path: path.display().to_string(), reason: error.to_string() }),
    }
}

fn in_file(path: &std::path::Path, error: ConfigError) -> ConfigError {
    ConfigError::File { path: path.display().to_string(), reason: error.to_string() }
}
