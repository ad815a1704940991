//! Runs `bake`: reads files, resolves targets, prints them or has them built.

use std::collections::{BTreeMap, HashSet};
use std::io::Read as _;

use serde_json::{Map, Value, json};

use super::config::{Config, DEEPEST, Group, Override};
use super::entitlements::Rights;
use super::file::Definitions;
use super::functions::sanitized;
use super::remote::{self, Remote};
use super::target::{self, Target};
use super::{building, compose, listing, syntax};
use crate::commands::build::policy;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{self, Parsed};

/// Files that are read when none is named, as far as they are there.
pub(super) const DEFAULT_FILES: [&str; 8] = [
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
    let listed = listing::asked(parsed)?;
    if listed.is_some() && parsed.on("print") {
        return Err(Failure::new("ERROR: --print and --list are mutually exclusive"));
    }
    let (address, command_context, targets) = remote::split(&parsed.args);
    let (remote, files) = match address {
        Some(address) => remote_files(address, parsed, context).await?,
        None => (None, read_files(parsed.all("file"))?),
    };
    let given: BTreeMap<String, String> = parsed.all("var").iter().map(|text| pair(text)).collect::<Result<_>>()?;
    let variable = |name: &str| given.get(name).cloned().or_else(|| std::env::var(name).ok());
    let mut definitions = define(&files, &variable)?;
    if let Some(context) = command_context {
        definitions.set_command_context(context);
    }
    let config = configure(&files, &definitions, &variable).map_err(failed)?;
    if let Some(asked) = listed {
        return asked.show(&config, &definitions, context);
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
            let said = match flags::parse_bool(value) {
                Ok(is_on) => format!("disabled={}", !is_on),
                Err(_) => value.to_owned(),
            };
            overrides.push(format!("*.attest=type={key},{said}"));
        }
    }
    if parsed.on("load") {
        overrides.push("*.output+=type=docker".to_owned());
    }
    let mut chosen = choose(&config, targets, &overrides, &variable).map_err(failed)?;
    refuse_standard_input(&chosen)?;
    if let Some(remote) = &remote {
        chosen.targets.values_mut().for_each(|target| remote.place(target));
    }
    if parsed.on("print") {
        return print(&chosen, context);
    }
    lend_agents(&mut chosen);
    ask_for_rights(&chosen, remote.as_ref(), &overrides, parsed, context)?;
    building::build_all(&chosen, parsed, context).await
}

/// A repository that is reached by SSH needs the user's agent, which is asked for like any other.
fn lend_agents(chosen: &mut Chosen) {
    for target in chosen.targets.values_mut() {
        let context = target.get("context").and_then(Value::as_str).unwrap_or_default();
        if remote::is_by_ssh(context) && !target.contains_key("ssh") {
            target.insert("ssh".to_owned(), json!([{ "id": "default" }]));
        }
    }
}

/// Asks for what the targets want beyond what everybody may.
fn ask_for_rights(
    chosen: &Chosen,
    remote: Option<&Remote>,
    overrides: &[String],
    parsed: &Parsed,
    context: &Context,
) -> Result<()> {
    let working = std::env::current_dir()?;
    let mut granted = Rights::granted(parsed.all("allow"), &working)?;
    if let Some(folder) = remote.and_then(Remote::folder) {
        granted.grant_reading(folder);
    }
    granted.grant_overrides(overrides);
    granted.missing(chosen)?.ask(remote.is_some(), &working, context)
}

/// Standard input is the definition's, or the user's, and no target's.
fn refuse_standard_input(chosen: &Chosen) -> Result<()> {
    for key in ["context", "dockerfile"] {
        if chosen.targets.values().any(|target| target.get(key).and_then(Value::as_str) == Some("-")) {
            return Err(failed(format!("{key} from stdin not allowed in bake")));
        }
    }
    Ok(())
}

fn failed(text: String) -> Failure {
    Failure::new(format!("ERROR: {text}"))
}

