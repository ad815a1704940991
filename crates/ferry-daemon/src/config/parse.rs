//! The command line and the file, each read into settings by the table of options.

use std::fmt;

use indexmap::IndexMap;
use serde_json::Value;

use super::ConfigError;
use super::options::{self, Kind, Spec, Status};

/// One value as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Setting {
    Bool(bool),
    Text(String),
    Int(i64),
    List(Vec<String>),
    Map(IndexMap<String, String>),
    Object(Value),
}

impl fmt::Display for Setting {
    /// Shows a value as Go prints it, for the texts of conflicts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
            Self::Int(value) => write!(f, "{value}"),
            Self::List(values) => write!(f, "[{}]", values.join(" ")),
            Self::Map(values) => {
                let pairs: Vec<String> = values.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                write!(f, "map[{}]", pairs.join(" "))
            }
            Self::Object(value) => write!(f, "{value}"),
        }
    }
}

/// Values by the name of their option.
pub(crate) type Settings = IndexMap<&'static str, Setting>;

/// Reads the arguments after the program's name.
pub(crate) fn command_line(arguments: impl IntoIterator<Item = String>) -> Result<Settings, ConfigError> {
    let mut settings = Settings::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if let Some(long) = argument.strip_prefix("--").filter(|long| !long.is_empty()) {
            let (name, inline) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let spec = options::by_flag(name).ok_or_else(|| ConfigError::UnknownFlag {
                flag: format!("--{name}"),
                nearest: options::nearest_flag(name),
            })?;
            let value = take_value(spec, inline, &mut arguments)
                .ok_or_else(|| ConfigError::MissingValue(format!("--{name}")))?;
            set_flag(&mut settings, spec, value, &format!("--{name}"))?;
        } else if let Some(letters) =
            argument.strip_prefix('-').filter(|letters| !letters.is_empty() && argument != "--")
        {
            read_letters(&mut settings, letters, &mut arguments)?;
        } else {
            return Err(ConfigError::Argument(argument));
        }
    }
    Ok(settings)
}

/// Reads `-D`, `-Dl debug`, `-ldebug` and `-l=debug`.
fn read_letters(
    settings: &mut Settings,
    letters: &str,
    arguments: &mut impl Iterator<Item = String>,
) -> Result<(), ConfigError> {
    let mut rest = letters;
    while let Some(letter) = rest.chars().next() {
        let spec = options::by_letter(letter)
            .ok_or_else(|| ConfigError::UnknownLetter { letter, group: letters.to_owned() })?;
        rest = &rest[letter.len_utf8()..];
        let inline = match rest.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None if spec.kind == Kind::Bool || rest.is_empty() => None,
            None => Some(rest.to_owned()),
        };
        let ends = inline.is_some() || spec.kind != Kind::Bool;
        let shown = format!("-{letter}, --{}", spec.flag);
        let value = take_value(spec, inline, arguments)
            .ok_or_else(|| ConfigError::MissingValue(format!("'{letter}' in -{letters}")))?;
        set_flag(settings, spec, value, &shown)?;
        if ends {
            return Ok(());
        }
    }
    Ok(())
}

fn take_value(spec: &Spec, inline: Option<String>, arguments: &mut impl Iterator<Item = String>) -> Option<String> {
    match inline {
        Some(value) => Some(value),
        None if spec.kind == Kind::Bool => Some("true".to_owned()),
        None => arguments.next(),
    }
}

fn set_flag(settings: &mut Settings, spec: &'static Spec, value: String, shown: &str) -> Result<(), ConfigError> {
    let invalid = |reason: String| ConfigError::InvalidValue { value: value.clone(), flag: shown.to_owned(), reason };
    let name = spec.name();
    match spec.kind {
        Kind::Bool => {
            let truth = go_bool(&value)
                .ok_or_else(|| invalid(format!("strconv.ParseBool: parsing {value:?}: invalid syntax")))?;
            settings.insert(name, Setting::Bool(truth));
        }
        Kind::Int => {
            let number =
                value.parse().map_err(|_| invalid(format!("strconv.ParseInt: parsing {value:?}: invalid syntax")))?;
            settings.insert(name, Setting::Int(number));
        }
        Kind::Text => {
            settings.insert(name, Setting::Text(value));
        }
        Kind::List | Kind::Object => match settings.entry(name).or_insert_with(|| Setting::List(Vec::new())) {
            Setting::List(values) => values.push(value),
            other => *other = Setting::List(vec![value]),
        },
        Kind::Map => {
            let (key, entry) = value.split_once('=').unwrap_or((&value, ""));
            let (key, entry) = (key.to_owned(), entry.to_owned());
            if let Setting::Map(map) = settings.entry(name).or_insert_with(|| Setting::Map(IndexMap::new())) {
                map.insert(key, entry);
            }
        }
    }
    Ok(())
}

fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads the text of `daemon.json`.
pub(crate) fn file(text: &str) -> Result<Settings, ConfigError> {
    let mut settings = Settings::new();
    // An editor's byte order mark is no part of the document, and an empty file is an empty configuration.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(settings);
    }
    let document: Value = serde_json::from_str(text).map_err(|error| ConfigError::InvalidJson(error.to_string()))?;
    let Value::Object(map) = document else {
        return Err(ConfigError::InvalidJson("the document is no object".to_owned()));
    };
    let unknown: Vec<String> = map.keys().filter(|key| options::by_key(key).is_none()).cloned().collect();
    if !unknown.is_empty() {
        return Err(ConfigError::UnknownKeys(unknown));
    }
    for (key, value) in map {
        let Some(spec) = options::by_key(&key).filter(|_| !value.is_null()) else { continue };
        settings.insert(spec.name(), file_setting(spec, &key, value)?);
    }
    Ok(settings)
}

fn file_setting(spec: &Spec, key: &str, value: Value) -> Result<Setting, ConfigError> {
    let expected = |what: &'static str, value: &Value| ConfigError::WrongType {
        key: key.to_owned(),
        expected: what,
        value: value.to_string(),
    };
    match (spec.kind, value) {
        (Kind::Bool, Value::Bool(value)) => Ok(Setting::Bool(value)),
        (Kind::Text, Value::String(value)) => Ok(Setting::Text(value)),
        // Sizes may be written as numbers.
        (Kind::Text, Value::Number(number)) => Ok(Setting::Text(number.to_string())),
        (Kind::Int, value) => value.as_i64().map(Setting::Int).ok_or_else(|| expected("a whole number", &value)),
        (Kind::List, Value::Array(items)) => {
            let values = items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
            values.map(Setting::List).ok_or_else(|| expected("a list of strings", &Value::Array(items)))
        }
        (Kind::Map, Value::Object(map)) => {
            let entry = |(key, value): (&String, &Value)| match value {
                Value::String(text) => Some((key.clone(), text.clone())),
                Value::Bool(truth) => Some((key.clone(), truth.to_string())),
                _ => None,
            };
            let entries = map.iter().map(entry).collect::<Option<IndexMap<_, _>>>();
            entries.map(Setting::Map).ok_or_else(|| expected("a map of strings", &Value::Object(map)))
        }
        (Kind::Object, value @ (Value::Object(_) | Value::Array(_))) => Ok(Setting::Object(value)),
        (Kind::Bool, value) => Err(expected("true or false", &value)),
        (Kind::Text, value) => Err(expected("a string", &value)),
        (Kind::List, value) => Err(expected("a list of strings", &value)),
        (Kind::Map | Kind::Object, value) => Err(expected("an object", &value)),
    }
}

/// Joins the two; an option given in both is an error, as in Docker, because which one wins would be a guess.
pub(crate) fn merge(flags: Settings, file: Settings) -> Result<Settings, ConfigError> {
    let mut conflicts = Vec::new();
    for (name, from_flag) in &flags {
        // Runtimes of both sides add up.
        if let (Some(from_file), true) = (file.get(name), *name != "add-runtime") {
            let key = options::by_flag(name).map_or(*name, |spec| spec.key);
            conflicts.push(format!("{key}: (from flag: {from_flag}, from file: {from_file})"));
        }
    }
    if !conflicts.is_empty() {
        return Err(ConfigError::Conflicts(conflicts));
    }
    let mut merged = file;
    for (name, setting) in flags {
        match (merged.get_mut(name), setting) {
            (Some(Setting::Object(Value::Object(runtimes))), Setting::List(added)) => {
                for entry in added {
                    let (runtime, path) =
                        entry.split_once('=').ok_or_else(|| ConfigError::BadRuntime(entry.clone()))?;
                    runtimes.insert(runtime.to_owned(), serde_json::json!({ "path": path }));
                }
            }
            (_, setting) => {
                merged.insert(name, setting);
            }
        }
    }
    Ok(merged)
}

/// Refuses options that are known but not built; returns what to warn about those without effect.
pub(crate) fn check_built(settings: &Settings) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    for (name, setting) in settings {
        let Some(spec) = options::by_flag(name).or_else(|| options::by_key(name)) else { continue };
        match spec.status {
            Status::Built | Status::Command => {}
            Status::Inert(why) => warnings.push(format!("option `{name}` has no effect: {why}")),
            Status::Unbuilt(harmless) => {
                if !is_harmless(setting, harmless) {
                    return Err(ConfigError::NotImplemented { name: (*name).to_owned(), value: setting.to_string() });
                }
            }
        }
    }
    Ok(warnings)
}

