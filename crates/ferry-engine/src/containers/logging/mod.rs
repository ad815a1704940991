//! How a container's output is kept: from `LogConfig` to what the shim is told, and back to where it can be read. Pure but for files that
//! options name.
//!
//! What Docker checks when a container is made ([`validate`]) and what its drivers check when it starts ([`resolve`]) are both asked for at
//! create, so that a container which could not start is not made.

mod attributes;
mod plugin;
mod servers;
mod url;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use ferry_api::container::LogConfig;
use ferry_shim::forward::{About, Forward, PluginFifo, Server};
use ferry_shim::protocol::{LocalLog, LogOptions, RemoteLog};
use indexmap::IndexMap;

pub(in crate::containers) use self::plugin::PluginLog;

use self::attributes::{Subject, extra_attributes, tag};
use super::record::Record;
use crate::clock;
use crate::error::{Error, Result};

/// What a driver makes of its options: the text is Docker's.
type Checked<T> = Result<T, String>;

type Options = BTreeMap<String, String>;

/// Rotation of json-file logs that say nothing of it: bounded, unlike Docker's.
const JSON_MAX_SIZE_BYTES: u64 = 100 * 1024 * 1024;
const JSON_MAX_FILES: u32 = 3;

/// Rotation of local logs, and of copies of remote ones, as Docker's.
const LOCAL_MAX_SIZE_BYTES: u64 = 20 * 1024 * 1024;
const LOCAL_MAX_FILES: u32 = 5;

/// What waits at most with `mode=non-blocking`, unless `max-buffer-size` says else.
const BUFFER_BYTES: u64 = 1_000_000;

/// Options that every driver takes.
const COMMON: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];

/// Where the journal can be read.
const JOURNALCTL: [&str; 2] = ["/usr/bin/journalctl", "/bin/journalctl"];

/// Drivers whose lines go to a server.
const REMOTE: [&str; 4] = ["syslog", "fluentd", "gelf", "journald"];

/// Names of the drivers that exist, sorted.
pub(crate) const DRIVERS: [&str; 6] = ["fluentd", "gelf", "journald", "json-file", "local", "syslog"];

/// Whether a driver of that name is no plugin's.
pub(super) fn is_built_in(driver: &str) -> bool {
    DRIVERS.contains(&driver) || matches!(driver, "" | "none" | "awslogs" | "splunk" | "gcplogs")
}

/// Where a log can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A json-file of that name in the container's folder.
    JsonFile(String),
    /// A local log of that name, in a folder of the container's folder or in it.
    Local { folder: Option<&'static str>, file_name: &'static str },
    /// The host's journal.
    Journal,
    /// A plugin gives it back.
    Plugin,
    /// Nowhere.
    Nowhere,
}

/// Fills in driver and options of the daemon's configuration.
pub(super) fn merge_defaults(config: &mut LogConfig, driver: &str, defaults: &IndexMap<String, String>) {
    if config.driver.is_empty() {
        driver.clone_into(&mut config.driver);
    }
    let same_driver = config.driver == driver;
    let options = config.config.get_or_insert_default();
    for (key, value) in defaults {
        if same_driver || is_of_cache(key) {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn is_of_cache(key: &str) -> bool {
    key.strip_prefix("cache-")
        .is_some_and(|key| COMMON.contains(&key) || matches!(key, "disabled" | "max-size" | "max-file" | "compress"))
}

/// What Docker refuses when a container is made, or a daemon is started with such defaults.
///
/// # Errors
/// InvalidArgument; NotImplemented for drivers that Docker has and ferry has not.
pub(crate) fn validate(driver: &str, options: &Options) -> Result<()> {
    if driver == "none" {
        return Ok(());
    }
    common_options(options).map_err(Error::invalid)?;
    if matches!(driver, "awslogs" | "splunk" | "gcplogs") {
        return Err(Error::not_implemented(format!("log driver {driver}")));
    }
    let own: Options = options
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "mode" | "max-buffer-size") && !is_of_cache(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let checked = match driver {
        "json-file" => only(&own, &["max-file", "max-size", "compress"], |key| {
            format!("unknown log opt '{key}' for json-file log driver")
        }),
        "local" => only(&own, &["max-file", "max-size", "compress"], |key| {
            format!("unknown log opt '{key}' for log driver local")
        }),
        "journald" => only(&own, &[], |key| format!("unknown log opt '{key}' for journald log driver")),
        "syslog" => servers::syslog(&own).map(drop),
        "fluentd" => servers::fluentd(&own).map(drop),
        "gelf" => servers::gelf(&own).map(drop),
        other => Err(unknown_driver(other)),
    };
    checked.map_err(Error::invalid)
}

fn unknown_driver(name: &str) -> String {
    format!("error looking up logging plugin {name}: plugin \"{name}\" not found")
}

fn common_options(options: &Options) -> Checked<()> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(format!("logger: logging mode not supported: {mode}"));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return Err("logger: max-buffer-size option is only supported with 'mode=non-blocking'".to_owned());
        }
        values::binary_size(size).map_err(|why| format!("error parsing option max-buffer-size: {why}"))?;
    }
    match options.get("cache-disabled").map(String::as_str) {
        None | Some("") => Ok(()),
        Some(text) => {
            values::boolean(text).map(drop).map_err(|_| format!("invalid value for option cache-disabled: {text}"))
        }
    }
}

