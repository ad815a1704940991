//! Runs `bake`: reads files, resolves targets, prints them or builds them, those that others use first.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::{Map, Value, json};

use super::compose;
use super::config::{Config, Group, Override};
use super::file::Definitions;
use super::functions::sanitized;
use super::order::{self, Common};
use super::target::{self, Target};
use crate::commands::build;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{self, Parsed};
use crate::grammar::IMAGE_BUILD;
use crate::options;

/// Files that are read when none is named, as far as they are there.
const DEFAULT_FILES: [&str; 8] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];

/// What is to be built.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) targets: BTreeMap<String, Target>,
}

pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    refuse_unbuilt(parsed)?;
    let files = read_files(parsed.all("file"))?;
    let given: BTreeMap<String, String> = parsed.all("var").iter().map(|text| pair(text)).collect::<Result<_>>()?;
    let variable = |name: &str| given.get(name).cloned().or_else(|| std::env::var(name).ok());
    let definitions = define(&files, &variable).map_err(failed)?;
    let config = configure(&files, &definitions, &variable).map_err(failed)?;
    if let Some(what) = listed(parsed) {
        return list(&what, &config, &definitions, context);
    }
    definitions.validate().map_err(failed)?;
    let mut overrides = parsed.all("set").to_vec();
    for (flag, key) in [("no-cache", "no-cache"), ("pull", "pull")] {
        if parsed.changed(flag) {
            overrides.push(format!("*.{key}={}", parsed.on(flag)));
        }
    }
    for (flag, key) in [("provenance", "provenance"), ("sbom", "sbom")] {
        if let Some(value) = parsed.text(flag) {
            overrides.push(format!("*.attest=type={key},disabled={}", matches!(value, "false" | "0")));
        }
    }
    if parsed.on("load") {
        overrides.push("*.output+=type=docker".to_owned());
    }
    let chosen = choose(&config, &parsed.args, &overrides, &variable).map_err(failed)?;
    if parsed.on("print") {
        return print(&chosen, context);
    }
    build_all(&chosen, parsed, context).await
}

fn failed(text: String) -> Failure {
    Failure::new(format!("ERROR: {text}"))
}

fn refuse_unbuilt(parsed: &Parsed) -> Result<()> {
    if parsed.changed("policy") {
        return Err(Failure::not_implemented("`--policy` of bake"));
    }
    match parsed.text_or_empty("builder") {
        "" | "default" => Ok(()),
        other => Err(Failure::new(format!("ERROR: no builder {} found", flags::go_quote(other)))),
    }
}

fn pair(text: &str) -> Result<(String, String)> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Failure::new(format!("ERROR: invalid variable {text:?}, expected NAME=value")))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Reads the files that are named, or those that are there.
fn read_files(named: &[String]) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    if named.is_empty() {
        for name in DEFAULT_FILES {
            match std::fs::read_to_string(name) {
                Ok(text) => files.push((name.to_owned(), text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::new(format!("ERROR: open {name}: {error}"))),
            }
        }
        if files.is_empty() {
            return Err(Failure::new("ERROR: couldn't find a bake definition"));
        }
    }
    for name in named {
        if name.contains("://") {
            return Err(Failure::not_implemented(&format!("the remote definition {name} of bake")));
        }
        let mut text = String::new();
        let read = match name.as_str() {
            "-" => std::io::stdin().lock().read_to_string(&mut text).map(drop),
            path => std::fs::read_to_string(path).map(|read| text = read),
        };
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::new(format!("ERROR: open {name}: no such file or directory")),
            _ => Failure::new(format!("ERROR: open {name}: {error}")),
        })?;
        files.push((name.clone(), text));
    }
    Ok(files)
}

/// A Compose file, as data; none for what is a bake file.
fn compose_document(name: &str, text: &str) -> Option<Result<Value, String>> {
    let is_yaml = name.ends_with(".yml") || name.ends_with(".yaml");
    if name.ends_with(".hcl") || name.ends_with(".json") {
        return None;
    }
    match ferry_spec::yaml::parse(text) {
        Ok(document) if compose::is_compose(&document) => Some(Ok(document)),
        Ok(_) if is_yaml => Some(Err(format!("failed to parse {name}: no services"))),
        Err(error) if is_yaml => Some(Err(format!("failed to parse {name}: {error}"))),
        _ => None,
    }
}

pub(super) fn define<'a>(
    files: &[(String, String)],
    variable: &'a dyn Fn(&str) -> Option<String>,
) -> Result<Definitions<'a>, String> {
    let mut definitions = Definitions::new(variable);
    for (name, text) in files {
        if compose_document(name, text).is_some() {
            continue;
        }
        let is_json = name.ends_with(".json") || (!name.ends_with(".hcl") && text.trim_start().starts_with('{'));
        let added = match is_json {
            true => serde_json::from_str(text)
                .map_err(|error| error.to_string())
                .and_then(|document| definitions.add_json(document)),
            false => definitions.add_hcl(text),
        };
        added.map_err(|error| format!("failed to parse {name}: {error}"))?;
    }
    Ok(definitions)
}

