//! Compose files as bake files: each service that is built is a target, all of them are the group `default`. Pure.

use serde_json::{Map, Value, json};

use super::config::{Config, Group};
use super::evaluate::text;
use super::functions::sanitized;
use super::target::{self, Target};

/// Tells whether a document is a Compose file.
pub(super) fn is_compose(document: &Value) -> bool {
    document.get("services").is_some_and(Value::is_object)
}

/// Adds the services of a Compose file.
pub(super) fn add(
    config: &mut Config,
    document: &Value,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let document = interpolated(document, variable)?;
    let mut names = Vec::new();
    for (service, fields) in document["services"].as_object().into_iter().flatten() {
        let build = match &fields["build"] {
            Value::Null => continue,
            Value::String(context) => json!({ "context": context }),
            build => build.clone(),
        };
        let name = sanitized(service);
        let mut attributes =
            attributes(fields, &build, variable).map_err(|error| format!("service {service}: {error}"))?;
        find_secrets(&mut attributes, &document["secrets"]);
        config.add_target(&name, target::typed(&name, attributes)?);
        names.push(name);
    }
    if !names.is_empty() {
        config.add_group("default", Group { description: String::new(), targets: names });
    }
    Ok(())
}

fn attributes(service: &Value, build: &Value, variable: &dyn Fn(&str) -> Option<String>) -> Result<Target, String> {
    let mut all = Target::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            all.insert(key.to_owned(), value);
        }
    };
    for (key, from) in [
        ("context", "context"),
        ("dockerfile", "dockerfile"),
        ("dockerfile-inline", "dockerfile_inline"),
        ("target", "target"),
        ("network", "network"),
        ("cache-from", "cache_from"),
        ("cache-to", "cache_to"),
        ("platforms", "platforms"),
        ("tags", "tags"),
        ("no-cache", "no_cache"),
        ("pull", "pull"),
        ("entitlements", "entitlements"),
    ] {
        put(key, build[from].clone());
    }
    put("args", by_name(&build["args"], variable)?);
    put("labels", by_name(&build["labels"], variable)?);
    put("extra-hosts", by_name(&build["extra_hosts"], variable)?);
    if let Some(size) = build.get("shm_size") {
        put("shm-size", Value::String(text(size)?));
    }
    if let Some(contexts) = by_name(&build["additional_contexts"], variable)?.as_object() {
        let linked = |value: &Value| {
            let value = value.as_str().unwrap_or_default();
            Value::String(
                value
                    .strip_prefix("service:")
                    .map_or_else(|| value.to_owned(), |name| format!("target:{}", sanitized(name))),
            )
        };
        put("contexts", Value::Object(contexts.iter().map(|(name, value)| (name.clone(), linked(value))).collect()));
    }
    put("ssh", listed(&build["ssh"], "id"));
    put("secret", listed(&build["secrets"], "source"));
    if let Some(limits) = build["ulimits"].as_object() {
        let limit = |(name, limit): (&String, &Value)| match limit {
            Value::Object(limit) => format!("{name}={}:{}", limit["soft"], limit["hard"]),
            same => format!("{name}={same}:{same}"),
        };
        put("ulimits", limits.iter().map(limit).map(Value::from).collect());
    }
    if build["privileged"] == true {
        put("entitlements", json!(["security.insecure"]));
    }
    if let (Value::String(image), true) = (&service["image"], build["tags"].is_null()) {
        put("tags", json!([image]));
    }
    if let Some(own) = build["x-bake"].as_object() {
        for (key, value) in own {
            let (key, value) = match key.as_str() {
                "no-cache" | "pull" | "call" => (key.as_str(), value.clone()),
                "platforms" | "tags" | "cache-from" | "cache-to" | "output" | "secret" | "ssh" | "no-cache-filter"
                | "attest" | "entitlements" => {
                    (key.as_str(), if value.is_array() { value.clone() } else { json!([value]) })
                }
                "contexts" => (key.as_str(), value.clone()),
                other => return Err(format!("x-bake: unknown key {other:?}")),
            };
            match (all.get_mut(key), value) {
                // Lists add up.
                (Some(Value::Array(known)), Value::Array(new)) => known.extend(new),
                (_, value) => drop(all.insert(key.to_owned(), value)),
            }
        }
    }
    Ok(all)
}