/// Names the first option, by the alphabet, that is neither common nor one of these.
fn only(options: &Options, known: &[&str], unknown: impl Fn(&str) -> String) -> Checked<()> {
    match options.keys().find(|key| !COMMON.contains(&key.as_str()) && !known.contains(&key.as_str())) {
        Some(key) => Err(unknown(key)),
        None => Ok(()),
    }
}

/// What the shim is told, with everything that is known of the container by now.
///
/// # Errors
/// InvalidArgument in the words of Docker's start.
pub(super) fn resolve(record: &Record, plugin: Option<&PluginLog>) -> Result<LogOptions> {
    resolve_driver(record, plugin).map_err(|why| {
        Error::invalid(format!("failed to create task for container: failed to initialize logging driver: {why}"))
    })
}

fn resolve_driver(record: &Record, plugin: Option<&PluginLog>) -> Checked<LogOptions> {
    let nothing = Options::new();
    let config = &record.host_config.log_config;
    let options = config.config.as_ref().unwrap_or(&nothing);
    let subject = Subject::new(record);
    Ok(match config.driver.as_str() {
        "none" => LogOptions::None,
        "json-file" => json_file(&subject, options)?,
        "local" => LogOptions::Local(LocalLog {
            folder: Some("local-logs".to_owned()),
            ..local(options, "", "container.log", local_attributes(&subject, options)?)?
        }),
        driver => remote(driver, &subject, options, plugin)?,
    })
}

fn json_file(subject: &Subject<'_>, options: &Options) -> Checked<LogOptions> {
    let given = options.get("max-size").map(String::as_str);
    let max_size_bytes = match given {
        None => Some(JSON_MAX_SIZE_BYTES),
        // Ferry's word for what Docker does without the option.
        Some("-1") => None,
        Some(size) => match values::decimal_size(size)? {
            0 => return Err("max-size must be a positive number".to_owned()),
            bytes => Some(bytes),
        },
    };
    let max_files = match options.get("max-file") {
        None if given.is_some() => 1,
        None => JSON_MAX_FILES,
        Some(count) => u32::try_from(values::integer(count)?)
            .ok()
            .filter(|count| *count >= 1)
            .ok_or("max-file cannot be less than 1")?,
    };
    let compress = options.get("compress").map_or(Ok(false), |text| values::boolean(text))?;
    let few = options.contains_key("max-file") && max_files == 1;
    if compress && (few || given.is_none() || max_size_bytes.is_none() || max_files == 1) {
        return Err("compress cannot be true when max-file is less than 2 or max-size is not set".to_owned());
    }
    let attrs = local_attributes(subject, options)?;
    Ok(LogOptions::JsonFile { file_name: json_file_name(subject.id), max_size_bytes, max_files, compress, attrs })
}

