//! Targets: what a build of bake's is made of, merged and printed as buildx does. Pure.
//!
//! A target is a map of attributes in buildx's own names; [`merge`] knows which of them add up.

use serde_json::{Map, Value, json};

use super::evaluate::text;
use crate::flags::parse_bool;

/// Attributes, by their names.
pub(super) type Target = Map<String, Value>;

/// The attributes in the order that they are printed in.
pub(super) const ATTRIBUTES: [&str; 27] = [
    "description",
    "inherits",
    "annotations",
    "attest",
    "context",
    "contexts",
    "dockerfile",
    "dockerfile-inline",
    "args",
    "labels",
    "tags",
    "cache-from",
    "cache-to",
    "target",
    "secret",
    "ssh",
    "platforms",
    "output",
    "pull",
    "no-cache",
    "network",
    "no-cache-filter",
    "shm-size",
    "ulimits",
    "call",
    "entitlements",
    "extra-hosts",
];

/// Brings the values of a target into the form that they have when they are printed.
pub(super) fn typed(name: &str, attributes: Map<String, Value>) -> Result<Target, String> {
    let mut target = Target::new();
    for (key, value) in attributes {
        if value.is_null() {
            continue;
        }
        let typed = match key.as_str() {
            "args" | "labels" | "contexts" | "extra-hosts" => words_by_name(&value),
            "tags" | "platforms" | "inherits" | "annotations" | "no-cache-filter" | "ulimits" | "entitlements" => {
                words(&value)
            }
            "cache-from" | "cache-to" | "output" | "secret" | "ssh" | "attest" => entries(&key, &value),
            "pull" | "no-cache" => super::evaluate::truth(&value).map(Value::Bool),
            _ => text(&value).map(Value::String),
        };
        target.insert(key.clone(), typed.map_err(|error| format!("target {name:?}: {key}: {error}"))?);
    }
    Ok(target)
}

fn words(value: &Value) -> Result<Value, String> {
    match value {
        Value::Array(items) => {
            items.iter().filter(|item| !item.is_null()).map(|item| text(item).map(Value::String)).collect()
        }
        other => Err(format!("a list is required, not {other}")),
    }
}

fn words_by_name(value: &Value) -> Result<Value, String> {
    let Value::Object(fields) = value else { return Err(format!("an object is required, not {value}")) };
    let given = fields.iter().filter(|(_, value)| !value.is_null());
    let all: Map<String, Value> =
        given.map(|(key, value)| Ok((key.clone(), Value::String(text(value)?)))).collect::<Result<_, String>>()?;
    Ok(Value::Object(all))
}

/// Reads a list of entries, each `type=x,key=value` or an object.
fn entries(key: &str, value: &Value) -> Result<Value, String> {
    let Value::Array(items) = value else { return Err(format!("a list is required, not {value}")) };
    let each = |item: &Value| match item {
        Value::Object(fields) if key == "ssh" => agent(fields),
        Value::Object(fields) => {
            let fields: Result<Map<_, _>, String> =
                fields.iter().map(|(name, value)| Ok((field_name(key, name), Value::String(text(value)?)))).collect();
            fields.map(Value::Object)
        }
        other => entry(key, &text(other)?),
    };
    let read: Vec<Value> = items.iter().filter(|item| item.as_str() != Some("")).map(each).collect::<Result<_, _>>()?;
    Ok(Value::Array(read))
}

/// The name of a field as it is known here, however it is written.
fn field_name(key: &str, written: &str) -> String {
    match (key, written.trim().to_lowercase().as_str()) {
        ("secret", "source") => "src".to_owned(),
        ("output", "dst" | "destination") => "dest".to_owned(),
        (_, name) => name.to_owned(),
    }
}

/// An agent, written as an object.
fn agent(fields: &Map<String, Value>) -> Result<Value, String> {
    let id = fields.get("id").map_or_else(|| Ok("default".to_owned()), text)?;
    if id.contains('=') {
        return Err(format!("invalid id {id:?} of an agent"));
    }
    let paths = match fields.get("paths") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(paths)) => paths.iter().map(text).collect::<Result<_, _>>()?,
        Some(path) => vec![text(path)?],
    };
    entry("ssh", &format!("{id}={}", paths.join(",")))
}

