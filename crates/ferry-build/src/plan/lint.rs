//! Checks that need more than the file: what variables have a value, what a base image is.

use std::collections::BTreeSet;

use ferry_dockerfile::check::{
    COPY_IGNORED_FILE, Checks, FROM_PLATFORM_FLAG_CONST_DISALLOWED, INVALID_BASE_IMAGE_PLATFORM,
    INVALID_DEFAULT_ARG_IN_FROM, REDUNDANT_TARGET_PLATFORM, SECRETS_USED_IN_ARG_OR_ENV, UNDEFINED_ARG_IN_FROM,
    UNDEFINED_VAR,
};
use ferry_dockerfile::expand::{Environment, Expanded, Lexer};
use ferry_dockerfile::ignore::Patterns;
use ferry_dockerfile::{Dockerfile, Lines, Stage, nearest};
use ferry_spec::path;
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;

use super::args::{NOT_IN_ENVIRONMENT, with_os_version};

/// Base images should be right without any build argument.
pub(super) fn default_bases(file: &Dockerfile, lexer: &Lexer, defaults: &Environment, checks: &mut Checks) {
    for stage in &file.stages {
        let Ok(expanded) = lexer.text(&stage.base, defaults) else { return };
        if Reference::parse(&expanded.text).is_err() {
            let detail = format!("Default value for ARG {} results in empty or invalid base image name", stage.base);
            checks.report(&INVALID_DEFAULT_ARG_IN_FROM, stage.lines, detail, &[]);
        }
    }
}

/// FROM should use arguments that are declared.
pub(super) fn undefined_in_from<'a>(
    missing: &BTreeSet<String>,
    declared: impl Iterator<Item = &'a str> + Clone,
    stage: &Stage,
    checks: &mut Checks,
) {
    for name in missing.iter().filter(|name| !declared.clone().any(|known| known == *name)) {
        let suggestion = nearest(name, declared.clone(), true).map(|near| format!(" (did you mean {near}?)"));
        let detail = format!("FROM argument '{name}' is not declared{}", suggestion.unwrap_or_default());
        checks.report(&UNDEFINED_ARG_IN_FROM, stage.lines, detail, &stage.comments);
    }
}

/// The platform of FROM should be neither the default nor always the same.
pub(super) fn from_platform(stage: &Stage, expanded: &Expanded, arguments: &Environment, checks: &mut Checks) {
    let only_target = expanded.found.len() == 1 && expanded.missing.is_empty();
    if only_target
        && expanded.found.contains("TARGETPLATFORM")
        && arguments.value("TARGETPLATFORM") == Some(expanded.text.as_str())
    {
        let detail = format!(
            "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
            stage.platform
        );
        checks.report(&REDUNDANT_TARGET_PLATFORM, stage.lines, detail, &stage.comments);
    }
    if !expanded.found.is_empty() || !expanded.missing.is_empty() {
        return;
    }
    // A stage that is named for its platform is meant that way.
    let Ok(platform) = Platform::parse(&expanded.text) else { return };
    if stage.name.contains(&platform.os) || stage.name.contains(&platform.architecture) {
        return;
    }
    let detail = format!("FROM --platform flag should not use constant value {:?}", expanded.text);
    checks.report(&FROM_PLATFORM_FLAG_CONST_DISALLOWED, stage.lines, detail, &stage.comments);
}

/// A base image should be of the platform asked for.
pub(super) fn base_platform(name: &str, wanted: &Platform, actual: &Platform, stage: &Stage, checks: &mut Checks) {
    if wanted.os == actual.os && wanted.architecture == actual.architecture {
        return;
    }
    let text = |platform: &Platform| with_os_version(&platform.normalized());
    let (actual, wanted) = (text(actual), text(wanted));
    let detail =
        format!("Base image {name} was pulled with platform {actual:?}, expected {wanted:?} for current build");
    checks.report(&INVALID_BASE_IMAGE_PLATFORM, stage.lines, detail, &[]);
}

/// Variables should have a value.
pub(super) fn undefined_variables(
    missing: &BTreeSet<String>,
    declared: &[String],
    environment: &Environment,
    lines: Lines,
    comments: &[String],
    checks: &mut Checks,
) {
    for name in missing {
        if declared.contains(name) || NOT_IN_ENVIRONMENT.contains(&name.as_str()) {
            continue;
        }
        let near = nearest(name, environment.names(), true).map(|near| format!(" (did you mean ${near}?)"));
        let detail = format!("Usage of undefined variable '${name}'{}", near.unwrap_or_default());
        checks.report(&UNDEFINED_VAR, lines, detail, comments);
    }
}

/// Names of secrets should be neither arguments nor variables: both can be read by whoever has the image.
pub(super) fn secret_names(keyword: &str, name: &str, lines: Lines, comments: &[String], checks: &mut Checks) {
    const SECRET: &[&str] =
        &["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: &[&str] = &["public", "file", "version"];
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    if has(SECRET) && !has(HARMLESS) {
        let detail = format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})");
        checks.report(&SECRETS_USED_IN_ARG_OR_ENV, lines, detail, comments);
    }
}

/// Files that are copied should not be ignored.
pub(super) fn ignored_source(
    keyword: &str,
    source: &str,
    ignored: &Patterns,
    lines: Lines,
    comments: &[String],
    checks: &mut Checks,
) {
    // With exceptions it cannot be told without the files.
    if ignored.is_empty() || ignored.has_exceptions() {
        return;
    }
    let source = path::clean(source);
    if matches!(source.as_str(), "." | "/") && !ignored.covers_root() {
        return;
    }
    if ignored.matches(&source) {
        let detail = format!("Attempting to {keyword} file {source:?} that is excluded by .dockerignore");
        checks.report(&COPY_IGNORED_FILE, lines, detail, comments);
    }
}
