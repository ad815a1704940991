//! From a target to the command line of its build. Pure.

use serde_json::Value;

use super::remote::is_remote;
use super::target::Target;

/// What holds for every target of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Common {
    pub(super) progress: String,
    pub(super) call: String,
    pub(super) pushes: bool,
    /// A further name of the image.
    pub(super) tag: Option<String>,
    /// Credentials for contexts that are fetched, as secrets.
    pub(super) credentials: Vec<String>,
    /// What is done when a step fails.
    pub(super) on_error: String,
}

/// The words of `build` for a target. `linked` says under which image another target of this run is to be had.
pub(super) fn words(target: &Target, common: &Common, linked: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |flag: &str, value: &str| words.push(format!("--{flag}={value}"));
    let one = |key: &str| target.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let many = |key: &str| target.get(key).and_then(Value::as_array).into_iter().flatten();
    let named = |key: &str| target.get(key).and_then(Value::as_object).into_iter().flatten();
    let context = one("context").unwrap_or(".").to_owned();
    let context = context
        .strip_prefix("cwd://")
        .map_or(context.clone(), |path| if path.is_empty() { ".".to_owned() } else { path.to_owned() });
    match (one("dockerfile-inline"), one("dockerfile")) {
        (Some(_), _) => add("file", "-"),
        (None, Some(file)) => add("file", &in_context(&context, file)),
        (None, None) => {}
    }
    for (name, value) in named("args") {
        add("build-arg", &format!("{name}={}", value.as_str().unwrap_or_default()));
    }
    for (name, value) in named("labels") {
        add("label", &format!("{name}={}", value.as_str().unwrap_or_default()));
    }
    for (name, value) in named("extra-hosts") {
        add("add-host", &format!("{name}={}", value.as_str().unwrap_or_default()));
    }
    for (name, value) in named("contexts") {
        let value = value.as_str().unwrap_or_default();
        let value = match value.strip_prefix("target:") {
            Some(other) => linked(other).map_or_else(|| value.to_owned(), |image| format!("docker-image://{image}")),
            None => value.strip_prefix("cwd://").unwrap_or(value).to_owned(),
        };
        add("build-context", &format!("{name}={value}"));
    }
    for (key, flag) in [
        ("tags", "tag"),
        ("platforms", "platform"),
        ("no-cache-filter", "no-cache-filter"),
        ("ulimits", "ulimit"),
        ("annotations", "annotation"),
    ] {
        many(key).filter_map(Value::as_str).for_each(|value| add(flag, value));
    }
    for key in ["cache-from", "cache-to", "attest"] {
        many(key).for_each(|value| add(key, &fields(value, None)));
    }
    let credentials = common.credentials.iter().filter(|_| is_remote(&context));
    credentials.for_each(|secret| add("secret", secret));
    // Of one that has both it is the variable.
    many("secret").for_each(|value| add("secret", &fields(value, value.get("env").and(Some("src")))));
    for agent in many("ssh") {
        let id = agent["id"].as_str().unwrap_or("default");
        match agent["paths"].as_str() {
            Some(paths) => add("ssh", &format!("{id}={paths}")),
            None => add("ssh", id),
        }
    }
    // What other targets use has to be had by its name.
    let stays = |output: &&Value| common.tag.is_none() || output["type"] != "cacheonly";
    many("output").filter(stays).for_each(|value| add("output", &fields(value, None)));
    for (key, flag) in [("target", "target"), ("network", "network"), ("shm-size", "shm-size")] {
        if let Some(value) = one(key) {
            add(flag, value);
        }
    }
    for key in ["pull", "no-cache"] {
        if target.get(key) == Some(&Value::Bool(true)) {
            add(key, "true");
        }
    }
    many("entitlements").filter_map(Value::as_str).for_each(|right| add("allow", right));
    let call = if common.call.is_empty() { one("call").unwrap_or_default() } else { &common.call };
    if !matches!(call, "" | "build") {
        add("call", call);
    }
    if common.pushes {
        add("push", "true");
    }
    if let Some(tag) = &common.tag {
        add("tag", tag);
    }
    if !common.on_error.is_empty() {
        add("on-error", &common.on_error);
    }
    if !common.progress.is_empty() {
        add("progress", &common.progress);
    }
    // Never taken for a flag.
    words.push(if context.len() > 1 && context.starts_with('-') { format!("./{context}") } else { context });
    words
}

/// A Dockerfile is in the context, unless it is said otherwise; one of this side beside a context from elsewhere has its whole path.
fn in_context(context: &str, file: &str) -> String {
    let is_elsewhere = is_remote(context);
    match file.strip_prefix("cwd://") {
        Some(here) if is_elsewhere => {
            std::path::absolute(here).map_or_else(|_| here.to_owned(), |path| path.display().to_string())
        }
        Some("-") => "./-".to_owned(),
        Some(here) => here.to_owned(),
        None if is_elsewhere || file.starts_with('/') || context == "-" => file.to_owned(),
        None => format!("{}/{file}", context.trim_end_matches('/')),
    }
}

/// An entry as it is written on the command line, its type first, without one of its fields. Commas in values separate nothing.
fn fields(entry: &Value, but: Option<&str>) -> String {
    let all = entry.as_object().into_iter().flatten().filter(|(key, _)| Some(key.as_str()) != but);
    let mut words: Vec<String> = all
        .map(|(key, value)| match format!("{key}={}", value.as_str().unwrap_or_default()) {
            word if word.contains([',', '"', '\n', '\r']) => format!("\"{}\"", word.replace('"', "\"\"")),
            word => word,
        })
        .collect();
    words.sort_by_key(|word| !word.starts_with("type="));
    words.join(",")
}
