//! `--security-opt`, `--log-opt` and `--storage-opt`.

use std::collections::BTreeMap;

use crate::flags::go_quote;

use super::environment::to_map;

/// Security options in the form that the daemon takes, and whether system paths are left open.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Security {
    pub(super) options: Vec<String>,
    pub(super) system_paths_unconfined: bool,
}

/// Reads all `--security-opt` values; seccomp profiles are read from their files.
pub(super) fn parse(values: &[String]) -> Result<Security, String> {
    let mut security = Security::default();
    for value in values {
        if value == "systempaths=unconfined" {
            security.system_paths_unconfined = true;
            continue;
        }
        let (key, argument) = match value.split_once('=') {
            Some((key, argument)) => (key, argument),
            None if value == "no-new-privileges" => (value.as_str(), ""),
            None => value.split_once(':').ok_or_else(|| format!("Invalid --security-opt: {}", go_quote(value)))?,
        };
        let option = match (key, argument) {
            ("seccomp", "") => return Err(format!("Invalid --security-opt: {}", go_quote(value))),
            ("seccomp", "builtin" | "unconfined") => value.clone(),
            ("seccomp", path) => format!("seccomp={}", profile(path)?),
            _ => value.clone(),
        };
        security.options.push(option);
    }
    Ok(security)
}

fn profile(path: &str) -> Result<String, String> {
    let text = std::fs::read(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        format!("opening seccomp profile ({path}) failed: open {path}: {reason}")
    })?;
    let profile: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
        let reason = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
        format!("compacting json for seccomp profile ({path}) failed: {reason}")
    })?;
    Ok(profile.to_string())
}

/// Reads all `--log-opt` values.
pub(super) fn log_options(driver: &str, values: &[String]) -> Result<BTreeMap<String, String>, String> {
    let options = to_map(values);
    if driver == "none" && !options.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(options)
}

/// Reads all `--storage-opt` values.
pub(super) fn storage_options(values: &[String]) -> Result<BTreeMap<String, String>, String> {
    if values.iter().any(|value| !value.contains('=')) {
        return Err("invalid storage option".to_owned());
    }
    Ok(to_map(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_for_shape() {
        let values = ["no-new-privileges", "seccomp=unconfined", "label:disable", "systempaths=unconfined"];
        let security = parse(&values.map(str::to_owned)).unwrap();
        assert_eq!(security.options, ["no-new-privileges", "seccomp=unconfined", "label:disable"]);
        assert!(security.system_paths_unconfined);
        assert_eq!(parse(&["x".to_owned()]).unwrap_err(), "Invalid --security-opt: \"x\"");
        assert_eq!(
            parse(&["seccomp=/no/such".to_owned()]).unwrap_err(),
            "opening seccomp profile (/no/such) failed: open /no/such: no such file or directory"
        );
        assert!(storage_options(&["x".to_owned()]).is_err());
        assert!(log_options("none", &["a=b".to_owned()]).is_err());
    }
}