pub(super) fn configure(
    files: &[(String, String)],
    definitions: &Definitions<'_>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, String> {
    let mut config = Config::default();
    for (name, text) in files {
        if let Some(document) = compose_document(name, text) {
            compose::add(&mut config, &document?, variable)
                .map_err(|error| format!("failed to parse {name}: {error}"))?;
        }
    }
    config.read(definitions)?;
    Ok(config)
}

/// Resolves what is asked for, and what that needs.
pub(super) fn choose(
    config: &Config,
    asked: &[String],
    overrides: &[String],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Chosen, String> {
    let overrides = overrides.iter().map(|text| Override::parse(text)).collect::<Result<Vec<_>, _>>()?;
    config.check_overrides(&overrides)?;
    let asked = if asked.is_empty() { vec!["default".to_owned()] } else { asked.to_vec() };
    let mut names: Vec<String> = Vec::new();
    for pattern in asked {
        let pattern = if pattern.contains(['*', '?', '[']) { pattern } else { sanitized(&pattern) };
        names.extend(config.matching(&pattern)?.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    let mut chosen = Chosen::default();
    for name in &names {
        let (targets, groups) = config.members(name, &mut Vec::new());
        for target in targets {
            let resolved = config.resolve(&target, &overrides, variable)?;
            chosen.targets.insert(target, resolved);
        }
        for group in groups {
            if let Some((_, found)) = config.groups.iter().find(|(known, _)| *known == group) {
                chosen.groups.insert(group, found.clone());
            }
        }
    }
    let default = chosen.groups.entry("default".to_owned()).or_default();
    for name in &names {
        let is_itself = name == "default" && !default.targets.is_empty();
        if !is_itself && !default.targets.contains(name) {
            default.targets.push(name.clone());
        }
    }
    default.targets.sort();
    for name in chosen.targets.keys().cloned().collect::<Vec<_>>() {
        link(config, &name, &overrides, variable, &mut chosen, &mut Vec::new())?;
    }
    Ok(chosen)
}

/// The targets that a target's contexts name.
fn links(target: &Target) -> Vec<String> {
    let contexts = target.get("contexts").and_then(Value::as_object).into_iter().flatten();
    contexts.filter_map(|(_, value)| value.as_str()?.strip_prefix("target:").map(str::to_owned)).collect()
}

/// Adds the targets that others use, which go nowhere themselves.
fn link(
    config: &Config,
    name: &str,
    overrides: &[Override],
    variable: &dyn Fn(&str) -> Option<String>,
    chosen: &mut Chosen,
    above: &mut Vec<String>,
) -> Result<(), String> {
    above.push(name.to_owned());
    for other in links(&chosen.targets[name]) {
        if other == name {
            return Err(format!("target {other} cannot link to itself"));
        }
        if above.contains(&other) {
            return Err(format!("infinite loop from {name} to {other}"));
        }
        if !chosen.targets.contains_key(&other) {
            let mut resolved = config.resolve(&other, overrides, variable)?;
            resolved.insert("output".to_owned(), json!([{ "type": "cacheonly" }]));
            chosen.targets.insert(other.clone(), resolved);
        }
        link(config, &other, overrides, variable, chosen, above)?;
    }
    above.pop();
    Ok(())
}

/// What is to be built, as buildx prints it.
pub(super) fn printed(chosen: &Chosen) -> Result<String> {
    let mut groups = Map::new();
    for (name, group) in &chosen.groups {
        let mut fields = Map::new();
        if !group.description.is_empty() {
            fields.insert("description".to_owned(), json!(group.description));
        }
        fields.insert("targets".to_owned(), json!(group.targets));
        groups.insert(name.clone(), Value::Object(fields));
    }
    let targets: Map<String, Value> =
        chosen.targets.iter().map(|(name, one)| (name.clone(), target::printed(one))).collect();
    let text = serde_json::to_string_pretty(&json!({ "group": groups, "target": targets }));
    text.map_err(|error| Failure::new(error.to_string()))
}

fn print(chosen: &Chosen, context: &Context) -> Result<u8> {
    context.printer.line(&printed(chosen)?)?;
    Ok(0)
}

fn listed(parsed: &Parsed) -> Option<String> {
    match (parsed.text("list"), parsed.on("list-targets"), parsed.on("list-variables")) {
        (Some(what), ..) => Some(what.trim_start_matches("type=").to_owned()),
        (None, true, _) => Some("targets".to_owned()),
        (None, false, true) => Some("variables".to_owned()),
        _ => None,
    }
}

fn list(what: &str, config: &Config, definitions: &Definitions<'_>, context: &Context) -> Result<u8> {
    let mut rows = Vec::new();
    match what {
        "targets" => {
            rows.push(["TARGET".to_owned(), "DESCRIPTION".to_owned(), String::new()]);
            let mut all: BTreeMap<&str, String> = BTreeMap::new();
            for (name, group) in &config.groups {
                let description =
                    if group.description.is_empty() { group.targets.join(", ") } else { group.description.clone() };
                all.insert(name, description);
            }
            for (name, one) in &config.targets {
                all.insert(name, one.get("description").and_then(Value::as_str).unwrap_or_default().to_owned());
            }
            rows.extend(all.into_iter().map(|(name, description)| [name.to_owned(), description, String::new()]));
        }
        "variables" => {
            rows.push(["VARIABLE".to_owned(), "VALUE".to_owned(), "DESCRIPTION".to_owned()]);
            for (name, value, description) in definitions.listed_variables().map_err(failed)? {
                let value = match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                rows.push([name, value, description]);
            }
        }
        other => return Err(Failure::new(format!("ERROR: unsupported list type {other:?} (targets, variables)"))),
    }
    let widths: Vec<usize> =
        (0..2).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    for [first, second, third] in rows {
        let line = format!("{first:<0$}   {second:<1$}   {third}", widths[0], widths[1]);
        context.printer.line(line.trim_end())?;
    }
    Ok(0)
}

/// Builds every target, those that others use first.
async fn build_all(chosen: &Chosen, parsed: &Parsed, context: &Context) -> Result<u8> {
    let scratch = std::env::temp_dir().join(format!(
        "ferry-bake-{}-{:x}",
        std::process::id(),
        jiff::Timestamp::now().as_nanosecond()
    ));
    std::fs::create_dir(&scratch)?;
    let built = build_each(chosen, parsed, context, &scratch).await;
    // Left to whoever cleans the temporary folder when it cannot be removed.
    let _ = std::fs::remove_dir_all(&scratch);
    built
}

async fn build_each(chosen: &Chosen, parsed: &Parsed, context: &Context, scratch: &std::path::Path) -> Result<u8> {
    let names: BTreeMap<String, String> = chosen
        .targets
        .values()
        .flat_map(links)
        .map(|name| {
            let image =
                format!("ferry-bake/{}:{}", name.to_lowercase(), scratch.file_name().unwrap_or_default().display());
            (name, image)
        })
        .collect();
    let built = build_in_order(chosen, parsed, context, scratch, &names).await;
    if !names.is_empty() {
        let client = context.client().await?;
        for image in names.values() {
            // One whose build failed was never named.
            let _ = client.image_remove(image, false, false, &[]).await;
        }
    }
    built
}

/// `names` are those by which targets that others use are to be had.
async fn build_in_order(
    chosen: &Chosen,
    parsed: &Parsed,
    context: &Context,
    scratch: &std::path::Path,
    names: &BTreeMap<String, String>,
) -> Result<u8> {
    let mut metadata = Map::new();
    let mut code = 0;
    let calls = if parsed.on("check") { "check" } else { parsed.text_or_empty("call") };
    for name in in_order(chosen) {
        let target = &chosen.targets[&name];
        let path = |kind: &str| scratch.join(format!("{name}.{kind}")).display().to_string();
        let common = Common {
            progress: parsed.text_or_empty("progress").to_owned(),
            call: calls.to_owned(),
            pushes: parsed.on("push") && !is_hidden(target),
            metadata: parsed.text("metadata-file").map(|_| path("json")),
            tag: names.get(&name).cloned(),
            allowed: parsed.all("allow").iter().filter(|right| !right.starts_with("fs")).cloned().collect(),
        };
        let words = order::words(target, &common, &|other| names.get(other).cloned());
        let read = flags::parse(IMAGE_BUILD.flags, false, &words, options::checks::check);
        let order = read.map_err(|error| Failure::new(format!("ERROR: target {name}: {error:?}")))?;
        let inline = target.get("dockerfile-inline").and_then(Value::as_str);
        code = code.max(build::run_with(&order, context, inline).await?);
        if let Ok(text) = std::fs::read_to_string(path("json")) {
            metadata.insert(name.clone(), serde_json::from_str(&text).unwrap_or_default());
        }
    }
    if let Some(path) = parsed.text("metadata-file") {
        let text = serde_json::to_string_pretty(&metadata).map_err(|error| Failure::new(error.to_string()))?;
        std::fs::write(path, text)?;
    }
    Ok(code)
}

/// A target that only others use.
fn is_hidden(target: &Target) -> bool {
    target.get("output").and_then(|outputs| outputs.get(0)).is_some_and(|output| output["type"] == "cacheonly")
}

fn in_order(chosen: &Chosen) -> Vec<String> {
    let mut ordered: Vec<String> = Vec::new();
    for name in chosen.targets.keys() {
        place(chosen, name, &mut ordered);
    }
    ordered
}

fn place(chosen: &Chosen, name: &str, ordered: &mut Vec<String>) {
    if ordered.iter().any(|known| known == name) {
        return;
    }
    for other in links(&chosen.targets[name]) {
        place(chosen, &other, ordered);
    }
    ordered.push(name.to_owned());
}
