//! Arguments of the whole file: predefined ones, those of ARG before the first FROM, proxies.

use std::collections::{BTreeMap, BTreeSet};

use ferry_dockerfile::expand::{Environment, Lexer};
use ferry_dockerfile::instruction::ArgDefinition;
use ferry_dockerfile::{Dockerfile, Lines};
use ferry_spec::platform::Platform;

use super::error::PlanError;
use super::stages::Platforms;
use crate::graph::ProxyEnvironment;

/// Names that are told to the planner alone: a step's environment does not have them.
pub(super) const NOT_IN_ENVIRONMENT: &[&str] = &["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Arguments that need no ARG.
const PREDEFINED: &[&str] = &[
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
    "SOURCE_DATE_EPOCH",
];

/// What is known of an ARG.
#[derive(Debug, Clone)]
pub(super) struct ArgFact {
    pub(super) definition: ArgDefinition,
    pub(super) value: String,
    /// Arguments that its default is made of.
    pub(super) needs: BTreeSet<String>,
    pub(super) lines: Lines,
}

/// The arguments that every file has.
pub(super) fn predefined(
    platforms: &Platforms,
    overrides: &BTreeMap<String, String>,
    target_stage: &str,
) -> Environment {
    let (build, target) = (&platforms.build[0], &platforms.target);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let values = [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", text(&build.os_version)),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", text(&build.variant)),
        ("TARGETPLATFORM", with_os_version(target)),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", text(&target.os_version)),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", text(&target.variant)),
        ("TARGETSTAGE", if target_stage.is_empty() { "default".to_owned() } else { target_stage.to_owned() }),
    ];
    let mut arguments = Environment::new();
    for (name, value) in values {
        arguments.set(name, overrides.get(name).cloned().unwrap_or(value));
    }
    arguments
}

/// A platform with the version of its operating system: `windows(10.0.17763)/amd64`.
pub(super) fn with_os_version(platform: &Platform) -> String {
    match platform.os_version.as_deref() {
        None | Some("") => platform.to_string(),
        Some(version) => {
            let text = platform.to_string();
            let (os, rest) = text.split_once('/').unwrap_or((&text, ""));
            format!("{os}({version})/{rest}")
        }
    }
}

/// Adds the arguments of ARG before the first FROM.
pub(super) fn add_global(
    mut arguments: Environment,
    lexer: &Lexer,
    file: &Dockerfile,
    build_args: &BTreeMap<String, String>,
) -> Result<(Environment, BTreeMap<String, ArgFact>), PlanError> {
    let mut facts: BTreeMap<String, ArgFact> = BTreeMap::new();
    for arg in &file.global_args {
        for definition in &arg.definitions {
            let mut fact = ArgFact {
                definition: definition.clone(),
                value: String::new(),
                needs: BTreeSet::new(),
                lines: arg.lines,
            };
            let value = match (build_args.get(&definition.name), &definition.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => {
                    let expanded =
                        lexer.text(default, &arguments).map_err(|(error, _)| PlanError::from(error).at(arg.lines))?;
                    fact.needs = expanded.found;
                    if fact.needs.remove(&definition.name)
                        && let Some(before) = facts.get(&definition.name)
                    {
                        fact.needs.extend(before.needs.iter().cloned());
                    }
                    Some(expanded.text)
                }
                (None, None) => None,
            };
            if let Some(value) = value {
                arguments.set(&definition.name, value.clone());
                fact.value = value;
            }
            facts.insert(definition.name.clone(), fact);
        }
    }
    Ok((arguments, facts))
}

/// Returns the proxies among build arguments; their names are the same in any case.
pub(super) fn proxies(build_args: &BTreeMap<String, String>) -> Option<ProxyEnvironment> {
    let mut proxies = ProxyEnvironment::default();
    let mut any = false;
    for (name, value) in build_args {
        let place = match name.to_lowercase().as_str() {
            "http_proxy" => &mut proxies.http_proxy,
            "https_proxy" => &mut proxies.https_proxy,
            "ftp_proxy" => &mut proxies.ftp_proxy,
            "no_proxy" => &mut proxies.no_proxy,
            "all_proxy" => &mut proxies.all_proxy,
            _ => continue,
        };
        value.clone_into(place);
        any = true;
    }
    any.then_some(proxies)
}

/// Tells whether a build argument means something without an ARG.
pub(super) fn needs_no_declaration(name: &str) -> bool {
    let proxies = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];
    PREDEFINED.contains(&name)
        || NOT_IN_ENVIRONMENT.contains(&name)
        || proxies.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
}