/// Reads one entry as it is written on the command line.
pub(super) fn entry(key: &str, written: &str) -> Result<Value, String> {
    if key == "ssh" {
        let (id, paths) = written.split_once('=').unwrap_or((written, ""));
        let mut fields = Map::from_iter([("id".to_owned(), json!(id))]);
        if !paths.is_empty() {
            fields.insert("paths".to_owned(), json!(paths.split(',').collect::<Vec<_>>().join(",")));
        }
        return Ok(Value::Object(fields));
    }
    if !written.contains('=') {
        return match key {
            "cache-from" | "cache-to" => Ok(json!({"ref": written, "type": "registry"})),
            "output" if written == "-" => Ok(json!({"dest": "-", "type": "tar"})),
            "output" => Ok(json!({"dest": written, "type": "local"})),
            _ => Err(format!("invalid value {written:?}")),
        };
    }
    let mut fields = Map::new();
    for field in ferry_dockerfile::csv::fields(written).map_err(|error| error.to_string())? {
        let (name, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field:?}"))?;
        fields.insert(field_name(key, name), json!(value));
    }
    Ok(Value::Object(sorted(fields)))
}

fn sorted(fields: Map<String, Value>) -> Map<String, Value> {
    let all: std::collections::BTreeMap<String, Value> = fields.into_iter().collect();
    all.into_iter().collect()
}

/// Puts the attributes of another target over those of one.
pub(super) fn merge(target: &mut Target, other: &Target) {
    for (key, value) in other {
        match (key.as_str(), target.get_mut(key), value) {
            ("args" | "labels" | "contexts" | "extra-hosts", Some(Value::Object(known)), Value::Object(new)) => {
                known.extend(new.clone());
            }
            (
                "annotations" | "attest" | "secret" | "ssh" | "cache-from" | "no-cache-filter" | "ulimits"
                | "entitlements" | "inherits",
                Some(Value::Array(known)),
                Value::Array(new),
            ) => {
                // The same secret, agent or attestation is told anew, in place of what was said before.
                let identity = match key.as_str() {
                    "secret" | "ssh" => Some("id"),
                    "attest" => Some("type"),
                    _ => None,
                };
                if let Some(field) = identity {
                    known.retain(|one| !new.iter().any(|other| other[field] == one[field]));
                }
                known.extend(new.iter().cloned());
            }
            _ => drop(target.insert(key.clone(), value.clone())),
        }
    }
}

/// Removes what is there twice, and adds what follows from the rest.
pub(super) fn normalize(target: &mut Target) {
    if target.get("network").and_then(Value::as_str) == Some("host") {
        let rights = target.entry("entitlements").or_insert_with(|| json!([]));
        if let Value::Array(rights) = rights {
            rights.push(json!("network.host"));
        }
    }
    if let Some(Value::String(context)) = target.get_mut("context")
        && !context.contains("://")
        && !context.starts_with("git@")
    {
        *context = ferry_spec::path::clean(context);
    }
    if let Some(Value::Array(secrets)) = target.get_mut("secret") {
        secrets.iter_mut().filter_map(Value::as_object_mut).for_each(untyped);
    }
    if let Some(Value::Array(attests)) = target.get_mut("attest") {
        *attests = told_last(std::mem::take(attests));
    }
    for value in target.values_mut() {
        if let Value::Array(items) = value {
            let mut seen: Vec<Value> = Vec::new();
            items.retain(|item| {
                let is_new = !seen.contains(item);
                seen.push(item.clone());
                is_new
            });
        }
    }
    if let Some(Value::Object(contexts)) = target.get_mut("contexts") {
        contexts.retain(|_, value| value.as_str() != Some(""));
    }
    target.retain(|_, value| match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    });
}

/// Says by its fields alone where a secret is.
fn untyped(secret: &mut Map<String, Value>) {
    if secret.remove("type").is_some_and(|kind| kind == "env")
        && !secret.contains_key("env")
        && let Some(source) = secret.remove("src")
    {
        secret.insert("env".to_owned(), source);
    }
}