fn is_harmless(setting: &Setting, harmless: &[&str]) -> bool {
    let known = |text: &str| text.is_empty() || harmless.contains(&text);
    match setting {
        Setting::Bool(value) => known(&value.to_string()),
        Setting::Int(value) => known(&value.to_string()),
        Setting::Text(value) => known(value),
        Setting::List(values) => values.iter().all(|value| known(value)),
        Setting::Map(values) => values.iter().all(|(key, value)| known(&format!("{key}={value}"))),
        Setting::Object(Value::Object(map)) => map.is_empty(),
        Setting::Object(Value::Array(items)) => items.is_empty(),
        Setting::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> Result<Settings, ConfigError> {
        command_line(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_read_as_pflag_reads_them() {
        let settings =
            flags("-D -H unix:///a --host=tcp://b -lwarn --icc=false --log-opt max-size=1m --mtu 1400 -Gstaff")
                .unwrap();
        assert_eq!(settings["debug"], Setting::Bool(true));
        assert_eq!(settings["host"], Setting::List(vec!["unix:///a".into(), "tcp://b".into()]));
        assert_eq!(settings["log-level"], Setting::Text("warn".into()));
        assert_eq!(settings["icc"], Setting::Bool(false));
        assert_eq!(settings["mtu"], Setting::Int(1400));
        assert_eq!(settings["log-opt"].to_string(), "map[max-size:1m]");
        assert_eq!(settings["group"], Setting::Text("staff".into()));
    }

    #[test]
    fn bad_flags_are_named() {
        let text = |line: &str| flags(line).unwrap_err().to_string();
        assert_eq!(text("--debgu"), "unknown flag: --debgu (did you mean `--debug`?)");
        assert_eq!(text("-Dz"), "unknown shorthand flag: 'z' in -Dz");
        assert_eq!(text("--bip"), "flag needs an argument: --bip");
        assert_eq!(text("-H"), "flag needs an argument: 'H' in -H");
        assert_eq!(
            text("--icc=maybe"),
            "invalid argument \"maybe\" for \"--icc\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax"
        );
        assert_eq!(text("serve"), "unknown argument `serve`: ferryd takes options only");
    }

    #[test]
    fn files_are_checked_key_by_key() {
        let text = |document: &str| file(document).unwrap_err().to_string();
        assert_eq!(
            text(r#"{"registry-mirror": [], "debug": true}"#),
            "the following directives don't match any configuration option: registry-mirror (did you mean `registry-mirrors`?)"
        );
        assert_eq!(text(r#"{"debug": "yes"}"#), "key `debug` wants true or false, not `\"yes\"`");
        assert!(text("{").starts_with("invalid JSON: "));
        assert!(file("").unwrap().is_empty() && file("\u{feff}{}").unwrap().is_empty());
        let settings =
            file(r#"{"hosts": ["fd://"], "features": {"buildkit": true}, "default-shm-size": 1024, "dns": null}"#)
                .unwrap();
        assert_eq!(settings["host"], Setting::List(vec!["fd://".into()]));
        assert_eq!(settings["default-shm-size"], Setting::Text("1024".into()));
        assert!(!settings.contains_key("dns"));
    }

    #[test]
    fn conflicts_have_docker_s_text() {
        let both =
            merge(flags("--debug --host unix:///a").unwrap(), file(r#"{"debug": false, "hosts": ["fd://"]}"#).unwrap());
        assert_eq!(
            both.unwrap_err().to_string(),
            "the following directives are specified both as a flag and in the configuration file: \
             debug: (from flag: true, from file: false), hosts: (from flag: [unix:///a], from file: [fd://])"
        );
        let runtimes = merge(
            flags("--add-runtime crun=/usr/bin/crun").unwrap(),
            file(r#"{"runtimes": {"runc": {"path": "/usr/bin/runc"}}}"#).unwrap(),
        )
        .unwrap();
        assert_eq!(
            runtimes["add-runtime"],
            Setting::Object(serde_json::json!({"runc": {"path": "/usr/bin/runc"}, "crun": {"path": "/usr/bin/crun"}}))
        );
    }

    #[test]
    fn what_is_not_built_is_refused_unless_it_changes_nothing() {
        let check = |document: &str| check_built(&file(document).unwrap());
        assert_eq!(
            check(r#"{"userns-remap": "default"}"#).unwrap_err().to_string(),
            "not implemented: option `userns-remap` (given as `default`)"
        );
        assert!(check(r#"{"experimental": true}"#).is_err() && check(r#"{"metrics-addr": "127.0.0.1:9323"}"#).is_err());
        let harmless = r#"{"ipv6": false, "storage-driver": "overlay2", "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "features": {"containerd-snapshotter": true}, "userns-remap": "", "metrics-addr": ""}"#;
        assert_eq!(check(harmless).unwrap(), Vec::<String>::new());
        assert_eq!(
            check(r#"{"containerd-namespace": "x"}"#).unwrap(),
            ["option `containerd-namespace` has no effect: ferry needs no containerd"]
        );
    }
}