/// Says of secrets where they are, as the file tells of each by its name.
fn find_secrets(attributes: &mut Target, known: &Value) {
    let Some(Value::Array(secrets)) = attributes.get_mut("secret") else { return };
    for secret in secrets.iter_mut().filter_map(Value::as_object_mut) {
        let Some(source) = secret.get("id").and_then(Value::as_str).map(|id| known[id].clone()) else { continue };
        for (field, name) in [("environment", "env"), ("file", "src")] {
            if let Some(value) = source[field].as_str() {
                secret.insert(name.to_owned(), json!(value));
            }
        }
    }
}

/// A map, or a list of `NAME=value`; a name alone takes its value from the environment.
fn by_name(value: &Value, variable: &dyn Fn(&str) -> Option<String>) -> Result<Value, String> {
    let mut fields = Map::new();
    match value {
        Value::Null => return Ok(Value::Null),
        Value::Object(given) => {
            for (name, value) in given {
                match value {
                    Value::Null => drop(variable(name).map(|value| fields.insert(name.clone(), json!(value)))),
                    value => drop(fields.insert(name.clone(), Value::String(text(value)?))),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let item = text(item)?;
                let parts = item.split_once('=').or_else(|| item.split_once(':'));
                match parts {
                    Some((name, value)) => drop(fields.insert(name.to_owned(), json!(value))),
                    None => drop(variable(&item).map(|value| fields.insert(item.clone(), json!(value)))),
                }
            }
        }
        other => return Err(format!("a map or a list is required, not {other}")),
    }
    Ok(Value::Object(fields))
}

/// Secrets and agents, as entries.
fn listed(value: &Value, field: &str) -> Value {
    let Some(items) = value.as_array() else { return Value::Null };
    let entry = |item: &Value| match item {
        Value::Object(fields) => json!({ "id": fields.get(field).or(fields.get("id")) }),
        Value::String(text) if field == "id" => json!(text),
        other => json!({ "id": other }),
    };
    items.iter().map(entry).collect()
}

/// Puts variables in: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`, `${NAME:+other}`, `$$`.
fn interpolated(value: &Value, variable: &dyn Fn(&str) -> Option<String>) -> Result<Value, String> {
    match value {
        Value::String(text) => substituted(text, variable).map(Value::String),
        Value::Array(items) => {
            items.iter().map(|item| interpolated(item, variable)).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| Ok((key.clone(), interpolated(value, variable)?)));
            fields.collect::<Result<Map<_, _>, String>>().map(Value::Object)
        }
        other => Ok(other.clone()),
    }
}

fn substituted(written: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = written;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inner, after) =
                after.split_once('}').ok_or_else(|| format!("invalid interpolation format: {written:?}"))?;
            out.push_str(&expanded(inner, variable)?);
            rest = after;
        } else {
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            out.push_str(&variable(&after[..end]).unwrap_or_default());
            rest = &after[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn expanded(inner: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
    let (name, operator) = inner.split_at(end);
    let value = variable(name);
    let filled = value.clone().filter(|value| !value.is_empty());
    let or = |value: Option<String>, word: &str| value.map_or_else(|| substituted(word, variable), Ok);
    let must = |value: Option<String>, word: &str| {
        value.ok_or_else(|| format!("required variable {name} is missing a value: {word}"))
    };
    match operator {
        "" => Ok(value.unwrap_or_default()),
        _ => match operator.split_at(operator.len().min(2)) {
            (":-", word) => or(filled, word),
            (":?", word) => must(filled, word),
            (":+", word) => Ok(if filled.is_some() { word.to_owned() } else { String::new() }),
            _ => match operator.split_at(1) {
                ("-", word) => or(value, word),
                ("?", word) => must(value, word),
                ("+", word) => Ok(if value.is_some() { word.to_owned() } else { String::new() }),
                _ => Err(format!("invalid interpolation format: {inner:?}")),
            },
        },
    }
}