/// Of statements of one type what was said last, in the place of the first.
fn told_last(attests: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for mut one in attests {
        if let Some(fields) = one.as_object_mut()
            && let Some(disabled) = fields.remove("disabled")
            && disabled.as_str().is_some_and(|value| parse_bool(value) == Ok(true))
        {
            fields.insert("disabled".to_owned(), json!(true));
        }
        match kept.iter_mut().find(|known| known["type"] == one["type"]) {
            Some(known) => *known = one,
            None => kept.push(one),
        }
    }
    kept
}

/// A target as it is printed.
pub(super) fn printed(target: &Target) -> Value {
    let escaped = |text: &str| Value::String(text.replace("${", "$${").replace("%{", "%%{"));
    let mut shown = Map::new();
    for key in ATTRIBUTES {
        let Some(value) = target.get(key) else { continue };
        let value = match (key, value) {
            ("args" | "labels" | "extra-hosts", Value::Object(fields)) => {
                let fields =
                    fields.iter().map(|(key, value)| (key.clone(), escaped(value.as_str().unwrap_or_default())));
                Value::Object(sorted(fields.collect()))
            }
            ("contexts", Value::Object(fields)) => Value::Object(sorted(fields.clone())),
            ("dockerfile-inline", Value::String(text)) => escaped(text),
            ("annotations", Value::Array(items)) => {
                items.iter().map(|item| escaped(item.as_str().unwrap_or_default())).collect()
            }
            ("secret", Value::Array(items)) => {
                let order = ["id", "src", "env"];
                let field = |item: &Value, name: &str| Some((name.to_owned(), item.get(name)?.clone()));
                let one = |item: &Value| Value::Object(order.iter().filter_map(|name| field(item, name)).collect());
                items.iter().map(one).collect()
            }
            ("cache-from" | "cache-to" | "output" | "attest" | "ssh", Value::Array(items)) => {
                items.iter().map(|item| Value::Object(sorted(item.as_object().cloned().unwrap_or_default()))).collect()
            }
            (_, other) => other.clone(),
        };
        shown.insert(key.to_owned(), value);
    }
    Value::Object(shown)
}

/// Applies one `--set TARGET.KEY[.NAME][+]=VALUE` to a target; `values` are all those of the same key.
pub(super) fn set(target: &mut Target, key: &str, values: &[String], appends: bool) -> Result<(), String> {
    let (head, name) = key.split_once('.').map_or((key, None), |(head, name)| (head, Some(name)));
    let last = values.last().cloned().unwrap_or_default();
    let mut put = |key: &str, value: Value| drop(target.insert(key.to_owned(), value));
    match (head, name) {
        ("args" | "labels" | "contexts" | "extra-hosts", Some(name)) => {
            let fields = target.entry(head).or_insert_with(|| json!({}));
            fields[name] = json!(last);
        }
        ("args" | "contexts" | "labels", None) => return Err(format!("invalid key {key}, {head} requires name")),
        ("context" | "dockerfile" | "target" | "call" | "shm-size" | "dockerfile-inline", None) => {
            put(head, json!(last))
        }
        ("network", None) => put("network", json!(last)),
        ("pull" | "no-cache", None) => {
            let value = super::evaluate::truth(&json!(last))
                .map_err(|_| format!("invalid value {last} for boolean key {head}"))?;
            put(head, json!(value));
        }
        ("tags" | "platform" | "no-cache-filter" | "ulimits" | "annotations" | "entitlements", None) => {
            let field = if head == "platform" { "platforms" } else { head };
            append(
                target,
                field,
                values.iter().map(|value| json!(value)).collect(),
                appends || matches!(head, "annotations" | "entitlements"),
            );
        }
        ("cache-from" | "cache-to" | "output" | "secrets" | "ssh" | "attest", None) => {
            let field = if head == "secrets" { "secret" } else { head };
            let read = values.iter().map(|value| entry(field, value)).collect::<Result<Vec<_>, _>>()?;
            append(target, field, read, appends || head == "attest");
        }
        _ => return Err(format!("unknown key: {head}")),
    }
    Ok(())
}

fn append(target: &mut Target, field: &str, values: Vec<Value>, appends: bool) {
    match target.get_mut(field) {
        Some(Value::Array(known)) if appends => known.extend(values),
        _ => drop(target.insert(field.to_owned(), Value::Array(values))),
    }
}