/// A local log; `prefix` is that of its options.
fn local(options: &Options, prefix: &str, file_name: &str, attrs: Vec<(String, String)>) -> Checked<LocalLog> {
    let get = |name: &str| options.get(&format!("{prefix}{name}")).map(String::as_str);
    let max_size_bytes = match get("max-size") {
        None => LOCAL_MAX_SIZE_BYTES,
        Some(size) => values::decimal_size(size).map_err(|why| format!("invalid value for max-size: {size}: {why}"))?,
    };
    let max_files = match get("max-file") {
        None => LOCAL_MAX_FILES,
        Some(text) => {
            let count = values::integer(text).map_err(|why| format!("invalid value for max-file: {text}: {why}"))?;
            u32::try_from(count).map_err(|_| "max-file must not be negative".to_owned())?
        }
    };
    let compress = match get("compress") {
        None => true,
        Some(text) => values::boolean(text).map_err(|why| format!("invalid boolean value for compress: {why}"))?,
    };
    if compress && max_files <= 1 {
        return Err("compression cannot be enabled when max file count is 1".to_owned());
    }
    let file_name = file_name.to_owned();
    Ok(LocalLog { folder: None, file_name, max_size_bytes: Some(max_size_bytes), max_files, compress, attrs })
}

/// Labels and environment, and the tag only when it is asked for.
fn local_attributes(subject: &Subject<'_>, options: &Options) -> Checked<Vec<(String, String)>> {
    let mut attrs = extra_attributes(subject, options, str::to_owned)?;
    if options.get("tag").is_some_and(|template| !template.is_empty()) {
        let tag = tag(subject, options)?;
        if !tag.is_empty() {
            attrs.insert("tag".to_owned(), tag);
        }
    }
    Ok(attrs.into_iter().collect())
}

fn remote(driver: &str, subject: &Subject<'_>, options: &Options, plugin: Option<&PluginLog>) -> Checked<LogOptions> {
    let planned = PluginLog::planned(driver);
    let plugin = plugin.unwrap_or(&planned);
    let (server, attrs) = match driver {
        "syslog" => (Server::Syslog(servers::syslog(options)?), BTreeMap::new()),
        "fluentd" => (Server::Fluentd(servers::fluentd(options)?), extra_attributes(subject, options, str::to_owned)?),
        "gelf" => (Server::Gelf(servers::gelf(options)?), extra_attributes(subject, options, attributes::for_gelf)?),
        "journald" => (Server::Journald, extra_attributes(subject, options, attributes::for_journal)?),
        _ => (Server::Plugin(PluginFifo { path: plugin.fifo.clone() }), BTreeMap::new()),
    };
    let forward = Forward {
        server,
        // What a plugin makes of the tag is its own business.
        tag: if is_built_in(driver) { tag(subject, options)? } else { String::new() },
        attrs: attrs.into_iter().collect(),
        container: About {
            id: subject.id.to_owned(),
            name: subject.name.to_owned(),
            image_id: subject.image_id.clone(),
            image_name: subject.image_name.to_owned(),
            command: subject.command(),
            created: clock::rfc3339(subject.created_ns),
            hostname: attributes::hostname(),
        },
    };
    let is_read_elsewhere = plugin.reads_back || (driver == "journald" && journalctl().is_some());
    let cache = (!is_read_elsewhere && !cache_is_disabled(options))
        .then(|| local(options, "cache-", CACHE_FILE, local_attributes(subject, options)?))
        .transpose()?;
    let drop_beyond_bytes = match options.get("mode").map(String::as_str) {
        Some("non-blocking") => {
            Some(options.get("max-buffer-size").map_or(Ok(BUFFER_BYTES), |size| values::binary_size(size))?)
        }
        _ => None,
    };
    Ok(LogOptions::Remote(Box::new(RemoteLog { forward, cache, drop_beyond_bytes })))
}

/// Name of the copy beside a remote log.
const CACHE_FILE: &str = "container-cached.log";

fn cache_is_disabled(options: &Options) -> bool {
    options.get("cache-disabled").is_some_and(|text| values::boolean(text).unwrap_or(false))
}

/// The program that reads the journal, where there is one.
pub(super) fn journalctl() -> Option<&'static Path> {
    JOURNALCTL.into_iter().map(Path::new).find(|path| path.exists())
}