fn refuse_unbuilt(parsed: &Parsed) -> Result<()> {
    policy::check_for_bake(parsed.all("policy"))?;
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
            match std::fs::read(name) {
                Ok(bytes) => files.push((name.to_owned(), decoded(name, bytes)?)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::new(format!("ERROR: open {name}: {error}"))),
            }
        }
        if files.is_empty() {
            return Err(Failure::new("ERROR: couldn't find a bake definition"));
        }
    }
    for name in named {
        let name = name.strip_prefix("cwd://").unwrap_or(name);
        let mut bytes = Vec::new();
        let read = match name {
            "-" => std::io::stdin().lock().read_to_end(&mut bytes).map(drop),
            path => std::fs::read(path).map(|read| bytes = read),
        };
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::new(format!("ERROR: open {name}: no such file or directory")),
            _ => Failure::new(format!("ERROR: open {name}: {error}")),
        })?;
        files.push((name.to_owned(), decoded(name, bytes)?));
    }
    Ok(files)
}

/// A file of definitions as text.
pub(super) fn decoded(name: &str, bytes: Vec<u8>) -> Result<String> {
    syntax::decoded(name, bytes).map_err(badly_written)
}

fn badly_written(error: syntax::SyntaxError) -> Failure {
    Failure::new(format!("{}ERROR: {}", error.excerpt, error.text))
}

/// Brings the definitions of an address here, and reads those of this side that are named beside them.
async fn remote_files(
    address: &str,
    parsed: &Parsed,
    context: &Context,
) -> Result<(Option<Remote>, Vec<(String, String)>)> {
    let (there, here) = remote::sorted(parsed.all("file"));
    let display = remote::display(parsed.text_or_empty("progress"), context)?;
    let remote = display.around(Remote::fetch(address, &there, &display)).await?;
    let mut files = remote.files.clone();
    if !here.is_empty() {
        files.extend(read_files(&here)?);
    }
    match files.is_empty() {
        true => Err(Failure::new("ERROR: couldn't find a bake definition")),
        false => Ok((Some(remote), files)),
    }
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
) -> Result<Definitions<'a>> {
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
            false => {
                syntax::check(name, text).map_err(badly_written)?;
                definitions.add_hcl(text)
            }
        };
        added.map_err(|error| failed(format!("failed to parse {name}: {error}")))?;
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
        let (targets, groups) = config.members(name);
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
    let mut linked = HashSet::new();
    for name in chosen.targets.keys().cloned().collect::<Vec<_>>() {
        link(config, &name, &overrides, variable, &mut chosen, (&mut Vec::new(), &mut linked))?;
    }
    Ok(chosen)
}

/// The targets that a target's contexts name.
pub(super) fn links(target: &Target) -> Vec<String> {
    let contexts = target.get("contexts").and_then(Value::as_object).into_iter().flatten();
    contexts.filter_map(|(_, value)| value.as_str()?.strip_prefix("target:").map(str::to_owned)).collect()
}

/// Adds the targets that others use, which go nowhere themselves; `linked` are those whose own are there.
fn link(
    config: &Config,
    name: &str,
    overrides: &[Override],
    variable: &dyn Fn(&str) -> Option<String>,
    chosen: &mut Chosen,
    (above, linked): (&mut Vec<String>, &mut HashSet<String>),
) -> Result<(), String> {
    if above.len() == DEEPEST {
        return Err(format!("target {name} is linked through more than {DEEPEST} others"));
    }
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
        if !linked.contains(&other) {
            link(config, &other, overrides, variable, chosen, (above, linked))?;
        }
    }
    above.pop();
    linked.insert(name.to_owned());
    Ok(())
}

/// What is to be built, as buildx prints it.
pub(super) fn printed(chosen: &Chosen) -> Result<String> {
    let targets: Map<String, Value> =
        chosen.targets.iter().map(|(name, one)| (name.clone(), target::printed(one))).collect();
    pretty(&json!({ "group": groups(chosen), "target": targets }))
}

/// JSON as it is shown.
pub(super) fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(error.to_string()))
}

/// The groups among what is to be built, as buildx prints them.
pub(super) fn groups(chosen: &Chosen) -> Value {
    let mut groups = Map::new();
    for (name, group) in &chosen.groups {
        let mut fields = Map::new();
        if !group.description.is_empty() {
            fields.insert("description".to_owned(), json!(group.description));
        }
        fields.insert("targets".to_owned(), json!(group.targets));
        groups.insert(name.clone(), Value::Object(fields));
    }
    Value::Object(groups)
}

fn print(chosen: &Chosen, context: &Context) -> Result<u8> {
    context.printer.line(&printed(chosen)?)?;
    Ok(0)
}