/// Where the log of a container can be read.
pub(super) fn source(record: &Record, folder: &Path) -> Source {
    let cached = folder.join(CACHE_FILE).exists();
    match record.host_config.log_config.driver.as_str() {
        "none" => Source::Nowhere,
        "local" => Source::Local { folder: Some("local-logs"), file_name: "container.log" },
        "journald" if !cached && journalctl().is_some() => Source::Journal,
        driver if !is_built_in(driver) && !cached => Source::Plugin,
        driver if REMOTE.contains(&driver) || !is_built_in(driver) => {
            let disabled = record.host_config.log_config.config.as_ref().is_some_and(cache_is_disabled);
            // Of a container that was never started there is nothing to read, but it could be.
            if disabled { Source::Nowhere } else { Source::Local { folder: None, file_name: CACHE_FILE } }
        }
        _ => Source::JsonFile(json_file_name(&record.id)),
    }
}

/// `LogPath` of inspect: json-file alone has one, once it was started.
pub(super) fn shown_path(record: &Record, folder: &Path) -> String {
    let is_json = matches!(record.host_config.log_config.driver.as_str(), "" | "json-file");
    if is_json && record.has_started {
        folder.join(json_file_name(&record.id)).display().to_string()
    } else {
        String::new()
    }
}

/// Name of the live json-file in the container's folder.
fn json_file_name(id: &str) -> String {
    format!("{id}-json.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Driver, options, what is said.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_refused_at_create_is_refused_in_dockers_words() {
        let cases: &[Case<'_>] = &[
            ("json-file", &[("x", "1")], "unknown log opt 'x' for json-file log driver"),
            ("local", &[("x", "1")], "unknown log opt 'x' for log driver local"),
            ("journald", &[("x", "1")], "unknown log opt 'x' for journald log driver"),
            ("syslog", &[("x", "1")], "unknown log opt 'x' for syslog log driver"),
            ("fluentd", &[("x", "1")], "unknown log opt 'x' for fluentd log driver"),
            ("gelf", &[("x", "1"), ("gelf-address", "udp://a:1")], "unknown log opt \"x\" for gelf log driver"),
            ("nope", &[], "error looking up logging plugin nope: plugin \"nope\" not found"),
            ("etwlogs", &[], "error looking up logging plugin etwlogs: plugin \"etwlogs\" not found"),
            ("awslogs", &[], "not implemented: log driver awslogs"),
            ("json-file", &[("mode", "x")], "logger: logging mode not supported: x"),
            (
                "json-file",
                &[("max-buffer-size", "1m")],
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
            (
                "json-file",
                &[("mode", "non-blocking"), ("max-buffer-size", "x")],
                "error parsing option max-buffer-size: invalid size: 'x'",
            ),
            ("syslog", &[("cache-disabled", "x")], "invalid value for option cache-disabled: x"),
        ];
        for (driver, pairs, expected) in cases {
            let error = validate(driver, &options(pairs)).expect_err("refused");
            assert_eq!(error.text(), *expected, "{driver} {pairs:?}");
        }
        for driver in DRIVERS {
            let mut pairs = vec![("mode", "non-blocking"), ("max-buffer-size", "4m"), ("cache-max-size", "1m")];
            pairs.extend([("labels", "a"), ("env", "b"), ("tag", "{{.Name}}")]);
            if driver == "gelf" {
                pairs.push(("gelf-address", "udp://127.0.0.1:1"));
            }
            validate(driver, &options(&pairs)).expect("accepted");
        }
        validate("none", &options(&[("x", "1")])).expect("none takes anything, as in Docker");
    }

    #[test]
    fn defaults_of_the_daemon_are_merged_for_its_own_driver() {
        let defaults = options(&[("max-size", "1m"), ("cache-disabled", "true")]);
        let merged = |driver: &str, own: &[(&str, &str)]| {
            let mut config = LogConfig { driver: driver.to_owned(), config: Some(options(own)) };
            merge_defaults(&mut config, "local", &defaults.clone().into_iter().collect());
            (config.driver, config.config.unwrap_or_default())
        };
        assert_eq!(merged("", &[]), ("local".to_owned(), defaults.clone()));
        let own = [("max-size", "2m"), ("max-file", "3")];
        let expected = options(&[("max-size", "2m"), ("max-file", "3"), ("cache-disabled", "true")]);
        assert_eq!(merged("local", &own), ("local".to_owned(), expected));
        assert_eq!(merged("syslog", &[]), ("syslog".to_owned(), options(&[("cache-disabled", "true")])));
    }
}
